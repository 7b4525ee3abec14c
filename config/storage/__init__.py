"""Where configuration text is kept. A storage reads texts, says when they changed and writes them; it judges nothing.

base.py    what a storage is: documents, their version, and the errors of writing
file.py    a file, or a directory of them      memory.py   no file at all
places.py  which of them a `--conf` value names
"""
