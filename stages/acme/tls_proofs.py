"""The proof over TLS (RFC 8737): an authority that connects is shown a certificate made for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from time import monotonic
from typing import Final

from pingap.stages.acme.presenter import Challenge, NotPresented
from pingap.stages.acme.wanted import Issued

TAKING: Final = 15.0
"""Seconds within which every accept process is to show all proofs of an order."""

TURN: Final = 60.0
"""Seconds for which another try may show a proof for the same name: a name has one at a time."""

_ACME_IDENTIFIER: Final = "1.3.6.1.5.5.7.1.31"
"""RFC 8737 section 6.1."""


class TlsProofs:
    """A Presenter of tls-alpn-01. show, hide: name, certificate and an event that is set when every accept process shows it.

    Both are called in the threads of tries, which share it.
    """

    def __init__(self, show: Callable[[str, Issued, threading.Event], None], hide: Callable[[str], None]) -> None:
        self._show = show
        self._hide = hide
        self._turns = threading.Condition()
        self._shown: dict[str, str] = {}
        """By name: the key authorization that is proved."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """See Presenter."""
        awaited = []
        for challenge in sorted(challenges, key=lambda one: one.domain):  # all in the same order: no two wait for each other
            shown = threading.Event()
            self._take_turn(challenge)
            self._show(asked_name(challenge.domain), proof_for(challenge), shown)
            awaited.append((challenge.domain, shown))
        end = monotonic() + TAKING
        for domain, shown in awaited:
            if not shown.wait(max(0.0, end - monotonic())):
                raise NotPresented(f"{domain}: not every accept process shows the proof after {TAKING:g} s")

    def remove(self, challenge: Challenge) -> None:
        """See Presenter. What another try shows for the same name stays."""
        name = asked_name(challenge.domain)
        with self._turns:
            if self._shown.get(name) != challenge.key_authorization:
                return
            self._hide(name)  # before anybody else shows another
            del self._shown[name]
            self._turns.notify_all()

    def close(self) -> None:
        """All tries share it."""

    def _take_turn(self, challenge: Challenge) -> None:
        """Raises NotPresented: another try shows its proof for the name all the time."""
        name = asked_name(challenge.domain)
        with self._turns:
            if not self._turns.wait_for(lambda: self._shown.get(name, challenge.key_authorization) == challenge.key_authorization, TURN):
                raise NotPresented(f"{challenge.domain}: for {TURN:g} s the proof for another certificate has been shown for this name")
            self._shown[name] = challenge.key_authorization


def asked_name(domain: str) -> str:
    """The name that an authority asks for (SNI): of an address the one of its reverse zone (RFC 8738 section 6)."""
    try:
        return ip_address(domain).reverse_pointer
    except ValueError:
        return domain


def proof_for(challenge: Challenge) -> Issued:
    """The certificate of RFC 8737 section 3, signed by its own key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME proof")])
    digest = sha256(challenge.key_authorization.encode()).digest()
    proof = x509.UnrecognizedExtension(x509.ObjectIdentifier(_ACME_IDENTIFIER), b"\x04\x20" + digest)  # OCTET STRING of 32 bytes
    names: list[x509.GeneralName]
    try:
        names = [x509.IPAddress(ip_address(challenge.domain))]
    except ValueError:
        names = [x509.DNSName(challenge.domain)]
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(proof, True)
    )
    cert = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return Issued(cert, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
