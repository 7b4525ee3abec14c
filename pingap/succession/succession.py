"""Which instance serves before this one, and which after it: the run dir, the pid file and the listening sockets change hands."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from pingap import rundir
from pingap.face import RESTARTED
from pingap.listeners import Listener
from pingap.observability.notices import RESTART, RESTART_FAIL
from pingap.own_words import OwnWords
from pingap.plan_words import Event, GivenUp, StopAsked
from pingap.rundir import RunDir
from pingap.service.pid_file import PidFile, PidFileError
from pingap.service.systemd import Service
from pingap.succession import stand_in
from pingap.succession.handover import MOST_ROWS, Handover, Packet, Successor, explained
from pingap.succession.takeover import Predecessor

DEMO: Final = "demo"

HURRY: Final = signal.SIGRTMIN
"""Tells an instance that drains that nobody waits for what it holds. No signal that it would pass on to us."""

NOT_HANDED_ON: Final = ("WATCHDOG_PID", RESTARTED)
"""Variables that are about this process."""


class Succession:
    """This instance's place in it."""

    def __init__(
        self,
        run_dir: RunDir,
        predecessor: Predecessor | None,
        listeners: Callable[[], list[Listener]],
        scaled: Callable[[], dict[str, tuple[int, int]]],
        service: Service,
        says: OwnWords,
        feed: Callable[[Event], None],
        answer: Callable[[int, bool, Any], None],
    ) -> None:
        """listeners: those of now. scaled: see Fleet. answer: the reply to an upgrade that was asked for, by its ticket."""
        self._loop = asyncio.get_running_loop()
        self._run_dir = run_dir
        self._predecessor = predecessor
        self._listeners = listeners
        self._scaled = scaled
        self._service = service
        self._says = says
        self._feed = feed
        self._answer = answer
        self._pid_file: PidFile | None = None
        self._tickets: list[int] = []
        self._handover = Handover(os.path.join(run_dir.path, rundir.UPGRADE), self._inventory, self._handed, self._failed)
        self.successor: Successor | None = None
        self._is_over = False
        self._watched = -1
        """The pidfd of who serves now, once that is not this one."""
        self._watched_pid = 0

    # -- before ---------------------------------------------------------------------------

    def take_pid_file(self, path: str | None, made: PidFile | None) -> None:
        """The file of basic.pid_file, from the instance before if it had the same. made: it is there already. Raises PidFileError."""
        if path is None or made is not None:
            self._pid_file = made
        elif self._predecessor is not None and (inherited := self._predecessor.estate.pid_file_at(path)) is not None:
            self._pid_file = PidFile(path, inherited=inherited)
        else:
            self._pid_file = PidFile(path)

    def relieve(self, relieved: Callable[[], None]) -> None:
        """Every process serves. `relieved` is called when that is known to the instance before, and all is ours."""
        if self._predecessor is None:
            self._try("the upgrade socket", self._handover.listen)
            relieved()
        else:
            self._predecessor.relieve(lambda: self._take_office(relieved), self._given_up)

    def _take_office(self, relieved: Callable[[], None]) -> None:
        """Nobody else serves any more: what cannot be had of it now is tried again with each heartbeat (`restore`)."""
        predecessor, self._predecessor = self._predecessor, None
        assert predecessor is not None
        self._try("the run dir", self._run_dir.take_office)
        if self._pid_file is not None:
            self._try("basic.pid_file", self._pid_file.take_office)
        left = predecessor.estate.pid_file
        if left is not None and (self._pid_file is None or self._pid_file.path != left[0]):
            PidFile(left[0], inherited=left[1]).release()
        self._try("the upgrade socket", self._handover.listen)
        told = f"took over from pid {predecessor.pid}, which finishes what it holds"
        self._says.log("info", told)
        self._says.notice("info", RESTART, told, before=predecessor.pid)
        relieved()

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except (OSError, rundir.RunDirError, PidFileError) as error:
            self._says.log("error", f"{what} cannot be taken over: {error}")

    def _given_up(self) -> None:
        assert self._predecessor is not None
        self._feed(GivenUp(f"pid {self._predecessor.pid} has given this instance up, and goes on"))

    def stop(self, is_fast: bool) -> None:
        """This instance stops: what is being started in its place is not wanted, nor, in a hurry, what earlier ones still hold."""
        self._is_over = True
        self._handover.close()
        self._reply(False, "pingap is stopping")
        for pid in self._run_dir.predecessors() if is_fast and self.successor is None else ():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, HURRY)

    def restore(self) -> list[str]:
        """Makes anew what somebody has removed; names of that. Raises OSError and PidFileError."""
        restored = ["basic.pid_file"] if self._pid_file is not None and self._pid_file.restore() else []
        return [*restored, rundir.UPGRADE] if self._handover.restore() else restored

    def children(self) -> set[int]:
        """Process ids of instances that were started from here."""
        found = {self._handover.child}
        if self.successor is not None and self.successor.child is not None:
            found.add(self.successor.child.pid)
        return found - {0}

    def close(self) -> None:
        self._handover.close()
        if self._pid_file is not None:
            self._pid_file.release()
        self._watch_no_more()

    @property
    def is_under_way(self) -> bool:
        """The next instance is being started."""
        return self._handover.is_under_way

    # -- after ------------------------------------------------------------------------------

    def begin(self, interpreter: Sequence[str] = (), ticket: int = 0) -> None:
        """Starts the next instance, with this one's command line.

        interpreter: what runs it, `[python, script]`; empty for what runs this one. ticket: who waits for the outcome.
        """
        if self._is_over or self.successor is not None or self._predecessor is not None:
            self._refuse(ticket, "it is stopping" if self._predecessor is None else "it is still taking over itself")
            return
        if self._handover.is_under_way:
            self._refuse(ticket, "another upgrade is under way")
            return
        arguments = sys.argv[1:]
        before = list(interpreter) or command_of(sys.orig_argv, arguments)
        try:
            pid = self._handover.start([*before, *arguments], self._environment())
        except OSError as error:
            self._refuse(ticket, explained(error))
            return
        if ticket:
            self._tickets.append(ticket)
        self._says.log("info", f"upgrade: pid {pid} is started and will take over")

    def _environment(self) -> Mapping[str, str]:
        given = {name: value for name, value in self._service.environment().items() if name not in NOT_HANDED_ON}
        # As another user it would choose another run dir.
        ours = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
        return {**ours, **given, rundir.VARIABLE: self._run_dir.path}

    def _refuse(self, ticket: int, reason: str) -> None:
        self._says.log("error", f"no upgrade: {reason}")
        if ticket:
            self._answer(ticket, False, reason)

    def _inventory(self) -> list[Packet]:
        """All that the next instance gets."""
        if self._is_over or self.successor is not None or self._predecessor is not None:
            return []
        packets: list[Packet] = [({"say": "run_dir"}, self._run_dir.descriptors())]
        if self._pid_file is not None:
            packets.append(({"say": "pid_file", "path": self._pid_file.path}, [self._pid_file.descriptor]))
        if scaled := self._scaled():
            packets.append(({"say": "scaled", "roles": scaled}, ()))
        listeners = [one for one in self._listeners() if one.owner is None or one.owner[0] != DEMO]
        for start in range(0, len(listeners), MOST_ROWS):
            some = listeners[start : start + MOST_ROWS]
            rows = [{"server": one.server, "host": one.asked.host, "port": one.asked.port, "owner": one.owner} for one in some]
            packets.append(({"say": "listeners", "rows": rows}, [one.sock.fileno() for one in some]))
        return packets

    def _handed(self, successor: Successor) -> None:
        self.successor = successor
        self._run_dir.give_away()
        if self._pid_file is not None:
            self._pid_file.give_away()
        self._service.main_pid(successor.pid)
        self._says.log("info", f"handed over to pid {successor.pid}")
        self._reply(True, {"pid": successor.pid, "before": os.getpid()})
        stand_in.adopt()
        self._watch(successor.pid)
        self._feed(StopAsked(True, has_successor=True))

    def _failed(self, reason: str) -> None:
        told = f"the upgrade failed, this pingap goes on: {reason}"
        self._says.log("error", told)
        self._says.notice("error", RESTART_FAIL, told)
        self._reply(False, reason)

    def _reply(self, ok: bool, value: Any) -> None:
        """To those who wait for the outcome."""
        for ticket in self._tickets:
            self._answer(ticket, ok, value)
        self._tickets.clear()

    # -- in retirement ----------------------------------------------------------------------

    def _watch(self, pid: int) -> None:
        """When nobody serves any more, nobody shall wait for what is held here."""
        try:
            self._watched, self._watched_pid = os.pidfd_open(pid), pid
            self._loop.add_reader(self._watched, self._successor_ended)
        except OSError:
            self._feed(StopAsked(False))

    def _watch_no_more(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = -1

    def _successor_ended(self) -> None:
        self._watch_no_more()
        if self.successor is not None and self.successor.child is not None:
            self.successor.child.poll()
        now = rundir.supervisor_of(self._run_dir.path)
        if now and now not in (self._watched_pid, os.getpid()):
            self._watch(now)
        else:
            self._feed(StopAsked(False))

    def forward(self, number: int) -> bool:
        """Passes a signal on to who serves now; False when that is this instance."""
        if self._watched < 0:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._watched, number)
        return True


def command_of(orig_argv: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """What runs the command line `arguments`: interpreter, its options and the script, with paths that hold in any directory."""
    before = list(orig_argv[: len(orig_argv) - len(arguments)])
    before[0] = sys.executable
    if len(before) > 1 and before[-2] != "-m" and os.path.exists(before[-1]):
        before[-1] = os.path.abspath(before[-1])
    return before
