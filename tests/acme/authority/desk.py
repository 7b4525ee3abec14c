"""A store, a small authority and a presenter that only writes down, for tests of what is said to authorities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509

from pingap.stages.acme.authority.authority import Authority
from pingap.stages.acme.authority.failures import IssueFailed
from pingap.stages.acme.authority.patience import AuthorityTime
from pingap.stages.acme.presenter import Challenge, NotPresented
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.wanted import Issued, WantedCertificate
from tests.kit.small_authority import SmallAuthority


class Killed(BaseException):
    """Nobody catches it, as nobody catches a kill; the process goes on for the test."""


class NotingPresenter:
    """Says that all is seen."""

    def __init__(self) -> None:
        self.presented: list[Challenge] = []
        self.removed: list[Challenge] = []
        self.fails = ""
        self.dies = False
        """While it presents."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        if self.dies:
            raise Killed
        if self.fails:
            raise NotPresented(self.fails)
        self.presented += challenges

    def remove(self, challenge: Challenge) -> None:
        if not self.dies:
            self.removed.append(challenge)

    def close(self) -> None:
        pass


class QuickTime:
    """Waits take no time, and are written down."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.waits: list[float] = []

    def clocks(self) -> AuthorityTime:
        real = AuthorityTime()
        return AuthorityTime(lambda: real.now() + self.ahead, lambda: real.steady() + self.ahead, self.wait)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.ahead += seconds


class Desk:
    """Of one instance. Others may have a desk with the same store."""

    def __init__(self, root: Path, small: SmallAuthority) -> None:
        self.root = root
        self.small = small
        self.shelf = FileShelf(str(root))
        self.presenter = NotingPresenter()
        self.time = QuickTime()
        self.authority = Authority(self.shelf, "1.2", self.time.clocks())
        self.steps: list[str] = []
        self.dies_at = ""

    def wanted(self, *domains: str, **more: Any) -> WantedCertificate:
        names = tuple(sorted(domains or ("example.test",)))
        return WantedCertificate(**{"name": "site", "domains": names, "directory": self.small.directory, **more})

    def progress(self, step: str) -> None:
        self.steps.append(step)
        if self.dies_at and step.startswith(self.dies_at):
            self.dies_at = ""
            raise Killed

    def issue(self, wanted: WantedCertificate | None = None) -> Issued:
        self.steps.clear()
        return self.authority.issue(wanted or self.wanted(), self.presenter, self.progress)

    def fails(self, wanted: WantedCertificate | None = None) -> IssueFailed:
        try:
            self.issue(wanted)
        except IssueFailed as error:
            return error
        raise AssertionError("it was issued")

    def keep(self, wanted: WantedCertificate, issued: Issued) -> None:
        """As the stage does when it has come."""
        CertificateKeeper(self.shelf).put_issued(wanted.id, issued, self.time.clocks().now())

    def account_urls(self) -> list[str]:
        return [msgpack.unpackb(self.shelf.get("accounts", name) or b"")["url"] for name in self.shelf.names("accounts")]


def leaf(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificates(issued.cert.encode())[0]


def names(issued: Issued) -> list[str]:
    san = leaf(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted([*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))])
