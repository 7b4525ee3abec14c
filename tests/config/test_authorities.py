"""[certificates.X] with `is_ca`: what is taken, and what clients would not believe."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pingap.config.model import Snapshot
from pingap.config.notes import notes_on
from pingap.config.problems import ConfigRefused
from tests.kit.authority import KINDS, TestAuthority
from tests.kit.config import load_text

SITE = '[servers.web]\naddr = "127.0.0.1:443"\nglobal_certificates = true\n'


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        load_text(SITE + text)
    return [f"{problem.path}: {problem.message}" for problem in refused.value.problems]


def notes(snapshot: Snapshot) -> list[str]:
    return [f"{note.path}: {note.message}" for note in notes_on(snapshot)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_authority_is_taken_whatever_its_key(kind: str) -> None:
    snapshot = load_text(SITE + TestAuthority(kind).section(more='domains = "*.dev.test"'))
    assert snapshot.certificates["house"].is_ca and notes(snapshot) == []


def test_without_domains_it_is_for_all_names_and_not_for_its_own() -> None:
    two = TestAuthority().section() + TestAuthority().section("other", 'domains = "a.test"')
    snapshot = load_text(SITE + two)
    assert snapshot.certificates["house"].domains == () and notes(snapshot) == []


def test_a_certificate_of_a_server_is_no_authority() -> None:
    assert problems(TestAuthority(is_ca=False).section()) == [
        "certificates.house.tls_cert: is no authority's (basicConstraints lacks CA:TRUE)"
    ]
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    assert problems(TestAuthority(usage=usage).section()) == [
        "certificates.house.tls_cert: may not sign certificates (keyUsage lacks keyCertSign)"
    ]
    load_text(SITE + TestAuthority(usage=None).section())


def test_its_key_must_be_its_own() -> None:
    one, other = TestAuthority(), TestAuthority()
    text = f"[certificates.house]\nis_ca = true\ntls_cert = '''{one.pem}'''\ntls_key = '''{other.key_pem}'''\n"
    assert problems(text) == ["certificates.house.tls_key: does not belong to the certificate"]
    assert problems(f"[certificates.house]\nis_ca = true\ntls_cert = '''{one.pem}'''\n") == [
        "certificates.house.tls_key: has to be there, beside tls_cert"
    ]


def test_what_clients_will_refuse_is_noted_before_they_do() -> None:
    above = TestAuthority(pathlen=0, permitted=("test", "10.0.0.0/8"))
    below = TestAuthority("ec", above, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,), excluded=("secret.test",))
    snapshot = load_text(SITE + below.section(more='domains = "a.test, *.b.test, c.example, secret.test, 10.0.0.1, 127.0.0.1"'))
    path = "certificates.house"
    assert notes(snapshot) == [
        f"{path}.tls_cert: is not for certificates of servers (extendedKeyUsage lacks serverAuth)",
        f"{path}.domains: the authority may not make certificates for c.example, secret.test, 127.0.0.1 (its name constraints)",
        f"{path}.tls_cert: certificate 2 of the chain permits 0 authorities under it, and 1 are",
    ]
    purposes = (ExtendedKeyUsageOID.SERVER_AUTH,)
    assert notes(load_text(SITE + TestAuthority("ec", TestAuthority(pathlen=1), purposes=purposes).section())) == []


def test_that_it_ends_is_told_as_of_any_other() -> None:
    (note,) = notes(load_text(SITE + TestAuthority(days=3).section()))
    assert note.startswith("certificates.house.tls_cert: expires on ")
    (note,) = notes(load_text(SITE + TestAuthority(days=-1).section()))
    assert note.startswith("certificates.house.tls_cert: expired on ")
