"""What the acme stage keeps beyond its own life, and shares with other instances: certificates, accounts, orders under way.

    base.py      what a shelf is
    files.py     in a directory                     etcd.py    in etcd, beside the configuration
    naming.py    names as parts of paths and keys   places.py  which of them a `--conf` value means
    kept.py      certificates on a shelf, and what is no longer needed

It keeps bytes under a kind and a name (docs/decisions/0047). All calls block: they are for threads.
"""
