"""The supervisor's decisions: what runs, what is restarted and when, who leaves in which order.

Events in, commands out, time as an argument; `supervisor.py` acts. A **slot** is
a replica that should run (`routing.1`); a **process** is one incarnation of it. A
dead process is announced without and its slot started again, at once the first
time, later after a delay that doubles while it keeps dying young. What is scaled
away drains first; a stop drains the clients' side, then ends the rest.

    starting --all READY--> ready --scale or stop--> draining --DRAINED or deadline--> stopping --> gone
        any of them --exit or silence--> gone; a slot that is still wanted gets a new process
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pingap.bus.liveness import SILENCE
from pingap.bus.members import DRAINING, READY, STARTING
from pingap.plan_state import (
    BOOT,
    BOOTS,
    DRAIN_MARGIN,
    FIRST_DELAY,
    LAST_WORDS,
    LONGEST_DELAY,
    MOST_REPLICAS,
    REAP,
    REPRIEVE,
    SAME,
    SCALE_ANSWER,
    SETTLE,
    STEADY,
    STOP,
    STOPPING,
    Ending,
    Incarnation,
    Slot,
    Ticket,
)
from pingap.plan_table import Table
from pingap.plan_words import (
    Answer,
    BecameReady,
    Began,
    BootFailed,
    CloseListeners,
    Command,
    Drain,
    Drained,
    Event,
    Exited,
    Finish,
    Fork,
    Forked,
    GivenUp,
    Heard,
    Kill,
    KillSpawner,
    Retire,
    Role,
    Say,
    ScaleAsked,
    SpawnerLost,
    Stop,
    StopAsked,
    TellReady,
    TimePassed,
    Timings,
    TimingsChanged,
)


class Fleet:
    """All processes of one `pingap up`."""

    def __init__(
        self,
        roles: Sequence[Role],
        endpoint_of: Callable[[str, int, int], str],
        timings: Timings,
        too_many: Callable[[int], str] = lambda actors: "",
    ) -> None:
        """endpoint_of: stage, replica, actor id → where its inbox is. too_many: why so many actors cannot be had, "" when they can."""
        self.roles = {role.name: role for role in roles}
        self.slots: dict[tuple[str, int], Slot] = {}
        self.processes: dict[int, Incarnation] = {}
        self._dying: dict[int, float] = {}
        """Killed, no longer in the table, not yet gone: key → when to stop waiting for it."""
        self.table = Table(endpoint_of)
        self.timings = timings
        self._too_many = too_many
        self._tickets: dict[int, Ticket] = {}
        self._ending: Ending | None = None
        self._finished = False
        self.is_up = False
        """Every process has been ready at least once."""
        self._last = 0.0
        self._out: list[Command] = []

    @property
    def is_stopping(self) -> bool:
        return self._ending is not None

    @property
    def starts_again(self) -> bool:
        """It stops in order to be started again."""
        return self._ending is not None and self._ending.is_restart

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done about an event, in this order."""
        self._out = []
        self._forgive_own_pause(now)
        match event:
            case Began():
                for role in self.roles.values():
                    self._grow(role, role.replicas, now)
            case Forked(key, pid):
                self._forked(key, pid, now)
            case Exited(key, reason):
                self._exited(key, reason, now)
            case SpawnerLost():
                self._fork_again(now)
            case Heard(key):
                if key in self.processes:
                    self.processes[key].heard = now
            case BecameReady(ids):
                self._became_ready(ids, now)
            case BootFailed(key, reason):
                if key in self.processes:
                    process = self.processes[key]
                    process.reason, process.kill_at = reason, now + STOP
            case Drained(ids, left):
                self._drained(ids, left)
            case ScaleAsked():
                self._scale(event, now)
            case StopAsked():
                self._stop_asked(event, now)
            case GivenUp(reason):
                self._give_up(reason, now)
            case TimingsChanged(timings):
                self.timings = timings
            case TimePassed():
                pass
        self._settle(now)
        return self._out

    def deadline(self, now: float) -> float:
        """When TimePassed is wanted, at the latest half a second from now."""
        times = [now + 0.5]
        times += [slot.due for slot in self.slots.values() if slot.due is not None]
        for process in self.processes.values():
            times += process.deadlines()
        times += [ticket.until for ticket in self._tickets.values()]
        return max(now, min(times))

    def scaled(self) -> dict[str, tuple[int, int]]:
        """Roles that have another number of replicas than is configured: (configured, now)."""
        now = Counter(name for name, _ in self.slots)
        return {name: (role.configured, now[name]) for name, role in self.roles.items() if now[name] != role.configured}

    def of_actor(self, actor: int) -> Incarnation | None:
        """The process that hosts an actor."""
        return next((p for p in self.processes.values() if actor in p.ids), None)

    # -- what happened -------------------------------------------------------------

    def _forgive_own_pause(self, now: float) -> None:
        # Who was stopped itself (SIGSTOP, a suspended machine) has heard nobody, and nobody is to blame.
        pause = now - self._last
        if self._last and pause > SILENCE / 2:
            for process in self.processes.values():
                process.heard += pause
        self._last = now

    def _forked(self, key: int, pid: int, now: float) -> None:
        process = self.processes.get(key)
        if process is None or process.state == STOPPING:  # given up, or told to stop when there was nobody to hear it
            self._out.append(Kill(key))
        if process is not None:
            process.pid, process.started, process.heard = pid, now, now

    def _exited(self, key: int, reason: str, now: float) -> None:
        self._dying.pop(key, None)
        process = self.processes.get(key)
        if process is not None:
            self._lose(process, reason, now)

    def _fork_again(self, now: float) -> None:
        for process in [p for p in self.processes.values() if not p.pid]:
            del self.processes[process.key]
            slot = self._slot_of(process)
            if slot is not None:
                slot.process, slot.due = 0, now

    def _became_ready(self, ids: tuple[int, ...], now: float) -> None:
        for actor in ids:
            process = self.of_actor(actor)
            if process is None:
                continue
            process.ready.add(actor)
            if process.state == STARTING and process.ready.issuperset(process.ids):
                process.state = READY
                slot = self._slot_of(process)
                if slot is not None:
                    slot.boots_failed = 0
                    if slot.restarts:
                        self._say("info", f"{process.name} is back", pid=process.pid, seconds=round(now - process.started, 3))

    def _drained(self, ids: tuple[int, ...], left: int) -> None:
        for actor in ids:
            process = self.of_actor(actor)
            if process is not None:
                process.undrained.discard(actor)
                if left:
                    self._say("warn", f"{process.name} was stopped before it had finished", left=left)

    def _lose(self, process: Incarnation, why: str, now: float) -> None:
        """A process is no more, or as good as: out of the table, and a new one if its slot is still wanted."""
        del self.processes[process.key]
        slot = self._slot_of(process)
        if process.state in (DRAINING, STOPPING) or slot is None:
            if process.state == DRAINING:
                self._say("error", f"{process.name} {why} while it drained", pid=process.pid)
            return
        if self._ending is not None:
            return
        why = f"failed to start: {process.reason}" if process.reason else why
        if process.state == STARTING:
            slot.boots_failed += 1
            if not self.is_up and slot.boots_failed >= BOOTS:
                self._give_up(f"{process.name} {why}", now)
                return
        if now - process.started >= STEADY:
            slot.delay = 0.0
        slot.process, slot.due = 0, now + slot.delay
        slot.restarts += 1
        again = f"again in {slot.delay:g} s" if slot.delay else "started again at once"
        slot.delay = min(LONGEST_DELAY, max(FIRST_DELAY, slot.delay * 2))
        self._say("error", f"{process.name} {why}: {again}", pid=process.pid, restarts=slot.restarts)

    # -- scaling and stopping ---------------------------------------------------------

    def _grow(self, role: Role, replicas: int, now: float) -> None:
        for replica in range(replicas):
            due = None if role.is_last and not self.is_up else now
            self.slots.setdefault((role.name, replica), Slot(role, replica, due=due))

    def _scale(self, asked: ScaleAsked, now: float) -> None:
        role = self.roles.get(asked.role)
        problem = ""
        if self._ending is not None:
            problem = "pingap is stopping"
        elif role is None or not role.is_scalable:
            those = ", ".join(name for name, known in self.roles.items() if known.is_scalable)
            problem = f"{asked.role!r} cannot be scaled here: {those or 'nothing'} can"
        elif not 1 <= asked.replicas <= MOST_REPLICAS:
            problem = f"{asked.role} can have 1 to {MOST_REPLICAS} replicas"
        elif (more := asked.replicas - sum(1 for name, _ in self.slots if name == role.name)) > 0:
            problem = self._too_many(sum(len(slot.role.stages) for slot in self.slots.values()) + more * len(role.stages))
        if problem or role is None:
            self._out.append(Answer(asked.ticket, False, problem))
            return
        before = sum(1 for name, _ in self.slots if name == role.name)
        self._grow(role, asked.replicas, now)
        for replica in sorted((r for name, r in self.slots if name == role.name and r >= asked.replicas), reverse=True):
            slot = self.slots.pop((role.name, replica))
            process = self.processes.get(slot.process)
            self._out.append(Retire(role.name, replica))
            if process is not None:
                self._drain(process, self.timings.graceful, now, SETTLE, REPRIEVE)
        if before != asked.replicas:
            self._say("info", f"{role.name} is scaled from {before} to {asked.replicas}")
        self._tickets[asked.ticket] = Ticket(role.name, before, asked.replicas, now + SCALE_ANSWER)

    def _stop_asked(self, asked: StopAsked, now: float) -> None:
        usual = self.timings.graceful if asked.graceful else self.timings.fast
        seconds = usual if asked.seconds is None else asked.seconds
        is_fast_signal = not asked.ticket and not asked.graceful
        ending = self._ending
        if ending is None:
            reprieve = REPRIEVE if asked.has_successor else 0.0
            ending = self._ending = Ending(now + seconds, asked.graceful, is_restart=asked.is_restart, reprieve=reprieve)
            self._say("info", f"stopping: requests in flight have {seconds:g} s")
            self._close_down()
        elif is_fast_signal and ending.signalled is not None and now - ending.signalled < SAME:
            return
        elif is_fast_signal and ending.signalled is not None:
            self._say("warn", "stopping at once")
            for process in list(self.processes.values()):
                self._kill(process, now)
                del self.processes[process.key]
        elif _shortens(asked, ending) and now + seconds < ending.deadline:
            self._say("info", f"stopping sooner: requests in flight have {seconds:g} s")
            ending.graceful, ending.deadline = ending.graceful and asked.graceful, now + seconds
        else:
            self._say("info", f"stopping already: requests in flight have {max(0.0, ending.deadline - now):.1f} s left")
        if is_fast_signal:
            ending.signalled = now
        ending.is_restart &= asked.is_restart  # who stops it while it stops for a restart wants it gone
        if asked.ticket:
            self._out.append(Answer(asked.ticket, True, max(0.0, ending.deadline - now)))

    def _give_up(self, reason: str, now: float) -> None:
        self._ending = Ending(now, False, code=1, reason=reason)
        self._close_down()
        for process in self.processes.values():
            self._stop(process, now)

    def _close_down(self) -> None:
        for slot in self.slots.values():
            slot.due = None
        for ticket in self._tickets:
            self._out.append(Answer(ticket, False, "pingap is stopping"))
        self._tickets.clear()
        self._out.append(CloseListeners())

    def _drain(self, process: Incarnation, seconds: float, now: float, settle: float = 0.0, reprieve: float = 0.0) -> None:
        if process.state == STARTING or not process.role.drained:
            self._stop(process, now)
        elif process.state == READY:
            process.state, process.reprieve = DRAINING, reprieve
            process.undrained = {i for i, stage in zip(process.ids, process.role.stages, strict=True) if stage in process.role.drained}
            process.drain_at, process.drain_by = now + settle, now + settle + seconds + DRAIN_MARGIN

    def _stop(self, process: Incarnation, now: float) -> None:
        if process.state != STOPPING:
            process.state, process.drain_at, process.kill_at = STOPPING, None, now + STOP
            self._out.append(Stop(process.key))

    def _kill(self, process: Incarnation, now: float) -> None:
        self._out.append(Kill(process.key))
        self._dying[process.key] = now + REAP

    # -- what follows -------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Everything that is due, whatever the event was."""
        for process in list(self.processes.values()):
            self._look_at(process, now)
        self._call_the_last(now)
        for slot in self.slots.values():
            if slot.due is not None and slot.due <= now and self._ending is None:
                self._start(slot, now)
        if self._ending is not None:
            self._advance_ending(self._ending, now)
        elif not self.is_up and self.slots and all(self._is_ready(slot) for slot in self.slots.values()):
            self.is_up = True
            self._announce()  # what is said to be ready is known to be ready
            self._out.append(TellReady())
        self._announce()
        self._answer_tickets(now)

    def _call_the_last(self, now: float) -> None:
        """Starts those that wait for all others, once these are ready."""
        if self.is_up or self._ending is not None:
            return
        waiting = [slot for slot in self.slots.values() if slot.role.is_last and not slot.process and slot.due is None]
        if waiting and all(self._is_ready(slot) for slot in self.slots.values() if not slot.role.is_last):
            for slot in waiting:
                slot.due = now

    def _start(self, slot: Slot, now: float) -> None:
        ids = self.table.new_ids(len(slot.role.stages))
        process = Incarnation(slot.role, slot.replica, ids, now, now, restarts=slot.restarts)
        self.processes[process.key] = process
        slot.process, slot.due = process.key, None
        self._announce()  # before the fork, so that nobody takes the newcomer for a stranger
        self._out.append(Fork(process.key, slot.role, slot.replica, ids))

    def _look_at(self, process: Incarnation, now: float) -> None:
        if process.state == STOPPING:
            if process.kill_at is not None and now >= process.kill_at:
                self._say("warn", f"{process.name} did not stop: killed", pid=process.pid)
                self._kill(process, now)
                del self.processes[process.key]
            return
        if not process.pid and now - process.started > BOOT:
            process.started = now
            self._out.append(KillSpawner())
            return
        if why := process.failing(now):
            self._kill(process, now)
            self._lose(process, why, now)
            return
        if process.state != DRAINING:
            return
        if process.drain_at is not None and now >= process.drain_at:
            process.drain_at = None
            seconds = process.drain_by - DRAIN_MARGIN - now
            self._out.append(Drain(process.key, tuple(sorted(process.undrained)), seconds, process.reprieve))
        if (process.drain_at is None and not process.undrained) or now >= process.drain_by:
            self._stop(process, now)

    def _advance_ending(self, ending: Ending, now: float) -> None:
        """The clients' side drains; when it is gone the rest stops; when that is gone, those who write it all down."""
        for turn in range(3):
            those = [p for p in self.processes.values() if p.role.leaves == turn]
            for process in those:
                if turn == 1:
                    self._stop(process, now)
                else:
                    seconds = max(0.0, ending.deadline - now) if turn == 0 else LAST_WORDS
                    self._drain(process, seconds, now, reprieve=ending.reprieve)
                if process.state == DRAINING and turn == 0 and process.drain_by > ending.deadline + DRAIN_MARGIN:
                    process.drain_by = ending.deadline + DRAIN_MARGIN
                self._look_at(process, now)
            if those:
                return
        for key in [key for key, until in self._dying.items() if now >= until]:
            del self._dying[key]
        if not self._dying and not self.processes and not self._finished:
            self._finished = True
            self._out.append(Finish(ending.code, ending.reason))

    def _announce(self) -> None:
        if self.table.update(self.processes.values()):
            self._out.append(self.table.announcement)

    def _answer_tickets(self, now: float) -> None:
        for number, ticket in list(self._tickets.items()):
            slots = [slot for (name, _), slot in self.slots.items() if name == ticket.role]
            missing = sum(1 for slot in slots if not self._is_ready(slot))
            if missing and now < ticket.until:
                continue
            del self._tickets[number]
            draining = sum(1 for p in self.processes.values() if p.role.name == ticket.role and p.state == DRAINING)
            value = {"stage": ticket.role, "before": ticket.before, "replicas": ticket.after, "starting": missing, "draining": draining}
            self._out.append(Answer(number, True, value))

    # -- small ----------------------------------------------------------------------------

    def _slot_of(self, process: Incarnation) -> Slot | None:
        slot = self.slots.get((process.role.name, process.replica))
        # A scaled-away replica that still drains may have a successor of the same number: not its slot any more.
        return slot if slot is not None and slot.process == process.key else None

    def _is_ready(self, slot: Slot) -> bool:
        process = self.processes.get(slot.process)
        return process is not None and process.state == READY

    def _say(self, level: str, message: str, **fields: Any) -> None:
        self._out.append(Say(level, message, fields))


def _shortens(asked: StopAsked, ending: Ending) -> bool:
    """Whether a second wish for a stop changes what the first one's requests have: `pingap down` twice only waits twice."""
    if asked.seconds is not None:
        return True
    return not asked.graceful and (ending.graceful or not asked.ticket)
