"""A real ACME authority, pebble, with the DNS of its tests, pebble-challtestsrv: on free ports of loopback.

Debian's is 2.4.0: no renewal information (RFC 9773), no profiles, no subproblems; tests/kit/small_authority.py has those.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pingap.stages.acme.presenter import Challenge, NotPresented
from tests.kit.peer_process import PeerProcess
from tests.kit.waiting import free_port


def own_tls(root: Path) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1 and localhost, which is its own authority: files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pebble's own")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (root / "pebble.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (root / "pebble.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return root / "pebble.pem", root / "pebble.key"


def _posted(url: str, body: Mapping[str, object] | None = None, context: ssl.SSLContext | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    handlers = [urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])]
    with urllib.request.build_opener(*handlers).open(urllib.request.Request(url, data), timeout=10) as answer:
        whole: bytes = answer.read()
    return whole


class ChallengeServer(PeerProcess):
    """pebble-challtestsrv: the DNS that pebble asks, and answers to HTTP-01 on `http_port` unless that is somebody else's.

    Every name is 127.0.0.1 unless told otherwise.
    """

    program = "pebble-challtestsrv"
    package = "pebble"

    def __init__(self, root: Path, http_port: int | None = None) -> None:
        """http_port: where it answers HTTP-01 itself; None: it does not. management_port: where tests talk to it."""
        self.dns_port = free_port()
        self.management_port = free_port()
        self.http_port = http_port
        super().__init__(root / f"challtestsrv-{self.management_port}.log")

    def command(self) -> list[str]:
        words = [self.program, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{self.dns_port}"]
        words += ["-http01", f"127.0.0.1:{self.http_port}" if self.http_port else "", "-https01", "", "-tlsalpn01", ""]
        return [*words, "-management", f"127.0.0.1:{self.management_port}"]

    @property
    def dns(self) -> str:
        """address:port, UDP and TCP."""
        return f"127.0.0.1:{self.dns_port}"

    def say(self, what: str, **body: object) -> None:
        """One of its calls, such as `add-a` with host and addresses, `clear-txt` with host, `set-servfail` with host."""
        _posted(f"http://127.0.0.1:{self.management_port}/{what}", body)

    def add_txt(self, name: str, value: str) -> None:
        self.say("set-txt", host=f"{name}.", value=value)

    def clear_txt(self, name: str) -> None:
        """All of that name."""
        self.say("clear-txt", host=f"{name}.")

    def answers(self) -> bool:
        try:
            self.say("clear-request-history", type="http", host="none.test")
        except OSError:
            return False
        return True


class ManagedPresenter:
    """Shows proofs through pebble-challtestsrv: http-01 and dns-01."""

    def __init__(self, server: ChallengeServer) -> None:
        self._server = server
        self.presented: list[Challenge] = []
        self.removed: list[Challenge] = []
        self.fails: str = ""
        """What NotPresented is raised with."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        if self.fails:
            raise NotPresented(self.fails)
        for challenge in challenges:
            if challenge.kind == "dns-01":
                self._server.add_txt(challenge.record, challenge.value)
            else:
                self._server.say("add-http01", token=challenge.token, content=challenge.key_authorization)
            self.presented.append(challenge)

    def remove(self, challenge: Challenge) -> None:
        if challenge.kind == "dns-01":
            self._server.clear_txt(challenge.record)
        else:
            self._server.say("del-http01", token=challenge.token)
        self.removed.append(challenge)

    def close(self) -> None:
        pass


class Pebble(PeerProcess):
    """The authority. A second `start` is a pebble that has forgotten all.

    http_port, tls_port: at which it looks for HTTP-01 and TLS-ALPN-01, by default free ones.
    seconds: how long a certificate of its is valid. nonce_rejects: percent of nonces that it does not take.
    eab: key id → HMAC key, base64url; with any, it takes accounts by them only. reuse: percent of valid authorizations that are used again.
    """

    program = "pebble"
    package = "pebble"
    patience = 15.0

    def __init__(
        self,
        root: Path,
        dns: str,
        *,
        http_port: int | None = None,
        tls_port: int | None = None,
        seconds: int = 90 * 86400,
        nonce_rejects: int = 0,
        eab: Mapping[str, str] | None = None,
        reuse: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.management_port = free_port()
        self.http_port = http_port or free_port()
        self.tls_port = tls_port or free_port()
        super().__init__(root / f"pebble-{self.port}.log")
        self._root = root
        self._dns = dns
        self._settings: dict[str, Any] = {
            "certificateValidityPeriod": seconds,
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
        }
        if eab:
            self._settings |= {"externalAccountBindingRequired": True, "externalAccountMACKeys": dict(eab)}
        self._environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(nonce_rejects), "PEBBLE_AUTHZREUSE": str(reuse)}
        self._environment |= environment or {}
        self.authority_ca = ""
        """PEM of those whom its own TLS is believed by: `acme_ca`."""

    def __enter__(self) -> Self:
        certificate, key = own_tls(self._root)
        self.authority_ca = certificate.read_text()
        self._settings |= {"certificate": str(certificate), "privateKey": str(key)}
        return super().__enter__()

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def command(self) -> list[str]:
        config = self._root / f"pebble-{self.port}.json"
        config.write_text(json.dumps({"pebble": self._settings}))
        return [self.program, "-config", str(config), "-dnsserver", self._dns]

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def get(self, path: str) -> bytes:
        """Of its management interface: `/roots/0` is the PEM of the root that its certificates lead to; it is another one at each start."""
        return _posted(f"https://127.0.0.1:{self.management_port}{path}", context=self._context())

    @property
    def root(self) -> str:
        """PEM."""
        return self.get("/roots/0").decode()

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority_ca)

    def answers(self) -> bool:
        try:
            return bool(_posted(self.directory, context=self._context()))
        except OSError:
            return False
