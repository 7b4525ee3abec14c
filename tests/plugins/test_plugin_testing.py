"""The kit with which authors test their plugins: it is the real stage, with a client and backends that are played."""

from __future__ import annotations

import asyncio
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pingap.plugin import reply
from pingap.plugin_testing import BackendRequest, PluginRefused, PluginStage

IMPORTS = "import asyncio\nfrom pingap.plugin import *\n"


def python(tmp_path: Path, body: str, name: str = "own", **settings: Any) -> dict[str, dict[str, Any]]:
    """Sections with one plugin that has this body."""
    code = f"{IMPORTS}class {name.title()}(Plugin[Settings]):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    (tmp_path / f"{name}.py").write_text(code)
    return {name: {"category": "python", "path": f"{name}.py", **settings}}


async def test_a_plugin_answers_and_the_backend_hears_of_nothing(tmp_path: Path) -> None:
    own = python(tmp_path, 'def request(self, exchange): return reply(418, "I\'m a teapot", {"x-a": "1"})')
    async with PluginStage(own, base=tmp_path) as stage:
        answer = await stage.get("/coffee")
        assert (answer.status, answer.text, answer.headers["x-a"], answer.error, answer.is_cut) == (418, "I'm a teapot", "1", "", False)
        assert stage.backend.requests == []


async def test_the_backend_gets_what_plugins_left_and_the_client_what_it_said(tmp_path: Path) -> None:
    own = python(
        tmp_path,
        """
        def request(self, exchange):
            exchange.headers["x-ip"] = exchange.client_ip
            exchange.target = "/other?b=2"
            exchange.context["who"] = "me"
        def response(self, exchange):
            exchange.response.headers["x-status"] = str(exchange.response.status)
        """,
    )
    async with PluginStage(own, base=tmp_path) as stage:
        stage.backend.answers(201, '{"a": 1}', {"content-type": "application/json"})
        answer = await stage.request("POST", "/one?a=1", headers={"x-b": "2"}, body="hello", client_ip="198.51.100.1", host="a.example")
        assert (answer.status, answer.json(), answer.headers["x-status"]) == (201, {"a": 1}, "201")
        assert answer.context["who"] == "me"
        [got] = stage.backend.requests
        assert (got.method, got.target, got.path, got.text, got.context) == ("POST", "/other?b=2", "/other", "hello", {"who": "me"})
        assert dict(got.headers.items()) == {"host": "a.example", "x-b": "2", "x-ip": "198.51.100.1"}


async def test_a_plugin_sees_the_connection_that_a_test_says(tmp_path: Path) -> None:
    own = python(tmp_path, 'def request(self, e): return reply(200, f"{e.scheme} {e.version} {e.host} {e.client_ip} {e.upstream}")')
    async with PluginStage(own, base=tmp_path, upstream="app") as stage:
        answer = await stage.get(scheme="https", version="2", host="a.example", client_ip="2001:db8::1")
        plain = await stage.get()
        with pytest.raises(ValueError, match="is not the name of a header"):
            await stage.get(headers={"no good": "x"})
    assert answer.text == "https 20 a.example 2001:db8::1 app"
    assert plain.text == "http 11 example.com 192.0.2.7 app"


BIG = bytes(range(256)) * 8192  # 2 MiB, twice the window


@pytest.mark.parametrize("body", [BIG, [BIG[:10], b"", BIG[10:]], [], b""], ids=["long", "pieces", "no pieces", "nothing"])
@pytest.mark.parametrize("is_seen", [False, True], ids=["past plugins", "through plugins"])
async def test_bodies_of_any_size_go_both_ways(tmp_path: Path, body: Any, is_seen: bool) -> None:
    code = """
    reads_request_body = True
    class Same(Transformer):
        def feed(self, data, ended): return data
    def request(self, exchange): exchange.transform_request(self.Same())
    def response(self, exchange): exchange.transform_response(self.Same())
    """
    own = python(tmp_path, code if is_seen else "def request(self, exchange): return CONTINUE")
    whole = body if isinstance(body, bytes) else b"".join(body)
    async with PluginStage(own, base=tmp_path) as stage:
        stage.backend.answers(200, body)
        answer = await stage.post("/", body)
        assert answer.body == whole
        assert stage.backend.requests[0].body == whole


