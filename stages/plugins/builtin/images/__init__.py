"""Parts of `image_optim` (../image_optim.py).

variants.py   decides: what a client takes, and what answers of a converted image say
work.py       converts, in another process: the only file that knows Pillow
results.py    conversions that go on, which all who want one wait for, and those that are kept
budget.py     bytes of images that are held
"""
