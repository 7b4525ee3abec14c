"""A cache beside plugins of a user's that change what is stored, reply, wait and fail: nobody waits for what does not come."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Cancel, Data, Response, Routed
from tests.plugins.cache.site import FRESH, Site, line, status_of
from tests.plugins.script import bodies, data

BEHIND = 'cache-control: max-age=10, stale-while-revalidate=1000\nage: 100\netag: "v1"'

LOUD = "def upstream_response(self, exchange): exchange.transform_response(Loud())"

LOUDLY = """
class Loud(Transformer):
    def feed(self, data, ended):
        if b"broken" in data:
            raise RuntimeError("it is broken")
        return data.upper() + b"!" * ended
"""


def mine(tmp_path: Path, hook: str, more: str = "") -> dict[str, Any]:
    """A plugin with this hook. more: what stands beside its class."""
    path = tmp_path / "mine.py"
    inner = textwrap.indent(textwrap.dedent(hook), "    ")
    path.write_text(f"from pingap.plugin import *\nimport asyncio\nclass Mine(Plugin):\n{inner}\n{more}")
    return {"mine": {"category": "python", "path": str(path)}}


async def ended(site: Site, out: list[Any], count: int = 1) -> list[Response]:
    """Until so many clients have been answered; their answers."""
    async with asyncio.timeout(20):
        while len(found := [one for one in out if isinstance(one, Response)]) < count:
            await asyncio.sleep(0.001)
            out += site.stage.out()
    return found


async def test_a_plugin_that_fails_on_the_way_to_the_origin_gives_the_turn_back(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, "def proxy_upstream(self, exchange): raise ValueError('x')")) as site:
        for _ in range(3):
            [answer] = await ended(site, await site.stage.run(site.stage.request("/a", sid=site.next())))
            assert answer.status == 500


async def test_a_client_that_leaves_while_a_plugin_waits_gives_the_turn_to_the_next(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, "async def proxy_upstream(self, exchange): await asyncio.sleep(0.05)")) as site:
        first, second = site.next(), site.next()
        assert await site.ask(sid=first) is None
        assert await site.ask(sid=second) is None
        site.stage.give(Cancel(first, "client_closed", True))
        out: list[Any] = []
        async with asyncio.timeout(20):
            while not (asked := [one for one in out if isinstance(one, Routed)]):
                await asyncio.sleep(0.001)
                out += site.stage.out()
        assert [one.sid for one in asked] == [second]
        await site.answer(asked[0])


async def test_a_refresh_behind_that_a_plugin_fails_is_tried_again_by_the_next(tmp_path: Path) -> None:
    code = """
    def proxy_upstream(self, exchange):
        if exchange.headers.get("if-none-match"):
            raise ValueError("x")
    """
    async with Site(tmp_path, more=mine(tmp_path, code)) as site:
        await site.stored(headers=BEHIND, body=b"old")
        for _ in range(3):
            out = await site.stage.run(site.stage.request("/a", sid=site.next()))
            assert [status_of(one) for one in out if isinstance(one, Response)] == ["stale-updating"]
            assert not [one for one in out if isinstance(one, Routed)]
            await site.settle()
            assert not site.stage.actor._caches.all()[0].refreshing


async def test_what_hooks_of_upstream_response_make_is_stored_and_not_made_again(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, LOUD, LOUDLY)) as site:
        asked = await site.got()
        joins = site.next()
        assert await site.ask(sid=joins) is None
        out = await site.origin(asked, FRESH, b"hel", ended=False)
        out += await site.stage.run(data(b"lo", True, sid=asked.sid))
        async with asyncio.timeout(20):
            while len([one for one in out if isinstance(one, Response | Data) and one.ended]) < 2:  # a late reader gets it in one piece
                await asyncio.sleep(0.001)
                out += site.stage.out()
        for sid in (asked.sid, joins):
            assert bodies([one for one in out if isinstance(one, Response | Data) and one.sid == sid]) == b"HELLO!"
        await site.settle()
        hit = await site.got()
        body, _ = await site.whole(hit.sid, [hit])
        assert (status_of(hit), body) == ("hit", b"HELLO!")


async def test_a_transformer_that_fails_in_mid_body_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, LOUD, LOUDLY)) as site:
        asked = await site.got()
        out = await site.origin(asked, FRESH, b"hel", ended=False)
        out += await site.stage.run(data(b"broken", False, sid=asked.sid))
        body, last = await site.whole(asked.sid, [one for one in out if isinstance(one, Response | Data) and one.sid == asked.sid])
        assert isinstance(last, Data) and last.error
        assert b"HEL".startswith(body)
        await site.settle()
        again = await site.got()
        assert isinstance(again, Routed), "a half body was stored, or its turn was kept"
        await site.answer(again, "cache-control: no-store", b"well")


async def test_a_client_that_has_left_is_not_answered_when_a_plugin_fails(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, "def upstream_response(self, exchange): raise ValueError('x')")) as site:
        asked = await site.got()
        joins = site.next()
        assert await site.ask(sid=joins) is None
        await site.stage.run(Cancel(asked.sid, "client_closed", True))
        out = await site.origin(asked, FRESH, b"hello")
        async with asyncio.timeout(20):
            while not (turn := [one for one in out if isinstance(one, Routed)]):
                await asyncio.sleep(0.001)
                out += site.stage.out()
        assert not [one for one in out if isinstance(one, Response)]
        assert [one.sid for one in turn] == [joins]
        [answer] = await ended(site, await site.origin(turn[0], FRESH, b"hello"))
        assert answer.status == 500


STATEFUL = """
def request(self, exchange):
    exchange.state["who"] = exchange.client_ip
    exchange.cache_key.append("a")

def upstream_response(self, exchange):
    exchange.response.headers["x-who"] = exchange.state["who"] + "".join(exchange.cache_key)
"""


async def test_a_request_behind_has_what_hooks_before_the_cache_have_left_for_later_ones(tmp_path: Path) -> None:
    async with Site(tmp_path, more=mine(tmp_path, STATEFUL)) as site:
        await site.stored(headers=BEHIND, body=b"old")
        [behind] = [one for one in await site.stage.run(site.stage.request("/a", sid=site.next())) if isinstance(one, Routed)]
        assert await site.origin(behind, FRESH, b"new") == []
        await site.settle()
        hit = await site.ask()
        assert (status_of(hit), hit.body, line(hit, "x-who")) == ("hit", b"new", ["192.0.2.7a"])


@pytest.mark.parametrize(("said", "status"), [("", 503), ("cache-control: no-store", 304)])
async def test_what_nobody_gets_is_not_counted_as_an_answer(tmp_path: Path, said: str, status: int) -> None:
    async with Site(tmp_path, stale_if_error="10m") as site:
        await site.stored(headers=BEHIND, body=b"old")
        [behind] = [one for one in await site.stage.run(site.stage.request("/a", sid=site.next())) if isinstance(one, Routed)]
        [parts] = site.stage.actor._caches.all()
        before = dict(parts.requests)
        assert await site.origin(behind, said, b"", status=status) == []
        assert dict(parts.requests) == before
