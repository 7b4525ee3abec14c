"""Certificates from a real authority (pebble): got, served, renewed, and not lost, whatever the authority says and whoever dies."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.e2e.acme_site import STEPS, AcmeTown, Way, certs, names_of
from tests.e2e.certificate import self_signed
from tests.e2e.harness import Pingap
from tests.e2e.origins import Origin
from tests.kit.waiting import until


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_from_nothing_to_a_certificate_that_clients_believe(town: AcmeTown, shared_origin: Origin, placement: str, challenge: str) -> None:
    names = [f"www.{challenge}.{placement}.test", f"{challenge}.{placement}.test"]
    section = town.certificate("site", names, challenge=challenge)
    with town.site(shared_origin.port, section, placement) as proxy:
        found = town.wait_shown(names[0])
        assert sorted(names_of(found)) == sorted(names)
        assert all(town.is_believed(name) for name in names)
        proxy.wait_output(r"certificate was got, and is served.*certificate=site", 10)
        told = certs(proxy)
        assert (told["state"], told["source"], told["acme"]["challenge"]) == ("valid", "acme", challenge)
        assert "PRIVATE KEY" not in proxy.output()


def test_keys_of_rsa_and_of_other_curves(town: AcmeTown, shared_origin: Origin) -> None:
    kinds = {"rsa-2048": ("rsa", 2048), "ecdsa-p384": ("ec", 384), "rsa-4096": ("rsa", 4096)}
    sections = "".join(town.certificate(kind, [f"{kind}.test"], f'acme_key_type = "{kind}"') for kind in kinds)
    with town.site(shared_origin.port, sections):
        for kind, (family, size) in kinds.items():
            key = town.wait_shown(f"{kind}.test").public_key()
            assert isinstance(key, rsa.RSAPublicKey if family == "rsa" else ec.EllipticCurvePublicKey)
            assert key.key_size == size
            assert town.is_believed(f"{kind}.test")


def test_an_authority_that_takes_only_its_customers_and_hardly_any_nonce(tmp_path: Path, shared_origin: Origin) -> None:
    key = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
    with AcmeTown(tmp_path, eab={"customer-7": key}, nonce_rejects=50) as town:
        section = town.certificate("site", ["customer.test"])
        with town.site(shared_origin.port, section) as proxy:
            proxy.wait_output(r"certificate could not be got.*acme_eab_kid", 30)
            assert certs(proxy)["state"] == "waiting"
            proxy.write_config(town.config(shared_origin.port, section + f'acme_eab_kid = "customer-7"\nacme_eab_hmac_key = "{key}"\n'))
            town.wait_shown("customer.test")
            assert key not in proxy.output() + json.dumps(certs(proxy))


def test_a_name_that_leads_elsewhere_is_told_and_tried_later_and_the_others_get_theirs(town: AcmeTown, shared_origin: Origin) -> None:
    town.dns.say("add-a", host="elsewhere.test.", addresses=["127.0.0.9"])
    sections = town.certificate("wrong", ["elsewhere.test"]) + town.certificate("site", ["right.test"])
    with town.site(shared_origin.port, sections) as proxy:
        town.wait_shown("right.test")
        proxy.wait_output(r"certificate could not be got.*certificate=wrong.*elsewhere\.test: the authority says.*next_try=", 30)
        told = certs(proxy, "wrong")["acme"]
        assert told["attempts"] == 1 and time.time() + 200 < told["next_try"] < time.time() + 400
        # A restart does not ask again before that.
        before = proxy.output().count("is being got")
        assert proxy.stop() == 0
        proxy.start()
        until(lambda: certs(proxy, "wrong").get("acme"), 10, "the stage answers")
        assert certs(proxy, "wrong")["acme"]["attempts"] == 1
        assert proxy.output().count("is being got") == before


def test_when_it_is_switched_off_what_there_is_is_served_and_nothing_is_got(town: AcmeTown, shared_origin: Origin) -> None:
    with town.site(shared_origin.port, town.certificate("site", ["off.test"])) as proxy:
        found = town.wait_shown("off.test")
        assert proxy.stop() == 0
        proxy.env["PINGAP_DISABLE_ACME"] = "1"
        proxy.write_config(
            town.config(shared_origin.port, town.certificate("site", ["off.test"]) + town.certificate("more", ["more.test"]))
        )
        proxy.output_file.unlink()
        proxy.start()
        assert town.shown("off.test") == found
        done = proxy.command("certs", "renew", "more")
        assert done.returncode == 1 and "PINGAP_DISABLE_ACME" in done.stdout + done.stderr
        assert "is being got" not in proxy.output()


def test_a_proxy_without_a_file_gets_one_for_its_domains(town: AcmeTown, shared_origin: Origin, tmp_path: Path) -> None:
    env = {"SSL_CERT_FILE": str(town.ca), "HOME": str(tmp_path), "STATE_DIRECTORY": ""}
    flags = (f"--upstream=127.0.0.1:{shared_origin.port}", "--domain=quick.test,www.quick.test", f"--acme={town.pebble.directory}")
    with Pingap(None, "colocated", up=(*flags, f"--addr=127.0.0.1:{town.pebble.tls_port}"), env=env, port=town.pebble.tls_port) as proxy:
        town.wait_shown("www.quick.test")
        assert town.is_believed("quick.test") and certs(proxy, "pingap")["source"] == "acme"
        assert (tmp_path / ".pingap" / "acme" / "certificates").is_dir()


PROBLEM = {"Content-Type": "application/problem+json"}
CHAIN = {"Content-Type": "application/pem-certificate-chain", "Replay-Nonce": "bm9uZQ"}


def _problem(kind: str, detail: str) -> bytes:
    return json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}).encode()


@pytest.mark.parametrize(
    ("step", "answer", "said"),
    [
        ("directory", (200, {"Content-Type": "text/html"}, b"<h1>It works!</h1>"), "does not speak ACME"),
        ("directory", (503, {}, b"later"), "503"),
        ("order", (403, PROBLEM, _problem("rejectedIdentifier", "policy forbids it")), "policy forbids it"),
        ("finalize", (400, PROBLEM, _problem("badCSR", "not this key")), "not this key"),
        ("download", (200, CHAIN, self_signed("answers.test")[0].encode()), "is not used"),
        ("download", (200, CHAIN, b""), "is not used"),
    ],
)
def test_what_the_authority_says_wrong_is_told_and_never_served(
    town: AcmeTown, shared_origin: Origin, step: str, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    with Way(town.pebble, town.root) as way:
        way.answer = lambda path: answer if path.startswith(STEPS[step]) else None
        with town.site(shared_origin.port, town.certificate("site", ["answers.test"], directory=way.directory)) as proxy:
            found = proxy.wait_output(r"certificate could not be got.*", 45)
            assert said in found[0]
            assert town.shown("answers.test") is None
            way.answer = lambda _: None
            assert proxy.command("certs", "renew", "site", timeout=60).returncode == 0
            assert town.is_believed("answers.test")


def test_a_limit_is_waited_for_and_told(town: AcmeTown, shared_origin: Origin) -> None:
    with Way(town.pebble, town.root) as way:
        limit = (429, {**PROBLEM, "Retry-After": "7200"}, _problem("rateLimited", "too many certificates already issued"))
        way.answer = lambda path: limit if path.startswith(STEPS["order"]) else None
        with town.site(shared_origin.port, town.certificate("site", ["limited.test"], directory=way.directory)) as proxy:
            proxy.wait_output(r"certificate could not be got.*too many certificates already issued.*next_try=", 30)
            told = certs(proxy)["acme"]
            assert 7000 < told["next_try"] - time.time() <= 7200
            assert "too many certificates" in proxy.command("certs").stdout
            assert way.count("order") == 1
