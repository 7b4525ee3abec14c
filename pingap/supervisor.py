"""The supervisor: one loop that starts the processes, listens to them and does what `plan.Fleet` decides.

Signal handlers, the spawner, the control socket and the clock only queue events;
`_turn` hands them to the fleet, one after the other, and carries out its commands.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pingap import limits, topology
from pingap.about import version
from pingap.bus import output
from pingap.bus.link import Curve, Link
from pingap.bus.liveness import BEAT, SILENCE
from pingap.bus.members import STARTING, Members
from pingap.config.diff import shortened
from pingap.control import Control
from pingap.face import since_start
from pingap.form import form, stale
from pingap.launch import Face, Prepared
from pingap.listeners import BindFailed
from pingap.own_words import OwnWords
from pingap.plan import Fleet
from pingap.plan_words import (
    Announce,
    Answer,
    Began,
    CloseListeners,
    Command,
    Drain,
    Event,
    Exited,
    Finish,
    Fork,
    Forked,
    Kill,
    KillSpawner,
    Retire,
    Say,
    SpawnerLost,
    Stop,
    StopAsked,
    TellReady,
    TimePassed,
    Timings,
    TimingsChanged,
)
from pingap.ps_table import outcome_of, span
from pingap.rows import Row, actor_rows, plain_row
from pingap.rundir import RunDir, RunDirError
from pingap.service import process_one
from pingap.service.pid_file import PidFileError
from pingap.service.unit import Unit
from pingap.signals import STOPS
from pingap.spawning import SpawnerHandle
from pingap.succession.autorestart import Autorestart
from pingap.succession.stand_in import HEARD
from pingap.succession.succession import HURRY, Succession

LAST_MESSAGE: Final = 0.05
"""Seconds between a process's end and believing that it has not said why over the bus."""

LAST_WORDS: Final = 0.25
"""Seconds that the spawner gets to say how a process ended."""

RUN_DIR_PAUSE: Final = 60.0
"""Seconds between two words on a run dir that cannot be made anew."""


HEARD_BY_BOTH: Final = (*STOPS, signal.SIGUSR1)
"""Signals that concern an instance that drains, too, and not only the one that serves: its log is to be reopened as well."""


