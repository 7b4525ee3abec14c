"""What a section that is got by ACME may say of its names, two that say the same, and one that comes to say something else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.acme_site import AcmeTown, Way, certs, is_of_pebble, names_of
from tests.e2e.origins import Origin
from tests.kit.waiting import until


def of_old(*names: x509.GeneralName, days: float) -> str:
    """tls_cert and tls_key of a section."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of old")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(90), now + timedelta(days))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return f"tls_cert = '''{made.public_bytes(Encoding.PEM).decode()}'''\ntls_key = '''{private.decode()}'''\n"


def test_a_name_in_letters_of_its_own_is_asked_for_and_served_in_punycode(town: AcmeTown, shared_origin: Origin) -> None:
    with town.site(shared_origin.port, town.certificate("site", ["Bücher.example", "日本.example"])) as proxy:
        found = town.wait_shown("xn--bcher-kva.example")
        assert sorted(names_of(found)) == ["xn--bcher-kva.example", "xn--wgv71a.example"]
        assert town.is_believed("xn--bcher-kva.example") and town.is_believed("xn--wgv71a.example")
        assert certs(proxy)["domains"] == ["xn--bcher-kva.example", "xn--wgv71a.example"]


def test_without_domains_a_new_one_is_for_all_that_the_old_one_is_for_addresses_too(town: AcmeTown, shared_origin: Origin) -> None:
    old = of_old(x509.DNSName("old.test"), x509.IPAddress(IPv4Address("127.0.0.1")), days=1)
    section = town.certificate("site", [], old).replace('domains = ""\n', "")
    with town.site(shared_origin.port, section):
        found = town.wait_shown("old.test")
        san = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.DNSName) == ["old.test"]
        assert san.get_values_for_type(x509.IPAddress) == [IPv4Address("127.0.0.1")]


def test_two_sections_with_the_same_names_are_one_order(town: AcmeTown, way: Way, shared_origin: Origin) -> None:
    names = ["twin.test", "www.twin.test"]
    sections = "".join(town.certificate(name, names, directory=way.directory) for name in ("site", "twin"))
    with town.site(shared_origin.port, sections) as proxy:
        town.wait_shown("twin.test")
        until(lambda: all(certs(proxy, name).get("state") == "valid" for name in ("site", "twin")), 10, "both are there", every=0.2)
        both = [certs(proxy), certs(proxy, "twin")]
        assert both[0]["fingerprint"] == both[1]["fingerprint"]
        assert way.count("order") == 1
        assert "another instance" not in proxy.output()
        assert "domains: twin.test is also in certificates.site, which is the one that is used" in proxy.output()
        done = proxy.command("certs", "renew", "twin", timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert way.count("order") == 2 and certs(proxy)["fingerprint"] == certs(proxy, "twin")["fingerprint"] != both[0]["fingerprint"]


def test_another_kind_of_key_is_got_while_the_old_one_serves_over_a_restart_too(town: AcmeTown, way: Way, shared_origin: Origin) -> None:
    def section(more: str) -> str:
        return town.certificate("site", ["key.test"], more, directory=way.directory)

    with town.site(shared_origin.port, section("")) as proxy:
        first = town.wait_shown("key.test")
        proxy.write_config(town.config(shared_origin.port, section("buffer_days = 20\nis_default = true")))
        until(lambda: "buffer_days" in (certs(proxy).get("acme") or {}).get("renewal_reason", ""), 10, "the edit is taken", every=0.2)
        assert way.count("order") == 1 and town.shown("key.test") == first, "nothing that an authority hears of"
        way.hold("order")
        proxy.write_config(town.config(shared_origin.port, section('acme_key_type = "rsa-2048"')))
        assert way.held.wait(15)
        assert town.shown("key.test") == first
        assert proxy.stop() == 0
        proxy.output_file.unlink()
        proxy.start()
        assert town.shown("key.test") == first, "with the first connection"
        way.let_go()
        until(lambda: isinstance(key_of(town), rsa.RSAPublicKey), 30, "the new one is served", every=0.1)
        assert town.is_believed("key.test")


def key_of(town: AcmeTown) -> object:
    found = town.shown("key.test")
    assert found is not None and is_of_pebble(found), "there is always one"
    return found.public_key()
