"""A browser as the client: pages over HTTP/2, WebSocket over HTTP/1.1 and HTTP/2, events.

Chromium is driven with chromedriver's HTTP interface (W3C WebDriver); scripts run in pages that came through pingap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.certificate import section
from tests.e2e.chromium import Browser, chromium
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.e2e.test_flow import MB
from tests.e2e.test_websocket import BIG
from tests.e2e.ws_origin import WsOrigin
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.alone

RESOURCES = 80


class Web:
    """One instance, the same site in three ways: plain, TLS with HTTP/1.1, TLS with HTTP/2."""

    def __init__(self, pages: Origin, ws: WsOrigin) -> None:
        self.pages, self.ws = pages, ws
        self.http1, self.http2 = free_port(), free_port()
        self.visited = ""

    pingap: Pingap

    def config(self) -> str:
        names = '["all", "ws"]'
        log = 'access_log = "{dir}/access.log {method} {path} {proto} {status} {size} {payload_size}"'
        more = f"""
[locations.ws]
upstream = "ws"
path = "/ws"
[upstreams.ws]
addrs = ["127.0.0.1:{self.ws.port}"]
[servers.http1]
addr = "127.0.0.1:{self.http1}"
global_certificates = true
locations = {names}
{log}
[servers.http2]
addr = "127.0.0.1:{self.http2}"
global_certificates = true
enabled_h2 = true
locations = {names}
{log}
{section("a", "a.example")}
"""
        return site([self.pages.port], more=more, locations=names, server=log)

    def url(self, way: str) -> str:
        return {
            "http": f"http://127.0.0.1:{self.pingap.port}",
            "h1": f"https://127.0.0.1:{self.http1}",
            "h2": f"https://127.0.0.1:{self.http2}",
        }[way]

    def logged(self, line: str) -> None:
        log = self.pingap.dir / "access.log"
        until(lambda: line in log.read_text().splitlines(), 5, f"the log has {line!r}")


def serve_pages(origin: Origin) -> None:
    def page(exchange: Exchange) -> None:
        exchange.reply(b"<!doctype html><title>page</title>", headers="Content-Type: text/html\r\nCache-Control: no-store\r\n")

    def digest(exchange: Exchange) -> None:
        exchange.reply(hashlib.sha256(exchange.read_body()).hexdigest().encode())

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(5):
            exchange.send(b"data: %d\n\n" % number)
        exchange.is_gone(20)
        exchange.close()

    origin.on |= {
        "/page": page,
        "/big": lambda exchange: exchange.reply(BIG, headers="Cache-Control: no-store\r\n"),
        "/digest": digest,
        "/events": events,
        "/missing": lambda exchange: exchange.reply(b"not here", "404 Not Found"),
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture(scope="module")
def web(placement: str, browser: Browser, shared_origin: Origin) -> Iterator[Web]:
    serve_pages(shared_origin)
    ws = WsOrigin()
    made = Web(shared_origin, ws)
    try:
        with Pingap(made.config(), placement) as made.pingap:
            yield made
            browser.visit("about:blank")  # closes what is still open
    finally:
        ws.stop()


@pytest.fixture(params=["http", "h1", "h2"])
def way(request: pytest.FixtureRequest, web: Web, browser: Browser) -> str:
    """How the page that is open came."""
    name: str = request.param
    browser.visit(web.url(name) + "/page")
    return name


def test_what_was_asked_for_concurrently_comes_whole_over_the_protocol_agreed_on(web: Web, browser: Browser, way: str) -> None:
    bodies, protocols = browser.run(
        """
        performance.setResourceTimingBufferSize(1000);
        const paths = [...Array(args[0]).keys()].map(n => '/res/' + n);
        const bodies = await Promise.all(paths.map(p => fetch(p, {cache: 'no-store'}).then(r => r.text())));
        const seen = performance.getEntriesByType('resource').filter(e => e.name.includes('/res/'));
        return [bodies, seen.concat(performance.getEntriesByType('navigation')).map(e => e.nextHopProtocol)];
        """,
        RESOURCES,
    )
    assert bodies == [f"/res/{number}" for number in range(RESOURCES)]
    assert set(protocols) == {"h2" if way == "h2" else "http/1.1"} and len(protocols) == RESOURCES + 1
    web.logged(f"GET /res/7 {'HTTP/2.0' if way == 'h2' else 'HTTP/1.1'} 200 6 0")


def test_large_bodies_pass_both_ways_beside_small_ones(browser: Browser, way: str) -> None:
    digests, uploaded, small, missing = browser.run(
        """
        const hex = async buffer => [...new Uint8Array(await crypto.subtle.digest('SHA-256', buffer))]
            .map(b => b.toString(16).padStart(2, '0')).join('');
        const upload = new Uint8Array(args[0]).fill(97);
        const big = [1, 2, 3].map(() => fetch('/big', {cache: 'no-store'}).then(r => r.arrayBuffer()));
        const sent = fetch('/digest', {method: 'POST', body: upload}).then(r => r.text());
        const small = await Promise.all([...Array(20).keys()].map(n => fetch('/s/' + n).then(r => r.text())));
        const missing = await fetch('/missing').then(async r => [r.status, await r.text()]);
        const buffers = await Promise.all(big);
        return [crypto.subtle ? await Promise.all(buffers.map(hex)) : buffers.map(b => b.byteLength), await sent, small, missing];
        """,
        3 * MB,
    )
    # 127.0.0.1 is taken for a secure context even over plain HTTP, so that there is always a digest.
    assert digests == [hashlib.sha256(BIG).hexdigest()] * 3
    assert uploaded == hashlib.sha256(b"a" * 3 * MB).hexdigest()
    assert small == [f"/s/{number}" for number in range(20)]
    assert missing == [404, "not here"]


def test_a_websocket_carries_messages_and_its_close(web: Web, browser: Browser, way: str) -> None:
    path = f"/ws/{way}"
    texts, sizes, same, closed = browser.run(
        """
        const ws = new WebSocket(location.origin.replace('http', 'ws') + args[0]);
        ws.binaryType = 'arraybuffer';
        const got = []; let wake;
        ws.onmessage = e => { got.push(e.data); wake && wake(); };
        await new Promise((ok, no) => { ws.onopen = ok; ws.onerror = () => no('no WebSocket'); });
        const until = async n => { while (got.length < n) await new Promise(r => { wake = r; }); };
        const bytes = new Uint8Array(args[1]).map((_, n) => (n * 7) & 255);
        ws.send('hello'); ws.send('grüße 🙂'); ws.send(''); ws.send(bytes); ws.send('x'.repeat(200000));
        await until(5);
        const back = new Uint8Array(got[3]);
        const same = back.length === bytes.length && back.every((b, n) => b === bytes[n]);
        const closed = new Promise(r => { ws.onclose = e => r([e.code, e.reason, e.wasClean]); });
        ws.close(4321, 'bye');
        return [got.slice(0, 3), got[4].length, same, await closed];
        """,
        path,
        2 * MB,
    )
    assert (texts, sizes, same) == (["hello", "grüße 🙂", ""], 200_000, True)
    assert closed == [4321, "bye", True]
    assert web.ws.wait_closed(path) == (4321, "bye")
    assert web.ws.extensions[path] == 1, "permessage-deflate is agreed on end to end"
    log = web.pingap.dir / "access.log"
    line = until(lambda: next((one for one in log.read_text().splitlines() if f" {path} " in one), ""), 5, "the tunnel is logged")
    # On the page's connection, with extended CONNECT (RFC 8441): it is logged as the upgrade that it stands for.
    assert line.startswith(f"GET {path} {'HTTP/2.0' if way == 'h2' else 'HTTP/1.1'} 101 "), line


def test_a_websocket_that_the_backend_closes_or_refuses(browser: Browser, way: str) -> None:
    closed, refused = browser.run(
        """
        const end = path => new Promise(r => {
            const ws = new WebSocket(location.origin.replace('http', 'ws') + path);
            ws.onclose = e => r([e.code, e.reason, e.wasClean]);
        });
        return [await end('/ws/closes-4002'), await end('/ws/403')];
        """
    )
    assert closed == [4002, "as asked", True]
    assert refused == [1006, "", False]


def test_many_websockets_beside_requests(browser: Browser, way: str) -> None:
    echoed, fetched = browser.run(
        """
        const one = n => new Promise((ok, no) => {
            const ws = new WebSocket(location.origin.replace('http', 'ws') + '/ws/many');
            ws.onopen = () => ws.send('socket ' + n);
            ws.onerror = () => no('socket ' + n);
            ws.onmessage = e => { ok(e.data); ws.close(); };
        });
        const sockets = Promise.all([...Array(6).keys()].map(one));
        const fetched = await Promise.all([...Array(20).keys()].map(n => fetch('/f/' + n).then(r => r.text())));
        return [await sockets, fetched];
        """
    )
    assert echoed == [f"socket {number}" for number in range(6)]
    assert fetched == [f"/f/{number}" for number in range(20)]


def test_events_come_as_they_are_sent(browser: Browser, way: str, shared_origin: Origin) -> None:
    got = browser.run(
        """
        const source = new EventSource('/events'), got = [];
        await new Promise((ok, no) => { source.onmessage = e => got.push(e.data) === 5 && ok(); source.onerror = () => no('no events'); });
        source.close();
        return got;
        """
    )
    assert got == ["0", "1", "2", "3", "4"]
