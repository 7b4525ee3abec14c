"""What an authority is shown that connects to see whether a name is ours (TLS-ALPN-01, RFC 8737)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from pingap.config.model import Certificate
from pingap.config.tls_library import load_into
from pingap.stages.client_hello import ACME_TLS


def proofs_of(challenges: Mapping[str, tuple[str, str]]) -> dict[str, ssl.SSLContext]:
    """By the name that is to be proved. challenges: the same → certificate and key, PEM.

    Raises ssl.SSLError, OSError.
    """
    return {domain: _proof(*pair) for domain, pair in challenges.items()}


def _proof(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([ACME_TLS])
    load_into(context, Certificate(tls_cert=cert, tls_key=key))
    return context
