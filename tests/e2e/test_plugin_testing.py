"""The authors' kit with a real pingap: the same tests as without processes, over HTTP."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin import reply
from pingap.plugin_testing import LivePingap, PluginStage
from tests.kit.waiting import until

CODE = """
from pingap.plugin import *

class Own(Plugin[Settings]):
    reads_request_body = True

    def request(self, exchange):
        exchange.headers["x-plugin"] = "was here"
        if exchange.path == "/no":
            return reply(403, "no", {"x-a": "1"})
        if exchange.path == "/big":
            exchange.collect_request(self.small, limit=10_000_000)

    def small(self, exchange, body):
        return body[:10]

    def response(self, exchange):
        exchange.response.headers["x-status"] = str(exchange.response.status)
"""
BIG = bytes(range(256)) * 8192


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, dict[str, Any]]:
    (tmp_path / "own.py").write_text(CODE)
    return {"own": {"category": "python", "path": str(tmp_path / "own.py")}}


@pytest.mark.parametrize("kind", [LivePingap, PluginStage])
async def test_both_say_the_same(sections: dict[str, dict[str, Any]], kind: Any) -> None:
    async with kind(sections, upstreams=["other"]) as stage:
        refused = await stage.get("/no")
        assert (refused.status, refused.text, refused.headers["x-a"]) == (403, "no", "1")
        stage.backend.answers(201, '{"a": 1}', {"content-type": "application/json"})
        answer = await stage.post("/x?a=1", [b"one", b"two"], headers={"x-b": "2"}, host="a.example")
        assert (answer.status, answer.json(), answer.headers["x-status"]) == (201, {"a": 1}, "201")
        [got] = stage.backend.requests
        assert (got.method, got.target, got.text) == ("POST", "/x?a=1", "onetwo")
        assert (got.headers["x-plugin"], got.headers["x-b"]) == ("was here", "2")
        assert stage.backends["other"].requests == []
        stage.backend.answers_with(lambda request: reply(200, request.body))
        assert (await stage.post("/big", BIG)).body == BIG[:10]
        assert (await stage.post("/", BIG)).body == BIG
        stage.backend.answers(200, [b"a", BIG])
        assert (await stage.get()).body == b"a" + BIG
        assert (await stage.request("HEAD")).body == b""
        stage.backend.answers(204)
        assert (await stage.get()).status == 204
        stage.backend.fails()
        assert (await stage.get()).status == 502
        stage.backend.hangs()
        with pytest.raises(TimeoutError):
            await stage.get(timeout=0.2)


async def test_what_does_not_start_is_told_with_its_reason(sections: dict[str, dict[str, Any]]) -> None:
    live = LivePingap({"own": sections["own"] | {"nothing": 1}})
    with pytest.raises(RuntimeError, match=r"plugins\.own\.nothing: unknown key"):
        async with live:
            pass
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", live.port)


async def test_it_runs_as_it_is_told(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    beside = {"own": {"category": "python", "path": "own.py"}, "id": {"category": "request_id", "header_name": "x-own-id"}}
    async with LivePingap(beside, base=tmp_path, order=["id"], upstream="app", options=("--placement", "colocated")) as live:
        assert (await live.get("/no")).status == 200  # own is not in the order
        assert live.backends["app"].requests[0].headers["x-own-id"]
        assert "ready in" in live.output


KILLED = """
import asyncio, sys, time
from pingap.plugin_testing import LivePingap

async def run():
    pingap = LivePingap({"own": {"category": "python", "path": sys.argv[1]}})
    async with pingap:
        print(pingap._process.pid, pingap._dir, flush=True)
        time.sleep(600)  # until it is killed

asyncio.run(run())
"""


def test_a_pingap_ends_with_a_test_that_is_killed(sections: dict[str, dict[str, Any]]) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, sections["own"]["path"]], stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        pid, folder = test.stdout.readline().split()
        handle = os.pidfd_open(int(pid))
        test.kill()
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    assert poll.poll(20_000)
    os.close(handle)
    until(lambda: not Path(folder).exists(), 20, "what it has written is gone")


async def test_nothing_is_kept_in_the_home_of_its_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plugin's code sees is what the stage that keeps certificates sees."""
    monkeypatch.setenv("HOME", str(tmp_path))
    code = """
from pingap.config.home import default_directory
from pingap.plugin import *

class Own(Plugin[Settings]):
    def request(self, exchange):
        return reply(200, default_directory())
"""
    (tmp_path / "own.py").write_text(code)
    async with LivePingap({"own": {"category": "python", "path": str(tmp_path / "own.py")}}) as stage:
        assert not (await stage.get("/")).text.startswith(str(tmp_path))
