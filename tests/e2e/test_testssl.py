"""What testssl.sh, which knows what others found out about TLS in thirty years, has to say about a server with default settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.acme.responders import OcspAuthority
from tests.e2e.harness import PLACEMENTS, Pingap, site
from tests.e2e.origins import Origin
from tests.kit.peers import needs

CHECKS = ("-p", "-s", "-f", "-P", "-S", "-U")
"""Versions, kinds of ciphers, forward secrecy, their order, what is shown by default, vulnerabilities. Not: the header lines of the
backend's answers, and which of some fifty browsers of old get a connection, which says nothing good or bad."""

GRAVE = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
"""What is above LOW. WARN is what testssl.sh says about itself."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_testssl_finds_nothing_above_low(origin: Origin, tmp_path: Path, kind: str) -> None:
    needs("testssl", "testssl.sh")
    authority = OcspAuthority(tmp_path / "authority")
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    _, chain, private = authority.issue("http://127.0.0.1:1/", key=key, days=89)
    found = tmp_path / "found.json"
    server = "global_certificates = true\nenabled_h2 = true"
    more = f"[certificates.a]\ntls_cert = '''{chain}'''\ntls_key = '''{private}'''\n"
    with Pingap(site([origin.port], server=server, more=more), PLACEMENTS[1]) as pingap:
        argv = ["testssl", *CHECKS, "--ip", "127.0.0.1", "--nodns", "min", "--add-ca", str(authority.root / "ca.pem")]
        argv += ["--color", "0", "--warnings", "off", "--quiet", "--jsonfile", str(found), f"a.example:{pingap.port}"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    results = json.loads(found.read_text())
    by_id = {one["id"]: one for one in results}
    assert by_id["TLS1_3"]["severity"] == by_id["TLS1_2"]["severity"] == "OK", done.stdout[-3000:]
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert "not offered" in by_id[version]["finding"], by_id[version]
    # Each of the checks has been made: a name that another version of testssl.sh no longer has is to be noticed.
    for name in ("cipherlist_AVERAGE", "cipher_order", "cert_chain_of_trust", "ROBOT", "LUCKY13", "secure_renego", "CRIME_TLS"):
        assert name in by_id, sorted(by_id)
        assert by_id[name]["severity"] in ("OK", "INFO"), by_id[name]
    assert [one for one in results if one["severity"] in GRAVE] == []
