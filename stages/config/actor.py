"""The config actor: reads, watches and publishes; what follows from it is decided in core.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import Any, ClassVar, Final

from pingap.bus.actor import Actor, Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.replication import Change
from pingap.config.diff import MOST_NAMED, shortened
from pingap.config.followed import Followed, followed
from pingap.config.home import expanded
from pingap.config.model import Snapshot
from pingap.config.notes import notes_on
from pingap.config.problems import BadValue, ConfigRefused
from pingap.config.storage.base import Fingerprint, Readable, ReadOnce, Storage
from pingap.config.storage.file import prints_of
from pingap.config.storage.notice import Notice, directories_of
from pingap.observability.figures import NOTES
from pingap.observability.notices import DIFF_CONFIG, RELOAD_CONFIG, RELOAD_CONFIG_FAIL
from pingap.stages import keepsake
from pingap.stages.code_files import files_of
from pingap.stages.config import last
from pingap.stages.config.aside import aside, give_back
from pingap.stages.config.core import (
    DEADLINE,
    RELOAD,
    ROLLBACK,
    AnswerCame,
    Core,
    Event,
    Keep,
    Loaded,
    MembersCame,
    Publish,
    Read,
    ReadFailed,
    RollbackAsked,
    Stored,
    Tell,
    Ticked,
    UseTold,
    Who,
)
from pingap.stages.config.out_of_step import OutOfStep
from pingap.stages.config.watch import Watch
from pingap.stages.messages import Accepted, InUse, Refused
from pingap.stages.modules import origin

READING: Final = 20.0
"""Seconds that reading and checking may take."""

DRY_RUN: Final = "dry-run"

Load = Callable[[Readable], Snapshot]
Plans = Callable[[Snapshot], dict[str, int]]

Found = tuple[Loaded | tuple[str, ...], tuple[str, ...], Fingerprint, Fingerprint | None]
"""See `_load`."""

Seen = tuple[Fingerprint, Fingerprint]
"""Of the configuration, and of the files on which it depends besides."""


class ConfigActor(Actor):
    """storage: where the configuration is. follows: changes are taken over without being asked.

    load: a checked snapshot of it; raises ConfigRefused. plans: the itinerary flags of each location
    (stages/itinerary.py). Both are called in a thread of their own.
    """

    stage: ClassVar[str] = "config"

    def __init__(self, context: Context, storage: Storage, *, load: Load, plans: Plans, follows: bool = True) -> None:
        super().__init__(context)
        self._load = load
        self._plans = plans
        self._storage = storage
        self._core = Core(0)
        self._publish: Change | None = None
        self._first: asyncio.Future[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._follows = follows
        self._endings: list[Callable[[], None]] = []
        """What ends being told of changes."""
        self._wake = asyncio.Event()
        """A reload is asked for, or something may have changed."""
        self._is_looking = False
        self._out_of_step = OutOfStep()
        self._asked = 0
        """The number of the newest question for a reload that no read has begun for; 0 when there is none."""
        self._code: tuple[str, ...] = ()
        """Files of plugins that the user wrote, and of the modules beside them that they import."""
        self._kept: tuple[Stored, int] | None = None
        """What its next life begins with, and the run in which that was saved."""
        self._reads = 0
        self._refusals = 0
        self._reading = asyncio.Lock()
        self._trials: list[asyncio.Task[None]] = []

    def receivers(self) -> Receivers:
        return {Accepted: self._accepted, Refused: self._refused, InUse: self._in_use}

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready when there is a committed generation. Raises RuntimeError, with the reason, when the first one fails."""
        stored = None
        watch = Watch(None)  # nothing counts as read: the first look reads
        try:
            stored = last.restore(self.context.run_dir)
        except (ValueError, OSError) as error:
            self.context.log("warn", f"{last.NAME} of the run dir cannot be used", error=str(error))
        if stored is not None:
            self._kept = stored, keepsake.run_of(self.context.run_dir)
        self._core = Core(int(time() * 1000), stored)
        first = self._core.publication()
        self._publish = self.context.publish("config", first.value, first.blobs)
        self.members_changed(self.context.members, frozenset())
        if stored is not None:
            self.context.log("warn", "the config stage came back and goes on with the generation from before", generation=stored.number)
            self.context.ready()
        else:
            await self._first_generation(watch)
            self.context.ready()
        if self._follows:
            moved = partial(_wake_up, self.context.loop, self._wake)
            self._endings = [self._storage.follow(moved), Notice(lambda: directories_of(self._code), moved).end]
        self._watcher = self.context.loop.create_task(self._watch(watch))

    async def _first_generation(self, watch: Watch) -> None:
        self._first = self.context.loop.create_future()
        await self._read(watch, 0)
        try:
            await asyncio.wait_for(self._first, DEADLINE + 1)
        except TimeoutError:
            raise RuntimeError("no members table came from the supervisor") from None
        finally:
            self._first = None

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        for end in self._endings:
            end()
        for task in (self._watcher, *self._trials):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def told(self, word: str, args: Any) -> None:
        number = args[0] if args else 1
        if word == RELOAD:
            self._asked = number
            self._wake.set()
        elif word == ROLLBACK:
            self._feed(RollbackAsked(number))
        elif word == DRY_RUN:
            self._trials = [one for one in self._trials if not one.done()]
            self._trials.append(self.context.loop.create_task(self._dry_run(number)))

    def look_at_run_dir(self) -> None:
        if self._kept is not None and last.is_lost(self.context.run_dir, self._kept[1]):
            self._kept = self._kept[0], last.save(self.context.run_dir, self._kept[0])

    def figures(self) -> dict[str, float]:
        return {"generation": self._core.committed, "reads": self._reads, "refusals": self._refusals, NOTES: self._core.noted}

    # -- reading ------------------------------------------------------------------------

    async def _watch(self, watch: Watch) -> None:
        while True:
            try:
                await self._woken(watch.wait if self._follows else None)
                until = monotonic() + watch.rest(monotonic())
                while not self._asked and (left := until - monotonic()) > 0:
                    self._wake.clear()
                    await self._woken(left)
                asked, self._asked = self._asked, 0
                self._wake.clear()
                self._tell_trouble()
                if asked or (self._follows and await self._look(watch)):
                    await self._read(watch, asked)
            except Exception as error:  # a watcher that dies would be noticed only at the next edit
                self.context.log("error", "watching the configuration failed", error=repr(error))
                await asyncio.sleep(1)

    async def _woken(self, seconds: float | None) -> None:
        with suppress(TimeoutError):  # not wait_for: that of Python 3.11 may lose a cancellation that comes with the wake-up
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _tell_trouble(self) -> None:
        trouble = self._storage.trouble
        if line := self._out_of_step.line(trouble, monotonic()):
            self.context.log(*line, **({"reason": trouble} if trouble else {}))

    async def _look(self, watch: Watch) -> bool:
        """Whether there is something to read. One look at a time: a network file system that is gone lets none return."""
        if self._is_looking:
            return False

        def look() -> tuple[Seen, float]:
            began = monotonic()
            try:
                return self._seen(), monotonic() - began
            finally:
                self._is_looking = False

        self._is_looking = True
        try:
            seen, took = await aside(look, READING)
        except TimeoutError:
            self.context.log("error", f"the file system of the configuration has not answered for {READING:g} s")
            return False
        return watch.look(seen, monotonic(), took)

    def _seen(self) -> Seen:
        """Fingerprints of the configuration and of the plugins' code. It may take as long as the file system takes."""
        return self._storage.fingerprint(), prints_of(self._code)

    async def _dry_run(self, asked: int) -> None:
        """Reads and checks what is there now, tells what taking it would do, and takes nothing."""
        changed, lines, notes, problems = "", (), (), ()  # type: tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
        try:
            async with self._reading:
                found, _, _, _ = await aside(partial(_load, self._load, self._plans, self._storage), READING)
            if isinstance(found, Loaded):
                changed, lines, notes = self._core.compare(found)
            else:
                problems = found
        except Exception as error:  # who asked is owed an answer, whatever it is
            problems = (_why_not_checked(error),)
        self._report(Tell("info", "", self._core.committed, problems, notes, changed, asked, DRY_RUN, lines))

    async def _read(self, watch: Watch, asked: int) -> None:
        """Reads, checks and offers what is there now."""
        self._reads += 1
        event: Event
        try:
            async with self._reading:
                load = partial(_load, self._load, self._plans, self._storage)
                found, self._code, seen = await aside(partial(_watched, load, self._storage, self._code), READING)
            watch.read(seen)
            if isinstance(found, Loaded):
                found = found.anew()
                give_back()
                event = Read(found, asked)
            else:
                event = ReadFailed(found, asked)
        except Exception as error:  # who asked is owed an answer, whatever it is
            event = ReadFailed((_why_not_checked(error),), asked)
        self._feed(event)

    # -- messages ------------------------------------------------------------------------

    def _accepted(self, accepted: Accepted) -> None:
        self._feed(AnswerCame(accepted.actor, accepted.generation))

    def _refused(self, refused: Refused) -> None:
        self._feed(AnswerCame(refused.actor, refused.generation, refused.reason))

    def _in_use(self, in_use: InUse) -> None:
        self._feed(UseTold(in_use.actor, in_use.oldest))

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        if self._publish is not None and members.seq:
            self._feed(MembersCame({m.id: Who(m.stage, m.replica, m.state) for m in members.by_id.values()}))

    # -- doing what the core decides ---------------------------------------------------

    def _feed(self, event: Event) -> None:
        assert self._publish is not None
        for command in self._core.handle(event, monotonic()):
            match command:
                case Publish(value, blobs):
                    self._publish(value, blobs)
                case Keep(stored):
                    try:
                        self._kept = stored, last.save(self.context.run_dir, stored)
                    except OSError as error:
                        self.context.log("warn", f"{last.NAME} cannot be written; a restart of this stage would need it", error=str(error))
                case Tell():
                    self._tell(command)
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        deadline = self._core.deadline
        if deadline is not None:
            self._ticker = self.context.loop.call_later(max(0.0, deadline - monotonic()) + 0.001, self._feed, Ticked())
        if self._first is not None and self._core.committed and not self._first.done():
            self._first.set_result(None)

    def _tell(self, tell: Tell) -> None:
        self._refusals += bool(tell.problems)
        fields: dict[str, Any] = {"generation": tell.number} if tell.number else {}
        if tell.changed:
            fields["changed"] = tell.changed
        for key, texts in (("notes", tell.notes), ("problems", tell.problems)):
            if texts:
                fields[key] = shortened([_on_one_line(text) for text in texts], "; ")
        self.context.log(tell.level, tell.message, **fields)
        self._report(tell)
        self._notify(tell)
        if tell.problems and not tell.number and self._first is not None and not self._first.done():
            self._first.set_exception(RuntimeError("\n".join((tell.message, *tell.problems))))

    def _report(self, tell: Tell) -> None:
        outcome = {"number": tell.number, "problems": list(tell.problems), "notes": list(tell.notes), "changed": tell.changed}
        outcome |= {"difference": list(tell.difference), "config": self._core.configuration, "pending": list(self._core.pending())}
        self.context.report("generation", outcome | {"word": tell.word, "asked": tell.asked, "timings": self._core.timings})

    def _notify(self, tell: Tell) -> None:
        notice = self.context.notice
        if tell.problems:
            shown = shortened([_on_one_line(text) for text in tell.problems], "\n")
            notice(
                tell.level,
                RELOAD_CONFIG_FAIL,
                f"{tell.message}\n{shown}",
                generation=tell.number,
                problems=list(tell.problems[:MOST_NAMED]),
            )
        elif tell.difference:
            notice(
                tell.level,
                RELOAD_CONFIG,
                f"{tell.message}: {tell.changed}",
                generation=tell.number,
                changed=tell.changed,
                notes=list(tell.notes[:MOST_NAMED]),
            )
            notice("info", DIFF_CONFIG, "\n".join(tell.difference), generation=tell.number)


