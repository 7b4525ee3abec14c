"""HTTP/2 on the wire (RFC 9113), for the server side in accept and the client side in upstream.

    engine.py        what an engine is: its settings, its events, its errors
    engines.py       which engines there are, by the name that `http2_engine` gives
    h2_engine.py     python-hyper h2, the default: its state machines under a frame writer and HPACK tables of ours
    h2_connection.py what h2 does to a whole connection and a proxy must do to one stream; rare frames
    h2_receiver.py   the frames of every request, read by ourselves
    ngh2_engine.py   libnghttp2 through ngh2: an option, much cheaper
    hpack_tables.py  header blocks to field lists and back, remembering whole blocks
    fields.py        field lists to our normal form and back, with all rules on fields
    guard.py         counters against floods, over the frame headers of what comes in

Nothing here does I/O or looks at a clock. An engine knows frames, streams and
windows; it does not know what a request is: that is fields.py, the same for every
engine, so what an engine lets pass is checked again there.
"""
