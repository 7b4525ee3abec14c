"""Keys with a pass phrase, in the forms in which OpenSSL writes them."""

from __future__ import annotations

import functools
import subprocess
from typing import Final

import pytest

from pingap.config.model import Snapshot
from pingap.config.notes import notes_on
from pingap.config.private_keys import decrypted_key, is_encrypted_key
from pingap.config.problems import BadValue, ConfigRefused
from tests.config.test_certificates import pair
from tests.kit.config import load_text
from tests.kit.peers import needs

PHRASE: Final = "tea and scones"

FORMS: Final = {
    "rsa, old": "genrsa -traditional -aes256 2048",
    "rsa, old, 3des": "genrsa -traditional -des3 2048",
    "rsa": "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -aes-256-cbc",
    "ec": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-128-cbc",
    "ed25519": "genpkey -algorithm ED25519 -aes-256-cbc",
}
ODD: Final = {
    "pkcs8, camellia": "genpkey -algorithm ED25519 -camellia-256-cbc",
    "old, camellia": "genrsa -traditional -camellia256 2048",
}


@functools.cache
def made(form: str) -> str:
    needs("openssl")
    command, *args = (FORMS | ODD)[form].split()
    done = subprocess.run(
        ["openssl", command, "-pass" if command == "genpkey" else "-passout", f"pass:{PHRASE}", *args], capture_output=True, check=True
    )
    return done.stdout.decode()


@pytest.mark.processes
@pytest.mark.parametrize("form", FORMS)
def test_what_openssl_encrypts_is_decrypted(form: str) -> None:
    key = made(form)
    assert is_encrypted_key(key)
    found = decrypted_key(key, PHRASE)
    assert found.startswith("-----BEGIN PRIVATE KEY-----") and not is_encrypted_key(found)
    assert found == decrypted_key(key, PHRASE), "a reload finds no other key"
    with pytest.raises(BadValue, match="another pass phrase") as refused:
        decrypted_key(key, "coffee")
    assert "coffee" not in str(refused.value)


@pytest.mark.processes
@pytest.mark.parametrize("form", ODD)
def test_a_way_of_encrypting_that_is_not_known_is_said_to_be_that(form: str) -> None:
    for phrase in (PHRASE, "coffee"):
        with pytest.raises(BadValue, match="in a way that is not supported") as refused:
            decrypted_key(made(form), phrase)
        assert "openssl pkcs8" in refused.value.hint


SITE: Final = '[servers.web]\naddr = "127.0.0.1:443"\nglobal_certificates = true\n'


def section(cert: str, key: str, rest: str = "") -> str:
    return f"{SITE}[certificates.a]\ntls_cert = '''{cert}'''\ntls_key = '''{key}'''\n{rest}\n"


def load(text: str, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    monkeypatch.setenv("KEY_PHRASE", PHRASE)
    return load_text(text)


def test_stages_get_the_key_without_its_pass_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = pair("a.example", phrase=PHRASE.encode())
    for written in (f'tls_key_passphrase = "{PHRASE}"', 'tls_key_passphrase = "$ENV:KEY_PHRASE"'):
        snapshot = load(section(cert, key, written), monkeypatch)
        assert snapshot.certificates["a"].tls_key.startswith("-----BEGIN PRIVATE KEY-----")
        assert snapshot.certificates["a"].tls_key_passphrase == "" and PHRASE not in repr(snapshot)
        assert not notes_on(snapshot)


def test_out_of_a_storage_it_is_taken_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = pair("a.example", phrase=PHRASE.encode())
    stored = f'[storages.phrase]\ncategory = "secret"\nvalue = "{PHRASE}"\n'
    assert load(section(cert, key, 'tls_key_passphrase = "$SECRET:phrase"') + stored, monkeypatch).certificates["a"].tls_key


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigRefused) as found:
        load_text(text)
    said = [f"{one.path}: {one.message} ({one.hint})" for one in found.value.problems]
    assert not any(word in one for one in said for word in (PHRASE, "coffee")), said
    return said


def test_what_is_wrong_with_it_is_said_with_what_to_do() -> None:
    cert, key = pair("a.example", phrase=PHRASE.encode())
    (missing,) = refused(section(cert, key))
    assert missing.startswith("certificates.a.tls_key: is encrypted (tls_key_passphrase = ")
    (wrong,) = refused(section(cert, key, 'tls_key_passphrase = "coffee"'))
    assert wrong.startswith("certificates.a.tls_key: is encrypted with another pass phrase than tls_key_passphrase")
    (unset,) = refused(section(cert, key, 'tls_key_passphrase = "$ENV:NOBODY_SET_THIS"'))
    assert "NOBODY_SET_THIS" in unset
    other, _ = pair("b.example")
    (foreign,) = refused(section(other, key, f'tls_key_passphrase = "{PHRASE}"'))
    assert foreign.startswith("certificates.a.tls_key: does not belong to the certificate")


def test_a_pass_phrase_for_a_key_without_one_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = load(section(*pair("a.example"), f'tls_key_passphrase = "{PHRASE}"'), monkeypatch)
    assert [f"{note.path}: {note.message}" for note in notes_on(snapshot)] == [
        "certificates.a.tls_key_passphrase: without effect: tls_key is not encrypted"
    ]
    assert snapshot.certificates["a"].tls_key_passphrase == ""
