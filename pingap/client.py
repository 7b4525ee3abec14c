"""The command line's side of the control socket: finds the running instance and asks it, with a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from pingap import rundir
from pingap.bus.kinds import ASK, REPLY
from pingap.bus.link import Link
from pingap.polling import ready

DEADLINE: Final = 5.0
"""Seconds that an answer may take."""

LAST_ANSWER: Final = 0.1
"""Seconds for which an answer is awaited after the end of who should give it: it may be on its way."""

LOOK: Final = 0.1
"""Seconds between two looks at an instance whose process cannot be watched."""


class NotRunning(Exception):
    """No pingap runs there; the text says so."""


class NotAllowed(NotRunning):
    """Whether one runs there is not for this user to see."""


class Ended(NotRunning):
    """One ran there, and ended before it had answered."""


class AskRefused(Exception):
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


class Instance:
    """The supervisor that holds a run dir now, whatever its process id is called here. A context manager."""

    def __init__(self, run_dir: str) -> None:
        """Raises NotRunning and NotAllowed."""
        self._run_dir = run_dir
        self.pid = find(run_dir)
        """0 where it is not known here: the supervisor is in another pid namespace."""
        self._handle = -1
        if self.pid:
            try:
                self._handle = os.pidfd_open(self.pid)
            except ProcessLookupError:
                raise Ended(f"pingap in {run_dir} (pid {self.pid}) has just ended") from None

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def __str__(self) -> str:
        return f"pingap (pid {self.pid or 'unknown'})"

    def await_end(self, seconds: float) -> bool:
        """Waits until it is gone; False when it still is there after so many seconds."""
        if self._handle >= 0:
            return bool(ready((self._handle,), seconds))
        until = time.monotonic() + seconds
        while rundir.supervisor_of(self._run_dir) is not None:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK)
        return True

    def ask(self, word: str, *args: Any, deadline: float = DEADLINE) -> Any:
        """One question, one answer. Raises NotRunning when it ends instead of that, and AskRefused."""
        try:
            return asyncio.run(_ask(os.path.abspath(self._run_dir), self._handle, word, args, deadline))
        except Ended:
            raise Ended(f"pingap in {self._run_dir} (pid {self.pid}) ended before it answered") from None
        except TimeoutError:
            raise AskRefused(f"pingap in {self._run_dir} did not answer within {deadline:g} s") from None


def ask(run_dir: str, word: str, *args: Any, deadline: float = DEADLINE) -> Any:
    """One question, one answer. Raises NotRunning and AskRefused."""
    with Instance(run_dir) as instance:
        return instance.ask(word, *args, deadline=deadline)


async def _ask(run_dir: str, handle: int, word: str, args: tuple[Any, ...], deadline: float) -> Any:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[bool, Any]] = loop.create_future()
    number = int.from_bytes(os.urandom(4), "big")

    def take(envelopes: list[Any]) -> None:
        for envelope in envelopes:
            if envelope[0] == REPLY and envelope[1] == number and not answered.done():
                answered.set_result((envelope[2], envelope[3]))

    def ended() -> None:
        loop.remove_reader(handle)
        loop.call_later(LAST_ANSWER, unanswered)

    def unanswered() -> None:
        if not answered.done():
            answered.set_exception(Ended())

    link = Link(loop)
    if handle >= 0:
        loop.add_reader(handle, ended)
    try:
        link.dealer(f"ipc://{rundir.control_of(run_dir)}", take).send((ASK, number, word, args))
        ok, value = await asyncio.wait_for(answered, deadline)
    finally:
        link.close()
    if not ok:
        raise AskRefused(str(value))
    return value
