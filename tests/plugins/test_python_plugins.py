"""Plugins that a user wrote: what they may do, how they fail, and how they are replaced."""

from __future__ import annotations

import asyncio
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pingap.bus.repeats import MOST
from pingap.stages.itinerary import REQUEST_BODY, REQUEST_PLUGINS, RESPONSE_PLUGINS
from pingap.stages.messages import UNKNOWN, WINDOW, Cancel, Credit, Data, Done, Response, Routed
from pingap.stages.plugins import checking
from tests.plugins.script import ACCEPT, SID, UPSTREAM, Stage, bodies, credit, data, granted, lines, snapshot

HEAD = "from pingap.plugin import *\nimport asyncio, time\n"


def section(tmp_path: Path, code: str, name: str = "mine", **keys: Any) -> dict[str, Any]:
    path = tmp_path / f"{name}.py"
    path.write_text(HEAD + textwrap.dedent(code))
    return {"category": "python", "path": str(path), **keys}


def plugin(body: str, extra: str = "") -> str:
    """The code of a plugin with these lines in its class."""
    return f"class Mine(Plugin):\n{textwrap.indent(textwrap.dedent(extra), '    ')}\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


async def served(stage: Stage, *envelopes: Any) -> list[Any]:
    """Feeds envelopes and waits until no task of the stage is at work (real time, for hooks that use it)."""
    out = await stage.run(*envelopes)
    while stage.actor.guard.is_busy or any(
        task for stream in stage.actor.streams.by_sid.values() for task in [stream.task] if task and not task.done()
    ):
        await asyncio.sleep(0.005)
    return out + stage.out()


async def settled(stage: Stage, *envelopes: Any) -> list[Any]:
    """The same for streams that wait for more to come."""
    out = await stage.run(*envelopes)
    await asyncio.sleep(0.02)
    return out + stage.out()


# -- the contract -----------------------------------------------------------------


async def test_hooks_run_step_by_step_and_in_the_order_of_the_location(tmp_path: Path) -> None:
    code = """
    class Mine(Plugin):
        def __init__(self, settings):
            super().__init__(settings)
            self.mark = settings.remark
        def note(self, exchange, step):
            exchange.context["seen"] = exchange.context.get("seen", "") + f"{step}{self.mark} "
        def early_request(self, exchange): self.note(exchange, "early")
        async def request(self, exchange): self.note(exchange, "request"); return CONTINUE
        def proxy_upstream(self, exchange): self.note(exchange, "proxy"); return SKIP
        async def upstream_response(self, exchange):
            await asyncio.sleep(0)
            self.note(exchange, "upstream")
        def response(self, exchange):
            self.note(exchange, "response")
            exchange.response.headers["x-seen"] = exchange.context["seen"]
    """
    plugins = {"one": section(tmp_path, code, remark="1"), "two": section(tmp_path, code, remark="2")}
    async with Stage(plugins) as stage:
        [routed] = await served(stage, stage.request())
        assert isinstance(routed, Routed)
        assert routed.variables["seen"] == "early1 early2 request1 request2 proxy1 proxy2 "
        [answered] = await served(stage, stage.response())
        assert lines(answered.headers)[0].endswith("proxy2 upstream1 upstream2 response1 response2")
        assert answered.report.context["seen"].endswith("response2 ")


async def test_a_hook_sees_and_changes_the_request(tmp_path: Path) -> None:
    code = plugin(
        """
        def request(self, exchange):
            h = exchange.headers
            h["X-Got"] = " ".join(map(str, (exchange.method, exchange.path, exchange.query, exchange.host, exchange.client_ip,
                exchange.query_value("b"), exchange.cookie("c"), exchange.scheme, exchange.location, exchange.context.get("id"))))
            h.remove("x-gone")
            exchange.target = "/new?x=1"
        """
    )
    async with Stage({"p": section(tmp_path, code)}) as stage:
        routed = await stage.one(stage.request("/a?b=2", "cookie: a=b; c=d\nx-gone: 1", variables={"id": "7"}))
    assert routed.target == b"/new?x=1"
    assert lines(routed.headers)[-1] == "x-got: GET /a b=2 example.com 192.0.2.7 2 d http l 7"
    assert b"x-gone" not in routed.headers


