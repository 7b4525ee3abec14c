"""Certificates from an authority (RFC 8555), and when it wants them renewed (RFC 9773). For the threads of the acme stage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pingap.stages.acme.authority.checking import readable_leaf
from pingap.stages.acme.authority.failures import AuthorityRefused, IssueFailed
from pingap.stages.acme.authority.orders import StoredOrders
from pingap.stages.acme.authority.patience import AuthorityTime, OrderPatience
from pingap.stages.acme.authority.problems import in_words, is_final
from pingap.stages.acme.authority.retrying import after, retry_at
from pingap.stages.acme.authority.windows import RenewalWindow, certificate_id, read_window
from pingap.stages.acme.presenter import Presenter
from pingap.stages.acme.store.base import Shelf
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued, WantedCertificate

if TYPE_CHECKING:
    from pingap.stages.acme.authority.link import AuthorityLink

SOON: Final = 3600.0
"""Seconds until an authority that did not answer is asked again for a window."""


class _WindowAnswer(NamedTuple):
    window: RenewalWindow | None
    """None: it has not said."""
    ask_again: float
    """Seconds since 1970."""


class Authority:
    """All authorities, each by its directory. Threads may share it; each certificate is issued by one at a time."""

    def __init__(self, shelf: Shelf, version: str, clocks: AuthorityTime | None = None) -> None:
        """version: of pingap, for User-Agent."""
        self._shelf = shelf
        self._agent = f"pingap/{version} acme-python"
        self._clocks = clocks or AuthorityTime()
        self._orders = StoredOrders(shelf, self._clocks.now)
        self._windows: dict[str, _WindowAnswer] = {}
        """By id."""
        self._lock = threading.Lock()

    def issue(self, wanted: WantedCertificate, presenter: Presenter, progress: Callable[[str], None]) -> Issued:
        """Goes on with the order that was under way, if there is one. Raises IssueFailed, StoreError.

        progress: is called with each step before it: account, order, challenge NAME, finalize, download. Until what comes back is on the
        shelf as a certificate the order is kept, and leads to the same certificate again.
        """
        from pingap.stages.acme.authority.accounts import AcmeAccounts  # `acme` and `requests` take 20 MB and 0.3 s
        from pingap.stages.acme.authority.ordering import OrderRun
        from pingap.stages.acme.authority.polling import Poller

        patience = OrderPatience(self._clocks)
        link = self._link(wanted)
        link.before = patience.check
        try:
            accounts = AcmeAccounts(self._shelf, link, wanted, patience)
            run = OrderRun(wanted, self._orders, accounts, Poller(link, self._clocks, patience), presenter, progress)
            kept = CertificateKeeper(self._shelf).get_issued(wanted.id)
            leaf = readable_leaf(kept.cert) if kept is not None else None
            return run.issued(certificate_id(leaf) if leaf is not None else "", leaf)
        except AuthorityRefused as refused:
            raise self._in_words(wanted, refused) from refused
        finally:
            link.close()

    def settle(self, wanted: WantedCertificate) -> None:
        """The certificate is on the shelf: its order is done. Without this word the next `issue` finds out. Raises StoreError."""
        self._orders.drop(wanted)

    def renewal_window(self, wanted: WantedCertificate, chain: str) -> RenewalWindow | None:
        """chain: PEM, the leaf first. None: the authority does not say, or not now. It is asked as often as it allows, and remembered."""
        leaf = readable_leaf(chain)
        name = certificate_id(leaf) if leaf is not None else ""
        if not name:
            return None
        now = self._clocks.now()
        with self._lock:
            known = self._windows.get(name)
        if known is None or known.ask_again <= now:
            known = self._asked_window(wanted, name, known.window if known is not None else None)
            with self._lock:
                self._windows = {one: what for one, what in self._windows.items() if what.ask_again >= now - 7 * 86400} | {name: known}
        return known.window

    def _asked_window(self, wanted: WantedCertificate, name: str, last: RenewalWindow | None) -> _WindowAnswer:
        """last: what it said before, which holds until it says otherwise."""
        try:
            link = self._link(wanted)
        except IssueFailed:
            return _unanswered(last, self._clocks.now() + SOON)
        try:
            where = link.directory.renewal_info
            if not where:
                return _unanswered(last, self._clocks.now() + 86400.0)
            reply = link.get(f"{where.rstrip('/')}/{name}")
            now = self._clocks.now()
            window = read_window(reply.table, after(reply.retry_after, now), now)
            return _WindowAnswer(window, window.ask_again)
        except (IssueFailed, AuthorityRefused, ValueError) as error:
            when = error.retry_at if isinstance(error, IssueFailed) else None
            if isinstance(error, AuthorityRefused):
                when = after(error.headers.get("Retry-After"), self._clocks.now())
            return _unanswered(last, max(when or 0.0, self._clocks.now() + SOON))
        finally:
            link.close()

    def _link(self, wanted: WantedCertificate) -> AuthorityLink:
        from pingap.stages.acme.authority.link import AuthorityLink

        return AuthorityLink(wanted.directory, wanted.authority_ca, self._agent, self._clocks.now)

    def _in_words(self, wanted: WantedCertificate, refused: AuthorityRefused) -> IssueFailed:
        problem = refused.problem
        name = "" if problem.name else ", ".join(wanted.domains)
        when = retry_at(refused.headers.get("Retry-After"), problem.detail, self._clocks.now())
        kind = "rateLimited" if refused.status == 429 else problem.kind
        return IssueFailed(in_words(problem, name), kind, when, is_final(problem))


def _unanswered(last: RenewalWindow | None, ask_again: float) -> _WindowAnswer:
    return _WindowAnswer(last._replace(ask_again=ask_again) if last is not None else None, ask_again)
