"""Backends that are down, slow, stale or many."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """A port that is bound and refuses every connection."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, dead_port: int) -> Iterator[Pingap]:
    """One location for each kind of upstream."""
    kinds = {
        "slow": f'addrs = ["127.0.0.1:{shared_origin.port}"]\nread_timeout = "500ms"',
        "down": f'addrs = ["127.0.0.1:{dead_port}"]\nhealth_check = "tcp://x?check_frequency=200ms&failure=1"',
        "refused": f'addrs = ["127.0.0.1:{dead_port}"]\nhealth_check = "tcp://x?failure=1000"',
        "half": f'addrs = ["127.0.0.1:{dead_port}", "127.0.0.1:{shared_origin.port}"]\nhealth_check = "tcp://x?failure=1000"',
    }
    more = "".join(
        f'[locations.{name}]\nupstream = "{name}"\npath = "/{name}"\n[upstreams.{name}]\n{lines}\n' for name, lines in kinds.items()
    )
    names = json.dumps(["all", *kinds])
    text = site([shared_origin.port], more=more, locations=names, basic='error_template = "<{{content}}>"')
    with Pingap(text, placement) as instance:
        yield instance


def test_a_backend_that_does_not_answer_in_time_gives_504(proxy: Pingap, shared_origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        exchange.is_gone(3)
        exchange.close()

    shared_origin.on["/slow"] = slow
    with proxy.client() as client:
        began = time.monotonic()
        response = client.get("/slow")
        assert response.status == 504
        assert response.body.startswith(b"<"), "the error template is used"
        assert 0.4 < time.monotonic() - began < 2
        assert client.get("/fine").status == 200


def test_a_backend_that_stalls_in_mid_body_is_cut_off(proxy: Pingap, shared_origin: Origin) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        exchange.is_gone(3)
        exchange.close()

    shared_origin.on["/slow/stall"] = stall
    with proxy.client() as client:
        client.request("/slow/stall")
        assert client.head().status == 200
        assert client.rest(time.monotonic() + 3) == b"half"


def test_without_a_healthy_backend_the_answer_is_503_at_once(proxy: Pingap) -> None:
    until(lambda: proxy.get("/down").status == 503, 5, "the health check has found it down")
    began = time.monotonic()
    assert proxy.get("/down").status == 503
    assert time.monotonic() - began < 0.3


def test_a_backend_that_refuses_the_connection_gives_502(proxy: Pingap) -> None:
    response = proxy.get("/refused")
    assert response.status == 502
    assert response.body


def test_a_failed_connect_is_tried_elsewhere_for_every_method(proxy: Pingap, shared_origin: Origin) -> None:
    for method in ("GET", "POST"):
        for _ in range(4):
            body = b"order" if method == "POST" else None
            assert proxy.get("/half", method=method, body=body).status == 200


def test_a_kept_connection_that_the_backend_closed_costs_no_request(proxy: Pingap, shared_origin: Origin) -> None:
    with proxy.client() as client:
        for _ in range(10):
            assert client.get("/keep").status == 200
            shared_origin.drop_connections()
            time.sleep(0.02)  # the close is on its way, or it is not: both must do
            assert client.get("/keep", method="POST", body=b"x").status == 200
            shared_origin.drop_connections()
            time.sleep(0.02)


def test_a_get_on_a_connection_that_dies_under_it_is_sent_once_more(proxy: Pingap, shared_origin: Origin) -> None:
    calls = Counter[str]()

    def second_time(exchange: Exchange) -> None:
        exchange.read_body()
        calls[exchange.method] += 1
        if calls[exchange.method] % 2:
            exchange.close()  # after the request was read, without one byte of an answer
        else:
            exchange.reply(b"second")

    shared_origin.on["/dies"] = second_time
    with proxy.client() as client:
        assert client.get("/warm").status == 200  # so that the connection is a reused one
        assert client.get("/dies").body == b"second"
        assert client.get("/warm").status == 200
        assert client.get("/dies", method="POST", body=b"x").status == 502, "a POST may have been carried out"
    assert calls == {"GET": 2, "POST": 1}


def test_weights_share_out_the_requests(placement: str) -> None:
    heavy, light = Origin(), Origin()
    try:
        text = site([]).replace("addrs = []", f'addrs = ["127.0.0.1:{heavy.port} 3", "127.0.0.1:{light.port} 1"]')
        with Pingap(text, placement) as proxy, proxy.client() as client:
            for _ in range(80):
                assert client.get("/w").status == 200
        assert (len(heavy.seen("/w")), len(light.seen("/w"))) == (60, 20)
    finally:
        heavy.stop()
        light.stop()


def test_hashing_keeps_a_key_on_its_backend_and_moves_few_when_one_leaves(placement: str) -> None:
    origins = [Origin() for _ in range(3)]

    def text(backends: list[Origin]) -> str:
        return site([one.port for one in backends], upstream='algo = "hash:header:X-Key"')

    def owners(proxy: Pingap) -> dict[str, int]:
        for one in origins:
            one.requests.clear()
        with proxy.client() as client:
            for number in range(60):
                for _ in range(2):
                    assert client.get(f"/k{number}", headers={"X-Key": f"key{number}"}).status == 200
        found: dict[str, int] = {}
        for index, one in enumerate(origins):
            for exchange in one.requests:
                assert found.setdefault(exchange.path, index) == index, "one key went to two backends"
        return found

    try:
        with Pingap(text(origins), placement) as proxy:
            before = owners(proxy)
            assert set(before.values()) == {0, 1, 2}
            proxy.write_config(text(origins[:2]))
            assert proxy.command("reload").returncode == 0
            after = owners(proxy)
            moved = [path for path, owner in before.items() if owner != 2 and after[path] != owner]
            assert not moved, "only the keys of the backend that left may move"
    finally:
        for one in origins:
            one.stop()


def test_a_backend_that_goes_and_comes_back_is_left_out_and_taken_in_again(placement: str) -> None:
    first, port = Origin(), free_port()
    second = Origin(port=port)
    try:
        text = site([first.port, port], upstream='health_check = "http://x/health?check_frequency=200ms&failure=1&success=1"')
        with Pingap(text, placement) as proxy, Load(proxy.port, connections=6) as load:
            until(lambda: len(second.seen("/health")) > 1, 5, "health is asked")
            second.stop()
            load.advance(50)
            until(lambda: "unhealthy" in proxy.output().lower(), 5, "the log names the unhealthy backend")
            mark = load.tally.failed
            load.advance(100)
            assert load.tally.failed == mark, "an unhealthy backend gets no request"
            second = Origin(port=port)
            until(lambda: any(exchange.path.startswith("/echo") for exchange in list(second.requests)), 10, "it gets requests again")
            tally = load.stop()
            assert tally.dropped == tally.hung == 0, tally
            assert set(tally.statuses) == {200}, tally
    finally:
        first.stop()
        second.stop()


def test_a_pool_keeps_no_more_than_its_cap(placement: str) -> None:
    origin = Origin()
    try:
        text = site([origin.port], basic="upstream_keepalive_pool_size = 4", upstream='health_check = "tcp://x?check_frequency=600s"')
        with Pingap(text, placement) as proxy:
            clients = [proxy.client() for _ in range(20)]

            def slow(exchange: Exchange) -> None:
                time.sleep(0.3)
                exchange.reply(b"ok")

            origin.on["/many"] = slow
            for client in clients:
                client.request("/many")
            for client in clients:
                assert client.response().status == 200
            until(lambda: origin.open <= 5, 3, "no more than the pool's cap stay open")
            for client in clients:
                client.close()
    finally:
        origin.stop()