async def test_routings_own_variables_are_not_changed_by_a_plugin(tmp_path: Path) -> None:
    code = plugin("def request(self, exchange): exchange.context['a'] = 1")
    shared: dict[str, str] = {}
    async with Stage({"p": section(tmp_path, code)}) as stage:
        routed = await stage.one(stage.request(variables=shared))
    assert (routed.variables, shared) == ({"a": 1}, {})


async def test_a_plugin_may_answer_at_any_step(tmp_path: Path) -> None:
    code = plugin("def response(self, exchange): return exchange.respond(418, 'tea', {'x-kind': 'pot'})")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("server: x", b"body", ended=False))
        assert out[0] == Cancel(SID, "plugins", True)
        assert (out[1].status, out[1].body, out[1].report.addr) == (418, b"tea", "127.0.0.1:9000")
        assert lines(out[1].headers)[0] == "x-kind: pot"
        assert stage.actor.held() == 0
        assert await stage.run(data(b"more")) == []


async def test_settings_are_read_by_the_plugins_own_model(tmp_path: Path) -> None:
    code = """
    class Mine(Plugin):
        class model(Settings):
            greeting: str
            pause: Duration = 1.0
        def check(self):
            if "!" in self.settings.greeting:
                yield "greeting", "no shouting", "be calm"
        def request(self, exchange):
            return reply(200, f"{self.settings.greeting} {self.settings.pause}")
    """
    async with Stage({"p": section(tmp_path, code, greeting="hi", pause="1m")}) as stage:
        assert (await stage.one(stage.request())).body == b"hi 60.0"
    problems = checking.check("p", section(tmp_path, code, greting="hi", pause=3))
    assert [problem.path for problem in problems] == ["plugins.p.greeting", "plugins.p.pause", "plugins.p.greting"]
    assert problems[2].hint == "did you mean 'greeting'?"
    [problem] = checking.check("p", section(tmp_path, code, greeting="hi!"))
    assert (problem.path, problem.message, problem.hint) == ("plugins.p.greeting", "no shouting", "be calm")


async def test_one_hook_can_be_moved_to_another_step_that_the_plugin_allows(tmp_path: Path) -> None:
    code = plugin("def request(self, exchange): return reply(200, 'here')", "steps = ('request', 'proxy_upstream')")
    async with Stage({"p": section(tmp_path, code, step="proxy_upstream")}) as stage:
        assert (await stage.one(stage.request())).status == 200
        assert (await stage.one(stage.request(upstream=""))).status == 404


@pytest.mark.parametrize(
    ("code", "plan"),
    [
        ("def request(self, exchange): pass", REQUEST_PLUGINS),
        ("def response(self, exchange): pass", REQUEST_PLUGINS | RESPONSE_PLUGINS),
        ("reads_request_body = True\ndef early_request(self, exchange): pass", REQUEST_PLUGINS | REQUEST_BODY),
    ],
)
async def test_the_itinerary_names_only_what_the_hooks_ask_for(tmp_path: Path, code: str, plan: int) -> None:
    async with Stage({"p": section(tmp_path, plugin(code))}) as stage:
        assert stage.plan == plan


async def test_start_and_stop_come_once_in_a_life(tmp_path: Path) -> None:
    code = plugin(
        """
        def start(self, host): self.host = host; host.log("info", "started")
        def stop(self): self.host.log("info", "stopped")
        def request(self, exchange): pass
        """
    )
    first = {"p": section(tmp_path, code)}
    async with Stage(first) as stage:
        stage.load(first)  # the same again: it lives on
        assert [entry[1] for entry in stage.context.logged] == ["started"]
        assert stage.context.logged[0][2] == {"plugin": "p"}
        stage.load({"p": {**first["p"], "remark": "other"}})
        assert [entry[1] for entry in stage.context.logged] == ["started", "started"]


async def test_a_plugin_stops_when_no_generation_has_it_any_more(tmp_path: Path) -> None:
    code = plugin(
        "def stop(self): __import__('pathlib').Path(self.settings.remark).write_text('stopped')\ndef request(self, exchange): pass"
    )
    mark = tmp_path / "mark"
    async with Stage({"p": section(tmp_path, code, remark=str(mark))}) as stage:
        stage.load({"p": {"category": "ping", "path": "/"}})
        assert not mark.exists()
        value: dict[str, Any] = {
            "committed": stage.generation,
            "current": None,
            "candidate": 0,
            "next": None,
            "oldest": stage.generation,
            "problems": [],
        }
        stage.context.following["config"](value)
        assert mark.read_text() == "stopped"


# -- bodies ---------------------------------------------------------------------------

