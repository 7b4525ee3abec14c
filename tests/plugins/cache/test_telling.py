"""What a client, a log and the counts are told of a request: X-Cache-Status, X-Cache-Lock, Cache-Status (RFC 9211), context, requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.caching import words
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins.cache.explain import OUTCOMES
from tests.plugins.cache.site import FRESH, Site, line, status_of

STALE = 'cache-control: max-age=10, stale-if-error=1000\nage: 100\netag: "v1"'
TRUSTED = {"client_ip": "10.0.0.1"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Site(tmp_path, control_ip_list=["10.0.0.0/8"]) as site:
        yield site


def said(answer: Any) -> str:
    [found] = line(answer, "cache-status")
    return found


def counted(site: Site) -> dict[str, int]:
    [parts] = site.stage.actor._caches.all()
    return dict(+parts.requests)


def logged(answer: Any) -> Any:
    return answer.report.context.get("cache_status")


async def test_who_waited_for_another_and_then_went_by_itself_was_not_collapsed(site: Site) -> None:
    first = await site.ask()
    assert await site.ask() is None
    out = await site.origin(first, "", b"broken", status=503)
    [second] = [one for one in out if isinstance(one, Routed)]
    answer = await site.answer(second)
    assert "collapsed" not in said(answer)
    assert said(answer).endswith("; stored")
    assert len(line(answer, "x-cache-lock")) == 1, "that it has waited is told, whatever came of it"
    [page] = [one for one in out if isinstance(one, Response)]
    assert line(page, "x-cache-lock") == []


async def test_whose_answer_another_has_brought_was_collapsed(site: Site) -> None:
    first = await site.ask()
    assert await site.ask() is None
    out = await site.origin(first)
    async with asyncio.timeout(20):
        while len(answers := [one for one in out if isinstance(one, Response)]) < 2:
            await asyncio.sleep(0.001)
            out += site.stage.out()
    own, others = sorted(answers, key=lambda one: one.sid)
    assert (said(own).partition(" ttl")[0], status_of(own)) == ("pingap; fwd=uri-miss;", "miss")
    assert (said(others).rpartition("; ")[2], status_of(others)) == ("collapsed", "hit")
    assert said(await site.ask()).startswith("pingap; hit")


async def test_what_a_request_wants_is_another_reason_than_age(site: Site) -> None:
    await site.stored()
    answer = await site.answer(await site.ask(headers="cache-control: no-cache", **TRUSTED))
    assert said(answer).startswith("pingap; fwd=request; ")
    await site.stored("/old", STALE)
    answer = await site.answer(await site.ask("/old", headers="cache-control: no-cache", **TRUSTED))
    assert said(answer).startswith("pingap; fwd=stale; "), "it could not have been used without the directive either"


async def test_what_is_used_since_the_backend_failed_was_no_hit(site: Site) -> None:
    await site.stored(headers=STALE)
    answer = await site.answer(await site.ask(), "", b"broken", status=503)
    assert status_of(answer) == "stale"
    assert said(answer).startswith("pingap; fwd=stale; fwd-status=503; ttl=-")


async def test_a_304_is_told_with_the_status_that_the_backend_gave(site: Site) -> None:
    await site.stored(headers=STALE)
    answer = await site.answer(await site.ask(), FRESH, b"", status=304)
    assert (status_of(answer), said(answer)[:35]) == ("revalidated", "pingap; fwd=stale; fwd-status=304; ")


async def test_a_fetch_that_fails_is_logged_and_counted(site: Site) -> None:
    answer = await site.answer(await site.ask(), "", b"broken", status=502, error="connect_failed")
    assert (answer.status, logged(answer), counted(site)) == (502, "failed", {"failed": 1})


async def test_what_is_wanted_from_the_cache_only_and_is_not_there_is_logged_and_counted(site: Site) -> None:
    answer = await site.ask(headers="cache-control: only-if-cached", **TRUSTED)
    assert (answer.status, status_of(answer), logged(answer)) == (504, "unavailable", "unavailable")
    assert counted(site) == {"unavailable": 1}


async def test_head_is_a_miss_where_get_would_be(site: Site) -> None:
    answer = await site.answer(await site.ask(method=b"HEAD"), FRESH, b"")
    assert (status_of(answer), said(answer)) == ("miss", 'pingap; fwd=uri-miss; detail="method"')
    answer = await site.answer(await site.ask(method=b"HEAD"), "cache-control: private", b"")
    assert (status_of(answer), logged(answer)) == ("uncacheable", "uncacheable")
    assert counted(site) == {"miss": 1, "uncacheable": 1}


async def test_a_refresh_in_the_background_is_no_request_of_a_client(site: Site) -> None:
    await site.stored(headers='cache-control: max-age=10, stale-while-revalidate=1000\nage: 100\netag: "v1"')
    out = await site.stage.run(site.stage.request("/a", sid=site.next()))
    [behind] = [one for one in out if isinstance(one, Routed)]
    await site.origin(behind, "cache-control: private", b"other")
    assert counted(site) == {"miss": 1, "stale-updating": 1}


async def test_what_is_let_by_is_told_as_explain_says_it(tmp_path: Path) -> None:
    async with Site(tmp_path, skip="^/own", bypass_cookies=["sid"], control_ip_list=["10.0.0.0/8"]) as site:
        for more in ({"target": "/own"}, {"headers": "cookie: sid=1"}, {"headers": "cache-control: no-store", **TRUSTED}):
            answer = await site.answer(await site.ask(**more))
            assert (status_of(answer), said(answer), logged(answer)) == ("bypass", "pingap; fwd=bypass", "bypass")
        answer = await site.answer(await site.ask(method=b"POST"))
        assert (status_of(answer), said(answer), logged(answer)) == ("bypass", "pingap; fwd=method", "bypass")
        assert counted(site) == {"bypass": 4}


def test_every_word_is_in_one_group() -> None:
    assert sorted(word for group in words.GROUPS.values() for word in group) == sorted(words.MEANINGS)
    assert set(OUTCOMES.values()) <= set(words.MEANINGS)
