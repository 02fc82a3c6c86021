"""Damaged files for every reader: the outcome is a valid object or one `InputError`, in 5 s and 1 GB.

    make fuzz                                              # every target, ten minutes each at most
    cd tests && python -m fuzz yaml --inputs 20000 --seconds 600
    cd tests && python -m fuzz yaml --only 417             # one input again, with its traceback

Input number n of a target follows from (target, seed, n) alone. What fails is kept in `.fuzz/` and can be
made again with `--only`. Reading happens in processes of their own, which may hang, run out of memory or
die; see `workers.py`.

**A new target** is a module in `targets/` with a `Target` in it, and a line in `targets/__init__.py`:

1. `make(folder)` writes a few small sound inputs into a folder, the same ones every time. Every entry of
   the folder, a file or a folder, is one input.
2. `read(path)` does with such an input what a user does: it opens it and uses all that is in it.
3. `damage(random, content)` takes the bytes of a file and returns other bytes. Choose `damaged_bytes`
   or `damaged_text` of `mutations.py`, or write one that knows the format: take it apart, change the parts
   with these two, put it together again with the checksums made right.

Why the mutations are our own: every input may kill its process, which a hypothesis test would not survive, and
a shrunk example is of little use where the file has a few kilobytes. Atheris, which looks at the branches that
Python code takes, sees nothing of the C libraries that read HDF5 and LMDB.
"""