UPPER = plugin(
    """
    reads_request_body = True
    def request(self, exchange): exchange.transform_request(Upper())
    def response(self, exchange): exchange.transform_response(Upper())
    """
) + textwrap.dedent(
    """
    class Upper(Transformer):
        def feed(self, data, ended): return data.upper()
    """
)


async def test_a_small_request_body_is_transformed_on_the_spot_and_can_still_be_sent_again(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, UPPER)}) as stage:
        [routed] = await served(stage, stage.request(body=b"abc", method=b"POST"))
        assert (routed.body, routed.length, routed.ended) == (b"ABC", 3, True)
        answered = await stage.one(stage.response("", b"x", sid=SID))
        assert (answered.body, answered.length) == (b"X", 1)


async def test_an_upload_flows_within_the_credit_of_upstream(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, UPPER)}) as stage:
        [routed] = await settled(stage, stage.request(body=None, method=b"POST"))
        assert (routed.length, routed.ended, routed.plan & REQUEST_BODY) == (UNKNOWN, False, REQUEST_BODY)
        assert stage.feed() == []  # the client begins when somebody wants the body
        out = await stage.run(credit(5, UPSTREAM))
        assert out == [Credit(SID, WINDOW, stage.context.id)]
        out = await stage.run(data(b"abcdefgh", upload=True))
        assert [(piece.payload, piece.is_upload) for piece in out] == [(b"ABCDE", True)]
        assert await stage.run(data(b"", ended=True, upload=True)) == []
        out = await stage.run(credit(100, UPSTREAM))
        assert [(piece.payload, piece.ended) for piece in out] == [(b"FGH", True)]


async def test_credit_for_an_upload_comes_back_as_upstream_takes_it(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, UPPER)}) as stage:
        await settled(stage, stage.request(body=None))
        await stage.run(credit(WINDOW, UPSTREAM))
        sent = sum(len(piece.payload) for piece in await stage.run(data(bytes(WINDOW), upload=True)) if isinstance(piece, Data))
        assert sent == WINDOW
        assert granted(await stage.run(data(b"x", upload=True))) == 0
        out = await stage.run(credit(WINDOW, UPSTREAM), data(bytes(WINDOW), upload=True))
        assert granted(out) >= WINDOW // 2


async def test_the_answer_may_come_before_the_upload_has_ended(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, UPPER)}) as stage:
        await settled(stage, stage.request(body=None))
        await stage.run(credit(WINDOW, UPSTREAM), data(b"abc", upload=True))
        out = await stage.run(stage.response("", b"", ended=False))
        out += await stage.run(data(b"answer"), data(b"def", upload=True))
        assert bodies([piece for piece in out if not getattr(piece, "is_upload", False)]) == b"ANSWER"
        assert bodies([piece for piece in out if getattr(piece, "is_upload", False)]) == b"DEF"
        await stage.run(data(b"", ended=True))
        assert stage.actor.held() == 0


async def test_without_response_hooks_an_upload_is_let_go_with_done(tmp_path: Path) -> None:
    code = plugin("reads_request_body = True\ndef request(self, exchange): exchange.transform_request(Transformer())")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        [routed] = await settled(stage, stage.request(body=None))
        assert routed.watchers == (stage.context.id,)
        assert stage.actor.held() == 1
        await stage.run(Done(SID))
        assert stage.actor.held() == 0


WHOLE = plugin(
    """
    reads_request_body = True
    def request(self, exchange): exchange.collect_request(self.whole, limit=10, bypass=exchange.path == "/bypass")
    async def whole(self, exchange, body):
        await asyncio.sleep(0)
        exchange.headers["x-size"] = str(len(body))
        if body == b"bad": return reply(403, "no")
        return None if body == b"keep" else body * 2
    def response(self, exchange): exchange.collect_response(self.answer, limit=10, bypass=exchange.path == "/bypass")
    def answer(self, exchange, body):
        exchange.response.status = 201
        return body[::-1]
    """
)


@pytest.mark.parametrize(
    ("sent", "got"), [([b"abc"], b"abcabc"), ([b"a", b"b", b""], b"abab"), ([b"ke", b"ep"], b"keep")], ids=["one", "pieces", "unchanged"]
)
async def test_a_hook_gets_a_whole_upload(tmp_path: Path, sent: list[bytes], got: bytes) -> None:
    async with Stage({"p": section(tmp_path, WHOLE)}) as stage:
        out = await stage.run(stage.request(body=None))
        assert granted(out) == WINDOW
        pieces = [data(piece, ended=at == len(sent) - 1, upload=True) for at, piece in enumerate(sent)]
        [routed] = await served(stage, *pieces)
        assert (routed.body, routed.length, routed.ended) == (got, len(got), True)
        assert lines(routed.headers)[-1] == f"x-size: {sum(map(len, sent))}"


