"""Routing: which location a request belongs to, and what it looks like from there on.

    core.py          pure: a request in; a routed request, a refusal or a question out. The hot path
    match.py         weight, hosts, paths and conditions of locations; the index by host
    normalize.py     `normalize_path` of a server: one spelling of a path
    rewrite.py       the `rewrite` of a location
    options.py       OPTIONS that ends here
    destinations.py  requests that an actor of ours answers
    actor.py         receives, asks, answers, keeps deadlines

A generation of the configuration is compiled into one `core.Router`, which never
changes but for its memory of hosts: everything that depends on the host alone
(candidates, captures of host regexes) is worked out once per host and kept,
bounded. A request then costs one look-up and the paths of its candidates.

Headers go on as the client sent them, so that plugins see nothing else: header rules,
forwarded headers and the Via line are written by upstream, when a request leaves.

max_processing is counted by one routing replica per location, so that the limit is
the limit whatever the number of replicas (stages/claims.py).
"""