async def test_pieces_come_as_pieces(tmp_path: Path) -> None:
    code = """
    class Marked(Transformer):
        def feed(self, data, ended): return b"[" + data + b"]"
    def response(self, exchange): exchange.transform_response(self.Marked())
    """
    async with PluginStage(python(tmp_path, code), base=tmp_path) as stage:
        stage.backend.answers(200, [b"one", b"two"])
        assert (await stage.get()).body == b"[one][two]"
        stage.backend.answers(200, b"onetwo")
        assert (await stage.get()).body == b"[onetwo]"


async def test_a_backend_answers_what_a_function_makes_of_the_request(tmp_path: Path) -> None:
    def echo(request: BackendRequest) -> Any:
        return reply(200, request.body, {"x-method": request.method})

    async with PluginStage({"id": {"category": "request_id"}}) as stage:
        stage.backend.answers_with(echo)
        answer = await stage.request("PUT", body=b"x")
        assert (answer.body, answer.headers["x-method"]) == (b"x", "PUT")
        stage.backend.answers(304, "none of it", {"etag": '"1"'})
        bare = await stage.get()
        assert (bare.status, bare.body, bare.headers["etag"]) == (304, b"", '"1"')
        stage.backend.answers_with(echo)
        head = await stage.request("HEAD")
        assert (head.body, head.headers["x-method"]) == (b"", "HEAD")


async def test_backends_fail_and_hang(tmp_path: Path) -> None:
    async with PluginStage({"id": {"category": "request_id"}}) as stage:
        stage.backend.fails("connect_failed")
        answer = await stage.get()
        assert (answer.status, answer.error) == (502, "connect_failed")
        stage.backend.hangs()
        with pytest.raises(TimeoutError, match="GET /x: no answer within"):
            await stage.get("/x", timeout=0.01)


async def test_a_plugin_asks_other_upstreams(tmp_path: Path) -> None:
    own = python(
        tmp_path,
        """
        def start(self, host): self.host = host
        async def request(self, exchange):
            try:
                answer = await self.host.fetch("auth", "POST", "/check", {"x-user": "me"}, b"u" * 100_000)
            except FetchFailed as failed:
                return reply(503, failed.kind)
            if answer.status != 200:
                return reply(403, answer.body)
        """,
    )
    async with PluginStage(own, base=tmp_path, upstreams=["auth"]) as stage:
        assert (await stage.get()).text == "ok"
        [asked] = stage.backends["auth"].requests
        assert (asked.method, asked.path, asked.headers["x-user"], len(asked.body)) == ("POST", "/check", "me", 100_000)
        stage.backends["auth"].answers(401, [b"who", b"?"])
        assert ((await stage.get()).status, len(stage.backend.requests)) == (403, 1)
        stage.backends["auth"].fails("gateway_timeout")
        assert (await stage.get()).text == "gateway_timeout"
        assert stage.counts["plugin_fetches"] == 3


async def test_a_hook_that_fails_is_a_500_with_the_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = python(tmp_path, "def request(self, exchange):\n    return 1 / 0")
    async with PluginStage(own, base=tmp_path) as stage:
        answer = await stage.get()
        assert (answer.status, answer.error, stage.backend.requests) == (500, "plugin_failed", [])
        [line] = stage.logs
        assert (line.level, line.message, line.fields["where"]) == ("error", "a plugin failed", f"{tmp_path / 'own.py'}:5")
        assert stage.counts["plugin_failures"] == 1
    assert f'File "{tmp_path / "own.py"}", line 5' in caplog.text and "ZeroDivisionError" in caplog.text


async def test_deadlines_are_those_of_the_section(tmp_path: Path) -> None:
    waits = python(tmp_path, "async def request(self, exchange): await asyncio.sleep(60)", timeout="50ms")
    async with PluginStage(waits, base=tmp_path) as stage:
        assert (await stage.get()).error == "plugin_failed"
    loops = python(tmp_path, "def request(self, exchange):\n    while True: pass", name="loops", hold_timeout="50ms")
    async with PluginStage(loops, base=tmp_path) as stage:
        assert (await stage.get()).error == "plugin_failed"


async def test_a_client_that_leaves_cancels_the_hook(tmp_path: Path) -> None:
    own = python(
        tmp_path,
        """
        def start(self, host): self.host = host
        async def request(self, exchange):
            try:
                await asyncio.sleep(60)
            finally:
                self.host.count("left")
        """,
    )
    async with PluginStage(own, base=tmp_path) as stage:
        asking = asyncio.ensure_future(stage.get())
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        for _ in range(5):
            await asyncio.sleep(0)
        assert stage.counts["left"] == 1


