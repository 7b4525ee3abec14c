"""Whatever a user's plugin raises, returns or leaves behind: its request is answered, the log names it, nobody else is harmed."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest

from pingap.stages.messages import Cancel, Response, Routed
from pingap.stages.plugins import driving
from tests.kit.waiting import eventually
from tests.plugins.script import SID, Stage, data
from tests.plugins.test_python_plugins import HEAD, plugin, section

RAISED = {
    "SystemExit": "SystemExit(3)",
    "KeyboardInterrupt": "KeyboardInterrupt()",
    "GeneratorExit": "GeneratorExit()",
    "CancelledError": "asyncio.CancelledError()",
    "BaseExceptionGroup": "BaseExceptionGroup('several', [SystemExit()])",
    "Odd": "Odd('odd')",
    "StopIteration": "StopIteration()",
    "StopAsyncIteration": "StopAsyncIteration()",
    "TimeoutError": "TimeoutError()",
    "HookTimeout": "HookTimeout()",
}

ODD = "from stages.plugins.guard import HookTimeout\nclass Odd(BaseException): pass\n"

SYNC = "def {step}(self, exchange): BAD"
ASYNC = "async def {step}(self, exchange): BAD"
LATER = "async def {step}(self, exchange):\n    await asyncio.sleep(0.001)\n    BAD"

WHOLE_LATER = LATER.replace("{step}(self, exchange", "whole(self, exchange, body")
REQUEST = "reads_request_body = True\ndef request(self, exchange): "
RESPONSE = "def response(self, exchange): "
START = "def start(self, host): self.host = host\n"

PLACES = {
    **{f"{step} {way}": text.format(step=step) for step in ("early_request", "request", "proxy_upstream", "upstream_response", "response")
       for way, text in {"sync": SYNC, "async": ASYNC, "later": LATER}.items()},
    "whole request": REQUEST + "exchange.collect_request(self.whole)\ndef whole(self, exchange, body): BAD",
    "whole request async": REQUEST + "exchange.collect_request(self.whole)\nasync def whole(self, exchange, body): BAD",
    "whole answer": RESPONSE + "exchange.collect_response(self.whole)\ndef whole(self, exchange, body): BAD",
    "whole answer async": RESPONSE + "exchange.collect_response(self.whole)\n" + WHOLE_LATER,
    "request feed": REQUEST + "exchange.transform_request(Feed())",
    "request feed async": REQUEST + "exchange.transform_request(Later())",
    "request feed generator": REQUEST + "exchange.transform_request(Pieces())",
    "feed": RESPONSE + "exchange.transform_response(Feed())",
    "feed async": RESPONSE + "exchange.transform_response(Later())",
    "feed generator": RESPONSE + "exchange.transform_response(Pieces())",
    "flush": RESPONSE + "exchange.transform_response(Flush())",
    "thread": START + "async def request(self, exchange): return await self.host.in_thread(self.work)\ndef work(self): BAD",
    "thread of a sync hook": START + "def request(self, exchange): return self.host.in_thread(self.work)\ndef work(self): BAD",
    "thread of an answer": START + "def response(self, exchange): return self.host.in_thread(self.work)\ndef work(self): BAD",
}  # fmt: skip

FEEDS = """
class Feed(Transformer):
    def feed(self, data, ended): BAD
class Later(Transformer):
    async def feed(self, data, ended):
        await asyncio.sleep(0)
        BAD
class Pieces(Transformer):
    def feed(self, data, ended):
        yield b""
        BAD
class Flush(Transformer):
    def feed(self, data, ended): return b""
    def flush(self): BAD
