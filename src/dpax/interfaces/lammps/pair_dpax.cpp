// pair_style dpax: a DPA-1 potential of dpax in LAMMPS. This file is part of dpax (MIT licence).
//
// LAMMPS finds the neighbours, owns the atoms and sends forces home; JAX, in the Python interpreter of this
// process, computes what a model is: atomic energies and their derivatives dE/d(r_j - r_i). Forces, virial and
// the per-atom quantities are sums of those and are taken here.

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mpi.h>
#include <sched.h>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

using namespace LAMMPS_NS;

namespace {

// What dpax.interfaces.lammps.connection fills in. Functions return -1 where they fail, and leave the reason.
struct Connection {
  int (*open)(int narg, char **arg, int devices, int place);
  int (*elements)(int style, int narg, char **arg, int ntypes, int *map, double *cutoff, int *models,
                  int *every);
  int (*evaluate)(int style, int model, int centres, int pairs, int first, const int *types,
                  const int *counts, const int *partner_types, const double *vectors, double *energies,
                  double *gradients);
  int (*deviation)(int style, bigint step, int atoms, int models, const tagint *tags, const double *forces,
                   const double *virials, const double *energies);
  void (*close)(int style);
  char reason[4096];
};

Connection dpax;
bool connected = false;
bool plain_lmp = false;    // LAMMPS is the program, not a library in a Python process

std::string setting(const char *name)
{
  const char *value = getenv(name);
  return value ? value : "";
}

template <typename Function> Function symbol(const char *name)
{
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

// Start Python where LAMMPS is the program; only plain exported symbols, so that any Python will do.
std::string start_python()
{
  const std::string library = setting("DPAX_LIBPYTHON");
  if (library.empty())
    return "this Python has no shared library (libpython), which lmp needs; run LAMMPS from Python instead, "
           "with its module lammps";
  if (!dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL)) return dlerror();
  auto set_program_name = symbol<void (*)(const wchar_t *)>("Py_SetProgramName");
  if (!set_program_name) return library + " is of a Python that is not supported";
  const std::string python = setting("DPAX_PYTHON");
  static std::wstring name(python.size(), L'\0');    // Python keeps the pointer
  name.resize(mbstowcs(&name[0], python.c_str(), python.size()));
  set_program_name(name.c_str());
  symbol<void (*)(int)>("Py_InitializeEx")(0);
  plain_lmp = true;
  return "";
}

// Have Python fill in `dpax`; the reason where it cannot.
std::string connect()
{
  auto is_running = symbol<int (*)()>("Py_IsInitialized");
  if (!is_running || !is_running()) {
    const std::string reason = start_python();
    if (!reason.empty()) return reason;
  }
  const std::string code = "from dpax.interfaces.lammps.connection import connect\nconnect(" +
      std::to_string(reinterpret_cast<unsigned long long>(&dpax)) + ")\n";
  auto run = symbol<int (*)(const char *, void *)>("PyRun_SimpleStringFlags");
  int failed;
  if (plain_lmp) {
    failed = run(code.c_str(), nullptr);
    symbol<void *(*)()>("PyEval_SaveThread")();    // callbacks take the lock by themselves
  } else {
    const int state = symbol<int (*)()>("PyGILState_Ensure")();
    failed = run(code.c_str(), nullptr);
    symbol<void (*)(int)>("PyGILState_Release")(state);
  }
  return failed ? "dpax could not be imported; the traceback is above" : "";
}

// Ranks that die. The wheel's lmp is the child of a script, and that is what mpirun knows: it would wait for a rank
// whose script was killed, as the rank waits for the others in MPI; and it says nothing of a script that has ended
// because its rank was killed. In a Python process, which mpirun has started itself, nothing need be done.

const int farewell = SIGRTMAX - 1;    // a signal that nobody else uses
char last_words[200];
pid_t witness = 0;

void say_last_words(int)
{
  if (witness > 0) kill(witness, SIGKILL);    // or it would say that this rank was killed
  _exit(write(STDERR_FILENO, last_words, strlen(last_words)) < 0 ? 2 : 1);
}

// End this process when the one does that has started it.
void die_with(pid_t parent, int rank, const char *reason)
{
  snprintf(last_words, sizeof last_words, "ERROR on rank %d: %s\n", rank, reason);
  signal(farewell, say_last_words);
  prctl(PR_SET_PDEATHSIG, farewell);
  if (getppid() != parent) raise(farewell);    // it was too late
}

void leave_in_order()
{
  prctl(PR_SET_PDEATHSIG, 0);
  kill(witness, SIGKILL);
}

void prepare_for_death(MPI_Comm world)
{
  auto is_running = symbol<int (*)()>("Py_IsInitialized");
  int ranks, rank;
  MPI_Comm_size(world, &ranks);
  MPI_Comm_rank(world, &rank);
  if (witness || ranks == 1 || (is_running && is_running())) return;
  const pid_t script = getppid(), self = getpid();
  witness = fork();
  if (witness == 0) {
    for (int fd = 0; fd < 1024; fd++)    // those that mpirun waits for are among them
      if (fd != STDERR_FILENO) close(fd);
    die_with(self, rank, "this rank was killed; did the machine run out of memory?");
    while (true) pause();
  }
  if (witness > 0) atexit(leave_in_order);
  die_with(script, rank, "mpirun has ended this rank; was another one killed?");
}

// The cores that this rank may keep busy, and its place among the ranks of its node.
void share_of_node(MPI_Comm world, int &cores, int &place)
{
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int ranks;
  MPI_Comm_size(node, &ranks);
  MPI_Comm_rank(node, &place);
  cpu_set_t own, all;
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof(own), &own);
  MPI_Allreduce(&own, &all, sizeof(own), MPI_UNSIGNED_CHAR, MPI_BOR, node);
  cores = std::max(1, std::min(CPU_COUNT(&own), CPU_COUNT(&all) / ranks));
  MPI_Comm_free(&node);
}

}    // namespace

