"""HTTP/1.1 on the wire (RFC 9112), for the server side in accept and the client side in upstream.

    rules.py     limits, ProtocolError, framing and hop-by-hop rules: what no parser may be trusted with
    lines.py     the quick way through ordinary heads; anything else goes to a whole parser
    engine.py    the whole head parsers: httptools (llhttp) by default, h11 as the strict, slower second
    lenient.py   what backends are forgiven in a head; requests are forgiven nothing
    upgrade.py   which protocol that a client offers a backend gets to see
    methods.py   which methods are forwarded, and which may be sent twice
    reasons.py   reason phrases: the registry's, and which of a backend's are passed on
    refused.py   what a refused head has said of itself, for the log
    body.py      decoders of the three body framings
    render.py    heads and chunks written anew from parsed fields
    spelling.py  names as they were written, for those who keep them so
    direct.py    small writes straight to the socket: the only file here that does I/O

An engine parses one whole head block (up to and with the empty line); where that
block ends, and what follows it, is decided here, so both engines obey the same
rules. tests/http1 holds the three ways through a head against each other.
"""
