"""csrf with a browser: pages of the site itself and of another one, which are what it tells apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.stages.plugins.builtin import csrf
from tests.e2e.chromium import Browser, chromium
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin

pytestmark = pytest.mark.alone

PLUGIN = """
[plugins.csrf]
category = "csrf"
token_path = "/csrf-token"
key = "long enough to be no guess"
session_cookie = "sid"
check_origin = true
"""
PAGE = "Content-Type: text/html\r\nSet-Cookie: sid=ada; Path=/\r\n"
MANUAL = (csrf.__doc__ or "").partition("```js\n")[2].partition("```")[0]


def serve(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(b"<title>page</title>", headers=PAGE if exchange.method == "GET" else "")


@pytest.fixture
def pages() -> Iterator[Origin]:
    server = Origin(serve)
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path) as made:
        yield made


POST = "const answer = await fetch(args[0], { method: 'POST', credentials: 'include', mode: args[1], headers: args[2], body: 'x' });"
SOCKET = "return await new Promise(ended => { const one = new WebSocket(args[0]); one.onopen = one.onerror = () => ended('over') });"


def test_a_browser_is_let_pass_from_the_site_itself_alone(pages: Origin, browser: Browser) -> None:
    with Pingap(site([pages.port], location='plugins = ["csrf"]', more=PLUGIN), "colocated") as proxy:
        here, there = f"127.0.0.1:{proxy.port}", f"localhost:{proxy.port}"
        browser.visit(f"http://{here}/page")
        assert browser.run(f"const body = 'x'; {MANUAL} return answer.status;") == 200
        [order] = pages.seen("/orders")
        assert order.body == b"x" and "sid=ada" in (order.get("cookie") or "")
        token = order.get("x-csrf-token")
        assert browser.run(f"{POST} return answer.status;", "/orders", "same-origin", {}) == 401
        assert browser.run(f"{POST} return answer.status;", "/orders", "same-origin", {"x-csrf-token": f"{token}x"}) == 401
        assert (
            browser.run(
                "document.cookie = 'sid=bob; path=/'; " + POST + " return answer.status;", "/orders", "same-origin", {"x-csrf-token": token}
            )
            == 401
        )
        browser.run(SOCKET, f"ws://{here}/socket")
        assert len(pages.seen("/socket")) == 1

        browser.visit(f"http://{there}/page")
        assert browser.run(f"{POST} return answer.type;", f"http://{here}/orders", "no-cors", {}) == "opaque"
        assert "failed" in browser.run(f"{POST} return answer.status;", f"http://{here}/orders", "cors", {"x-csrf-token": token})
        browser.run(SOCKET, f"ws://{here}/socket")
        assert [one.method for one in pages.seen("/orders")] == ["POST", "OPTIONS"], (
            "nothing of that has reached the backend but a preflight"
        )
        assert len(pages.seen("/socket")) == 1
