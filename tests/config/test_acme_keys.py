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
        ('domains = "example.com"\ntls_cert = "-----BEGIN X-----\\nAAAA\\n-----END X-----"', "tls_key: has to be there, beside tls_cert"),
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


NAMED = 'domains = "example.com"\nacme = "lets_encrypt"\n'


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('acme_eab_kid = "7"\nacme_eab_hmac_key = "no key!"', "acme_eab_hmac_key: is not base64url"),
        ('acme_email = "ops"', "acme_email: 'ops' is no address"),
        ('acme_challenge = "http"', "acme_challenge: expected one of: http-01, tls-alpn-01, dns-01"),
    ],
)
def test_what_no_authority_could_use_is_refused(keys: str, said: str) -> None:
    assert [one.partition("; got")[0] for one in refusals(NAMED + keys)] == [said]


@pytest.mark.parametrize("key", ["abc-_w", "abc+/w==", "abcd"])
def test_keys_of_accounts_are_taken_as_authorities_show_them(key: str) -> None:
    assert not load_text(f'{SERVERS}{NAMED}acme_eab_kid = "7"\nacme_eab_hmac_key = "{key}"').notes


@pytest.mark.parametrize("name", ["localhost", "www", "a.local", "a.test", "b.home.arpa", "a.example", "10.0.0.1", "::1"])
def test_what_no_public_authority_issues_for_is_noted(name: str) -> None:
    def notes(authority: str) -> list[str]:
        return [note.message for note in load_text(f'{SERVERS}domains = "example.com,{name}"\nacme = "{authority}"').notes]

    assert notes("lets_encrypt") == [f"Let's Encrypt issues for names and addresses of the internet, and not for {name}"]
    assert not notes("https://ca.example.net/dir")


def test_an_authority_for_customers_and_days_beyond_half_of_a_life_are_noted() -> None:
    for keys, said in (
        ('acme = "zerossl"', "issues to its customers only"),
        ('acme = "google"', "issues to its customers only"),
        ('acme = "lets_encrypt"\nbuffer_days = 46', "no more than half of its life counts"),
    ):
        [note] = load_text(f'{SERVERS}domains = "example.com"\n{keys}').notes
        assert said in note.message
    assert not load_text(f"{SERVERS}{NAMED}buffer_days = 45").notes


def test_every_bad_name_is_told_and_what_does_not_depend_on_them() -> None:
    keys = 'domains = "a b.com,example.com,c_d!.com"\nacme = "lets_encrypt"\nacme_eab_kid = "7"\n'
    assert refusals(keys + 'dns_challenge = true\nacme_challenge = "http-01"') == [
        "domains: 'a b.com', 'c_d!.com' are not domains",
        EXCLUDED,
        "acme_eab_hmac_key: is missing: the two go together",
    ]


BY_DNS = f'{NAMED}dns_challenge = true\ndns_provider = "cf"\ndns_service_url = '


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("?token=$ENV:NOT_SET_VAR", "the environment variable NOT_SET_VAR is not set"),
        ("?tokenn=s3cret-of-cf", "'tokenn' in the query is nothing that cf knows"),
        ("s3cret-of-cf", "has neither a scheme nor a `?`"),
    ],
)
def test_of_the_providers_url_the_keys_alone_are_secret(url: str, said: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        load_text(f'{SERVERS}{BY_DNS}"{url}"', env={})
    assert said in [problem.message for problem in refused.value.problems]
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("keys", [NAMED, of_old(x509.DNSName("a.example"))])
def test_a_variable_that_is_not_set_is_noted_where_the_key_has_no_effect(keys: str) -> None:
    notes = [note.message for note in load_text(f'{SERVERS}{keys}dns_service_url = "?token=$ENV:NOT_SET_VAR"', env={}).notes]
    assert "the environment variable NOT_SET_VAR is not set" in notes


def test_the_place_of_certificates_is_the_same_wherever_pingap_is_started() -> None:
    assert refusals(f'{NAMED}[basic]\nacme_directory = "data/acme"') == ["basic.acme_directory: 'data/acme' is no absolute path"]
