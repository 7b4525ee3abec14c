"""What requests say in Cache-Control, on the way through the cache: it counts from control_ip_list, and says nothing from others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Response, Routed
from tests.plugins.script import Stage, lines

ANSWER = 'cache-control: max-age=60\netag: "v1"'
TRUSTED, OTHER = "10.0.0.1", "192.0.2.1"


class Shop:
    """A stage with a cache, of which one page is stored."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._sid = 1000

    async def ask(self, control: str, ip: str = TRUSTED, target: str = "/a") -> Any:
        """A Routed for upstream, or a Response for the client."""
        self._sid += 1
        request = self._stage.request(target, control and f"cache-control: {control}", sid=self._sid, client_ip=ip)
        [found] = [one for one in await self._stage.run(request) if isinstance(one, Routed | Response)]
        return found

    async def answer(self, asked: Any, headers: str = ANSWER, body: bytes = b"one", **more: Any) -> Response:
        """The backend's, as the client gets it. What is stored of it, is."""
        assert isinstance(asked, Routed)
        out = await self._stage.run(self._stage.response(headers, body, sid=asked.sid, **more))
        [answer] = [one for one in out if isinstance(one, Response)]
        for parts in self._stage.actor._caches.all():
            await parts.store.drop(b"nothing", 1)
        return answer


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    section = {"category": "cache", "directory": str(tmp_path / "store"), "control_ip_list": ["10.0.0.0/8"]}
    async with Stage({"c": section}) as stage:
        shop = Shop(stage)
        await shop.answer(await shop.ask(""))
        yield shop


def status_of(answer: Any) -> str:
    assert isinstance(answer, Response), answer
    return next(line.partition(": ")[2] for line in lines(answer.headers) if line.startswith("x-cache-status: "))


@pytest.mark.parametrize("control", ["", "no-cache", "no-store", "max-age=0", "only-if-cached", "min-fresh=1000"])
async def test_of_others_it_says_nothing(shop: Shop, control: str) -> None:
    assert status_of(await shop.ask(control, OTHER)) == "hit"


async def test_no_cache_has_the_backend_asked(shop: Shop) -> None:
    asked = await shop.ask("no-cache")
    assert 'if-none-match: "v1"' in lines(asked.headers)
    answer = await shop.answer(asked, 'etag: "v1"', b"", status=304)
    assert (status_of(answer), answer.body) == ("revalidated", b"one")


async def test_no_store_neither_uses_nor_keeps_anything(shop: Shop) -> None:
    asked = await shop.ask("no-store")
    assert not any(line.startswith("if-none-match") for line in lines(asked.headers))
    await shop.answer(asked, body=b"mine")
    assert (await shop.ask("")).body == b"one"
    await shop.answer(await shop.ask("no-store", target="/b"), body=b"mine")
    assert isinstance(await shop.ask("only-if-cached", target="/b"), Response), "504: there is nothing"


async def test_only_if_cached(shop: Shop) -> None:
    assert status_of(await shop.ask("only-if-cached")) == "hit"
    assert (await shop.ask("only-if-cached", target="/c")).status == 504
    assert (await shop.ask("only-if-cached, no-store")).status == 504
    assert (await shop.ask("only-if-cached, no-cache")).status == 504


async def test_flags_that_do_not_matter_yet_cost_nothing(shop: Shop) -> None:
    """must-revalidate is about what is stale."""
    await shop.answer(await shop.ask("", target="/d"), "cache-control: s-maxage=60, must-revalidate")
    assert status_of(await shop.ask("", OTHER, "/d")) == "hit"
