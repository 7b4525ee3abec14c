"""cors with a browser, for it is the browser that keeps the rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import Browser, chromium
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin

pytestmark = pytest.mark.alone

PLUGINS = """
[plugins.page]
category = "mock"
path = "/page"
headers = ["Content-Type: text/html"]
data = "<title>page</title>"

[plugins.login]
category = "key_auth"
header = "X-Key"
keys = ["open sesame"]

[plugins.cors]
category = "cors"
allow_origin = "http://localhost:*"
allow_methods = "GET, PUT"
allow_headers = "X-Key"
expose_headers = "X-Seen"
allow_credentials = true
"""
KEY = {"X-Key": "open sesame"}
ASK = "const answer = await fetch(args[0], { method: args[1], credentials: 'include', headers: args[2] });"
READ = f"{ASK} return [answer.status, await answer.text(), answer.headers.get('x-seen'), answer.headers.get('x-hidden')];"


def serve(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(f"{exchange.method} it is".encode(), headers="X-Seen: 7\r\nX-Hidden: 8\r\nAccess-Control-Allow-Origin: *\r\n")


@pytest.fixture
def backend() -> Iterator[Origin]:
    server = Origin(serve)
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path) as made:
        yield made


@pytest.mark.parametrize("placement", ["colocated", "split"])
def test_a_browser_lets_the_pages_read_that_may(placement: str, backend: Origin, browser: Browser) -> None:
    with Pingap(site([backend.port], location='plugins = ["page", "login", "cors"]', more=PLUGINS), placement) as proxy:
        api, pages = f"http://127.0.0.1:{proxy.port}/api", f"http://localhost:{proxy.port}/page"
        browser.visit(pages)
        assert browser.run(READ, api, "PUT", KEY) == [200, "PUT it is", "7", None]
        assert browser.run(READ, api, "GET", {})[:2] == [401, "Key missing"], "what a plugin answers can be read"
        assert "failed" in browser.run(READ, api, "DELETE", KEY), "a method that is not allowed"
        assert "failed" in browser.run(READ, api, "GET", {**KEY, "X-Other": "1"}), "nor is that header"
        assert [one.method for one in backend.seen("/api")] == ["PUT"], "preflights are answered before"

        browser.visit(f"http://127.0.0.1:{proxy.port}/page")
        there = f"http://localhost:{proxy.port}/api"
        assert "failed" in browser.run(READ, there, "PUT", KEY), "an origin that is not allowed"
        assert "failed" in browser.run(READ, there, "GET", {})
        assert [one.method for one in backend.seen("/api")] == ["PUT"]

        backend.stop()
        browser.visit(pages)
        assert browser.run(READ, api, "PUT", KEY)[0] == 502, "an error page can be read"
