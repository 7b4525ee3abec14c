"""Decides which configuration generation is offered, committed, withdrawn and retired (bus/PROTOCOL.md section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

import msgspec

from pingap.config.diff import Changes, diff, restarted_only, shortened
from pingap.config.difference import difference
from pingap.config.model import Snapshot
from pingap.config.problems import path_of
from pingap.config.secrecy import without_secrets_of_plugins
from pingap.stages.bundles import Packed, apart, items_of, packed, unpacked
from pingap.stages.steps import finished

WAITED: Final = frozenset(("accept", "routing", "plugins", "upstream", "discovery", "logging", "metrics", "acme"))
"""Stages whose actors must have compiled a generation before it is committed."""

DEADLINE: Final = 5.0
"""Seconds that a candidate waits for them."""

KEPT: Final = 16
"""Committed generations that stages keep at most, however long a stream clings to an old one."""

RELOAD: Final = "reload"
ROLLBACK: Final = "rollback"
"""Of what an outcome tells."""

STARTING: Final = "starting"
DRAINING: Final = "draining"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that was read and checked."""

    snapshot: Snapshot
    """Its locations are `OnTheWay`: as objects they would take ten times what they take packed."""
    plans: Mapping[str, int]
    """Itinerary flags by location."""
    packed: Packed
    """Both, as published."""
    notes: tuple[str, ...] = ()
    """What was to be said of it when it was read: that takes the system's data base of users, and a look at each certificate."""

    @property
    def digest(self) -> str:
        """The same for the same configuration wherever it runs, with all that its texts refer to and with the code of plugins.

        It is of secrets too, or two that differ in a password alone would look alike: it is for who may read the configuration.
        """
        parts = {section: list(map(bytes, digests)) for section, digests in self.packed.contents.items()}
        rest = Snapshot(stages=self.snapshot.stages, bus=self.snapshot.bus).to_wire()
        return blake2b(msgspec.msgpack.encode([parts, rest], order="deterministic"), digest_size=6).hexdigest()

    @classmethod
    def of(cls, snapshot: Snapshot, plans: Mapping[str, int], notes: tuple[str, ...] = ()) -> Loaded:
        """Packs it. Raises TypeError and the like for what cannot travel."""
        all_of_it = packed(snapshot, plans)
        locations = items_of("locations", all_of_it.contents["locations"], all_of_it.blobs)
        return cls(replace(snapshot, locations=locations), plans, all_of_it, notes)

    def anew(self) -> Loaded:
        """The same out of its bundles. What was read lies in the midst of all that reading left, and keeps the memory of that."""
        snapshot, plans = finished(unpacked(self.packed.contents, self.packed.blobs, keeps=False))
        read = self.snapshot
        whole = replace(snapshot, stages=read.stages, bus=read.bus, notes=read.notes, secret=read.secret)
        return Loaded(whole, plans, self.packed, self.notes)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an earlier life of this actor committed."""

    number: int
    loaded: Loaded
    booted: Snapshot
    """What pingap was started with, as far as only a restart changes it."""
    previous: Loaded | None = None
    """What ran before it: a rollback goes there."""
    rejected: Loaded | None = None
    """What a rollback went back from, as long as the files may still say so."""


@dataclass(frozen=True, slots=True)
class Who:
    """An actor of the members table."""

    stage: str
    replica: int
    state: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.replica}"


# -- events ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """The configuration was read. asked: the number of the newest question that this answers (TELL), 0 when nobody asked."""

    loaded: Loaded
    asked: int = 0


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """It was read and is broken."""

    problems: tuple[str, ...]
    asked: int = 0


@dataclass(frozen=True, slots=True)
class AnswerCame:
    """ACCEPTED, or REFUSED with a reason."""

    actor: int
    number: int
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class UseTold:
    """IN_USE of an accept actor."""

    actor: int
    oldest: int


@dataclass(frozen=True, slots=True)
class MembersCame:
    """A new members table."""

    members: Mapping[int, Who]


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed; `Core.deadline` says when this is wanted."""


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """Somebody wants the generation before, and waits for the outcome."""

    asked: int = 1


