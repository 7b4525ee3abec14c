"""Backends that speak TLS: nginx, and servers in this process that are not what they should be."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.client import Client, Closed, Response
from tests.e2e.harness import PLACEMENTS, Pingap
from tests.e2e.http2_origin import Http2Origin
from tests.e2e.origins import Exchange, TlsOrigin
from tests.e2e.test_flow import MB
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until


class Certificates:
    """Files of certificates and keys, and of those that the proxy trusts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trusted = root / "trusted.pem"
        trusted = []
        for name, names, days, is_trusted in (
            ("good", ("backend.test", "one.test", "two.test"), 30, True),
            ("expired", ("expired.test", "backend.test"), -0.5, True),
            ("unknown", ("unknown.test", "backend.test"), 30, False),
        ):
            certificate, key = self_signed(*names, days=days)
            (root / f"{name}.crt").write_text(certificate)
            (root / f"{name}.key").write_text(key)
            if is_trusted:
                trusted.append(certificate)
        self.trusted.write_text("".join(trusted))

    def lines(self, name: str) -> str:
        """For nginx."""
        return f"ssl_certificate {self.root}/{name}.crt; ssl_certificate_key {self.root}/{name}.key;"

    def context(self, name: str = "good", *protocols: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.root / f"{name}.crt", self.root / f"{name}.key")
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


class TlsNginx:
    """nginx with one server a name; each answers `reused name version protocol connection`."""

    SAYS = "'$ssl_session_reused $ssl_server_name $ssl_protocol $server_protocol $connection'"

    def __init__(self, root: Path, certificates: Certificates, big_file: bytes) -> None:
        kinds = {
            "both": ("good", "http2 on; ssl_protocols TLSv1.2 TLSv1.3;"),
            "h1": ("good", "http2 off; ssl_protocols TLSv1.2 TLSv1.3;"),
            "tls12": ("good", "http2 off; ssl_protocols TLSv1.2;"),
            "hasty": ("good", "keepalive_timeout 1s;"),
            "expired": ("expired", ""),
            "unknown": ("unknown", ""),
        }
        self.ports = {kind: free_port() for kind in kinds}
        self.ports["plain"] = free_port()
        (root / "www").mkdir()
        (root / "www" / "file").write_bytes(big_file)
        version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].split()[0]
        is_old = tuple(map(int, version.split(".")[:2])) < (1, 25)

        def server(kind: str) -> str:
            certificate, more = kinds[kind]
            flag = ""
            if is_old:  # "http2" was a word of the listen line
                flag = " http2" if "http2 on;" in more else ""
                more = more.replace("http2 on;", "").replace("http2 off;", "")
            return f"""server {{ listen 127.0.0.1:{self.ports[kind]} ssl{flag}; {certificates.lines(certificate)} {more}
                location / {{ return 200 {self.SAYS}; }} location /file {{ root {root}/www; }} }}"""

        user = "user root;" if os.getuid() == 0 else ""
        config = root / "nginx.conf"
        config.write_text(f"""{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_timeout 600s;
  {" ".join(server(kind) for kind in kinds)}
  server {{ listen 127.0.0.1:{self.ports["plain"]}; location / {{ return 200 plain; }} }}
}}""")
        self.process = subprocess.Popen(["nginx", "-c", config, "-e", root / "error.log"])
        until(self._accepts, 10, "nginx accepts connections")

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), Client(self.ports["plain"]):
            return True
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def nginx_tls(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, big_file: bytes) -> Iterator[TlsNginx]:
    needs("nginx")
    root = tmp_path_factory.mktemp("nginx-tls")
    for directory in [root, *root.parents]:
        if directory.stat().st_uid == os.getuid() and directory.name.startswith(("nginx", "pytest-")):
            directory.chmod(0o755)
    server = TlsNginx(root, certificates, big_file)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def h1_origin(certificates: Certificates) -> Iterator[TlsOrigin]:
    server = TlsOrigin(certificates.context())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def h2_origin(certificates: Certificates) -> Iterator[Http2Origin]:
    server = Http2Origin(certificates.context("good", "h2"))
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class Proxy:
    def __init__(self, instance: Pingap) -> None:
        self.instance = instance

    def client(self) -> Client:
        return self.instance.client(timeout=30)

    def get(self, path: str, host: str = "test.local", method: str = "GET", body: bytes | None = None) -> Response:
        with self.client() as client:
            client.request(path, method, body=body, host=host)
            return client.response(method)

    def said(self, path: str, host: str = "test.local") -> list[str]:
        """What nginx says of the connection: reused, name, version, protocol, number."""
        answer = self.get(path, host)
        assert answer.status == 200, answer
        return answer.body.decode().split(" ")


