"""The keys of `limit`, and what clients hear of it. What counts is in test_limits.py and test_limit_counters.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import Note
from pingap.plugin import Verdict
from pingap.stages.itinerary import RESPONSE_PLUGINS
from pingap.stages.leases import Leases
from pingap.stages.messages import Cancel, Claim, Done, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.limit import Limit, LimitSettings
from pingap.stages.plugins.builtin.limits import queue as limit_queue
from pingap.stages.plugins.builtin.limits.fields import LimitFields, quoted
from pingap.stages.plugins.builtin.limits.queue import LimitQueue
from pingap.stages.plugins.limits import LimitCounters
from tests.plugins.script import SID, Stage, lines

Section = dict[str, Any]
ONE: Section = {"category": "limit", "max": 1, "interval": "1m", "weight": 100}
BUCKET: Section = {"category": "limit", "algorithm": "bucket", "max": 1, "interval": "1m"}
SLOW: Section = {**BUCKET, "interval": "10s", "burst": 2}


def told(answer: Any, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answer.headers) if line.startswith(f"{name}: ")]


async def asked(stage: Stage, count: int, **more: Any) -> list[int]:
    """The status of each of so many requests: 0 for one that went on, 1 for one that waits."""
    found = []
    for _ in range(count):
        stage.last = getattr(stage, "last", SID) + 1  # type: ignore[attr-defined]
        out = await stage.run(stage.request(sid=stage.last, **more))  # type: ignore[attr-defined]
        found.append(1 if not out else out[0].status if isinstance(out[0], Response) else 0)
    return found


async def statuses(section: Section, count: int, **more: Any) -> list[int]:
    async with Stage({"p": section}) as stage:
        return await asked(stage, count, **more)


# -- what is counted ----------------------------------------------------------------


async def test_variables_are_a_key_together() -> None:
    async with Stage({"p": {**ONE, "tag": "variables", "key": "$remote_addr$http_x_api_key"}}) as stage:
        assert await asked(stage, 2, headers="x-api-key: a") == [0, 429]
        assert await asked(stage, 2, headers="x-api-key: b") == [0, 429]
        assert await asked(stage, 2, headers="x-api-key: a", client_ip="192.0.2.9") == [0, 429], "the client, not the proxy before us"
        assert await asked(stage, 2) == [0, 429]


async def test_each_variable_counts_by_itself_wherever_the_next_begins() -> None:
    async with Stage({"p": {**ONE, "tag": "variables", "key": "$remote_addr$http_x_api_key"}}) as stage:
        assert await asked(stage, 2, headers="x-api-key: 2victim", client_ip="10.0.0.1") == [0, 429]
        assert await asked(stage, 2, headers="x-api-key: victim", client_ip="10.0.0.12") == [0, 429]
    async with Stage({"p": {**ONE, "tag": "variables", "key": "$http_a-$http_b"}}) as stage:
        assert await asked(stage, 1, headers="a: x-y\r\nb: z") == [0]
        assert await asked(stage, 1, headers="a: x\r\nb: y-z") == [0]
        assert await asked(stage, 1, headers="a: x-y\r\nb: z") == [429]


async def test_who_has_no_value_of_the_variables_is_not_limited() -> None:
    assert await statuses({**ONE, "tag": "variables", "key": "$http_x_api_key"}, 3) == [0, 0, 0]


async def test_a_long_value_is_counted_by_its_digest() -> None:
    async with Stage({"p": {**ONE, "tag": "header", "key": "x"}}) as stage:
        for letter in "ab":
            assert await asked(stage, 2, headers=f"x: {'é' * 50_000}{letter}") == [0, 429]
        rates = stage.actor._claims._judge.__self__._rates  # type: ignore[attr-defined]
        assert max(map(len, rates)) < 100


async def test_exempt_clients_are_not_limited() -> None:
    section = {**ONE, "exempt": ["192.0.2.0/30", "2001:db8::1"]}
    async with Stage({"p": section}) as stage:
        assert await asked(stage, 3, client_ip="192.0.2.3") == [0, 0, 0]
        assert await asked(stage, 3, client_ip="2001:db8::1") == [0, 0, 0]
        assert await asked(stage, 3, client_ip="192.0.2.4") == [0, 429, 429]


async def test_two_limits_of_a_location_are_asked_in_turn() -> None:
    key = {**ONE, "max": 3, "tag": "header", "key": "x"}
    async with Stage({"each": {**ONE, "max": 2}, "key": key}) as stage:
        assert await asked(stage, 3, headers="x: a") == [0, 0, 429]
        assert await asked(stage, 3, headers="x: a", client_ip="192.0.2.9") == [0, 429, 429]


async def test_what_does_not_count_may_change_without_counting_anew() -> None:
    async with Stage({"p": ONE}) as stage:
        assert await asked(stage, 2) == [0, 429]
        stage.load({"p": {**ONE, "status": 503, "message": "x", "exempt": ["10.0.0.1"], "ratelimit_headers": True}})
        assert await asked(stage, 1) == [503]
        stage.load({"p": {**ONE, "interval": "2m"}})
        assert await asked(stage, 1) == [0]


# -- buckets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [0, 429, 429, 429, 429]),
        ({"burst": 2}, [0, 429, 429, 429, 429]),  # they would wait longer than max_wait
        ({"burst": 2, "interval": "5s"}, [0, 1, 1, 429, 429]),
        ({"burst": 2, "interval": "5s", "max": 10}, [0, 1, 1, 429, 429]),
        ({"burst": 3, "interval": "5s", "delay": 1}, [0, 0, 1, 1, 429]),
        ({"burst": 2, "nodelay": True}, [0, 0, 0, 429, 429]),
        ({"burst": 3, "interval": "10s", "max_wait": "20s"}, [0, 1, 1, 429, 429]),
    ],
)
async def test_a_bucket_lets_pass_holds_back_and_refuses(keys: Section, expected: list[int]) -> None:
    assert await statuses({**BUCKET, **keys, "interval": keys.get("interval", "61s")}, 5) == expected


async def test_a_request_that_waited_goes_on() -> None:
    section = {**BUCKET, "max": 50, "interval": "1s", "burst": 1}
    async with Stage({"p": section}) as stage:
        assert await asked(stage, 2) == [0, 1]
        [late] = stage.actor.streams.by_sid
        await stage.actor.streams.by_sid[late].task  # type: ignore[misc]
        [routed] = stage.out()
        assert isinstance(routed, Routed)
        assert routed.variables["limit_status"] == "DELAYED"
        assert stage.actor.held() == 0


async def test_a_client_that_leaves_the_queue_gives_its_room_back_but_not_its_turn() -> None:
    async with Stage({"p": SLOW}) as stage:
        assert await asked(stage, 3) == [0, 1, 1]
        assert limit_queue.QUEUE.waiting == 2
        await stage.run(Cancel(SID + 2, "client"))
        assert limit_queue.QUEUE.waiting == 1
        assert await asked(stage, 1) == [429]
        await stage.run(Cancel(SID + 3, "client"))
        assert (limit_queue.QUEUE.waiting, stage.actor.held()) == (0, 0)


async def test_who_finds_no_room_to_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.builtin.limit.QUEUE", LimitQueue(1))
    async with Stage({"p": SLOW}) as stage:
        assert await asked(stage, 2) == [0, 1]
        refused = await stage.one(stage.request(sid=SID + 99))
        assert (refused.status, told(refused, "retry-after")) == (429, ["20"]), "when its turn would have been"
        assert stage.context.counted["limit_queue_full"] == 1
        await stage.run(Cancel(SID + 2, "client"))


async def test_the_end_of_the_stage_ends_who_waits() -> None:
    async with Stage({"p": SLOW}) as stage:
        assert await asked(stage, 2) == [0, 1]
    await asyncio.sleep(0)
    assert limit_queue.QUEUE.waiting == 0


# -- what clients hear ----------------------------------------------------------------


async def test_a_refusal_says_when_to_come_back() -> None:
    async with Stage({"api": {**BUCKET, "interval": "10s", "burst": 1, "nodelay": True}}) as stage:
        assert await asked(stage, 2) == [0, 0]
        refused = await stage.one(stage.request(sid=SID + 9))
    assert (refused.status, refused.body) == (429, b"Plugin limit, exceed limit 2/1")
    assert told(refused, "retry-after") == ["10"]
    assert told(refused, "ratelimit-policy") == ['"api";q=2;w=20']
    assert told(refused, "ratelimit") == ['"api";r=0;t=10'], "nothing is left until then"
    assert refused.report.context["limit_status"] == "REJECTED"


async def test_a_refused_rate_says_when_its_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage({"api": {**ONE, "max": 2, "interval": "1h"}}) as stage:
        stage.actor._claims._clock = lambda: 3600.0 * 1000 + 600
        assert await asked(stage, 2) == [0, 0]
        refused = await stage.one(stage.request(sid=SID + 9))
    assert told(refused, "retry-after") == ["3000"]
    assert told(refused, "ratelimit-policy") == ['"api";q=2;w=3600']
    assert told(refused, "ratelimit") == ['"api";r=0;t=3000']


@pytest.mark.parametrize(
    ("keys", "policy"),
    [
        ({"interval": "200ms", "max": 10}, "q=10;w=1"),
        ({"interval": "1500ms", "max": 3}, "q=4;w=2"),
        ({"algorithm": "bucket", "interval": "1s", "max": 100, "burst": 19}, "q=100;w=1"),
        ({"max": 10**16}, "q=999999999999999;w=10"),
    ],
)
async def test_a_policy_is_for_whole_seconds(keys: Section, policy: str) -> None:
    async with Stage({"p": {"category": "limit", "ratelimit_headers": True, **keys}}) as stage:
        assert told(await stage.exchange(answer="x: y"), "ratelimit-policy") == [f'"p";{policy}']


@pytest.mark.parametrize("keys", [{"max": 1, "interval": "200ms"}, {"max": 0}, {"max": 0, "type": "inflight"}])
async def test_where_nobody_ever_passes_nobody_is_told_to_come_back(keys: Section) -> None:
    [note] = checking.Checker()("p", {"category": "limit", **keys})
    assert (type(note), note.path) == (Note, "plugins.p.max")
    least = int(note.hint.rpartition(" ")[2])
    assert checking.Checker()("p", {"category": "limit", **keys, "max": least}) == []
    async with Stage({"p": {"category": "limit", **keys}}) as stage:
        refused = await stage.one(stage.request(sid=SID + 9))
    assert (refused.status, told(refused, "retry-after")) == (429, [])
    assert await statuses({"category": "limit", **keys, "max": least}, 1) == [0]


@given(
    st.integers(1, 12),
    st.sampled_from([1, 30, 200, 333, 500, 999, 1000, 1500, 10_000]),
    st.one_of(
        st.fixed_dictionaries({"weight": st.sampled_from([0, 1, 10, 50, 99, 100])}),
        st.fixed_dictionaries({"algorithm": st.just("bucket"), "burst": st.integers(0, 4), "nodelay": st.booleans()}),
    ),
    st.lists(st.floats(0, 1.2), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_who_waits_as_long_as_was_said_is_let_pass(most: int, ms: int, keys: Section, gaps: list[float], start: float) -> None:
    """gaps: in intervals."""
    plugin = Limit(LimitSettings.model_validate({"category": "limit", "max": most, "interval": f"{ms}ms", **keys}))
    fields = LimitFields("p", *plugin._quota, comes_back=plugin._lets_pass())
    counters, leases, now = LimitCounters(), Leases(), 1000 + start
    claim = Claim(SID, 1, "k", plugin._args)
    passed = False
    for gap in gaps:
        verdict = counters.judge(leases, claim, now)
        passed = passed or verdict.allowed
        if verdict.allowed:
            now += gap * ms / 1000
            continue
        told = dict(fields.refusal(verdict))
        if "retry-after" not in told:
            assert not passed and not plugin._lets_pass()
            return
        wait = int(told["retry-after"])
        assert wait >= int(told["ratelimit"].partition(";t=")[2])
        now += wait
        assert counters.judge(leases, claim, now).allowed


async def test_requests_in_flight_have_no_window() -> None:
    async with Stage({"api": {"category": "limit", "type": "inflight", "max": 1}}) as stage:
        assert await asked(stage, 1) == [0]
        refused = await stage.one(stage.request(sid=SID + 9))
    assert told(refused, "retry-after") == ["1"]
    assert told(refused, "ratelimit-policy") == ['"api";q=1;qu="concurrent-requests"']
    assert told(refused, "ratelimit") == ['"api";r=0']


async def test_answers_of_backends_say_what_is_left_where_that_is_wanted() -> None:
    async with Stage({"p": {**ONE, "max": 3}}) as stage:
        assert not stage.plan & RESPONSE_PLUGINS, "answers need not come here"
    async with Stage({"a": {**ONE, "max": 3, "ratelimit_headers": True}, "b": {**SLOW, "ratelimit_headers": True}}) as stage:
        answer = await stage.exchange(answer="x: y")
        assert told(answer, "ratelimit-policy") == ['"a";q=3;w=60', '"b";q=3;w=30']
        assert told(answer, "ratelimit")[0].startswith('"a";r=2;t=')
        assert told(answer, "ratelimit")[1] == '"b";r=2;t=0'


async def test_who_is_not_limited_hears_nothing() -> None:
    async with Stage({"p": {**ONE, "ratelimit_headers": True, "exempt": ["192.0.2.7"]}}) as stage:
        assert lines((await stage.exchange(answer="x: y")).headers) == ["x: y"]


async def test_status_and_message_are_those_of_the_settings() -> None:
    async with Stage({"p": {**ONE, "status": 503, "message": "later"}}) as stage:
        await asked(stage, 1)
        refused = await stage.one(stage.request(sid=SID + 9))
        assert (refused.status, refused.body, told(refused, "content-type")) == (503, b"later", ["text/plain; charset=utf-8"])
        assert stage.context.counted["limit_refused"] == 1


async def test_a_dry_run_refuses_nobody_and_tells() -> None:
    async with Stage({"p": {**ONE, "dry_run": True}}) as stage:
        assert await asked(stage, 4) == [0, 0, 0, 0]
        [routed] = await stage.run(stage.request(sid=SID + 9))
        assert routed.variables["limit_status"] == "REJECTED_DRY_RUN"
        assert stage.context.counted["limit_dry_refused"] == 4
        assert "limit_refused" not in stage.context.counted
        [(level, _, fields)] = [entry for entry in stage.context.logged if "dry_run" in entry[1]]
        assert (level, fields["plugin"], fields["client"]) == ("warn", "p", "192.0.2.7")


async def test_nobody_waits_in_a_dry_run() -> None:
    async with Stage({"p": {**SLOW, "dry_run": True}}) as stage:
        assert await asked(stage, 1) == [0]
        [routed] = await stage.run(stage.request(sid=SID + 9))
        assert routed.variables["limit_status"] == "DELAYED_DRY_RUN"


async def test_the_step_is_that_of_the_settings() -> None:
    plugins = {"p": {**ONE, "step": "proxy_upstream", "ratelimit_headers": True}, "mock": {"category": "mock", "path": "/m", "data": "x"}}
    async with Stage(plugins) as stage:
        assert await asked(stage, 3, target="/m") == [200, 200, 200]
        assert await asked(stage, 2) == [0, 429]
        await stage.run(Done(SID))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("api", '"api"'), ('a "b" \\', '"a \\"b\\" \\\\"'), ("für", '"f%C3%BCr"'), ("50%", '"50%25"'), ("a\tb", '"a%09b"')],
)
def test_names_of_policies_are_strings_of_structured_fields(name: str, expected: str) -> None:
    assert quoted(name) == expected


def test_a_verdict_that_nobody_counted_has_no_fields() -> None:
    fields = LimitFields("p", 5, 10.0)
    assert fields.left(Verdict(True, 0.0)) == ""
    assert fields.refusal(Verdict(False, 0.0)) == [("retry-after", "1")]


# -- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"algorithm": "leaky"}, "algorithm"),
        ({"tag": "variables"}, "key"),
        ({"tag": "variables", "key": "everybody"}, "key"),
        ({"tag": "header", "key": "a b"}, "key"),
        ({"algorithm": "bucket", "max": 0}, "max"),
        ({"algorithm": "bucket", "max": 1, "interval": "2000s"}, "max"),
        ({"algorithm": "bucket", "max": 1, "burst": 3, "delay": 2, "nodelay": True}, "delay"),
        ({"interval": "0s"}, "interval"),
        ({"algorithm": "bucket", "max_wait": "61m"}, "max_wait"),
        ({"algorithm": "bucket", "interval": "0s"}, "interval"),
        ({"burst": -1}, "burst"),
        ({"status": 200}, "status"),
        ({"exempt": ["10.0.0.0/40"]}, "exempt[0]"),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: Section, key: str) -> None:
    problems = checking.check("p", {"category": "limit", "max": 1, **keys})
    assert [problem.path for problem in problems] == [f"plugins.p.{key}"]


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"type": "inflight", "algorithm": "bucket"}, "algorithm"),
        ({"burst": 3}, "burst"),
        ({"delay": 3}, "delay"),
        ({"nodelay": True}, "nodelay"),
        ({"max_wait": "1s"}, "max_wait"),
        ({"algorithm": "bucket", "weight": 1}, "weight"),
        ({"algorithm": "bucket", "burst": 1, "delay": 2}, "delay"),
        ({"algorithm": "bucket", "burst": 30}, "burst"),
        ({"key": "X-Key"}, "key"),
    ],
)
def test_a_key_without_effect_is_told(keys: Section, key: str) -> None:
    found = checking.Checker()("p", {"category": "limit", "max": 1, **keys})
    assert [(type(note), note.path) for note in found] == [(Note, f"plugins.p.{key}")]
