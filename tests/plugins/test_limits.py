"""`limit`: one owner counts for each key, whoever asks and whoever dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pingap.stages import claims
from pingap.stages.leases import Leases
from pingap.stages.messages import Cancel, Claim, Claimed, Done, Response, Routed
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.limits import BUCKET, INFLIGHT, RATE, LimitCounters
from tests.plugins.script import ACCEPT, CONFIG, FAR, OTHER, PLUGINS, ROUTING, SID, UPSTREAM, Stage

Section = dict[str, Any]
PAIR: Section = {"category": "limit", "type": "inflight", "max": 2}


# -- counting ------------------------------------------------------------------


def verdicts(limits: LimitCounters) -> Any:
    """(key, args, now) → what the judge says."""
    leases = Leases()
    return lambda key, args, now: limits.judge(leases, Claim(SID, PLUGINS, key, args), now)


def test_a_rate_blends_the_window_before_with_the_current_one() -> None:
    verdict = verdicts(LimitCounters())
    args = (RATE, 1.0, 10.0, 0.25)

    def value(now: float) -> float:
        result: float = verdict("k", args, now).value
        return result

    assert [value(100.0 + second) for second in range(4)] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert value(110.0) == pytest.approx((4 * 0.75 + 1 * 0.25) / 10)
    assert value(125.0) == pytest.approx((1 * 0.75 + 1 * 0.25) / 10)
    assert value(160.0) == pytest.approx(0.025)


def test_weight_0_goes_by_the_window_before_alone() -> None:
    verdict = verdicts(LimitCounters())
    args = (RATE, 0.2, 10.0, 0.0)
    assert all(verdict("k", args, 100.0).allowed for _ in range(9))
    assert verdict("k", args, 110.0)[:2] == (False, 0.9)


def test_rates_are_forgotten_from_the_least_recent_one_on() -> None:
    limits = LimitCounters(keys=3)
    verdict = verdicts(limits)
    for name in "abcabd":
        verdict(name, (RATE, 1.0, 10.0, 1.0), 100.0)
    assert len(limits) == 3
    assert verdict("a", (RATE, 1.0, 10.0, 1.0), 100.0).value == pytest.approx(0.3)
    assert verdict("c", (RATE, 1.0, 10.0, 1.0), 100.0).value == pytest.approx(0.1)


# -- one replica ------------------------------------------------------------------


async def passed(stage: Stage, sid: int, **more: Any) -> bool:
    envelope = await stage.one(stage.request(sid=sid, **more))
    if isinstance(envelope, Response):
        assert envelope.status == 429
        return False
    assert isinstance(envelope, Routed)
    return True


async def test_requests_in_flight_are_counted_until_accept_says_done() -> None:
    async with Stage({"p": PAIR}) as stage:
        [routed] = await stage.run(stage.request(sid=SID))
        assert routed.watchers == (PLUGINS,)
        assert await passed(stage, SID + 1)
        [refused] = await stage.run(stage.request(sid=SID + 2))
        assert (refused.status, refused.body) == (429, b"Plugin limit, exceed limit 3/2")
        assert await passed(stage, SID + 3, client_ip="192.0.2.8")
        await stage.run(Done(SID))
        assert await passed(stage, SID + 4)
        assert not await passed(stage, SID + 5)


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        assert await passed(stage, SID)
        await stage.run(Cancel(SID, "client"))
        assert await passed(stage, SID + 1)


async def test_a_cancel_that_overtakes_its_request_takes_no_place() -> None:
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        assert await stage.run(Cancel(SID, "client")) == []
        assert await stage.run(stage.request(sid=SID)) == []
        assert await passed(stage, SID + 1)


async def test_a_place_is_held_while_another_plugin_answers() -> None:
    plugins = {"p": {**PAIR, "max": 1}, "mock": {"category": "mock", "data": "x"}}
    async with Stage(plugins) as stage:
        mocked = await stage.one(stage.request(sid=SID))
        assert (mocked.status, mocked.watchers) == (200, (PLUGINS,))
        assert (await stage.one(stage.request(sid=SID + 1))).status == 429


async def test_a_limit_goes_on_counting_across_reloads_unless_it_changed() -> None:
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        assert await passed(stage, SID)
        stage.load({"p": {**PAIR, "max": 1, "remark": "same"}})
        assert not await passed(stage, SID + 1)
        stage.load({"p": {**PAIR, "max": 1, "tag": "header", "key": "x"}})
        assert await passed(stage, SID + 2, headers="x: 192.0.2.7")


@pytest.mark.parametrize(
    ("keys", "request_keys"),
    [
        ({"tag": "header", "key": "X-Key"}, {"headers": "x-key: a"}),
        ({"tag": "cookie", "key": "id"}, {"headers": "cookie: x=1; id=a"}),
        ({"tag": "query", "key": "id"}, {"target": "/?x=1&id=a"}),
    ],
)
async def test_what_is_limited_is_each_value_and_not_who_has_none(keys: Section, request_keys: Section) -> None:
    async with Stage({"p": {**PAIR, **keys, "max": 1}}) as stage:
        assert await passed(stage, SID, **request_keys)
        assert not await passed(stage, SID + 1, **request_keys)
        assert await passed(stage, SID + 2, **{name: value.replace("a", "b") for name, value in request_keys.items()})
        assert await passed(stage, SID + 3) and await passed(stage, SID + 4)


async def test_a_rate_says_what_it_is_and_what_it_may_be() -> None:
    async with Stage({"p": {"category": "limit", "max": 10, "interval": "10s", "weight": 100}}) as stage:
        answers = [await stage.one(stage.request(sid=SID + number)) for number in range(40)]
    refused = [answer for answer in answers if isinstance(answer, Response)]
    assert refused[0].body == b"Plugin limit, exceed limit 1.1/1"
    assert {answer.status for answer in refused} == {429}


# -- several replicas ------------------------------------------------------------------


def two(stage: Stage) -> None:
    stage.members(ACCEPT, FAR, ROUTING, PLUGINS, UPSTREAM, OTHER, CONFIG)


async def of_other(stage: Stage) -> dict[str, Any]:
    """Keys of a request whose limit the other replica owns, and its CLAIM."""
    for number in range(100):
        ip = f"192.0.2.{number}"
        [envelope] = await stage.run(stage.request(client_ip=ip, sid=SID + 1000 + number))
        if isinstance(envelope, Claim):
            stage.feed(Claimed(envelope.sid, envelope.key, True))
            await stage.run()
            return {"client_ip": ip}
        await stage.run(Done(SID + 1000 + number))
    raise AssertionError("the other replica owns nothing")


async def test_the_owner_of_a_key_is_asked_and_told_of_the_end() -> None:
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        two(stage)
        theirs = await of_other(stage)
        stage.give(stage.request(**theirs))
        await asyncio.sleep(0)
        [(to, claim)] = stage.sent()
        assert (to, claim.asker, claim.args) == (OTHER, PLUGINS, (INFLIGHT, 1))
        [routed] = await stage.run(Claimed(SID, claim.key, True, 1))
        assert isinstance(routed, Routed)
        stage.give(Done(SID))
        assert stage.context.sent == [(OTHER, Done(SID))]


async def test_a_claim_that_the_owner_refuses_is_429_with_its_count() -> None:
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        two(stage)
        theirs = await of_other(stage)
        [claim] = await stage.run(stage.request(**theirs))
        [refused] = await stage.run(Claimed(SID, claim.key, False, 2))
        assert (refused.status, refused.body) == (429, b"Plugin limit, exceed limit 2/1")


async def test_an_owner_that_is_silent_lets_requests_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "WAIT", 0.01)
    async with Stage({"p": {**PAIR, "max": 1}}) as stage:
        two(stage)
        theirs = await of_other(stage)
        await stage.run(stage.request(**theirs))
        await stage.actor.streams.by_sid[SID].task  # type: ignore[misc]
        assert [type(envelope) for envelope in stage.out()] == [Routed]
        assert stage.context.counted["limit_claims_unanswered"] == 1


async def test_this_replica_counts_for_others_until_they_or_their_clients_are_gone() -> None:
    async with Stage({"p": PAIR}) as stage:
        two(stage)
        far = FAR << 32

        def claim(sid: int, asker: int) -> Any:
            [answer] = stage.feed(Claim(sid, asker, "key", (INFLIGHT, 2)))
            return answer

        assert claim(SID, OTHER) == Claimed(SID, "key", True, 1, remaining=1)
        assert claim(far, OTHER).allowed
        assert claim(SID + 2, OTHER) == Claimed(SID + 2, "key", False, 3, remaining=0)
        stage.feed(Done(far))
        assert claim(SID + 2, OTHER).allowed
        stage.members(ACCEPT, FAR, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        assert claim(SID + 3, PLUGINS) == Claimed(SID + 3, "key", True, 1, remaining=1)
        stage.members(FAR, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        assert claim(far + 4, PLUGINS).value == 1


@pytest.mark.parametrize("args", [("tea", 1), (RATE, 1.0, 0.0, 0.5), (BUCKET, 0, 1000, 0)])
async def test_arguments_that_are_none_of_a_claim_fail_in_the_hook_that_gives_them(args: tuple[Any, ...]) -> None:
    async with Stage({"p": PAIR}) as stage:
        claim = stage.actor._shared.claims.claim
        with pytest.raises(ValueError, match="no arguments of a claim"):
            claim(Exchange(stage.request()), "key", args)