@pytest.fixture(scope="module", params=PLACEMENTS)
def proxy(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    nginx_tls: TlsNginx,
    h1_origin: TlsOrigin,
    h2_origin: Http2Origin,
    mute: int,
) -> Iterator[Proxy]:
    ports = nginx_tls.ports
    named = 'sni = "backend.test"'
    upstreams = {
        "h1": (ports["both"], named),
        "h2": (ports["both"], f'{named}\nalpn = "h2"'),
        "either": (ports["both"], f'{named}\nalpn = "h2h1"'),
        "only-h1": (ports["h1"], f'{named}\nalpn = "h2h1"'),
        "not-h2": (ports["h1"], f'{named}\nalpn = "h2"'),
        "afresh": (ports["both"], f'{named}\nidle_timeout = "0s"'),
        "afresh-h2": (ports["both"], f'{named}\nidle_timeout = "0s"\nalpn = "h2"'),
        "afresh-tls12": (ports["tls12"], f'{named}\nidle_timeout = "0s"'),
        "hasty": (ports["hasty"], named),
        "host": (ports["both"], 'sni = "$host"\nalpn = "h2"'),
        "host-h1": (ports["both"], 'sni = "$host"'),
        "wrong-name": (ports["both"], 'sni = "other.test"'),
        "wrong-name-h2": (ports["both"], 'sni = "other.test"\nalpn = "h2"'),
        "expired": (ports["expired"], named),
        "unknown": (ports["unknown"], named),
        "unverified": (ports["unknown"], 'sni = "other.test"\nverify_cert = false'),
        "plain": (ports["plain"], named),
        "mute": (mute, f'{named}\nconnection_timeout = "500ms"'),
        "mute-in-all": (mute, f'{named}\ntotal_connection_timeout = "500ms"'),
        "origin": (h1_origin.port, named),
        "no-alpn": (h1_origin.port, f'{named}\nalpn = "h2"'),
        "origin-h2": (h2_origin.port, f'{named}\nalpn = "h2"'),
    }
    locations = "".join(f'[locations.{name}]\npath = "/{name}/"\nrewrite = "^/{name}(.*)$ $1"\nupstream = "{name}"\n' for name in upstreams)
    sections = "".join(
        f'[upstreams.{name}]\naddrs = ["127.0.0.1:{port}"]\nhealth_check = "tcp://x?failure=1000"\n{more}\n'
        for name, (port, more) in upstreams.items()
    )
    names = ", ".join(f'"{name}"' for name in upstreams)
    config = f"""[servers.plain]
addr = "127.0.0.1:{{port}}"
locations = [{names}]
access_log = "{{dir}}/access.log {{path}},{{:upstream_tcp_connect_time}},{{:upstream_tls_handshake_time}}"
{locations}{sections}"""
    with Pingap(config, request.param, env={"SSL_CERT_FILE": str(certificates.trusted)}) as instance:
        yield Proxy(instance)


# -- what is agreed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "protocol"), [("h1", "HTTP/1.1"), ("h2", "HTTP/2.0"), ("either", "HTTP/2.0"), ("only-h1", "HTTP/1.1")]
)
def test_alpn_decides_the_protocol(proxy: Proxy, upstream: str, protocol: str) -> None:
    answers = [proxy.said(f"/{upstream}/") for _ in range(3)]
    assert {(name, version, spoken) for _, name, version, spoken, _ in answers} == {("backend.test", "TLSv1.3", protocol)}
    assert len({connection for *_, connection in answers}) == 1, "the connection is kept"


def test_a_backend_that_does_not_agree_to_h2_is_not_asked(proxy: Proxy, h1_origin: TlsOrigin) -> None:
    assert proxy.get("/not-h2/").status == 502
    proxy.instance.wait_output("upstream=not-h2 .*failure=connect .*no application protocol")
    assert proxy.get("/no-alpn/asked").status == 502
    proxy.instance.wait_output("upstream=no-alpn .*failure=connect .*does not agree to HTTP/2 by ALPN, but to nothing")
    assert h1_origin.seen("/asked") == []


def test_many_at_once_where_alpn_falls_back_to_http1(proxy: Proxy) -> None:
    clients = [proxy.client() for _ in range(10)]
    for client in clients:
        client.request("/only-h1/")
    assert [client.response().status for client in clients] == [200] * 10
    for client in clients:
        client.close()


@pytest.mark.parametrize("upstream", ["afresh", "afresh-h2", "afresh-tls12"])
def test_a_new_connection_goes_on_with_the_session_of_the_one_before(proxy: Proxy, upstream: str) -> None:
    answers = [proxy.said(f"/{upstream}/") for _ in range(4)]
    assert [reused for reused, *_ in answers] == [".", "r", "r", "r"]
    assert len({connection for *_, connection in answers}) == 4