def _wake_up(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """From any thread."""
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(event.set)


def _why_not_checked(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"reading and checking took longer than {READING:g} s and was given up"
    if isinstance(error, RuntimeError):
        return f"checking failed: {error}"  # it tried to exit the process
    return f"checking failed: {type(error).__name__}: {error}"


def _on_one_line(problem: str) -> str:
    """A problem for the log: the message, the hint in parentheses."""
    message, *hints = (line.strip() for line in problem.splitlines())
    return f"{message} ({' '.join(hints)})" if hints else message


def _watched(load: Callable[[], Found], storage: Storage, code: tuple[str, ...]) -> tuple[Loaded | tuple[str, ...], tuple[str, ...], Seen]:
    """What `load` gives, and all of that as it was seen before: what changes while it is read has yet to be read.

    code: the files on which it depended the last time.
    """
    source, known = storage.fingerprint(), prints_of(code)
    found, files, looked, exact = load()
    before = {entry[0]: entry for entry in (*looked, *known)}
    return found, files, (source if exact is None else exact, tuple(before.get(entry[0], entry) for entry in prints_of(files)))


def _load(load: Load, plans: Plans, storage: Readable) -> Found:
    """What is there, or all that is wrong with it; the files on which that depends besides; their prints before it was read; and
    of the storage, where it knows, that of what was read.
    """
    problems: tuple[str, ...]
    storage = ReadOnce(storage)
    written: tuple[str, ...] = ()
    looked: Fingerprint = ()
    try:
        named = _named_in(storage)
        written = (*_code_files(named.plugins, storage.base), *named.files)
        looked = prints_of(written)
        snapshot = load(storage)
        notes = tuple(map(str, notes_on(snapshot)))
        loaded = Loaded.of(snapshot, plans(snapshot), notes)  # what cannot travel is refused here rather than lost on the way
        return loaded, (*_code_files(snapshot.plugins), *named.files), looked, storage.fingerprint
    except ConfigRefused as refused:
        problems = tuple(map(str, refused.problems))
    except Exception as error:
        problems = (f"checking failed: {type(error).__name__}: {error}",)
    return problems, written, looked, storage.fingerprint


def _named_in(storage: Readable) -> Followed:
    with suppress(ConfigRefused):
        return followed(storage.read().documents)
    return Followed()


def _code_files(plugins: Mapping[str, Any], base: str = "") -> tuple[str, ...]:
    """The files of plugins of category `python`. base: where relative paths start; checked ones are absolute."""
    files: set[str] = set()
    for table in plugins.values():
        if not isinstance(table, dict) or table.get("category") != "python":
            continue
        if isinstance(path := table.get("path"), str):
            with suppress(BadValue):  # loading it said why it is no path
                files.update(files_of(os.path.normpath(os.path.join(os.path.abspath(base), expanded(path)))))
        elif isinstance(module := table.get("module"), str):
            with suppress(Exception):  # of a finder that is not Python's own; loading it said how
                if found := origin(module):
                    files.update(files_of(found, module))
    return tuple(sorted(files))
