"""The control socket, the supervisor's side: which connection is which process, and the questions of the command line.

It takes nothing on faith: a process is believed to be ours when it says HELLO with
ids that were given out and the pid that was forked for them; any other that is not
a question is told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from pingap.bus.kinds import ASK, BOOT_FAILED, DRAIN, DRAINED, HEARTBEAT, HELLO, MEMBERS, READY, REPLY, REPORT, STOP, TELL
from pingap.bus.link import Link
from pingap.bus.members import READY as IS_READY
from pingap.bus.sockets import RouterSocket
from pingap.plan import Fleet
from pingap.plan_words import (
    Announce,
    BecameReady,
    BootFailed,
    Drain,
    Drained,
    Event,
    Heard,
    ScaleAsked,
    StopAsked,
)
from pingap.stage_questions import OF_ONE, STAGE_OF, StageQuestions, Told

VERSION: Final = 1
"""Of the protocol: HELLO names it."""


class Control:
    """Feeds the fleet with what processes say, and answers the command line."""

    def __init__(
        self,
        link: Link,
        run_dir: str,
        fleet: Fleet,
        feed: Callable[[Event], None],
        reported: Callable[[str, Any], None],
        questions: dict[str, Callable[[tuple[Any, ...]], Any]],
    ) -> None:
        """questions: word → its answer at once; those that take time are answered here. Of "restart": whether there may be one."""
        self._loop = asyncio.get_running_loop()
        self._fleet = fleet
        self._feed = feed
        self._reported = reported
        self._questions = questions
        self.why_not_scaled: Callable[[], str] = lambda: ""
        """Why nothing can be scaled at the moment; "" when it can."""
        self.slow: dict[str, Callable[[int, tuple[Any, ...]], None]] = {}
        """word → what is told the ticket, and the arguments; the reply is given by `answer`."""
        self._peers: dict[int, bytes] = {}
        self._keys: dict[bytes, int] = {}
        self._tickets: dict[int, tuple[bytes, int]] = {}
        self._next_ticket = 0
        self.of_stages = StageQuestions(self._loop, self._tell_stage, self._reply)
        """Questions that wait for a stage."""
        self._told = 0
        """TELLs so far."""
        self.figures: dict[int, dict[str, float]] = {}
        """What each actor said of itself with its last heartbeat."""
        self._router: RouterSocket = link.router(f"ipc://{run_dir}/control", self._take)

    # -- to processes ------------------------------------------------------------

    def announce(self, table: Announce) -> None:
        """MEMBERS to everybody."""
        for peer in self._peers.values():
            self._router.send(peer, (MEMBERS, table.seq, table.newest, table.rows))

    def beat(self) -> None:
        """HEARTBEAT to everybody."""
        for peer in self._peers.values():
            self._router.send(peer, (HEARTBEAT,))

    def drain(self, drain: Drain) -> None:
        self._send(drain.process, (DRAIN, drain.ids, drain.seconds, drain.reprieve))

    def stop(self, key: int) -> bool:
        """False when that process has not said HELLO, and so cannot be told."""
        return self._send(key, (STOP,))

    def tell(self, word: str, stage: str = "") -> bool:
        """TELL to the processes that host a stage, or to all; False when there is none."""
        return bool(self._tell_stage(word, stage, ()).processes)

    def _tell_stage(self, word: str, stage: str, args: Iterable[Any]) -> Told:
        self._told += 1
        hosts = [process for process in self._fleet.processes.values() if not stage or stage in process.role.stages]
        envelope = (TELL, word, (self._told, *args))
        if word in OF_ONE:
            ready = [process for process in hosts if process.state == IS_READY]
            return Told(self._told, frozenset([next((process.key for process in ready if self._send(process.key, envelope)), 0)]) - {0})
        return Told(self._told, frozenset(process.key for process in hosts if self._send(process.key, envelope)))

    def forget(self, key: int) -> None:
        """That process is gone."""
        peer = self._peers.pop(key, None)
        if peer is not None:
            self._keys.pop(peer, None)
        self.of_stages.forget(key)
        self._forget_figures()

    def _forget_figures(self) -> None:
        """Drops the figures of actors that the fleet no longer has."""
        known = {actor for process in self._fleet.processes.values() for actor in process.ids}
        for actor in [actor for actor in self.figures if actor not in known]:
            del self.figures[actor]

    def _send(self, key: int, envelope: Any) -> bool:
        peer = self._peers.get(key)
        return peer is not None and self._router.send(peer, envelope)

    # -- from processes -------------------------------------------------------------

    def _take(self, peer: bytes, envelopes: list[Any]) -> None:
        for envelope in envelopes:
            kind = envelope[0]
            if kind == ASK:
                self._asked(peer, envelope[1], envelope[2], tuple(envelope[3]))
            elif kind == HELLO:
                self._greeted(peer, envelope[1], envelope[2], envelope[3])
            elif peer in self._keys:
                for event in self._events(self._keys[peer], envelope):
                    self._feed(event)
            else:
                self._router.send(peer, (STOP,))  # left over from an instance that was killed

    def _greeted(self, peer: bytes, ids: tuple[int, ...], pid: int, version: int) -> None:
        process = self._fleet.of_actor(ids[0])
        if process is None or (process.pid and process.pid != pid):
            self._router.send(peer, (STOP,))
            return
        if version != VERSION:
            self._feed(BootFailed(process.key, f"it speaks version {version} of the bus protocol, this is {VERSION}"))
            return
        self._peers[process.key], self._keys[peer] = peer, process.key
        table = self._fleet.table.announcement
        self._router.send(peer, (MEMBERS, table.seq, table.newest, table.rows))
        self._feed(Heard(process.key))

    def _events(self, key: int, envelope: Any) -> Iterator[Event]:
        yield Heard(key)
        kind = envelope[0]
        if kind == HEARTBEAT:
            self.figures.update(envelope[1])
        elif kind == READY:
            yield BecameReady(tuple(envelope[1]))
        elif kind == BOOT_FAILED:
            yield BootFailed(key, str(envelope[2]))
        elif kind == DRAINED:
            yield Drained(tuple(envelope[1]), int(envelope[2]))
        elif kind == REPORT and envelope[2] == "answer":
            said = envelope[3]
            self.of_stages.answer(said["asked"], said["ok"], said["value"], key)
        elif kind == REPORT:
            self._reported(envelope[2], envelope[3])

    # -- the command line ---------------------------------------------------------------

    def _asked(self, peer: bytes, number: int, word: str, args: tuple[Any, ...]) -> None:
        try:
            if word == "scale" and (reason := self.why_not_scaled()):
                self._reply(peer, number, False, f"not scaled: {reason}")
            elif word == "scale":
                stage, replicas = str(args[0]), int(args[1])
                self._feed(ScaleAsked(self._ticket(peer, number), stage, replicas))
            elif word in STAGE_OF:
                self.of_stages.ask(peer, number, word, args)
            elif word in ("down", "restart"):
                self._stop(peer, number, word, *args)
            elif word in self.slow:
                self.slow[word](self._ticket(peer, number), args)
            elif word in self._questions:
                self._reply(peer, number, True, self._questions[word](args))
            else:
                self._reply(peer, number, False, f"this pingap does not know {word!r}")
        except (LookupError, TypeError, ValueError) as error:
            self._reply(peer, number, False, f"{word}: bad arguments ({error})")

    def _stop(self, peer: bytes, number: int, word: str, graceful: bool, seconds: float | None = None) -> None:
        """Answered with the seconds that requests in flight have: who asks while it stops joins the wait."""
        if word == "restart" and not self._questions["restart"](()):
            self._reply(peer, number, False, "no restart: it is stopping")
            return
        seconds = None if seconds is None else float(seconds)
        self._feed(StopAsked(bool(graceful), self._ticket(peer, number), seconds, word == "restart"))

    def _ticket(self, peer: bytes, number: int) -> int:
        """For a question that the fleet answers."""
        self._next_ticket += 1
        self._tickets[self._next_ticket] = (peer, number)
        return self._next_ticket

    def answer(self, ticket: int, ok: bool, value: Any) -> None:
        """The fleet's answer to ScaleAsked and StopAsked."""
        peer, number = self._tickets.pop(ticket)
        self._reply(peer, number, ok, value)

    def _reply(self, peer: bytes, number: int, ok: bool, value: Any) -> None:
        self._router.send(peer, (REPLY, number, ok, value))
