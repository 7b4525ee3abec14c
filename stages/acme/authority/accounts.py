"""Accounts at authorities, kept on the shelf and found again there (RFC 8555 section 7.3, docs/decisions/0045)."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgpack
from acme import messages
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from pingap.stages.acme.authority.failures import AuthorityRefused, IssueFailed
from pingap.stages.acme.authority.keys import new_key, read_key
from pingap.stages.acme.authority.link import AuthorityLink
from pingap.stages.acme.authority.patience import OrderPatience
from pingap.stages.acme.authority.problems import in_words
from pingap.stages.acme.store.base import Shelf
from pingap.stages.acme.wanted import WantedCertificate

LEASE: Final = 90.0
"""Seconds; registering takes two or three requests."""


_NO_BINDING: Final = frozenset(("unauthorized", "malformed", "externalAccountRequired"))
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{8,}")


class AcmeAccount(NamedTuple):
    """One account."""

    key: str
    """PEM."""
    url: str
    """"": it is not known yet whether the authority knows the key."""
    email: str

    @property
    def signing_key(self) -> JWKEC:
        key = read_key(self.key)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("an account's key is an ECDSA key")
        return JWKEC(key=key)


class AcmeAccounts:
    """Of one authority, for one wanted certificate: the account that it is asked for with."""

    def __init__(self, shelf: Shelf, link: AuthorityLink, wanted: WantedCertificate, patience: OrderPatience) -> None:
        self._shelf = shelf
        self._link = link
        self._wanted = wanted
        self._patience = patience
        # Whoever has a key of the authority's may have it once only, so another address does not mean another account there.
        owner = f"eab\0{wanted.eab_kid}" if wanted.eab_kid else f"mail\0{wanted.email}"
        host = urlsplit(wanted.directory).hostname or "none"
        digest = sha256(f"{wanted.directory}\0{owner}".encode()).hexdigest()
        self._name = f"{host[:80]}-{digest[:16]}"

    def entered(self) -> AcmeAccount:
        """One that the authority has known; requests are signed with it from now on. Raises IssueFailed, AuthorityRefused, StoreError."""
        account = self._load()
        if account is None or not account.url:
            account = self._registered("", is_dead=False)
        self._link.sign_with(account.signing_key, account.url)
        if account.email != self._wanted.email:
            try:
                self._link.post(account.url, {"contact": self._contact()})
            except AuthorityRefused as refused:
                if is_unknown(refused):
                    return self.entered_anew(account, is_dead=False)
                raise
            account = account._replace(email=self._wanted.email)
            self._save(account)
        return account

    def entered_anew(self, lost: AcmeAccount, is_dead: bool) -> AcmeAccount:
        """Instead of one that the authority does not know any more. is_dead: it does not take the key either."""
        account = self._registered(lost.url, is_dead)
        self._link.sign_with(account.signing_key, account.url)
        return account

    def _registered(self, lost: str, is_dead: bool) -> AcmeAccount:
        """lost: URL that is of no use."""
        with self._alone(lost):
            account = self._load()
            if account is not None and account.url and account.url != lost:
                return account
            if account is None or is_dead:
                account = AcmeAccount(new_key("ecdsa-p256"), "", self._wanted.email)
                self._save(account)  # before the authority knows it: after a crash the key finds the account again
            self._link.sign_with(account.signing_key, "")
            request: dict[str, Any] = {"termsOfServiceAgreed": True}
            if self._wanted.email:
                request["contact"] = self._contact()
            if self._wanted.eab_kid:
                request["externalAccountBinding"] = self._binding(account.signing_key)
            elif self._link.directory.needs_eab:
                raise IssueFailed(
                    f"{self._link.host} takes accounts of its customers only: set acme_eab_kid and acme_eab_hmac_key, which it hands out",
                    "externalAccountRequired",
                    is_final=True,
                )
            try:
                reply = self._link.post(self._link.directory.new_account, request)
            except AuthorityRefused as refused:
                if not self._wanted.eab_kid or refused.problem.kind not in _NO_BINDING or (lost and not is_dead):
                    raise
                said = f"{in_words(refused.problem)}; look at acme_eab_kid and acme_eab_hmac_key: some authorities take each pair only once"
                raise IssueFailed(said, refused.problem.kind, is_final=True) from refused
            if not reply.location:
                raise IssueFailed(f"{self._link.host} does not speak ACME: it names no URL for the new account")
            account = AcmeAccount(account.key, reply.location, self._wanted.email)
            self._save(account)
            return account

    @contextmanager
    def _alone(self, lost: str) -> Generator[None, None, None]:
        """Of all instances: two that begin at the same moment end with one account."""
        name = f"account-{self._name}"
        while (lease := self._shelf.lease(name, LEASE)) is None:
            account = self._load()
            if account is not None and account.url and account.url != lost:
                break
            self._patience.pause(None, "another instance registers the account")
        self._patience.restart()
        try:
            yield
        finally:
            if lease is not None:
                lease.release()

    def _contact(self) -> list[str]:
        return [f"mailto:{self._wanted.email}"] if self._wanted.email else []

    def _binding(self, key: JWKEC) -> dict[str, Any]:
        """RFC 8555 section 7.3.4."""
        secret = self._wanted.eab_hmac_key.strip().rstrip("=").translate(str.maketrans("+/", "-_"))
        if not _BASE64URL.fullmatch(secret):
            raise IssueFailed("acme_eab_hmac_key is not base64url, as authorities hand it out", is_final=True)
        directory = messages.Directory({"newAccount": self._link.directory.new_account})
        try:
            return messages.ExternalAccountBinding.from_data(key.public_key(), self._wanted.eab_kid, secret, directory)
        except (ValueError, JoseError):
            raise IssueFailed("acme_eab_hmac_key is not base64url, as authorities hand it out", is_final=True) from None

    def _load(self) -> AcmeAccount | None:
        value = self._shelf.get("accounts", self._name)
        try:
            table = msgpack.unpackb(value) if value is not None else {}
            account = AcmeAccount(str(table["key"]), str(table["url"]), str(table["email"]))
            account.signing_key  # noqa: B018  # that it can be read
        except (ValueError, KeyError, TypeError, msgpack.UnpackException):
            return None
        return account

    def _save(self, account: AcmeAccount) -> None:
        table = {"key": account.key, "url": account.url, "email": account.email, "directory": self._wanted.directory}
        self._shelf.put("accounts", self._name, msgpack.packb(table))


def is_unknown(refused: AuthorityRefused) -> bool:
    """Whether the account is to be registered anew."""
    return refused.problem.kind == "accountDoesNotExist"


def is_closed(refused: AuthorityRefused) -> bool:
    """Whether the account was deactivated or revoked (RFC 8555 section 7.3.6). At newOrder and newAccount it can mean nothing else."""
    return refused.problem.kind == "unauthorized"
