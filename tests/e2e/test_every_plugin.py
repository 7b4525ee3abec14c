"""Every built-in plugin, with a request that it lets pass and one that it does not: alike in both placements and over both protocols,
for GET, HEAD, an upgrade and a client that leaves, with two replicas of the stage.

What a plugin does in detail is told by its own tests; here it must not matter by which way a request has come.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pingap.stages.plugins.registry import CATEGORIES
from tests.conformance.peer import Peer
from tests.e2e.client import Client
from tests.e2e.harness import Pingap
from tests.e2e.origins import Exchange, Handler, Origin
from tests.http2.wire import headers as head_frame
from tests.kit.waiting import until

BODY = b"all work and no play makes Jack a dull boy. " * 50
NOW = str(int(time.time()))
SECRET = "0123456789abcdef0123456789abcdef"
DIGEST = hashlib.sha256(f"sesame:{NOW}".encode()).hexdigest()


def _token() -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    said = ".".join((part(b'{"alg":"HS256"}'), part(b'{"sub":"ada"}')))
    return f"{said}.{part(hmac.digest(SECRET.encode(), said.encode(), 'sha256'))}"


TOKEN = _token()


@dataclass(frozen=True)
class Case:
    """A plugin in a location of its own, at `/NAME`."""

    section: str
    """Its keys besides the category."""
    target: str = ""
    """Behind the location's path."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of a request that passes, or that it answers itself."""
    status: int = 200
    has: tuple[str, str] = ("content-type", "text/plain")
    """A header of the answer: its name and a regex for its value."""
    is_origins: bool = True
    """The backend gives the answer; else the plugin does."""
    sees: dict[str, str | None] = field(default_factory=dict)
    """Headers that the backend gets then; None for one that it must not get."""
    refused: tuple[str, dict[str, str], int] | None = None
    """Target and headers of a request that is refused, and the status."""


ANN = base64.b64encode(b"ann:pw").decode()
CASES: dict[str, Case] = {
    "accept_encoding": Case('encodings = "br, gzip"', headers={"accept-encoding": "gzip, zstd"}, sees={"accept-encoding": "gzip"}),
    "admin": Case('path = "/admin"', status=501, is_origins=False),
    "basic_auth": Case(
        f'authorizations = ["{ANN}"]\nhide_credentials = true',
        headers={"authorization": f"Basic {ANN}"},
        sees={"authorization": None},
        refused=("", {"authorization": "Basic bm8="}, 401),
    ),
    "cache": Case("cache_status = false"),
    "combined_auth": Case(
        'authorizations = [{ app_id = "app", secret = "sesame", deviation = 3600 }]',
        target=f"?app_id=app&ts={NOW}&digest={DIGEST}",
        refused=(f"?app_id=app&ts={NOW}&digest=0", {}, 401),
    ),
    "compression": Case("gzip_level = 1", headers={"accept-encoding": "gzip"}, has=("content-encoding", "gzip")),
    "cors": Case(
        'allow_origin = "http://page.test"',
        headers={"origin": "http://page.test"},
        has=("access-control-allow-origin", "^http://page.test$"),
    ),
    "csrf": Case(
        'token_path = "/csrf/token"\nkey = "sesame"', target="/token", status=204, has=("set-cookie", "x-csrf-token="), is_origins=False
    ),
    "directory": Case('path = "ROOT"', target="/page.txt", has=("content-type", "text/plain"), is_origins=False),
    "forward_auth": Case(
        'auth_url = "upstream://judge/verify"\nadd_headers = ["X-User"]',
        headers={"authorization": "ada", "x-user": "admin"},
        sees={"x-user": "ada"},
        refused=("", {"x-user": "admin"}, 401),
    ),
    "geo_restriction": Case('type = "allow"\ncountry_codes = ["DE"]\nprivate = "allow"'),
    "image_optim": Case('output_types = "webp"', headers={"accept": "image/webp"}),
    "ip_restriction": Case('ip_list = ["127.0.0.0/8"]'),
    "jwt": Case(
        f'header = "Authorization"\nsecret = "{SECRET}"',
        headers={"authorization": f"Bearer {TOKEN}"},
        refused=("", {"authorization": f"Bearer {TOKEN[:-4]}"}, 401),
    ),
    "key_auth": Case(
        'header = "X-Key"\nkeys = ["sesame"]',
        headers={"x-key": "sesame"},
        refused=("", {"x-key": "open"}, 401),
    ),
    "limit": Case(
        'tag = "header"\nkey = "X-Who"\nmax = 1\ninterval = "1h"\nweight = 100',
        headers={},
        refused=("", {"x-who": "ada"}, 429),
    ),
    "mock": Case('status = 418\ndata = "short and stout"', status=418, is_origins=False),
    "ping": Case('path = "/ping"', has=("cache-control", "no-cache"), is_origins=False),
    "redirect": Case('prefix = "/moved"', status=307, has=("location", "^http://test.local/moved/redirect$"), is_origins=False),
    "referer_restriction": Case(
        'referer_list = ["*.test.local"]',
        headers={"referer": "http://www.test.local/x"},
        refused=("", {"referer": "http://evil.test/"}, 403),
    ),
    "request_id": Case("", has=("x-request-id", "^[0-9a-f-]{36}$")),
    "response_headers": Case('set_headers = ["X-Set: new"]', has=("x-set", "^new$")),
    "stats": Case('path = "/stats"', has=("content-type", "application/json"), is_origins=False),
    "sub_filter": Case("filters = [\"sub_filter 'Jack' 'Jill' g\"]"),
    "traffic_splitting": Case('upstream = "canary"\nweight = 100', has=("x-from", "^canary$")),
    "ua_restriction": Case(
        'ua_list = ["bot"]\ntype = "deny"',
        headers={"user-agent": "human"},
        refused=("", {"user-agent": "bot"}, 403),
    ),
}
LIMITED = "limit"
REFUSING = [name for name, case in CASES.items() if case.refused]


