"""[certificates.X]: what is taken, and what is wrong with what is not."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from pingap.config.model import Snapshot
from pingap.config.notes import notes_on
from pingap.config.problems import ConfigRefused
from tests.kit.config import load_text

SITE = '[servers.web]\naddr = "127.0.0.1:443"\nglobal_certificates = true\n'
NOW = datetime.now(UTC)


def pair(
    *names: str, before: datetime = NOW - timedelta(1), after: datetime = NOW + timedelta(30), phrase: bytes = b"", rsa_bits: int = 0
) -> tuple[str, str]:
    """(certificate, key) in PEM."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), before, after)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([general(one) for one in names]), False)
    secret = BestAvailableEncryption(phrase) if phrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), private.decode()


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def section(name: str, cert: str, key: str, rest: str = "") -> str:
    return f"[certificates.{name}]\ntls_cert = '''{cert}'''\ntls_key = '''{key}'''\n{rest}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        load_text(text)
    return [f"{problem.path}: {problem.message}" for problem in refused.value.problems]


def loaded(text: str) -> Snapshot:
    return load_text(SITE + text)


def test_pem_base64_and_a_path_come_to_the_same(tmp_path: Path) -> None:
    cert, key = pair("a.example")
    (tmp_path / "c.pem").write_text(cert)
    (tmp_path / "k.pem").write_text(key)
    forms = [(cert, key), (str(tmp_path / "c.pem"), str(tmp_path / "k.pem"))]
    forms.append((base64.b64encode(cert.encode()).decode(), base64.b64encode(key.encode()).decode()))
    read = {(one.tls_cert, one.tls_key) for form in forms for one in loaded(section("a", *form)).certificates.values()}
    assert read == {(cert, key)}


def test_without_domains_a_certificate_is_used_for_the_names_that_it_is_for() -> None:
    assert loaded(section("a", *pair("a.example", "*.B.example"))).certificates["a"].domains == ("a.example", "*.b.example")


def test_domains_are_names_in_lower_case_and_umlauts_are_punycode() -> None:
    certificate = loaded(section("a", *pair("a.example", "xn--mnchen-3ya.de"), 'domains = "A.example , münchen.de"')).certificates["a"]
    assert certificate.domains == ("a.example", "xn--mnchen-3ya.de")


def test_each_mistake_is_named_and_all_come_at_once(tmp_path: Path) -> None:
    good, other = pair("a.example"), pair("b.example")
    text = (
        SITE
        + section("mixed", good[0], other[1])
        + section("locked", *pair("l.example", phrase=b"x"))
        + section("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", good[1])
        + section("absent", str(tmp_path / "nothing.pem"), good[1])
        + section("empty", "", good[1])
    )
    found = problems(text)
    for start in (
        "certificates.mixed.tls_key: does not belong to the certificate",
        "certificates.locked.tls_key: is encrypted",
        "certificates.garbage.tls_cert: is no certificate",
        f"certificates.absent.tls_cert: '{tmp_path}/nothing.pem' cannot be read: no such file or directory",
        "certificates.empty.tls_cert: is empty",
    ):
        assert any(problem.startswith(start) for problem in found), (start, found)
    assert len(found) == 5


def test_what_concerns_one_site_alone_is_noted_and_blocks_nothing() -> None:
    text = (
        section("foreign", *pair("f.example"), 'domains = "f.example, g.example"')
        + section("again", *pair("f.example"), 'domains = "f.example"\nis_default = true')
        + section("two", *pair("z.example"), "is_default = true")
        + section("implied", *pair("z.example", "192.0.2.2"))
        + section("address", *pair("z2.example", "192.0.2.1", "2001:db8::1"), 'domains = "z2.example, 192.0.2.1, 2001:DB8:0::1"')
    )
    snapshot = loaded(text)
    assert [str(note).split("\n")[0] for note in notes_on(snapshot)] == [
        "certificates.foreign.domains: the certificate is not for g.example: clients that ask for that refuse it",
        "certificates.again.domains: f.example is also in certificates.foreign, which is the one that is used",
        "certificates.two.is_default: certificates.again is the default already, and the one that is used",
        "certificates.implied.domains: z.example is also in certificates.two, which is the one that is used",
        "certificates.address.domains: an address has no effect: only the default is used for it",
    ]
    assert snapshot.certificates["address"].domains == ("z2.example", "192.0.2.1", "2001:db8::1")
    assert snapshot.certificates["implied"].domains == ("z.example",)


def test_an_address_in_the_domains_of_the_default_is_as_it_should_be() -> None:
    default = section("default", *pair("192.0.2.1"), 'domains = "192.0.2.1"\nis_default = true')
    assert notes_on(loaded(default + section("other", *pair("o.example")))) == ()
    alone = section("alone", *pair("192.0.2.1"), 'domains = "192.0.2.1, 192.0.2.9"')
    [note] = notes_on(loaded(alone))
    assert str(note).startswith("certificates.alone.domains: the certificate is not for 192.0.2.9")


def test_when_each_certificate_ends_is_known_without_its_key() -> None:
    end = NOW.replace(microsecond=0) + timedelta(5)
    assert loaded(section("a", *pair("a.example", after=end))).ends == {"a": end.timestamp()}


