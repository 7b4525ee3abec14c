"""A site with certificates of all kinds, and the clients that look at them."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.e2e.certificate import chained, self_signed
from tests.e2e.client import TRUSTING, Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Names:
    """The certificates of the site under test: `a.example` as PEM, a wildcard in base64, one in files, the default."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exact = self_signed("a.example", "exact.w.example")
        self.wildcard = self_signed("*.w.example")
        self.default = self_signed("default.example")
        self.filed = self_signed("filed.example")
        self.chain, self.chain_key, self.root_cert = chained("chained.example")
        self.write(*self.filed)

    def write(self, cert: str = "", key: str = "") -> None:
        """Replaces the files, or one of them."""
        if cert:
            (self.root / "cert.pem").write_text(cert)
        if key:
            (self.root / "key.pem").write_text(key)

    def config(self, default: bool = True) -> str:
        coded = [base64.b64encode(one.encode()).decode() for one in self.wildcard]
        return f"""
[certificates.wildcard]
tls_cert = "{coded[0]}"
tls_key = "{coded[1]}"
[certificates.exact]
tls_cert = '''{self.exact[0]}'''
tls_key = '''{self.exact[1]}'''
[certificates.filed]
tls_cert = "{self.root}/cert.pem"
tls_key = "{self.root}/key.pem"
[certificates.chained]
tls_cert = '''{self.chain}'''
tls_key = '''{self.chain_key}'''
[certificates.other]
tls_cert = '''{self.default[0]}'''
tls_key = '''{self.default[1]}'''
{"is_default = true" if default else ""}
"""

    def of(self, der: bytes) -> str:
        """The attribute of the pair whose certificate this is."""
        known = {"exact": self.exact, "wildcard": self.wildcard, "default": self.default, "filed": self.filed}
        return next((name for name, pair in known.items() if ssl.PEM_cert_to_DER_cert(pair[0]) == der), "unknown")


class Site:
    """One instance with servers that differ in their TLS."""

    def __init__(self, root: Path, origin: Origin) -> None:
        self.names = Names(root)
        self.origin = origin
        self.only12, self.only13, self.hasty, self.h2, self.plain = (free_port() for _ in range(5))

    def config(self, default: bool = True) -> str:
        tags = '"{dir}/access.log {path} {status} {:tls_version} {:tls_cipher} {:tls_handshake_time}."'
        return site(
            [self.origin.port],
            server=f'global_certificates = true\nprometheus_metrics = "/metrics"\naccess_log = {tags}',
            more=f"""
[servers.only12]
addr = "127.0.0.1:{self.only12}"
global_certificates = true
tls_max_version = "tlsv1.2"
tls_cipher_list = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
locations = ["all"]
[servers.only13]
addr = "127.0.0.1:{self.only13}"
global_certificates = true
tls_min_version = "tlsv1.3"
locations = ["all"]
[servers.hasty]
addr = "127.0.0.1:{self.hasty}"
global_certificates = true
tls_handshake_timeout = "1s"
locations = ["all"]
[servers.h2]
addr = "127.0.0.1:{self.h2}"
global_certificates = true
enabled_h2 = true
access_log = {tags}
locations = ["all"]
[servers.bare]
addr = "127.0.0.1:{self.plain}"
locations = ["all"]
{self.names.config(default)}
""",
        )

    pingap: Pingap

    @cached_property
    def port(self) -> int:
        return self.pingap.port


def trusting(oldest: ssl.TLSVersion = TLS12, newest: ssl.TLSVersion = TLS13, alpn: list[str] | None = None) -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = oldest, newest
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def connect(port: int, name: str | None = "a.example", context: ssl.SSLContext | None = None, **more: Any) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    try:
        return (context or trusting()).wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False, **more)
    except BaseException:
        sock.close()
        raise


def shown(tls: Site, name: str | None) -> str:
    """Which of the certificates a client gets that asks for `name`."""
    with connect(tls.port, name) as sock:
        return tls.names.of(sock.getpeercert(True) or b"")


def ask(sock: ssl.SSLSocket, target: str = "/", more: str = "") -> bytes:
    """One request on a connection that stays open; the bytes of the answer, whose body is its target."""
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a.example\r\n{more}\r\n".encode())
    got = b""
    while not got.endswith(b"\r\n\r\n" + target.encode()):
        part = sock.recv(65536)
        assert part, f"closed after {got!r}"
        got += part
    return got


def s_client(port: int, *args: str, name: str = "a.example", talk: Sequence[tuple[str, str]] = (("", "Q\n"),)) -> str:
    """What `openssl s_client` writes. talk: each time, what it must have written, and what it is then told."""
    needs("openssl")
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, *args]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None and process.stdout is not None
        killer = threading.Timer(20, process.kill)
        killer.start()
        try:
            out = b""
            for wanted, said in talk:
                while wanted.encode() not in out and (part := os.read(process.stdout.fileno(), 65536)):
                    out += part
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(said.encode())
                    process.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            return (out + process.stdout.read()).decode(errors="replace")
        finally:
            killer.cancel()


class HalvesOfTls(Client):
    """Over TLS, with a `shutdown` that ends one half of it as RFC 8446 section 6.1 has it; Python's own SSLSocket cannot."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._raw, self._in, self._out = self.sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = TRUSTING.wrap_bio(self._in, self._out, server_hostname="a.example")
        self._until_done(self._tls.do_handshake)
        self.sock = self  # type: ignore[assignment]  # of a socket, Client uses the four methods below

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                if not (part := self._raw.recv(65536)):
                    raise Closed(b"") from None
                self._in.write(part)
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._out.pending:
            self._raw.sendall(self._out.read())

    def settimeout(self, seconds: float) -> None:
        self._raw.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        self._until_done(lambda: self._tls.write(data))

    def recv(self, most: int) -> bytes:
        try:
            return bytes(self._until_done(lambda: self._tls.read(most)))
        except ssl.SSLZeroReturnError:
            return b""

    def shutdown(self, _: int) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        self._raw.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._raw.close()