namespace LAMMPS_NS {

class PairDPAX : public Pair {
 public:
  PairDPAX(LAMMPS *);
  ~PairDPAX() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

 private:
  int style = -1;              // as dpax knows it
  int models = 0, every = 0;   // deviation of several models every so many steps
  double cutoff = 0.0;
  int first = 0;               // type of the atom with the lowest id: it stands in empty slots

  std::vector<int> centre, types, counts, partner, partner_types;
  std::vector<double> vectors, energies, gradients;
  std::vector<double> forces;    // [owned and ghost atoms][models][3]

  [[noreturn]] void fail(const std::string &);
  int checked(int);
  void close();
  void find_first();
  void collect();
  void evaluate(int);
  void add_forces(double *, int, double *);
  void add_virial(const double *);
  void write_deviation();
};

PairDPAX::PairDPAX(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_AVAIL;
}

PairDPAX::~PairDPAX()
{
  close();
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

// At the end of a Python process LAMMPS may outlive the interpreter.
void PairDPAX::close()
{
  if (style >= 0 && symbol<int (*)()>("Py_IsInitialized")()) dpax.close(style);
  style = -1;
}

// End the job. An exception on one rank of a LAMMPS in Python processes would leave the others waiting.
void PairDPAX::fail(const std::string &reason)
{
  const std::string message = "pair_style dpax: " + reason;
  if (plain_lmp || comm->nprocs > 1) {
    fprintf(stderr, "ERROR on rank %d: %s\n", comm->me, message.c_str());
    fflush(stderr);
  }
  if (comm->nprocs > 1) {
    if (logfile) {
      fprintf(logfile, "ERROR: %s\n", message.c_str());
      fflush(logfile);
    }
    sleep(1);    // a launcher throws away what is still on its way when a job is aborted
    MPI_Abort(world, 1);
  }
  error->one(FLERR, message);
}

int PairDPAX::checked(int result)
{
  if (result < 0) fail(dpax.reason);
  return result;
}

// pair_style dpax [MODEL ...] [KEYWORD VALUE ...]
void PairDPAX::settings(int narg, char **arg)
{
  if (strcmp(update->unit_style, "metal") != 0)
    fail(std::string("needs units metal, not ") + update->unit_style);
  if (!connected) {
    const std::string reason = connect();
    if (!reason.empty()) fail(reason);
    connected = true;
  }
  int cores, place;
  share_of_node(world, cores, place);
  close();
  style = checked(dpax.open(narg, arg, plain_lmp ? cores : 0, place));
  comm_reverse = 3 * narg;    // there are no more models than arguments
}

// pair_coeff * * [MODEL] [ELEMENT ...]
void PairDPAX::coeff(int narg, char **arg)
{
  const int n = atom->ntypes;
  if (narg < 2 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    fail("pair_coeff should be: pair_coeff * * [MODEL] ELEMENT ..., with an element or NULL for each atom type");
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    map = new int[n + 1];
  }
  checked(dpax.elements(style, narg - 2, arg + 2, n, map + 1, &cutoff, &models, &every));
  for (int i = 1; i <= n; i++)
    for (int j = 1; j <= n; j++) setflag[i][j] = map[i] >= 0 && map[j] >= 0;
}

void PairDPAX::init_style()
{
  if (!force->newton_pair) fail("needs newton on for pairs (the default)");
  if (!atom->tag_enable) fail("needs atoms with ids");
  if (atom->molecular != Atom::ATOMIC)
    for (int k = 1; k <= 3; k++)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        fail("bonded atoms are left out of the neighbour lists, which the model has to see; "
             "use atom_style atomic, or set special_bonds lj/coul 1.0 1.0 1.0");
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairDPAX::init_one(int i, int j)
{
  if (!setflag[i][j]) error->all(FLERR, "All pair coeffs are not set");
  return cutoff;
}

void PairDPAX::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (neighbor->ago == 0) find_first();
  collect();
  evaluate(0);

  double virial_of_rank[9] = {};
  add_forces(atom->f[0], 3, virial_of_rank);
  if (eflag_global)
    for (double energy : energies) eng_vdwl += energy;
  if (eflag_atom)
    for (size_t c = 0; c < centre.size(); c++) eatom[centre[c]] += energies[c];
  if (vflag_either) add_virial(virial_of_rank);

  if (models > 1 && every > 0 && update->ntimestep % every == 0) write_deviation();
}

void PairDPAX::find_first()
{
  struct {
    int id, type;
  } own = {INT_MAX, 0}, lowest;
  for (int i = 0; i < atom->nlocal; i++)
    if (map[atom->type[i]] >= 0 && atom->tag[i] < own.id) own = {int(atom->tag[i]), map[atom->type[i]]};
  MPI_Allreduce(&own, &lowest, 1, MPI_2INT, MPI_MINLOC, world);
  first = lowest.type;
}

// The pairs within the cutoff, centre by centre; LAMMPS lists those within cutoff and skin.
void PairDPAX::collect()
{
  double **x = atom->x;
  for (auto *part : {&centre, &types, &counts, &partner, &partner_types}) part->clear();
  vectors.clear();
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii];
    const int type = map[atom->type[i]];
    if (type < 0) continue;
    if (!std::isfinite(x[i][0] + x[i][1] + x[i][2]))
      fail("the position of atom " + std::to_string(atom->tag[i]) + " is NaN or infinite");
    const size_t before = partner.size();
    for (int jj = 0; jj < list->numneigh[i]; jj++) {
      const int j = list->firstneigh[i][jj] & NEIGHMASK;
      const int other = map[atom->type[j]];
      const double d[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
      const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
      if (other < 0 || !(square <= cutoff * cutoff)) continue;
      if (square == 0.0)
        fail("atoms " + std::to_string(atom->tag[i]) + " and " + std::to_string(atom->tag[j]) +
             " are at the same position");
      partner.push_back(j);
      partner_types.push_back(other);
      vectors.insert(vectors.end(), d, d + 3);
    }
    centre.push_back(i);
    types.push_back(type);
    counts.push_back(partner.size() - before);
  }
  energies.assign(centre.size(), 0.0);
  gradients.assign(vectors.size(), 0.0);
}

// Energies of the centres, and dE/d(r_j - r_i) of the pairs.
void PairDPAX::evaluate(int model)
{
  if (centre.empty()) return;
  checked(dpax.evaluate(style, model, centre.size(), partner.size(), first, types.data(), counts.data(),
                        partner_types.data(), vectors.data(), energies.data(), gradients.data()));
}

// F_i += g, F_j -= g into rows of `stride` numbers, and W -= (r_j - r_i) g, for all pairs.
void PairDPAX::add_forces(double *f, int stride, double *virial_of_rank)
{
  size_t p = 0;
  for (size_t c = 0; c < centre.size(); c++)
    for (int k = 0; k < counts[c]; k++, p++)
      for (int b = 0; b < 3; b++) {
        const double g = gradients[3 * p + b];
        f[size_t(stride) * centre[c] + b] += g;
        f[size_t(stride) * partner[p] + b] -= g;
        for (int a = 0; a < 3; a++) virial_of_rank[3 * a + b] -= vectors[3 * p + a] * g;
      }
}

// LAMMPS' order is xx yy zz xy xz yz, and yx zx zy after it. A pair's share belongs to the neighbour.
void PairDPAX::add_virial(const double *w)
{
  static const int row[9] = {0, 1, 2, 0, 0, 1, 1, 2, 2}, column[9] = {0, 1, 2, 1, 2, 2, 0, 0, 1};
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += 0.5 * (w[3 * row[k] + column[k]] + w[3 * column[k] + row[k]]);
  for (size_t p = 0; p < partner.size() && (vflag_atom || cvflag_atom); p++) {
    const double *d = &vectors[3 * p], *g = &gradients[3 * p];
    if (vflag_atom)
      for (int k = 0; k < 6; k++)
        vatom[partner[p]][k] -= 0.5 * (d[row[k]] * g[column[k]] + d[column[k]] * g[row[k]]);
    if (cvflag_atom)
      for (int k = 0; k < 9; k++) cvatom[partner[p]][k] -= d[row[k]] * g[column[k]];
  }
}

// All models' forces, virials and energies, brought together on rank 0, where dpax compares them.
void PairDPAX::write_deviation()
{
  const int width = 3 * models;
  std::vector<double> sums(10 * models, 0.0), totals(10 * models);    // virials, then energies
  forces.assign(size_t(width) * (atom->nlocal + atom->nghost), 0.0);
  for (int m = 0; m < models; m++) {
    if (m > 0) evaluate(m);
    add_forces(&forces[3 * m], width, &sums[9 * m]);
    for (double energy : energies) sums[9 * models + m] += energy;
  }
  comm->reverse_comm(this, width);
  MPI_Reduce(sums.data(), totals.data(), 10 * models, MPI_DOUBLE, MPI_SUM, 0, world);

  std::vector<tagint> tags, all_tags;
  std::vector<double> own, all;
  for (int i : centre) {
    tags.push_back(atom->tag[i]);
    own.insert(own.end(), &forces[size_t(width) * i], &forces[size_t(width) * i] + width);
  }
  const int n = tags.size();
  std::vector<int> sizes(comm->nprocs), starts(comm->nprocs, 0), widths(comm->nprocs), offsets(comm->nprocs);
  MPI_Gather(&n, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, world);
  for (int r = 0; r < comm->nprocs; r++) {
    starts[r] = r ? starts[r - 1] + sizes[r - 1] : 0;
    widths[r] = width * sizes[r];
    offsets[r] = width * starts[r];
  }
  const int atoms = starts.back() + sizes.back();
  if (comm->me == 0) {
    all_tags.resize(atoms);
    all.resize(size_t(width) * atoms);
  }
  MPI_Gatherv(tags.data(), n, MPI_LMP_TAGINT, all_tags.data(), sizes.data(), starts.data(), MPI_LMP_TAGINT, 0,
              world);
  MPI_Gatherv(own.data(), width * n, MPI_DOUBLE, all.data(), widths.data(), offsets.data(), MPI_DOUBLE, 0,
              world);
  if (comm->me == 0)
    checked(dpax.deviation(style, update->ntimestep, atoms, models, all_tags.data(), all.data(), totals.data(),
                           totals.data() + 9 * models));
}

int PairDPAX::pack_reverse_comm(int n, int begin, double *buffer)
{
  const size_t width = 3 * models;
  std::copy_n(&forces[width * begin], width * n, buffer);
  return width * n;
}

void PairDPAX::unpack_reverse_comm(int n, int *list, double *buffer)
{
  const size_t width = 3 * models;
  for (int k = 0; k < n; k++)
    for (size_t w = 0; w < width; w++) forces[width * list[k] + w] += *buffer++;
}

}    // namespace LAMMPS_NS

// The record by which LAMMPS registers a style of a plugin, as its manual defines it.
struct Plugin {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*make)(void *);
    void *(*make_with_arguments)(void *, int, char **);
  } creator;
  void *handle;
};

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *reg)
{
  prepare_for_death(static_cast<LAMMPS *>(lmp)->world);
  Plugin plugin = {static_cast<LAMMPS *>(lmp)->version, "pair", "dpax", "DPA-1 potentials by JAX", "dpax", {},
                   handle};
  plugin.creator.make = [](void *lmp) -> void * { return new PairDPAX(static_cast<LAMMPS *>(lmp)); };
  reinterpret_cast<void (*)(Plugin *, void *)>(reg)(&plugin, lmp);
}
