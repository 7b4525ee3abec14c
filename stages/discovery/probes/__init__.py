"""One check of one backend: it passes, or fails for a reason; always within its time-outs, and always with everything closed.

    prober.py       which scheme, connecting, time-outs, connections that are kept
    line.py         one connection, plain or under TLS, read piece by piece and never more than a check may read
    http.py         a GET over HTTP/1.1, for http and https
    grpc.py         one call of grpc.health.v1.Health/Check over HTTP/2
    health_call.py  what is asked in that call, and what the answer means; without I/O
    failed.py       why a check fails

Backends may be hostile: what they send is read in small pieces, counted, and dropped. What only some schemes need is
imported when there is such a check.
"""
