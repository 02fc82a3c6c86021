// Faults at a chosen call: a library to preload (LD_PRELOAD) into a process that writes files.
//
// It counts the calls that change files on a "disk", which is a folder, and at the n-th one whose path matches a
// pattern the process dies (before the call, or after half of a write), or the disk is full or read-only from
// then on. Where it is not told of a fault it only notes the calls. Calls that do not go through the C library's
// exported functions are not seen (fwrite, for one): for those there are real small disks.
//
//   FAULT_DISK     the folder, an absolute path
//   FAULT_TARGET   patterns of paths, as of fnmatch, separated by colons
//   FAULT_AT       the number of the call, from 1
//   FAULT_ACTION   kill, tear, full or readonly
//   FAULT_NOTES    a file that gets a line for each call on the disk: its kind and its path

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum verdict { GO, TEAR, FULL, READ_ONLY };

static atomic_int seen, broken;

static const char *setting(const char *name)
{
  const char *value = getenv(name);
  return value ? value : "";
}

static int on_disk(const char *path)
{
  const char *disk = setting("FAULT_DISK");
  const size_t n = strlen(disk);
  return n && !strncmp(path, disk, n) && (path[n] == '/' || !path[n]);
}

static int is_target(const char *path)
{
  char patterns[4096];
  snprintf(patterns, sizeof patterns, "%s", setting("FAULT_TARGET"));
  char *rest = patterns, *pattern;
  while ((pattern = strsep(&rest, ":")))
    if (*pattern && !fnmatch(pattern, path, 0)) return 1;
  return 0;
}

static void note(const char *call, const char *path)
{
  const char *notes = setting("FAULT_NOTES");
  if (!*notes) return;
  char line[PATH_MAX + 32];
  const int n = snprintf(line, sizeof line, "%s %s\n", call, path);
  const int fd = syscall(SYS_openat, AT_FDCWD, notes, O_WRONLY | O_CREAT | O_APPEND, 0666);
  syscall(SYS_write, fd, line, n);
  syscall(SYS_close, fd);
}

// What is to become of a call. `takes_room`: a full disk refuses it. Only a write can be torn.
static enum verdict judged(const char *call, const char *path, int takes_room, int is_write)
{
  if (!on_disk(path)) return GO;
  note(call, path);
  const char *action = setting("FAULT_ACTION");
  if (!*action) return GO;
  enum verdict verdict = GO;
  if (is_target(path) && atomic_fetch_add(&seen, 1) + 1 == atoi(setting("FAULT_AT"))) {
    if (!strcmp(action, "kill") || (!strcmp(action, "tear") && !is_write)) kill(getpid(), SIGKILL);
    if (!strcmp(action, "tear")) return TEAR;
    atomic_store(&broken, 1);
    // The last bytes that there is room for are still written.
    if (!strcmp(action, "full") && is_write) return TEAR;
  }
  if (atomic_load(&broken)) {
    if (!strcmp(action, "readonly")) verdict = READ_ONLY;
    if (!strcmp(action, "full") && takes_room) verdict = FULL;
  }
  return verdict;
}

static void path_of_fd(int fd, char *path)
{
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, PATH_MAX - 1);
  path[n > 0 ? n : 0] = 0;
}

static void absolute(int folder, const char *name, char *path)
{
  char start[PATH_MAX] = "";
  if (name[0] != '/') {
    if (folder == AT_FDCWD) {
      if (!getcwd(start, sizeof start)) start[0] = 0;
    } else {
      path_of_fd(folder, start);
    }
    strncat(start, "/", sizeof start - strlen(start) - 1);
  }
  snprintf(path, PATH_MAX, "%s%s", start, name);
}

static int refused(enum verdict verdict)
{
  if (verdict == FULL) errno = ENOSPC;
  if (verdict == READ_ONLY) errno = EROFS;
  return verdict == FULL || verdict == READ_ONLY;
}

