"""The stages, each an actor in a package of its own, and what they have in common.

    accept/ routing/ plugins/ upstream/     a request's way, in this order
    logging/ config/ discovery/ metrics/    beside it
    in each: actor.py acts; what decides has no I/O

    messages.py     THE list of what stages send one another (bus/PROTOCOL.md sections 6 to 8)
    itinerary.py    which stages a request visits        errors.py, error_page.py, grpc.py    how it can fail, and what is said then
    generations.py  a configuration from candidate to retirement, as every stage keeps it
    making.py, bundles.py, steps.py, slices.py    how one gets there: in parts, and a slice a loop turn
    headers.py, header_view.py, variables.py, forwarded.py, via.py    header blocks: read, changed, filled in
    http1/, http2/  HTTP in bytes, for accept and upstream    tls.py, tls_contexts.py    TLS under it    lane.py    work that takes turns
    coding/        content codings of answers, for plugins and upstream    client_certificates/    what such a one says
    answers.py      what an actor says by itself    waits.py    what waits for another's answer
    claims.py, leases.py, owners.py    what is counted exactly, however many replicas there are
    streams.py      owning streams: stream.py one of them, client.py who asks, fate.py, recovery.py when an actor dies
    states.py       state machines as tables; stream_states.py: that of a stream
    keepsake.py     what survives a restart        bulk.py    long bodies take turns on a loop
    statuses.py, certificate_status.py    what is shown of upstreams and of certificates
    read_gate.py    why a connection is not read    code_files.py, modules.py    of which files a user's plugin consists

A stage never imports another; what two need is here. Only `pingap` knows them all.
"""