class Supervisor:
    """From the first fork to the last exit."""

    def __init__(self, prepared: Prepared, run_dir: RunDir, spawner: SpawnerHandle, face: Face) -> None:
        self._loop = asyncio.get_running_loop()
        self._launch = prepared.launch
        self._snapshot = prepared.snapshot
        self._listeners = prepared.listeners
        self._actors = {row.name: row.actor for row in prepared.launch.rows}
        self._run_dir = run_dir
        self._spawner = spawner
        self._face = face
        self._ended: asyncio.Future[Finish] = self._loop.create_future()
        self._events: deque[Event] = deque()
        self._turning = False
        self._timer: asyncio.TimerHandle | None = None
        self._beaten = 0.0
        self._tell_run_dir = 0.0
        self._began = time.monotonic()
        self._pids: dict[int, int] = {}
        self._handles: dict[int, int] = {}
        """Process key → its pidfd: no pid that was given to another process is ever killed."""
        self._is_process_one = process_one.is_this()
        self._committed = 0
        self._configuration = ""
        """A hash of the configuration that runs."""
        self._outcome: dict[str, Any] | None = None
        """The last configuration that was taken or refused."""
        basic, bus = prepared.snapshot.basic, prepared.snapshot.bus
        self._pid_path, self._made_pid_file = basic.pid_file, prepared.pid_file
        self._curve = [bus.public_key, bus.secret_key] if bus.public_key and bus.secret_key else None
        self._link = Link(self._loop, Curve(*(key.encode() for key in self._curve)) if self._curve else None)
        timings = Timings(basic.graceful_shutdown_timeout, basic.grace_period)
        self._fleet = Fleet(prepared.roles, self._endpoint, timings, lambda actors: limits.too_many(actors, len(prepared.listeners.all())))
        self._says = OwnWords(self._link, self._fleet)
        self._unit = Unit(prepared.launch.service, prepared.roles, self._says.log)
        self._control = Control(self._link, run_dir.own.path, self._fleet, self._feed, self._reported, self._questions())
        before, manager = prepared.launch.predecessor, prepared.launch.service
        listeners, answer = prepared.listeners.all, self._control.answer
        self._succession = Succession(run_dir, before, listeners, self._fleet.scaled, manager, self._says, self._feed, answer)
        self._autorestart = Autorestart(basic.auto_restart_check_interval) if prepared.launch.restarts_itself else None
        self._control.why_not_scaled = lambda: "an upgrade is under way" if self._succession.is_under_way else ""
        self._control.slow["upgrade"] = lambda ticket, args: self._succession.begin(args[0] if args else (), ticket)

    def _questions(self) -> dict[str, Callable[[tuple[Any, ...]], Any]]:
        return {
            "ps": lambda _: self.rows(),
            "restart": lambda _: self._may_restart(),
            "kill": lambda args: self._kill_one(*args),
            "listeners": lambda _: self._listeners.rows(),
        }

    async def serve(self) -> Finish:
        """Starts everything and serves until it is stopped."""
        self._loop.set_exception_handler(self._loop_failed)
        self._watch_signals()
        try:
            self._succession.take_pid_file(self._pid_path, self._made_pid_file)
            self._spawner.attach(self._spawner_said, self._spawner_lost, self._spawner_back)
            self._spawner.listen(self._listeners.all())
            self._feed(Began())
            finish = await self._ended
            if self.stands_in:  # from here until it does, a signal waits
                signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
                await asyncio.sleep(0.01)  # one that came before is passed on
            return finish
        finally:
            self._close()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._says.say()
        self._listeners.close(self._listeners.all())
        for key in list(self._handles):
            self._kill(key)
        self._link.close()
        self._succession.close()

    # -- events in --------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        self._events.append(event)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self._timer is not None:
            self._timer.cancel()
        events, self._events = self._events, deque()
        for event in events or (TimePassed(),):
            if isinstance(event, StopAsked):
                self._tell_stop(event)
                if not event.has_successor:
                    self._succession.stop(not (event.graceful or event.is_restart or event.seconds is not None))
            for command in self._fleet.handle(event, time.monotonic()):
                try:
                    self._perform(command)
                except Exception:  # one command that fails must not keep the others from being carried out
                    self._says.log("error", f"the supervisor failed at {type(command).__name__}", traceback=traceback.format_exc())
        now = time.monotonic()
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._control.beat()
            if not self._spawner.beat(now):
                self._says.log("error", f"the spawner was silent for {SILENCE:g} s and is killed")
            self._look_at_run_dir(now)
            self._restart_if_due(now)
            if self._is_process_one:
                process_one.bury({*self._pids.values(), self._spawner.pid, *self._succession.children()})
            output.retry()
        self._unit.beat(self._fleet.processes.values(), now)
        if not self._ended.done():
            wait = min(self._fleet.deadline(now), self._beaten + BEAT) - now
            self._timer = self._loop.call_later(max(0.001, wait), self._turn)

    def _look_at_run_dir(self, now: float) -> None:
        """Cleaners of /tmp remove what looks old: with each heartbeat, what is missing is made anew."""
        try:
            restored = self._run_dir.restore()
            restored += [path.rpartition("/")[2] for path in self._link.restore()]
            restored += self._succession.restore()
        except (OSError, RunDirError, PidFileError) as error:
            if now >= self._tell_run_dir:
                self._tell_run_dir = now + RUN_DIR_PAUSE
                self._says.log("error", f"the run dir cannot be made anew: {error}")
            return
        if restored:
            self._says.log("warn", f"made anew in the run dir, where somebody had removed it: {', '.join(restored)}")

    def _restart_if_due(self, now: float) -> None:
        is_free = not self._fleet.is_stopping and not self._succession.is_under_way
        if self._autorestart is not None and is_free and (paths := self._autorestart.due(now)):
            self._says.log("info", "upgrades itself, for what only a restart applies", changed=shortened(paths))
            self._succession.begin()

    @property
    def starts_again(self) -> bool:
        """Somebody asked for a restart: the same command line is to be run anew in this process."""
        return self._fleet.starts_again

    @property
    def stands_in(self) -> bool:
        """Another instance serves, and whoever has started this process waits for its end."""
        successor = self._succession.successor
        return successor is not None and self._launch.is_awaited and (successor.child is not None or os.getpid() == 1)

    def _tell_stop(self, asked: StopAsked) -> None:
        if asked.has_successor:
            self._unit.over()
        elif not self._fleet.is_stopping:
            what = "pingap restarts" if asked.is_restart else "pingap goes down"
            self._says.log("info", what, version=version(), uptime=span(time.monotonic() - self._began))
            self._unit.stopping(asked.is_restart)

    def _may_restart(self) -> bool:
        return self.starts_again or not self._fleet.is_stopping

    def _kill_one(self, stage: str, replica: int) -> dict[str, Any]:
        """Kills a process as its own fault would; what follows is what always does."""
        if stage == "spawner":
            pid = self._spawner.pid
            self._spawner.kill()
            return {"process": "spawner", "pid": pid, "stages": []}
        for process in self._fleet.processes.values():
            if stage in (*process.role.stages, process.role.name) and process.replica == replica and process.key in self._handles:
                self._kill(process.key)
                return {"process": process.name, "pid": process.pid, "stages": list(process.role.stages)}
        there = {f"{name}.{process.replica}" for process in self._fleet.processes.values() for name in process.role.stages}
        return {"refused": f"there is no {stage}.{replica}; there are {', '.join(sorted(there))}"}

    def _watch_signals(self) -> None:
        def tell(word: str, stage: str = "") -> None:
            if self._fleet.is_stopping and word == "reload":
                return
            is_told = self._control.tell(word, stage)
            if not is_told:
                self._says.log("warn", f"nobody is there to {word}")
            if word == "reopen":
                output.reopen()
                self._spawner.print_anew()
            elif is_told:
                self._unit.reloading(time.monotonic())

        def on(number: signal.Signals, do: Callable[..., object], *args: Any) -> None:
            def heard() -> None:
                if not self._succession.forward(number) or number in HEARD_BY_BOTH:
                    do(*args)

            self._loop.add_signal_handler(number, heard)

        on(signal.SIGTERM, self._feed, StopAsked(False))
        on(signal.SIGINT, self._feed, StopAsked(False))
        on(signal.SIGQUIT, self._feed, StopAsked(True))
        self._loop.add_signal_handler(HURRY, self._hurry)
        on(signal.SIGHUP, tell, "reload", "config")
        on(signal.SIGUSR1, tell, "reopen")
        on(signal.SIGUSR2, self._succession.begin)

    def _hurry(self) -> None:
        if self._succession.successor is not None:
            self._feed(StopAsked(False))

    def _spawner_said(self, said: dict[str, Any]) -> None:
        if said["said"] == "forked":
            key, pid = said["process"], said["pid"]
            self._pids[key] = pid
            try:
                handle = self._handles[key] = os.pidfd_open(pid)
                self._loop.add_reader(handle, self._is_gone, key, handle)
            except ProcessLookupError:
                pass  # it may have ended already; `exited` follows
            except OSError as error:
                self._says.log("error", f"no handle on process {pid}: {limits.explained(error)}")
            self._record()
            self._feed(Forked(key, pid))
        elif said["said"] == "unforked":
            self._process_ended(said["process"], said["reason"])
        elif said["said"] == "exited":
            key = next((key for key, pid in self._pids.items() if pid == said["pid"]), 0)
            process = self._fleet.processes.get(key)
            if process is not None and process.state == STARTING and said["status"] > 0 and not said["words"]:
                self._loop.call_later(LAST_MESSAGE, self._process_ended, key, _exit_text(said["status"], ""))
            elif key:
                self._process_ended(key, _exit_text(said["status"], said["words"]))
        else:
            self._says.log("error", f"the spawner cannot start: {said['reason']}")

    def _spawner_lost(self) -> None:
        self._says.log("error", "the spawner died: another is started, the processes go on")

    def _spawner_back(self) -> None:
        self._spawner.listen(self._listeners.all())
        self._record()
        self._feed(SpawnerLost())

    def _is_gone(self, key: int, handle: int) -> None:
        """A pidfd has told. The spawner knows more, if it is its child and the spawner is not stopped or gone."""
        self._loop.remove_reader(handle)
        self._loop.call_later(LAST_WORDS, self._ended_unsaid, key)

    def _ended_unsaid(self, key: int) -> None:
        if key in self._handles:
            self._process_ended(key, "ended")

    def _process_ended(self, key: int, reason: str) -> None:
        handle = self._handles.pop(key, None)
        if handle is not None:
            self._loop.remove_reader(handle)
            with suppress(OSError):  # as process 1 of a container the orphans are ours to bury
                os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
            os.close(handle)
        self._pids.pop(key, 0)
        self._record()
        self._control.forget(key)
        process = self._fleet.processes.get(key)
        if process is not None:
            for actor, stage in zip(process.ids, process.role.stages, strict=True):
                self._run_dir.own.forget_socket(f"{stage}.{process.replica}.{actor}")
        self._feed(Exited(key, reason))

    def _record(self) -> None:
        self._run_dir.record([*self._pids.values(), self._spawner.pid])

    def _reported(self, word: str, value: Any) -> None:
        if word == "generation":
            if _is_remembered(value):
                self._outcome = outcome_of(value, time.time())
            self._configuration = value.get("config", "")
            self._control.of_stages.settle(value.get("word", "reload"), value.get("asked", 0), value)
            self._unit.reloaded(value)
            if self._autorestart is not None and not value["problems"]:
                self._autorestart.told(value.get("pending", ()), time.monotonic())
            if value["number"] != self._committed and value.get("timings"):
                self._committed = value["number"]
                self._feed(TimingsChanged(Timings(*value["timings"])))  # all else in a generation is for the stages
        elif word == "workers":
            self._spawner.work(topology.WORKER_JOB, value)
        else:
            self._says.log("info", f"{word}: {value}")

    # -- commands out ------------------------------------------------------------------------

    def _perform(self, command: Command) -> None:
        match command:
            case Fork():
                self._fork(command)
            case Announce(seq, newest, rows):
                self._link.set_members(Members.of(seq, newest, rows))
                self._control.announce(command)
                self._says.say()
            case Drain():
                self._control.drain(command)
            case Stop(key):
                if not self._control.stop(key):
                    self._kill(key)
            case Kill(key):
                self._kill(key)
            case Retire(role, replica):
                self._spawner.forget(self._listeners.close(self._listeners.own((role, replica))))
            case CloseListeners():
                self._spawner.forget(self._listeners.close(self._listeners.all()))
            case KillSpawner():
                self._spawner.kill()
            case Say(level, message, fields):
                self._says.log(level, message, **fields)
            case Answer(ticket, ok, value):
                self._control.answer(ticket, ok, value)
            case TellReady():
                self._succession.relieve(self._tell_ready)
            case Finish():
                if not self._ended.done():
                    self._ended.set_result(command)

    def _tell_ready(self) -> None:
        self._says.log("info", "pingap is up", version=version(), form=str(form()), seconds=round(since_start(), 2))
        if changed := stale():
            more = f" and {len(changed) - 1} more" if changed[1:] else ""
            self._says.log("warn", "what runs is not what the source says", changed=changed[0] + more, hint="make fast")
        self._face.ready(actor_rows(self._fleet, {}, self._endpoint), self._listeners.urls())
        self._unit.ready(self._listeners.urls())

    def _fork(self, fork: Fork) -> None:
        owner = (fork.role.name, fork.replica)
        if "accept" in fork.role.stages:
            try:
                self._spawner.listen(self._listeners.bind_own(owner))
            except BindFailed as failed:
                self._says.log("error", f"{fork.role.name}.{fork.replica} cannot have the addresses with reuse_port: {failed}")
        seats = []
        for actor, stage in zip(fork.ids, fork.role.stages, strict=True):
            log = self._launch.options.log or self._snapshot.basic.error_log
            settings = topology.settings(stage, fork.role, fork.ids, self._launch.options, log)
            if stage in ("accept", topology.DEMO):
                those = self._listeners.of(owner) if stage == "accept" else self._listeners.own(owner)
                settings["listeners"] = [{"key": one.key, "server": one.server, "addr": one.addr} for one in those]
            seats.append(
                {
                    "id": actor,
                    "stage": stage,
                    "replica": fork.replica,
                    "endpoint": self._endpoint(stage, fork.replica, actor),
                    "actor": self._actors[stage],
                    "settings": settings,
                }
            )
        title = "pingap: demo" if fork.role.name == topology.DEMO else f"pingap: {fork.role.name}.{fork.replica}"
        order = {"process": fork.process, "title": title, "run_dir": self._run_dir.own.path, "seats": seats}
        self._spawner.fork(order | {"cpus": list(fork.role.cpus), "curve": self._curve})

    def _kill(self, key: int) -> None:
        handle = self._handles.get(key)
        if handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def _endpoint(self, stage: str, replica: int, actor: int) -> str:
        return topology.endpoint(self._run_dir.own.path, self._snapshot, stage, replica, actor)

    def _loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self._says.log("error", str(context.get("message", "unhandled error")), error=repr(error), traceback=text)

    def rows(self) -> list[Row]:
        """What `pingap ps` shows."""
        state = "stopping" if self._fleet.is_stopping else "ready" if self._fleet.is_up else "starting"
        head = plain_row("supervisor", 0, os.getpid(), state) | self._status()
        spawner = plain_row("spawner", 0, self._spawner.pid, "ready", self._spawner.restarts)
        return [head, spawner, *actor_rows(self._fleet, self._control.figures, self._endpoint)]

    def _status(self) -> Row:
        """What only the supervisor's row has."""
        uptime = round(time.monotonic() - self._began, 2)
        status = {"version": version(), "form": str(form()), "uptime": uptime, "generation": self._committed, "reload": self._outcome}
        return status | {"config": self._configuration, "predecessors": self._run_dir.predecessors()}


def _exit_text(status: int, words: str) -> str:
    if status >= 0:
        return f"exited with status {status}" + (f": {words}" if words else "")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if -status == signal.SIGABRT:
        name += f", as ZeroMQ ends a process that can have no more: {limits.processes()}; {limits.descriptors()}"
    return f"was killed by {name}"


def _is_remembered(outcome: dict[str, Any]) -> bool:
    """Whether `ps` tells of it: of what was taken, and of files that cannot be."""
    match outcome.get("word", "reload"):
        case "reload":
            return bool(outcome.get("problems")) or outcome.get("changed") != "nothing changed"
        case "rollback":
            return not outcome.get("problems")
    return False