// Opening

static int opened(int folder, const char *name, int flags, mode_t mode)
{
  if (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) {
    char path[PATH_MAX];
    absolute(folder, name, path);
    const int is_new = (flags & O_CREAT) && faccessat(folder, name, F_OK, 0);
    if (refused(judged("open", path, is_new, 0))) return -1;
  }
  return syscall(SYS_openat, folder, name, flags, mode);
}

#define MODE                                          \
  mode_t mode = 0;                                    \
  if (flags & (O_CREAT | O_TMPFILE)) {                \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode = va_arg(rest, mode_t);                      \
    va_end(rest);                                     \
  }

int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode)
{
  return opened(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

// Writing

static enum verdict on_write(const char *call, int fd)
{
  char path[PATH_MAX];
  path_of_fd(fd, path);
  return judged(call, path, 1, 1);
}

static void end_torn(void)
{
  if (!strcmp(setting("FAULT_ACTION"), "tear")) kill(getpid(), SIGKILL);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
  const enum verdict verdict = on_write("write", fd);
  if (refused(verdict)) return -1;
  const ssize_t done = syscall(SYS_write, fd, bytes, verdict == TEAR ? n / 2 : n);
  if (verdict == TEAR) end_torn();
  return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset)
{
  const enum verdict verdict = on_write("pwrite", fd);
  if (refused(verdict)) return -1;
  const ssize_t done = syscall(SYS_pwrite64, fd, bytes, verdict == TEAR ? n / 2 : n, offset);
  if (verdict == TEAR) end_torn();
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }

ssize_t writev(int fd, const struct iovec *parts, int n)
{
  const enum verdict verdict = on_write("writev", fd);
  if (refused(verdict)) return -1;
  if (verdict != TEAR) return syscall(SYS_writev, fd, parts, n);
  const ssize_t done = syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2);
  end_torn();
  return done;
}

// Bringing to the disk and cutting

static int on_fd(const char *call, int fd, int takes_room)
{
  char path[PATH_MAX];
  path_of_fd(fd, path);
  return refused(judged(call, path, takes_room, 0));
}

int fsync(int fd) { return on_fd("fsync", fd, 1) ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return on_fd("fsync", fd, 1) ? -1 : (int)syscall(SYS_fdatasync, fd); }
int ftruncate64(int fd, off64_t n) { return on_fd("truncate", fd, 0) ? -1 : (int)syscall(SYS_ftruncate, fd, n); }
int ftruncate(int fd, off_t n) { return ftruncate64(fd, n); }

// Names

static int on_name(const char *call, int folder, const char *name, int takes_room)
{
  char path[PATH_MAX];
  absolute(folder, name, path);
  return refused(judged(call, path, takes_room, 0));
}

int truncate64(const char *name, off64_t n)
{
  return on_name("truncate", AT_FDCWD, name, 0) ? -1 : (int)syscall(SYS_truncate, name, n);
}
int truncate(const char *name, off_t n) { return truncate64(name, n); }

int mkdirat(int folder, const char *name, mode_t mode)
{
  return on_name("mkdir", folder, name, 1) ? -1 : (int)syscall(SYS_mkdirat, folder, name, mode);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int folder, const char *name, int flags)
{
  return on_name("unlink", folder, name, 0) ? -1 : (int)syscall(SYS_unlinkat, folder, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

// A rename is counted by the name that comes into being.
int renameat2(int folder, const char *name, int other_folder, const char *other, unsigned flags)
{
  if (on_name("rename", other_folder, other, 0)) return -1;
  return syscall(SYS_renameat2, folder, name, other_folder, other, flags);
}
int renameat(int folder, const char *name, int other_folder, const char *other)
{
  return renameat2(folder, name, other_folder, other, 0);
}
int rename(const char *name, const char *other) { return renameat2(AT_FDCWD, name, AT_FDCWD, other, 0); }
