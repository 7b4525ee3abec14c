"""Why a client is not let in by its certificate, for the log, in words that say what to do."""

from __future__ import annotations

import ssl
from typing import Final

WITHOUT: Final = "it has none, and client_auth is required"
UNREADABLE: Final = "it cannot be taken apart as RFC 5280 has it"
EXPIRED: Final = "it has expired, or an authority above it has"

_UNKNOWN: Final = "no authority of client_ca has issued it, or the client does not send those between"
_REASONS: Final = {
    2: _UNKNOWN,
    7: "its signature is not that of the authority that it names",
    9: "it is not valid yet: look at the clocks",
    10: EXPIRED,
    18: "it is signed by itself, and is not in client_ca",
    19: "the authority above it is not in client_ca",
    20: _UNKNOWN,
    21: _UNKNOWN,
    22: "there are too many authorities above it",
    24: "who has issued it is no authority",
    25: "there are more authorities above it than one of them allows",
    26: "it is not for clients: its extended key usage has no clientAuth",
    47: "it has a name that its authority may not give",
    66: "its key is too short",
    67: "the key of an authority above it is too short",
    68: "it is signed by a digest that is too weak",
    79: "who has issued it is no authority",
}
"""X509_V_ERR_… of OpenSSL → what it means here."""


def is_of_certificate(error: Exception) -> bool:
    """Whether a handshake has failed because of the client's certificate, or for want of one."""
    return bool(refusal_of(error))


def refusal_of(error: Exception | None) -> str:
    """ "" when a handshake has failed for another reason than the client's certificate. One of few: nothing of what the client sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.verify_code) or f"{error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return WITHOUT
    return ""
