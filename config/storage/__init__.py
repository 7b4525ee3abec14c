"""Where configuration text is kept. A storage reads texts, says when they changed and writes them; it judges nothing.

base.py       what a storage is: documents, their version, earlier texts, and the errors of writing
file.py       a file, or a directory of them      memory.py   no file at all
regular.py    one file, read without waiting for what is none
replacing.py  files that take the place of others as a whole; journal.py  several of them in one step
notice.py     being told of changes by the kernel
history.py    earlier texts of files          etcd/       keys of etcd
places.py     which of them a `--conf` value names
"""
