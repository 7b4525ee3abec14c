"""The command line's side of the control socket: finds the running instance and asks it, with a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from bus.kinds import ASK, REPLY
from bus.link import Link
from pingap import rundir
from pingap.polling import ready

DEADLINE: Final = 5.0
"""Seconds that an answer may take."""


class NotRunning(Exception):
    """No pingap runs there; the text says so."""


class NotAllowed(NotRunning):
    """Whether one runs there is not for this user to see."""


class Refused(Exception):
    """The running pingap said no, or nothing; the text is its reason."""


def find(run_dir: str) -> int:
    """Pid of the supervisor that holds the run dir. Raises NotRunning and NotAllowed."""
    try:
        pid = rundir.supervisor_of(run_dir)
    except PermissionError:
        owner = rundir.owner_of(run_dir)
        whose = f"belongs to {owner}: run this command as {owner}" if owner else "is not open to this user"
        raise NotAllowed(f"not allowed to look into the run dir {run_dir}: it {whose}") from None
    if pid is None:
        others = rundir.others()
        more = f" (of other users there are {', '.join(others)})" if others else ""
        raise NotRunning(f"no pingap is running in {run_dir}: start one with `pingap up`, or name its --run-dir{more}")
    return pid


def ask(run_dir: str, word: str, *args: Any, deadline: float = DEADLINE) -> Any:
    """One question, one answer. Raises NotRunning and Refused."""
    find(run_dir)
    try:
        return asyncio.run(_ask(os.path.abspath(run_dir), word, args, deadline))
    except TimeoutError:
        raise Refused(f"pingap in {run_dir} did not answer within {deadline:g} s") from None


async def _ask(run_dir: str, word: str, args: tuple[Any, ...], deadline: float) -> Any:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[bool, Any]] = loop.create_future()
    number = int.from_bytes(os.urandom(4), "big")

    def take(envelopes: list[Any]) -> None:
        for envelope in envelopes:
            if envelope[0] == REPLY and envelope[1] == number and not answered.done():
                answered.set_result((envelope[2], envelope[3]))

    link = Link(loop)
    try:
        link.dealer(f"ipc://{run_dir}/control", take).send((ASK, number, word, args))
        ok, value = await asyncio.wait_for(answered, deadline)
    finally:
        link.close()
    if not ok:
        raise Refused(str(value))
    return value


def await_end(pid: int, seconds: float) -> bool:
    """Waits until a process is gone; False when it still is there after so many seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    until = time.monotonic() + seconds
    try:
        return bool(ready((handle,), until - time.monotonic()))
    finally:
        os.close(handle)


def handle_of(pid: int) -> int:
    """A descriptor of a process, for `has_ended`; -1 when it is gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def has_ended(handle: int) -> bool:
    """Whether the process of a handle is gone."""
    return handle < 0 or bool(ready([handle], 0))