def test_every_category_has_its_case() -> None:
    assert set(CASES) == set(CATEGORIES)


@dataclass
class Got:
    """An answer, by whichever protocol."""

    status: int
    headers: dict[str, str]
    body: bytes


def request_frame(method: str, target: str, headers: dict[str, str]) -> bytes:
    pseudo = ((b":method", method.encode()), (b":scheme", b"http"), (b":authority", b"test.local"), (b":path", target.encode()))
    return head_frame(1, (*pseudo, *((name.encode(), value.encode()) for name, value in headers.items())), ended=True)


def _judge(exchange: Exchange) -> None:
    """A service that is asked who may pass."""
    name = exchange.get("authorization")
    exchange.reply(b"" if name else b"Who are you?\n", "204 No Content" if name else "401 Unauthorized", f"X-User: {name}\r\n")


class Site:
    """The instance, the two backends behind it, and a service that is asked who may pass."""

    def __init__(self, placement: str, root: Path) -> None:
        self.origin, self.canary = (Origin(self._answer(name)) for name in ("origin", "canary"))
        self.judge = Origin(_judge)
        (root / "directory").mkdir()
        (root / "directory/page.txt").write_bytes(BODY)
        self.proxy = Pingap(self._config(root), placement)

    @staticmethod
    def _answer(name: str) -> Handler:
        def answer(exchange: Exchange) -> None:
            if exchange.get("upgrade"):
                exchange.sock.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-From: %b\r\n\r\n" % name.encode()
                )
                while data := exchange.receive():
                    exchange.send(data.upper())
                exchange.close()
                return
            exchange.read_body()
            if exchange.get("x-slow"):
                time.sleep(0.3)  # its client leaves meanwhile
            exchange.reply(BODY, headers=f"Content-Type: text/plain\r\nX-From: {name}\r\n")

        return answer

    def _config(self, root: Path) -> str:
        sections = "".join(f'[plugins.{name}]\ncategory = "{name}"\n{case.section}\n' for name, case in CASES.items())
        locations = "".join(f'[locations.{name}]\nupstream = "origin"\npath = "/{name}"\nplugins = ["{name}"]\n' for name in CASES)
        return f"""[servers.plain]
addr = "127.0.0.1:{{port}}"
enabled_h2 = true
locations = {json.dumps(list(CASES))}
[upstreams.origin]
addrs = ["127.0.0.1:{self.origin.port}"]
[upstreams.canary]
addrs = ["127.0.0.1:{self.canary.port}"]
[upstreams.judge]
addrs = ["127.0.0.1:{self.judge.port}"]
{locations}{sections}""".replace("ROOT", str(root))

    def asks(self, protocol: str, target: str, headers: dict[str, str], method: str = "GET") -> Got:
        if protocol == "http1":
            with self.proxy.client() as client:
                answer = client.get(target, method=method, headers=headers)
                assert client.get("/request_id").status == 200, "the connection goes on"
                return Got(answer.status, {name.lower(): value for name, value in answer.headers}, answer.body)
        with Peer(self.proxy.port) as peer:
            peer.send(request_frame(method, target, headers))
            found = peer.answer(1)
            named = {name.decode(): value.decode() for name, value in found.fields if not name.startswith(b":")}
            return Got(found.status, named, bytes(found.body))

    def reached(self, name: str) -> int:
        """Requests for a plugin's location that have come to a backend."""
        return sum(one.path == f"/{name}" for server in (self.origin, self.canary) for one in server.requests)

    def stop(self) -> None:
        self.origin.stop()
        self.canary.stop()
        self.judge.stop()


