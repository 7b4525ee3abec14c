"""Private keys in PEM, encrypted or not: PKCS #8 and the older forms of OpenSSL, of RSA, EC, Ed25519.

Stages get keys without a pass phrase: they would need it beside the key, and each reload would derive a key from it again.
"""

from __future__ import annotations

import re
from typing import Final

from pingap.config.pem import labels_of
from pingap.config.problems import BadValue

_OLD_FORM: Final = re.compile(r"^Proc-Type:\s*4,\s*ENCRYPTED", re.MULTILINE)
"""How OpenSSL marks what it has encrypted in its older forms (RFC 1421 section 4.6.1.1)."""

_CONVERT: Final = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW` encrypts it in a usual way"


def is_encrypted_key(pem: str) -> bool:
    """Whether its first private key needs a pass phrase."""
    label = next((label for label in labels_of(pem) if label.endswith("PRIVATE KEY")), "")
    return label == "ENCRYPTED PRIVATE KEY" or (bool(label) and bool(_OLD_FORM.search(pem)))


def decrypted_key(pem: str, phrase: str) -> str:
    """The same key in PKCS #8 without a pass phrase. Raises BadValue, whose text shows neither."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), phrase.encode())
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        if isinstance(error, UnsupportedAlgorithm) or "unknown" in str(error).lower():
            raise BadValue("is encrypted in a way that is not supported", _CONVERT) from None
        # What comes out of one in 256 wrong pass phrases looks decrypted, and is no key.
        raise BadValue("is encrypted with another pass phrase than tls_key_passphrase, or damaged") from None
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
