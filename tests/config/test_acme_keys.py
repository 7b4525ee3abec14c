"""What [certificates.X] with `acme` may say."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from cryptography import x509

from pingap.config.acme_values import DIRECTORIES
from pingap.config.problems import ConfigRefused
from tests.kit.config import load_text
from tests.kit.identities import root

SERVERS = """
[servers.web]
addr = "127.0.0.1:443"
global_certificates = true
locations = ["all"]
[servers.plain]
addr = "127.0.0.1:80"
locations = ["all"]
[locations.all]
upstream = "app"
[upstreams.app]
addrs = ["127.0.0.1:5000"]
[certificates.a]
"""


PROVIDERS_KEYS = "dns_service_url: is missing: it has the keys of the provider's interface"
EXCLUDED = "acme_challenge: http-01 and dns_challenge exclude each other"


def of_old(*names: x509.GeneralName) -> str:
    """tls_cert and tls_key, as the reference writes them into a section."""
    made = root("authority").issue("of old", names=names)
    return f"tls_cert = '''{made.pem}'''\ntls_key = '''{made.key_pem}'''\n"


def refusals(keys: str, servers: str = SERVERS) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        load_text(servers + keys)
    return [f"{problem.path.removeprefix('certificates.a.')}: {problem.message}" for problem in refused.value.problems]


@pytest.mark.parametrize("written", ["lets_encrypt", "Let's Encrypt", "LetsEncrypt", "lets-encrypt"])
def test_an_authority_is_known_by_its_name_however_that_is_spelled(written: str) -> None:
    snapshot = load_text(SERVERS + f'domains = "example.com"\nacme = "{written}"')
    assert snapshot.certificates["a"].acme == DIRECTORIES["lets_encrypt"]
    assert not snapshot.notes


def test_a_placeholder_that_is_signed_by_itself_is_noted() -> None:
    for made, count in ((root("a placeholder"), 1), (root("authority").issue("of old", names=[x509.DNSName("example.com")]), 0)):
        keys = f"tls_cert = '''{made.pem}'''\ntls_key = '''{made.key_pem}'''\n"
        notes = [str(note) for note in load_text(SERVERS + f'{keys}domains = "example.com"\nacme = "lets_encrypt"').notes]
        assert len([note for note in notes if "signed by itself" in note]) == count, notes


def test_any_other_text_is_lets_encrypt_as_in_the_reference_with_a_note() -> None:
    snapshot = load_text(SERVERS + 'domains = "example.com"\nacme = "on"')
    assert snapshot.certificates["a"].acme == DIRECTORIES["lets_encrypt"]
    assert "names no authority" in str(snapshot.notes[0])


def test_a_directory_may_be_any_but_is_spoken_to_safely() -> None:
    url = "https://ca.example.net/acme/directory"
    assert load_text(SERVERS + f'domains = "example.com"\nacme = "{url}"').certificates["a"].acme == url
    assert refusals('domains = "example.com"\nacme = "http://ca.example.net/dir"') == [
        "acme: 'http://ca.example.net/dir': an authority is spoken to by https"
    ]
    assert load_text(SERVERS + 'domains = "example.com"\nacme = "http://127.0.0.1:14000/dir"').certificates["a"].acme


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "domains: an authority has to be told for which names"),
        ('domains = "*.example.com"', "domains: *.example.com: a wildcard is proved by DNS only"),
        ('domains = "example.com"\nacme_eab_kid = "7"', "acme_eab_hmac_key: is missing: the two go together"),
        ('domains = "example.com"\nis_ca = true', "is_ca: an authority hands out no certificate that makes others"),
        (
            'domains = "example.com"\ndns_challenge = true\ndns_provider = "cf"',
            "dns_service_url: is missing: it has the keys of the provider's interface",
        ),
        ('domains = "10.0.0.1"\ndns_challenge = true', "domains: 10.0.0.1: an address cannot be proved by DNS"),
        (
            'domains = "example.com"\ndns_challenge = true\nacme_challenge = "http-01"',
            "acme_challenge: http-01 and dns_challenge exclude each other",
        ),
        ('domains = "example.com"\ndns_provider = "route53"', "dns_provider: 'route53' is no DNS provider"),
        ('domains = "example.com"\ntls_cert = "-----BEGIN X-----\\nAAAA\\n-----END X-----"', "tls_key: the key is required"),
    ],
)
def test_what_an_authority_would_refuse_is_refused_before_it_is_asked(keys: str, said: str) -> None:
    assert said in refusals(f'{keys}\nacme = "lets_encrypt"')


def test_without_acme_a_certificate_has_to_be_there() -> None:
    assert refusals('domains = "example.com"\ntls_key = "/nowhere"')[0].startswith("tls_")


def test_keys_of_acme_without_acme_are_noted(tmp_path: object) -> None:
    with pytest.raises(ConfigRefused) as refused:
        load_text(SERVERS + 'domains = "example.com"\nacme_email = "me@example.com"\nis_ca = true')
    assert any(note.path == "certificates.a.acme_email" and "without effect" in note.message for note in refused.value.notes)


def test_a_provider_is_known_by_its_other_names() -> None:
    keys = 'domains = "*.example.com"\nacme = "lets_encrypt"\ndns_challenge = true\n'
    keys += 'dns_service_url = "?access_key_id=x&access_key_secret=y"\ndns_provider = '
    assert load_text(SERVERS + keys + '"AliYun"').certificates["a"].dns_provider == "ali"


def test_credentials_may_stand_in_the_midst_of_the_providers_url() -> None:
    keys = 'domains = "*.example.com"\nacme = "lets_encrypt"\ndns_challenge = true\ndns_provider = "cf"\n'
    snapshot = load_text(SERVERS + keys + 'dns_service_url = "https://api.example.net?token=$ENV:TOKEN"', env={"TOKEN": "a/b&c"})
    assert snapshot.certificates["a"].dns_service_url == "https://api.example.net?token=a%2Fb%26c"
    with pytest.raises(ConfigRefused, match="environment variable TOKEN is not set"):
        load_text(SERVERS + keys + 'dns_service_url = "https://api.example.net?token=$ENV:TOKEN"', env={})


def test_without_domains_a_certificate_by_acme_is_for_the_names_and_addresses_of_the_old_one() -> None:
    own = of_old(x509.DNSName("a.example"), x509.IPAddress(IPv4Address("127.0.0.1")))
    assert load_text(f'{SERVERS}{own}acme = "lets_encrypt"').certificates["a"].domains == ("a.example", "127.0.0.1")
    assert load_text(SERVERS + own).certificates["a"].domains == ("a.example",)


def test_a_wildcard_of_the_old_one_needs_dns_as_a_written_one_does() -> None:
    own = f'{of_old(x509.DNSName("*.a.example"))}acme = "lets_encrypt"'
    assert refusals(own) == ["domains: *.a.example: a wildcard is proved by DNS only"]
    assert load_text(f"{SERVERS}{own}\ndns_challenge = true").certificates["a"].domains == ("*.a.example",)


def test_names_in_other_letters_are_asked_for_in_punycode() -> None:
    text = f'{SERVERS}domains = "Bücher.example, *.日本.example"\nacme = "lets_encrypt"\ndns_challenge = true'
    assert load_text(text).certificates["a"].domains == ("xn--bcher-kva.example", "*.xn--wgv71a.example")


def test_a_final_dot_is_not_part_of_a_name_that_clients_ask_for() -> None:
    text = SERVERS + 'domains = "Dot.test., *.dot.test.,bücher.test。"\nacme = "lets_encrypt"\ndns_challenge = true'
    assert load_text(text).certificates["a"].domains == ("dot.test", "*.dot.test", "xn--bcher-kva.test")


@pytest.mark.parametrize(
    ("domain", "newer", "older"),
    [
        ("*.Straße.test", "*.xn--strae-oqa.test", "*.strasse.test"),
        ("βόλος.test.", "xn--nxasmm1c.test", "xn--nxasmq6b.test"),
        ("müller.straße.test", "xn--mller-kva.xn--strae-oqa.test", "xn--mller-kva.strasse.test"),
    ],
)
def test_a_name_that_browsers_ask_for_in_another_form_is_refused_with_both(domain: str, newer: str, older: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        load_text(f'{SERVERS}domains = "{domain}"\nacme = "lets_encrypt"')
    (problem,) = refused.value.problems
    assert problem.message == f"'{domain.lower()}' has two forms in Punycode"
    assert problem.hint == f"write {newer}, as browsers ask for it, or {older}"
