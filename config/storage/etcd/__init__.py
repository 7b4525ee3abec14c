"""Configuration in etcd (v3), as items under a prefix: what the reference keeps there is read as it is, and the other way.

    address.py       `etcd://…` taken apart, and said again without its password
    keys.py          which key a document has, and where its history is
    gateway.py       one call to whichever endpoint answers: TLS, login, time limits
    denials.py       what is to be done when etcd says no
    transactions.py  a change of several documents as one transaction that fails when somebody was faster
    watcher.py       a thread that knows what is there now
    storage.py       the `Storage`

It speaks etcd's JSON gateway (docs/decisions/0021), which every etcd from 3.4 on has at the address for clients.
"""
