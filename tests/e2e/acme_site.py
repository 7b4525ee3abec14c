"""A site whose certificates come from a real authority, and the way there, which can be held up at any step."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.e2e.harness import Pingap
from tests.kit.pebble import ChallengeServer, Pebble
from tests.kit.waiting import until

STEPS = {
    "directory": "/dir",
    "account": "/sign-me-up",
    "order": "/order-plz",
    "authorization": "/authZ/",
    "challenge": "/chalZ/",
    "finalize": "/finalize-order/",
    "poll": "/my-order/",
    "download": "/certZ/",
}
"""Of getting a certificate, and how pebble calls them."""


class Way:
    """Between us and pebble: it counts what is asked, and holds up what a test says. A context manager."""

    def __init__(self, pebble: Pebble, root: Path) -> None:
        self._pebble = pebble
        self.asked: list[str] = []
        """Paths, as they came."""
        self.held = threading.Event()
        """Something was held up."""
        self._at = ""
        self._is_after = self._is_done = False
        self._go = threading.Event()
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes] | None] = lambda _: None
        """What is answered to a path instead of pebble's answer."""
        way = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                way.passed(self)

            do_GET = do_HEAD = do_POST = _pass

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # who is killed while it waits sends no goodbye

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(root / "pebble.pem", root / "pebble.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.directory = f"https://127.0.0.1:{self._server.server_port}/dir"

    def __enter__(self) -> Way:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, step: str, is_after: bool = False) -> None:
        """The next request of this step gets no answer. is_after: but pebble has it done."""
        self._at, self._is_after = STEPS[step], is_after
        self._go.clear()
        self.held.clear()

    def let_go(self, is_done: bool = False) -> None:
        """What was held up is cut off. is_done: it goes on."""
        self._at, self._is_done = "", is_done
        self._go.set()

    def count(self, step: str) -> int:
        return sum(path.startswith(STEPS[step]) for path in self.asked)

    def passed(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        self.asked.append(handler.path)
        is_here = bool(self._at) and handler.path.startswith(self._at)
        is_cut = is_here and not self._is_after and not self._waited()
        if not is_cut:
            status, headers, content = self.answer(handler.path) or self._forwarded(handler, body)
            is_cut = is_here and self._is_after and not self._waited()
        if is_cut:
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def _waited(self) -> bool:
        """Whether it goes on."""
        self.held.set()
        self._go.wait(120)
        return self._is_done

    def _forwarded(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        context = ssl.create_default_context(cadata=self._pebble.authority_ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self._pebble.port, timeout=20, context=context)
        try:
            # With our own Host, so that all that it names leads here.
            connection.request(handler.command, handler.path, body or None, dict(handler.headers))
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            return 502, {}, b""
        finally:
            connection.close()
        left = ("content-length", "connection", "transfer-encoding", "date", "server")
        return answer.status, {name: value for name, value in answer.getheaders() if name.lower() not in left}, content


class AcmeTown:
    """pebble with its DNS, and the ports at which it looks for us. A context manager."""

    def __init__(self, root: Path, **pebble: Any) -> None:
        self.root = root
        self.dns = ChallengeServer(root)
        self.pebble = Pebble(root, self.dns.dns, **pebble)

    def __enter__(self) -> AcmeTown:
        self.dns.__enter__()
        try:
            self.pebble.__enter__()
        except BaseException:
            self.dns.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.pebble.__exit__()
        self.dns.__exit__()

    @property
    def ca(self) -> Path:
        """Whom pebble's own TLS is believed by."""
        return self.root / "pebble.pem"

    def certificate(self, name: str, domains: Sequence[str], more: str = "", directory: str = "", challenge: str = "http-01") -> str:
        """A section."""
        return f"""[certificates.{name}]
acme = "{directory or self.pebble.directory}"
acme_ca = "{self.ca}"
acme_challenge = "{challenge}"
domains = "{",".join(domains)}"
{more}
"""

    def config(self, backend: int, certificates: str, *, server: str = "", location: str = "", more: str = "", basic: str = "") -> str:
        """A site at the ports where pebble looks: both, plain and over TLS."""
        return f"""[basic]
acme_directory = "{{dir}}/acme"
{basic}
[servers.plain]
addr = "127.0.0.1:{self.pebble.http_port}"
locations = ["all"]
{server}
[servers.secure]
addr = "127.0.0.1:{self.pebble.tls_port}"
global_certificates = true
enabled_h2 = true
locations = ["all"]
{server}
[locations.all]
upstream = "origin"
{location}
[upstreams.origin]
addrs = ["127.0.0.1:{backend}"]
{more}
{certificates}"""

    def site(self, backend: int, certificates: str, placement: str = "colocated", env: dict[str, str] | None = None, **more: str) -> Pingap:
        return Pingap(self.config(backend, certificates, **more), placement, env=env, port=self.pebble.tls_port)

    # -- what clients see ---------------------------------------------------------------

    def shown(self, name: str) -> x509.Certificate | None:
        """What a client gets that asks for a name; None: it is refused for want of one."""
        return leaf_at(self.pebble.tls_port, name)

    def wait_shown(self, name: str, seconds: float = 20, other_than: x509.Certificate | None = None) -> x509.Certificate:
        def there() -> x509.Certificate | None:
            found = self.shown(name)
            return found if found is not None and found != other_than and is_of_pebble(found) else None

        found = until(there, seconds, f"a certificate for {name} is served", every=0.05)
        assert name in names_of(found), "that of another name is none"
        return found

    def is_believed(self, name: str) -> bool:
        """By a client who trusts pebble's root: chain, dates and name are right."""
        context = ssl.create_default_context(cadata=self.pebble.root)
        with socket.create_connection(("127.0.0.1", self.pebble.tls_port), 10) as plain, context.wrap_socket(plain, server_hostname=name):
            return True


def leaf_at(port: int, name: str) -> x509.Certificate | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as sock,
        ):
            return x509.load_der_x509_certificate(sock.getpeercert(True) or b"")
    except ssl.SSLError as error:
        assert "unrecognized name" in str(error).lower(), error
        return None
    except (ConnectionError, TimeoutError):
        return None  # it is being replaced


def is_of_pebble(certificate: x509.Certificate) -> bool:
    return "Pebble" in certificate.issuer.rfc4514_string()


def names_of(certificate: x509.Certificate) -> list[str]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def certs(proxy: Pingap, name: str = "site") -> dict[str, Any]:
    """Of `pingap certs --json`, one of them; {} while the stage does not answer."""
    done = proxy.command("certs", "--json")
    if done.returncode:
        return {}
    return next((one for one in json.loads(done.stdout) if one["certificate"] == name), {})


class Talker:
    """An open connection, on which a request is made again and again: nothing may happen to it."""

    def __init__(self, port: int, name: str) -> None:
        self.answers = 0
        self.failure = ""
        self._is_over = False
        self._name = name
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name)
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", timeout=10)
        connection.sock = self._sock
        connection.auto_open = 0
        try:
            while not self._is_over:
                connection.request("GET", "/talk", headers={"Host": self._name})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                self.answers += 1
                time.sleep(0.01)  # a hundred requests a second are enough, and leave the others their CPU
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failure = repr(error)
        finally:
            connection.close()

    def stop(self) -> int:
        """Answers that it got; fails when the connection was touched."""
        self._is_over = True
        self._thread.join(15)
        assert not self.failure, f"after {self.answers} answers: {self.failure}"
        return self.answers
