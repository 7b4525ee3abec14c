"""What plugins ask of their host, and replies of theirs that are long: with real processes, upstreams that die among them."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin, TlsOrigin

EXAMPLE = Path(__file__).parents[2] / "examples" / "forward-auth"


def forward_auth(origin: Origin, service: Origin) -> str:
    text = (EXAMPLE / "pingap.toml").read_text()
    for old, new in {
        "127.0.0.1:6188": "127.0.0.1:{port}",
        "127.0.0.1:5001": f"127.0.0.1:{origin.port}",
        "127.0.0.1:5002": f"127.0.0.1:{service.port}",
        'timeout = "2s"': 'timeout = "20s"',
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def service() -> Iterator[Origin]:
    server = Origin(judge)
    yield server
    server.stop()
    assert not server.errors, server.errors


def judge(exchange: Exchange) -> None:
    name = (exchange.get("authorization") or "").removeprefix("Bearer ")
    if name:
        exchange.reply(b"", "204 No Content", f"X-User: {name}\r\n")
    else:
        exchange.reply(b"Who are you?\n", "401 Unauthorized", "WWW-Authenticate: Bearer\r\n")


def test_forward_authentication(placement: str, origin: Origin, service: Origin) -> None:
    with Pingap(forward_auth(origin, service), placement) as proxy, proxy.client() as client:
        refused = client.get("/x?y=1", headers={"X-User": "admin"})
        assert (refused.status, refused.body, refused.get("www-authenticate")) == (401, b"Who are you?\n", "Bearer")
        assert not origin.requests
        for name in ("ada", "bob", "eve"):
            assert client.get("/x?y=1", headers={"Authorization": f"Bearer {name}", "X-User": "admin"}).status == 200
            assert origin.requests[-1].all("x-user") == [name]
        asked = service.requests[-1]
        assert (asked.method, asked.target, asked.get("x-forwarded-uri")) == ("GET", "/verify", "/x?y=1")
        assert (asked.get("host"), asked.get("x-forwarded-host")) == (f"127.0.0.1:{service.port}", "test.local")
        assert service.connections <= 2, "its connections are kept"


def test_a_service_that_is_down_is_502(placement: str, origin: Origin, service: Origin) -> None:
    config = forward_auth(origin, service)
    service.stop()
    with Pingap(config, placement) as proxy:
        assert proxy.get("/x").status == 502
        proxy.wait_output("connect_failed|no_backend")


def test_an_upstream_that_dies_with_a_fetch_is_an_error_and_no_hang(origin: Origin, service: Origin) -> None:
    """The client gets what the plugin makes of that, or accept has heard of the death before and sends the request once more."""
    go = threading.Event()

    def first(exchange: Exchange) -> None:
        service.on["/verify"] = judge
        go.wait(20)
        exchange.close()

    service.on["/verify"] = first
    with Pingap(forward_auth(origin, service), "split") as proxy, proxy.client() as client:
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ada\r\n\r\n")
        service.wait("/verify")
        old = proxy.pid("upstream")
        os.kill(old, signal.SIGKILL)
        assert client.response().status in (200, 502)
        go.set()
        proxy.wait_restarted("upstream", old)
        assert client.get("/x", headers={"Authorization": "Bearer ada"}).status == 200


LONG = """
from pingap.plugin import Plugin, reply

class Long(Plugin):
    def start(self, host):
        self.host = host
    async def request(self, exchange):
        answer = await self.host.fetch("origin", "POST", "/echo", {}, bytes(3_000_000), limit=4_000_000)
        return reply(200, str(len(answer.body)))
"""


def test_long_bodies_go_there_and_back_with_credit(placement: str, origin: Origin, tmp_path: Path) -> None:
    origin.on["/echo"] = lambda exchange: exchange.reply(exchange.read_body())
    (tmp_path / "long.py").write_text(LONG)
    more = f'[plugins.long]\ncategory = "python"\npath = "{tmp_path / "long.py"}"'
    with Pingap(site([origin.port], location='plugins = ["long"]', more=more), placement) as proxy:
        assert proxy.get("/x").body == b"3000000"


JOBS = """
import math, os
from pingap.plugin import JobFailed, Plugin, reply

