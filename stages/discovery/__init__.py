"""The discovery stage: which backends an upstream has, and which of them are healthy.

    core.py     decides: verdicts from check results, what to check after a new configuration, when to publish
    probe.py    one tcp or http check of one backend, with deadlines; always closes what it opened
    actor.py    acts: one task an upstream, in rounds; publishes topic `health`

Backends come from the configuration (static). A verdict changes only after `success`
or `failure` results in a row. A backend that was never judged is checked again and
again at once until it is, and nothing is published before the first round is through:
so neither a start nor a restart of this stage ever calls a dead backend healthy.
Who follows the topic keeps its last value while this stage is away.
"""
