"""Whatever bytes come, the answer is one of those that are written down, and the same however they are cut.

mutations.py   bytes changed a little: what hypothesis draws from
targets.py     the targets, and what must hold of each
__main__.py    `python -m tests.fuzz NAME --minutes 30`
test_fuzz.py   a few examples of each, with the other tests
"""