async def test_a_hook_for_whole_uploads_may_answer(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, WHOLE)}) as stage:
        [refused] = await served(stage, stage.request(body=b"bad"))
        assert (refused.status, refused.body) == (403, b"no")
        assert stage.actor.held() == 0


async def test_no_later_plugin_runs_before_a_hook_has_had_the_body_that_it_asked_for(tmp_path: Path) -> None:
    plugins = {"whole": section(tmp_path, WHOLE), "mock": {"category": "mock", "data": "made up"}}
    async with Stage(plugins) as stage:
        [refused] = await served(stage, stage.request(body=b"bad"))
        assert refused.status == 403
        [mocked] = await served(stage, stage.request(body=b"good"))
        assert mocked.body == b"made up"
        [mocked] = await served(stage, stage.request(body=b""))
        assert mocked.body == b"made up"


@pytest.mark.parametrize("size", [5, 200_000, 700_000])
@pytest.mark.parametrize("inline", [True, False])
async def test_several_hooks_have_the_whole_body_one_after_the_other(tmp_path: Path, size: int, inline: bool) -> None:
    first = plugin(
        """
        reads_request_body = True
        def request(self, exchange): exchange.collect_request(lambda exchange, body: body + b"1")
        """
    )
    second = (
        plugin(
            """
        reads_request_body = True
        def request(self, exchange):
            exchange.transform_request(Tail())
            exchange.collect_request(self.note)
        def note(self, exchange, body): exchange.headers["x-size"] = str(len(body))
        """
        )
        + "\nclass Tail(Transformer):\n    def feed(self, data, ended): return data + b'2' * ended\n"
    )
    body = b"x" * size
    async with Stage({"one": section(tmp_path, first, "one"), "two": section(tmp_path, second, "two")}) as stage:
        if inline:
            out = await settled(stage, stage.request(body=body))
        else:
            await stage.run(stage.request(body=None))
            out = await settled(stage, data(body, upload=True), data(b"", ended=True, upload=True))
        [routed] = [envelope for envelope in out if isinstance(envelope, Routed)]
        assert routed.length == size + 2
        assert lines(routed.headers)[-1] == f"x-size: {size + 2}"
        out = [routed, *await settled(stage, credit(WINDOW, UPSTREAM))]
        assert routed.body + bodies(out[1:]) == body + b"12"
        assert stage.actor.held() == 0 or not routed.ended


async def test_an_upload_that_is_too_large_for_a_hook_is_413_or_goes_by(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, WHOLE)}) as stage:
        await stage.run(stage.request(body=None))
        [refused] = await settled(stage, data(b"x" * 11, upload=True))
        assert (refused.status, refused.report.error) == (413, "body_too_large")
        await stage.run(stage.request("/bypass", body=None, length=40))
        [routed] = await settled(stage, data(b"y" * 11, upload=True))
        assert (routed.length, routed.ended, routed.body) == (40, False, b"")
        out = await stage.run(credit(100, UPSTREAM), data(b"z", upload=True))
        assert bodies(out) == b"y" * 11 + b"z"


async def test_a_hook_gets_a_whole_answer_and_may_change_its_head(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, WHOLE)}) as stage:
        await stage.run(stage.request())
        assert await stage.run(stage.response("", b"ab", ended=False)) == []
        [answered] = await stage.run(data(b"cd", ended=True))
        assert (answered.status, answered.body, answered.length, answered.ended) == (201, b"dcba", 4, True)


