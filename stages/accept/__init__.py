"""Accept: owns the client connections and the life of every stream.

    actor.py        its life; compiled.py: what it keeps of a configuration
    doors.py        the listeners; door.py: the server that each belongs to, certificates/: which it shows
    connections.py  all connections: how many there may be, whose time is up
    entry.py        how one begins: origin.py, the PROXY protocol (proxy_protocol.py, pure), TLS
    outlet.py       what connections hold to write, whatever they speak
    http1.py        HTTP/1.x server side on one connection; states.py: its states, checks.py holds them against the table
    intake.py       the body of an HTTP/1.x request, or a tunnel's upward half
    http2.py        HTTP/2 server side on one connection; http2_stream.py: one stream of that
    h2c.py          how plain clients ask for HTTP/2
    file_answer.py  an answer that is a file; file_sender.py: sendfile, in threads
    refusals.py     error pages, for requests that no stage answers    client_refusals.py    certificates that are not accepted
    patience.py     how long an answer is waited for in silence
    departures.py   clients that close early, and requests that go on
    event.py        the event of a stream that has ended; access_lines.py: its line in the access log
    hidden.py       credentials that neither shows    server_timing.py  the line of that name

Owning streams is a part of its own (stages/streams.py); here are their clients. A
connection parses one head at a time (pipelined ones wait in its buffer, so answers
keep their order), opens a stream and writes what comes back. Credit is returned as
bytes leave for the socket.
"""
