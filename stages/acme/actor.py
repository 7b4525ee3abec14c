"""The acme actor: what it is told goes to the core, and what the core decides is done, by threads where it takes its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from time import monotonic, time
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.config.home import default_directory
from pingap.config.model import Certificate, Server, Snapshot
from pingap.config.problems import ConfigRefused
from pingap.observability.notices import TLS_VALIDITY
from pingap.stages.acme.answering import CertificateQuestions
from pingap.stages.acme.core import AcmeCore
from pingap.stages.acme.expiries import Expiries
from pingap.stages.acme.hand_over import HandOver
from pingap.stages.acme.handshakes import addresses_of, why_not_shown
from pingap.stages.acme.http_proofs import HttpProofs, token_in
from pingap.stages.acme.ocsp.stapler import Stapler
from pingap.stages.acme.presenter import Presenter
from pingap.stages.acme.records import packed_record, read_record
from pingap.stages.acme.statuses import IssuingFacts, KnownCertificate, used_by, watched_of
from pingap.stages.acme.store.base import Shelf, StoreError
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.store.places import shelf_of
from pingap.stages.acme.ticket_keeper import TicketKeeper
from pingap.stages.acme.tls_proofs import TlsProofs
from pingap.stages.acme.tries import Tries, held_of
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.wishes import wanted_of
from pingap.stages.acme.words import (
    AskWindow,
    BeginTry,
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
    TakenByAll,
    TimeCame,
    WindowTold,
    WishesChanged,
)
from pingap.stages.answers import OwnAnswers
from pingap.stages.broken import OfStreams
from pingap.stages.certificate_status import ACME, CONFIGURATION, FILE, MINTS
from pingap.stages.error_page import ErrorPages, product_version
from pingap.stages.generations import Generations
from pingap.stages.messages import Cancel, CertificatesAsk, CertificatesTaken, Done, Routed

if TYPE_CHECKING:
    from pingap.stages.acme.authority.authority import Authority

SECTIONS: Final = ("basic", "servers", "certificates", "files")
"""Of a configuration, what this stage needs."""

LOOK: Final = 10.0
"""Seconds between two looks at whether other instances have put something into the store."""

WATCH: Final = 60.0
"""Seconds between two looks at which certificates are about to end."""

TIDY: Final = 86400.0
"""Seconds between two times that what nobody has asked for in a month is taken away."""

LOOKUPS: Final = 16
"""Tokens of other instances that are looked up at the same time; whoever asks for more of them gets 404."""


class _Wishes(NamedTuple):
    """What a generation is to this stage."""

    certificates: dict[str, Certificate]
    servers: dict[str, Server]
    files: dict[str, str]
    directory: str
    pages: ErrorPages


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> _Wishes:
    """Nothing in it can be wrong for this stage."""
    basic = snapshot.basic
    return _Wishes(
        dict(snapshot.certificates),
        dict(snapshot.servers),
        dict(snapshot.files),
        basic.acme_directory or "",
        ErrorPages(basic.error_template),
    )


class AcmeActor(OfStreams):
    """See the package."""

    stage: ClassVar[str] = "acme"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._generations: Generations[_Wishes] = Generations(context, SECTIONS, compile_generation, self._committed)
        self._core = AcmeCore(bool(context.settings.get("is_disabled")))
        self._asked: _Wishes | None = None
        self._hand_over: HandOver
        self._answers = OwnAnswers(context)
        self._questions = CertificateQuestions(context, self._known, self._renew)
        self._renewing: dict[str, list[Callable[[str], None]]] = {}
        """Who waits for a certificate."""
        self._expiries = Expiries()
        self._stapler = Stapler(context, self._stapled)
        self._tickets = TicketKeeper(context, self._shelf_for_tickets, self._ticket_secrets_changed)
        self._shelf: Shelf | None = None
        """Opened when there is something to be stored."""
        self._tries: Tries
        self._http: HttpProofs
        self._authority_made: Authority | None = None
        self._making = threading.Lock()
        self._seen = ""
        """Version of the shelf that was read."""
        self._tidy_at = monotonic() + TIDY / 24
        self._is_reading = False
        self._shown: list[tuple[int, threading.Event]] = []
        """Who waits for a version to be taken by all."""
        self._lookups = 0
        self._repeats = Repeats(context)
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._is_stopping = False

    def receivers(self) -> Receivers:
        return {
            Routed: self._challenged,
            Cancel: self._ended,
            Done: self._ended,
            CertificatesTaken: self._taken,
            CertificatesAsk: self._questions.asked,
        }

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        self._hand_over = HandOver(self.context)
        self._generations.start()

    async def stop(self) -> None:
        self._is_stopping = True
        self._stapler.stop()
        self._tickets.stop()
        for timer in (self._timer, self._watcher):
            if timer is not None:
                timer.cancel()
        if self._shelf is not None:
            self._tries.stop()

    def told(self, word: str, args: Any) -> None:
        self._questions.told(word, args)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._answers.forget(gone)
        if self._asked is not None:
            self._look_who_takes()

    def figures(self) -> dict[str, float]:
        return {"certificates": len(self._asked.certificates) if self._asked else 0, "in_flight": len(self._answers)}

    def held(self) -> int:
        return len(self._answers)

    def _committed(self, generation: int, asked: _Wishes) -> None:
        is_first, self._asked = self._asked is None, asked
        wanted = wanted_of(asked.certificates, asked.servers)
        own = {name: held for name in wanted if (held := _own(asked.certificates[name])) is not None}
        if wanted and self._shelf is None:
            self._open(asked.directory)
        self._feed(WishesChanged(wanted, own))
        if self._shelf is None:
            self._feed(ShelfRead({}, {}))
        else:
            self._read()
        self._serve_staples()
        if any(server.global_certificates for server in asked.servers.values()):
            self._tickets.begin()
        if is_first:
            self._watch()
            self.context.ready()

    def _open(self, directory: str) -> None:
        """Once: another directory needs a restart."""
        self._shelf = shelf_of(self.context.settings.get("source"), directory or default_directory(), self._warn)
        self._http = HttpProofs(self._shelf)
        self._tries = Tries(self._shelf, self._authority, self._presenter, self._from_thread)

    def _warn(self, text: str) -> None:
        """From whatever thread."""
        self.context.loop.call_soon_threadsafe(self._repeats.log, "warn", text)

    def _authority(self) -> Authority:
        """In whatever thread asks first: the library takes 20 MB, which nobody else needs."""
        from pingap.stages.acme.authority.authority import Authority

        assert self._shelf is not None
        with self._making:
            if self._authority_made is None:
                self._authority_made = Authority(self._shelf, product_version())
            return self._authority_made

    # -- the core -------------------------------------------------------------------------

    def _from_thread(self, event: Event) -> None:
        self.context.loop.call_soon_threadsafe(self._feed, event)

    def _feed(self, event: Event) -> None:
        if self._is_stopping:
            return
        for command in self._core.handle(event, time()):
            match command:
                case BeginTry(wanted, seen):
                    self.context.log("info", "certificate is being got", certificate=wanted.name, authority=wanted.directory)
                    self._tries.begin(wanted, seen)
                case EndTry(name):
                    self._tries.end(name)
                case HandOut():
                    self._hand_over.issued = self._core.handed
                    self._serve_staples()
                    self._feed_soon(HandedOut(self._hand_over.change()))
                case MakeHandshake():
                    self._aside(partial(self._handshake, command))
                case AskWindow():
                    self._aside(partial(self._window, command))
                case KeepRecord(id, record):
                    self._aside(partial(self._put, id, packed_record(record)))
                case SayLine(level, message, fields):
                    self.context.log(level, message, **fields)
                case SayNotice(level, category, message, fields):
                    self.context.notice(level, category, message, **fields)
                case Settle(name, error):
                    for then in self._renewing.pop(name, ()):
                        then(error)
        self._set_timer()

    def _feed_soon(self, event: Event) -> None:
        self.context.loop.call_soon(self._feed, event)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        moment = self._core.next_moment(time())
        # Unix time may jump, and a laptop may sleep: it is looked at anew at least this often.
        wait = LOOK if moment is None else max(0.05, min(moment - time(), LOOK))
        self._timer = self.context.loop.call_later(wait, self._time_came)

    def _time_came(self) -> None:
        if self._shelf is not None and monotonic() - self._looked >= LOOK:
            self._read()
        self._feed(TimeCame())

    def _aside(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="acme aside", daemon=True).start()

    # -- the store ------------------------------------------------------------------------

    def _read(self) -> None:
        """In a thread, one at a time: what is there, unless it is what was there."""
        self._looked = monotonic()
        if not self._is_reading:
            self._is_reading = True
            self._aside(partial(self._read_aside, tuple(self._core.wanted.values())))

    def _read_aside(self, wanted: Sequence[WantedCertificate]) -> None:
        assert self._shelf is not None
        event: Event | None = None
        try:
            if monotonic() >= self._tidy_at:
                self._tidy_at = monotonic() + TIDY
                CertificateKeeper(self._shelf).tidy([one.id for one in wanted], time())
            version = f"{self._shelf.version()} {hash(tuple(one.id for one in wanted))}"
            if version != self._seen:
                event = _everything(self._shelf, wanted)
                self._seen = version
        except (StoreError, ConfigRefused) as error:
            event = ShelfAway(str(error))
        except Exception as error:  # a reader that dies would let certificates expire unseen
            event = ShelfAway(f"a fault of pingap: {error!r}")
        self.context.loop.call_soon_threadsafe(self._have_read, event)

    def _have_read(self, event: Event | None) -> None:
        self._is_reading = False
        if event is not None:
            self._feed(event)

    def _put(self, id: str, value: bytes) -> None:
        assert self._shelf is not None
        try:
            self._shelf.put("records", id, value)
        except StoreError as error:
            self._from_thread(ShelfAway(str(error)))

    # -- staples and tickets ------------------------------------------------------------------

    def _serve_staples(self) -> None:
        """Of what is minted there is nothing to be asked."""
        known = self._known()
        if known is not None:
            self._stapler.serve({one.name: one.pem for one in known if one.pem and one.source != MINTS})

    def _stapled(self, staples: Mapping[str, bytes]) -> None:
        self._hand_over.staples = staples
        self._change_soon()

    def _shelf_for_tickets(self) -> Shelf:
        """Of its own: what is wrong with it concerns no certificate. Raises StoreError, ConfigRefused."""
        directory = self._asked.directory if self._asked is not None else ""
        return shelf_of(self.context.settings.get("source"), directory or default_directory(), self._warn)

    def _ticket_secrets_changed(self, secrets: tuple[bytes, ...]) -> None:
        self._hand_over.tickets = secrets
        self._change_soon()

    def _change_soon(self) -> None:
        """Before the first word on certificates nothing is handed over: that it has none would be believed."""
        if self._hand_over.version:
            self._hand_over.change()

    # -- proofs and handshakes ------------------------------------------------------------

    def _presenter(self, wanted: WantedCertificate, step: Callable[[str], None], halt: threading.Event) -> Presenter:
        if wanted.challenge == "http-01":
            return self._http
        if wanted.challenge == "tls-alpn-01":
            return TlsProofs(self._show, self._hide)
        DnsPresenter: Any = import_module("pingap.stages.acme.dns.presenter").DnsPresenter

        def tell(text: str) -> None:
            step(text)
            self.context.loop.call_soon_threadsafe(partial(self.context.log, "warn", text, certificate=wanted.name))

        presenter: Presenter = DnsPresenter(wanted.dns, tell, halt)
        return presenter

    def _show(self, name: str, proof: Issued, shown: threading.Event) -> None:
        def show() -> None:
            self._hand_over.challenges[name] = proof
            self._shown.append((self._hand_over.change(), shown))
            self._look_who_takes()

        self.context.loop.call_soon_threadsafe(show)

    def _hide(self, name: str) -> None:
        def hide() -> None:
            if self._hand_over.challenges.pop(name, None) is not None:
                self._hand_over.change()

        self.context.loop.call_soon_threadsafe(hide)

    def _taken(self, message: CertificatesTaken) -> None:
        """CERTIFICATES_TAKEN."""
        self._hand_over.taken(message)
        self._look_who_takes()

    def _look_who_takes(self) -> None:
        version = self._hand_over.taken_by_all
        for wanted, shown in self._shown:
            if version >= wanted:
                shown.set()
        self._shown = [one for one in self._shown if not one[1].is_set()]
        self._feed_soon(TakenByAll(version))

    def _handshake(self, command: MakeHandshake) -> None:
        servers = self._asked.servers if self._asked is not None else {}
        failure = why_not_shown(addresses_of(servers), command.domain, command.fingerprint)
        self._from_thread(HandshakeMade(command.name, command.fingerprint, failure))

    def _window(self, command: AskWindow) -> None:
        window = None
        try:
            window = self._authority().renewal_window(command.wanted, command.held.issued.cert)
        except Exception as error:
            self.context.loop.call_soon_threadsafe(partial(self._repeats.log, "warn", "no word on renewal", error=repr(error)))
        span = (window.start, window.end) if window is not None else None
        self._from_thread(WindowTold(command.held.fingerprint, span, window.ask_again if window is not None else time() + 6 * 3600))

    # -- who asks -------------------------------------------------------------------------

    def _challenged(self, routed: Routed) -> None:
        """ROUTED: a path below /.well-known/acme-challenge/; nothing but the proofs of tokens is ever served there."""
        token = token_in(routed.target) if routed.method in (b"GET", b"HEAD") else ""
        if self._shelf is None or not token:
            self._not_found(routed)
        elif proof := self._http.here(token):
            self._prove(routed, proof)
        elif self._lookups >= LOOKUPS:
            self._not_found(routed)
        else:
            self._lookups += 1
            self._aside(partial(self._look_up, routed, token))

    def _look_up(self, routed: Routed, token: str) -> None:
        try:
            proof = self._http.anywhere(token)
        except StoreError:
            proof = ""
        self.context.loop.call_soon_threadsafe(self._looked_up, routed, proof)

    def _looked_up(self, routed: Routed, proof: str) -> None:
        self._lookups -= 1
        if proof:
            self._prove(routed, proof)
        else:
            self._not_found(routed)

    def _prove(self, routed: Routed, proof: str) -> None:
        self._answers.answer(routed, 200, b"content-type: application/octet-stream\r\ncache-control: no-store\r\n", proof.encode())

    def _not_found(self, routed: Routed) -> None:
        pages = self._asked.pages if self._asked is not None else ErrorPages()
        self._answers.answer(routed, *pages.page("not_found"), error="not_found")

    def _ended(self, message: Cancel | Done) -> None:
        self._answers.ended(message)

    def _renew(self, name: str, then: Callable[[str], None]) -> None:
        self._renewing.setdefault(name, []).append(then)
        self._feed(RenewAsked(name))

    def _known(self) -> list[KnownCertificate] | None:
        asked = self._asked
        if asked is None or not self._core.is_read:
            return None
        users = used_by(asked.servers, asked.certificates)
        stapled = self._stapler.stapled_since()
        known = [self._one(name, certificate, users.get(name, ())) for name, certificate in asked.certificates.items()]
        return [one._replace(stapled_at=stapled.get(one.name, 0.0)) for one in known]

    def _one(self, name: str, certificate: Certificate, servers: tuple[str, ...]) -> KnownCertificate:
        handed = self._core.handed.get(name)
        source = self._source(name, certificate, bool(handed))
        issuing = self._issuing(name) if certificate.acme and name in self._core.wanted else None
        pem = handed.cert if handed else certificate.tls_cert
        return KnownCertificate(name, certificate.domains, pem, source, servers, certificate.is_default, certificate.buffer_days, issuing)

    def _source(self, name: str, certificate: Certificate, is_handed: bool) -> str:
        if certificate.acme and (is_handed or not certificate.tls_cert):
            return ACME
        if certificate.is_ca:
            return MINTS
        return FILE if self._asked is not None and name in self._asked.files else CONFIGURATION

    def _issuing(self, name: str) -> IssuingFacts:
        wanted, record, due = self._core.wanted[name], self._core.record(name), self._core.due(name)
        return IssuingFacts(
            wanted.directory,
            wanted.challenge,
            self._core.step(name),
            record.error,
            record.failed_at,
            record.attempts,
            record.next_try,
            due.at if due else 0.0,
            due.reason if due else "",
        )

    # -- what is about to end ---------------------------------------------------------------

    def _watch(self) -> None:
        self._watcher = self.context.loop.call_later(WATCH, self._watch)
        for telling in self._expiries.due([watched_of(one) for one in self._known() or ()], time()):
            fields = {"certificates": list(telling.names), "count": telling.total}
            self.context.notice(telling.level, TLS_VALIDITY, telling.message, **fields)
            for message, line in telling.lines:
                self.context.log(telling.level, message, **line)


def _own(certificate: Certificate) -> HeldCertificate | None:
    """What stands in an entry itself, as the reference writes it there."""
    if not certificate.tls_cert:
        return None
    try:
        return held_of(Issued(certificate.tls_cert, certificate.tls_key))
    except ValueError:
        return None


def _everything(shelf: Shelf, wanted: Sequence[WantedCertificate]) -> ShelfRead:
    """Raises StoreError."""
    keeper = CertificateKeeper(shelf)
    held = {}
    for id in shelf.names("certificates"):
        issued = keeper.get_issued(id)
        if issued is not None:
            try:
                held[id] = held_of(issued)
            except ValueError:
                continue  # then another is got
    return ShelfRead(held, {one.id: read_record(shelf.get("records", one.id)) for one in wanted})