async def test_the_length_of_a_collected_answer_is_told_however_long_it_is(tmp_path: Path) -> None:
    code = plugin("def response(self, exchange): exchange.collect_response(lambda exchange, body: body + b'!', limit=10_000_000)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"x" * (WINDOW + 5)))
        assert (out[0].length, out[0].ended, len(bodies(out))) == (WINDOW + 6, False, WINDOW)
        out += await stage.run(credit(WINDOW))
        assert len(bodies(out)) == WINDOW + 6 and out[-1].ended


async def test_an_answer_that_is_too_large_for_a_hook_goes_by_or_fails(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, WHOLE)}) as stage:
        await stage.run(stage.request("/bypass"))
        assert await stage.run(stage.response("", b"ab", ended=False, length=30)) == []
        out = await stage.run(data(b"c" * 12))
        assert (out[0].length, out[0].status, bodies(out)) == (30, 200, b"ab" + b"c" * 12)
        await stage.run(data(b"d" * 16, ended=True))
        await stage.run(stage.request("/"))
        out = await stage.run(stage.response("", b"x" * 12, ended=False))
        assert [type(envelope) for envelope in out] == [Cancel, Response]
        assert (out[1].status, out[1].report.error) == (502, "bad_gateway")


UNDECLARED = {
    "direct": "def request(self, exchange): exchange.transform_request(Transformer())",
    "whole": "def request(self, exchange): exchange.collect_request(lambda exchange, body: None)",
    "within": "def request(self, exchange):\n    def later(): exchange.transform_request(Transformer())\n    later()",
    "static": "@staticmethod\ndef work(ex): ex.transform_request(Transformer())\ndef request(self, exchange): self.work(exchange)",
}


@pytest.mark.parametrize("how", UNDECLARED)
def test_a_plugin_that_uses_request_bodies_and_does_not_say_so_is_refused(tmp_path: Path, how: str) -> None:
    [problem] = checking.check("p", section(tmp_path, plugin(UNDECLARED[how])))
    assert "does not say that it reads request bodies" in problem.message and "reads_request_body = True" in problem.hint
    [(number, _)] = [(number, line) for number, line in enumerate((tmp_path / "mine.py").read_text().split("\n"), 1) if "_request(" in line]
    assert f"mine.py:{number}:" in problem.message
    assert not checking.check("p", section(tmp_path, plugin("reads_request_body = True\n" + UNDECLARED[how])))


def test_a_method_of_ones_own_may_have_any_name(tmp_path: Path) -> None:
    code = "def transform_request(self, text): return text\ndef request(self, exchange): self.transform_request('x')"
    assert not checking.check("p", section(tmp_path, plugin(code)))


@pytest.mark.parametrize("body", [b"", b"ten bytes.", None], ids=["none", "small", "large"])
async def test_body_hooks_have_to_be_declared_however_large_the_body(tmp_path: Path, body: bytes | None) -> None:
    code = "def helper(exchange): exchange.transform_request(Transformer())\n" + plugin("def request(self, exchange): helper(exchange)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        [failed] = await served(stage, stage.request(body=body))
        assert (failed.status, failed.report.error) == (500, "plugin_failed")
        said = stage.context.logged[-1][2]
        assert "reads_request_body" in said["error"] and "mine.py:3" in said["where"]


async def test_that_another_plugin_reads_bodies_declares_it_for_nobody_else(tmp_path: Path) -> None:
    reader = plugin("reads_request_body = True\ndef request(self, exchange): pass")
    code = "def helper(exchange): exchange.transform_request(Transformer())\n" + plugin("def request(self, exchange): helper(exchange)")
    async with Stage({"p": section(tmp_path, reader), "q": section(tmp_path, code, "other")}) as stage:
        [failed] = await served(stage, stage.request(body=b"x"))
        assert failed.status == 500 and stage.context.logged[-1][2]["plugin"] == "q"


async def test_a_body_that_no_hook_wants_this_time_does_not_come_here(tmp_path: Path) -> None:
    code = plugin("reads_request_body = True\ndef request(self, exchange): pass")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        routed = await stage.one(stage.request(body=None))
        assert routed.plan & REQUEST_BODY == 0
        assert stage.actor.held() == 0


async def test_a_body_cannot_hide_behind_an_upgrade(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, UPPER)}) as stage:
        [routed] = await served(stage, stage.request(body=b"abc", upgrade=b"websocket"))
        assert (routed.upgrade, routed.body) == (b"", b"ABC")


async def test_transformers_may_be_generators_and_may_await(tmp_path: Path) -> None:
    code = """
    class Twice(Transformer):
        def feed(self, data, ended):
            for byte in data:
                yield bytes([byte]) * 2
    class Later(Transformer):
        async def feed(self, data, ended):
            await asyncio.sleep(0)
            return b"[" + data + b"]"
    class Mine(Plugin):
        def response(self, exchange):
            exchange.transform_response(Twice())
            exchange.transform_response(Later())
    """
    async with Stage({"p": section(tmp_path, code)}) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"ab", ended=False))
        out += await stage.run(data(b"", ended=True))
        for _ in range(20):
            out += await stage.run()
        assert bodies(out) == b"[aa][bb][]"
        assert out[-1].ended


