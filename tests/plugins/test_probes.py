"""A question about one URL: it goes to routing as a request, and whatever comes of it there is the answer; no backend hears of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.answers import report_on
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.messages import Affinity, Cancel, Request, Response
from pingap.stages.plugins import probes
from tests.plugins.script import PLUGINS, ROUTING, UPSTREAM, Sections, Stage, block

DENY = {"guard": {"category": "ip_restriction", "ip_list": ["192.0.2.0/24"], "type": "deny"}}
ASKED = ("s", "https", "192.0.2.1", 443, "10.1.1.1", "GET", "/a?b=1", "A.example", [["X-Color", "blue"]])


def ask(stage: Stage, *args: Any, word: str = "cache-explain") -> None:
    stage.actor.told(word, (7, *(args or ASKED)))


async def sent(stage: Stage) -> list[tuple[int, Any]]:
    for _ in range(12):
        await asyncio.sleep(0)
    return stage.sent()


async def asked(stage: Stage, *args: Any, word: str = "cache-explain") -> Request:
    """The REQUEST that routing gets."""
    ask(stage, *args, word=word)
    ((to, request),) = await sent(stage)
    assert to == ROUTING and isinstance(request, Request)
    return request


async def answer(stage: Stage) -> Any:
    """The value of the one answer."""
    await sent(stage)
    ((word, said),) = stage.context.reported
    assert (word, said["asked"]) == ("answer", 7)
    return said["value"] if said["ok"] else ("refused", said["value"])


def routed(stage: Stage, request: Request, plan: int = REQUEST_PLUGINS, **more: Any) -> Any:
    known: dict[str, Any] = {"peer": request.peer, "client_ip": request.peer.ip, "affinity": request.affinity, "host": request.host}
    return stage.request("/a?b=1", sid=request.sid, plan=plan, **known, **more)


async def test_routing_gets_a_request_as_a_client_would_send_it_whose_ways_all_lead_back() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage)
        assert request.affinity == Affinity(ROUTING, PLUGINS, PLUGINS)
        assert (request.server, request.method, request.target, request.host) == ("s", b"GET", b"/a?b=1", b"a.example")
        assert request.headers == block("x-color: blue\nhost: A.example")
        assert (request.peer.scheme, request.peer.ip, request.peer.local_port) == ("https", "10.1.1.1", 443)
        assert (request.generation, request.ended, request.length) == (stage.generation, True, 0)


async def test_a_location_without_a_cache_says_so_and_its_backend_is_not_asked() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage)
        stage.give(routed(stage, request))
        found = await answer(stage)
        assert (found["outcome"], found["location"], found["upstream"]) == ("uncached", "l", "u")
        assert not any(to == UPSTREAM for to, _ in stage.sent())
        assert stage.actor.held() == 0


async def test_the_plugin_that_answers_before_the_cache_is_named() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage, *ASKED[:4], "192.0.2.7", *ASKED[5:])
        stage.give(routed(stage, request))
        found = await answer(stage)
        assert (found["outcome"], found["plugin"], found["status"]) == ("answered", "guard", 403)


async def test_a_location_without_plugins_comes_back_as_what_upstream_would_get() -> None:
    async with Stage(DENY) as stage:
        stage.give(routed(stage, await asked(stage), plan=0))
        assert (await answer(stage))["rule"] == "the location has no cache"


async def test_what_routing_refuses_is_told_with_its_status() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage)
        report = report_on("10.1.1.1", (1.0, 2.0), "", "", "not_found", "")
        stage.give(Response(request.sid, ROUTING, 404, b"", 0, b"", True, report, ()))
        found = await answer(stage)
        assert (found["outcome"], found["status"], found["rule"]) == ("answered", 404, "routing answers it (not_found)")


async def test_a_purge_asks_no_other_plugin_and_says_when_there_is_no_cache() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage, "url", False, *ASKED[:4], "192.0.2.7", "PURGE", *ASKED[6:], word="cache-purge")
        assert request.method == b"PURGE"
        stage.give(routed(stage, request))
        assert await answer(stage) == ("refused", "nothing is purged: location 'l' takes that URL, and the location has no cache")


async def test_whoever_counts_requests_is_told_of_the_end() -> None:
    async with Stage(DENY) as stage:
        request = await asked(stage)
        stage.give(routed(stage, request))
        ended = [(to, envelope.sid) for to, envelope in await sent(stage) if isinstance(envelope, Cancel)]
        assert ended == [(ROUTING, request.sid), (PLUGINS, request.sid)]


async def test_routing_that_is_silent_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LONGEST", 0.01)
    async with Stage(DENY) as stage:
        request = await asked(stage)
        while not stage.context.reported:
            await asyncio.sleep(0.001)
        kind, reason = await answer(stage)
        assert kind == "refused" and "no answer within" in reason
        stage.give(routed(stage, request))  # late: nobody's any more, and no way for it to a backend
        assert not any(to == UPSTREAM for to, _ in await sent(stage))


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (5, "GE T", "is not a method"),
        (5, "CONNECT", "is not a method"),
        (6, "a b", "is not a request target"),
        (8, [["x y", "z"]], "x y"),
        (8, [["x", "a\r\nb: c"]], "no control characters"),
    ],
)
async def test_what_is_no_request_is_refused(at: int, value: Any, said: str) -> None:
    async with Stage(DENY) as stage:
        ask(stage, *ASKED[:at], value, *ASKED[at + 1 :])
        kind, reason = await answer(stage)
        assert kind == "refused" and said in reason
        assert stage.sent() == []


async def test_bad_arguments_and_words_of_others() -> None:
    async with Stage(DENY) as stage:
        ask(stage, "s")
        assert (await answer(stage))[0] == "refused"
        stage.context.reported.clear()
        ask(stage, word="upstreams")
        assert await sent(stage) == [] and stage.context.reported == []


async def test_without_a_cache_there_is_nothing_to_purge_or_count() -> None:
    async with Stage(DENY) as stage:
        ask(stage, "all", False, None, [], word="cache-purge")
        assert await answer(stage) == ("refused", "nothing is purged: no location has a cache")
        stage.context.reported.clear()
        stage.actor.told("cache-stats", (7,))
        assert await answer(stage) == {"stores": (), "caches": (), "fetching": 0, "waiting": 0}


@pytest.fixture
def cached(tmp_path: Path) -> Sections:
    return DENY | {"pages": {"category": "cache", "directory": f"{tmp_path}?max_size=10mb", "namespace": "n"}}


async def test_a_cache_answers_with_its_own_key_and_lets_nothing_by(cached: Sections) -> None:
    async with Stage(cached) as stage:
        request = await asked(stage)
        stage.give(routed(stage, request))
        found = await answer(stage)
        assert (found["outcome"], found["plugin"], found["key"]) == ("miss", "pages", "n\0https://a.example/a?b=1\0/l")
        assert not any(to == UPSTREAM for to, _ in stage.sent())
        assert stage.actor.held() == 0


async def test_asking_what_a_purge_would_get_purges_nothing(cached: Sections) -> None:
    async with Stage(cached) as stage:
        request = await asked(stage, *ASKED[:5], "PURGE", *ASKED[6:])
        stage.give(routed(stage, request, method=b"PURGE"))
        assert (await answer(stage))["outcome"] == "bypass"


async def test_a_purge_comes_to_the_cache_past_who_keeps_people_out(cached: Sections) -> None:
    async with Stage(cached) as stage:
        request = await asked(stage, "prefix", True, *ASKED[:4], "192.0.2.7", "PURGE", *ASKED[6:], word="cache-purge")
        stage.give(routed(stage, request, method=b"PURGE"))
        async with asyncio.timeout(5):
            while not stage.context.reported:
                await asyncio.sleep(0.001)
        found = await answer(stage)
        assert (found["purged"], found["failed"], found["namespace"], found["location"]) == (0, 0, "n", "l")
        stage.context.reported.clear()
        stage.actor.told("cache-stats", (7,))
        (cache,) = (await answer(stage))["caches"]
        assert (cache["cache"], cache["namespace"], cache["objects"], cache["requests"]) == ("pages", "n", 0, {})


async def explained(stage: Stage, headers: list[list[str]]) -> Any:
    request = await asked(stage, *ASKED[:8], headers)
    known: dict[str, Any] = {
        "headers": request.headers.decode().replace("\r\n", "\n"),
        "upgrade": request.upgrade,
        "length": request.length,
    }
    stage.give(routed(stage, request, **known))
    async with asyncio.timeout(5):
        while not stage.context.reported:
            await asyncio.sleep(0.001)
    found = await answer(stage)
    stage.context.reported.clear()
    return found


async def test_of_several_caches_the_one_that_takes_it_is_asked_and_all_purge(cached: Sections, tmp_path: Path) -> None:
    first = cached["pages"] | {"directory": f"{tmp_path}/first?max_size=10mb", "bypass_cookies": ["in"]}
    async with Stage({"first": first, "second": cached["pages"] | {"namespace": "m"}}) as stage:
        for cookie, plugin, outcome in (("out=1", "first", "miss"), ("in=1", "second", "miss")):
            found = await explained(stage, [["cookie", cookie]])
            assert (found["plugin"], found["outcome"]) == (plugin, outcome)
        request = await asked(stage, "url", False, *ASKED[:4], "192.0.2.7", "PURGE", *ASKED[6:], word="cache-purge")
        stage.give(routed(stage, request, method=b"PURGE"))
        async with asyncio.timeout(5):
            while not stage.context.reported:
                await asyncio.sleep(0.001)
        found = await answer(stage)
        assert (found["plugin"], found["namespace"], found["purged"]) == ("first, second", "n, m", 0)


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        ([["connection", "upgrade"], ["upgrade", "WebSocket"]], "Upgrade: websocket"),
        ([["content-length", "5"]], "a body in the request"),
        ([["transfer-encoding", "chunked"]], "a body in the request"),
        ([["content-length", "0"], ["connection", "upgrade"], ["upgrade", "h2c"]], "nothing stored"),
    ],
)
async def test_what_no_cache_is_asked_for_says_so(cached: Sections, headers: list[list[str]], rule: str) -> None:
    async with Stage(cached) as stage:
        assert (await explained(stage, headers))["rule"] == rule
