"""Why a TLS handshake with a backend has failed, for the log."""

from __future__ import annotations

import ssl
from typing import Final


def in_plain_words(error: Exception) -> str:
    """What the library says of the usual mistakes only its authors understand."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    text = str(error)
    for mark, meaning in _MEANINGS.items():
        if mark in text:
            return f"{meaning} ({text})"
    return text


_MEANINGS: Final = {
    "WRONG_VERSION_NUMBER": "it does not answer in TLS",
    "no application protocol": "it speaks none of the protocols that it is offered (ALPN)",
    "unrecognized name": "it has no certificate for that name",
}
