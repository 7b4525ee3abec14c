"""What is left of an instance whose successor serves, for whoever waits for its process: a terminal, a container, a supervisor.

It keeps the process id, passes signals on to the instance that serves now, buries orphans, and ends when nobody serves any
more, with the exit code of the one that did. Run anew as a program of its own (`exec`), for it needs little memory.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Final, NoReturn

from pingap import rundir
from pingap.instance_dir import start_time
from pingap.signals import SIGNALS

HEARD: Final = (*SIGNALS, signal.SIGCHLD)
"""All but the last are passed on."""

LOOK: Final = 1.0
"""Seconds between two looks at who serves."""

PR_SET_CHILD_SUBREAPER: Final = 36

_CODE: Final = "import sys; sys.path[:] = {path!r}; from pingap.succession.stand_in import main; main({run_dir!r})"


def adopt() -> None:
    """From now on orphans below this process are its children: the next instance outlives the one that has started it."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def become(run_dir: str) -> NoReturn:
    """Takes the place of this process. Raises OSError."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    os.execv(sys.executable, [sys.executable, "-P", "-S", "-c", _CODE.format(path=sys.path, run_dir=run_dir)])


def main(run_dir: str) -> NoReturn:
    """Stands in until nobody serves in the run dir."""
    adopt()
    with suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle("pingap: stand-in")
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    statuses: dict[int, int] = {}
    serves = 0
    while True:
        _bury(statuses)
        now = rundir.supervisor_of(run_dir)
        rest = rundir.living(run_dir)  # those that finish their requests, too: with process 1 of a container they would end
        if now is None and not rest and not start_time(serves):
            _bury(statuses)  # it may have ended since
            code = statuses.get(serves, 0)
            sys.exit(code if code >= 0 else 128 - code)
        serves = now or serves
        statuses = {pid: status for pid, status in statuses.items() if pid == serves}
        heard = signal.sigtimedwait(HEARD, LOOK)
        for pid in (now,) if now else rest:
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                with suppress(ProcessLookupError):
                    os.kill(pid, heard.si_signo)


def _bury(statuses: dict[int, int]) -> None:
    """Takes note of the children that have ended: process id → exit code, negative for a signal."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            statuses[ended[0]] = os.waitstatus_to_exitcode(ended[1])
