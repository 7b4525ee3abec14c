"""Certificates made on the fly: what openssl says of them, for which names, how many, how long they are kept."""

from __future__ import annotations

import ssl
import string
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates import contexts, minting
from pingap.stages.accept.certificates.choice import Choice, compile_choices
from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.accept.certificates.minting import CertificateMint, NotMinted
from pingap.stages.accept.certificates.signing import SigningAuthority
from pingap.stages.accept.certificates.staples import staples
from pingap.stages.client_hello import Hello
from tests.e2e.certificate import self_signed
from tests.kit.authority import KINDS, TestAuthority
from tests.kit.peers import needs

WEB = Server(addr=(), global_certificates=True)
NOW = datetime.now(UTC).timestamp()


class Times:
    def __init__(self) -> None:
        self.now = NOW
        self.ticks = 1000.0


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture(scope="module")
def root() -> TestAuthority:
    return TestAuthority()


def mint_with(authority: TestAuthority, times: Times) -> CertificateMint:
    return CertificateMint(WEB, authority.entry(), clock=lambda: times.now, ticks=lambda: times.ticks)


def verified(path: Path, root: TestAuthority, made: Certificate, *args: str) -> str:
    """What `openssl verify` says of the first certificate, with the others as help, and only the root believed."""
    needs("openssl")
    files = {"root": root.pem, "made": made.tls_cert}
    for name, text in files.items():
        (path / f"{name}.pem").write_text(text)
    argv = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "made.pem",
        *args,
        "made.pem",
    ]
    done = subprocess.run(argv, cwd=path, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("above", [None, "ec", "rsa"])
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_verifies_what_is_made_by_any_kind_of_authority_or_one_under_another(tmp_path: Path, kind: str, above: str | None) -> None:
    root = TestAuthority(above or kind, pathlen=1 if above else 0)
    authority = root if above is None else TestAuthority(kind, root, pathlen=0)
    made = SigningAuthority(authority.entry()).make("app.dev.test", NOW).certificate
    assert "OK" in (said := verified(tmp_path, root, made, "-verify_hostname", "app.dev.test")), said
    assert "hostname mismatch" in verified(tmp_path, root, made, "-verify_hostname", "other.dev.test")
    assert made.tls_cert.count("BEGIN CERTIFICATE") == (1 if above is None else 2), "the root is the client's own"


def test_a_certificate_is_for_one_server_and_names_the_house(root: TestAuthority) -> None:
    one, other = (read(SigningAuthority(root.entry()).make("app.dev.test", NOW).certificate) for _ in range(2))
    assert one.serial_number != other.serial_number and one.public_key() != other.public_key()
    assert one.subject.rfc4514_string() == "OU=Kettles,O=Tea House,CN=app.dev.test"
    assert one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == x509.SubjectAlternativeName(
        [x509.DNSName("app.dev.test")]
    )
    usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def read(made: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.tls_cert.encode())


def test_it_is_for_ninety_days_and_not_longer_than_any_authority_above(root: TestAuthority) -> None:
    assert read(SigningAuthority(root.entry()).make("a.test", NOW).certificate).not_valid_after_utc.timestamp() == int(NOW) + 90 * 86400
    short = TestAuthority("ec", TestAuthority(days=20), days=40)
    end = read(SigningAuthority(short.entry()).make("a.test", NOW).certificate).not_valid_after_utc
    assert end - datetime.now(UTC) <= timedelta(20)


def test_a_long_name_stands_in_the_alternative_names_only(tmp_path: Path, root: TestAuthority) -> None:
    name = ".".join(["a" * 60, "b" * 60, "test"])
    made = SigningAuthority(root.entry()).make(name, NOW).certificate
    assert not read(made).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert read(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [name]


@pytest.mark.processes
@pytest.mark.parametrize(("address", "permitted"), [("127.0.0.1", ("test",)), ("::1", ()), ("10.1.2.3", ("test", "10.0.0.0/8"))])
def test_for_an_address_openssl_verifies_it_even_where_names_are_constrained(
    tmp_path: Path, address: str, permitted: tuple[str, ...]
) -> None:
    authority = TestAuthority(permitted=permitted)
    made = SigningAuthority(authority.entry()).make(ip_address(address), NOW).certificate
    needs("openssl")
    (tmp_path / "root.pem").write_text(authority.pem)
    (tmp_path / "made.pem").write_text(made.tls_cert)
    argv = ["openssl", "verify", "-CAfile", "root.pem", "-verify_ip", address, "made.pem"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


# -- for which names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "localhost", "app.dev.test", "my_app.localhost", "xn--bcher-kva.example", "a-b.test", "1.example", "a" * 63 + ".test"]
)
def test_names_of_hosts_get_one(root: TestAuthority, times: Times, name: str) -> None:
    assert mint_with(root, times).of_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.test", "a..test", ".test", "a.test.", "A.test", "-a.test", "a-.test", "a b", "a\0.test", "a/b", "bücher.example"]
    + ["127.0.0.1", "::1", "[::1]", "a" * 64 + ".test", "a." * 127 + "test", "a.test,b.test", "1.2.3", "a@b.test"],
)
def test_what_is_no_name_of_a_host_gets_none(root: TestAuthority, times: Times, name: str) -> None:
    with pytest.raises(NotMinted, match="not a host name") as refused:
        mint_with(root, times).of_name(name)
    assert not refused.value.is_passing


LETTERS = string.ascii_letters + string.digits + "-_.*: \0\x7f/@é"


@settings(max_examples=60)
@given(st.text(LETTERS, max_size=70) | st.text(max_size=30))
def test_whatever_is_asked_for_it_is_for_that_name_or_refused(name: str) -> None:
    times = Times()
    mint = CertificateMint(WEB, SHARED.entry(), clock=lambda: times.now, ticks=lambda: times.ticks)
    try:
        mint.of_name(name)
    except NotMinted:
        return
    assert name == name.lower() and name.isascii() and "*" not in name
    made = read(SigningAuthority(SHARED.entry()).make(name, NOW).certificate)
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [name]


SHARED = TestAuthority()


@pytest.mark.processes
def test_the_constraints_of_all_authorities_in_the_chain_hold(tmp_path: Path, times: Times) -> None:
    above = TestAuthority(permitted=("test", "localhost"), excluded=("secret.test",))
    authority = TestAuthority("ec", above, permitted=("dev.test", "secret.test", "example.com"))
    mint = mint_with(authority, times)
    signing = SigningAuthority(authority.entry())
    for name, is_permitted in {
        "dev.test": True,
        "a.b.dev.test": True,
        "xdev.test": False,
        "other.test": False,
        "secret.test": False,
        "a.secret.test": False,
        "example.com": False,
        "localhost": False,
    }.items():
        assert is_made(mint, name) is is_permitted, name
        said = verified(tmp_path, above, signing.make(name, NOW).certificate)
        assert ("OK" in said) is is_permitted, f"openssl agrees: {said}"


def test_addresses_outside_the_constraints_get_none(times: Times) -> None:
    mint = mint_with(TestAuthority(permitted=("10.0.0.0/8",), excluded=("10.9.0.0/16",)), times)
    assert mint.of_address("10.1.1.1")
    for address in ("127.0.0.1", "10.9.1.1", "::1"):
        with pytest.raises(NotMinted, match="name constraints"):
            mint.of_address(address)
    with pytest.raises(NotMinted, match="no address"):
        mint.of_address("unix:/run/x")


# -- how many, and how long -------------------------------------------------------------------


def test_the_same_name_gets_the_same_until_a_third_of_its_life_is_left(root: TestAuthority, times: Times) -> None:
    mint = mint_with(root, times)
    first = mint.of_name("a.test")
    times.now += 59 * 86400
    assert mint.of_name("a.test") is first
    times.now += 2 * 86400
    second = mint.of_name("a.test")
    assert second is not first and mint.of_name("a.test") is second


def test_where_none_can_be_made_the_old_one_serves_to_its_end(root: TestAuthority, times: Times) -> None:
    mint = mint_with(root, times)
    first = mint.of_name("a.test")
    spend(mint)
    times.now += 80 * 86400
    assert mint.of_name("a.test") is first
    times.now += 11 * 86400
    with pytest.raises(NotMinted):
        mint.of_name("a.test")


def test_an_authority_that_has_expired_makes_none(times: Times) -> None:
    mint = mint_with(TestAuthority(days=1), times)
    mint.of_name("a.test")
    times.now += 2 * 86400
    for name in ("a.test", "b.test"):
        with pytest.raises(NotMinted, match="expired"):
            mint.of_name(name)


def spend(mint: CertificateMint) -> int:
    """Asks for new names until there are no more."""
    for count in range(1000):
        try:
            mint.of_name(f"n{count}.spent.test")
        except NotMinted as error:
            assert error.is_passing
            return count
    raise AssertionError("there is no end")


def test_after_a_burst_so_many_are_made_a_second(root: TestAuthority, times: Times) -> None:
    mint = mint_with(root, times)
    assert spend(mint) == minting.BURST
    times.ticks += 1.0
    assert sum(is_made(mint, f"m{count}.test") for count in range(80)) == minting.RATE
    assert is_made(mint, f"n{minting.BURST - 1}.spent.test"), "those that there are cost nothing"
    times.ticks -= 500.0
    assert not is_made(mint, "back.test"), "a clock that goes back gives nothing"


def test_what_was_made_and_what_was_not_is_counted(times: Times) -> None:
    """By section and reason; once each, however often it is shown afterwards."""
    minting.tally.clear()
    choice = choice_of(house=SHARED.entry())
    mint = choice.mint
    assert mint is not None
    for _ in range(3):
        choice.of("counted.test")
    assert minting.tally == {("house", ""): 1}
    for name in ("*.test", "1.2.3.4"):
        with pytest.raises(NotMinted):
            choice.of(name)
    with pytest.raises(NotMinted):
        choice.of_address("")
    assert minting.tally == {("house", ""): 1, ("house", "name"): 2, ("house", "address"): 1}
    minting.tally.clear()
    mint = mint_with(SHARED, times)
    spend(mint)
    assert minting.tally == {("", ""): minting.BURST, ("", "budget"): 1}


def is_made(mint: CertificateMint, name: str) -> bool:
    try:
        mint.of_name(name)
    except NotMinted:
        return False
    return True


def test_one_name_after_the_other_displaces_none_that_was_asked_for_twice(
    root: TestAuthority, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minting, "NEW", 8)
    monkeypatch.setattr(minting, "KNOWN", 4)
    mint = mint_with(root, times)
    kept = mint.of_name("kept.test")
    assert mint.of_name("kept.test") is kept
    for count in range(100):
        times.ticks += 1
        mint.of_name(f"n{count}.test")
    assert mint.of_name("kept.test") is kept
    assert mint.count == 9
    for count in range(4):
        mint.of_name(f"x{count}.test")
        mint.of_name(f"x{count}.test")
    times.ticks += 1
    assert mint.count <= 12 and mint.of_name("kept.test") is not kept, "of those asked for twice there is an end, too"


# -- beside other certificates -----------------------------------------------------------------


def choice_of(**certificates: Certificate) -> Choice:
    return compile_choices({"web": WEB}, certificates)["web"]


def plain(*names: str, default: bool = False) -> Certificate:
    cert, key = self_signed(*names)
    return Certificate(tls_cert=cert, tls_key=key, domains=names, is_default=default)


def test_a_certificate_of_its_own_comes_before_one_that_is_made() -> None:
    choice = choice_of(
        site=plain("a.test", "*.w.test"), house=TestAuthority().entry("*.test", "b.w.test"), default=plain("d.example", default=True)
    )
    assert choice.of("a.test") is choice.exact["a.test"]
    assert choice.of("x.w.test") is choice.wildcard["w.test"]
    made = choice.of("b.w.test")
    assert made is not None and made not in (choice.wildcard["w.test"], choice.default)
    assert choice.of("c.test") not in (None, choice.default)
    assert choice.of("c.d.test") is choice.default, "a wildcard is one label"
    assert choice.of("*.test") is choice.default
    assert choice.of(None) is choice.default


def test_without_domains_it_is_for_whatever_has_none() -> None:
    choice = choice_of(site=plain("a.test"), house=TestAuthority().entry())
    assert choice.of("a.test") is choice.exact["a.test"]
    assert choice.of("anything.at.all.example") is not None
    assert choice.of_address("127.0.0.1") is not None
    choice = choice_of(site=plain("a.test", default=True), house=TestAuthority().entry())
    assert choice.of("anything.example") not in (None, choice.default)
    assert choice.of_address("127.0.0.1") is None, "who names nobody gets the default"


def test_with_domains_it_is_for_these_alone_unless_it_is_the_default() -> None:
    alone = choice_of(house=TestAuthority().entry("*.dev.test", "10.0.0.1"))
    assert alone.of("a.dev.test") is not None
    assert alone.of("a.example") is None is alone.of(None)
    assert alone.of_address("10.0.0.1") is not None and alone.of_address("10.0.0.2") is None
    assert choice_of(house=TestAuthority().entry("*.dev.test", is_default=True)).of("a.example") is not None


def test_of_two_for_a_name_the_first_makes_it_or_is_it() -> None:
    site, house = plain("a.test"), TestAuthority().entry("a.test")
    assert choice_of(site=site, house=house).minted == {}
    choice = choice_of(house=house, site=site)
    assert choice.exact == {} and choice.of("a.test") is not None


def test_nobody_gets_the_default_because_many_came_just_now() -> None:
    entry = TestAuthority().entry("*.spent.test")
    mint = CertificateMint(WEB, entry, ticks=lambda: 1000.0)  # on a real clock there is one more every 20 ms
    choice = replace(choice_of(house=entry, default=plain("d.example", default=True)), minted={"*.spent.test": mint})
    spend(mint)
    with pytest.raises(NotMinted):
        choice.of("new.spent.test")
    chooser = Chooser(WEB, choice)
    assert chooser.context_for(Hello()) is chooser.context


def test_a_reload_keeps_what_was_made_unless_the_authority_changes() -> None:
    entry = TestAuthority().entry()
    before = choice_of(house=entry)
    made = before.of("a.test")
    assert choice_of(house=entry, site=plain("b.test")).of("a.test") is made
    assert choice_of(house=TestAuthority().entry()).of("a.test") is not made


def test_who_names_nobody_gets_one_for_the_address_or_is_told_why_not() -> None:
    chooser = Chooser(WEB, choice_of(house=TestAuthority().entry()))
    assert chooser.context_for(Hello(), "127.0.0.1") not in (None, chooser.context)
    assert chooser.context_for(Hello(), "") is None
    assert "names nobody" in str(chooser.not_minted)


def test_who_has_to_prove_who_he_is_has_to_by_whatever_name_he_comes() -> None:
    entry = TestAuthority().entry()
    strict = replace(WEB, client_ca=TestAuthority().pem)
    choices = compile_choices({"web": WEB, "strict": strict}, {"house": entry})
    for choice, expected in ((choices["web"], ssl.CERT_NONE), (choices["strict"], ssl.CERT_REQUIRED)):
        for context in (choice.of("a.test"), choice.of_address("127.0.0.1")):
            assert context is not None and context.verify_mode == expected


def test_what_is_made_is_in_no_table_of_the_process() -> None:
    """Whoever reaches the port could fill it."""
    before = len(contexts._in_use), len(staples._contexts)
    mint = CertificateMint(WEB, TestAuthority().entry())
    for count in range(20):
        mint.of_name(f"n{count}.test")
    assert (len(contexts._in_use), len(staples._contexts)) == before


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_one_holds_up_the_others_for_milliseconds(kind: str) -> None:
    """In time of the CPU, for the machine may have much else to do; it takes 1.3 and 1.8 ms."""
    mint = CertificateMint(WEB, TestAuthority(kind).entry())
    begun = time.thread_time()
    for count in range(50):
        mint.of_name(f"n{count}.test")
    assert time.thread_time() - begun < 50 * 0.02