"""


def code_of(place: str, bad: str) -> str:
    return (ODD + plugin(PLACES[place]) + FEEDS).replace("BAD", bad)


async def until(ended: Callable[[], Any], stage: Stage) -> None:
    await eventually(ended, said=lambda: stage.context.logged)


async def outs(stage: Stage, count: int) -> list[Any]:
    """At least `count` envelopes that go out."""
    out: list[Any] = []

    def look() -> bool:
        out.extend(stage.out())
        return len(out) >= count

    await until(look, stage)
    return out


async def verdict(stage: Stage) -> list[str]:
    """What the stage says of the candidate."""
    told: list[str] = []

    def look() -> bool:
        told.extend(stage.answers_to_config())
        return bool(told)

    await until(look, stage)
    return told


async def answered(stage: Stage, sid: int = SID, target: str = "/") -> Response:
    """A request, if need be with an answer from upstream, to its end."""
    got: list[Any] = []

    def look() -> bool:
        got.extend(envelope for envelope in stage.out() if isinstance(envelope, Routed | Response) and envelope.sid == sid)
        return bool(got)

    stage.give(stage.request(target, sid=sid, body=b"body", method=b"POST"))
    await until(look, stage)
    if isinstance(got[-1], Routed):
        got.clear()
        stage.give(stage.response("", b"x", ended=False, sid=sid))
        for _ in range(3):  # the sender pauses
            await asyncio.sleep(0)
        stage.give(data(b"y", ended=True, sid=sid))
        await until(look, stage)
    [answer] = got
    assert isinstance(answer, Response)
    return answer


async def fails(stage: Stage) -> str:
    """The request ends, is told of with the name of the plugin, and counted. Returns what the log says."""
    answer = await answered(stage)
    if answer.ended:
        assert (answer.status, answer.report and answer.report.error) == (500, "plugin_failed")
    else:  # an async `feed`: the head is out before it has answered
        out: list[Any] = []
        while data(b"", error="plugin_failed") not in out:
            out += await outs(stage, 1)
    assert stage.actor.held() == 0
    assert stage.context.counted["plugin_failures"] == 1
    [(_, _, fields)] = [entry for entry in stage.context.logged if entry[0] == "error"]
    assert fields["plugin"] == "mine"
    return str(fields["error"])


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("place", PLACES)
async def test_whatever_is_raised_anywhere_is_an_answer_and_a_log_line(tmp_path: Path, place: str, raised: str) -> None:
    async with Stage({"mine": section(tmp_path, code_of(place, f"raise {RAISED[raised]}"))}) as stage:
        said = await fails(stage)
        assert raised in said or raised.startswith("Stop") or "was stopped" in said


ANYTHING = {
    "number": "return 42",
    "text": "return 'text'",
    "list": "return [1, 2]",
    "object": "return object()",
    "table": "return {'a': 1}",
}
MADE = {
    "body": "return reply(200, 7)",
    "body of a dictionary": "return reply(200, {'a': 1})",
    "status": "return reply('200')",
    "status with a point": "return reply(200.5)",
    "header": "return reply(200, 'x', {'x-a': 1})",
    "no pairs": "return reply(200, 'x', 7)",
    "by hand": "return Reply(200, {}, 'x')",
}
REACHES = {
    "headers": "exchange.headers = {}",
    "header": "exchange.headers['x'] = 1",
    "status": "exchange.response.status = 200.5",
    "status as text": "exchange.response.status = '200'",
    "context": "exchange.context['x'] = object()",
    "context by update": "exchange.context.update(x={1, 2})",
    "context by default": "exchange.context.setdefault(7, 'x')",
    "context too large": "exchange.context['x'] = 2 ** 70",
    "context of half a surrogate": "exchange.context['x'] = chr(0xD800)",
    "context with such a key": "exchange.context[chr(0xD800)] = 'x'",
    **{
        f"context of {what}": f"exchange.context['x'] = {value}"
        for what, value in {
            "a date": "__import__('datetime').datetime.now()",
            "a set": "{1}",
            "a frozen set": "frozenset()",
            "a UUID": "__import__('uuid').uuid4()",
            "a decimal": "__import__('decimal').Decimal(1)",
            "a dataclass": "__import__('dataclasses').make_dataclass('D', ['a'])(1)",
            "a complex number": "1j",
            "a negative number too large": "-2 ** 63 - 1",
            "a set in a list": "[{'a': [set()]}]",
            "bytes that change, in a list": "[bytearray(b'x')]",
            "a table with numbers as keys": "{1: 2}",
            "a function": "print",
        }.items()
    },
    "context that holds itself": "d = {}; d['d'] = d; exchange.context['x'] = d",
    "context that holds itself later": "d = exchange.context['x'] = {}; d['d'] = d",
    "context that changes later": "exchange.context['x'] = []; exchange.context['x'].append(object())",
    "whole": "exchange.collect_response(7)",
    "limit": "exchange.collect_response(lambda exchange, body: None, limit='1mb')",
    "transformer": "exchange.transform_response(Feed)",
    "target": "exchange.target = 7",
    "target as bytes": "exchange.target = b'/x'",
    "target that is taken away": "del exchange.target",
    "upstream": "exchange.upstream = 7",
    "upstream that is taken away": "del exchange.upstream",
    "status that is taken away": "del exchange.response.status",
    "no headers": "exchange.headers = None",
    "headers that are taken away": "del exchange.headers",
    "headers of the answer": "exchange.response.headers = {}",
    "headers of the answer that are taken away": "del exchange.response.headers",
    "no answer": "exchange.response = None",
    "another answer": "exchange.response = 7",
    "too many transformers": "[exchange.transform_response(Feed()) for _ in range(20_000)]",
}


@pytest.mark.parametrize("what", ANYTHING)
@pytest.mark.parametrize("place", [place for place in PLACES if "thread" not in place])
async def test_whatever_is_returned_in_place_of_a_result_is_an_answer_and_a_log_line(tmp_path: Path, place: str, what: str) -> None:
    bad = ANYTHING[what].replace("return", "yield") if "generator" in place else ANYTHING[what]
    async with Stage({"mine": section(tmp_path, code_of(place, bad))}) as stage:
        assert "TypeError" in await fails(stage)


@pytest.mark.parametrize("what", MADE)
@pytest.mark.parametrize("place", ["request sync", "request later", "response sync", "whole request", "whole answer async"])
async def test_a_reply_of_wrong_types_is_an_answer_and_a_log_line(tmp_path: Path, place: str, what: str) -> None:
    async with Stage({"mine": section(tmp_path, code_of(place, MADE[what]))}) as stage:
        await fails(stage)


@pytest.mark.parametrize("what", REACHES)
@pytest.mark.parametrize("place", ["response sync", "response later", "upstream_response sync", "whole answer", "whole answer async"])
async def test_what_an_exchange_cannot_hold_is_an_answer_and_a_log_line(tmp_path: Path, place: str, what: str) -> None:
    async with Stage({"mine": section(tmp_path, code_of(place, REACHES[what]))}) as stage:
        await fails(stage)


IN_CONTEXT = {
    "at once": "exchange.context['x'] = BAD",
    "within what is there": "exchange.context['x'] = {}; exchange.context['x']['y'] = BAD",
}


@pytest.mark.parametrize("how", IN_CONTEXT)
@pytest.mark.parametrize("place", [place for place in PLACES if "thread" not in place])
async def test_what_cannot_travel_is_found_wherever_it_is_put_into_the_context(tmp_path: Path, place: str, how: str) -> None:
    code = code_of(place, IN_CONTEXT[how].replace("BAD", "{3}"))
    if "feed" in place or "flush" in place:
        code = code.replace("Transformer):", "Transformer):\n    def __init__(self, exchange): self.exchange = exchange")
        code = re.sub(r"(Feed|Later|Pieces|Flush)\(\)", r"\1(exchange)", code).replace("exchange.context", "self.exchange.context")
        code = code.replace("self.self.", "self.")
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        said = await fails(stage)
        assert "context['x']" in said and "set" in said
        if how == "at once":
            [(_, _, fields)] = [entry for entry in stage.context.logged if entry[0] == "error"]
            line = int(fields["where"].rpartition("mine.py:")[2])
            assert "{3}" in (tmp_path / "mine.py").read_text().split("\n")[line - 1]


async def test_a_kind_of_text_or_number_is_kept_as_plain(tmp_path: Path) -> None:
    code = plugin(
        """
        def request(self, exchange):
            import enum, http
            class Word(str): pass
            class Kind(enum.StrEnum):
                A = "a"
            exchange.context.update(a=Word("w"), b=Kind.A, c=http.HTTPStatus.OK, d=bytearray(b"x"), e=2**64 - 1, f=-2**63, g=(1, [None]))
        """
    )
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        [routed] = await stage.run(stage.request())
        expected = {"a": "w", "b": "a", "c": 200, "d": b"x", "e": 2**64 - 1, "f": -(2**63), "g": [1, [None]]}
        assert routed.variables == expected
        assert [type(value) for value in routed.variables.values()] == [str, str, int, bytes, int, int, list]
        assert msgpack.unpackb(msgpack.packb(routed.variables)) == expected | {"g": [1, [None]]}


async def test_every_kind_of_bytes_and_number_of_a_status_will_do(tmp_path: Path) -> None:
    code = plugin(
        """
        def request(self, exchange):
            import http
            if exchange.path == "/reply": return reply(http.HTTPStatus.FORBIDDEN, bytearray(b"no"))
            exchange.context["all"] = [1, "a", {"b": None}, 1.5, True, b"c"]
        def response(self, exchange):
            exchange.response.status = __import__("http").HTTPStatus.CREATED
            exchange.transform_response(Views())
        """
    )
    code += "\nclass Views(Transformer):\n    def feed(self, data, ended): return [memoryview(data), bytearray(b'+'), b'']\n"
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        refused = await answered(stage, target="/reply")
        assert (type(refused.status), refused.status, refused.body) == (int, 403, b"no")
        answer = await answered(stage)
        assert (type(answer.status), answer.status, answer.body[:2]) == (int, 201, b"x+")


async def test_what_python_takes_the_compiled_form_takes(tmp_path: Path) -> None:
    """Whatever a signature says: the same plugin does the same in both."""
    code = plugin(
        """
        reads_request_body = True
        def request(self, exchange):
            exchange.collect_request(lambda exchange, body: None, 4096, bypass=1)
            exchange.context["length"] = exchange.headers.get("content-length", 0) + exchange.headers.get("x-none", default=1)
            if exchange.path == "/reply": return reply(200, "x", [["x-a", "1"], ("x-b", b"2")])
        def response(self, exchange):
            exchange.collect_response(lambda exchange, body: None, bypass=None)
        """
    )
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        made = await answered(stage, target="/reply")
        assert (made.status, made.headers[:16]) == (200, b"x-a: 1\r\nx-b: 2\r\n")
        answer = await answered(stage)
        assert (answer.body, answer.report and answer.report.context) == (b"xy", {"length": 1})


def loaded(stage: Stage, tmp_path: Path, code: str, **keys: Any) -> None:
    """A further generation."""
    from tests.plugins.script import snapshot

    stage.publish(snapshot({"mine": section(tmp_path, code, "next", **keys)}), {"l": 1})


ANSWERS = "\ndef request(self, exchange): return reply(200, 'STATE')"


@pytest.mark.parametrize("raised", [name for name in RAISED if name != "StopIteration"])
@pytest.mark.parametrize(
    "way", ["def start(self, host): ", "async def start(self, host): ", "async def start(self, host): await asyncio.sleep(0); "]
)
async def test_whatever_start_raises_refuses_the_generation(tmp_path: Path, way: str, raised: str) -> None:
    async with Stage({"mine": section(tmp_path, plugin(ANSWERS))}) as stage:
        loaded(stage, tmp_path, ODD + plugin(f"{way}raise {RAISED[raised]}" + ANSWERS))
        refusals = await verdict(stage)
        assert "plugins.mine" in refusals[0] and "it cannot start" in refusals[0] and "next.py:" in refusals[0]


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("way", ["def", "async def"])
async def test_whatever_stop_raises_is_told(tmp_path: Path, way: str, raised: str) -> None:
    async with Stage({"mine": section(tmp_path, ODD + plugin(f"{way} stop(self): raise {RAISED[raised]}" + ANSWERS))}) as stage:
        pass
    [(_, message, fields)] = stage.context.logged
    assert (message, fields["plugin"]) == ("a plugin failed to stop", "mine")


async def test_start_and_stop_are_awaited(tmp_path: Path) -> None:
    code = plugin(
        """
        async def start(self, host):
            await asyncio.sleep(0.02)
            self.host, self.state = host, "begun"
        async def stop(self):
            await asyncio.sleep(0.001)
            self.host.log("info", "stopped")
        def request(self, exchange): return reply(200, self.state)
        """
    )
    async with Stage({"mine": section(tmp_path, plugin(ANSWERS))}) as stage:
        loaded(stage, tmp_path, code)
        assert stage.answers_to_config() == []  # nobody is told before it has begun
        value: dict[str, Any] = {"committed": 1, "current": None, "candidate": 0, "next": None, "oldest": 1, "problems": []}
        stage.generation = 1
        assert (await answered(stage)).body == b"STATE"  # and nobody waits for it
        told = await verdict(stage)
        assert told == [""]
        stage.generation = 2
        assert (await answered(stage)).body == b"begun"
        stage.context.following["config"](value | {"committed": 0})
    assert [entry[1] for entry in stage.context.logged] == ["stopped"]


async def test_a_generation_that_comes_while_another_starts_is_taken_after_it(tmp_path: Path) -> None:
    slow = plugin("async def start(self, host):\n    await asyncio.sleep(0.02)\n    host.log('info', 'started')" + ANSWERS)
    async with Stage({"mine": section(tmp_path, plugin(ANSWERS))}) as stage:
        for state in ("one", "two"):
            loaded(stage, tmp_path, slow.replace("STATE", state))
        await until(lambda: stage.actor._generations.get(3), stage)
        assert stage.actor._generations.newest == 3
        assert (await answered(stage)).body == b"two"
        assert len(stage.context.logged) == 2
        loaded(stage, tmp_path, slow.replace("STATE", "two"))
        assert (await answered(stage)).body == b"two"
        assert len(stage.context.logged) == 2  # it lives on


async def test_a_start_that_takes_too_long_refuses_the_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.compiler.START", 0.05)
    async with Stage({"mine": section(tmp_path, plugin(ANSWERS))}) as stage:
        loaded(stage, tmp_path, plugin("async def start(self, host): await asyncio.sleep(60)" + ANSWERS))
        told = await verdict(stage)
        assert "longer than 0.05 s" in told[0]


# -- what hooks await ---------------------------------------------------------------------

SHARED = plugin(
    """
    shared = None
    async def fetch(self):
        await self.gate.wait()
        return "token"
    def start(self, host): self.gate, self.host = asyncio.Event(), host
    async def get(self):
        if self.shared is None: self.shared = asyncio.create_task(self.fetch())
        return await self.shared
    async def request(self, exchange):
        if exchange.path == "/open": self.gate.set()
        return reply(200, await self.get())
    """
)
WAYS = {
    "directly": "await self.shared",
    "in a group": "(await asyncio.gather(asyncio.shield(self.shared)))[0]",
    "with a limit": "await asyncio.wait_for(asyncio.shield(self.shared), 60)",
    "in a task": "await asyncio.create_task(self.other())",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("leaves", ["client", "time-out"])
async def test_a_task_that_several_requests_await_outlives_each_of_them(tmp_path: Path, way: str, leaves: str) -> None:
    code = SHARED.replace("await self.shared", WAYS[way]) + "    async def other(self): return await self.shared\n"
    timeout = "50ms" if leaves == "time-out" else "10s"
    async with Stage({"mine": section(tmp_path, code, timeout=timeout)}) as stage:
        stage.give(stage.request())
        await stage.run()
        if leaves == "client":
            stage.give(Cancel(SID, "client"))
        else:
            out = await outs(stage, 1)
            assert out[0].status == 500
        await stage.run()
        assert stage.actor.held() == 0
        for number in range(1, 4):
            answer = await answered(stage, SID + number, "/open")
            assert (answer.status, answer.body) == (200, b"token")


async def test_what_a_user_cancels_himself_is_cancelled(tmp_path: Path) -> None:
    code = plugin(
        """
        async def work(self):
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: self.said.append("cancelled"); raise
        async def request(self, exchange):
            self.said = []
            for way in (self.limited, self.waited, self.grouped):
                try: await way()
                except (TimeoutError, ExceptionGroup) as error: self.said.append(type(error).__name__)
            asyncio.current_task().cancel()
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: self.said.append("myself")
            return reply(200, " ".join(self.said))
        async def limited(self):
            async with asyncio.timeout(0.001): await asyncio.create_task(self.work())
        async def waited(self): await asyncio.wait_for(self.work(), 0.001)
        async def grouped(self):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.work())
                await asyncio.sleep(0)
                raise ValueError
        """
    )
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        answer = await answered(stage)
        assert answer.body == b"cancelled TimeoutError cancelled TimeoutError cancelled ExceptionGroup myself"


async def test_a_hook_that_is_let_go_cleans_up(tmp_path: Path) -> None:
    code = plugin(
        """
        def start(self, host): self.host = host
        async def request(self, exchange):
            try: await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.001)
                self.host.log("info", "clean")
        """
    )
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        await stage.run(
            stage.request(),
        )
        stage.give(Cancel(SID, "client"))
        await until(lambda: stage.context.logged, stage)
        await until(lambda: not driving._keeps, stage)
    assert [entry[1] for entry in stage.context.logged] == ["clean"]  # and nothing failed


STUBBORN = {
    "once more": "except asyncio.CancelledError: pass",
    "whatever comes": "except BaseException: pass",
}


@pytest.mark.parametrize("way", STUBBORN)
async def test_a_hook_that_does_not_take_its_end_is_closed_and_forgotten(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "GRACE", 0.05)
    code = plugin(f"async def request(self, exchange):\n    while True:\n        try: await asyncio.sleep(60)\n        {STUBBORN[way]}")
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        await stage.run(stage.request())
        stage.give(Cancel(SID, "client"))
        await stage.run()
        assert stage.actor.held() == 0
        await until(lambda: not driving._keeps, stage)
        told = [(message, fields["plugin"]) for _, message, fields in stage.context.logged]
        assert told == ([("a plugin failed after its request had ended", "mine")] if way == "whatever comes" else [])


async def test_somebody_who_cancels_every_task_gets_answers(tmp_path: Path) -> None:
    code = plugin("async def request(self, exchange): await asyncio.sleep(60)")
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        await stage.run(stage.request(), stage.request(sid=SID + 1))
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not mine:
                task.cancel()
        out = await outs(stage, 2)
        assert [answer.status for answer in out] == [500, 500]
        assert stage.actor.held() == 0


# -- time -----------------------------------------------------------------------------------


async def test_a_hook_that_only_awaits_may_take_longer_than_one_that_holds_the_loop(tmp_path: Path) -> None:
    code = plugin("async def request(self, exchange):\n    await asyncio.sleep(0.2)\n    return reply(200, 'late')")
    async with Stage({"mine": section(tmp_path, code, hold_timeout="50ms")}) as stage:
        assert (await answered(stage)).body == b"late"


async def test_what_others_hold_the_loop_for_is_not_a_hooks_time(tmp_path: Path) -> None:
    patient = plugin("async def request(self, exchange):\n    for _ in range(3): await asyncio.sleep(0.001)\n    return reply(200, 'fine')")
    rude = plugin("def request(self, exchange):\n    if exchange.path == '/rude': time.sleep(0.3); return reply(200, 'rude')")
    plugins = {"rude": section(tmp_path, rude, "rude"), "patient": section(tmp_path, patient, "patient", timeout="250ms")}
    async with Stage(plugins) as stage:
        stage.give(stage.request(), *(stage.request("/rude", sid=SID + number) for number in range(1, 4)))
        out = await outs(stage, 4)
        assert sorted(answer.body for answer in out) == [b"fine", b"rude", b"rude", b"rude"]


@pytest.mark.parametrize("what", ["hooks", "starts", "pieces"])
async def test_a_sign_of_life_goes_out_between_any_two_that_hold_the_loop(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "def start(self, host):\n    self.beats = host._context\n    HOLD\n"
        if what == "starts"
        else "def start(self, host): self.beats = host._context\n"
    )
    code += "def hold(self):\n    self.beats.log('info', 'held', beats=self.beats.beats)\n    time.sleep(0.12)\n"
    code = code.replace("HOLD", "self.hold()")
    if what == "hooks":
        code += "def request(self, exchange):\n    self.hold()\n    return reply(200, 'x')"
    else:
        code += "def request(self, exchange): pass\ndef response(self, exchange): exchange.transform_response(Slow(self))"
    text = plugin(code) + (
        "class Slow(Transformer):\n    def __init__(self, owner): self.owner = owner\n"
        "    def feed(self, data, ended):\n        for _ in range(3):\n            self.owner.hold()\n            yield b'x'\n"
    )
    names = ["one", "two", "three"] if what == "starts" else ["one"]
    async with Stage({name: section(tmp_path, text, name) for name in names}) as stage:
        if what == "hooks":
            stage.give(*(stage.request(sid=SID + number) for number in range(3)))
        elif what == "pieces":
            stage.give(stage.request(), stage.response("", b"x"))
        await until(lambda: len(stage.context.logged) == 3, stage)
        await stage.run()
        counts = [fields["beats"] for _, _, fields in stage.context.logged] + [stage.context.beats]
        assert all(before < after for before, after in pairwise(counts)), counts


# -- threads -----------------------------------------------------------------------------------

GATED = plugin(
    """
    def start(self, host):
        import threading
        self.host, self.gate = host, threading.Event()
    def stop(self): self.gate.set()
    async def request(self, exchange):
        if exchange.path == "/open":
            self.gate.set()
            return reply(200, "open")
        await self.host.in_thread(self.gate.wait, 30)
        return reply(200, "done")
    """
)


async def test_one_plugins_threads_are_not_anothers(tmp_path: Path) -> None:
    quick = plugin(
        """
        def start(self, host): self.host = host
        def request(self, exchange):
            if exchange.path == "/quick": return self.host.in_thread(reply, 200, "quick")
        """
    )
    plugins = {"quick": section(tmp_path, quick, "quick"), "gated": section(tmp_path, GATED, "gated", threads=1)}
    async with Stage(plugins) as stage:
        await stage.run(*(stage.request(sid=SID + number) for number in range(1, 11)))
        assert (await answered(stage, target="/quick")).body == b"quick"
        assert stage.actor.held() == 10


async def test_a_full_queue_sheds_and_all_that_fits_is_done(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, GATED, threads=1)}) as stage:
        stage.give(*(stage.request(sid=SID + number) for number in range(17)))
        await stage.run()
        for number in (17, 18):
            shed = await answered(stage, SID + number)
            assert (shed.status, shed.report and shed.report.error) == (503, "overloaded")
        assert stage.context.counted == {"plugin_sheds": 2}
        level, _, fields = stage.context.logged[-1]
        assert (level, fields["plugin"]) == ("warn", "mine")
        stage.give(stage.request("/open", sid=SID + 20))
        out = await outs(stage, 18)
        assert {answer.status for answer in out} == {200}


async def test_a_job_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with Stage({"mine": section(tmp_path, GATED, threads=1, timeout="100ms")}) as stage:
        stage.give(stage.request(), stage.request(sid=SID + 1))
        out = await outs(stage, 2)
        assert {answer.sid: answer.status for answer in out} == {SID: 500, SID + 1: 503}


@pytest.mark.parametrize("way", ["return await self.host.in_thread(JOB)", "return (await asyncio.gather(self.host.in_thread(JOB)))[0]"])
@pytest.mark.slow
async def test_waiting_for_a_thread_is_not_the_hooks_time(tmp_path: Path, way: str) -> None:
    code = plugin("def start(self, host): self.host = host\nasync def request(self, exchange): " + way.replace("JOB", "self.job"))
    code += textwrap.indent("def job(self):\n    time.sleep(0.2)\n    return reply(200, 'x')\n", "    ")
    async with Stage({"mine": section(tmp_path, code, threads=1, timeout="1s")}) as stage:
        [live] = stage.actor._compiler._live.values()
        mine: Any = live.plugin
        mine.host._threads._waits = 60.0
        stage.give(*(stage.request(sid=SID + number) for number in range(8)))
        out = await outs(stage, 8)
        assert {answer.status for answer in out} == {200}


async def test_what_a_plugin_logs_and_counts_can_travel(tmp_path: Path) -> None:
    code = plugin(
        """
        def start(self, host):
            host.log("info", KeyError("x"), what={1}, fine=1.5)
            host.count("n", __import__("decimal").Decimal(2), kind=7)
        def request(self, exchange): pass
        """
    )
    async with Stage({"mine": section(tmp_path, code)}) as stage:
        assert stage.context.logged == [("info", "'x'", {"plugin": "mine", "what": "{1}", "fine": 1.5})]
        assert (type(stage.context.counted["n"]), stage.context.counted["n"]) == (float, 2.0)


def test_the_words_of_these_tests_are_python() -> None:
    for place in PLACES:
        compile(HEAD + code_of(place, "raise Odd"), place, "exec")


FORGOTTEN = """
import asyncio
from pingap.stages.plugins import driving

async def stubborn():
    while True:
        try: await asyncio.sleep(60)
        except BaseException: pass

async def main():
    hook = stubborn()
    hook.send(None)
    try: hook.close()
    except RuntimeError: driving._forgotten.append(hook)

asyncio.run(main())
"""


@pytest.mark.processes
def test_a_hook_that_does_not_take_its_end_does_not_keep_the_process() -> None:
    """Collected without a loop, its `sleep` would raise what it takes, for ever."""
    assert subprocess.run([sys.executable, "-c", FORGOTTEN], check=False, timeout=30).returncode == 0
