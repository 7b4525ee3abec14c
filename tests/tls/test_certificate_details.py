"""What is read from a client's certificate, held against OpenSSL and the cryptography library."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.client_certificates.details import ClientCertificate, details_of, listed, openssl_date
from tests.kit.identities import Identity, root
from tests.kit.odd_names import ODD_NAMES
from tests.kit.peers import needs

ROOT = root("Root, Inc.")
NAMES = [
    x509.DNSName("a.example"),
    x509.RFC822Name("alice@example.com"),
    x509.UniformResourceIdentifier("spiffe://example.com/ns/a,b"),
    x509.DNSName("*.b.example"),
]


def openssl(identity: Identity, *args: str) -> list[str]:
    """Lines of what it says of a certificate."""
    needs("openssl")
    argv = ["openssl", "x509", "-inform", "DER", "-noout", *args]
    return subprocess.run(argv, input=identity.der, capture_output=True, check=True, timeout=20).stdout.decode().splitlines()


@pytest.mark.processes
@pytest.mark.parametrize("case", ODD_NAMES)
def test_names_are_written_as_openssl_writes_them(case: str) -> None:
    identity = ROOT.issue(ODD_NAMES[case])
    details = details_of(identity.der)
    assert openssl(identity, "-subject", "-issuer", "-nameopt", "RFC2253") == [f"subject={details.subject}", f"issuer={details.issuer}"]
    assert details.subject.isascii() and (details.subject.isprintable())


@pytest.mark.processes
@pytest.mark.parametrize("serial", [1, 127, 128, 255, 256, 2**159 - 1])
def test_serial_numbers_and_dates_too(serial: int) -> None:
    identity = ROOT.issue("x", serial=serial, until=timedelta(365 * 40))
    details = details_of(identity.der)
    said = openssl(identity, "-serial", "-startdate", "-enddate", "-fingerprint", "-sha256")
    print_ = said[3].partition("=")[2].replace(":", "").lower()
    assert said[:3] == [
        f"serial={details.serial}",
        f"notBefore={openssl_date(details.not_before)}",
        f"notAfter={openssl_date(details.not_after)}",
    ]
    assert details.fingerprint == print_ == identity.certificate.fingerprint(hashes.SHA256()).hex()


def test_it_is_the_same_certificate_in_pem() -> None:
    identity = ROOT.issue("x")
    details = details_of(identity.der)
    assert details.pem == identity.pem and ssl.PEM_cert_to_DER_cert(unquote(details.escaped_pem)) == identity.der
    assert details.escaped_pem.startswith("-----BEGIN%20CERTIFICATE-----%0A") and details.escaped_pem.endswith(
        "-----END%20CERTIFICATE-----%0A"
    )


def test_alternative_names_by_their_kind() -> None:
    details = details_of(ROOT.issue("x", names=NAMES).der)
    assert details.dns_names == ("a.example", "*.b.example")
    assert details.emails == ("alice@example.com",)
    assert details.uris == ("spiffe://example.com/ns/a,b",)
    assert listed(details.uris) == "spiffe://example.com/ns/a%2Cb", "a comma is what stands between two"
    plain = details_of(ROOT.issue("x").der)
    assert (plain.dns_names, plain.emails, plain.uris) == ((), (), ())


def test_a_name_that_is_no_text_is_left_out() -> None:
    """An authority might be talked into one that ends a header line."""
    identity = ROOT.issue("x", names=[x509.DNSName("aXb.example"), x509.DNSName("good.example")])
    for bad in (b"\n", b"\0", b" ", b"\xe9"):
        assert details_of(identity.der.replace(b"aXb.example", b"a" + bad + b"b.example")).dns_names == ("good.example",)


def test_days_that_are_left() -> None:
    def days(until: timedelta) -> int:
        return details_of(ROOT.issue("x", since=timedelta(-9), until=until).der).days_left

    assert (days(timedelta(days=5, minutes=1)), days(timedelta(hours=23)), days(timedelta(-2))) == (5, 0, 0)
    assert details_of(ROOT.issue("x").der).not_after > datetime.now(UTC)


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_told_by_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        details_of(data)


DER = ROOT.issue(ODD_NAMES["specials"], names=NAMES).der


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_one_with_a_wrong_byte_is_read_or_told_and_never_has_a_control_character(at: int, byte: int) -> None:
    broken = DER[:at] + bytes([byte]) + DER[at + 1 :]
    try:
        details = details_of(broken)
    except ValueError:
        return
    assert isinstance(details, ClientCertificate)
    for text in (details.subject, details.issuer, details.serial, details.escaped_pem, *details.logged.values()):
        assert text.isascii() and (text.isprintable())
