from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config import encryption
from pingap.config.encryption import PREFIX, NotDecrypted, decrypt, encrypt, is_encrypted

SALT = b"0123456789abcdef"
"""One for all: deriving a key takes a tenth of a second."""

texts = st.text(max_size=200)


def as_the_reference_does(pass_phrase: str, text: str) -> str:
    """pingap-util/src/crypto.rs, on the library's own AES-GCM-SIV."""
    key = pass_phrase.encode()[:32]
    sealed = AESGCMSIV(key + bytes(32 - len(key))).encrypt(b"pingap nonce", text.encode(), None)
    return base64.b64encode(sealed).decode()


@given(texts)
def test_what_was_encrypted_comes_back(text: str) -> None:
    sealed = encrypt(text, "pass", SALT)
    assert is_encrypted(sealed)
    assert sealed.isascii() and "\n" not in sealed and '"' not in sealed
    assert decrypt(sealed, "pass") == decrypt(f"  {sealed}\n", "pass") == text


@given(texts, st.integers(0), st.integers(1, 255))
def test_a_changed_byte_is_noticed_wherever_it_is(text: str, place: int, change: int) -> None:
    body = encrypt(text, "pass", SALT).removeprefix(PREFIX)
    raw = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    at = len(SALT) + place % (len(raw) - len(SALT))  # of another salt a key would have to be derived
    raw[at] ^= change
    with pytest.raises(NotDecrypted, match="changed"):
        decrypt(PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="), "pass")


@given(texts, st.integers(0, 200))
def test_one_that_was_cut_off_is_noticed(text: str, kept: int) -> None:
    sealed = encrypt(text, "pass", SALT)
    with pytest.raises(NotDecrypted):
        decrypt(sealed[: min(len(PREFIX) + kept, len(sealed) - 1)], "pass")


def test_no_two_are_alike_though_the_text_is() -> None:
    assert encrypt("x", "pass", SALT) != encrypt("x", "pass", SALT)
    assert encrypt("x", "pass")[:30] != encrypt("x", "pass")[:30], "each has a salt of its own"


def test_another_pass_phrase_does_not_fit() -> None:
    for sealed in (encrypt("x", "pass", SALT), as_the_reference_does("pass", "x")):
        with pytest.raises(NotDecrypted, match="the pass phrase is wrong"):
            decrypt(sealed, "Pass")


def test_an_empty_pass_phrase_encrypts_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        encrypt("x", "")


KNOWN = [
    ("12345678901234567890123456789012", "hello"),
    ("12345678901234567890123456789012ABC", "hello"),
    ("short", "hello"),
    ("päss", "ünï"),
]


@pytest.mark.parametrize(("pass_phrase", "text"), KNOWN)
def test_what_the_reference_encrypts_is_read(pass_phrase: str, text: str) -> None:
    assert decrypt(as_the_reference_does(pass_phrase, text), pass_phrase) == text


def test_the_form_of_the_reference_does_not_move() -> None:
    assert decrypt("ygCn8fkJvZoxjSwnselUWNZqFxxV", "secret") == "hello"


def test_the_form_of_pingap_does_not_move() -> None:
    sealed = "pingap:v1:MDEyMzQ1Njc4OWFiY2RlZpgo4qIHsUEj6gv5cZQ"
    with pytest.raises(NotDecrypted, match="end is missing"):
        decrypt(sealed, "pass")
    assert decrypt(V1, "pass phrase") == "hello"


V1 = "pingap:v1:MDEyMzQ1Njc4OWFiY2RlZtf9tCoDBHj_2HeB5Bp_AvxYTcKT-40H-9EDoCj4wzML4g"


@given(texts)
@settings(max_examples=50)
def test_what_is_not_encrypted_says_so(text: str) -> None:
    with pytest.raises(NotDecrypted) as caught:
        decrypt(text.removeprefix(PREFIX), "pass")
    assert len(text) < 4 or text not in str(caught.value)


def test_the_pass_phrases_key_is_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encryption._key.cache_clear()
    for _ in range(3):
        encrypt("x", "pass", SALT)
    assert encryption._key.cache_info().misses == 1
