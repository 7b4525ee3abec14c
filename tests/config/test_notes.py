"""What a configuration says in vain is told, and taken."""

from __future__ import annotations

import pytest

from pingap.config.model import Certificate, Server, Snapshot
from pingap.config.notes import notes_on

PLAIN, SECURE = Server(addr=()), Server(addr=(), global_certificates=True)


def certificate(*domains: str, is_default: bool = False) -> Certificate:
    return Certificate(tls_cert="", tls_key="", domains=domains, is_default=is_default)


def told(server: Server, **certificates: Certificate) -> tuple[str, ...]:
    return notes_on(Snapshot(servers={"other": PLAIN, "web": server}, certificates=certificates))


def test_a_certificate_that_no_server_uses_is_named() -> None:
    assert told(PLAIN, site=certificate("a.example")) == ("certificates.site is without effect: no server has global_certificates = true",)
    assert told(SECURE, site=certificate("a.example")) == ()
    assert told(PLAIN) == told(SECURE) == ()


def test_of_many_some_are_named_and_all_counted() -> None:
    (note,) = told(PLAIN, **{f"c{number}": certificate("a.example") for number in range(7)})
    assert note.startswith("certificates.c0, certificates.c1, certificates.c2, certificates.c3, certificates.c4 and 2 more are without")


@pytest.mark.parametrize(
    ("certificates", "notes"),
    [
        pytest.param({"a": certificate(), "b": certificate("b.example")}, ("certificates.a",), id="nobody can ask for it"),
        pytest.param({"a": certificate()}, (), id="the only one is the default"),
        pytest.param({"a": certificate(is_default=True), "b": certificate("b.example")}, (), id="the default"),
        pytest.param({"a": certificate("a.example"), "b": certificate("*.b.example")}, (), id="both have names"),
    ],
)
def test_a_certificate_for_no_name_is_named(certificates: dict[str, Certificate], notes: tuple[str, ...]) -> None:
    assert tuple(note.split()[0] for note in told(SECURE, **certificates)) == notes
