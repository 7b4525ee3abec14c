"""Texts encrypted with a pass phrase: `value` of a storage that has a `secret`.

What pingap writes is `pingap:v1:` and base64url, without padding, of salt (16 bytes), nonce (12) and AES-256-GCM of the
text with its tag (16); the prefix is the associated data. The key is scrypt (RFC 7914) of the pass phrase, with N = 2^15,
r = 8, p = 3. What the reference writes is read too: AES-256-GCM-SIV in base64, whose key is the pass phrase itself, cut or
filled with zeros to 32 bytes, and whose nonce never changes (pingap-util/src/crypto.rs). docs/decisions/0019 has the reasons.
"""

from __future__ import annotations

import base64
import binascii
import os
from functools import lru_cache
from typing import Final

PREFIX: Final = "pingap:v1:"

_SALT: Final = 16
_NONCE: Final = 12
_TAG: Final = 16
_KEY: Final = 32
_COST: Final = 2**15
_BLOCK: Final = 8
_PARALLEL: Final = 3
_NONCE_OF_THE_REFERENCE: Final = b"pingap nonce"


class NotDecrypted(ValueError):
    """The text says why not: never what it is about."""


def new_salt() -> bytes:
    """For `encrypt`. Deriving a key takes a tenth of a second: texts that are encrypted together should share one."""
    return os.urandom(_SALT)


def encrypt(text: str, pass_phrase: str, salt: bytes = b"") -> str:
    """The text as pingap keeps it; never twice the same. salt: of `new_salt`; empty is one of its own."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not pass_phrase:
        raise ValueError("the pass phrase is empty")
    salt, nonce = salt or new_salt(), os.urandom(_NONCE)
    sealed = AESGCM(_key(pass_phrase, salt)).encrypt(nonce, text.encode(), PREFIX.encode())
    return PREFIX + base64.urlsafe_b64encode(salt + nonce + sealed).decode().rstrip("=")


def decrypt(text: str, pass_phrase: str) -> str:
    """What was encrypted, here or by the reference. Raises NotDecrypted."""
    text = text.strip()
    if not is_encrypted(text):
        return _decrypt_as_reference(text, pass_phrase)
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce, sealed = _parts(text)
    try:
        return AESGCM(_key(pass_phrase, salt)).decrypt(nonce, sealed, PREFIX.encode()).decode()
    except InvalidTag:
        raise NotDecrypted(_WRONG) from None


def salt_of(text: str) -> bytes:
    """Of a whole text that `encrypt` made; empty for another. Each salt costs one derivation of a key, and nothing else costs any."""
    try:
        return _parts(text.strip())[0] if is_encrypted(text.strip()) else b""
    except NotDecrypted:
        return b""


def _parts(text: str) -> tuple[bytes, bytes, bytes]:
    """Salt, nonce, and what is sealed. Raises NotDecrypted."""
    body = text.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotDecrypted("is damaged: what follows the prefix is no base64") from None
    if len(raw) < _SALT + _NONCE + _TAG:
        raise NotDecrypted("is damaged: its end is missing")
    return raw[:_SALT], raw[_SALT : _SALT + _NONCE], raw[_SALT + _NONCE :]


def is_encrypted(text: str) -> bool:
    """By pingap; what the reference encrypts bears no mark."""
    return text.startswith(PREFIX)


_WRONG: Final = "cannot be decrypted: the pass phrase is wrong, or the text was changed"


@lru_cache(maxsize=1024)  # more values with a salt each would be derived anew at every reload
def _key(pass_phrase: str, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt, _KEY, _COST, _BLOCK, _PARALLEL).derive(pass_phrase.encode())


def _decrypt_as_reference(text: str, pass_phrase: str) -> str:
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

        sealed = base64.b64decode(text, validate=True)
        if len(sealed) < _TAG:
            raise ValueError
        cipher = AESGCMSIV(pass_phrase.encode()[:_KEY].ljust(_KEY, b"\0"))
    except ValueError:
        raise NotDecrypted("is not encrypted") from None
    except (UnsupportedAlgorithm, ImportError):
        raise NotDecrypted("is in the old form, AES-GCM-SIV, for which this machine's OpenSSL is too old (3.2 has it)") from None
    try:
        return cipher.decrypt(_NONCE_OF_THE_REFERENCE, sealed, None).decode()
    except (InvalidTag, ValueError):
        raise NotDecrypted(_WRONG) from None