# -- failures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "def request(self, exchange): raise KeyError('x')",
        "async def request(self, exchange): raise KeyError('x')",
        "async def request(self, exchange):\n    await asyncio.sleep(0)\n    raise KeyError('x')",
        "def request(self, exchange): return 'text'",
        "async def request(self, exchange): return 7",
        "def request(self, exchange): raise SystemExit",
        "def request(self, exchange): exchange.headers['a'] = 'b\\nc'",
        "def request(self, exchange): exchange.transform_response(None)",
        "def response(self, exchange): raise KeyError('x')",
        "async def response(self, exchange): raise KeyError('x')",
        "def response(self, exchange): exchange.transform_response(Transformer())",
        "def response(self, exchange): exchange.response.status = 42",
    ],
)
async def test_a_hook_that_fails_fails_the_request_and_only_that(tmp_path: Path, body: str) -> None:
    async with Stage({"p": section(tmp_path, plugin(body))}) as stage:
        for _ in range(MOST + 2):
            out = await served(stage, stage.request())
            if isinstance(out[0], Routed):
                out = await served(stage, stage.response("", b"x"))
            assert [type(envelope) for envelope in out] == [Response]
            assert (out[0].status, out[0].report.error) == (500, "plugin_failed")
            assert b"plugin failed" in out[0].body
            assert stage.actor.held() == 0
    assert stage.context.counted["plugin_failures"] == MOST + 2
    failures = [entry for entry in stage.context.logged if entry[1] == "a plugin failed"]
    assert len(failures) == MOST
    assert failures[0][2]["plugin"] == "p"


async def test_the_log_says_in_which_line_a_plugin_failed(tmp_path: Path) -> None:
    code = plugin("def request(self, exchange):\n    return 1 / 0")
    mine = section(tmp_path, code)
    async with Stage({"p": mine}) as stage:
        await stage.run(stage.request())
        line = next(number for number, text in enumerate(Path(mine["path"]).read_text().splitlines(), 1) if "1 / 0" in text)
        assert stage.context.logged[-1][2] == {
            "plugin": "p",
            "error": "ZeroDivisionError: division by zero",
            "where": f"{mine['path']}:{line}",
        }


async def test_a_body_that_fails_midway_is_cut_and_upstream_told(tmp_path: Path) -> None:
    code = """
    class Bad(Transformer):
        def feed(self, data, ended):
            if data == b"bad": raise ValueError("bad")
            return data
    class Mine(Plugin):
        def response(self, exchange): exchange.transform_response(Bad())
    """
    async with Stage({"p": section(tmp_path, code)}) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("", b"good", ended=False))
        stage.give(data(b"bad"))
        await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        sent = stage.sent()
    assert sent == [(UPSTREAM, Cancel(SID, "plugins", True)), (ACCEPT, Data(SID, b"", False, "plugin_failed"))]
    assert stage.context.logged[-1][2]["plugin"] == "p"


@pytest.mark.parametrize(
    "body",
    [
        "def request(self, exchange):\n    while True: pass",
        "def request(self, exchange):\n    while True:\n        try: time.sleep(0.01)\n        except Exception: pass",
        "async def request(self, exchange):\n    while True: pass",
        "async def request(self, exchange):\n    await asyncio.sleep(0)\n    while True: pass",
        "async def request(self, exchange): await asyncio.sleep(30)",
        "async def request(self, e):\n    while 1:\n        try: await asyncio.sleep(0.2)\n        except asyncio.CancelledError: return",
        "def response(self, exchange):\n    while True: pass",
        "def response(self, exchange): exchange.transform_response(Stuck())",
        "def response(self, exchange): exchange.transform_response(Empty())",
        "def response(self, exchange): exchange.transform_response(Lazy())",
        "def response(self, exchange): exchange.collect_response(lambda exchange, body: asyncio.sleep(30))",
    ],
)
async def test_a_hook_that_never_ends_is_stopped(tmp_path: Path, body: str) -> None:
    code = plugin(body) + textwrap.dedent(
        """
        class Stuck(Transformer):
            def feed(self, data, ended):
                while True: yield from ()
        class Empty(Transformer):
            def feed(self, data, ended):
                while True: yield b""
        class Lazy(Transformer):
            def feed(self, data, ended):
                while True: yield asyncio.sleep(0.001, b"")
        """
    )
    async with Stage({"p": section(tmp_path, code, timeout="60ms")}) as stage:
        out = await served(stage, stage.request())
        while stage.actor.held() and not out:
            await asyncio.sleep(0.005)
            out = stage.out()
        if isinstance(out[0], Routed):
            out = await served(stage, stage.response("", b"x"))
            while not out:
                await asyncio.sleep(0.005)
                out = stage.out()
        if out[0].status == 200:  # a body that makes its client wait: the head is out
            while not (isinstance(out[-1], Data) and out[-1].error):
                await asyncio.sleep(0.005)
                out += stage.out()
            assert out[-1].error == "plugin_failed"
        else:
            assert (out[0].status, out[0].report.error) == (500, "plugin_failed")
        assert "longer than 0.06 s" in stage.context.logged[-1][2]["error"]


