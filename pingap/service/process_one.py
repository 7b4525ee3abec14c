"""What is different for process 1 of a container, or of another pid namespace.

It inherits every process whose parent has ended, and has to bury it, or a zombie stays. Stages are no children of the
supervisor until their spawner dies; what plugins, health checks and `docker exec` leave behind nobody of pingap knows.
And it has no default actions: a signal that it does not handle is not there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

MOST = 1000
"""Children that are buried at one time; the rest is for the next."""


def is_this() -> bool:
    """Whether this process is one."""
    return os.getpid() == 1


def stop_at_once() -> None:
    """Until there is something to drain, TERM and QUIT end this process, as they do with any other. INT does that in Python."""
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: os._exit(0))


def bury(own: Collection[int]) -> int:
    """Takes note of the end of children, without waiting for one; how many there were.

    own: pids of which somebody else takes note. One of them that has ended hides those behind it until the next time.
    """
    for count in range(MOST):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in own:
                return count
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return count
    return MOST
