"""The scripts by which a store counts, in a real server: beside the counters of this host, by a clock in the tests' hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pingap.stages.leases import Leases
from pingap.stages.messages import Claim
from pingap.stages.plugins.builtin.limits.scripts import FILL, GIVE_BACK, LEASE, RENEW, TAKE, WINDOW, question, verdict_of
from pingap.stages.plugins.limits import BUCKET, INFLIGHT, RATE, LimitCounters
from tests.kit.redis_server import RedisServer

pytestmark = pytest.mark.processes

START = 1_800_000_000_000
"""Milliseconds."""

THOUSANDS = st.integers(0, 9).map(lambda number: number * 1000)
GAPS = st.lists(st.sampled_from([0, 0, 0, 1, 7, 50, 99, 100, 101, 400, 1000, 2500, 61_000]), min_size=1, max_size=30)


class Server:
    """A server whose scripts go by `now`, in ms, and whose keys stay."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.now = START
        self._keys = 0

    def new_key(self) -> str:
        self._keys += 1
        return f"key{self._keys}"

    def ask(self, args: tuple[Any, ...], key: str, lease: str = "") -> Any:
        script, more = question(args, lease)
        text = script.text.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}").replace("'PX', ", "'PX', 1000000 + ")
        return verdict_of(args, self.client.eval(text, 1, key, *more, self.now // 1000, self.now % 1000 * 1000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis, redis.client() as client:
        yield Server(client)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    GAPS,
    st.one_of(
        st.tuples(st.just(BUCKET), st.integers(1, 50_000), THOUSANDS, THOUSANDS),
        st.tuples(st.just(RATE), st.integers(0, 9).map(float), st.sampled_from([0.05, 1.0, 10.0]), st.sampled_from([0.0, 0.25, 1.0])),
    ),
)
def test_a_store_counts_as_this_host_does(server: Server, gaps: list[int], args: tuple[Any, ...]) -> None:
    limits, leases, key = LimitCounters(), Leases(), server.new_key()
    server.now = START
    for number, gap in enumerate(gaps):
        server.now += gap
        theirs = server.ask(args, key)
        ours = limits.judge(leases, Claim(number, 1, "k", args), server.now / 1000 + 1e-5)
        assert theirs[:2] == ours[:2]
        assert theirs.remaining == ours.remaining
        assert theirs.wait == pytest.approx(ours.wait, abs=1e-3)
        assert theirs.reset == pytest.approx(ours.reset, abs=1e-3)


def test_a_clock_that_is_set_back_lets_nobody_pass_twice(server: Server) -> None:
    for args in ((BUCKET, 1_000, 0, 0), (RATE, 0.1, 10.0, 1.0)):
        key, server.now = server.new_key(), START + 5_000
        assert server.ask(args, key).allowed
        server.now = START - 30_000
        assert not server.ask(args, key).allowed


def test_keys_are_forgotten_when_they_say_nothing_any_more(server: Server) -> None:
    client = server.client
    for script, args, least, most in (
        (FILL, (1_000, 5_000), 900, 1_001),
        (FILL, (1_000, 5_000), 1_900, 2_001),
        (WINDOW, (10_000,), 19_900, 20_000),
        (TAKE, (5, 4_000, "id"), 3_900, 4_000),
        (RENEW, (9_000, "id"), 8_900, 9_000),
    ):
        key = f"ttl {script.digest}"
        client.eval(script.text, 1, key, *args)
        if script is TAKE:
            assert client.zrange(key, 0, -1) == ["id"]
        assert least <= client.pttl(key) <= most


def test_places_end_by_themselves_unless_they_are_renewed(server: Server) -> None:
    args, key, server.now = (INFLIGHT, 2), server.new_key(), START
    assert [server.ask(args, key, lease)[:2] for lease in "abc"] == [(True, 1), (True, 2), (False, 3)]
    server.client.eval(GIVE_BACK.text, 1, key, "a")
    assert server.ask(args, key, "d").remaining == 0
    server.now += int(LEASE * 1000) - 1
    assert not server.ask(args, key, "e").allowed
    server.now += 2
    assert server.ask(args, key, "e") == (True, 1, 0, 1, 0)


@pytest.mark.parametrize("back", [100, 30_000, 90_000, 86_400_000])
def test_a_clock_that_is_set_back_keeps_nobody_out(server: Server, back: int) -> None:
    args, key, server.now = (BUCKET, 1_000, 2_000, 2_000), server.new_key(), START
    assert server.ask(args, key).allowed
    server.now = START - back
    assert [server.ask(args, key).allowed for _ in range(3)] == [True, True, False]
    server.now += 62_000
    assert server.ask(args, key).allowed


@pytest.mark.parametrize("back", [2, 15, 60, 3600, 86_400])
def test_windows_and_a_clock_that_is_set_back_keep_nobody_out(server: Server, back: int) -> None:
    args, key, server.now = (RATE, 2.0, 1.0, 1.0), server.new_key(), START
    assert [server.ask(args, key).allowed for _ in range(3)] == [True, True, False]
    server.now = START - back * 1000
    assert not server.ask(args, key).allowed, "what was counted is not forgotten"
    server.now += 3_000
    assert server.ask(args, key).allowed


def test_a_window_that_is_a_little_ahead_goes_on(server: Server) -> None:
    args, key, server.now = (RATE, 3.0, 1.0, 0.5), server.new_key(), START
    assert [server.ask(args, key).allowed for _ in range(2)] == [True, True]
    for now in (START - 5, START + 5):
        server.now = now
        verdict = server.ask(args, key)
    assert verdict.value == 2, "4 of this window, and none before"


@pytest.mark.parametrize("back", [1, 60, 3600])
def test_places_end_a_lease_after_a_clock_was_set_back(server: Server, back: int) -> None:
    args, key, server.now = (INFLIGHT, 1), server.new_key(), START
    assert server.ask(args, key, "crashed").allowed
    server.now = START - back * 1000
    assert not server.ask(args, key, "a").allowed, "it may be in flight"
    server.now += int(LEASE * 1000) + 1
    assert server.ask(args, key, "a").allowed


def test_who_asks_again_for_its_place_has_it(server: Server) -> None:
    args, key, server.now = (INFLIGHT, 1), server.new_key(), START
    assert [server.ask(args, key, "a")[:2] for _ in range(2)] == [(True, 1), (True, 1)]
    assert not server.ask(args, key, "b").allowed


@pytest.mark.parametrize("args", [(RATE, 2.0, 1.0, 1.0), (BUCKET, 1_000, 1_000, 1_000)])
@pytest.mark.parametrize("value", ["", "garbage", "1 2 3 4", "-1 -1 -1", "1 2", "9" * 40 + " 0", "9" * 40 + " 0 0", "99000 1800000000000"])
def test_a_value_that_is_none_of_ours_counts_as_none(server: Server, args: tuple[Any, ...], value: str) -> None:
    key, server.now = server.new_key(), START
    server.client.set(key, value)
    assert [server.ask(args, key).allowed for _ in range(3)] == [True, True, False]
