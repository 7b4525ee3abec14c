"""Upstream: asks a backend and sends its answer straight to accept (or to plugins when the itinerary says so).

    balance.py      pure: which backend (round robin, consistent hashing, least connections, power of two)
    core.py         pure: may a failed attempt be made again, and what a failure is called; memory of streams
    pool.py         backends with their idle and shared connections, and waiting exchanges
    dial.py         opening a connection: time-outs, TLS, socket options (lookups and TCP: stages/tcp.py)
    secure.py       TLS to backends: contexts, sessions, handshakes
    connecting.py   a connection that is being opened, and the exchanges that wait for it
    channel.py      what an exchange sees of that which carries it
    http1.py        HTTP/1.1 client side on one backend connection, which is a channel
    http2.py        HTTP/2 client side on one backend connection
    places.py       how many streams that may have; risky.py: pure: requests over which backends end all of them
    http2_stream.py one stream of that, which is a channel
    words.py        what the log says of a GOAWAY; request_id.py: the line that tells a client its request's id
    websocket.py    the key of a WebSocket handshake where only one side has one
    grpc_web.py     pure: gRPC-Web of a client into gRPC and back
    attempts.py     one request until it is answered: which backend, which connection, waiting, trying again
    exchange.py     the same from then on: what is sent, its answer and the credit for that, its end
    upload.py       its body on the way to the backend, when it did not come whole
    actor.py        the table of exchanges, messages from and to the other stages

Pools outlive a reload as long as the upstream's own section does not change. An exchange
holds one thing at a time that it waits for (a connect, a place in line or a connection),
and whoever ends it lets go of that: so nothing is counted twice or forgotten.
"""
