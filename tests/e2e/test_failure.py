"""Processes are killed, stopped and hung while clients are at work; the clients must hardly notice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.waiting import is_alive, session_members, until

pytestmark = pytest.mark.alone

OTHERS = ("routing", "plugins", "upstream", "logging", "config", "discovery", "metrics")
"""Every stage that holds no client connections (split)."""

LOG = 'access_log = "{dir}/access.log combined"\nprometheus_metrics = "/metrics"'


@pytest.fixture(scope="module")
def split(nginx: Nginx) -> Iterator[Pingap]:
    """One instance for all kills: it must stand them one after another."""
    with Pingap(site([nginx.port], location='plugins = ["pingap:requestId"]', server=LOG), "split") as instance:
        yield instance


def kill(proxy: Pingap, stage: str, replica: int = 0, number: int = signal.SIGKILL) -> int:
    pid = proxy.pid(stage, replica)
    os.kill(pid, number)
    return pid


@pytest.mark.parametrize("stage", OTHERS)
def test_a_killed_stage_is_back_within_a_second_and_no_client_connection_closes(split: Pingap, stage: str) -> None:
    restarts = split.row(stage).restarts
    clients = 12
    with Load(split.port, connections=clients) as load:
        old = kill(split, stage)
        began = time.monotonic()
        if stage in ("routing", "plugins", "upstream"):
            # The first good answer after the kill, on a connection of its own, times the gap.
            until(lambda: split.get("/echo/back").status == 200, 3, "requests are served again")
            assert time.monotonic() - began < 1.5, "not back within a second"
        row = split.wait_restarted(stage, old)
        load.advance(200)
    tally = load.tally
    assert row.restarts == restarts + 1
    assert tally.dropped == tally.refused == tally.hung == 0, tally
    assert not tally.mixed_up, tally
    assert set(tally.statuses) <= {200, 502, 503}, tally
    if stage in ("logging", "config", "discovery", "metrics"):
        assert tally.failed == 0, tally
    else:
        assert tally.failed <= clients, f"more than the replica can have held: {tally}"
    assert tally.slowest < 3, tally


@pytest.mark.parametrize("stage", ["routing", "plugins", "upstream"])
def test_uploads_under_way_fail_at_most_once_each_and_close_nothing(origin: Origin, stage: str) -> None:
    with (
        Pingap(site([origin.port], location='plugins = ["pingap:requestId"]'), "split") as proxy,
        Load(proxy.port, connections=8, method="POST", body=b"x" * 100_000) as load,
    ):
        proxy.wait_restarted(stage, kill(proxy, stage))
        load.advance(100)
        tally = load.stop()
        # An answer may come before the body is all read, and closes then: it says so, and counts as no drop.
        assert tally.refused == tally.hung == 0, tally
        assert not tally.mixed_up
        assert set(tally.statuses) <= {200, 502, 503}, tally
        assert tally.failed + tally.dropped <= 8, tally


def test_a_killed_accept_loses_its_own_connections_only_and_new_ones_are_taken_at_once(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), "split", up=["--scale", "accept=2"]) as proxy, Load(proxy.port, connections=16) as load:
        old = kill(proxy, "accept", 0)
        began = time.monotonic()
        assert proxy.get("/echo/new").status == 200
        assert time.monotonic() - began < 1.5
        proxy.wait_restarted("accept", old, 0)
        load.advance(200)
        tally = load.stop()
        assert tally.dropped <= 16, "only the dead replica's connections"
        assert tally.refused == tally.hung == tally.failed == 0, tally
        assert not tally.mixed_up


def test_the_only_accept_replica_is_replaced_while_the_addresses_stay_open(split: Pingap) -> None:
    old = kill(split, "accept")
    began = time.monotonic()
    assert split.get("/echo/again").status == 200, "the supervisor holds the socket: connections wait, none is refused"
    assert time.monotonic() - began < 2
    split.wait_restarted("accept", old)


@pytest.mark.parametrize("stage", ["routing", "upstream"])
def test_with_two_replicas_fewer_requests_are_lost(nginx: Nginx, stage: str) -> None:
    with Pingap(site([nginx.port]), "split", up=["--scale", f"{stage}=2"]) as proxy, Load(proxy.port, connections=12) as load:
        old = kill(proxy, stage, 1)
        proxy.wait_restarted(stage, old, 1)
        load.advance(200)
        tally = load.stop()
        assert tally.dropped == tally.refused == tally.hung == 0, tally
        assert tally.failed <= 12, tally


def test_a_request_without_a_body_survives_the_death_of_routing(origin: Origin) -> None:
    """GETs are sent once more to the new replica, so nobody sees an error."""
    with Pingap(site([origin.port]), "split") as proxy, Load(proxy.port, connections=12) as load:
        for _ in range(3):
            proxy.wait_restarted("routing", kill(proxy, "routing"))
            load.advance(100)
        tally = load.stop()
        assert tally.dropped == tally.hung == 0
        assert set(tally.statuses) == {200}, tally


def test_a_post_is_not_sent_twice_when_upstream_dies(origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        exchange.read_body()
        time.sleep(1)
        exchange.reply(b"done")

    origin.on["/order"] = slow
    with Pingap(site([origin.port]), "split") as proxy, proxy.client() as client:
        client.request("/order", "POST", body=b"one pizza")
        origin.wait("/order")
        kill(proxy, "upstream")
        response = client.response()
        assert response.status == 502
        assert len(origin.seen("/order")) == 1
        assert client.get("/next").status == 200, "the connection stays open"


def test_a_get_whose_upstream_died_is_asked_again(origin: Origin) -> None:
    calls = [0]

    def slow_once(exchange: Exchange) -> None:
        calls[0] += 1
        if calls[0] == 1:
            exchange.is_gone(5)
            exchange.close()
        else:
            exchange.reply(b"second try")

    origin.on["/again"] = slow_once
    with Pingap(site([origin.port]), "split") as proxy, proxy.client() as client:
        client.request("/again")
        origin.wait("/again")
        kill(proxy, "upstream")
        response = client.response()
        assert (response.status, response.body) == (200, b"second try")


@pytest.mark.parametrize("location", ["", 'plugins = ["pingap:compression"]'], ids=["plain", "compressed"])
def test_a_download_whose_upstream_died_does_not_look_whole(origin: Origin, location: str) -> None:
    def half(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        exchange.is_gone(5)
        exchange.close()

    origin.on["/half"] = half
    with Pingap(site([origin.port], location=location), "split") as proxy, proxy.client() as client:
        client.request("/half", headers={"Accept-Encoding": "gzip"})
        head = client.head()
        assert (head.status, head.get("content-encoding")) == (200, "gzip" if location else None)
        kill(proxy, "upstream")
        assert b"0\r\n\r\n" not in client.rest(time.monotonic() + 5)


@pytest.mark.parametrize("stage", ["routing", "upstream", "accept"])
def test_a_hung_stage_is_found_and_replaced(nginx: Nginx, stage: str) -> None:
    with Pingap(site([nginx.port]), "split", up=["--scale", "accept=2"]) as proxy, Load(proxy.port, connections=8, deadline=12) as load:
        old = kill(proxy, stage, number=signal.SIGSTOP)
        row = proxy.wait_restarted(stage, old, seconds=8)
        assert row.restarts == 1
        until(lambda: not is_alive(old), 3, "the hung process is ended")
        load.advance(100)
        tally = load.stop()
        assert tally.hung == 0, tally
        assert tally.refused == 0
        if stage != "accept":
            assert tally.dropped == 0, tally


def test_a_killed_worker_is_back_and_the_other_one_serves_on(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), "colocated", up=["--workers", "2"]) as proxy, Load(proxy.port, connections=16) as load:
        old = kill(proxy, "accept", 1)
        assert proxy.get("/echo/on").status == 200
        proxy.wait_restarted("accept", old, 1)
        load.advance(200)
        tally = load.stop()
        assert tally.dropped <= 16
        assert tally.refused == tally.hung == 0, tally


def test_nothing_is_left_ten_seconds_after_the_supervisor_was_killed(placement: str, nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), placement) as proxy:
        assert proxy.get().status == 200
        assert proxy.process is not None
        session = proxy.process.pid
        assert len(session_members(session)) > 3
        proxy.process.kill()
        proxy.process.wait()
        until(lambda: not session_members(session), 10, "every process is gone")


def test_a_request_in_flight_is_finished_when_the_supervisor_is_killed(placement: str, origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(1)
        exchange.reply(b"finished")

    origin.on["/slow"] = slow
    with Pingap(site([origin.port]), placement) as proxy, proxy.client() as client:
        client.request("/slow")
        origin.wait("/slow")
        assert proxy.process is not None
        proxy.process.kill()
        proxy.process.wait()
        assert client.response().body == b"finished"
        session = proxy.process.pid
        until(lambda: not session_members(session), 10, "every process is gone")


def test_after_a_kill_of_the_supervisor_the_next_start_takes_over(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), "split") as proxy:
        assert proxy.process is not None
        first = proxy.process.pid
        proxy.process.kill()
        proxy.process.wait()
        proxy.output_file.unlink()
        proxy.start()
        assert proxy.get().status == 200
        until(lambda: not session_members(first), 10, "the old processes are gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_finishes_what_is_in_flight_and_exits_with_0(placement: str, origin: Origin, number: int) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.7)
        exchange.reply(b"finished")

    origin.on["/slow"] = slow
    with Pingap(site([origin.port]), placement) as proxy, proxy.client() as client, proxy.client() as idle:
        assert idle.get().status == 200
        client.request("/slow")
        origin.wait("/slow")
        assert proxy.process is not None
        proxy.process.send_signal(number)
        response = client.response()
        assert response.body == b"finished"
        assert idle.is_closed(), "an idle connection is not waited for"
        began = time.monotonic()
        assert proxy.wait_stopped() == 0
        assert time.monotonic() - began < 5


def test_a_stop_does_not_wait_for_ever(placement: str, origin: Origin) -> None:
    def never(exchange: Exchange) -> None:
        exchange.is_gone(20)
        exchange.close()

    origin.on["/never"] = never
    text = site([origin.port], basic='graceful_shutdown_timeout = "1s"')
    with Pingap(text, placement) as proxy, proxy.client() as client:
        client.request("/never")
        origin.wait("/never")
        began = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - began < 6


def test_what_a_stop_cuts_off_is_answered_or_visibly_incomplete_and_in_the_access_log(placement: str, origin: Origin) -> None:
    def never(exchange: Exchange) -> None:
        exchange.is_gone(20)
        exchange.close()

    def begun(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf of it")
        exchange.is_gone(20)
        exchange.close()

    origin.on |= {"/never": never, "/begun": begun}
    text = site([origin.port], basic='graceful_shutdown_timeout = "1s"', server='access_log = "{dir}/access.log {uri} {status} {size}"')
    with Pingap(text, placement) as proxy, proxy.client() as waits, proxy.client() as reads, proxy.client() as old:
        waits.request("/never")
        reads.request("/begun?1.1")
        old.send(b"GET /begun?1.0 HTTP/1.0\r\nHost: x\r\n\r\n")
        for client in (reads, old):
            assert client.head().status == 200
        origin.wait("/never")
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGTERM)
        assert waits.response().status == 503
        assert not reads.rest().endswith(b"0\r\n\r\n")
        with pytest.raises(ConnectionResetError):  # an orderly close would say that all is there
            while old.sock.recv(1000):
                pass
        assert proxy.wait_stopped() == 0
        lines = sorted((proxy.dir / "access.log").read_text().splitlines())
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["/begun?1.0 200", "/begun?1.1 200", "/never 503"]


def test_a_stage_that_cannot_start_stops_pingap_with_the_reason(nginx: Nginx, tmp_path: object) -> None:
    proxy = Pingap(site([nginx.port]).replace('addr = "127.0.0.1:{port}"', f'addr = "127.0.0.1:{nginx.port}"'), "split")
    process = proxy.launch()
    try:
        assert process.wait(15) == 1
        assert str(nginx.port) in proxy.output()
        assert "in use" in proxy.output().lower()
        until(lambda: not session_members(process.pid), 3, "nothing is left")
    finally:
        proxy.discard()


@pytest.mark.slow
def test_a_storm_of_kills_leaves_a_proxy_that_serves(nginx: Nginx) -> None:
    up = ["--scale", "routing=2", "--scale", "upstream=2"]
    with Pingap(site([nginx.port], location='plugins = ["pingap:requestId"]'), "split", up=up) as proxy, Load(proxy.port) as load:
        for stage, replica in [("routing", 0), ("upstream", 1), ("plugins", 0), ("logging", 0), ("upstream", 0), ("routing", 1)]:
            kill(proxy, stage, replica)
            load.advance(30)
        until(lambda: all(row.state == "ready" for row in proxy.ps()), 10, "every stage is ready again")
        before = load.tally.failed
        load.advance(300)
        tally = load.stop()
        assert tally.failed == before, "once all are back nothing fails any more"
        assert tally.dropped == tally.hung == 0, tally
