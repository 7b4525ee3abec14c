"""What a request changes at the backend is not given out any more (RFC 9111 section 4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Cancel, Response, Routed
from pingap.stages.plugins.cache import machine
from tests.kit.waiting import eventually
from tests.plugins.cache.test_beside_others import mine
from tests.plugins.script import ACCEPT, CONFIG, PLUGINS, ROUTING, UPSTREAM, Stage

FRESH = "cache-control: max-age=60"


class Client:
    """Asks one thing after the other."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.sid = 100

    async def sent(self, *envelopes: Any) -> Any:
        """What goes out next, whoever it is for."""
        out = self.stage.feed(*envelopes)

        def is_there() -> bool:
            out.extend(self.stage.out())
            return bool(out)

        await eventually(is_there, every=0)
        return out[0]

    async def is_hit(self, target: str) -> bool:
        self.sid += 1
        return isinstance(await self.sent(self.stage.request(target, sid=self.sid)), Response)

    async def store(self, target: str) -> None:
        assert not await self.is_hit(target)
        assert (await self.sent(self.stage.response(FRESH, b"before", sid=self.sid))).status == 200
        assert await self.is_hit(target)

    async def change(self, target: str, answer: str = "", status: int = 200, method: bytes = b"POST") -> Response:
        self.sid += 1
        asked = await self.sent(self.stage.request(target, sid=self.sid, method=method))
        assert isinstance(asked, Routed)
        said = await self.sent(self.stage.response(answer, sid=self.sid, status=status))
        assert isinstance(said, Response)
        return said


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Stage({"c": {"category": "cache", "directory": f"{tmp_path}/cache?max_size=10mb"}}) as stage:
        yield Client(stage)


@pytest.mark.parametrize("method", [b"POST", b"M-SEARCH"])
async def test_who_changes_something_reads_what_it_has_changed(client: Client, method: bytes) -> None:
    for target in ("/a", "/b", "/c"):
        await client.store(target)
    assert (await client.change("/a", "location: /b", method=method)).status == 200
    assert [await client.is_hit(target) for target in ("/a", "/b", "/c")] == [False, False, True]


async def test_what_has_failed_or_was_safe_has_changed_nothing(client: Client) -> None:
    await client.store("/a")
    await client.change("/a", status=500)
    await client.change("/a", method=b"OPTIONS")
    assert await client.is_hit("/a")


async def left(client: Client, target: str, method: bytes = b"POST") -> None:
    """It is sent on, and its client leaves before there is an answer."""
    client.sid += 1
    assert isinstance(await client.sent(client.stage.request(target, sid=client.sid, method=method)), Routed)
    await client.stage.run(Cancel(client.sid, "client_closed"))


async def upstream_dies(client: Client, target: str, method: bytes = b"POST") -> None:
    client.sid += 1
    await client.stage.run(client.stage.request(target, sid=client.sid, method=method))
    client.stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
    client.stage.members(ACCEPT, ROUTING, PLUGINS, UPSTREAM, CONFIG)
    client.stage.out()


async def times_out(client: Client, target: str, method: bytes = b"POST", error: str = "gateway_timeout") -> None:
    client.sid += 1
    await client.stage.run(client.stage.request(target, sid=client.sid, method=method))
    answer = await client.stage.one(client.stage.response(sid=client.sid, status=504, error=error))
    assert answer.status == 504


@pytest.mark.parametrize("how", [left, upstream_dies, times_out])
async def test_what_may_have_been_changed_is_asked_for_again(client: Client, how: Any) -> None:
    for target in ("/a", "/b"):
        await client.store(target)
    await how(client, "/a", method=b"OPTIONS")
    assert await client.is_hit("/a"), "it is safe"
    await how(client, "/a")
    (parts,) = client.stage.actor._caches.all()
    await parts.store.drop(b"nothing", 1)
    assert [await client.is_hit(target) for target in ("/a", "/b")] == [False, True]


async def test_what_did_not_reach_a_backend_has_changed_nothing(client: Client) -> None:
    await client.store("/a")
    await times_out(client, "/a", error="connect_failed")
    (parts,) = client.stage.actor._caches.all()
    await parts.store.drop(b"nothing", 1)
    assert await client.is_hit("/a")


async def test_a_plugin_that_answers_in_place_of_the_backend_hides_no_change(tmp_path: Path) -> None:
    code = """
    def upstream_response(self, exchange):
        if exchange.method == "POST": return reply(303, "", [("location", "/done")])
    """
    cache = {"category": "cache", "directory": f"{tmp_path}/cache?max_size=10mb"}
    async with Stage({"c": cache, **mine(tmp_path, code)}) as stage:
        client = Client(stage)
        await client.store("/a")
        assert (await client.change("/a")).status == 303
        (parts,) = stage.actor._caches.all()
        await parts.store.drop(b"nothing", 1)
        assert not await client.is_hit("/a")


@pytest.mark.interpreted
async def test_the_answer_waits_for_the_store_but_not_for_ever(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[asyncio.Future[int]] = []

    def purge_url(key: bytes, soft: bool) -> asyncio.Future[int]:
        orders.append(asyncio.get_running_loop().create_future())
        return orders[-1]

    (parts,) = client.stage.actor._caches.all()
    monkeypatch.setattr(type(parts.store), "purge_url", lambda store, key, soft: purge_url(key, soft))
    changing = asyncio.ensure_future(client.change("/a"))
    await eventually(lambda: orders)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not changing.done()
    orders[0].set_result(1)
    assert (await changing).status == 200
    monkeypatch.setattr(machine, "INVALID_WITHIN", 0.01)
    assert (await client.change("/a")).status == 200
    assert not orders[1].done()
