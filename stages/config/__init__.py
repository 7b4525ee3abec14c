"""The config stage: reads and checks the configuration, and gives it to every stage as numbered generations.

    core.py      decides: candidate, ACCEPTED by all → committed, REFUSED or silence → withdrawn, what may be retired
    watch.py     decides when changed files are worth reading: once they have settled; that they changed
                 the kernel tells (config/storage/notice.py), and a look now and then
    out_of_step.py  decides when to say that changes cannot be seen (etcd is away)
    actor.py     acts: reads in a thread, publishes, reports, keeps `config.last`
    last.py      the committed generation on disk, for the next life of this actor
    aside.py     one call in a thread of its own, with a deadline and less than usual priority

A generation is a candidate until every actor that uses one has compiled it. One
candidate at a time: what is edited meanwhile waits and only its last state is
tried. Numbers rise for ever, across crashes too: they start from the clock.

How a configuration is loaded and which itinerary flags a location gets is known
only to `pingap`, which passes both in. The stage starts anew from `config.last`,
so that a file that was broken meanwhile costs nothing but a line in the log.
"""
