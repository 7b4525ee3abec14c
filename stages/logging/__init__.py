"""The logging stage: writes the access logs and the application log, publishes every event to side-consumers.

    core.py      decides: which events are wanted, which records are kept, when trouble is told again
    compiled.py  what logging needs of a configuration generation: formats and targets, compiled
    sink.py      one file, or stderr: buffered, never blocking, never fatal
    actor.py     inbox → lines and XPUB; WANTED to the members; reopening

A batch of events is forwarded as it came when it is of one kind and somebody
subscribes to that kind; it is never packed again for the common case. Lines wait
at most 20 ms and leave in one write per file.

Nothing here can slow a request: senders drop events when the pipe is full, and
a target that does not take lines (full disk, stopped terminal) costs lines, counted
and told once a minute, and nothing else. What was buffered when the process is
killed is lost: at most 20 ms of lines.
"""
