"""What is shown of certificates, and what is answered to who asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pingap.config.model import Certificate, Server
from pingap.config.parts import Listen
from pingap.stages.acme.answering import CertificateQuestions
from pingap.stages.acme.statuses import IssuingFacts, KnownCertificate, authority_of, status_of, used_by, watched_of
from pingap.stages.certificate_status import DAY, CertificateStatus, plain_certificate
from pingap.stages.messages import CertificatesAsk, CertificatesTold
from tests.e2e.certificate import chained, self_signed
from tests.kit.context import FakeContext
from tests.kit.wire import over_the_wire

NOW = time.time()
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
CERT = self_signed("a.example", "*.a.example", days=30)[0]


def known(name: str = "site", pem: str = CERT, **more: Any) -> KnownCertificate:
    fields: dict[str, Any] = {"domains": ("a.example",), "source": "file", "servers": ("web",)}
    return KnownCertificate(name, pem=pem, **(fields | more))


def test_a_certificate_tells_of_itself() -> None:
    row = plain_certificate(status_of(known(is_default=True), NOW), NOW)
    assert {name: row[name] for name in ("certificate", "domains", "state", "source", "issuer", "key", "servers", "default", "acme")} == {
        "certificate": "site",
        "domains": ["a.example"],
        "state": "valid",
        "source": "file",
        "issuer": "a.example",
        "key": "ECDSA P-256",
        "servers": ["web"],
        "default": True,
        "acme": None,
    }
    assert 29.99 < row["days"] <= 30.01 and len(row["fingerprint"]) == 64 and int(row["serial"], 16)
    assert row["warnings"] == []
    assert status_of(known(pem=chained("b.example")[0], domains=("b.example",)), NOW).key == "RSA 2048"


def test_one_that_is_awaited_has_nothing_to_tell_but_how_far_it_is() -> None:
    issuing = IssuingFacts(STAGING, "http-01", last_error="no route", failed_at=NOW - 60, attempts=2, next_try=NOW + 60)
    row = plain_certificate(status_of(known(pem="", source="acme", issuing=issuing), NOW), NOW)
    assert (row["state"], row["days"], row["issuer"], row["fingerprint"]) == ("waiting", None, None, None)
    assert row["acme"] == {
        "authority": "Let's Encrypt staging",
        "challenge": "http-01",
        "step": None,
        "last_error": "no route",
        "failed_at": NOW - 60,
        "attempts": 2,
        "next_try": NOW + 60,
        "next_renewal": None,
        "renewal_reason": None,
    }
    under_way = issuing._replace(step="challenge a.example")
    assert status_of(known(pem="", issuing=under_way), NOW).state == "issuing"
    assert status_of(known(issuing=under_way), NOW).state == "valid", "the old one serves until the new one does"


@pytest.mark.parametrize(
    ("at", "state", "is_served"),
    [
        (0, "valid", True),
        (22 * DAY, "valid", True),
        (24 * DAY, "expires soon", True),
        (31 * DAY, "expired", False),
        (-2 * DAY, "not yet valid", False),
    ],
)
def test_its_state_is_that_of_the_moment(at: float, state: str, is_served: bool) -> None:
    status = status_of(known(), NOW + at)
    assert (status.state, status.is_served) == (state, is_served)


def test_what_is_wrong_with_it_is_said() -> None:
    warnings = status_of(
        known(domains=("a.example", "x.a.example", "other.example"), servers=(), warnings=("the key is old",)), NOW
    ).warnings
    assert warnings[:2] == ("the key is old", "it is not for other.example: clients that ask for that refuse it")
    assert warnings[2].startswith("no server uses it")
    assert status_of(known(source="mints", domains=("any.example",)), NOW).warnings == ()
    broken = status_of(known(pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), NOW)
    assert broken.state == "waiting" and broken.warnings[0].startswith("the certificate cannot be read: ")


def test_the_watch_gets_the_same() -> None:
    watched = watched_of(known(buffer_days=20, issuing=IssuingFacts(STAGING, "dns-01", last_error="no")))
    assert (watched.is_acme, watched.last_error, watched.buffer_days) == (True, "no", 20)
    assert abs(watched.not_after - NOW - 30 * DAY) < 100
    assert watched_of(known(pem="")).not_after == 0


def test_authorities_have_names() -> None:
    assert authority_of("https://acme-v02.api.letsencrypt.org/directory") == "Let's Encrypt"
    assert authority_of("https://127.0.0.1:14000/dir") == "127.0.0.1:14000"
    assert authority_of("") == ""


def test_who_hands_it_to_clients() -> None:
    listen = (Listen("127.0.0.1", 1),)
    servers = {name: Server(addr=listen, global_certificates=name != "plain") for name in ("web", "plain", "tls")}
    certificates = {
        "first": Certificate(domains=("a.example",)),
        "second": Certificate(domains=("a.example",)),
        "part": Certificate(domains=("a.example", "b.example")),
        "default": Certificate(is_default=True),
        "too": Certificate(is_default=True),
        "mints": Certificate(is_ca=True),
    }
    both = ("web", "tls")
    assert used_by(servers, certificates) == {"first": both, "second": (), "part": both, "default": both, "too": (), "mints": both}
    assert used_by(servers, {"only": Certificate()}) == {"only": both}


# -- answers -----------------------------------------------------------------------------------------


class Asked:
    """A context, the questions, and what the actor would do."""

    def __init__(self, *certificates: KnownCertificate) -> None:
        self.context = FakeContext("acme", 8)
        self.certificates: tuple[KnownCertificate, ...] | None = certificates
        self.renewing: list[tuple[str, Callable[[str], None]]] = []
        self.questions = CertificateQuestions(self.context, lambda: self.certificates, lambda *args: self.renewing.append(args))

    def told(self, word: str, *args: Any) -> None:
        self.questions.told(word, (17, *args))

    @property
    def answer(self) -> tuple[bool, Any]:
        """The newest."""
        what, said = self.context.reported[-1]
        assert (what, said["asked"]) == ("answer", 17)
        return said["ok"], said["value"]


def test_metrics_gets_rows_that_travel() -> None:
    asked = Asked(known(), known("shop", pem="", issuing=IssuingFacts(STAGING, "http-01")))
    asked.questions.asked(CertificatesAsk(9, 4))
    [(to, message)] = asked.context.sent
    arrived = over_the_wire(message)
    assert isinstance(arrived, CertificatesTold) and (to, arrived.ticket) == (9, 4)
    assert [row.name for row in arrived.rows] == ["site", "shop"] and isinstance(arrived.rows[0], CertificateStatus)


def test_the_command_gets_all_or_some() -> None:
    asked = Asked(known(), known("shop"))
    asked.told("certs")
    assert [row["certificate"] for row in asked.answer[1]] == ["site", "shop"]
    asked.told("certs", "shop")
    assert [row["certificate"] for row in asked.answer[1]] == ["shop"]
    asked.told("certs", "shpo")
    assert asked.answer == (False, "there is no certificate 'shpo': did you mean 'shop'?")
    asked.told("reload")
    assert len(asked.context.reported) == 3, "it is another's"


def test_a_renewal_is_answered_when_it_is_done() -> None:
    asked = Asked(known(), known("shop", issuing=IssuingFacts(STAGING, "http-01")))
    asked.told("cert-renew", "shop")
    [(name, done)] = asked.renewing
    assert name == "shop" and not asked.context.reported
    done("")
    assert asked.answer[0] and asked.answer[1]["certificate"] == "shop"
    done("the authority does not answer")
    assert asked.answer == (False, "certificate 'shop' could not be renewed: the authority does not answer")
    asked.certificates = (known(),)
    done("")
    assert asked.answer == (False, "certificate 'shop' has left the configuration meanwhile")


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (known(), "it is read from its file, which is followed: put the new one there"),
        (known(source="configuration"), "it stands in the configuration: put the new one there"),
        (known(source="mints"), "it is an authority's own"),
    ],
)
def test_only_what_comes_by_acme_can_be_renewed(one: KnownCertificate, why: str) -> None:
    asked = Asked(one)
    asked.told("cert-renew", "site")
    assert asked.answer == (False, f"certificate 'site' does not come by ACME: {why}") and not asked.renewing


def test_who_asks_too_early_or_wrongly_is_told_so() -> None:
    asked = Asked()
    asked.told("cert-renew", "site")
    assert asked.answer == (False, "there is no certificate 'site': the configuration has none")
    asked.told("cert-renew")
    assert not asked.answer[0]
    asked.certificates = None
    asked.told("certs")
    assert not asked.answer[0] and "ask again" in asked.answer[1]
    asked.questions.asked(CertificatesAsk(9, 4))
    assert asked.context.sent == [(9, CertificatesTold(4, ()))]