async def test_slow_hooks_leave_the_loop_its_turns(tmp_path: Path) -> None:
    code = plugin("def request(self, exchange): time.sleep(0.06)")
    async with Stage({"p": section(tmp_path, code)}) as stage:
        beats: list[float] = []
        loop = asyncio.get_running_loop()

        def beat() -> None:
            beats.append(loop.time())
            loop.call_later(0.01, beat)

        beat()
        out = stage.feed(*[stage.request(sid=SID + number) for number in range(5)])
        assert len(out) == 1  # the rest waits for the loop to turn
        while len(out) < 5:
            await asyncio.sleep(0.01)
            out += stage.out()
        gaps = [after - before for before, after in pairwise(beats)]
        assert max(gaps) < 0.12  # never two of them in one turn


# -- loading -----------------------------------------------------------------------------


async def test_a_changed_file_is_taken_over_while_old_requests_finish_on_the_old_one(tmp_path: Path) -> None:
    code = plugin(
        "def request(self, exchange): exchange.headers['x'] = 'one'\ndef response(self, exchange): exchange.response.headers['x'] = 'one'"
    )
    mine = {"p": section(tmp_path, code)}
    async with Stage(mine) as stage:
        old = stage.request()
        await stage.run(old)
        section(tmp_path, code.replace("one", "two"))
        stage.load(mine)
        assert lines((await stage.one(stage.request(sid=SID + 1))).headers)[-1] == "x: two"
        assert lines((await stage.one(stage.response())).headers) == ["x: one"]
        assert lines((await stage.one(stage.response(sid=SID + 1))).headers) == ["x: two"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Mine(Plugin:\n    pass", ":3: SyntaxError"),
        ("import nothing_of_that_name", ":3: ModuleNotFoundError"),
        ("x = 1\nx.y", ":4: AttributeError"),
        ("raise SystemExit", ":3: it raised SystemExit"),
        ("x = 1", "no subclass of Plugin"),
        ("class Mine(Plugin): pass", "overrides no step"),
        ("class A(Plugin): pass\nclass B(Plugin): pass", "2 plugin classes (A, B)"),
        (
            "class Mine(Plugin):\n    def start(self, host): raise OSError('no port')\n    def request(self, e): pass",
            ":4: it cannot start: OSError: no port",
        ),
        ("class Mine(Plugin):\n    def __init__(self, s): raise OSError('x')\n    def request(self, e): pass", ":4: OSError: x"),
        ("class Mine(Plugin):\n    class model(Settings):\n        path: str = ''\n    def request(self, e): pass", "has a key 'path'"),
        ("while True: pass", ":3: it took longer than 2 s"),
    ],
)
async def test_a_broken_file_refuses_the_generation_and_says_where(
    tmp_path: Path, code: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"p": section(tmp_path, plugin("def request(self, exchange): return reply(200, 'old')"))}
    async with Stage(good) as stage:
        stage.publish(snapshot({"p": section(tmp_path, code, name="bad")}), {"l": 1})
        [refusal] = stage.answers_to_config()
        assert reason in refusal
        assert "plugins.p.path: " in refusal or "plugins.p: " in refusal
        assert str(tmp_path / "bad.py") in refusal
        stage.generation -= 1
        [answered] = await served(stage, stage.request())
        assert answered.body == b"old"


