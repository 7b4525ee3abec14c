"""Decides which certificate is got when, and when it counts as served: events in, commands out, Unix seconds as an argument.

    idle --due--> trying --stored and read back--> published --taken by every accept process--> checked --shown--> idle
                    |                                                                               |
                    '--failed: idle, next try later                                                 '--not shown: looked at again

What there was is served until the new one is. What was tried is on the shelf, so that a restart begins no storm of orders; nothing
is tried of which it is not known what the shelf has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from pingap.config.diff import shortened
from pingap.observability.notices import LETS_ENCRYPT, PARSE_CERTIFICATE_FAIL, TLS_VALIDITY
from pingap.stages.acme.currents import CurrentCertificates
from pingap.stages.acme.due import BY_REVOCATION, Due, next_try, not_again_before, renewal_due, share_of
from pingap.stages.acme.records import NO_RECORD, TryRecord
from pingap.stages.acme.suggestions import Suggestions
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.ways import WaysToClients
from pingap.stages.acme.words import (
    AskWindow,
    BeginTry,
    CertificatesPublished,
    Command,
    EndTry,
    Event,
    HandshakeMade,
    HeldCertificate,
    KeepRecord,
    LeaveTry,
    MakeHandshake,
    PublishCertificates,
    PutBack,
    RenewAsked,
    RevocationsHeard,
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

BY_HAND_AT_ONCE: Final = 16
"""The same of those that wait for people to set a DNS record, which takes hours: they hold up no others."""

ANOTHERS: Final = 20.0
"""Seconds until it is looked again whether another instance still gets it."""

HOLD: Final = 3600.0
"""Seconds at most for which a limit of an authority that is not about one name holds up all others."""

LEAST_HOLD: Final = 60.0

LONGEST_WORD: Final = 8 * 86400.0
"""Seconds at most for which an authority may put a try off: limits are over a week at the longest (Let's Encrypt, "Rate Limits")."""

LONGEST_TRY: Final = 3 * 3600.0
"""Seconds for a try at most: what it does has bounds of its own, which together are less, so whatever still holds it has none."""

LONGEST_BY_HAND: Final = 26 * 3600.0
"""The same of one that waits a day for people to set a DNS record."""

SKEW: Final = 300.0
"""Seconds by which the clocks of instances may differ. What was noted later than that was noted by a clock that was wrong."""


SWITCHED_OFF: Final = "PINGAP_DISABLE_ACME is set: no certificate is got or renewed"


class _Course:
    """How far one certificate is."""

    def __init__(self, wanted: WantedCertificate) -> None:
        self.wanted = wanted
        self.is_asked = False
        """Somebody waits for it."""
        self.not_before = 0.0
        """When it may be tried again though due: another instance is at it."""


class _Try:
    """One that is under way."""

    def __init__(self, wanted: WantedCertificate, now: float) -> None:
        self.wanted = wanted
        self.longest: Final = LONGEST_BY_HAND if _is_by_hand(wanted) else LONGEST_TRY
        self.until = now + self.longest
        """When it is left to itself."""
        self.step = "begun"
        self.is_ended = False
        """Nobody wants it any more; it has not stopped yet."""


class AcmeCore:
    """All certificates by ACME. is_disabled: none is got; what there is is served."""

    def __init__(self, is_disabled: bool = False) -> None:
        self.is_disabled: Final = is_disabled
        self._courses: dict[str, _Course] = {}
        self._tries: dict[str, _Try] = {}
        """By id."""
        self._currents = CurrentCertificates()
        self._records: dict[str, TryRecord] = {}
        """By id: those that were looked for on the shelf."""
        self._tried_by: set[tuple[str, str]] = set()
        """Ids, each with the means that it was tried by here. Instances whose means differ do not spur each other on for ever."""
        self._suggestions = Suggestions()
        self._revoked: dict[str, float] = {}
        """Fingerprint → when it was heard."""
        self._holds: dict[str, float] = {}
        """Directory → when it takes orders again."""
        self._gained: dict[str, tuple[int, HeldCertificate]] = {}
        """By id, what was got here: its number, and what the shelf may not have had yet when it was read."""
        self.gains = 0
        """Certificates that were got."""
        self._is_read = False
        """It is known what there is."""
        self._missed: frozenset[str] = frozenset()
        """Ids of what is served though it is not on the shelf any more."""
        self._trouble = ""
        self._published: dict[str, HeldCertificate] | None = None
        self._is_publishing = False
        self._ways = WaysToClients()
        self._now = 0.0
        self._out: list[Command] = []

    # -- what is to be known of it -------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why the store cannot be read; "" when it can."""
        return self._trouble

    @property
    def published(self) -> Mapping[str, Issued]:
        """What accept is to have, by name of the section."""
        return {name: held.issued for name, held in (self._published or {}).items()}

    @property
    def wanted(self) -> Mapping[str, WantedCertificate]:
        """By name of the section."""
        return {name: course.wanted for name, course in self._courses.items()}

    def wants(self, name: str) -> bool:
        """Only of such names the rest is to be asked."""
        return name in self._courses

    def one_wanted(self, name: str) -> WantedCertificate:
        """What it is."""
        return self._courses[name].wanted

    def step(self, name: str) -> str:
        """Of the try that is under way; "" when none is."""
        tried = self._tries.get(self._courses[name].wanted.id)
        if tried is not None:
            return tried.step
        return "being handed out" if self._ways.is_new(name) else ""

    def record(self, name: str) -> TryRecord:
        """Of its tries."""
        return self._records.get(self._courses[name].wanted.id, NO_RECORD)

    def next_try(self, name: str) -> float:
        """When it is tried again after it has failed; 0 when nothing puts that off."""
        return self._put_off(self._courses[name].wanted)

    def due(self, name: str) -> Due | None:
        """When it is renewed; None when there is none that could be."""
        wanted = self._courses[name].wanted
        held = self._currents.renewed(name)
        if held is None:
            return None
        span, share = self._suggestions.span(held.fingerprint), share_of(wanted.id + held.fingerprint)
        due = renewal_due(held.not_before, held.not_after, span, wanted.buffer_days, share)
        if (heard := self._revoked.get(held.fingerprint)) is not None:
            due = Due(heard, BY_REVOCATION)
        record = self.record(name)
        if not 0 < record.got_before <= self._now + SKEW:
            return due
        return due._replace(at=max(due.at, not_again_before(record.got_before, held.not_after - held.not_before)))

    # -- events --------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done about it, in this order."""
        self._out = []
        if now < self._now - SKEW:
            self._clock_set_back(now)
        self._now = now
        match event:
            case WishesChanged():
                self._wishes_changed(event)
            case ShelfRead():
                self._shelf_read(event, now)
            case ShelfAway(reason, held):
                self._shelf_away(reason, held, now)
            case Stepped(id, step):
                if id in self._tries:
                    self._tries[id].step = step
            case TrySucceeded():
                self._succeeded(event, now)
            case TryFailed():
                self._failed(event, now)
            case TryWasAnothers(wanted, holder):
                self._was_anothers(wanted, holder, now)
            case CertificatesPublished(version):
                self._is_publishing = False
                self._ways.published(version)
            case TakenByAll(version):
                self._ways.taken(version)
            case HandshakeMade():
                self._handshake_made(event, now)
            case WindowTold(fingerprint, window, ask_again):
                self._suggestions.told(fingerprint, window, ask_again, now)
            case RevocationsHeard(revoked):
                self._revocations_heard(revoked, now)
            case RenewAsked(name):
                self._renew_asked(name, now)
            case TimeCame():
                pass
        self._leave(now)
        self._publish(now)
        if self._is_read:
            self._look(now)
            if not self.is_disabled:
                self._begin(now)
        return self._out

    def _clock_set_back(self, now: float) -> None:
        """What was put off by the clock before would be for as long as that was ahead."""
        self._holds.clear()
        self._suggestions.clock_set_back(now)
        self._ways.clock_set_back(now)
        for one in self._tries.values():
            one.until = min(one.until, now + one.longest)
        for course in self._courses.values():
            course.not_before = 0.0

    def _wishes_changed(self, event: WishesChanged) -> None:
        before, self._courses = self._courses, {}
        if self.is_disabled and event.wanted and not before:
            self._out.append(SayLine("warn", SWITCHED_OFF, {"count": len(event.wanted)}))
        for name, wanted in event.wanted.items():  # in the order of the configuration
            course = before.get(name)
            if course is not None and course.wanted.id == wanted.id:
                if course.wanted.means != wanted.means:  # by hand, so it may well be what was tried before
                    self._tried_by.discard((wanted.id, wanted.means))
                course.wanted = wanted
                self._courses[name] = course
            else:
                self._courses[name] = _Course(wanted)
        for name, course in before.items():
            if self._courses.get(name) is not course:
                self._settle(course, "the configuration has changed meanwhile")
        self._ways.keep({name for name, course in self._courses.items() if before.get(name) is course})
        for id, one in self._tries.items():
            if not one.is_ended and not any(_is_same_order(one.wanted, wanted) for wanted in event.wanted.values()):
                one.is_ended = True
                self._out.append(EndTry(id))
        self._currents.want(event.wanted, event.own)

    def _shelf_read(self, event: ShelfRead, now: float) -> None:
        # What was got here since it was begun to be read is there by now.
        self._gained = {id: one for id, one in self._gained.items() if one[0] > event.as_of}
        held, records = {**event.held, **{id: one[1] for id, one in self._gained.items()}}, event.records
        if self._trouble:
            self._trouble = ""
            self._out.append(SayLine("info", "the store of certificates can be read again"))
        exact = {name: self._currents.exact(course.wanted) for name, course in self._courses.items()}
        self._miss(self._currents.read(held, now))
        for name, course in self._courses.items():
            before, after = exact[name], self._currents.exact(course.wanted)
            if after is None or after == before:
                continue
            if name in self._ways:
                self._ways.replace(name, after)
            elif self._is_read and course.wanted.id not in self._tries:
                line = {"certificate": name, "ends": _date(after.not_after)}
                self._out.append(SayLine("info", "certificate was got by another instance, and is served here too", line))
        self._is_read = True
        self._suggestions.keep([one.fingerprint for one in self._currents.all()])
        # What was noted here may not have been written when the shelf was read.
        self._records = {id: max(record, self._records.get(id, NO_RECORD), key=lambda one: one.at) for id, record in records.items()} | {
            id: record for id, record in self._records.items() if id in self._tries and id not in records
        }

    def _miss(self, kept: Mapping[str, HeldCertificate]) -> None:
        """What is not on the shelf any more and served all the same is told, and put back; of what nobody wants nothing is said."""
        shown = {one.fingerprint for one in (self._published or {}).values()}
        ids = {course.wanted.id for course in self._courses.values()}
        missed = {id: one for id, one in kept.items() if id in ids or one.fingerprint in shown}
        for id, one in missed.items():
            self._out.append(PutBack(id, one))
        if lost := missed.keys() - self._missed:
            names = sorted(name for name, course in self._courses.items() if course.wanted.id in lost) or sorted(lost)
            what = "certificates have left the store, or older ones have come there: those that were there are served on, and put back"
            self._out.append(SayLine("error", what, {"certificates": shortened(names)}))
            self._out.append(SayNotice("error", PARSE_CERTIFICATE_FAIL, f"{what}: {shortened(names)}", {"certificates": names[:100]}))
        if back := self._missed - missed.keys():
            self._out.append(SayLine("info", "certificates are in the store again", {"count": len(back)}))
        self._missed = frozenset(missed)

    def _shelf_away(self, reason: str, held: Mapping[str, HeldCertificate], now: float) -> None:
        what = "the store of certificates is out of reach: what is served stays"
        if not self._trouble:
            self._out.append(SayNotice("error", PARSE_CERTIFICATE_FAIL, f"{what}: {reason}", {"reason": reason}))
        if reason != self._trouble:
            self._trouble = reason
            self._out.append(SayLine("error", what, {"reason": reason}))
        self._currents.read_some(held, now)
        for course in self._courses.values():
            if course.wanted.id not in self._records:
                self._settle(course, reason)  # else it would be waited for until the store is there again

    # -- tries ---------------------------------------------------------------------------

    def _over(self, wanted: WantedCertificate) -> bool:
        """A try is over. Whether it was wanted to its end."""
        one = self._tries.pop(wanted.id, None)
        return one is not None and not one.is_ended

    def _leave(self, now: float) -> None:
        """Tries that hang are not waited for: their certificates would end while we look on."""
        for id, one in list(self._tries.items()):
            if now >= one.until:
                self._out.append(LeaveTry(id))
                took = f"it was not through within {one.longest / 3600:g} h, is at {one.step!r}, and is left to itself"
                self._failed(TryFailed(one.wanted, took), now)

    def _of(self, wanted: WantedCertificate) -> list[_Course]:
        """Two sections may want the same."""
        return [course for course in self._courses.values() if course.wanted.id == wanted.id]

    def _succeeded(self, event: TrySucceeded, now: float) -> None:
        self._over(event.wanted)
        id = event.wanted.id
        self._currents.gained(id, event.held)
        self.gains += 1
        self._gained[id] = (self.gains, event.held)
        before = self._records.get(id, NO_RECORD)
        if event.is_anothers:
            self._records[id] = structs.replace(before, attempts=0, error="", next_try=0.0)  # what it has noted is about to be read
        else:
            self._keep(id, TryRecord(at=now, got_at=now, got_before=before.got_at))
        for course in self._of(event.wanted):
            self._ways.begin(course.wanted.name, event.held, now)

    def _failed(self, event: TryFailed, now: float) -> None:
        if not self._over(event.wanted):
            return  # we have broken it off
        id = event.wanted.id
        courses = self._of(event.wanted)
        held = self._currents.of(courses[0].wanted.name, now) if courses else None
        record = self._records.get(id, NO_RECORD)
        attempts = record.attempts + 1
        life = held.not_after - held.not_before if held else 1.0
        left = max(held.not_after - now, 0.0) if held else 0.0
        retry_at = min(event.retry_at, now + LONGEST_WORD) if event.retry_at is not None else None
        share = share_of(f"{id}{attempts}")
        at = next_try(now, attempts, left, life, retry_at, event.is_final, share, event.is_rate_limited, event.is_unreachable)
        failed = structs.replace(record, at=now, attempts=attempts, failed_at=now, error=event.reason, next_try=at)
        self._keep(id, structs.replace(failed, word=retry_at or 0.0, means=event.wanted.means))
        if event.is_limit:
            self._holds[event.wanted.directory] = now + min(max((retry_at or now + HOLD) - now, LEAST_HOLD), HOLD)
        fields = {"certificate": event.wanted.name, "reason": event.reason, "attempts": attempts, "next_try": _date(at)}
        if held is not None:
            fields["days_left"] = round(left / 86400, 1)
        is_loud = held is None or left < life / 10
        if held is not None and event.is_rate_limited and retry_at is not None and retry_at > held.not_after:
            is_loud = True
            fields["limit"] = f"the authority takes no order before {_date(retry_at)}, when the certificate has ended"
        self._out.append(SayLine("error" if is_loud else "warn", "certificate could not be got", fields))
        if attempts == 1 or event.is_final:
            self._notice(event.wanted.name, event.reason)
        for course in courses:
            self._settle(course, f"{event.reason} (the next try is at {_date(at)})")

    def _was_anothers(self, wanted: WantedCertificate, holder: str, now: float) -> None:
        if not self._over(wanted):
            return
        for course in self._of(wanted):
            course.not_before = now + ANOTHERS
            self._settle(course, f"another instance, {holder}, is getting it")
        self._out.append(SayLine("info", "certificate is being got by another instance", {"certificate": wanted.name, "holder": holder}))

    def _revocations_heard(self, revoked: Mapping[str, tuple[str, ...]], now: float) -> None:
        """Told once of each; those by ACME are due. If that fails, or the next one is revoked too, it is put off as ever."""
        for fingerprint, names in revoked.items():
            if fingerprint in self._revoked:
                continue
            self._revoked[fingerprint] = now
            for name in names:
                held = self._currents.renewed(name) if name in self._courses else None
                is_renewed = held is not None and held.fingerprint == fingerprint and not self.is_disabled
                what = "another one is got" if is_renewed else "replace it, clients may refuse it"
                text = f"{name}: its authority has revoked the certificate: {what}"
                self._out.append(SayNotice("error", TLS_VALIDITY, text, {"certificates": [name], "count": 1}))
                if is_renewed:
                    self._out.append(SayLine("warn", "certificate was revoked: another one is got", {"certificate": name}))

    def _renew_asked(self, name: str, now: float) -> None:
        course = self._courses.get(name)
        if course is None:
            self._out.append(Settle(name, "the configuration does not ask for it"))
        elif self.is_disabled:
            self._out.append(Settle(name, SWITCHED_OFF))
        elif self._trouble and course.wanted.id not in self._records:
            self._out.append(Settle(name, self._trouble))
        else:
            course.is_asked = True
            self._ways.look_again(name, now)  # where it is there, what is wrong with it is told

    # -- from the shelf to the client ------------------------------------------------------

    def _publish(self, now: float) -> None:
        if not (self._is_read or self._currents.all()):
            return
        published = {}
        for name in self._courses:
            held = self._currents.of(name, now)
            if held is not None and not self._currents.is_own(name, held):
                published[name] = held
        if published != self._published:
            self._published = published
            self._is_publishing = True
            self._out.append(PublishCertificates())
        if not self._is_publishing:
            self._ways.number(now)

    def _look(self, now: float) -> None:
        for name, held in self._ways.due(now):
            self._out.append(MakeHandshake(name, self._courses[name].wanted.domains, held.fingerprint))

    def _handshake_made(self, event: HandshakeMade, now: float) -> None:
        looked = self._ways.looked(event, now)
        if looked is None:
            return
        course, looks = self._courses[event.name], looked.looks
        if not looks:
            self._declare(course.wanted, looked.held)
            self._settle(course, "")
            return
        what = f"it was got and stored, but clients are not shown it: {event.failure}"
        if looks == 1 or looked.is_last:
            fields = {"certificate": event.name, "reason": event.failure}
            self._out.append(SayLine("error", "certificate was got and stored, but clients are not shown it", fields))
        if looks == 1:
            self._notice(event.name, what)
        self._settle(course, what)

    def _declare(self, wanted: WantedCertificate, held: HeldCertificate) -> None:
        line = {"certificate": wanted.name, "domains": shortened(wanted.domains), "ends": _date(held.not_after)}
        self._out.append(SayLine("info", "certificate was got, and is served", line))
        fields = {"title": "Generate new cert from let's encrypt", "certificate": wanted.name, "domains": list(wanted.domains[:100])}
        told = ", ".join(f'"{domain}"' for domain in wanted.domains[:100])
        self._out.append(SayNotice("info", LETS_ENCRYPT, f"Domains: [{told}]", {**fields, "ends": held.not_after}))

    # -- what is due -----------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        # Those with the least time come first.
        for course in sorted(self._courses.values(), key=lambda one: (not one.is_asked, self._ends(one, now))):
            if not self._is_idle(course):
                continue
            wanted = course.wanted
            held = self._currents.exact(wanted)
            if held is not None and now < held.not_after and now >= self._suggestions.ask_at(held.fingerprint):
                self._suggestions.asked(held.fingerprint, now)
                self._out.append(AskWindow(wanted, held))
            if self._has_room(wanted) and now >= self._try_at(course):
                self._tries[wanted.id] = _Try(wanted, now)
                self._tried_by.add((wanted.id, wanted.means))
                self._out.append(BeginTry(wanted, held.fingerprint if held else ""))

    def _is_idle(self, course: _Course) -> bool:
        """Nothing is done about it, and it is known what the shelf has."""
        wanted = course.wanted
        return wanted.name not in self._ways and wanted.id not in self._tries and wanted.id in self._records

    def _has_room(self, wanted: WantedCertificate) -> bool:
        by_hand = _is_by_hand(wanted)
        alike = sum(_is_by_hand(one.wanted) == by_hand for one in self._tries.values())
        return alike < (BY_HAND_AT_ONCE if by_hand else AT_ONCE)

    def _ends(self, course: _Course, now: float) -> float:
        held = self._currents.of(course.wanted.name, now)
        return held.not_after if held is not None else 0.0

    def _try_at(self, course: _Course) -> float:
        if course.is_asked:
            return 0.0
        wanted, due = course.wanted, self.due(course.wanted.name)
        return max(due.at if due else 0.0, self._put_off(wanted), course.not_before, self._holds.get(wanted.directory, 0.0))

    def _put_off(self, wanted: WantedCertificate) -> float:
        """Before which the record says that it is not tried."""
        record = self._records.get(wanted.id, NO_RECORD)
        if record.failed_at > self._now + SKEW:
            return 0.0
        is_mended = bool(record.means) and record.means != wanted.means and (wanted.id, wanted.means) not in self._tried_by
        return record.word if is_mended else record.next_try

    def next_moment(self, now: float) -> float | None:
        """When to say that time has come; None while nothing is due. After `handle` that is later than what was said there."""
        if not self._is_read:
            return None
        moments = self._ways.moments()
        moments += [one.until for one in self._tries.values()]
        if not self.is_disabled:
            for course in filter(self._is_idle, self._courses.values()):
                if self._has_room(course.wanted):
                    moments.append(self._try_at(course))
                held = self._currents.exact(course.wanted)
                if held is not None and now < held.not_after:
                    moments.append(self._suggestions.ask_at(held.fingerprint))
        return min(moments, default=None)

    # -- odds and ends ---------------------------------------------------------------------

    def _keep(self, id: str, record: TryRecord) -> None:
        self._records[id] = record
        self._out.append(KeepRecord(id, record))

    def _settle(self, course: _Course, error: str) -> None:
        if course.is_asked:
            course.is_asked = False
            self._out.append(Settle(course.wanted.name, error))

    def _notice(self, name: str, reason: str) -> None:
        fields = {"certificate": name, "reason": reason}
        self._out.append(SayNotice("error", PARSE_CERTIFICATE_FAIL, f"{name}: {reason}", fields))


def _is_same_order(one: WantedCertificate, other: WantedCertificate) -> bool:
    """What is under way for one serves the other: they differ in nothing that an authority, or a proof, hears of."""
    return replace(one, name=other.name, buffer_days=other.buffer_days) == other


def _is_by_hand(wanted: WantedCertificate) -> bool:
    return wanted.challenge == "dns-01" and wanted.dns.provider == "manual"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
