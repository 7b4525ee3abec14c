"""One of three real backends dies, hangs, fails or cannot be reached under load: what an operator may expect clients to see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.faulty_nginx import FaultyNginx
from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load, Tally
from tests.e2e.namespace import Namespace, namespace
from tests.kit.peers import needs
from tests.kit.waiting import until

pytestmark = pytest.mark.alone

CHECK = 0.5
"""Seconds between two checks, of which two in a row must fail."""

PATIENCE = 0.5
"""Seconds for a connect, for an answer, and for each of a check."""

FOUND = 2 * (CHECK + 2 * PATIENCE) + 3
"""Seconds within which two checks must have failed, with some for a busy machine."""

UPSTREAM = f"""connection_timeout = "{PATIENCE}s"
read_timeout = "{PATIENCE}s"
retry_budget = 100
health_check = "http://app/health?check_frequency={CHECK}s&connection_timeout={PATIENCE}s&read_timeout={PATIENCE}s&parallel"
"""


@dataclass(slots=True)
class Scene:
    """Three backends behind one proxy; the last is the one that suffers."""

    proxy: Pingap
    origins: list[FaultyNginx]

    @property
    def bad(self) -> FaultyNginx:
        return self.origins[-1]

    def load(self, method: str = "GET") -> Load:
        body = b"x" if method == "POST" else None
        return Load(self.proxy.port, target=lambda number: f"/?id={number}", method=method, body=body)

    def wait_share(self, origin: FaultyNginx, load: Load) -> None:
        """Until it gets a fair part of the requests, all being well."""

        def has_share() -> bool:
            before, latest = len(origin.ids()), load.latest
            load.advance(60)
            # One that was stopped answers first what had come meanwhile, and what nobody waits for any more.
            return sum(number > latest for number in origin.ids()[before:]) >= 60 // 5

        until(has_share, 15, f"{origin.name} gets its share")

    def wait_back(self, load: Load) -> None:
        self.wait_share(self.bad, load)

    def wait_left(self, mark: int) -> float:
        """Seconds until the checks have found it. mark: how much the proxy had said before."""
        began = time.monotonic()
        self.proxy.wait_output("backend is unhealthy", FOUND, mark)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def three(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    needs("nginx")
    root = tmp_path_factory.mktemp("outages")
    with ExitStack() as stack:
        origins = [FaultyNginx(root / name, name) for name in ("b0", "b1", "b2")]
        for origin in origins:
            stack.callback(origin.close)
        yield Scene(stack.enter_context(Pingap(site([one.port for one in origins], upstream=UPSTREAM), placement)), origins)


def nobody_noticed(tally: Tally) -> None:
    assert set(tally.statuses) == {200}, tally
    assert tally.dropped == tally.refused == tally.hung == 0, tally
    assert not tally.mixed_up, tally


def test_a_killed_backend_costs_no_idempotent_request_and_gets_its_share_when_it_is_back(three: Scene) -> None:
    with three.load() as load:
        three.bad.kill()
        load.advance(300)
        three.bad.start()
        three.wait_back(load)
    nobody_noticed(load.tally)


def test_a_killed_backend_costs_of_others_at_most_those_that_it_had(three: Scene) -> None:
    """A POST that has gone on is not sent twice; one that found nobody is sent elsewhere."""
    with three.load("POST") as load:
        three.bad.kill()
        load.advance(300)
        lost = load.tally.failed
        three.bad.start()
        three.wait_back(load)
    assert lost <= 12, load.tally
    assert load.tally.failed == lost, "only the moment of its death costs anything"
    assert set(load.tally.statuses) <= {200, 502}, load.tally
    assert load.tally.dropped == load.tally.refused == load.tally.hung == 0, load.tally


def test_a_backend_is_restarted_and_nobody_notices(three: Scene) -> None:
    """As a deployment does it: it ends what it has under way, closes its connections, and a new one starts."""
    with three.load() as load:
        for _ in range(3):
            three.bad.stop()
            three.bad.start()
            load.advance(100)
        three.wait_back(load)
    nobody_noticed(load.tally)


def test_traffic_leaves_a_stopped_backend_within_two_checks(three: Scene) -> None:
    """SIGSTOP: it is there, takes connections, and says nothing. Requests that wait for it are answered by another."""
    with three.load() as load:
        mark, got = len(three.proxy.output()), len(three.bad.ids())
        three.bad.freeze()
        try:
            three.wait_left(mark)
            first = load.settle()
            load.tally.slowest = 0
            load.advance(300)
            assert load.tally.slowest < PATIENCE, "nobody waits for it any more"
            last = load.settle()
        finally:
            three.bad.thaw()
        three.wait_back(load)
    nobody_noticed(load.tally)
    assert not [number for number in three.bad.ids()[got:] if first < number <= last], "it got no more requests"


def test_a_stopped_backend_is_left_though_it_was_killed_before_it_went_on(three: Scene) -> None:
    with three.load() as load:
        mark = len(three.proxy.output())
        three.bad.freeze()
        three.wait_left(mark)
        three.bad.kill()
        three.bad.start()
        three.wait_back(load)
    nobody_noticed(load.tally)


def test_a_slow_backend_is_left_and_nobody_waits_longer_than_read_timeout(three: Scene) -> None:
    with three.load() as load:
        mark = len(three.proxy.output())
        three.bad.set("slow")
        try:
            three.wait_left(mark)
            load.settle()
            load.tally.slowest = 0
            load.advance(200)
            assert load.tally.slowest < PATIENCE
        finally:
            three.bad.set("slow", False)
        three.wait_back(load)
    nobody_noticed(load.tally)


def test_all_backends_are_restarted_in_turn_and_nobody_notices(three: Scene) -> None:
    """A rolling deployment, that waits for each to be well: once in good order, once by kills."""
    with three.load() as load:
        for end in (FaultyNginx.stop, FaultyNginx.kill):
            for origin in three.origins:
                end(origin)
                load.advance(60)
                origin.start()
                three.wait_share(origin, load)
    nobody_noticed(load.tally)


def test_without_any_backend_errors_come_at_once_and_end_soon_after_they_are_back(three: Scene) -> None:
    with three.load() as load:
        for origin in three.origins:
            origin.kill()
        until(lambda: load.tally.failed > 50, 10, "there is nobody left to answer")
        load.settle()
        load.tally.slowest = 0
        load.advance(200)
        assert load.tally.slowest < PATIENCE, "who gets an error does not wait for it"
        for origin in three.origins:
            origin.start()
        for origin in three.origins:
            three.wait_share(origin, load)
        failed = load.tally.failed
        load.advance(200)
    assert load.tally.failed == failed, "all is well again"
    assert set(load.tally.statuses) <= {200, 502, 503}, load.tally
    assert load.tally.dropped == load.tally.refused == load.tally.hung == 0, load.tally


# -- it fails, though its health checks pass ---------------------------------------------

LIMIT, PROBES, OPEN = 5, 2, 1.0
"""Failures in a row that open a circuit; probes of a round; seconds until the next round."""

BREAKER = f"""circuit_break_max_consecutive_failures = {LIMIT}
circuit_break_half_open_consecutive_success_threshold = {PROBES}
circuit_break_open_duration = "{OPEN}s"
"""


@pytest.fixture(scope="module")
def broken(placement: str, three: Scene) -> Iterator[Scene]:
    """The same backends behind two replicas and a breaker: under `/again` a 500 is asked of another, elsewhere it is the answer."""
    ports = [one.port for one in three.origins]
    again = '[locations.again]\npath = "/again"\nupstream = "again"\nretry_status_code = "500"\n[upstreams.again]\n'
    again += f"addrs = {[one.address for one in three.origins]}\n{UPSTREAM}{BREAKER}".replace("'", '"')
    text = site(ports, upstream=UPSTREAM + BREAKER, more=again, locations='["again", "all"]')
    up = ["--scale", "upstream=2"] if placement == "split" else []
    with Pingap(text, placement, up=up) as proxy:
        yield Scene(proxy, three.origins)


def test_a_backend_that_answers_500_is_seen_by_a_bounded_number_of_clients(broken: Scene) -> None:
    with broken.load() as load:
        broken.wait_back(load)
        began = time.monotonic()
        broken.bad.set("fails")
        try:
            until(lambda: load.tally.failed, 10, "somebody has seen it")
            load.advance(1500)
            rounds = (time.monotonic() - began) / OPEN + 1
        finally:
            broken.bad.set("fails", False)
        seen = load.tally.failed
        broken.wait_back(load)
    # Both replicas count for themselves, and those that were under way when the circuit opened come on top.
    assert seen <= 2 * LIMIT + 12 + rounds * PROBES, load.tally
    assert set(load.tally.statuses) == {200, 500}, load.tally
    assert load.tally.dropped == load.tally.refused == load.tally.hung == 0, load.tally


def test_a_500_that_is_asked_of_another_is_seen_by_nobody(broken: Scene) -> None:
    with Load(broken.proxy.port, target=lambda number: f"/again?id={number}") as load:
        broken.wait_back(load)
        broken.bad.set("fails")
        try:
            before = len(broken.bad.ids())
            began = time.monotonic()
            load.advance(1500)
            rounds = (time.monotonic() - began) / OPEN + 1
            got = len(broken.bad.ids()) - before
        finally:
            broken.bad.set("fails", False)
        broken.wait_back(load)
    nobody_noticed(load.tally)
    assert got <= 2 * LIMIT + 12 + rounds * PROBES, "the breaker keeps traffic away from it"


# -- packets are dropped ---------------------------------------------------------------


@pytest.fixture(scope="module")
def far(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Namespace]]:
    """Three backends, one of them on a host of its own."""
    needs("nginx")
    root = tmp_path_factory.mktemp("far")
    with ExitStack() as stack:
        host = stack.enter_context(namespace(0))
        origins = [FaultyNginx(root / name, name) for name in ("b0", "b1")]
        origins.append(FaultyNginx(root / "b2", "b2", host.address, inside=host.inside))
        for origin in origins:
            stack.callback(origin.close)
        text = site([]).replace("addrs = []", f"addrs = {[one.address for one in origins]}\n{UPSTREAM}".replace("'", '"'))
        yield Scene(stack.enter_context(Pingap(text, placement)), origins), host


def test_packets_that_are_lost_cost_connection_timeout_at_most(far: tuple[Scene, Namespace]) -> None:
    """Connects hang. Whoever meets that waits connection_timeout, is answered by another, and then the checks have found it."""
    scene, host = far
    mark = len(scene.proxy.output())
    host.lose()
    try:
        with scene.proxy.client() as client:  # idle until now: there is no connection to it
            began = time.monotonic()
            for number in range(3):
                assert client.get(f"/?id={number}").status == 200
            assert time.monotonic() - began < 3 * PATIENCE + 0.5
        with scene.load() as load:
            scene.wait_left(mark)
            load.settle()
            load.tally.slowest = 0
            load.advance(200)
            assert load.tally.slowest < PATIENCE
            host.find()
            scene.wait_back(load)
        nobody_noticed(load.tally)
    finally:
        host.find()


def test_packets_of_kept_connections_that_are_lost_cost_read_timeout_at_most(far: tuple[Scene, Namespace]) -> None:
    """The connections look well, and what is sent on them is never acknowledged."""
    scene, host = far
    with scene.load() as load:
        scene.wait_back(load)
        mark = len(scene.proxy.output())
        host.lose()
        try:
            scene.wait_left(mark)
            load.settle()
            load.tally.slowest = 0
            load.advance(200)
            assert load.tally.slowest < PATIENCE
        finally:
            host.find()
        scene.wait_back(load)
    nobody_noticed(load.tally)
    assert load.tally.slowest_good < 3 * PATIENCE + 1, load.tally
