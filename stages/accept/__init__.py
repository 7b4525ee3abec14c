"""Accept: owns the client connections and the life of every stream.

    core.py         pure: which replicas a stream visits, what becomes of it when one of them dies
    stream.py       one request and its answer, its states
    doors.py        the listeners, and the settings of the server that each belongs to
    outlet.py       what connections hold to write, whatever they speak
    client.py       what the actor asks of a connection, whatever it speaks
    entry.py        what comes before that: the PROXY protocol (proxy_protocol.py, pure), TLS
    http1.py        HTTP/1.x server side on one connection
    intake.py       the body of an HTTP/1.x request, or a tunnel's upward half
    http2.py        HTTP/2 server side on one connection
    http2_stream.py one stream of that
    h2c.py          how plain clients ask for HTTP/2
    event.py        the event of a stream that has ended; access_lines.py: its line in the access log
    departures.py   clients that close early, and requests that go on
    hidden.py       credentials that neither shows
    actor.py        the table of streams, messages from and to the other stages; compiled.py: what it keeps of a configuration
    recovery.py     streams whose actors have died, or that find none; own_answers.py: error pages

A connection parses one head at a time (pipelined ones wait in its buffer, so
answers keep their order), opens a stream through the actor and writes what comes
back. Credit is returned as bytes leave for the socket.
"""