CHECKS = plugin(
    """
    def check(self):
        if self.settings.parts < 1: yield "parts", "must be at least 1"
        if self.settings.limit > 9: yield "limit", "must be at most 9"
        if not self.settings.name: yield "name", "must not be empty"
        {more}
    def request(self, exchange): return CONTINUE
    """,
    """
    class model(Settings):
        limit: int = 10
        parts: int = 1
        name: str = ""
    """,
)


@pytest.mark.parametrize(("more", "paths"), [("pass", {"parts", "limit"}), ("raise KeyError('limit')", {"limit"})])
def test_a_plugins_own_check_runs_with_the_keys_that_its_model_takes(tmp_path: Path, more: str, paths: set[str]) -> None:
    """What it has against keys that are not written, or are refused already, is not told; nor that it cannot live with that."""
    found = checking.check("p", section(tmp_path, CHECKS.replace("{more}", more), limit="x", parts=0))
    assert {problem.path.removeprefix("plugins.p.") for problem in found} == paths
    assert len(found) == len(paths)


async def test_paths_start_at_the_configuration_and_are_told_on_absolute(tmp_path: Path) -> None:
    section(tmp_path, plugin("def request(self, exchange): return reply(200, 'x')"))
    relative = {"category": "python", "path": "mine.py"}
    assert "No such file" in checking.check("p", dict(relative), "/nonexistent")[0].message
    checked = dict(relative)
    assert checking.check("p", checked, str(tmp_path)) == []
    assert checked["path"] == str(tmp_path / "mine.py")
    async with Stage({"p": checked}) as stage:
        assert (await stage.one(stage.request())).status == 200


async def test_a_plugin_may_be_an_importable_module_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("WORD = 'relative'")
    (package / "mine.py").write_text(
        "from __future__ import annotations\n"
        + HEAD
        + "from .words import WORD\n"
        + plugin("def request(self, exchange): return reply(200, WORD)")
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Stage({"p": {"category": "python", "module": "my_package.mine"}}) as stage:
        assert (await stage.one(stage.request())).body == b"relative"
    [problem] = checking.check("p", {"category": "python", "module": "my_package.other"})
    assert problem.path == "plugins.p.module" and "cannot be found" in problem.message


@pytest.mark.parametrize("change", ["broken (", "raise RuntimeError", None])
async def test_a_process_that_starts_later_runs_the_code_that_was_accepted(tmp_path: Path, change: str | None) -> None:
    mine = section(tmp_path, plugin("def request(self, exchange): return reply(200, 'accepted')"))
    checker = checking.Checker()
    assert checker("p", mine) == []
    made = replace(snapshot({"p": mine}), code=checker.code)
    file = Path(mine["path"])
    file.write_text(change) if change is not None else file.unlink()
    plans = checking.plans(made)
    async with Stage({}) as stage:
        stage.plan = plans["l"]
        stage.publish(made, plans)
        assert stage.answers_to_config() == [""]
        assert (await stage.one(stage.request())).body == b"accepted"


async def test_one_of_several_classes_is_chosen_by_name(tmp_path: Path) -> None:
    code = "class A(Plugin):\n    def request(self, e): return reply(200, 'a')\n"
    code += "class B(A):\n    def request(self, e): return reply(200, 'b')\n"
    async with Stage({"p": section(tmp_path, code, **{"class": "B"})}) as stage:
        assert (await stage.one(stage.request())).body == b"b"
    [problem] = checking.check("p", section(tmp_path, code, **{"class": "C"}))
    assert "no plugin class 'C', but A, B" in problem.message


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"hold_timeout": "3s"}, "plugins.p.hold_timeout"),
        ({"hold_timeout": "0s"}, "plugins.p.hold_timeout"),
        ({"threads": 0}, "plugins.p.threads"),
        ({"threads": 257}, "plugins.p.threads"),
        ({"timeout": "2h"}, "plugins.p.timeout"),
        ({"timeout": "0s"}, "plugins.p.timeout"),
        ({"timeout": 2}, "plugins.p.timeout"),
        ({"module": "x"}, "plugins.p"),
        ({"step": "response"}, "plugins.p.step"),
        ({"step": "respnse"}, "plugins.p.step"),
        ({"colour": "red"}, "plugins.p.colour"),
    ],
)
async def test_what_is_wrong_with_a_section_is_told_by_its_key(tmp_path: Path, keys: dict[str, Any], path: str) -> None:
    mine = section(tmp_path, plugin("def request(self, exchange): pass"), **keys)
    assert [problem.path for problem in checking.check("p", mine)] == [path]