@pytest.fixture(scope="module")
def site(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(placement, tmp_path_factory.mktemp("plugins"))
    try:
        with found.proxy:
            if placement == "split":
                assert found.proxy.command("scale", "plugins=2").returncode == 0
            yield found
    finally:
        found.stop()


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", CASES)
def test_what_it_lets_pass_or_answers(site: Site, name: str, protocol: str) -> None:
    case = CASES[name]
    before = site.reached(name)
    got = site.asks(protocol, f"/{name}{case.target}", case.headers)
    assert got.status == case.status
    key, value = case.has
    assert re.search(value, got.headers[key])
    assert (site.reached(name) > before) is case.is_origins
    for header, wanted in case.sees.items():
        seen = next(one for one in reversed(site.origin.requests) if one.path == f"/{name}")
        assert seen.get(header) == wanted
    head = site.asks(protocol, f"/{name}{case.target}", case.headers, "HEAD")
    assert (head.status, head.body) == (case.status, b"")
    assert head.headers.keys() - got.headers.keys() <= {"transfer-encoding"}


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", REFUSING)
def test_what_it_refuses(site: Site, name: str, protocol: str) -> None:
    case = CASES[name]
    assert case.refused is not None
    target, headers, status = case.refused
    if name == LIMITED:
        headers = headers | {"x-who": protocol}
        assert site.asks(protocol, f"/{name}{target}", headers).status == 200
    before = site.reached(name)
    got = site.asks(protocol, f"/{name}{target}", headers)
    assert got.status == status
    assert got.body
    head = site.asks(protocol, f"/{name}{target}", headers, "HEAD")
    assert (head.status, head.body) == (status, b"")
    assert site.reached(name) == before


UPGRADE = "GET {} HTTP/1.1\r\nHost: test.local\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}\r\n"


def upgraded(client: Client, target: str, headers: dict[str, str]) -> int:
    """The status of an upgrade; the tunnel behind it carries bytes both ways."""
    client.send(UPGRADE.format(target, "".join(f"{name}: {value}\r\n" for name, value in headers.items())).encode())
    status = client.head().status
    if status == 101:
        client.send(b"ping")
        assert client.exactly(4) == b"PING"
    return status


@pytest.mark.parametrize("name", CASES)
def test_upgrades_go_the_same_way(site: Site, name: str) -> None:
    case = CASES[name]
    with site.proxy.client() as client:
        assert upgraded(client, f"/{name}{case.target}", case.headers) == (101 if case.is_origins else case.status)
    if case.refused is not None and name != LIMITED:
        target, headers, status = case.refused
        with site.proxy.client() as client:
            assert upgraded(client, f"/{name}{target}", headers) == status


def test_who_leaves_and_tunnels_that_end_leave_nothing_behind(site: Site) -> None:
    """The last test of an instance: what all others did is in it."""
    for name, case in CASES.items():
        headers, target = {**case.headers, "x-slow": "1"}, f"/{name}{case.target}"
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        with socket.create_connection(("127.0.0.1", site.proxy.port)) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: test.local\r\n{lines}\r\n".encode())
        with Peer(site.proxy.port) as peer:
            peer.send(request_frame("GET", target, headers))
    until(lambda: not any(row.in_flight for row in site.proxy.ps()), 10, "nothing is held")
    time.sleep(1.2)  # what `ps` shows may be half a second old
    assert [(row.name, row.in_flight) for row in site.proxy.ps() if row.in_flight] == []
