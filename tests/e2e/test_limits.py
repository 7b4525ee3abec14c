"""`limit` in real processes: exact under 64 connections and four replicas, and over two instances with one store."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.redis_server import RedisServer
from tests.kit.waiting import until

FOUR = {"split": ["--scale", "plugins=4", "--scale", "accept=2"], "colocated": ["--workers", "4"]}
CONNECTIONS = 64
EACH = 6

PLUGINS = {
    "bucket": 'algorithm = "bucket"\nmax = 1\ninterval = "1000s"\nburst = 99\nnodelay = true',
    "window": 'max = 100\ninterval = "10000h"\nweight = 100',
    "inflight": 'type = "inflight"\nmax = 20',
    "queue": 'algorithm = "bucket"\nmax = 100\ninterval = "1s"\nburst = 63\ntag = "variables"\nkey = "$remote_addr$http_x_api_key"',
    "tells": 'algorithm = "bucket"\nmax = 1\ninterval = "1000s"\nburst = 1\nnodelay = true\nratelimit_headers = true',
}


def configured(port: int, names: Sequence[str], more: str = "") -> str:
    lines = "".join(f'[plugins.{name}]\ncategory = "limit"\n{PLUGINS[name]}\n{more}\n' for name in names)
    lines += "".join(f'[locations.{name}]\nupstream = "origin"\npath = "/{name}"\nplugins = ["{name}"]\n' for name in names)
    return site([port], more=lines, locations=json.dumps(names), server='access_log = "{status} {uri} {:limit_status}"')


async def _ask(port: int, path: str, each: int, statuses: Counter[str], fields: str = "") -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(each):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        await reader.readexactly(length)
        statuses[head.split(b" ")[1].decode()] += 1
    writer.close()


def fire(ports: Sequence[int], path: str, each: int = EACH, fields: str = "") -> Counter[str]:
    """The statuses of the answers to 64 connections, all at work at the same time."""
    statuses: Counter[str] = Counter()

    async def all_of_them() -> None:
        await asyncio.gather(*(_ask(ports[number % len(ports)], path, each, statuses, fields) for number in range(CONNECTIONS)))

    asyncio.run(all_of_them())
    return statuses


@pytest.fixture(scope="module")
def four(placement: str, nginx: Nginx) -> Iterator[Pingap]:
    with Pingap(configured(nginx.port, ["bucket", "window", "queue", "tells"]), placement, up=FOUR[placement]) as proxy:
        yield proxy


@pytest.mark.parametrize("name", ["bucket", "window"])
def test_so_many_pass_and_no_more_over_four_replicas(four: Pingap, name: str) -> None:
    assert fire([four.port], f"/{name}") == {"200": 100, "429": CONNECTIONS * EACH - 100}


def test_requests_wait_their_turn(four: Pingap) -> None:
    began = time.monotonic()
    assert fire([four.port], "/queue", 1, "X-Api-Key: a\r\n") == {"200": CONNECTIONS}
    assert time.monotonic() - began >= 0.6, "63 at 100 a second"
    assert fire([four.port], "/queue", 1, "X-Api-Key: b\r\n")["200"] == CONNECTIONS
    until(lambda: "DELAYED" in four.output(), 5, "access logs tell it")


def test_clients_are_told_what_is_left_and_when_to_come_back(four: Pingap) -> None:
    answers = [four.get("/tells") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.get("ratelimit-policy") for answer in answers] == ['"tells";q=2;w=2000'] * 3
    assert [(answer.get("ratelimit") or "").partition(";t=")[0] for answer in answers] == ['"tells";r=1', '"tells";r=0', '"tells";r=0']
    assert answers[2].get("retry-after") in ("999", "1000")


def test_so_many_are_in_flight_and_no_more_over_four_replicas(placement: str, origin: Origin) -> None:
    go = threading.Event()

    def held(exchange: Exchange) -> None:
        go.wait(20)
        exchange.reply(b"x")

    origin.on["/inflight"] = held
    statuses: Counter[str] = Counter()
    with Pingap(configured(origin.port, ["inflight"]), placement, up=FOUR[placement]) as proxy:

        async def at_once() -> None:
            tasks = [asyncio.create_task(_ask(proxy.port, "/inflight", 1, statuses)) for _ in range(CONNECTIONS)]
            while statuses["429"] < CONNECTIONS - 20:
                await asyncio.sleep(0.01)
            go.set()
            await asyncio.gather(*tasks)

        asyncio.run(asyncio.wait_for(at_once(), 20))
        assert statuses == {"200": 20, "429": CONNECTIONS - 20}
        again = [proxy.get("/inflight").status for _ in range(30)]
        assert again == [200] * 30, "all places were given back"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", "hunter2") as server:
        yield server


def stored(redis: RedisServer, more: str = "") -> str:
    return f'store = "redis://:hunter2@127.0.0.1:{redis.port}"\nstore_timeout = "5s"\n{more}'


@pytest.fixture(scope="module")
def pair(placement: str, nginx: Nginx, redis: RedisServer) -> Iterator[tuple[Pingap, Pingap]]:
    with redis.client() as client:
        client.flushall()
    text = configured(nginx.port, ["bucket", "window"], stored(redis))
    with Pingap(text, placement, up=FOUR[placement]) as one, Pingap(text, placement) as two:
        yield one, two


@pytest.mark.parametrize("name", ["bucket", "window"])
def test_two_instances_with_one_store_are_exact_together(pair: tuple[Pingap, Pingap], name: str) -> None:
    assert fire([proxy.port for proxy in pair], f"/{name}") == {"200": 100, "429": CONNECTIONS * EACH - 100}


def test_the_password_of_a_store_is_shown_nowhere(pair: tuple[Pingap, Pingap], redis: RedisServer) -> None:
    one = pair[0]
    before = len(one.output())
    one.write_config(one.config.read_text().replace("hunter2", "hunter3").replace('store_timeout = "5s"', 'store_timeout = "300ms"'))
    one.wait_output("the store of a limit is away.*reason=refused", 10, after=before)
    one.wait_output("configuration committed", 10, after=before)
    one.write_config(one.config.read_text().replace('category = "limit"', 'category = "limits"'))
    one.wait_output("there is no plugin 'limits'", 10, after=before)
    assert one.get("/bucket").status in (200, 429)
    said = one.output() + one.command("check", "-c", str(one.config)).stdout
    assert "hunter2" not in said and "hunter3" not in said


def test_a_store_that_stops_costs_nobody_an_answer(placement: str, nginx: Nginx, redis: RedisServer) -> None:
    text = configured(nginx.port, ["bucket"], stored(redis, 'store_prefix = "stops:"').replace("5s", "100ms"))
    with Pingap(text, placement) as proxy:
        assert proxy.get("/bucket").status == 200
        redis.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            answers = fire([proxy.port], "/bucket")
            took = time.monotonic() - began
        finally:
            redis.signal(signal.SIGCONT)
        assert answers == {"200": 100, "429": CONNECTIONS * EACH - 100}, "counted here meanwhile"
        assert took < 5, took
        proxy.wait_output("the store of a limit is back", 10)
        assert proxy.output().count("the store of a limit is away") == 1
        assert proxy.get("/bucket").status == 200, "the store's count goes on"
