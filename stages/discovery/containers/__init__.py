"""Discovery by Docker: the containers with a label are the backends.

    listing.py  decides: from the engine's list of containers to backends
    engine.py   the engine's API, by the docker SDK: calls that block, each with an end
    watch.py    one Docker host under watch: its list anew at each event, and from time to time; for all upstreams that ask for it
    source.py   the source of one upstream: its entries, what containers they stand for
    sources.py  makes those, and has them share watches

The SDK is imported in the thread of the first call: a process without such an upstream never loads it (84 ms, 20 MB).
"""
