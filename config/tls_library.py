"""What the TLS library says of a certificate: it has the last word, and takes no short keys, for one."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from pingap.config.model import Certificate, Snapshot
from pingap.config.problems import Problem, path_of

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2, without `tls_cipher_list`: forward secret and authenticated, as Mozilla's "intermediate" (docs/decisions/0049)."""


def check_with_library(snapshot: Snapshot, but: AbstractSet[str]) -> Iterator[Problem]:
    """Loads each certificate as accept will. `but`: paths of those that are known to be wrong."""
    ciphers = sorted({server.tls_cipher_list for server in snapshot.servers.values() if server.global_certificates})
    for name, certificate in snapshot.certificates.items():
        path = path_of("certificates", name)
        for text in ciphers if path not in but and certificate.tls_cert else ():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.set_ciphers(text or CIPHERS)  # which says how much security is the least, too
                load_into(context, certificate)
            except ssl.SSLError as error:
                why = (error.reason or str(error)).lower().replace("_", " ")
                hint = "use a stronger key: ECDSA, or RSA of 2048 bits" if "small" in why else ""
                yield Problem(f"{path}.tls_cert", f"is not taken by the TLS library: {why}", hint)
                break


def load_into(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Raises ssl.SSLError, OSError."""
    # The ssl module reads certificates from files only. This one is in memory, without a name in any directory.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(certificate.tls_key.encode() + b"\n" + certificate.tls_cert.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