async def test_a_place_is_given_back_when_the_answer_is_there() -> None:
    async with PluginStage({"one": {"category": "limit", "type": "inflight", "max": 1}}) as stage:
        assert [(await stage.get()).status for _ in range(3)] == [200, 200, 200]
        stage.backend.hangs()
        waiting = asyncio.ensure_future(stage.get())
        await asyncio.sleep(0.01)
        assert (await stage.get()).status == 429
        waiting.cancel()


async def test_all_problems_of_the_sections_are_told_at_once(tmp_path: Path) -> None:
    own = python(tmp_path, "def request(self, exchange): pass", nothing=1)
    with pytest.raises(PluginRefused) as refused:
        async with PluginStage({**own, "keys": {"category": "key_auth"}}, base=tmp_path):
            pass
    assert [problem.path for problem in refused.value.problems][:2] == ["plugins.own.nothing", "plugins.keys.keys"]


async def test_a_start_that_fails_is_told(tmp_path: Path) -> None:
    own = python(
        tmp_path, "async def start(self, host):\n    await asyncio.sleep(0)\n    raise OSError('no key')\ndef request(self, e): pass"
    )
    with pytest.raises(PluginRefused, match="it cannot start: OSError: no key"):
        async with PluginStage(own, base=tmp_path):
            pass


async def test_order_names_instances_without_a_section_and_settings_can_change(tmp_path: Path) -> None:
    own = python(tmp_path, 'def request(self, exchange): return reply(200, exchange.headers["x-request-id"])')
    async with PluginStage(own, base=tmp_path, order=["pingap:requestId", "own"]) as stage:
        assert (await stage.get(headers={"x-request-id": "7"})).text == "7"
        await stage.reload({"say": {"category": "mock", "data": "new"}})
        assert (await stage.get()).text == "new"


async def test_without_an_upstream_only_plugins_answer() -> None:
    async with PluginStage({"say": {"category": "mock", "path": "/x", "data": "y"}}, upstream="") as stage:
        assert ((await stage.get("/x")).text, (await stage.get("/z")).status) == ("y", 404)


async def test_streams_and_files_come_whole_or_cut(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BIG)
    own = python(
        tmp_path,
        f"""
        def request(self, exchange):
            return reply(200, FileBody({str(tmp_path / "file")!r}) if exchange.path == "/file" else self.body(exchange.path))
        async def body(self, path):
            yield b"one"
            if path == "/cut":
                raise ValueError("no more")
            yield b"two"
        """,
    )
    async with PluginStage(own, base=tmp_path) as stage:
        assert (await stage.get("/file")).body == BIG
        assert (await stage.get("/all")).body == b"onetwo"
        cut = await stage.get("/cut")
        assert (cut.body, cut.is_cut) == (b"one", True)


async def test_nothing_is_left_of_requests(tmp_path: Path) -> None:
    async with PluginStage({"id": {"category": "request_id"}}) as stage:
        await asyncio.gather(*(stage.post("/", [b"x"] * 3) for _ in range(50)))
        assert len(stage.backend.requests) == 50
        assert (stage._asking, stage._asked, stage._fed.actor.held()) == ({}, {}, 0)


@pytest.mark.processes
async def test_functions_run_in_processes_by_the_same_rules(tmp_path: Path) -> None:
    own = python(
        tmp_path,
        """
        def start(self, host):
            self.host = host
        async def request(self, exchange):
            import math, os
            call, *args = {"/pid": [os.getpid], "/fails": [math.factorial, -1], "/own": [self.request, 1]}[exchange.path]
            try:
                return reply(200, str(await self.host.in_process(call, *args)))
            except ValueError as error:
                return reply(422, str(error))
        """,
        timeout="30s",
    )
    async with PluginStage(own, base=tmp_path) as stage:
        answer = await stage.get("/pid", timeout=30)
        assert answer.status == 200 and int(answer.text) != os.getpid()
        pid = int(answer.text)
        for path, said in (("/fails", "factorial"), ("/own", "cannot import")):
            answer = await stage.get(path, timeout=30)
            assert answer.status == 422 and said in answer.text
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_there_is_one_at_a_time() -> None:
    """The deadlines of hooks have the one timer of the process."""
    sections = {"id": {"category": "request_id"}}
    async with PluginStage(sections) as one:
        with pytest.raises(RuntimeError, match="one PluginStage at a time"):
            async with PluginStage(sections):
                pass
        assert (await one.get()).status == 200
    with pytest.raises(PluginRefused):
        async with PluginStage({"keys": {"category": "key_auth"}}):
            pass
    async with PluginStage(sections) as one:
        assert (await one.get()).status == 200