def test_a_certificate_out_of_its_time_is_noted_and_blocks_nothing() -> None:
    """A reload that changes another site must not wait for a renewal, nor must a start."""
    old = section("old", *pair("o.example", after=NOW - timedelta(hours=1)))
    young = section("young", *pair("y.example", before=NOW + timedelta(1)))
    expired, early = map(str, notes_on(loaded(old + section("good", *pair("g.example")) + young)))
    assert expired.startswith("certificates.old.tls_cert: expired on ")
    assert early.startswith("certificates.young.tls_cert: is not valid before ")


def test_the_wrong_kind_of_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = pair("a.example")
    (tmp_path / "der").write_bytes(x509.load_pem_x509_certificate(cert.encode()).public_bytes(Encoding.DER))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigRefused) as refused:
        load_text(SITE + section("swapped", key, cert) + section("der", "der", key) + section("where", "nothing.pem", key))
    assert [str(problem) for problem in refused.value.problems] == [
        "certificates.swapped.tls_cert: is no certificate: it holds PRIVATE KEY\n    the file needs a line -----BEGIN CERTIFICATE-----",
        "certificates.swapped.tls_key: is no private key: it holds CERTIFICATE\n    the file needs a line -----BEGIN PRIVATE KEY-----",
        "certificates.der.tls_cert: 'der' holds no PEM\n    `openssl x509 -inform DER`, `openssl pkcs12 -nodes` make it of DER, PKCS #12",
        "certificates.where.tls_cert: 'nothing.pem' cannot be read: no such file or directory\n"
        f"    write a path, PEM, or PEM in base64; a path that is not absolute starts at {tmp_path}",
    ]


def test_what_the_tls_library_does_not_take_is_refused_and_named() -> None:
    weak = section("weak", *pair("a.example", rsa_bits=1024))
    assert problems(SITE + weak) == ["certificates.weak.tls_cert: is not taken by the TLS library: ee key too small"]
    loaded('tls_cipher_list = "DEFAULT:@SECLEVEL=0"\n' + weak)


def test_a_file_as_windows_writes_it_is_read(tmp_path: Path) -> None:
    cert, key = pair("a.example")
    for name, pem in (("cert", cert), ("key", key)):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + pem.replace("\n", "\r\n").encode())
    loaded(f'[certificates.a]\ntls_cert = "{tmp_path}/cert"\ntls_key = "{tmp_path}/key"\n')


def test_a_key_is_never_shown() -> None:
    cert, key = pair("a.example")
    secret = key.splitlines()[1]
    assert secret not in repr(loaded(section("a", cert, key)))
    wrong = problems(SITE + section("a", key, cert) + section("b", cert, key.replace("PRIVATE", "PRIVAT")))
    assert wrong
    assert not any(secret[:20] in problem for problem in wrong)


def test_a_server_with_tls_and_no_certificate_is_refused() -> None:
    assert problems(SITE) == ["servers.web.global_certificates: there is no certificate to use"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('tls_min_version = "tlsv1.3"\ntls_max_version = "tlsv1.2"', "tls_min_version: is newer than tls_max_version, tlsv1.2"),
        ('tls_min_version = "tlsv1.4"', "tls_min_version: expected one of: tlsv1.2, tlsv1.3; got the text"),
        ('tls_cipher_list = "NONSENSE"', "tls_cipher_list: OpenSSL knows no cipher in 'NONSENSE'"),
    ],
)
def test_what_tls_cannot_do_is_refused(line: str, wrong: str) -> None:
    found = problems(SITE + line + "\n" + section("a", *pair("a.example")))
    assert [problem.partition("servers.web.")[2][: len(wrong)] for problem in found] == [wrong]


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_ciphersuites"), reason="this Python's ssl module can choose TLS 1.3 suites")
def test_suites_that_this_python_cannot_choose_are_noted() -> None:
    text = SITE + 'tls_ciphersuites = "TLS_AES_128_GCM_SHA256"\n' + section("a", *pair("a.example"))
    assert [str(note).partition(":")[0] for note in notes_on(load_text(text))] == ["servers.web.tls_ciphersuites"]


@pytest.mark.parametrize(("days", "is_told"), [("", False), ("buffer_days = 0", False), ("buffer_days = 20", True)])
def test_that_a_certificate_ends_soon_is_told_from_its_buffer_days_on(days: str, is_told: bool) -> None:
    soon = section("soon", *pair("s.example", after=NOW + timedelta(days=10)), days)
    assert [str(note).startswith("certificates.soon.tls_cert: expires on ") for note in notes_on(loaded(soon))] == [True] * is_told
    assert notes_on(loaded(soon), NOW + timedelta(days=4))


def test_the_star_among_domains_is_the_default() -> None:
    for domains, kept in (("*", ("a.example",)), ("a.example, *", ("a.example",))):
        snapshot = loaded(section("a", *pair("a.example"), f'domains = "{domains}"') + section("b", *pair("b.example")))
        assert (snapshot.certificates["a"].domains, snapshot.certificates["a"].is_default) == (kept, True)
        assert [note.path for note in notes_on(snapshot)] == ["certificates.a.domains"]
