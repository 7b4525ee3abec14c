"""PEM (RFC 7468): its blocks, taken out of whatever text stands around them.

`openssl pkcs12` writes the friendly name and `openssl x509 -text` the subject before a block, in any encoding; Windows
begins text files with a mark, or writes UTF-16. Nothing of that is the certificate's, so none of it is kept.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import os
import re
from typing import Any, Final

from pingap.config.home import expanded
from pingap.config.problems import BadValue
from pingap.config.quantities import text_of
from pingap.config.storage.regular import content_of

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----\r?\n((?:(?!-----).)*)-----END \1-----", re.DOTALL)
_LABEL: Final = re.compile(r"^-----BEGIN ([A-Z0-9 ]{1,60})-----", re.MULTILINE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=\s]{64,}")
_LONGEST_FILE: Final = 1024 * 1024
_CERTIFICATE: Final = "CERTIFICATE"
_OLD_NAME: Final = "X509 CERTIFICATE"
_TRUSTED: Final = "TRUSTED CERTIFICATE"
"""OpenSSL's own: a certificate, and behind it what `openssl x509 -trustout` says of its use."""


def parse_pem(value: Any) -> str:
    """PEM as it is, PEM in base64, or the path of a file of either. Messages never show what was read: it may be a key."""
    text = text_of(value, "a path, PEM, or PEM in base64").strip()
    if not text:
        raise BadValue("is empty", "write a path, PEM, or PEM in base64")
    if "-----BEGIN " in text or _BASE64.fullmatch(text):
        found = blocks_of(text.encode())
        if found:
            return found
        if "-----BEGIN " in text:
            raise BadValue("the text holds no whole PEM block", "each -----BEGIN …----- needs its -----END …-----")
    path = expanded(text)
    shown = text if len(text) < 200 and "\n" not in text else "the text"
    try:
        content = content_of(path, _LONGEST_FILE)
    except OSError as error:
        hint = "write a path, PEM, or PEM in base64"
        if isinstance(error, FileNotFoundError) and not os.path.isabs(path) and shown == text:
            hint += f"; a path that is not absolute starts at {os.getcwd()}"
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise BadValue(f"{shown!r} cannot be read: {why}", hint) from None
    found = blocks_of(content)
    if found:
        return found
    if b"-----BEGIN " in content:
        raise BadValue(f"{shown!r} holds no whole PEM block", "each -----BEGIN …----- needs its -----END …-----")
    hint = "a PEM file has a line -----BEGIN …-----"
    if not content.isascii():
        hint = "`openssl x509 -inform DER`, `openssl pkcs12 -nodes` make it of DER, PKCS #12"
    raise BadValue(f"{shown!r} holds no PEM", hint)


def path_in(value: str) -> str:
    """The path of the file that `parse_pem` would read, whether it is there or not; "" for what is no path."""
    text = value.strip()
    if not text or "\0" in text or "\n" in text or "-----BEGIN " in text or (_BASE64.fullmatch(text) and blocks_of(text.encode())):
        return ""
    return expanded(text)


def blocks_of(content: bytes) -> str:
    """The PEM blocks in a text or in its base64, one after the other and nothing else; "" when there is none."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    if b"-----BEGIN " not in content:
        try:
            content = base64.b64decode(content.removeprefix(codecs.BOM_UTF8), validate=False)
        except (binascii.Error, ValueError):
            return ""
    return "".join(_block(found[1].decode(), found[2]) for found in _BLOCK.finditer(content))


def der_of(pem: str) -> bytes:
    """The content of the first block of what `blocks_of` gave; empty when that is garbled."""
    found = _BLOCK.search(pem.encode())
    try:
        return base64.b64decode(found[2]) if found else b""
    except (binascii.Error, ValueError):
        return b""


def labels_of(pem: str) -> list[str]:
    """What the blocks of a PEM text say that they are, in order."""
    return _LABEL.findall(pem)


def _block(label: str, body: bytes) -> str:
    """One block in ASCII; certificates under the one name by which every library knows them."""
    text = body.decode("ascii", "replace").replace("\r\n", "\n").rstrip() + "\n"
    if label == _TRUSTED:
        text = _without_trust(text)
    if label in (_TRUSTED, _OLD_NAME):
        label = _CERTIFICATE
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def _without_trust(text: str) -> str:
    """The certificate, which is the first ASN.1 value, of a TRUSTED CERTIFICATE's base64; what is garbled stays so."""
    try:
        der = base64.b64decode(text)
        width = der[1] & 0x7F if der[1] >= 0x80 else 0  # of the length, where one byte does not hold it (X.690 section 8.1.3.5)
        end = 2 + width + (int.from_bytes(der[2 : 2 + width], "big") if width else der[1])
    except (binascii.Error, ValueError, IndexError):
        return text
    return base64.encodebytes(der[:end]).decode()
