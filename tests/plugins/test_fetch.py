"""Requests of plugins' own, through upstream: answered, bounded, and over in every case."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import INLINE, WINDOW, Broken, Cancel, Credit, Data, Response, Routed
from tests.plugins.script import ACCEPT, CONFIG, PLUGINS, ROUTING, SID, UPSTREAM, Stage
from tests.plugins.test_python_plugins import plugin, section, settled

FETCH = """
seen = []
def start(self, host): self.host = host
async def request(self, exchange):
    try:
        answer = await self.host.fetch(ARGS)
    except FetchFailed as failed:
        return reply(502, f"{failed}")
    except BaseException as error:
        self.seen.append(type(error).__name__)
        raise
    return reply(answer.status, answer.body, [("x-of", answer.headers.get("x-of", "none"))])
"""
FIRST = (PLUGINS << 32) + 1


def fetching(args: str = "'u', 'GET', '/auth?x=1', {'x-a': '1'}") -> str:
    return plugin(FETCH.replace("ARGS", args))


async def asked(stage: Stage) -> Routed:
    """What goes to upstream of the fetch that a request has made."""
    [routed] = await stage.run(stage.request())
    assert isinstance(routed, Routed) and routed.sid == FIRST
    return routed


def answer(stage: Stage, body: bytes = b"", ended: bool = True, **more: Any) -> Response:
    return stage.response("x-of: backend", body, ended, sid=FIRST, **more)


async def test_it_goes_to_upstream_and_comes_back(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        routed = await asked(stage)
        assert (routed.method, routed.target, routed.headers, routed.body, routed.ended) == (b"GET", b"/auth?x=1", b"x-a: 1\r\n", b"", True)
        assert (routed.upstream, routed.location, routed.plan, routed.generation) == ("u", "", 0, stage.generation)
        assert (routed.affinity.plugins, routed.affinity.upstream) == (PLUGINS, UPSTREAM)
        [reply] = await settled(stage, answer(stage, b"hello", status=203))
        assert (reply.sid, reply.status, reply.body) == (SID, 203, b"hello") and b"x-of: backend" in reply.headers
        assert stage.actor.held() == 0
        assert stage.context.counted["plugin_fetches"] == 1


async def test_a_long_answer_is_read_with_credit(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        await asked(stage)
        await stage.run(answer(stage, b"", ended=False))
        granted = 0
        piece = bytes(64 * 1024)
        for _ in range(32):
            out = await stage.run(Data(FIRST, piece, False, ""))
            granted += sum(credit.bytes for credit in out if isinstance(credit, Credit) and credit.wanter == PLUGINS)
        assert 32 * len(piece) - WINDOW // 4 <= granted <= 32 * len(piece)
        out = await settled(stage, Data(FIRST, b"end", True, ""))
        assert sum(len(message.body if isinstance(message, Response) else message.payload) for message in out) > WINDOW // 2


async def test_a_large_body_goes_out_as_upstream_takes_it(tmp_path: Path) -> None:
    size = 3 * INLINE
    async with Stage({"p": section(tmp_path, fetching(f"'u', 'POST', '/', (), bytes({size})"))}) as stage:
        routed = await asked(stage)
        assert (routed.length, routed.body, routed.ended) == (size, b"", False)
        [first] = await stage.run(Credit(FIRST, INLINE, UPSTREAM))
        assert (len(first.payload), first.ended, first.is_upload) == (INLINE, False, True)
        [rest] = await stage.run(Credit(FIRST, WINDOW, UPSTREAM))
        assert (len(rest.payload), rest.ended) == (2 * INLINE, True)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (lambda stage: answer(stage, b"page", status=502, error="connect_failed"), "connect_failed"),
        (lambda stage: Broken(FIRST, UPSTREAM, "unreadable"), "internal: unreadable"),
        (lambda stage: answer(stage, bytes(11)), "too_large"),
    ],
    ids=["no backend", "broken", "too large"],
)
async def test_without_an_answer_it_fails(tmp_path: Path, message: Any, said: str) -> None:
    async with Stage({"p": section(tmp_path, fetching("'u', 'GET', '/', limit=10"))}) as stage:
        await asked(stage)
        *_, reply = await settled(stage, message(stage))
        assert reply.status == 502 and said in reply.body.decode()
        assert stage.actor.held() == 0


async def test_an_answer_that_is_cut_off_is_a_failure(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        await asked(stage)
        await stage.run(answer(stage, b"half", ended=False))
        [reply] = await settled(stage, Data(FIRST, b"", False, "bad_gateway"))
        assert b"bad_gateway" in reply.body


@pytest.mark.parametrize("has_head", [False, True])
async def test_the_death_of_upstream_is_a_failure(tmp_path: Path, has_head: bool) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        await asked(stage)
        if has_head:
            await stage.run(answer(stage, b"half", ended=False))
        stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
        [reply] = await settled(stage)
        assert b"stage_lost" in reply.body and stage.actor.held() == 0


async def test_it_has_a_deadline_and_upstream_hears_of_it(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching("'u', 'GET', '/', timeout=0.02"))}) as stage:
        await asked(stage)
        out: list[Any] = []
        while not any(isinstance(message, Response) for message in out):
            await asyncio.sleep(0.005)
            out += stage.out()
        cancel, reply = out
        assert cancel == Cancel(FIRST, "plugins") and b"gateway_timeout" in reply.body


async def test_without_a_replica_it_waits_for_one(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
        assert await stage.run(stage.request()) == []
        assert stage.actor.held() == 2  # the request, and what it waits for
        stage.members(ACCEPT, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        [routed] = await settled(stage)
        assert isinstance(routed, Routed) and routed.sid == FIRST


async def test_a_client_that_leaves_ends_what_its_hook_awaits(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        await asked(stage)
        assert Cancel(FIRST, "plugins") in await settled(stage, Cancel(SID, "client"))
        [live] = stage.actor._compiler._live.values()
        assert (live.plugin.seen, stage.actor.held()) == (["CancelledError"], 0)  # type: ignore[attr-defined]
        assert await stage.run(answer(stage, b"late")) == []


async def test_what_a_task_of_its_own_awaits_goes_on(tmp_path: Path) -> None:
    code = """
    done = []
    def start(self, host): self.host = host
    async def fill(self): self.done.append((await self.host.fetch("u", "GET", "/")).body)
    async def request(self, exchange):
        self.task = asyncio.create_task(self.fill())
        await self.task
    """
    async with Stage({"p": section(tmp_path, plugin(code))}) as stage:
        await asked(stage)
        assert await settled(stage, Cancel(SID, "client")) == []
        await settled(stage, answer(stage, b"filled"))
        [live] = stage.actor._compiler._live.values()
        assert (live.plugin.done, stage.actor.held()) == ([b"filled"], 0)  # type: ignore[attr-defined]


NONSENSE = {
    "upstream": "'nowhere', 'GET', '/'",
    "method": "'CONNECT', 'GET ', '/'",
    "tunnel": "'u', 'CONNECT', '/'",
    "target": "'u', 'GET', 'auth'",
    "header": "'u', 'GET', '/', {'x a': '1'}",
    "length": "'u', 'GET', '/', {'content-length': '1'}",
    "body": "'u', 'GET', '/', (), 7",
    "timeout": "'u', 'GET', '/', timeout=0",
    "limit": "'u', 'GET', '/', limit='1'",
}


@pytest.mark.parametrize("args", NONSENSE.values(), ids=NONSENSE)
async def test_what_is_no_request_is_an_error_of_the_plugin(tmp_path: Path, args: str) -> None:
    async with Stage({"p": section(tmp_path, fetching(args))}) as stage:
        [reply] = await settled(stage, stage.request())
        assert reply.status == 500 and stage.context.logged[-1][2]["plugin"] == "p"
        assert stage.actor.held() == 0


async def test_in_a_worker_it_goes_to_the_upstream_of_that(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, fetching())}) as stage:
        stage.context.settings["crew"] = {"upstream": 77}
        stage.give(stage.request())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [to for to, message in stage.sent() if isinstance(message, Routed)] == [77]


async def test_a_url_goes_to_an_upstream_of_ours_or_to_its_host(tmp_path: Path) -> None:
    code = FETCH.replace("self.host.fetch(ARGS)", "self.host.fetch_url(parse_url(exchange.headers['x-url']))")
    async with Stage({"p": section(tmp_path, plugin("from pingap.plugin import parse_url\n" + code))}) as stage:
        asked = []
        for number, url in enumerate(("upstream://u/a?b", "https://auth.test:8443/x", "http://auth.test")):
            [routed] = await stage.run(stage.request(headers=f"x-url: {url}", sid=SID + number))
            asked.append((routed.upstream, routed.host, routed.headers, routed.target, routed.location))
        assert asked == [
            ("u", b"", b"", b"/a?b", ""),
            ("pingap:https", b"auth.test:8443", b"host: auth.test:8443\r\n", b"/x", ""),
            ("pingap:http", b"auth.test", b"host: auth.test\r\n", b"/", ""),
        ]
        [failed] = await settled(stage, stage.request(headers="x-url: upstream://gone/", sid=SID + 3))
        assert failed.status == 500, "as one that is no upstream"
