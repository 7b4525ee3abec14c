"""`traffic_splitting`: which requests go to the other upstream."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.config.problems import ConfigRefused, Note, Problem
from pingap.plugin import CONTINUE, Exchange
from pingap.stages.messages import Affinity, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.exact_share import BLOCK, WHOLE, ExactShare
from pingap.stages.plugins.builtin.traffic_splitting import TrafficSplitting, TrafficSplittingSettings
from tests.kit.config import load_text
from tests.plugins import script
from tests.plugins.script import Stage

Section = dict[str, Any]
CANARY = {"category": "traffic_splitting", "upstream": "canary"}
COOKIE = {**CANARY, "stickiness": True, "sticky_cookie": "device"}
HEADER = {**CANARY, "stickiness": True, "sticky_header": "X-Group"}


# fmt: off
ROUTED = Routed(script.SID, 1, Affinity(script.ROUTING, script.PLUGINS, script.UPSTREAM), "s", script.PEER, b"GET", b"/", 11,
    b"example.com", b"", 0, b"", True, 0.5, b"", "192.0.2.7", "l", "u", 0, {}, (1.0, 2.0), b"", ())
# fmt: on


class Split(Stage):
    """A stage in whose configuration there are the upstreams u, canary and other."""

    def publish(self, made: Any, plans: dict[str, int]) -> None:
        upstreams = {name: Upstream(addrs=(Backend("127.0.0.1", 9000, 1),)) for name in ("u", "canary", "other")}
        super().publish(dataclasses.replace(made, upstreams=upstreams), plans)

    async def goes_to(self, headers: bytes = b"", **more: Any) -> str:
        routed = await self.one(replace(self.request(**more), headers=b"host: example.com\r\n" + headers))
        assert isinstance(routed, Routed)
        return routed.upstream


def cookie(value: str) -> bytes:
    return b"cookie: a=1; device=%b; b=2\r\n" % value.encode("latin-1")


# -- by chance -----------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0, 1, 25, 50, 99, 100])
async def test_the_share_is_exact(weight: int) -> None:
    async with Split({"p": {**CANARY, "weight": weight}}) as stage:
        for _ in range(3):
            found = Counter([await stage.goes_to() for _ in range(100)])
            assert found["canary"] == weight
            assert found["u"] == 100 - weight


@settings(max_examples=30)
@given(st.integers(0, WHOLE), st.integers(), st.integers(1, 2))
def test_a_share_is_met_to_a_request_in_each_hundred_and_exactly_in_ten_thousand(share: int, seed: int, rounds: int) -> None:
    dealt = ExactShare(share, random.Random(seed).shuffle)
    for _ in range(rounds):
        blocks = [sum(dealt.deal() for _ in range(BLOCK)) for _ in range(WHOLE // BLOCK)]
        assert sum(blocks) == share
        assert {share // BLOCK, -(-share // BLOCK)} >= set(blocks)


def test_nobody_can_tell_which_request_comes_next() -> None:
    """A page whose tenth file is always the same one must not have that file alone split."""
    dealt = ExactShare(1000, random.Random(1).shuffle)
    every_tenth = [[dealt.deal() for _ in range(10)] for _ in range(2000)]
    assert min(sum(place) for place in zip(*every_tenth, strict=True)) > 100


def test_hundredths_count() -> None:
    plugin = TrafficSplitting(TrafficSplittingSettings(upstream="canary", weight=0.25))
    exchange = Exchange(ROUTED, 0.0, frozenset(("u", "canary")))
    found = 0
    for _ in range(WHOLE):
        exchange._upstream = "u"
        plugin.request(exchange)
        found += exchange.upstream == "canary"
    assert found == 25


# -- by client -----------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0, 20, 100])
async def test_a_client_is_chosen_by_the_checksum_of_its_cookie(weight: int) -> None:
    async with Split({"p": {**COOKIE, "weight": weight}}) as stage:
        for number in range(300):
            value = f"device-{number}"
            expected = "canary" if crc32(value.encode()) % 100 < weight else "u"
            assert await stage.goes_to(cookie(value)) == expected


def test_the_share_of_many_clients_is_about_the_weight_and_none_is_lost_by_a_higher_one() -> None:
    def chosen(weight: float) -> set[int]:
        plugin = TrafficSplitting(TrafficSplittingSettings(upstream="canary", weight=weight, stickiness=True, sticky_header="X-Group"))
        requests = [replace(ROUTED, headers=b"x-group: c%d\r\n" % number) for number in range(10_000)]
        return {number for number, routed in enumerate(requests) if plugin.request(Exchange(routed, 0.0, {"canary"})) is CONTINUE}

    small, half, more = chosen(10), chosen(10.5), chosen(20)
    assert small < half < more
    assert (abs(len(small) - 1000) < 100, abs(len(half) - 1050) < 100, abs(len(more) - 2000) < 150) == (True, True, True)


@pytest.mark.parametrize("headers", [b"", b"cookie: other=1\r\n", b"cookie: device=\r\n", b"cookie: device\r\n"])
async def test_a_client_without_the_cookie_stays(headers: bytes) -> None:
    async with Split({"p": {**COOKIE, "weight": 100}}) as stage:
        assert await stage.goes_to(headers) == "u"
        assert await stage.goes_to(b"cookie: x=1\r\ncookie: device=7\r\n") == "canary", "HTTP/2 sends several lines"


async def test_a_client_is_known_by_a_header_and_the_cookie_comes_first() -> None:
    async with Split({"p": {**HEADER, "weight": 100}}) as stage:
        assert await stage.goes_to(b"x-group: a\r\n") == "canary"
        assert await stage.goes_to(b"x-group: \r\n") == await stage.goes_to() == "u"
    async with Split({"p": {**HEADER, **COOKIE, "weight": 100}}) as stage:
        assert await stage.goes_to(b"x-group: a\r\n") == "u"
        assert await stage.goes_to(cookie("1")) == "canary"


@pytest.mark.parametrize(("weight", "beta"), [(100, "canary"), (1, "canary"), (0, "u")])
async def test_a_group_is_chosen_by_what_is_found_in_the_value(weight: int, beta: str) -> None:
    async with Split({"p": {**HEADER, "weight": weight, "matcher": "^(beta|internal)$"}}) as stage:
        assert await stage.goes_to(b"x-group: beta\r\n") == beta
        for other in (b"beta2", b"BETA", b"\xff", b"a" * 100_000):
            assert await stage.goes_to(b"x-group: " + other + b"\r\n") == "u"
    async with Split({"p": {**HEADER, "weight": 100, "matcher": "."}}) as stage:
        assert await stage.goes_to(b"x-group: " + b"a" * 4097 + b"\r\n") == "u"


# -- where to --------------------------------------------------------------------------


async def test_of_several_the_last_one_that_chooses_has_the_request() -> None:
    first, second = {**CANARY, "weight": 100}, {**HEADER, "upstream": "other", "weight": 100}
    async with Split({"a": first, "b": second}) as stage:
        assert await stage.goes_to() == "canary"
        assert await stage.goes_to(b"x-group: 1\r\n") == "other"
    async with Split({"a": first, "b": second}, names=["b", "a"]) as stage:
        assert await stage.goes_to(b"x-group: 1\r\n") == "canary"


@pytest.mark.parametrize("written", ["$hall", "${hall}"])
async def test_a_capture_names_the_upstream(written: str) -> None:
    async with Split({"p": {**CANARY, "upstream": written, "weight": 100}}) as stage:
        assert await stage.goes_to(variables={"hall": "other"}) == "other"
        for wrong in ({"hall": "nowhere"}, {"hall": ["u"]}, {}):
            refused = await stage.one(stage.request(variables=wrong))
            assert isinstance(refused, Response) and refused.status == 503
        told = [fields for _, message, fields in stage.context.logged if "there is not" in message]
        assert told == [{"plugin": "p", "upstream": "nowhere", "capture": "hall"}], "not one line for each request"


async def test_a_location_without_an_upstream_answers_those_that_are_not_chosen_with_404() -> None:
    async with Split({"p": {**HEADER, "weight": 100}}, upstream="") as stage:
        assert await stage.goes_to(b"x-group: 1\r\n", upstream="") == "canary"
        missed = await stage.one(stage.request(upstream=""))
        assert isinstance(missed, Response) and missed.status == 404


async def test_an_upgrade_is_split_as_other_requests() -> None:
    async with Split({"p": {**CANARY, "weight": 100}}) as stage:
        assert await stage.goes_to(upgrade=b"websocket") == "canary"


# -- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"upstream": ""}, "upstream"),
        ({"upstream": "$"}, "upstream"),
        ({"stickiness": True}, "stickiness"),
        ({"stickiness": True, "sticky_cookie": "a=b"}, "sticky_cookie"),
        ({"stickiness": True, "sticky_header": "a b"}, "sticky_header"),
        ({"stickiness": True, "sticky_header": "a", "matcher": "("}, "matcher"),
        ({"weight": 1.234}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": "many"}, "weight"),
        ({"step": "response"}, "step"),
        ({"wieght": 5}, "wieght"),
    ],
)
def test_mistakes_are_refused(wrong: Section, key: str) -> None:
    assert [problem.path for problem in checking.check("p", {**CANARY, **wrong})] == [f"plugins.p.{key}"]


@pytest.mark.parametrize(
    ("taken", "noted"),
    [
        ({"weight": 10}, []),
        ({"weight": 150}, ["weight: 150 is taken for 100"]),
        ({"weight": -3}, ["weight: -3 is taken for 0"]),
        ({}, ["weight: 0: no request goes there"]),
        ({"weight": 5, "sticky_cookie": "a"}, ["sticky_cookie: without effect: it takes stickiness = true"]),
        ({"weight": 5, "matcher": "a"}, ["matcher: without effect: it takes stickiness = true"]),
        ({"weight": 100, "stickiness": True, "sticky_cookie": "a", "sticky_header": "b"}, ["sticky_header: without effect"]),
        ({"weight": 5, "stickiness": True, "sticky_cookie": "a", "matcher": "b"}, ["weight: without effect beside matcher"]),
        ({"weight": "10"}, ["weight: the text '10' is taken for the number 10"]),
    ],
)
def test_what_has_no_effect_is_noted(taken: Section, noted: list[str]) -> None:
    told = checking.Checker()("p", {**CANARY, **taken})
    assert not [one for one in told if isinstance(one, Problem)]
    found = [f"{one.path.removeprefix('plugins.p.')}: {one.message}" for one in told if isinstance(one, Note)]
    assert len(found) == len(noted) and all(map(str.startswith, found, noted)), found


@pytest.mark.parametrize(("weight", "share"), [(150, 100), (-3, 0)])
async def test_a_weight_out_of_bounds_is_the_next_one_within(weight: int, share: int) -> None:
    async with Split({"p": {**CANARY, "weight": weight}}) as stage:
        assert [await stage.goes_to() for _ in range(100)].count("canary") == share


def test_an_upstream_that_is_not_configured_is_refused() -> None:
    text = """
        [servers.s]
        addr = "127.0.0.1:8080"
        locations = ["l"]
        [upstreams.app]
        addrs = ["127.0.0.1:9000"]
        [locations.l]
        upstream = "app"
        plugins = ["p"]
        [plugins.p]
        category = "traffic_splitting"
        weight = 5
        upstream = """
    with pytest.raises(ConfigRefused) as refused:
        load_text(text + '"ap"', plugin_checker=checking.Checker())
    [problem] = refused.value.problems
    assert (problem.path, problem.message) == ("plugins.p.upstream", "upstream 'ap' does not exist")
    load_text(text + '"$hall"', plugin_checker=checking.Checker())
    load_text(text + '"app"', plugin_checker=checking.Checker())
