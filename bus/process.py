"""One process of pingap: hosts its actors, keeps them in touch with the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pingap.bus import descriptors, output, strays
from pingap.bus import envelope as wire
from pingap.bus.actor import Actor
from pingap.bus.descriptors import Descriptors
from pingap.bus.envelope import Message, kind_of
from pingap.bus.kinds import (
    BOOT_FAILED,
    DRAIN,
    DRAINED,
    HEARTBEAT,
    HELLO,
    MEMBERS,
    STOP,
    TELL,
)
from pingap.bus.link import Curve, Link
from pingap.bus.liveness import BEAT, SILENCE
from pingap.bus.local import Receivers
from pingap.bus.members import READY as READY_STATE
from pingap.bus.members import Members
from pingap.bus.messages import Echo, Mark, Wanted
from pingap.bus.repeats import Repeats
from pingap.bus.replication import Replication
from pingap.bus.seat import Seat, SeatContext
from pingap.bus.sockets import Pair

T = TypeVar("T")

VERSION: Final = 1
ARRIVALS: Final = 0.05
"""Seconds between the begin of a drain and the first look at what is still held."""

COUNT: Final = 5.0
"""Seconds between two looks at how many descriptors are in use, which older kernels have to count."""

SHORTAGE_PAUSE: Final = 60.0
"""Seconds between two words on missing descriptors."""

ORPHAN_DRAIN: Final = 4.0
"""Seconds that a process whose supervisor is gone gives to its streams."""


class Process:
    """Hosts the actors of one operating system process until STOP, a signal or the supervisor's death."""

    def __init__(
        self, run_dir: str, seats: list[Seat], loop: asyncio.AbstractEventLoop, curve: Curve | None = None, supervisor: int = -1
    ) -> None:
        """supervisor: its pidfd; -1 where it is on another host, and counts as gone when it has been silent."""
        self._supervisor = supervisor
        self.run_dir = run_dir
        self.loop = loop
        self.link = Link(loop, curve)
        self.descriptors = Descriptors(descriptors.limit_now())
        self._tell_short = 0.0
        self._count_at = 0.0
        self.logging_actor = 0
        self._ids = [seat.id for seat in seats]
        self._done = asyncio.Event()
        self._draining: dict[int, float] = {}
        self._orphaned = False
        self._exit_code = 0
        self._heard = time.monotonic()
        self.replication = Replication(self.link, run_dir, loop)
        self.control: Pair = self.link.dealer(f"ipc://{run_dir}/control", self._controlled)
        self.contexts = {seat.id: SeatContext(self, seat) for seat in seats}
        self._repeats = Repeats(next(iter(self.contexts.values())))
        self.actors: dict[int, Actor] = {}
        self._speaks_to = {"logging"}
        """Stages to whose actors the pipes are opened when they are ready: when one is needed there may be no descriptor for it."""
        for seat in seats:
            actor = self.actors[seat.id] = seat.factory(self.contexts[seat.id])
            self._speaks_to.update(actor.speaks_to)
            receivers = actor.receivers() | self.replication.receivers()
            receivers |= {Mark: self._marked(seat.id), Echo: self.contexts[seat.id].pipes.echoed, Wanted: self._wanted(seat.id)}
            self.link.attach(seat.id, seat.endpoint, receivers, self._batched(actor, receivers), actor.unreadable)

        self.link.unsent = self._unsent

    # -- life ---------------------------------------------------------------

    async def run(self) -> int:
        """Serves until told to stop; returns the exit code."""
        with strays.told_to(self.loop, self._strayed):
            return await self._run()

    async def _run(self) -> int:
        self.loop.set_exception_handler(self._failed)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            # Signals are the supervisor's business: a terminal's Ctrl-C reaches the whole group.
            signal.signal(number, signal.SIG_IGN)
        self.control.send((HELLO, self._ids, os.getpid(), VERSION))
        beat = self.loop.create_task(self._beat())
        if self._supervisor >= 0:
            self.loop.add_reader(self._supervisor, self._bereaved)
        try:
            for actor in self.actors.values():
                await actor.start()
            await self._done.wait()
        except Exception as error:
            traceback.print_exc()
            self.boot_failed(f"{type(error).__name__}: {error}")
        beat.cancel()
        if self._supervisor >= 0:
            self.loop.remove_reader(self._supervisor)
        for actor in self.actors.values():
            try:
                await asyncio.wait_for(actor.stop(), 2)
            except Exception:  # one actor that cannot close must not keep the others from it
                traceback.print_exc()
        self.replication.stop()
        for context in self.contexts.values():
            context.ship_events()
        self.link.close()
        return self._exit_code

    def boot_failed(self, reason: str) -> None:
        """An actor cannot serve."""
        self.control.send((BOOT_FAILED, self._ids, reason))
        self._exit_code = 1
        self._done.set()

    async def _beat(self) -> None:
        while True:
            try:
                await self._beat_once()
            except Exception as error:  # silence would be taken for death: then at least the reason is known
                self.loop.call_exception_handler({"message": "a heartbeat failed", "exception": error})
                await asyncio.sleep(BEAT)

    def beat(self) -> dict[int, dict[str, float]]:
        """A sign of life, with the figures of each actor."""
        figures = {i: actor.figures() for i, actor in self.actors.items()}
        self.control.send((HEARTBEAT, figures))
        return figures

    async def _beat_once(self) -> None:
        began = time.monotonic()
        for actor in self.actors.values():
            actor.sum_up()
        figures = self.beat()
        for i, context in self.contexts.items():
            context.ship_counts(figures[i])
        if began >= self._count_at:
            self._count_at = began + COUNT
            if descriptors.in_use() > descriptors.NEARLY * self.descriptors.limit:
                self._tell_of_shortage("nearly all are in use")
        self._look_at_run_dir()
        output.retry()
        for _ in range(2):
            await asyncio.sleep(BEAT / 2)
            self.replication.ask()
            self._look_at_drains()
        now = time.monotonic()
        if self._supervisor >= 0:
            return  # its handle tells better than silence: one that is stopped, or on a suspended machine, lives
        if now - began > SILENCE / 2:
            self._heard = now  # who was stopped itself (Ctrl-Z, a frozen container) has heard nobody: nobody is to blame
        if now - self._heard > SILENCE:
            self._bereaved()

    def _bereaved(self) -> None:
        """The supervisor is gone: finish what is held, then leave."""
        if self._supervisor >= 0:
            self.loop.remove_reader(self._supervisor)
        if not self._orphaned:
            self._orphaned = True
            for actor in self._ids:
                self._drain(actor, ORPHAN_DRAIN, 0.0)

    def _look_at_run_dir(self) -> None:
        """Somebody may have cleaned it up: who comes later must find us there."""
        try:
            restored = self.link.restore()
            for actor in self.actors.values():
                actor.look_at_run_dir()
        except OSError:
            return  # the directory itself is gone: the supervisor makes it anew
        if restored:
            names = ", ".join(path.rpartition("/")[2] for path in restored)
            next(iter(self.contexts.values())).log("warn", f"made anew in the run dir, where somebody had removed it: {names}")

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if descriptors.is_short(error):
            self._tell_of_shortage(str(context.get("message", "")))
            return
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        # One an envelope, perhaps, and so one a request.
        message = str(context.get("message", "unhandled error"))
        self._repeats.log("error", message, f"unhandled {type(error).__name__}", error=repr(error), traceback=text)

    def _strayed(self, level: str, text: str, error: BaseException | None) -> None:
        fields = {"error": repr(error), "traceback": "".join(traceback.format_exception(error))} if error is not None else {}
        self._repeats.log(level, text, f"stray {type(error).__name__}" if error is not None else "from a library", **fields)

    def _tell_of_shortage(self, detail: str) -> None:
        """Once a minute: it comes with every connection, and would fill the log."""
        now = time.monotonic()
        if now >= self._tell_short:
            self._tell_short = now + SHORTAGE_PAUSE
            limit, used = self.descriptors.limit, descriptors.in_use()
            next(iter(self.contexts.values())).log("error", f"too few file descriptors: {detail}", limit=limit, in_use=used)

    # -- control ---------------------------------------------------------------

    def _controlled(self, envelopes: list[Any]) -> None:
        self._heard = time.monotonic()
        for envelope in envelopes:
            kind = envelope[0]
            if kind == MEMBERS:
                self._take_members(Members.of(envelope[1], envelope[2], envelope[3]))
            elif kind == DRAIN:
                for actor in envelope[1]:
                    self._drain(actor, envelope[2], envelope[3])
            elif kind == STOP:
                self._done.set()
            elif kind == TELL:
                if envelope[1] == "reopen":
                    output.reopen()
                for told in self.actors.values():
                    told.told(envelope[1], envelope[2])

    def _take_members(self, members: Members) -> None:
        before = self.link.members
        if members.seq <= before.seq:
            return
        self.descriptors.has_peers(len(members.by_id))
        self.link.set_members(members)
        for member in members.by_id.values():
            if member.state == READY_STATE and member.stage in self._speaks_to:
                self.link.open(member.id)
        shippers = members.of_stage("logging")
        self.logging_actor = shippers[-1].id if shippers else 0
        gone = frozenset(before.by_id) - frozenset(members.by_id)
        born = frozenset(member.stage for actor, member in members.by_id.items() if actor not in before.by_id)
        for context in self.contexts.values():
            context.pipes.forget(gone)
        for actor in self.actors.values():
            actor.members_changed(members, gone)
        self.replication.members_changed(born)

    def _drain(self, actor: int, seconds: float, reprieve: float) -> None:
        if actor in self.actors and actor not in self._draining:
            self._draining[actor] = time.monotonic() + seconds
            self.actors[actor].begin_drain(reprieve)
            # Most often nothing is held: no reason to wait for the next look, but what is on its way may still arrive.
            self.loop.call_later(ARRIVALS, self._look_at_drains)

    def _look_at_drains(self) -> None:
        now = time.monotonic()
        for actor, deadline in list(self._draining.items()):
            left = self.actors[actor].held()
            if left == 0 or now >= deadline:
                del self._draining[actor]
                self.control.send((DRAINED, [actor], left))
                if self._orphaned and not self._draining:
                    self._done.set()

    # -- messages of every actor -------------------------------------------------

    def _unsent(self, message: Any, error: Exception) -> None:
        for actor in self.actors.values():
            actor.unsent(message, error)

    def _marked(self, actor: int) -> Callable[[Mark], None]:
        def take(mark: Mark) -> None:
            self.link.send(mark.sender, Echo(actor, mark.sent))

        return take

    def _wanted(self, actor: int) -> Callable[[Wanted], None]:
        def take(wanted: Wanted) -> None:
            self.contexts[actor].wanted = frozenset(wanted.topics)

        return take

    def _batched(self, actor: Actor, receivers: Receivers) -> Callable[[bytes, list[Any]], None] | None:
        """For an actor that takes batches as they come: messages, which it gets from few, are sorted out of them."""
        receive = actor.receive_batch()
        if receive is None:
            return None
        kinds = frozenset(kind_of(message) for message in receivers if issubclass(message, Message))
        reader = self.link.reader(receivers)

        def take(head: bytes, envelopes: list[Any]) -> None:
            for envelope in envelopes:
                if envelope[0] in kinds:  # a peer may have put an event and a snapshot into one batch
                    events = [each for each in envelopes if each[0] not in kinds]
                    for each in envelopes:
                        if each[0] in kinds and (message := reader.read(each)) is not None:
                            receivers[type(message)](message)
                    if events:
                        receive(wire.pack(events)[0], events)
                    return
            receive(head, envelopes)

        return take


def run(run_dir: str, seats: list[Seat], curve: Curve | None = None, supervisor: int = -1) -> int:
    """Hosts the seats in this process, on uvloop where it is installed; returns the exit code. supervisor: as in Process."""

    async def serve() -> int:
        return await Process(run_dir, seats, asyncio.get_running_loop(), curve, supervisor).run()

    # What is loaded now stays for ever; what a request allocates is freed by its reference count.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # uvloop lags new Pythons; asyncio serves too, slower
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)
        return finished(loop, loop.create_task(serve()))


def finished(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    """Runs `loop` until `task` is done; returns its result.

    SystemExit and KeyboardInterrupt out of any other task or callback (a plugin's author has his own) end an event loop at once,
    and with it all requests of the process: here they are logged as any other exception that nobody caught.
    """
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            loop.call_exception_handler({"message": "code on the event loop tried to end the process", "exception": error})
