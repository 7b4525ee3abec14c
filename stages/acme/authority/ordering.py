"""One order, from wherever it is to its certificate (RFC 8555 section 7.4, docs/decisions/0045)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cryptography import x509

from pingap.stages.acme.authority.accounts import AcmeAccount, AcmeAccounts, is_closed, is_unknown
from pingap.stages.acme.authority.authorizing import Authorizing, PendingProof
from pingap.stages.acme.authority.checking import checked_chain, has_most_of_its_life, readable_leaf
from pingap.stages.acme.authority.failures import AuthorityRefused, AuthorityUnreachable, IssueFailed
from pingap.stages.acme.authority.forms import base64url, moment
from pingap.stages.acme.authority.keys import identifiers
from pingap.stages.acme.authority.link import AuthorityReply
from pingap.stages.acme.authority.orders import StoredOrder, StoredOrders
from pingap.stages.acme.authority.polling import Poller
from pingap.stages.acme.authority.problems import in_words, is_final, read_problem
from pingap.stages.acme.authority.retrying import retry_at
from pingap.stages.acme.presenter import Presenter
from pingap.stages.acme.wanted import Issued, WantedCertificate

_NO_REPLACES: Final = frozenset(("alreadyReplaced", "conflict", "malformed", "unauthorized", "notFound", "blank", ""))
"""Problems with a newOrder that may be about its `replaces` only."""
_GONE: Final = frozenset(("malformed", "unauthorized", "accountDoesNotExist", "notFound", "orderDoesNotExist", ""))
"""Problems with looking at an order that mean that it is not, or not ours, any more."""


class OrderRun:
    """Takes one wanted certificate through its order."""

    def __init__(
        self,
        wanted: WantedCertificate,
        orders: StoredOrders,
        accounts: AcmeAccounts,
        poller: Poller,
        presenter: Presenter,
        progress: Callable[[str], None],
    ) -> None:
        self._wanted = wanted
        self._orders = orders
        self._accounts = accounts
        self._poller = poller
        self._presenter = presenter
        self._progress = progress
        self._link = poller.link

    def issued(self, replaces: str, current: x509.Certificate | None) -> Issued:
        """replaces: RFC 9773 id of the certificate that this one is for, "" for none. current: itself; an order that led to it is done.

        Raises IssueFailed, AuthorityRefused, StoreError.
        """
        self._progress("account")
        account = self._accounts.entered()
        self._progress("order")
        stored = self._orders.load(self._wanted)
        table = self._found(stored, account) if stored is not None and stored.url else None
        if stored is not None:
            self._clear(stored)
            if table is not None and table.get("status") == "valid":
                issued = self._found_issued(stored, table, current)
                if issued is not None:
                    return issued
                table = None
        if stored is None or (table is None and stored.url):
            stored = self._orders.begin(self._wanted)
        if table is None:
            account, table = self._made(stored, account, replaces)
        return self._through(stored, account, table)

    # -- from the shelf -----------------------------------------------------------------

    def _found(self, stored: StoredOrder, account: AcmeAccount) -> dict[str, Any] | None:
        """How far the authority is with it; None: another one has to be made."""
        if stored.account != account.url:
            return None
        try:
            table = self._poller.ask(stored.url).table
        except AuthorityRefused as refused:
            if refused.problem.kind in _GONE or refused.status in (404, 410):
                return None
            raise
        status = table.get("status")
        if status == "invalid" or (status in ("pending", "ready") and self._is_over(table)):
            return None
        return table

    def _found_issued(self, stored: StoredOrder, table: dict[str, Any], current: x509.Certificate | None) -> Issued | None:
        """What was issued and not fetched before we were killed. None: another one has to be ordered, as this is the one to be renewed."""
        try:
            issued = self._fetched(stored, table)
        except (ValueError, AuthorityRefused):
            return None
        leaf = readable_leaf(issued.cert)
        return issued if leaf is not None and leaf != current and has_most_of_its_life(leaf, self._poller.now()) else None

    def _is_over(self, table: dict[str, Any]) -> bool:
        try:
            return moment(table.get("expires")) <= self._poller.now()
        except ValueError:
            return False

    def _clear(self, stored: StoredOrder) -> None:
        """Removes the proofs of a run that was killed."""
        if stored.presented:
            for challenge in stored.presented:
                with self._poller.patience.paused():
                    self._presenter.remove(challenge)
            stored.presented = []
            self._orders.save(self._wanted, stored)

    # -- a new one ----------------------------------------------------------------------

    def _made(self, stored: StoredOrder, account: AcmeAccount, replaces: str) -> tuple[AcmeAccount, dict[str, Any]]:
        request: dict[str, Any] = {"identifiers": identifiers(self._wanted.domains)}
        directory = self._link.directory
        if self._wanted.profile:
            if self._wanted.profile not in directory.profiles:
                offered = f"it offers {', '.join(directory.profiles)}" if directory.profiles else "it offers none"
                raise IssueFailed(
                    f"{self._link.host} has no profile {self._wanted.profile!r}: {offered}; look at acme_profile",
                    "invalidProfile",
                    is_final=True,
                )
            request["profile"] = self._wanted.profile
        if replaces and directory.renewal_info:
            request["replaces"] = replaces
        may_register = True
        while True:
            try:
                reply = self._link.post(directory.new_order, request)
                break
            except AuthorityRefused as refused:
                if may_register and (is_unknown(refused) or (is_closed(refused) and "replaces" not in request)):
                    may_register = False
                    account = self._anew(account, is_closed(refused))
                elif "replaces" in request and refused.problem.kind in _NO_REPLACES:
                    del request["replaces"]
                else:
                    raise
        if not reply.location:
            raise AuthorityUnreachable(f"{self._link.host} does not speak ACME: it names no URL for the new order")
        stored.account, stored.url = account.url, reply.location
        self._orders.save(self._wanted, stored)
        return account, reply.table

    def _anew(self, account: AcmeAccount, is_dead: bool) -> AcmeAccount:
        try:
            return self._accounts.entered_anew(account, is_dead)
        except AuthorityRefused as refused:
            if is_dead or not is_closed(refused):
                raise
            return self._accounts.entered_anew(account, is_dead=True)

    # -- on and on ----------------------------------------------------------------------

    def _through(self, stored: StoredOrder, account: AcmeAccount, table: dict[str, Any]) -> Issued:
        thumbprint = base64url(account.signing_key.thumbprint())
        authorizing = Authorizing(self._poller, self._wanted.challenge, self._presenter, thumbprint, self._progress)
        is_proven = is_finalized = False
        reply: AuthorityReply | None = None
        while True:
            status = table.get("status")
            if status == "valid":
                return self._downloaded(stored, table)
            if status == "invalid":
                self._orders.drop(self._wanted)
                raise self._invalid(table)
            if status == "pending" and not is_proven:
                is_proven = True
                self._prove(stored, authorizing, table)
            elif status == "ready" and not is_finalized:
                is_finalized = True
                reply = self._finalized(stored, table)
                if reply is not None:
                    table = reply.table
                    continue
            elif status in ("pending", "ready", "processing"):
                self._poller.pause(reply, ", ".join(self._wanted.domains))
            else:
                raise AuthorityUnreachable(f"{self._link.host} does not speak ACME: its order has the status {str(status)[:40]!r}")
            reply = self._poller.ask(stored.url)
            table = reply.table

    def _prove(self, stored: StoredOrder, authorizing: Authorizing, table: dict[str, Any]) -> None:
        urls = table.get("authorizations")
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise AuthorityUnreachable(f"{self._link.host} does not speak ACME: its order has no authorizations")
        try:
            due: list[PendingProof] = authorizing.proofs(urls, self._wanted.domains)
            if due:
                stored.presented = [proof.challenge for proof in due]
                self._orders.save(self._wanted, stored)
                authorizing.prove(due)
        except AuthorityUnreachable:
            raise
        except (AuthorityRefused, IssueFailed) as error:
            if not isinstance(error, IssueFailed) or error.problem_type or error.is_final:
                self._orders.drop(self._wanted)  # nothing comes of it any more
                raise
            self._presented_no_more(stored)
            raise
        else:
            self._presented_no_more(stored)
        self._poller.patience.restart()

    def _presented_no_more(self, stored: StoredOrder) -> None:
        if stored.presented:
            stored.presented = []
            self._orders.save(self._wanted, stored)

    def _finalized(self, stored: StoredOrder, table: dict[str, Any]) -> AuthorityReply | None:
        """None: it was finalized by us already, and the answer was lost."""
        self._progress("finalize")
        url = table.get("finalize")
        if not isinstance(url, str):
            raise AuthorityUnreachable(f"{self._link.host} does not speak ACME: its order cannot be finalized")
        try:
            return self._link.post(url, {"csr": base64url(stored.request)})
        except AuthorityRefused as refused:
            if refused.problem.kind == "orderNotReady":
                return None
            if refused.problem.kind not in ("rateLimited", "serverInternal"):
                self._orders.drop(self._wanted)
            raise

    def _downloaded(self, stored: StoredOrder, table: dict[str, Any]) -> Issued:
        try:
            return self._fetched(stored, table)
        except ValueError as error:
            self._orders.drop(self._wanted)
            raise IssueFailed(f"what {self._link.host} issued is not used: {error}") from None

    def _fetched(self, stored: StoredOrder, table: dict[str, Any]) -> Issued:
        """Raises ValueError: it is not what was asked for."""
        self._progress("download")
        url = table.get("certificate")
        if not isinstance(url, str):
            raise AuthorityUnreachable(f"{self._link.host} does not speak ACME: its order is valid and has no certificate")
        text = self._poller.ask(url).text
        return Issued(checked_chain(text, stored.key, self._wanted.domains, self._poller.now()), stored.key)

    def _invalid(self, table: dict[str, Any]) -> IssueFailed:
        problem = read_problem(table.get("error"))
        if problem is None:
            return IssueFailed(f"{', '.join(self._wanted.domains)}: the authority has given the order up, and does not say why")
        when = retry_at(None, problem.detail, self._poller.now())
        return IssueFailed(in_words(problem, ", ".join(self._wanted.domains)), problem.kind, when, is_final(problem))
