"""Tests of webhook_log.py: `pingap plugin test examples/plugins/webhook_log.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio


def stage(**keys: Any) -> PluginStage:
    path = str(Path(__file__).with_name("webhook_log.py"))
    section = {"category": "python", "path": path, "url": "upstream://hook/log", "every": "20ms", "batch": 2}
    return PluginStage({"log": section | keys}, upstreams=["hook"])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def lines(proxy: PluginStage) -> list[dict[str, Any]]:
    """All that the webhook has taken."""
    return [line for batch in proxy.backends["hook"].requests for line in batch.json()["requests"]]


async def test_each_request_is_told_in_batches() -> None:
    async with stage(token="t0ken") as proxy:
        proxy.backend.answers(201)
        for number in range(5):
            await proxy.get(f"/{number}?secret")
        await until(lambda: len(lines(proxy)) == 5)
        assert [line["path"] for line in lines(proxy)] == [f"/{number}" for number in range(5)]
        first, batch = lines(proxy)[0], proxy.backends["hook"].requests[0]
        assert (first["method"], first["status"], first["client"]) == ("GET", 201, "192.0.2.7")
        assert (batch.method, batch.path, batch.headers["authorization"]) == ("POST", "/log", "Bearer t0ken")
        assert max(len(one.json()["requests"]) for one in proxy.backends["hook"].requests) <= 2


async def test_what_waits_is_sent_when_the_webhook_is_back_and_what_had_to_go_is_counted() -> None:
    async with stage(most=3) as proxy:
        hook = proxy.backends["hook"]
        hook.fails()
        for number in range(5):
            await proxy.get(f"/{number}")
        await until(lambda: any(line.message == "the webhook cannot be reached" for line in proxy.logs))
        hook.requests.clear()
        hook.answers(204)
        await until(lambda: len(lines(proxy)) == 3)
        assert [line["path"] for line in lines(proxy)] == ["/2", "/3", "/4"]
        assert hook.requests[0].json()["dropped"] == 2
        assert proxy.counts["webhook_log_dropped"] == 2
        await proxy.get("/5")
        await until(lambda: len(lines(proxy)) == 4)
        assert hook.requests[-1].json()["dropped"] == 0


async def test_a_batch_that_is_refused_does_not_stop_the_next() -> None:
    async with stage(batch=1) as proxy:
        hook = proxy.backends["hook"]
        hook.answers(400)
        await proxy.get("/bad")
        await until(lambda: bool(hook.requests))
        hook.answers(204)
        await proxy.get("/good")
        await until(lambda: lines(proxy)[-1]["path"] == "/good")
        assert [line["path"] for line in lines(proxy)] == ["/bad", "/good"]


async def test_the_rest_is_sent_at_the_end() -> None:
    async with stage(every="1m", batch=100) as proxy:
        await proxy.get("/last")
        assert lines(proxy) == []
    assert [line["path"] for line in lines(proxy)] == ["/last"]


@pytest.mark.parametrize("keys", [{"batch": 0}, {"batch": 9, "most": 8}, {"every": "0s"}, {"token": "a\nb"}])
async def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PluginRefused, match=next(iter(keys))):
        async with stage(**keys):
            pass
