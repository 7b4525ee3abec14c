"""Routing: which location a request belongs to, and what it looks like from there on.

    core.py        pure: a request in; a routed request, a refusal or a question out. The hot path
    match.py       weight, hosts, paths and conditions of locations; the index by host
    rewrite.py     the `rewrite` of a location
    options.py     OPTIONS that ends here; via.py: the Via line of those that go on
    processing.py  max_processing: who is counted where
    actor.py       receives, asks, answers, keeps deadlines

A generation of the configuration is compiled into one `core.Router`, which never
changes but for its memory of hosts: everything that depends on the host alone
(candidates, captures of host regexes) is worked out once per host and kept,
bounded. A request then costs one look-up and the paths of its candidates.

Header rules and variables (`stages/variables.py`), forwarded headers
(`stages/forwarded.py`) and error pages (`stages/error_page.py`) are shared with
other stages. Rules that need the backend's address are left to upstream.

max_processing is counted by one routing replica per location, so that the limit is
the limit whatever the number of replicas. The replica that routed a stream claims
a place there, hears of the stream's end (DONE or CANCEL), and passes that on.
"""
