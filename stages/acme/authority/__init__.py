"""An authority that issues certificates, spoken to by RFC 8555 with the `acme` library. All calls block: they are for threads.

    authority.py    what others use: issue, renewal_window
    failures.py     how it fails, and what a user is told

What decides:
    directory.py    where an authority's resources are, and what it offers
    problems.py     problem documents in words             retrying.py   when it may be asked again
    windows.py      when it wants a certificate renewed (RFC 9773)
    checking.py     whether what came back is what was asked for
    keys.py         private keys and signing requests    forms.py  how bytes and moments are written

What acts:
    link.py         requests to one authority: signed, bounded, errors in words
    accounts.py     accounts, kept and found again
    orders.py       orders, kept from before they are made until they are fetched
    authorizing.py  the proof that each name is ours
    ordering.py     one order from wherever it is to its certificate
    patience.py     how long is waited

`acme` and `requests` are loaded by link.py and accounts.py, which are imported when something is to be issued.
"""
