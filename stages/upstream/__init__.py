"""Upstream: asks a backend and sends its answer straight to accept (or to plugins when the itinerary says so).

    core.py         pure: how attempts end, and which may be made again; memory of streams; budget.py: how many may
    channel.py      what exchanges, what carries them, and pools see of each other
    group.py        pure: one upstream and its backends; balance.py: which gets a request; hash_key.py: what is hashed of one
    backend.py      pure: a backend: whether it gets requests, its idle and shared connections; waiting.py: lines for one
    transparent.py  pure: where requests go that say that themselves; objections.py: which addresses that may be
    tally.py        pure: what is counted of a backend, for discovery; reports.py sends it there
    http1.py        an HTTP/1.1 connection to a backend, which is a channel
    http2.py        an HTTP/2 connection; http2_stream.py: one of its streams, which is a channel; places.py: how many it may have
    risky.py        pure: requests over which backends end an HTTP/2 connection; words.py: what the log says of a GOAWAY
    dial.py         opening a connection: time-outs, socket options; secure.py: TLS: contexts, sessions, handshakes
    keeper.py       what connections need of pools.py: all of the process; connecting.py: one that is being opened, and who waits for it
    attempt.py      a backend, and a connection to it or the wait for one: what an exchange holds of its upstream
    exchange.py     one request: its attempts, what is sent of it, the head of its answer, its end; states.py
    upload.py       its body on the way to the backend, when it did not come whole; download.py: that of its answer, credit for it
    coded.py        an answer that gets a content coding here (stages/coding/); turns.py: long ones a piece at a time
    grpc_web.py     pure: gRPC-Web into gRPC and back; websocket.py: keys of handshakes; request_id.py: the client's line
    compiled.py     what a generation of the configuration says
    troubles.py     what logs and metrics hear of failed attempts; tracer.py: what the log tells of each connection
    actor.py        the table of exchanges, messages from and to the other stages

Pools outlive a reload as long as the upstream's own section does not change. Each attempt ends in one
`BackendState.settled`, which counts it; discovery decides on health and circuits, and this stage obeys.
"""
