"""Moves messages between actors; knows nothing of HTTP.

An actor (`actor.py`) is one replica of a stage. A process (`process.py`) hosts one
actor, or four when placement is colocated, and keeps the control connection with
the supervisor: hello, heartbeat, members, drain, stop. An actor sees no more of it
than its context (`seat.py`). What an actor sends goes through its process's `Link`:
to an actor of the same process in memory (`local.py`), to any other as one ZeroMQ
message per destination and loop turn (`link.py`, the only file that opens ZeroMQ
sockets). The actor cannot tell which.

    kinds.py      the bus's own message kinds      envelope.py  the wire form
    members.py    who is there                     liveness.py  who is still alive
    sockets.py    one socket on the loop, and what each pattern says
    pipes.py      what lies between two actors
    replication.py  replicated state (Clone pattern), as replica.py decides
    strays.py     what goes to the log instead of stderr
    output.py     stdout and stderr, which never make a process wait
    descriptors.py  how many connections leave enough descriptors to the bus

PROTOCOL.md comes before the code: each message, its sender, receiver and duty.
"""