Event = Read | RollbackAsked | ReadFailed | AnswerCame | UseTold | MembersCame | Ticked


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """The value of topic config has changed."""

    value: dict[str, Any]
    blobs: dict[bytes, bytes]
    """The bundles of the generations in it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Store for the next life, before anybody hears of the commit."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Tell:
    """An outcome, for the log and for the operator: see `outcome` in actor.py."""

    level: str
    message: str
    number: int
    """The generation that runs now, 0 if none does."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    changed: str = ""
    """One line that names what changed."""
    asked: int = 0
    """As in Read."""
    word: str = RELOAD
    """What it is the outcome of."""
    difference: tuple[str, ...] = ()
    """Lines that say what was and what is, without secrets (config/difference.py)."""


Command = Publish | Keep | Tell


@dataclass(slots=True)
class _Candidate:
    number: int
    loaded: Loaded
    deadline: float
    asked: int
    word: str = RELOAD
    accepted: set[int] = field(default_factory=set)


class Core:
    """One life of the config actor. first: the number of the first generation, above any earlier one."""

    def __init__(self, first: int, stored: Stored | None = None) -> None:
        self._next = max(first, stored.number + 1 if stored else 0)
        self._committed = stored.number if stored else 0
        self._current = stored.loaded if stored else None
        self._booted = stored.booted if stored else None
        self._previous = stored.previous if stored else None
        self._rejected = stored.rejected if stored else None
        self._history = [self._committed] if stored else []
        self._candidate: _Candidate | None = None
        self._queued: Read | None = None
        self._members: Mapping[int, Who] | None = None
        self._use: dict[int, int] = {}
        self._oldest = 0
        self._problems: tuple[str, ...] = ()
        self.noted = len(self._notes(stored.loaded)) if stored else 0
        """Notes on the running generation."""

    @property
    def committed(self) -> int:
        """Number of the running generation; 0 before the first."""
        return self._committed

    @property
    def configuration(self) -> str:
        """A hash of the running configuration; "" before the first."""
        return self._current.digest if self._current is not None else ""

    @property
    def timings(self) -> tuple[float, float] | None:
        """How long drains may take by the running generation (basic.graceful_shutdown_timeout, basic.grace_period)."""
        if self._current is None:
            return None
        basic = self._current.snapshot.basic
        return basic.graceful_shutdown_timeout, basic.grace_period

    @property
    def deadline(self) -> float | None:
        """When `Ticked` is wanted (monotonic seconds), None for never."""
        return self._candidate.deadline if self._candidate else None

    def value(self) -> dict[str, Any]:
        """The value of topic config."""
        return {
            "committed": self._committed,
            "current": self._current.packed.contents if self._current else None,
            "candidate": self._candidate.number if self._candidate else 0,
            "next": self._candidate.loaded.packed.contents if self._candidate else None,
            "oldest": self._oldest,
            "problems": list(self._problems),
        }

    def publication(self) -> Publish:
        """What every stage is to hear now."""
        blobs = dict(self._current.packed.blobs) if self._current else {}
        if self._candidate:
            blobs |= self._candidate.loaded.packed.blobs
        return Publish(self.value(), blobs)

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done, in this order. `now`: monotonic seconds."""
        match event:
            case Read():
                return self._read(event, now)
            case ReadFailed(problems, asked):
                return self._broken(problems, asked)
            case RollbackAsked(asked):
                return self._roll_back(asked, now)
            case AnswerCame():
                return self._answered(event, now)
            case UseTold(actor, oldest):
                self._use[actor] = oldest
                return self._retired()
            case MembersCame(members):
                self._members = members
                for actor in self._use.keys() - members.keys():
                    del self._use[actor]
                return [*self._settled(now), *self._retired()]
            case Ticked():
                return self._settled(now)

    # -- reading -----------------------------------------------------------------------

    def _read(self, read: Read, now: float) -> list[Command]:
        if self._candidate is not None:
            # Only the last of several edits counts, but who asked for one of them is still owed an outcome.
            self._queued = Read(read.loaded, max(read.asked, self._queued.asked if self._queued is not None else 0))
            return []
        loaded, current = read.loaded, self._current
        if current is not None and _is_same(current, loaded):
            was_broken, self._problems = bool(self._problems), ()
            if not (was_broken or read.asked):
                return []
            told = Tell("info", "configuration unchanged", self._committed, (), self._notes(loaded), "nothing changed", read.asked)
            return [self.publication(), told] if was_broken else [told]
        if self._rejected is not None and not read.asked and _is_same(self._rejected, loaded):
            # The files still say what was gone back from: only an edit, or a reload, takes them again.
            was_broken, self._problems = bool(self._problems), ()
            return [self.publication()] if was_broken else []
        return self._offer(loaded, now, read.asked, RELOAD)

    def _offer(self, loaded: Loaded, now: float, asked: int, word: str) -> list[Command]:
        self._problems = ()
        self._candidate = _Candidate(self._next, loaded, now + DEADLINE, asked, word)
        self._next += 1
        return [self.publication(), *self._settled(now)]

    def _roll_back(self, asked: int, now: float) -> list[Command]:
        reason = ""
        if self._candidate is not None:
            reason = f"generation {self._candidate.number} is being taken at this moment: ask again"
        elif self._previous is None:
            reason = "no generation before this one is known"
        if reason or self._previous is None:
            return [Tell("warn", "no rollback", self._committed, (reason,), asked=asked, word=ROLLBACK)]
        return self._offer(self._previous, now, asked, ROLLBACK)

    def compare(self, loaded: Loaded) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """(what taking it would change in one line, the same at length, what would be said of it), changing nothing."""
        changed, lines = ("", ()) if self._current is None else _changed(self._current, loaded)
        return changed or "nothing changed", lines, self._notes(loaded)

    def _broken(self, problems: tuple[str, ...], asked: int) -> list[Command]:
        if self._queued is not None:  # the file has moved on from what waits: it must not be tried any more
            asked, self._queued = max(asked, self._queued.asked), None
        if problems == self._problems and not asked:
            return []
        self._problems = problems
        return [self.publication(), self._refusal("configuration refused", problems, asked)]

    def _refusal(self, message: str, problems: tuple[str, ...], asked: int, word: str = RELOAD) -> Tell:
        stays = f": generation {self._committed} goes on" if self._committed else ""
        return Tell("error", message + stays, self._committed, problems, asked=asked, word=word)

    # -- the candidate -----------------------------------------------------------------

    def _answered(self, answer: AnswerCame, now: float) -> list[Command]:
        candidate = self._candidate
        who = self._members.get(answer.actor) if self._members else None
        if candidate is not None and answer.number == candidate.number:
            if answer.refusal is None:
                candidate.accepted.add(answer.actor)
                return self._settled(now)
            return self._withdrawn((_refused(who or answer.actor, answer.refusal, candidate.loaded),), now)
        if answer.refusal is not None and answer.number == self._committed:
            # An actor that came later than the commit: it cannot serve, and only a new generation can help it.
            problem = _refused(who or answer.actor, answer.refusal, self._current)
            return [Tell("error", f"generation {answer.number} refused by a new actor", self._committed, (problem,))]
        return []

    def _settled(self, now: float) -> list[Command]:
        """Commits the candidate once all have accepted it, or ends it at its deadline."""
        candidate = self._candidate
        if candidate is None or self._members is None:
            return []
        silent = [
            who for actor, who in self._members.items() if who.stage in WAITED and who.state != DRAINING and actor not in candidate.accepted
        ]
        if silent and now < candidate.deadline:
            return []
        # One that has not come up yet serves nobody. It takes the generation when it does, or fails to start.
        late = sorted(str(who) for who in silent if who.state != STARTING)
        if late:
            return self._withdrawn((f"no answer within {DEADLINE:g} s from {', '.join(late)}",), now)
        return self._commit(candidate, now)

    def _commit(self, candidate: _Candidate, now: float) -> list[Command]:
        before, loaded = self._current, candidate.loaded
        self._committed, self._current, self._candidate = candidate.number, loaded, None
        self._previous, self._rejected = before, before if candidate.word == ROLLBACK else None
        self._booted = self._booted or restarted_only(loaded.snapshot)
        self._history = [*self._history, candidate.number][-KEPT:]
        self._oldest = self._oldest_in_use()
        changed, lines = ("", ()) if before is None else _changed(before, loaded)
        notes = self._notes(loaded)
        self.noted = len(notes)
        message = "configuration rolled back" if candidate.word == ROLLBACK else "configuration committed"
        return [
            Keep(Stored(candidate.number, loaded, self._booted, self._previous, self._rejected)),
            self.publication(),
            Tell("warn" if notes else "info", message, candidate.number, (), notes, changed, candidate.asked, candidate.word, lines),
            *self._next_one(now),
        ]

    def _withdrawn(self, problems: tuple[str, ...], now: float) -> list[Command]:
        assert self._candidate is not None
        asked, word, self._candidate = self._candidate.asked, self._candidate.word, None
        self._problems = problems
        return [self.publication(), self._refusal("configuration withdrawn", problems, asked, word), *self._next_one(now)]

    def _next_one(self, now: float) -> list[Command]:
        queued, self._queued = self._queued, None
        return self._read(queued, now) if queued is not None else []

    def _notes(self, loaded: Loaded) -> tuple[str, ...]:
        """What is said in vain, and what differs from that with which this pingap was started and waits for a restart."""
        return (*(f"{path}: needs a restart of pingap" for path in self._pending(loaded)), *loaded.notes)

    def _pending(self, loaded: Loaded) -> tuple[str, ...]:
        return diff(self._booted, restarted_only(loaded.snapshot)).restart if self._booted is not None else ()

    def pending(self) -> tuple[str, ...]:
        """Paths of keys that wait for a restart: what runs now differs in them from what this pingap was started with."""
        return self._pending(self._current) if self._current is not None else ()

    # -- retiring ----------------------------------------------------------------------

    def _retired(self) -> list[Command]:
        """Announces when nothing but the newest is in use; a step in between travels with the next commit."""
        oldest = self._oldest_in_use()
        if self._committed and oldest == self._committed and oldest != self._oldest:
            self._oldest = oldest
            return [self.publication()]
        return []

    def _oldest_in_use(self) -> int:
        # A ready accept that has told nothing (this actor is new) may have streams of any generation; a starting one has none.
        told = min(
            (
                self._use.get(actor, 0)
                for actor, who in (self._members or {}).items()
                if who.stage == "accept" and (who.state != STARTING or actor in self._use)
            ),
            default=0,
        )
        floor = self._history[0] if len(self._history) >= KEPT else 0
        return min(max(told, floor), self._committed)


def _refused(who: Who | int, reason: str, loaded: Loaded | None) -> str:
    """A problem that an actor has with a configuration. A plugin may say anything, so that its secrets are taken out."""
    read = loaded.snapshot if loaded is not None else Snapshot()
    return f"{who}: {without_secrets_of_plugins(reason, read.plugins, frozenset(read.secret))}"


def _is_same(old: Loaded, new: Loaded) -> bool:
    # New code under an unchanged configuration is a new generation.
    same_code = old.snapshot.code == new.snapshot.code
    return same_code and old.plans == new.plans and not diff(*_apart(old, new))


def _apart(old: Loaded, new: Loaded) -> tuple[Snapshot, Snapshot]:
    """Both without those of their locations that are the same."""
    before, after = apart(old.packed, new.packed)
    return replace(old.snapshot, locations=dict(before.items())), replace(new.snapshot, locations=dict(after.items()))


def _changed(old: Loaded, new: Loaded) -> tuple[str, tuple[str, ...]]:
    """What differs: in one line, and in many."""
    before, after = _apart(old, new)
    changes: Changes = diff(before, after)
    lines = difference(before, after, changes)
    was, is_now = old.snapshot.code, new.snapshot.code
    code = [path_of("plugins", name) for name in sorted(was.keys() & is_now.keys()) if was[name] != is_now[name]]
    if not code:
        return changes.describe(), lines
    codes = f"the code of {shortened(code)}"
    return "; ".join([*([changes.describe()] if changes else []), codes]), (*lines, f"[MODIFIED] {codes}")
