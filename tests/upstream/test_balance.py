"""Who gets a request: shares, stability, and never one that is not usable."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pingap.stages.upstream.balance import MAX_CYCLE, MAX_POINTS, Balancer, HashRing, LeastConnections, PowerOfTwo, RoundRobin, cycle_of
from tests.upstream.playbook import Play


@dataclass
class Load:
    weight: int
    active: int = 0
    elsewhere: int = 0


def loads(weights: list[int], active: list[int] | None = None) -> list[Load]:
    return [Load(weight, count) for weight, count in zip(weights, active or [0] * len(weights), strict=True)]


def dice(seed: int = 1) -> Callable[[int], int]:
    return random.Random(seed).randrange


def names(count: int) -> list[str]:
    return [f"10.0.0.{number}:80" for number in range(count)]


BALANCERS: dict[str, Callable[[list[int]], Balancer]] = {
    "round robin": lambda weights: RoundRobin(weights, 3),
    "hash": lambda weights: HashRing(names(len(weights)), weights),
    "least connections": lambda weights: LeastConnections(loads(weights)),
    "power of two": lambda weights: PowerOfTwo(loads(weights), dice()),
}
weights = st.lists(st.integers(0, 12), min_size=0, max_size=8)


# -- what holds for all ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", BALANCERS)
@given(weights=weights, down=st.sets(st.integers(0, 7)), keys=st.lists(st.text(max_size=5), min_size=1, max_size=10))
def test_only_a_usable_backend_with_a_weight_is_picked_and_one_is_if_there_is_one(
    kind: str, weights: list[int], down: set[int], keys: list[str]
) -> None:
    balancer = BALANCERS[kind](weights)
    usable = {index for index, weight in enumerate(weights) if weight and index not in down}
    for key in keys:
        index = balancer.pick(key, lambda index: index not in down)
        assert (index in usable) if usable else index == -1
        index = balancer.pick(key, None)
        assert (weights[index] > 0) if any(weights) else index == -1


# -- round robin ------------------------------------------------------------------------------


@given(weights.filter(any))
def test_over_a_cycle_shares_are_the_weights(weights: list[int]) -> None:
    cycle = cycle_of(weights)
    divisor = gcd(*(weight for weight in weights if weight))
    counted = Counter(cycle)
    assert [counted[index] * divisor for index in range(len(weights))] == weights


def test_a_heavy_backends_turns_are_spread_over_the_cycle() -> None:
    assert cycle_of([5, 1, 1]) == [0, 0, 1, 0, 2, 0, 0]
    assert cycle_of([1, 1, 1]) == [0, 1, 2]


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 60)), max_size=9))
@example([7, 7, 3, 0, 7, 3, 1])
def test_a_cycle_is_the_one_that_the_plain_algorithm_makes(weights: list[int]) -> None:
    divisor = gcd(*weights) or 1
    shares = [weight // divisor for weight in weights]
    owed = [0] * len(shares)
    plain = []
    for _ in range(sum(shares)):
        owed = [before + share for before, share in zip(owed, shares, strict=True)]
        best = max((index for index, share in enumerate(shares) if share), key=owed.__getitem__)
        owed[best] -= sum(shares)
        plain.append(best)
    assert cycle_of(weights) == plain


@given(weights.filter(lambda weights: sum(map(bool, weights)) > 1))
def test_nobody_waits_much_longer_than_its_share(weights: list[int]) -> None:
    cycle = cycle_of(weights) * 2
    total = len(cycle) // 2
    for index in set(cycle):
        turns = [at for at, picked in enumerate(cycle) if picked == index]
        share = total / (len(turns) / 2)
        gaps = [later - earlier for earlier, later in itertools.pairwise(turns)]
        assert max(gaps) <= share * 2 + 1


def test_large_weights_are_scaled_and_the_smallest_is_not_forgotten() -> None:
    cycle = cycle_of([1_000_003, 500_009, 1])
    counted = Counter(cycle)
    assert len(cycle) <= MAX_CYCLE + 3
    assert abs(counted[0] / counted[1] - 2) < 0.01
    assert counted[2] == 1


@pytest.mark.parametrize("most", [MAX_CYCLE, MAX_CYCLE // 2])
def test_a_cycle_of_many_unlike_weights_is_no_longer_than_it_may_be_and_forgets_nobody(most: int) -> None:
    counted = Counter(cycle_of(range(1, 201), most))
    assert counted.total() <= most + 200
    assert all(abs(counted[index] - (index + 1) * most / 20100) <= 1 for index in range(200))
    assert all(counted[index] for index in range(200))


def test_a_cycle_of_nobody_is_empty() -> None:
    assert cycle_of([]) == cycle_of([0, 0]) == []
    assert RoundRobin([], 5).pick("", None) == -1


def test_processes_that_start_at_different_places_do_not_march_in_step() -> None:
    assert [RoundRobin([1, 1, 1], start).pick("", None) for start in range(4)] == [0, 1, 2, 0]


def test_those_that_are_left_share_by_their_weights() -> None:
    balancer = RoundRobin([3, 2, 1])
    counted = Counter(balancer.pick("", lambda index: index != 0) for _ in range(30))
    assert counted == {1: 20, 2: 10}


# -- consistent hashing ------------------------------------------------------------------------

KEYS = [f"/path/{number}?id={number * 7}" for number in range(4000)]


def owners(backends: list[str], weights: list[int] | None = None) -> dict[str, str]:
    ring = HashRing(backends, weights or [1] * len(backends))
    return {key: backends[ring.pick(key, None)] for key in KEYS}


def test_a_key_stays_with_its_backend_in_every_process() -> None:
    assert owners(names(5)) == owners(names(5))
    assert owners(names(5)) == owners(list(reversed(names(5)))), "the order in the configuration is of no matter"


@pytest.mark.parametrize("count", [2, 3, 10])
def test_when_a_backend_leaves_only_its_keys_move(count: int) -> None:
    backends = names(count)
    before, after = owners(backends), owners(backends[:-1])
    assert all(after[key] == owner for key, owner in before.items() if owner != backends[-1])


@pytest.mark.parametrize("count", [2, 3, 10])
def test_when_a_backend_comes_it_takes_its_share_and_no_other_key_moves(count: int) -> None:
    backends = names(count + 1)
    before, after = owners(backends[:-1]), owners(backends)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(after[key] == backends[-1] for key in moved)
    assert 0.5 < len(moved) / (len(KEYS) / (count + 1)) < 1.6


def test_keys_are_shared_out_evenly() -> None:
    counted = Counter(owners(names(5)).values())
    assert all(0.7 < count / (len(KEYS) / 5) < 1.3 for count in counted.values())


@pytest.mark.parametrize("weights", [[1, 3], [100, 300], [10_000, 30_000]])
def test_keys_are_shared_out_by_weight_however_large(weights: list[int]) -> None:
    counted = Counter(owners(names(2), weights).values())
    assert 2 < counted[names(2)[1]] / counted[names(2)[0]] < 4


def test_while_a_backend_is_down_its_keys_go_elsewhere_and_come_back() -> None:
    ring = HashRing(names(4), [1] * 4)
    before = [ring.pick(key, None) for key in KEYS]
    during = [ring.pick(key, lambda index: index != 2) for key in KEYS]
    assert all(now == then for now, then in zip(during, before, strict=True) if then != 2)
    assert len({now for now, then in zip(during, before, strict=True) if then == 2}) == 3, "and not all to one neighbour"
    assert [ring.pick(key, None) for key in KEYS] == before


def test_a_ring_takes_over_what_stays_of_the_one_before() -> None:
    before = HashRing(names(20), [1, 2] * 10)
    fewer, alone = HashRing(names(19), ([1, 2] * 10)[:19], before), HashRing(names(19), ([1, 2] * 10)[:19])
    assert [fewer.pick(key, None) for key in KEYS] == [alone.pick(key, None) for key in KEYS]
    assert fewer.places[names(1)[0]] is before.places[names(1)[0]]


@pytest.mark.parametrize(("count", "weight"), [(5000, 1), (1024, 100), (3, 65535)])
def test_a_ring_has_no_more_points_than_are_made_in_a_moment(count: int, weight: int) -> None:
    ring = HashRing(names(count), [weight] * (count - 1) + [max(1, weight - 1)])
    assert sum(map(len, ring.places.values())) <= MAX_POINTS
    assert all(ring.places.values()), "and each backend has some"


# -- by load -----------------------------------------------------------------------------------


def test_least_connections_takes_the_least_loaded_for_its_weight() -> None:
    assert LeastConnections(loads([1, 1, 1], [3, 1, 2])).pick("", None) == 1
    assert LeastConnections(loads([4, 1], [3, 1])).pick("", None) == 0
    assert LeastConnections(loads([1, 1, 1], [3, 1, 2])).pick("", lambda index: index != 1) == 2


def test_least_connections_takes_equals_in_turn() -> None:
    balancer = LeastConnections(loads([1, 1, 1]))
    assert Counter(balancer.pick("", None) for _ in range(30)) == {0: 10, 1: 10, 2: 10}


def test_of_two_drawn_the_less_loaded_is_taken() -> None:
    drawn = iter([0, 2, 1, 1, 2, 0])
    balancer = PowerOfTwo(loads([1, 1, 1], [5, 0, 3]), lambda count: next(drawn))
    assert [balancer.pick("", None) for _ in range(3)] == [2, 1, 2]


def test_power_of_two_draws_by_weight() -> None:
    balancer = PowerOfTwo(loads([9, 1]), dice())
    counted = Counter(balancer.pick("", None) for _ in range(4000))
    assert counted[0] / 4000 > 0.8
    assert counted[1]


def test_power_of_two_draws_by_weight_among_those_that_are_left_too() -> None:
    balancer = PowerOfTwo(loads([5, 3, 1], [0, 30, 10]), dice())
    counted = Counter(balancer.pick("", lambda index: index != 0) for _ in range(400))
    assert set(counted) == {1, 2}
    # Both have ten requests for each unit of weight: it is the draw that decides, or the first of equals.
    assert counted[1] > counted[2]


def test_power_of_two_evens_out_a_burst() -> None:
    balanced = loads([1] * 10)
    balancer = PowerOfTwo(balanced, dice())
    for _ in range(1000):
        balanced[balancer.pick("", None)].active += 1
    assert max(load.active for load in balanced) <= 110


@pytest.mark.parametrize("kind", ["least_conn", "p2c"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), replicas=st.integers(2, 5))
def test_replicas_that_hear_of_each_other_half_a_second_late_share_as_one_would(kind: str, seed: int, replicas: int) -> None:
    """One of three backends is slow, and one replica alone has found that out; the others were started just now."""
    rng = random.Random(seed)
    known = [loads([1, 1, 1]) for _ in range(replicas)]
    known[0][0].active = 60
    balancers = [LeastConnections(own) if kind == "least_conn" else PowerOfTwo(own, rng.randrange) for own in known]
    got: Counter[int] = Counter()
    ends: dict[int, list[tuple[int, int]]] = {}
    for tick in range(1000):  # of 10 ms, with a request each, that takes 100 ms
        for replica, index in ends.pop(tick, ()):
            known[replica][index].active -= 1
        if tick % 50 == 0:  # what each had half a second ago is known to the others
            for replica, own in enumerate(known):
                for index, load in enumerate(own):
                    load.elsewhere = sum(other[index].active for number, other in enumerate(known) if number != replica)
        replica = rng.randrange(replicas)
        index = balancers[replica].pick("", None)
        known[replica][index].active += 1
        ends.setdefault(tick + 10, []).append((replica, index))
        got[index] += 1
    # By chance, with p2c, it is drawn twice now and then.
    assert got[0] <= (0 if kind == "least_conn" else 180), got


# -- what is hashed -----------------------------------------------------------------------------


async def owner(play: Play, **request: object) -> str:
    """The backend that gets this request."""
    sid = play.asks(**request)  # type: ignore[arg-type]
    await play.turn()
    (address,) = [address for address, backend in play.backends.items() if any(link.connection.exchange for link in backend.links)]
    play.cancels(sid)
    await play.turn()
    play.hears()
    return address


@pytest.mark.parametrize(
    ("by", "key", "same", "differs"),
    [
        ("url", "", ({"target": b"/a?x=1"}, {"target": b"/a?x=1"}), lambda n: {"target": b"/a?x=%d" % n}),
        ("path", "", ({"target": b"/a?x=1"}, {"target": b"/a?x=2"}), lambda n: {"target": b"/%d" % n}),
        ("ip", "", ({"client_ip": "192.0.2.1", "target": b"/a"}, {"client_ip": "192.0.2.1"}), lambda n: {"client_ip": f"192.0.2.{n}"}),
        ("query", "user", ({"target": b"/?user=a%20b&x=1"}, {"target": b"/?x=2&user=a+b"}), lambda n: {"target": b"/?user=%d" % n}),
        (
            "header",
            "x-user",
            ({"headers": b"host: a\r\nx-user: ann\r\n"}, {"headers": b"x-user: ann\r\nhost: a\r\n"}),
            lambda n: {"headers": b"host: a\r\nx-user: %d\r\n" % n},
        ),
        (
            "cookie",
            "sid",
            ({"headers": b"cookie: a=1; sid=xyz\r\n"}, {"headers": b"cookie: b=2\r\nhost: example\r\ncookie: c=3; sid=xyz\r\n"}),
            lambda n: {"headers": b"cookie: sid=%d\r\n" % n},
        ),
    ],
    ids=["url", "path", "ip", "query", "header", "cookie"],
)
async def test_what_is_equal_goes_to_one_backend_and_what_differs_to_several(
    play: Play, by: str, key: str, same: tuple[dict[str, object], dict[str, object]], differs: Callable[[int], dict[str, object]]
) -> None:
    from pingap.config.model import Upstream
    from pingap.config.parts import Backend, Balance

    backends = tuple(Backend("b", port) for port in range(1, 6))
    play.serves(more={"hashed": Upstream(addrs=backends, algo=Balance("hash", by, key))})  # type: ignore[arg-type]
    first, second = same
    assert await owner(play, upstream="hashed", **first) == await owner(play, upstream="hashed", **second)
    assert len({await owner(play, upstream="hashed", **differs(number)) for number in range(30)}) == 5
    assert await owner(play, upstream="hashed", headers=b"") in play.backends, "what has no key goes somewhere too"
