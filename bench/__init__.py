"""What a request costs. `make bench`, or `python -m bench.run [micro] [end] [memory]`.

    run.py        the command: which measurements, and their tables
    micro.py      the parts by themselves: a bus hop, parsing a head, packing a message
    ends.py       split, colocated and nginx side by side, CPU stage by stage; memory and start
    processes.py  CPU time from /proc
    peers.py      beside haproxy, Envoy, Traefik and Caddy too: README's table; run on its own
    peer_files.py how each of them is told to do the same
    routing.py, plugins.py   what these stages cost a request by themselves; run each on its own
    reload_storm.py   whether a thousand reloads under load mix answers or take memory; run on its own
    outages/      what clients see of an outage, beside nginx and Envoy; run on its own
    http2.py      what an HTTP/2 engine costs a request by itself; run on its own

Figures of different runs do not compare: quote a ratio to another row of the same
run.
"""
