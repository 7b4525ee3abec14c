"""What pingap tells of itself: the events, and how they become text.

    records.py        ACCESS, the event of one finished request: THE home of its fields
    notices.py        NOTICE, what an operator may want to hear at once: THE list of its categories
    timings.py        from a record to seconds per stage: the one place that computes times
    escape.py         text from outside made safe for one line of a log
    units.py          sizes and durations for people, in the reference's units
    access_format.py  an access log format compiled to a function from record to line
    app_format.py     the application log's records as text or JSON
    figures.py        names of figures that metrics understands

Everything here is a function of its arguments: no sockets, no files, no state
but caches. Actors (stages/logging, stages/metrics) and consumers (pingap/events.py,
pingap/tail.py) use it. Records arrive as plain tuples, as MessagePack gives them,
and are read by index on the hot path; `records.Access` names the fields.
Imports `bus` only.
"""