class Jobs(Plugin):
    def start(self, host):
        self.host = host
    async def request(self, exchange):
        try:
            if exchange.path == "/die":
                await self.host.in_process(os._exit, 1)
            pid, mine = await self.host.in_process(os.getpid), os.getpid()
            return reply(200, f"{pid != mine} {await self.host.in_process(math.factorial, 10)}")
        except JobFailed as failed:
            return reply(500, str(failed))
"""


def test_jobs_run_in_processes_that_the_spawner_forks(placement: str, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    more = f'[plugins.jobs]\ncategory = "python"\npath = "{tmp_path / "jobs.py"}"'
    with Pingap(site([origin.port], location='plugins = ["jobs"]', more=more), placement) as proxy:
        for _ in range(3):
            assert proxy.get("/x").body == b"True 3628800"
        died = proxy.get("/die")
        assert (died.status, died.body) == (500, b"its process died")
        assert proxy.get("/x").body == b"True 3628800"


FILES = """
from pingap.plugin import FileBody, Plugin, reply

class Files(Plugin):
    def request(self, exchange):
        return reply(200, FileBody("PATH"), [("content-type", "application/octet-stream")])
"""


def test_a_file_is_the_body_of_a_reply(placement: str, origin: Origin, tmp_path: Path, big_file: bytes) -> None:
    (tmp_path / "big").write_bytes(big_file)
    (tmp_path / "files.py").write_text(FILES.replace("PATH", str(tmp_path / "big")))
    more = f'[plugins.files]\ncategory = "python"\npath = "{tmp_path / "files.py"}"'
    with Pingap(site([origin.port], location='plugins = ["files"]', more=more), placement) as proxy:
        answer = proxy.get("/x")
        assert (answer.status, answer.get("content-length")) == (200, str(len(big_file)))
        assert answer.body == big_file
        head = proxy.get("/x", method="HEAD")
        assert (head.get("content-length"), head.body) == (str(len(big_file)), b"")


URLS = """
from pingap.plugin import FetchFailed, Plugin, Settings, Url, reply

class UrlsSettings(Settings):
    plain: Url
    secure: Url
    other: Url

class Urls(Plugin[UrlsSettings]):
    model = UrlsSettings
    def start(self, host):
        self.host = host
    async def request(self, exchange):
        url = getattr(self.settings, exchange.path[1:])
        try:
            answer = await self.host.fetch_url(url, headers={"x-a": "1"})
        except FetchFailed as failed:
            return reply(502, failed.kind)
        return reply(answer.status, answer.body, [("x-location", answer.headers.get("location", ""))])
"""


def test_a_url_anywhere_is_fetched_and_no_redirect_followed(placement: str, origin: Origin, tmp_path: Path) -> None:
    """The other servers are none of this configuration's, and on this very host. One that is not the host of the URL is not believed."""
    certificate, key = self_signed("localhost")
    (tmp_path / "pair.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    plain, secure = Origin(), TlsOrigin(context)
    for server in (plain, secure):
        server.on["/moved"] = lambda exchange: exchange.reply(b"moved", "302 Found", "Location: /elsewhere\r\n")
    (tmp_path / "urls.py").write_text(URLS)
    urls = f"""plain = "http://localhost:{plain.port}/moved?x=1"
        secure = "https://localhost:{secure.port}/moved?x=1"
        other = "https://127.0.0.1:{secure.port}/moved?x=1"
    """
    more = f'[plugins.urls]\ncategory = "python"\npath = "{tmp_path / "urls.py"}"\n{urls}'
    config = site([origin.port], location='plugins = ["urls"]', more=more)
    try:
        with Pingap(config, placement, env={"SSL_CERT_FILE": str(tmp_path / "pair.pem")}) as proxy:
            for name, server in (("plain", plain), ("secure", secure)) * 2:
                answer = proxy.get(f"/{name}")
                assert (answer.status, answer.body, answer.get("x-location")) == (302, b"moved", "/elsewhere")
                assert (server.requests[-1].target, server.requests[-1].get("host")) == ("/moved?x=1", f"localhost:{server.port}")
            assert (plain.connections, secure.connections) == (1, 1), "they are kept"
            failed = proxy.get("/other")
            assert (failed.status, failed.body) == (502, b"connect_failed")
            assert not origin.requests
    finally:
        plain.stop()
        secure.stop()
