"""Discovery by DNS: what the names in `addrs` stand for, looked up again and again. On dnspython, which only a process with
such an upstream loads: nothing outside of this package imports it, and the discovery actor imports this package when it needs it.

    server.py   one DNS server: a question and its answer over UDP, over TCP what UDP has no room for
    client.py   the servers of one setting, and what the system says besides: search domains, its hosts file
    lookup.py   what one entry stands for now: A and AAAA, or SRV and the addresses of its targets
    refresh.py  decides when an entry is looked up again: after its TTL, with back-off after failures
    source.py   looks up the entries of one upstream for ever, and tells what was found and what failed
    sources.py  makes those, and has them share clients
    kept_file.py  a file of the system, read again when it has changed

An answer is believed only when it has records: a server that does not answer, an error, NXDOMAIN and an answer without records
all leave the addresses of before in use.
"""
