"""Tries to get certificates, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError
from time import time
from typing import TYPE_CHECKING, Final

from pingap.config.model import Certificate
from pingap.config.tls_library import load_into
from pingap.stages.acme.held import held_of, held_on
from pingap.stages.acme.presenter import NotPresented, Presenter
from pingap.stages.acme.store.base import Lease, Shelf, StoreError
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued, WantedCertificate
from pingap.stages.acme.words import Event, HeldCertificate, Stepped, TryFailed, TrySucceeded, TryWasAnothers

if TYPE_CHECKING:
    from pingap.stages.acme.authority.authority import Authority

LEASE: Final = 60.0
"""Seconds after which another instance may take over from one that has died in a try."""

_OF_ALL: Final = ("orders", "registrations", "accounts", "requests")
"""Words of a limit that is not about one name (Let's Encrypt, "Rate Limits")."""

PresenterOf = Callable[[WantedCertificate, Callable[[str], None], threading.Event], Presenter]
"""For what is wanted: takes lines for the operator, and what halts all waiting. Raises NotPresented."""


class TryHalted(Exception):
    """It is wanted no more, or its lease is lost: what was begun is on the shelf."""


class _Run:
    """One that is under way, or was left to itself."""

    def __init__(self) -> None:
        self.halt = threading.Event()
        """It is to end with its next step."""
        self.done = threading.Event()
        """Its lease is renewed no more."""
        self.is_left = False
        """Nobody waits for it any more."""


class Tries:
    """Those under way. tell: takes events, in whatever thread."""

    def __init__(self, shelf: Shelf, authority: Callable[[], Authority], presenter_of: PresenterOf, tell: Callable[[Event], None]) -> None:
        """authority: made when the first is tried."""
        self._shelf = shelf
        self._keeper = CertificateKeeper(shelf)
        self._authority = authority
        self._presenter_of = presenter_of
        self._tell = tell
        self._runs: dict[str, _Run] = {}
        """By id of what is wanted."""

    def begin(self, wanted: WantedCertificate, seen: str) -> None:
        """It ends with TrySucceeded, TryFailed or TryWasAnothers. seen: fingerprint of what is to be replaced."""
        run = self._runs[wanted.id] = _Run()
        try:
            threading.Thread(target=self._run, args=(wanted, seen, run), name=f"acme {wanted.name}", daemon=True).start()
        except RuntimeError as error:
            self._tell(TryFailed(wanted, f"the machine has no thread left for it: {error}"))

    def end(self, id: str) -> None:
        """What it waits for is waited for no more, and it does not go on to its next step."""
        if (run := self._runs.get(id)) is not None:
            run.halt.set()

    def leave(self, id: str) -> None:
        """A thread cannot be ended: what it may still bring is found on the shelf, and its lease is given up."""
        if (run := self._runs.pop(id, None)) is not None:
            run.is_left = True
            run.halt.set()
            run.done.set()

    def stop(self) -> None:
        """Ends all."""
        for id in list(self._runs):
            self.end(id)

    def _run(self, wanted: WantedCertificate, seen: str, run: _Run) -> None:
        from pingap.stages.acme.authority.failures import AuthorityUnreachable, IssueFailed

        event: Event
        try:
            event = self._tried(wanted, seen, run)
        except IssueFailed as error:
            is_rate_limited = error.problem_type.endswith("rateLimited")
            is_limit = is_rate_limited and any(word in str(error) for word in _OF_ALL)
            is_unreachable = isinstance(error, AuthorityUnreachable) and not is_rate_limited
            event = TryFailed(wanted, str(error), error.retry_at, error.is_final, is_limit, is_rate_limited, is_unreachable)
        except (NotPresented, StoreError, TryHalted) as error:
            event = TryFailed(wanted, str(error))
        except Exception as error:  # whatever it was, it is told, and tried again
            event = TryFailed(wanted, f"a fault of pingap: {error!r}")
        if not run.is_left:
            self._tell(event)

    def _tried(self, wanted: WantedCertificate, seen: str, run: _Run) -> Event:
        lease = self._shelf.lease(wanted.id, LEASE)
        if lease is None:
            return TryWasAnothers(wanted, self._shelf.holder(wanted.id) or "which it does not say")
        renewing = threading.Thread(target=_renew, args=(lease, run), name=f"acme lease {wanted.name}", daemon=True)
        try:
            renewing.start()
            there = held_on(self._shelf, wanted.id)
            if there is not None and there.fingerprint != seen:
                return TrySucceeded(wanted, there, True)
            step = self._steps(wanted, run.halt)
            authority = self._authority()
            with closing(self._presenter_of(wanted, partial(self._say, wanted), run.halt)) as presenter:
                issued = authority.issue(wanted, presenter, step)
            held = self._stored(wanted, issued, step)
            authority.settle(wanted)
            return TrySucceeded(wanted, held)
        finally:
            run.done.set()
            lease.release()

    def _steps(self, wanted: WantedCertificate, halt: threading.Event) -> Callable[[str], None]:
        def step(text: str) -> None:
            if halt.is_set():
                raise TryHalted(f"it was broken off before: {text}; another instance may have taken over, or the configuration has changed")
            self._say(wanted, text)

        return step

    def _say(self, wanted: WantedCertificate, text: str) -> None:
        self._tell(Stepped(wanted.id, text))

    def _stored(self, wanted: WantedCertificate, issued: Issued, step: Callable[[str], None]) -> HeldCertificate:
        """Puts it there, and reads it back. Raises StoreError, TryHalted."""
        try:
            load_into(SSLContext(PROTOCOL_TLS_SERVER), Certificate(tls_cert=issued.cert, tls_key=issued.key))
        except (SSLError, OSError) as error:
            raise StoreError(f"what was issued is not taken by the TLS library: {error}") from error
        step("store")
        self._keeper.put_issued(wanted.id, issued, time())
        if self._keeper.get_issued(wanted.id) != issued:
            raise StoreError("what was stored is not what is there: is another program writing there?")
        return held_of(issued)


def _renew(lease: Lease, run: _Run) -> None:
    while not run.done.wait(LEASE / 3):
        if not lease.renew():
            run.halt.set()  # another instance may be at it by now
            return
    if run.is_left:  # one in a directory lasts as long as the process
        lease.release()