@pytest.mark.parametrize("upstream", ["host", "host-h1"])
def test_with_host_the_name_is_that_of_the_request_and_connections_keep_to_it(proxy: Proxy, upstream: str) -> None:
    hosts = ["one.test", "two.test:8443", "one.test", "TWO.test", "one.test:1"]
    answers = [proxy.said(f"/{upstream}/", host) for host in hosts]
    assert [name for _, name, *_ in answers] == ["one.test", "two.test", "one.test", "two.test", "one.test"]
    connections = [connection for *_, connection in answers]
    assert connections[0] == connections[2] == connections[4] != connections[1] == connections[3]
    assert proxy.get(f"/{upstream}/", "three.test").status == 502, "the certificate is not for that name"
    assert proxy.get(f"/{upstream}/", "127.0.0.1").status == 502, "nor for that address"
    proxy.instance.wait_output("IP address mismatch")


def test_the_log_tells_tcp_and_tls_apart_where_a_connection_was_opened(proxy: Proxy) -> None:
    proxy.get("/afresh/opened")
    proxy.get("/h1/")
    proxy.get("/h1/kept")
    log = proxy.instance.dir / "access.log"

    def lines() -> dict[str, list[str]] | None:
        rows = [line.split(",") for line in log.read_text().splitlines()] if log.exists() else []
        found = {row[0]: row[1:] for row in rows}
        return found if "/afresh/opened" in found and "/h1/kept" in found else None

    found = until(lines, 10, "the requests are in the log")
    assert all(time.isdigit() for time in found["/afresh/opened"]), found
    assert found["/h1/kept"] == ["", ""]


# -- who is not trusted -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "reason"),
    [
        ("wrong-name", "TLS handshake as .*: its certificate is not accepted: Hostname mismatch"),
        ("wrong-name-h2", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("unknown", "self-signed certificate"),
        ("plain", "TLS handshake as backend.test: it does not answer in TLS"),
    ],
)
def test_a_backend_that_cannot_prove_who_it_is_gets_no_request(proxy: Proxy, upstream: str, reason: str) -> None:
    answer = proxy.get(f"/{upstream}/")
    assert (answer.status, b"connect_failed" in answer.body) == (502, True)
    proxy.instance.wait_output(f"upstream={upstream} .*failure=connect .*{reason}")


def test_without_verification_anybody_will_do(proxy: Proxy) -> None:
    assert proxy.said("/unverified/")[1] == "other.test"


@pytest.mark.parametrize("upstream", ["mute", "mute-in-all"])
def test_a_handshake_has_an_end(proxy: Proxy, upstream: str) -> None:
    assert proxy.get(f"/{upstream}/").status == 504
    proxy.instance.wait_output(f"upstream={upstream} .*failure=connect_timeout")


# -- bodies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", ["h1", "h2"])
def test_a_large_download_is_byte_exact(proxy: Proxy, big_file: bytes, upstream: str) -> None:
    assert proxy.get(f"/{upstream}/file").body == big_file


def test_a_large_upload_is_byte_exact_over_http1(proxy: Proxy, h1_origin: TlsOrigin) -> None:
    body = random.Random(6).randbytes(24 * MB)
    assert proxy.get("/origin/upload", method="POST", body=body).status == 200
    assert h1_origin.wait("/upload").body == body


def test_a_large_upload_is_byte_exact_over_http2(proxy: Proxy) -> None:
    body = random.Random(6).randbytes(24 * MB)
    answer = proxy.get("/origin-h2/upload", method="POST", body=body)
    assert answer.body.decode() == f"{hashlib.sha256(body).hexdigest()} {len(body)}"


def test_a_body_that_ends_with_the_connection_is_complete_only_when_tls_says_so(proxy: Proxy, h1_origin: TlsOrigin) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart of it")
        if exchange.path == "/whole":
            assert isinstance(exchange.sock, ssl.SSLSocket)
            with contextlib.suppress(OSError):
                exchange.sock.unwrap()
        exchange.close()

    h1_origin.on["/whole"] = h1_origin.on["/cut"] = answer
    assert proxy.get("/origin/whole").body == b"part of it"
    with pytest.raises(Closed):
        proxy.get("/origin/cut")


def test_a_connection_that_the_backend_has_closed_is_not_used_for_a_post(proxy: Proxy) -> None:
    before = proxy.said("/hasty/")
    end = threading.Event()
    end.wait(1.3)  # nginx closes after a second, with a close_notify
    answer = proxy.get("/hasty/", method="POST", body=b"order")
    assert (answer.status, answer.body.decode().split(" ")[4] != before[4]) == (200, True)
