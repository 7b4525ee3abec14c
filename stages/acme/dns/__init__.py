"""Proof by DNS (RFC 8555 section 8.4): a TXT record is put into the zone, waited for, and taken out again.

    presenter.py    DnsPresenter: the one thing that others need: finds the zone, has the record set, waits, cleans up
    provider.py     what is asked of those who serve zones: a Protocol, and how a name is cut at its zone
    ali.py, cf.py, tencent.py, huawei.py    each the interface of one, with its signature; all made by provided.py
    calls.py        their HTTP: deadlines, repeats, errors without keys
    lookup.py       what the DNS itself says: CNAMEs on the way, the servers of a zone, whether they have a value
    waiting.py      until all servers have it, or a bound, or somebody calls it off

All of it blocks, in the thread that issues a certificate. Zones are asked of the provider, never guessed by public suffixes
(docs/decisions/0046-proof-by-dns.md). Whoever sets records by hand is told what to set, and waited for.
"""
