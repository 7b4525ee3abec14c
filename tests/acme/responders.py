"""An authority that answers OCSP: certificates of its own, and OpenSSL's responder, or one that misbehaves."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.kit.peers import needs

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class OcspAuthority:
    """`root` has its certificate and key as files; each that it issues names the responder at `url`."""

    def __init__(self, root: Path, name: str = "authority", key: Key | None = None) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        self.cert = self._build(self.name, self.key, [x509.BasicConstraints(True, None)])
        self.pem = _pem(self.cert)
        self._write("ca", self.cert, self.key)

    def _build(self, subject: x509.Name, key: Key, extensions: list[x509.ExtensionType], days: float = 30) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self.name, subject, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(days)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, cert: x509.Certificate, key: Key) -> None:
        (self.root / f"{name}.pem").write_text(_pem(cert))
        (self.root / f"{name}.key").write_text(private(key))

    def issue(
        self, url: str, *, must_staple: bool = False, name: str = "a.example", key: Key | None = None, days: float = 30
    ) -> tuple[x509.Certificate, str, str]:
        """(certificate, PEM of it and of the authority, PEM of its key)."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.SubjectAlternativeName([x509.DNSName(name)])]
        if url:
            where = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
            extensions.append(x509.AuthorityInformationAccess([where]))
        if must_staple:
            extensions.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
        cert = self._build(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)]), key, extensions, days)
        return cert, _pem(cert) + self.pem, private(key)

    def signer(self, name: str, *, may: bool = True, days: float = 30) -> None:
        """Files NAME.pem and NAME.key of somebody who signs answers in its stead. days: until it ends."""
        key = ec.generate_private_key(ec.SECP256R1())
        allowed = [x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING])] if may else []
        subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        self._write(name, self._build(subject, key, [*allowed], days), key)

    @contextmanager
    def openssl(
        self,
        *certificates: x509.Certificate,
        revoked: bool = False,
        signer: str = "ca",
        more: tuple[str, ...] = ("-ndays", "2"),
        port: int = 0,
    ) -> Iterator[str]:
        """OpenSSL's responder, which knows these; its URL. port: 0 for any."""
        needs("openssl")
        state = "R" if revoked else "V"
        when = "260101000000Z,keyCompromise" if revoked else ""
        lines = [f"{state}\t351231235959Z\t{when}\t{_serial(one)}\tunknown\t/CN={_serial(one)}\n" for one in certificates]
        (self.root / "index.txt").write_text("".join(lines))
        argv = ["openssl", "ocsp", "-port", str(port), "-index", "index.txt", "-CA", "ca.pem"]
        argv += ["-rsigner", f"{signer}.pem", "-rkey", f"{signer}.key"]
        process = subprocess.Popen(
            [*argv, *more], cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            said = ""
            while not (found := re.search(r"ACCEPT .*:(\d+)", said)):
                line = process.stdout.readline()
                assert line, said
                said += line
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()


@contextmanager
def misbehaving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A responder of our own, whose `answer` does as it likes; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def says(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def private(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(Encoding.PEM).decode()


def _serial(cert: x509.Certificate) -> str:
    text = f"{cert.serial_number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"
