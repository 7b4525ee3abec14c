"""The acme actor: what it is told goes to the core, and what the core decides is done, by threads where it takes its time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
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
from pingap.config.storage.etcd.address import is_etcd
from pingap.observability.notices import TLS_VALIDITY
from pingap.stages.acme.answering import CertificateQuestions
from pingap.stages.acme.aside import AsideWork, to_loop
from pingap.stages.acme.challenged import ChallengeAnswers
from pingap.stages.acme.core import SWITCHED_OFF, AcmeCore
from pingap.stages.acme.dns_voice import DnsVoice
from pingap.stages.acme.expiries import Expiries
from pingap.stages.acme.handshakes import addresses_of, name_to_ask, why_not_shown
from pingap.stages.acme.held import held_of
from pingap.stages.acme.http_proofs import HttpProofs
from pingap.stages.acme.ocsp.stapler import Stapler
from pingap.stages.acme.presenter import Presenter
from pingap.stages.acme.reading import ShelfReading
from pingap.stages.acme.statuses import IssuingFacts, KnownCertificate, used_by, watched_of
from pingap.stages.acme.store.base import Shelf
from pingap.stages.acme.store.places import shelf_of
from pingap.stages.acme.suggestions import USUAL_PAUSE
from pingap.stages.acme.ticket_keeper import TicketKeeper
from pingap.stages.acme.ticket_places import InRunDir, OnShelf, TicketPlace
from pingap.stages.acme.tls_proofs import TlsProofs
from pingap.stages.acme.topic import CertificatesTopic
from pingap.stages.acme.tries import Tries
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.wishes import wanted_of
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
    TakenByAll,
    TimeCame,
    WindowTold,
    WishesChanged,
)
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
        self._topic: CertificatesTopic
        self._challenges = ChallengeAnswers(context)
        self._questions = CertificateQuestions(context, self._known, self._renew)
        self._renewing: dict[str, list[Callable[[str], None]]] = {}
        """Who waits for a certificate."""
        self._expiries = Expiries()
        self._stapler = Stapler(context, self._stapled, lambda revoked: self._feed_soon(RevocationsHeard(revoked)))
        self._tickets_on_shelf: OnShelf | None = None
        self._tickets = TicketKeeper(context, self._place_of_tickets, self._ticket_secrets_changed)
        self._shelf: Shelf | None = None
        """Opened when there is something to be stored."""
        self._reading: ShelfReading
        self._tries: Tries
        self._proofs = TlsProofs(self._show, self._hide)
        self._windows = AsideWork("acme windows")
        self._looks = AsideWork("acme looks")
        self._authority_made: Authority | None = None
        self._making = threading.Lock()
        self._shown: list[tuple[int, threading.Event]] = []
        """Who waits for a version to be taken by all."""
        self._repeats = Repeats(context)
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._is_stopping = False

    def receivers(self) -> Receivers:
        return {
            Routed: self._challenges.asked,
            Cancel: self._challenges.ended,
            Done: self._challenges.ended,
            CertificatesTaken: self._taken,
            CertificatesAsk: self._questions.asked,
        }

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = self.context.loop
        self._topic = CertificatesTopic(self.context)
        self._generations.start()

    async def stop(self) -> None:
        self._is_stopping = True
        self._challenges.stop()
        self._stapler.stop()
        self._tickets.stop()
        for timer in (self._timer, self._watcher):
            if timer is not None:
                timer.cancel()
        for work in (self._windows, self._looks):
            work.stop()
        if self._shelf is not None:
            self._reading.stop()
            self._tries.stop()

    def told(self, word: str, args: Any) -> None:
        self._questions.told(word, args)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._challenges.forget(gone)
        if self._asked is not None:
            self._look_who_takes()

    def figures(self) -> dict[str, float]:
        return {"certificates": len(self._asked.certificates) if self._asked else 0, "in_flight": len(self._challenges)}

    def held(self) -> int:
        return len(self._challenges)

    def _committed(self, generation: int, asked: _Wishes) -> None:
        is_first, self._asked = self._asked is None, asked
        self._challenges.pages = asked.pages
        wanted = wanted_of(asked.certificates, asked.servers)
        own = {name: held for name in wanted if (held := _own(asked.certificates[name])) is not None}
        if wanted and self._shelf is None:
            try:
                self._open(asked.directory)
            except ConfigRefused as error:
                self._feed(ShelfAway(str(error)))
        self._challenges.is_proved_here = any(one.challenge == "http-01" for one in wanted.values())
        self._feed(WishesChanged(wanted, own))
        if self._shelf is not None:
            self._read()
        elif not wanted:
            self._feed(ShelfRead({}, {}))
        self._serve_staples()
        if any(server.global_certificates for server in asked.servers.values()):
            self._tickets.begin()
        if is_first:
            self._watch()
            self.context.ready()

    def _open(self, directory: str) -> None:
        """Once: another directory needs a restart."""
        self._shelf = shelf_of(self.context.settings.get("source"), directory or default_directory(), self._warn)
        self._reading = ShelfReading(self._shelf, self._from_thread, self._warn)
        self._http = self._challenges.proofs = HttpProofs(self._shelf, self._warn)
        self._tries = Tries(self._shelf, self._authority, self._presenter, self._from_thread)

    def _warn(self, text: str) -> None:
        """From whatever thread."""
        to_loop(self._loop, self._repeats.log, "warn", text)

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
        to_loop(self._loop, self._feed, event)

    def _feed(self, event: Event) -> None:
        if self._is_stopping:
            return
        events = deque([event])
        while events:
            for command in self._core.handle(events.popleft(), time()):
                if isinstance(command, PublishCertificates):  # and nothing may come between: what is in it is what the core has said
                    self._topic.issued = self._core.published
                    events.append(CertificatesPublished(self._topic.publish()))
                    self._serve_staples()
                else:
                    self._do(command)
        self._set_timer()

    def _do(self, command: Command) -> None:
        match command:
            case BeginTry(wanted, seen):
                self.context.log("info", "certificate is being got", certificate=wanted.name, authority=wanted.directory)
                self._tries.begin(wanted, seen)
            case EndTry(id):
                self._tries.end(id)
            case LeaveTry(id):
                self._tries.leave(id)
            case MakeHandshake():
                self._looks.do(self._handshake_for(command))
            case AskWindow():
                self._windows.do(partial(self._window, command))
            case KeepRecord(id, record):
                self._reading.keep(id, record)
            case PutBack(id, held):
                self._reading.put_back(id, held)
            case SayLine(level, message, fields):
                self.context.log(level, message, **fields)
            case SayNotice(level, category, message, fields):
                self.context.notice(level, category, message, **fields)
            case Settle(name, error):
                for then in self._renewing.pop(name, ()):
                    then(error)

    def _feed_soon(self, event: Event) -> None:
        self._loop.call_soon(self._feed, event)

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

    def _read(self) -> None:
        self._looked = monotonic()
        self._reading.read(tuple(self._core.wanted.values()), self._core.gains)

    # -- staples and tickets ------------------------------------------------------------------

    def _serve_staples(self) -> None:
        """Of what is minted there is nothing to be asked."""
        asked, published = self._asked, self._core.published
        if asked is not None:
            chains = {name: _pem(one, published.get(name)) for name, one in asked.certificates.items() if not one.is_ca}
            self._stapler.serve({name: chain for name, chain in chains.items() if chain})

    def _stapled(self, staples: Mapping[str, bytes]) -> None:
        self._topic.staples = staples
        self._publish_others()

    def _place_of_tickets(self) -> TicketPlace:
        """On a shelf of its own (what is wrong with it concerns no certificate) where there is one anyway. Raises ConfigRefused."""
        asked, source = self._asked, self.context.settings.get("source")
        assert asked is not None
        if (source is not None and is_etcd(source)) or any(one.acme for one in asked.certificates.values()):
            if self._tickets_on_shelf is None:
                self._tickets_on_shelf = OnShelf(shelf_of(source, asked.directory or default_directory(), self._warn))
            return self._tickets_on_shelf
        return InRunDir(self.context.run_dir)

    def _ticket_secrets_changed(self, secrets: tuple[bytes, ...]) -> None:
        self._topic.tickets = secrets
        self._publish_others()

    def _publish_others(self) -> None:
        """Before the first word on certificates nothing is published: that there are none would be believed."""
        if self._topic.version:
            self._topic.publish()

    # -- proofs and handshakes ------------------------------------------------------------

    def _presenter(self, wanted: WantedCertificate, step: Callable[[str], None], halt: threading.Event) -> Presenter:
        if wanted.challenge == "http-01":
            return self._http
        if wanted.challenge == "tls-alpn-01":
            return self._proofs
        DnsPresenter: Any = import_module("pingap.stages.acme.dns.presenter").DnsPresenter
        voice = DnsVoice(self.context, wanted, step)
        presenter: Presenter = DnsPresenter(wanted.dns, voice.tell, halt, awaited=voice.awaited)
        return presenter

    def _show(self, name: str, proof: Issued, shown: threading.Event) -> None:
        def show() -> None:
            self._topic.challenges[name] = proof
            self._shown.append((self._topic.publish(), shown))
            self._look_who_takes()

        to_loop(self._loop, show)

    def _hide(self, name: str) -> None:
        def hide() -> None:
            if self._topic.challenges.pop(name, None) is not None:
                self._topic.publish()

        to_loop(self._loop, hide)

    def _taken(self, message: CertificatesTaken) -> None:
        """CERTIFICATES_TAKEN."""
        self._topic.taken(message)
        self._look_who_takes()

    def _look_who_takes(self) -> None:
        version = self._topic.taken_by_all
        for wanted, shown in self._shown:
            if version >= wanted:
                shown.set()
        self._shown = [one for one in self._shown if not one[1].is_set()]
        self._feed_soon(TakenByAll(version))

    def _handshake_for(self, command: MakeHandshake) -> Callable[[], None]:
        certificates, servers = (self._asked.certificates, self._asked.servers) if self._asked is not None else ({}, {})
        name = name_to_ask(command.name, command.domains, certificates, self._core.published)

        def made() -> None:
            failure = ""
            try:
                failure = why_not_shown(addresses_of(servers), name, command.fingerprint) if name else ""
            except Exception as error:  # else it would be waited for until the next start
                failure = f"a fault of pingap: {error!r}"
            self._from_thread(HandshakeMade(command.name, command.fingerprint, failure))

        return made

    def _window(self, command: AskWindow) -> None:
        window = None
        try:
            window = self._authority().renewal_window(command.wanted, command.held.issued.cert)
        except Exception as error:
            to_loop(self._loop, partial(self._repeats.log, "warn", "no word on renewal", error=repr(error)))
        span = (window.start, window.end) if window is not None else None
        self._from_thread(WindowTold(command.held.fingerprint, span, window.ask_again if window is not None else time() + USUAL_PAUSE))

    # -- who asks -------------------------------------------------------------------------

    def _renew(self, name: str, then: Callable[[str], None]) -> None:
        self._renewing.setdefault(name, []).append(then)
        self._feed(RenewAsked(name))

    def _known(self) -> list[KnownCertificate] | None:
        asked = self._asked
        if asked is None:
            return None
        users = used_by(asked.servers, asked.certificates)
        stapled = self._stapler.stapled_since()
        published = self._core.published
        known = [self._one(name, one, users.get(name, ()), published.get(name)) for name, one in asked.certificates.items()]
        return [one._replace(stapled_at=stapled.get(one.name, 0.0)) for one in known]

    def _one(self, name: str, certificate: Certificate, servers: tuple[str, ...], got: Issued | None) -> KnownCertificate:
        source = self._source(name, certificate, bool(got))
        issuing = self._issuing(name) if certificate.acme and self._core.wants(name) else None
        pem = _pem(certificate, got)
        known = KnownCertificate(name, certificate.domains, pem, source, servers, certificate.is_default, certificate.buffer_days, issuing)
        return known._replace(warnings=(SWITCHED_OFF,)) if issuing is not None and self._core.is_disabled else known

    def _source(self, name: str, certificate: Certificate, is_got: bool) -> str:
        if certificate.acme and (is_got or not certificate.tls_cert):
            return ACME
        if certificate.is_ca:
            return MINTS
        return FILE if self._asked is not None and name in self._asked.files else CONFIGURATION

    def _issuing(self, name: str) -> IssuingFacts:
        wanted, record, due = self._core.one_wanted(name), self._core.record(name), self._core.due(name)
        return IssuingFacts(
            wanted.directory,
            wanted.challenge,
            self._core.step(name),
            f"the store of certificates: {self._core.trouble}" if self._core.trouble else record.error,
            record.failed_at,
            record.attempts,
            self._core.next_try(name),
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


def _pem(certificate: Certificate, got: Issued | None) -> str:
    """What clients get at the moment; "" while there is nothing."""
    return got.cert if got else certificate.tls_cert


def _own(certificate: Certificate) -> HeldCertificate | None:
    """What stands in an entry itself, as the reference writes it there."""
    if not certificate.tls_cert:
        return None
    try:
        return held_of(Issued(certificate.tls_cert, certificate.tls_key))
    except ValueError:
        return None
