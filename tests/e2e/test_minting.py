"""Certificates made on the fly: what curl, openssl and Chromium say who trust the authority of `pingap ca`, and what a storm costs."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.stages.accept.certificates.minting import BURST, RATE
from tests.e2e.certificate import self_signed
from tests.e2e.chromium import chromium
from tests.e2e.harness import COMMAND, Pingap, site
from tests.e2e.origins import Origin
from tests.e2e.tls_site import ask, connect
from tests.kit.authority import TestAuthority
from tests.kit.peers import needs
from tests.kit.waiting import until

HOUSE = 'global_certificates = true\nenabled_h2 = true\nprometheus_metrics = "/metrics"'


class House:
    """A site whose certificates are made with what `pingap ca` has made."""

    def __init__(self, root: Path, origin: Origin) -> None:
        self.root = root
        env = {key: value for key, value in os.environ.items() if not key.startswith("PINGAP_")} | {"HOME": str(root)}
        done = subprocess.run([COMMAND, "ca", "--json"], env=env, capture_output=True, text=True, timeout=30, check=True)
        told = json.loads(done.stdout)
        self.ca = Path(told["certificate"])
        assert self.ca == root / ".pingap" / "ca" / "ca.pem"
        section = f'[certificates.dev]\nis_ca = true\ntls_cert = "{self.ca}"\ntls_key = "{told["key"]}"\n'
        self.pingap = Pingap(site([origin.port], server=HOUSE, more=section))

    @property
    def port(self) -> int:
        return self.pingap.port

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="module")
def house(shared_origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"), shared_origin)
    with made.pingap:
        yield made


@pytest.mark.parametrize("name", ["app.localhost", "tea.dev.test", "my_app.internal", "printer.local", "127.0.0.1"])
def test_curl_believes_whatever_name_of_the_house_it_asks_for(house: House, name: str) -> None:
    needs("curl")
    argv = ["curl", "-sS", "--cacert", str(house.ca), "--resolve", f"{name}:{house.port}:127.0.0.1", f"https://{name}:{house.port}/by-curl"]
    env = {key: value for key, value in os.environ.items() if not key.endswith(("CA_BUNDLE", "_proxy", "_PROXY"))}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, env=env)
    assert (done.returncode, done.stdout) == (0, "/by-curl"), done.stderr


def test_a_name_gets_the_same_certificate_again_and_each_its_own(house: House) -> None:
    def serial(name: str) -> str:
        with connect(house.port, name, house.context()) as sock:
            found = sock.getpeercert()
            assert found is not None and found["subjectAltName"] == (("DNS", name),)
            return str(found["serialNumber"])

    assert serial("one.test") == serial("one.test") != serial("two.test")


def test_probe_says_what_it_was_made_with(house: House) -> None:
    done = house.pingap.command("certs", "probe", f"probed.test:{house.port}", "--connect=127.0.0.1", f"--ca={house.ca}")
    assert done.returncode == 0 and "it was made with certificates.dev" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["www.bank.example", "test.example.com", "localhost.com", "*.test"])
def test_for_other_names_there_is_none(house: House, name: str) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        connect(house.port, name)


def test_how_many_were_made_and_were_not_is_told(house: House) -> None:
    def told(name: str, labels: str) -> int:
        with connect(house.port, "metrics.test", house.context()) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            page = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        found = re.search(rf"^pingap_accept_certificates_{name}_total\{{{labels}\}} (\d+)", page, re.MULTILINE)
        return int(found[1]) if found else 0

    until(lambda: told("minted", 'certificate="dev"') >= 1, 15, "what was made is counted")
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            connect(house.port, "www.bank.example")
    until(lambda: told("not_minted", 'certificate="dev",reason="constraints"') >= 2, 15, "and what was not")


def test_chromium_shows_pages_of_several_names_without_a_warning(house: House, tmp_path: Path) -> None:
    needs("certutil")
    database = tmp_path / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=20, capture_output=True)
    with chromium(tmp_path, tmp_path) as browser:
        browser.visit(f"https://tea.localhost:{house.port}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in browser.run("return document.body.innerText"), "else the rest would prove nothing"
    subprocess.run([*certutil, "-A", "-t", "C,,", "-n", "pingap-dev", "-i", str(house.ca)], check=True, timeout=20, capture_output=True)
    with chromium(tmp_path, tmp_path) as browser:
        for name in ("tea.localhost", "scones.localhost", "127.0.0.1"):
            browser.visit(f"https://{name}:{house.port}/page")
            told = "return [location.hostname, document.body.innerText, isSecureContext]"
            assert browser.run(told) == [name, "/page", True]


def test_an_encrypted_key_serves(shared_origin: Origin, tmp_path: Path) -> None:
    needs("openssl")
    cert, key = self_signed("a.example")
    (tmp_path / "plain.pem").write_text(key)
    argv = ["openssl", "pkcs8", "-topk8", "-in", "plain.pem", "-out", "key.pem", "-passout", "pass:tea and scones"]
    subprocess.run(argv, cwd=tmp_path, check=True, timeout=20, capture_output=True)
    section = f"[certificates.a]\ntls_cert = '''{cert}'''\ntls_key = \"{tmp_path}/key.pem\"\ntls_key_passphrase = \"$ENV:TEA_PHRASE\"\n"
    text = site([shared_origin.port], server="global_certificates = true", more=section)
    with Pingap(text, env={"TEA_PHRASE": "tea and scones"}) as one, connect(one.port, "a.example") as sock:
        assert sock.getpeercert(True) == ssl.PEM_cert_to_DER_cert(cert)
        assert "tea and scones" not in one.output()


STORM = """
import socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
port, begun, counts = int(sys.argv[1]), time.monotonic(), [0, 0]
until = begun + float(sys.argv[2])
def ask(number):
    count = 0
    while time.monotonic() < until:
        count += 1
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                context.wrap_socket(sock, server_hostname=f"n{count}.c{number}.storm.test").close()
            counts[0] += 1
        except (ssl.SSLError, ConnectionError):
            counts[1] += 1
threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*counts, time.monotonic() - begun)
"""
"""Clients that ask for a new name each, as fast as they can: how many got a certificate, how many were refused, seconds."""


def waits(sock: ssl.SSLSocket, seconds: float) -> list[float]:
    """What each request on a connection that there is already took, the shortest first."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        ask(sock)
        took.append(time.monotonic() - begun)
        time.sleep(0.002)  # a client that asks now and then, not a second storm
    return sorted(took)


@pytest.mark.alone
@pytest.mark.slow
def test_who_is_connected_does_not_notice_a_storm_of_new_names(shared_origin: Origin) -> None:
    text = site([shared_origin.port], server="global_certificates = true", more=TestAuthority("rsa").section())
    is_calm = os.getloadavg()[0] < (os.cpu_count() or 1)
    with Pingap(text) as one, connect(one.port, "kept.test") as sock:
        connect(one.port, "kept.test").close()  # asked for again, it is displaced by no stranger
        calm = waits(sock, 2)
        storm = subprocess.Popen([sys.executable, "-c", STORM, str(one.port), "8"], stdout=subprocess.PIPE, text=True)
        rough = waits(sock, 6)
        connect(one.port, "kept.test").close()
        out, _ = storm.communicate(timeout=30)
        made, refused, seconds = (float(word) for word in out.split())
        p50, p99 = ([took[len(took) * part // 100] * 1000 for took in (calm, rough)] for part in (50, 99))
        assert made <= BURST + RATE * seconds + 1, "the burst, and what the budget gives in the time that the storm takes"
        assert rough[-1] < 15, "nobody is stuck, whatever else this machine does"
        if is_calm:
            assert p99[1] < max(100.0, 20 * p99[0]), (p50, p99, made, refused)
        # On a machine that has much else to do the storm does not come to the end of the budget.
        assert one.output().count("no certificate was made for a client") == bool(refused)
