"""The discovery stage: which backends an upstream has, and which of them are healthy.

    plan.py     what the configuration asks for: entries, their source, how backends are checked
    words.py    the events that the core is told, and its commands
    core.py     decides: which backends there are, verdicts from check results, what to check, when to publish
    watch.py    acts, for one upstream: its source (DNS, Docker), and rounds.py: its checks, lookups of names
    dns/, containers/   those sources; each loaded when there is need of it
    probes/     one check of one backend by tcp, http, https or grpc, with deadlines; always closes what it opened
    shares.py   whose check may begin when many hang (gate.py waits for it)    urgent.py  which one out of turn
    downs.py    when it is told that an upstream has no healthy backend    source_news.py  that sources fail
    breaker.py  acts: reports of upstream's replicas in, topics `circuits` and `loads` out; circuits.py decides on all backends,
                circuit.py and half_open.py on one; window.py: what it goes by;
                dues.py: when each is due
    drains.py   backends taken out by hand    table.py   what is shown of all    asked.py   what the operator is answered
    actor.py    the watches; publishes topics `health`, `backends` and `drains` (topic.py)

Backends come from the configuration (static): addresses, and names, whose addresses are
looked up at the start and when none of them is healthy any more. A verdict changes only after `success`
or `failure` results in a row. A backend that was never judged counts as healthy; it is
checked again soon until it is judged, as is one whose check fails while it counts as healthy.

Verdicts, addresses, drains and circuits are kept (`health.last` and so on), so that a restart of this stage calls no dead
backend healthy; who follows the topic keeps its last value while the stage is away.
"""
