"""Three replicas of plugins, one cold key, a slow origin: it is asked once, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.e2e.client import Client, Response
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

PIECE, PIECES = bytes(range(256)) * 256, 40
CLIENTS = 64


class Slow:
    """An origin that answers when the test lets it, and counts."""

    def __init__(self) -> None:
        self.origin = Origin(self.answer)
        self.gate = threading.Event()
        """The head waits for it."""
        self.rest = threading.Event()
        """And the second half of a body of /large."""
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def answer(self, exchange: Exchange) -> None:
        exchange.read_body()
        target = exchange.target
        with self._lock:
            self._counts[target] = self._counts.get(target, 0) + 1
        self.gate.wait(20)
        lines = "Cache-Control: max-age=600\r\n"
        if target.startswith("/checked"):
            lines = 'Cache-Control: no-cache\r\nETag: "v"\r\n'
            if exchange.get("if-none-match"):
                exchange.reply(b"", "304 Not Modified", lines)
                return
        if not target.startswith("/large"):
            exchange.reply(target.encode(), headers=lines)
            return
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(PIECE) * PIECES}\r\n{lines}\r\n".encode())
        for number in range(PIECES):
            if number == PIECES // 2:
                self.rest.wait(20)
            exchange.send(PIECE)

    def asked(self, target: str) -> int:
        with self._lock:
            return self._counts.get(target, 0)


@pytest.fixture(scope="module")
def origin() -> Iterator[Slow]:
    one = Slow()
    yield one
    one.gate.set()
    one.rest.set()
    one.origin.stop()


@pytest.fixture(scope="module")
def proxy(origin: Slow) -> Iterator[Pingap]:
    more = '[plugins.pages]\ncategory = "cache"\nlock = "30s"\nmax_file_size = "10mb"\n'
    text = site([origin.origin.port], location='plugins = ["pages"]', more=more)
    with Pingap(text, up=("--scale", "plugins=3")) as instance:
        yield instance


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CLIENTS + 16) as one:
        yield one


def get(proxy: Pingap, target: str) -> Response:
    with Client(proxy.port, timeout=30) as client:
        return client.get(target)


def many(pool: ThreadPoolExecutor, proxy: Pingap, target: str, count: int) -> list[Future[Response]]:
    return [pool.submit(get, proxy, target) for _ in range(count)]


def in_flight(proxy: Pingap) -> int:
    return sum(row.in_flight for row in proxy.replicas("plugins"))


def test_64_clients_on_one_cold_key_ask_the_origin_once(proxy: Pingap, origin: Slow, pool: ThreadPoolExecutor) -> None:
    origin.gate.clear()
    answers = many(pool, proxy, "/one", CLIENTS)
    until(lambda: in_flight(proxy) >= CLIENTS, 10, "all of them are waited for")
    origin.gate.set()
    assert {(answer.result().status, answer.result().body) for answer in answers} == {(200, b"/one")}
    assert origin.asked("/one") == 1
    assert {get(proxy, "/one").get("x-cache-status") for _ in range(6)} == {"hit"}


def test_clients_that_come_while_a_long_body_is_fetched_read_along_in_all_processes(
    proxy: Pingap, origin: Slow, pool: ThreadPoolExecutor
) -> None:
    origin.gate.clear()
    origin.rest.clear()
    early = many(pool, proxy, "/large", 12)
    until(lambda: in_flight(proxy) >= 12, 10, "all of them are waited for")
    origin.gate.set()
    with Client(proxy.port, timeout=30) as first:
        first.request("/large")
        first.head()
        first.exactly(len(PIECE))  # it is under way, and half of it is all that there is
        late = many(pool, proxy, "/large", 12)
        until(lambda: in_flight(proxy) >= 24, 10, "all of them are served")
        origin.rest.set()
        first.close()
        answers = [answer.result() for answer in (*early, *late)]
    assert {answer.status for answer in answers} == {200}
    assert all(answer.body == PIECE * PIECES for answer in answers)
    assert origin.asked("/large") == 1


def test_what_each_has_to_ask_the_origin_for_is_asked_for_at_once(proxy: Pingap, origin: Slow, pool: ThreadPoolExecutor) -> None:
    """None may use another's answer: they do not wait for one another."""
    origin.gate.set()
    assert get(proxy, "/checked").get("x-cache-status") == "miss"
    until(lambda: get(proxy, "/checked").get("x-cache-status") == "revalidated", 5, "it is stored")
    before = origin.asked("/checked")
    origin.gate.clear()
    answers = many(pool, proxy, "/checked", 16)
    until(lambda: origin.asked("/checked") == before + 16, 10, "all of them are asked for")
    origin.gate.set()
    assert {(answer.result().status, answer.result().body) for answer in answers} == {(200, b"/checked")}


@pytest.mark.slow
@pytest.mark.parametrize("replica", range(3))
def test_a_replica_that_is_killed_costs_its_own_fetches_one_more_and_who_waits_nothing(
    proxy: Pingap, origin: Slow, pool: ThreadPoolExecutor, replica: int
) -> None:
    """It owns keys, fetches some, and others wait in it: all of that at once."""
    origin.gate.clear()
    targets = [f"/killed-{replica}-{number}" for number in range(12)]
    answers = [answer for target in targets for answer in many(pool, proxy, target, 5)]
    until(lambda: in_flight(proxy) >= len(answers), 10, "all of them are waited for")
    assert [origin.asked(target) for target in targets] == [1] * len(targets)
    pid = proxy.pid("plugins", replica)
    os.kill(pid, signal.SIGKILL)
    proxy.wait_restarted("plugins", pid, replica)
    origin.gate.set()
    found = [answer.result() for answer in answers]
    lost = [answer for answer in found if answer.status != 200]
    # Upstream may hear of the death later than accept, and has then promised an answer that cannot come (stages/upstream/actor.py).
    assert all(answer.get("x-pingap-etype") == "stage_lost" for answer in lost) and len(lost) <= len(targets), lost
    counts = [origin.asked(target) for target in targets]
    assert set(counts) <= {1, 2} and 1 in counts, f"those that others fetch are not fetched again: {counts}"
    again = [get(proxy, target).get("x-cache-status") for target in targets]
    assert set(again) == {"hit"}, again
