"""PEM as the world writes it: what stands around the blocks does not matter, and the blocks come out as every library knows them."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.model import Certificate
from pingap.config.pem import blocks_of, parse_pem
from pingap.config.problems import BadValue
from pingap.config.tls_library import load_into
from tests.e2e.certificate import self_signed
from tests.kit.peers import needs

CERT, KEY = self_signed("a.example")
AROUND = {
    "nothing": "",
    "what openssl pkcs12 writes of a friendly name": "Bag Attributes\n    friendlyName: Prüfung für München €\nsubject=CN = a.example\n",
    "what openssl x509 -text writes": "Certificate:\n    Data:\n        Version: 3 (0x2)\n",
    "half a block": "-----BEGIN CERTIFICATE-----\nAAAA\n",
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_text_around_the_blocks_does_not_matter(around: str, encoding: str, end: str, tmp_path: Path) -> None:
    text = (around + CERT + around + KEY).replace("\n", end)
    path = tmp_path / "site.pem"
    path.write_bytes(text.encode(encoding, "replace"))
    found = parse_pem(str(path))
    assert found == CERT + KEY


@given(before=st.binary(max_size=60), between=st.binary(max_size=60))
def test_whatever_bytes_stand_around_them_the_blocks_come_out(before: bytes, between: bytes) -> None:
    text = b"#" + before.replace(b"-----BEGIN ", b"") + b"\n" + CERT.encode() + between.replace(b"-----BEGIN ", b"") + b"\n" + KEY.encode()
    assert blocks_of(text) == CERT + KEY


@pytest.mark.processes
def test_a_trusted_certificate_is_the_certificate_in_it(tmp_path: Path) -> None:
    needs("openssl")
    openssl = str(shutil.which("openssl"))
    argv = [openssl, "x509", "-addtrust", "serverAuth", "-setalias", "Prüfung", "-trustout"]
    trusted = subprocess.run(argv, input=CERT.encode(), capture_output=True, check=True, timeout=20).stdout
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted
    (tmp_path / "site.pem").write_bytes(trusted)
    assert ssl.PEM_cert_to_DER_cert(parse_pem(str(tmp_path / "site.pem"))) == ssl.PEM_cert_to_DER_cert(CERT)


def test_the_old_name_of_a_certificate_is_understood() -> None:
    old = CERT.replace(" CERTIFICATE", " X509 CERTIFICATE")
    assert parse_pem(old) == CERT
    load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Certificate(tls_cert=parse_pem(old), tls_key=KEY))


def test_the_base64_of_such_a_text_is_taken_too() -> None:
    assert parse_pem(base64.b64encode(("friendlyName: Prüfung\n" + CERT).encode()).decode()) == CERT


@pytest.mark.parametrize("text", ["-----BEGIN CERTIFICATE-----\nAAAA\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_block_that_is_not_ended_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "cut.pem").write_text(text)
    for value in (text, str(tmp_path / "cut.pem")):
        with pytest.raises(BadValue, match="no whole PEM block"):
            parse_pem(value)
