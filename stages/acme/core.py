"""Decides which certificate is got when, and when it counts as served: events in, commands out, Unix seconds as an argument.

    idle --due--> trying --stored and read back--> handed out --taken by every accept process--> checked --shown--> idle
                    |                                                                               |
                    '--failed: idle, next try later                                                 '--not shown: looked at again

What there was is served until the new one is. What was tried is on the shelf, so that a restart begins no storm of orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pingap.config.certificates import covers
from pingap.config.diff import shortened
from pingap.observability.notices import LETS_ENCRYPT, PARSE_CERTIFICATE_FAIL
from pingap.stages.acme.due import Due, next_try, renewal_due, share_of
from pingap.stages.acme.records import NO_RECORD, TryRecord
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.words import (
    AskWindow,
    BeginTry,
    Command,
    EndTry,
    Event,
    HandedOut,
    HandOut,
    HandshakeMade,
    HeldCertificate,
    KeepRecord,
    MakeHandshake,
    RenewAsked,
    SayLine,
    SayNotice,
    Settle,
    ShelfAway,
    ShelfRead,
    Stepped,
    TakenByAll,
    TimeCame,
    TryFailed,
    TrySucceeded,
    TryWasAnothers,
    WindowTold,
    WishesChanged,
)

AT_ONCE: Final = 4
"""Certificates that are got at the same time."""

TAKING: Final = 15.0
"""Seconds after which a handshake is made although some accept process has not said that it goes by the new certificate."""

LOOKS: Final = (30.0, 120.0, 600.0)
"""Seconds until it is looked again whether clients are shown it, after they were not."""

ANOTHERS: Final = 20.0
"""Seconds until it is looked again whether another instance still gets it."""

HOLD: Final = 3600.0
"""Seconds at most for which a limit of an authority that is not about one name holds up all others."""

SIX_HOURS: Final = 6 * 3600.0


class _Serving(NamedTuple):
    """A certificate that was got and is on its way to clients."""

    held: HeldCertificate
    version: int
    """0 until it is known."""
    until: float
    """When the handshake is made at the latest."""
    looks: int = 0
    """Handshakes that did not show it."""
    is_asked: bool = False
    """A handshake is under way."""


class _Course:
    """How far one certificate is."""

    def __init__(self, wanted: WantedCertificate) -> None:
        self.wanted = wanted
        self.is_trying = False
        self.step = ""
        self.serving: _Serving | None = None
        self.is_asked = False
        """Somebody waits for it."""
        self.not_before = 0.0
        """When it may be tried again though due: another instance is at it."""


class _Window(NamedTuple):
    span: tuple[float, float] | None
    ask_again: float
    is_asked: bool = False


class AcmeCore:
    """All certificates by ACME. is_disabled: none is got; what there is is served."""

    def __init__(self, is_disabled: bool = False) -> None:
        self._is_disabled = is_disabled
        self._courses: dict[str, _Course] = {}
        self._own: Mapping[str, HeldCertificate] = {}
        self._held: dict[str, HeldCertificate] = {}
        """What is on the shelf, by id."""
        self._records: dict[str, TryRecord] = {}
        self._windows: dict[str, _Window] = {}
        """By fingerprint."""
        self._holds: dict[str, float] = {}
        """Directory → when it takes orders again."""
        self._is_read = False
        self._trouble = ""
        self._handed: dict[str, HeldCertificate] = {}
        self._has_handed_out = False
        self._taken = 0
        self._out: list[Command] = []

    # -- what is to be known of it -------------------------------------------------------

    @property
    def is_read(self) -> bool:
        """It is known what there is."""
        return self._is_read

    @property
    def handed(self) -> Mapping[str, Issued]:
        """What accept is to have, by name of the section."""
        return {name: held.issued for name, held in self._handed.items()}

    @property
    def wanted(self) -> Mapping[str, WantedCertificate]:
        """By name of the section."""
        return {name: course.wanted for name, course in self._courses.items()}

    def current(self, name: str) -> HeldCertificate | None:
        """What clients are shown."""
        course = self._courses.get(name)
        return self._best(course.wanted) if course is not None else None

    def step(self, name: str) -> str:
        """Of the try that is under way; "" when none is."""
        course = self._courses[name]
        return course.step if course.is_trying else "being handed out" if course.serving and not course.serving.looks else ""

    def record(self, name: str) -> TryRecord:
        """Of its tries."""
        return self._records.get(self._courses[name].wanted.id, NO_RECORD)

    def due(self, name: str) -> Due | None:
        """When it is renewed; None when there is none that could be."""
        wanted = self._courses[name].wanted
        held = self._best(wanted)
        if held is None or not _is_for(held, wanted):
            return None
        window = self._windows.get(held.fingerprint)
        return renewal_due(
            held.not_before, held.not_after, window.span if window else None, wanted.buffer_days, share_of(wanted.id + held.fingerprint)
        )

    # -- events --------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done about it, in this order."""
        self._out = []
        match event:
            case WishesChanged():
                self._wishes_changed(event)
            case ShelfRead(held, records):
                self._store_read(held, records)
            case ShelfAway(reason):
                if reason != self._trouble:
                    what = "the store of certificates is out of reach: what is served stays"
                    self._out.append(SayLine("error", what, {"reason": reason}))
                self._trouble = reason
            case Stepped(name, step):
                if name in self._courses:
                    self._courses[name].step = step
            case TrySucceeded():
                self._succeeded(event, now)
            case TryFailed():
                self._failed(event, now)
            case TryWasAnothers(name, holder):
                self._was_anothers(name, holder, now)
            case HandedOut(version):
                self._handed_out(version, now)
            case TakenByAll(version):
                self._taken = version
            case HandshakeMade():
                self._handshake_made(event, now)
            case WindowTold(fingerprint, window, ask_again):
                self._windows[fingerprint] = _Window(window, ask_again)
            case RenewAsked(name):
                self._renew_asked(name)
            case TimeCame():
                pass
        self._hand_out()
        self._go_on(now)
        return self._out

    def _wishes_changed(self, event: WishesChanged) -> None:
        for name, course in list(self._courses.items()):
            if event.wanted.get(name) != course.wanted:
                if course.is_trying:
                    self._out.append(EndTry(name))
                if course.is_asked:
                    self._out.append(Settle(name, "the configuration has changed meanwhile"))
                del self._courses[name]
        # In the order of the configuration.
        self._courses = {name: self._courses.get(name) or _Course(wanted) for name, wanted in event.wanted.items()}
        self._own = event.own

    def _store_read(self, held: Mapping[str, HeldCertificate], records: Mapping[str, TryRecord]) -> None:
        if self._trouble:
            self._trouble = ""
            self._out.append(SayLine("info", "the store of certificates can be read again"))
        for name, course in self._courses.items():
            before, after = self._held.get(course.wanted.id), held.get(course.wanted.id)
            if self._is_read and not course.is_trying and after is not None and before != after:
                line = {"certificate": name, "ends": _date(after.not_after)}
                self._out.append(SayLine("info", "certificate was got by another instance, and is served here too", line))
        self._is_read = True
        self._held = dict(held)
        trying = {course.wanted.id for course in self._courses.values() if course.is_trying}
        # What is being tried here is known better here: its record is about to be written.
        self._records = dict(records) | {id: record for id, record in self._records.items() if id in trying}

    def _succeeded(self, event: TrySucceeded, now: float) -> None:
        self._held[event.wanted.id] = event.held
        self._keep(event.wanted.id, TryRecord(at=now))
        course = self._courses.get(event.name)
        if course is None or course.wanted != event.wanted:
            return
        course.is_trying, course.step = False, ""
        course.serving = _Serving(event.held, 0, now + TAKING)

    def _failed(self, event: TryFailed, now: float) -> None:
        course = self._courses.get(event.name)
        held = self._best(event.wanted)
        record = self._records.get(event.wanted.id, NO_RECORD)
        attempts = record.attempts + 1
        life = held.not_after - held.not_before if held else 1.0
        left = max(held.not_after - now, 0.0) if held else 0.0
        at = next_try(now, attempts, left, life, event.retry_at, event.is_final, share_of(f"{event.wanted.id}{attempts}"))
        self._keep(event.wanted.id, TryRecord(now, attempts, now, event.reason, at))
        if event.is_limit:
            self._holds[event.wanted.directory] = min(event.retry_at or now + HOLD, now + HOLD)
        fields = {"certificate": event.name, "reason": event.reason, "attempts": attempts, "next_try": _date(at)}
        if held is not None:
            fields["days_left"] = round(left / 86400, 1)
        is_loud = held is None or left < life / 10
        self._out.append(SayLine("error" if is_loud else "warn", "certificate could not be got", fields))
        if attempts == 1 or event.is_final:
            text = f"{event.name}: {event.reason}"
            self._out.append(SayNotice("error", PARSE_CERTIFICATE_FAIL, text, {"certificate": event.name, "reason": event.reason}))
        if course is not None and course.wanted == event.wanted:
            course.is_trying, course.step = False, ""
            self._settle(course, f"{event.reason} (the next try is at {_date(at)})")

    def _was_anothers(self, name: str, holder: str, now: float) -> None:
        course = self._courses.get(name)
        if course is not None:
            course.is_trying, course.step = False, ""
            course.not_before = now + ANOTHERS
            self._settle(course, f"another instance, {holder}, is getting it")
            self._out.append(SayLine("info", "certificate is being got by another instance", {"certificate": name, "holder": holder}))

    def _renew_asked(self, name: str) -> None:
        course = self._courses.get(name)
        if course is None:
            self._out.append(Settle(name, "the configuration does not ask for it"))
        elif self._is_disabled:
            self._out.append(Settle(name, "PINGAP_DISABLE_ACME is set: nothing is got"))
        else:
            course.is_asked = True

    # -- from the shelf to the client ------------------------------------------------------

    def _best(self, wanted: WantedCertificate) -> HeldCertificate | None:
        """The one to be served: for most of its names, then the one that lasts longest. Of the same the shelf's."""
        own = self._own.get(wanted.name)
        candidates = [one for one in (self._held.get(wanted.id), own, *self._held.values()) if one is not None]
        best, rank = None, (0, 0.0)
        for one in candidates:
            # Only what is exactly for this, or for some of the same names: that of another section is nobody's second choice.
            good = sum(any(covers(name, domain) for name in one.names) for domain in wanted.domains)
            if (good, one.not_after) > rank:
                best, rank = one, (good, one.not_after)
        return best

    def _hand_out(self) -> None:
        if not self._is_read:
            return
        now_held = {}
        for name, course in self._courses.items():
            held = self._best(course.wanted)
            if held is not None and held is not self._own.get(name):
                now_held[name] = held
        if now_held != self._handed or not self._has_handed_out:
            self._has_handed_out = True
            self._handed = now_held
            self._out.append(HandOut())

    def _handed_out(self, version: int, now: float) -> None:
        for course in self._courses.values():
            if course.serving is not None and not course.serving.version:
                course.serving = course.serving._replace(version=version, until=now + TAKING)

    def _handshake_made(self, event: HandshakeMade, now: float) -> None:
        course = self._courses.get(event.name)
        if course is None or course.serving is None or course.serving.held.fingerprint != event.fingerprint:
            return
        serving = course.serving
        if not event.failure:
            course.serving = None
            self._declare(course, serving.held)
            return
        looks = serving.looks + 1
        fields = {"certificate": event.name, "reason": event.failure}
        if looks <= len(LOOKS):
            course.serving = serving._replace(looks=looks, is_asked=False, until=now + LOOKS[looks - 1])
        else:
            course.serving = None
        if looks == 1 or course.serving is None:
            self._out.append(SayLine("error", "certificate was got and stored, but clients are not shown it", fields))
        if looks == 1:
            text = f"{event.name}: it was got and stored, but clients are not shown it: {event.failure}"
            self._out.append(SayNotice("error", PARSE_CERTIFICATE_FAIL, text, fields))
        self._settle(course, f"it was got and stored, but clients are not shown it: {event.failure}")

    def _declare(self, course: _Course, held: HeldCertificate) -> None:
        wanted, ends = course.wanted, _date(held.not_after)
        line = {"certificate": wanted.name, "domains": shortened(wanted.domains), "ends": ends}
        self._out.append(SayLine("info", "certificate was got, and is served", line))
        fields = {"title": "Generate new cert from let's encrypt", "certificate": wanted.name, "domains": list(wanted.domains[:100])}
        told = ", ".join(f'"{domain}"' for domain in wanted.domains[:100])
        self._out.append(SayNotice("info", LETS_ENCRYPT, f"Domains: [{told}]", {**fields, "ends": held.not_after}))
        self._settle(course, "")

    # -- what is due -----------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        if not self._is_read:
            return
        for name, course in self._courses.items():
            serving = course.serving
            if serving is None or serving.is_asked or not serving.version:
                continue
            if (not serving.looks and self._taken >= serving.version) or now >= serving.until:
                course.serving = serving._replace(is_asked=True)
                self._out.append(MakeHandshake(name, course.wanted.domains[0], serving.held.fingerprint))
        if self._is_disabled:
            return
        trying = sum(course.is_trying for course in self._courses.values())
        for course in sorted(self._courses.values(), key=lambda one: (not one.is_asked, self._ends(one))):
            if course.is_trying or course.serving is not None:
                continue
            self._ask_window(course, now)
            if trying < AT_ONCE and now >= self._try_at(course):
                trying += 1
                course.is_trying, course.step = True, "begun"
                held = self._held.get(course.wanted.id)
                self._out.append(BeginTry(course.wanted, held.fingerprint if held else ""))

    def _ends(self, course: _Course) -> float:
        """Those with the least time come first."""
        held = self._best(course.wanted)
        return held.not_after if held is not None else 0.0

    def _ask_window(self, course: _Course, now: float) -> None:
        held = self._held.get(course.wanted.id)
        if held is None or held.not_after <= now:
            return
        window = self._windows.get(held.fingerprint)
        if window is None or (not window.is_asked and now >= window.ask_again):
            self._windows[held.fingerprint] = _Window(window.span if window else None, now + SIX_HOURS, True)
            self._out.append(AskWindow(course.wanted, held))

    def _try_at(self, course: _Course) -> float:
        if course.is_asked:
            return 0.0
        due = self.due(course.wanted.name)
        record = self._records.get(course.wanted.id, NO_RECORD)
        return max(due.at if due else 0.0, record.next_try, course.not_before, self._holds.get(course.wanted.directory, 0.0))

    def next_moment(self, now: float) -> float | None:
        """When to say that time has come; None while nothing is due."""
        if not self._is_read:
            return None
        moments = [course.serving.until for course in self._courses.values() if course.serving is not None and not course.serving.is_asked]
        if not self._is_disabled:
            room = sum(course.is_trying for course in self._courses.values()) < AT_ONCE
            for course in self._courses.values():
                if not course.is_trying and course.serving is None:
                    if room:
                        moments.append(self._try_at(course))
                    held = self._held.get(course.wanted.id)
                    window = self._windows.get(held.fingerprint) if held is not None and held.not_after > now else None
                    if window is not None and not window.is_asked:
                        moments.append(window.ask_again)
        return min(moments, default=None)

    # -- odds and ends ---------------------------------------------------------------------

    def _keep(self, id: str, record: TryRecord) -> None:
        if record != self._records.get(id):
            self._records[id] = record
            self._out.append(KeepRecord(id, record))

    def _settle(self, course: _Course, error: str) -> None:
        if course.is_asked:
            course.is_asked = False
            self._out.append(Settle(course.wanted.name, error))


def _is_for(held: HeldCertificate, wanted: WantedCertificate) -> bool:
    """It is for all of its names, each as it is asked for: a wildcard beside is another certificate (as the reference compares)."""
    return set(wanted.domains) <= set(held.names)


def _date(seconds: float) -> str:

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
