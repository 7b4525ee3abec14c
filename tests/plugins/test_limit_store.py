"""`limit` with a store: a real redis-server that is killed, stopped, restarted, slow, or does not let us in."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import BadValue
from pingap.config.secrecy import masked, masked_value
from pingap.stages.messages import Cancel, Done, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.limits import leases as limit_leases
from pingap.stages.plugins.builtin.limits import store as limit_store
from pingap.stages.plugins.builtin.limits.store_url import StoreUrl, parse_store_url
from tests.e2e.certificate import self_signed
from tests.kit.redis_server import RedisServer
from tests.kit.waiting import eventually, free_port
from tests.plugins.script import OTHER, PLUGINS, SID, Stage, lines

Section = dict[str, Any]
SECRET = "s3cr%40t"


def section(store: str, **keys: Any) -> Section:
    """3 in a bucket that leaks nothing to speak of."""
    usual = {"category": "limit", "algorithm": "bucket", "max": 1, "interval": "1000s", "burst": 2, "nodelay": True}
    return {**usual, "store": store, "store_timeout": "2s", **keys}


async def come(stage: Stage, count: int, *envelopes: Any) -> list[Any]:
    """Hands envelopes in; what goes out, once it is so many."""
    stage.give(*envelopes)
    await eventually(lambda: len(stage.context.sent) >= count)
    return stage.out()


def plugin_of(stage: Stage) -> Any:
    [live] = stage.actor._compiler._live.values()
    return live.plugin


class Asker:
    """Requests to a stage, one after the other."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._sid = SID

    async def one(self, **more: Any) -> Any:
        """What comes of a request, when it comes."""
        self._sid += 1
        [answer] = await come(self.stage, 1, self.stage.request(sid=self._sid, **more))
        return answer

    async def statuses(self, count: int, **more: Any) -> list[int]:
        """0: it went on."""
        answers = [await self.one(**more) for _ in range(count)]
        return [answer.status if isinstance(answer, Response) else 0 for answer in answers]

    @property
    def store(self) -> limit_store.LimitStore:
        store: limit_store.LimitStore = plugin_of(self.stage)._store
        return store

    def rows(self) -> list[str]:
        """What the log says of the store."""
        return [message for level, message, _ in self.stage.context.logged if level != "debug" and "the store" in message]


# -- counting ----------------------------------------------------------------------


@pytest.mark.processes
async def test_two_hosts_have_one_count(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url)}) as first, Stage({"p": section(fresh.url)}, actor=OTHER) as second:
        one, two = Asker(first), Asker(second)
        assert await one.statuses(2) + await two.statuses(2) + await one.statuses(1) == [0, 0, 0, 429, 429]
        assert await two.statuses(1, client_ip="192.0.2.99") == [0]
        refused = await two.one()
    assert "retry-after: 1000" in lines(refused.headers)


@pytest.mark.processes
async def test_windows_are_counted_there_too(fresh: RedisServer) -> None:
    keys: Section = {"category": "limit", "max": 2, "interval": "900s", "weight": 100, "store": fresh.url, "ratelimit_headers": True}
    async with Stage({"p": keys}) as first, Stage({"p": keys}, actor=OTHER) as second:
        assert await Asker(first).statuses(1) + await Asker(second).statuses(2) == [0, 0, 429]


@pytest.mark.processes
async def test_places_in_flight_are_given_back_there(fresh: RedisServer) -> None:
    keys: Section = {"category": "limit", "type": "inflight", "max": 2, "store": fresh.url}
    async with Stage({"p": keys}) as first, Stage({"p": keys}, actor=OTHER) as second:
        one, two = Asker(first), Asker(second)
        routed = await one.one()
        assert routed.watchers == (PLUGINS,)
        assert await one.statuses(1) == [0]
        assert await two.statuses(1) == [429]
        first.give(Done(SID + 1))
        await eventually(lambda: not one.store._waiting and one.store._sender is None)
        assert await two.statuses(2) == [0, 429]
        first.give(Cancel(SID + 2, "client"))
        await eventually(lambda: not one.store._waiting and one.store._sender is None)
        assert await two.statuses(1) == [0]


@pytest.mark.processes
async def test_a_place_whose_client_left_meanwhile_is_given_back(fresh: RedisServer) -> None:
    async with Stage({"p": {"category": "limit", "type": "inflight", "max": 1, "store": fresh.url, "store_timeout": "5s"}}) as stage:
        asker = Asker(stage)
        assert await asker.statuses(1) == [0]
        stage.give(Done(SID + 1))
        fresh.signal(signal.SIGSTOP)
        try:
            await stage.run(stage.request(sid=SID + 50))
            await stage.run(Cancel(SID + 50, "client"))
        finally:
            fresh.signal(signal.SIGCONT)
        await eventually(lambda: asker.store._sender is None)
        assert await asker.statuses(1) == [0]
        assert len(plugin_of(stage)._leases) == 1


@pytest.mark.processes
async def test_a_request_that_goes_on_without_the_answer_has_no_place_there(fresh: RedisServer) -> None:
    keys: Section = {
        "category": "limit",
        "type": "inflight",
        "max": 1,
        "store": fresh.url,
        "store_timeout": "100ms",
        "store_failure": "open",
    }
    async with Stage({"p": keys}) as stage:
        asker = Asker(stage)
        fresh.signal(signal.SIGSTOP)
        try:
            assert await asker.statuses(1) == [0]
        finally:
            fresh.signal(signal.SIGCONT)
        await eventually(lambda: not asker.store.is_away and asker.store._sender is None)
        assert await asker.statuses(2) == [0, 429]


@pytest.mark.processes
async def test_places_of_requests_that_last_are_renewed(fresh: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.builtin.limits.scripts.LEASE", 0.3)
    monkeypatch.setattr(limit_leases, "LEASE", 0.3)
    monkeypatch.setattr(limit_leases.StoreLeases.__init__, "__defaults__", (0.05,))
    keys: Section = {"category": "limit", "type": "inflight", "max": 1, "store": fresh.url}
    async with Stage({"p": keys}, actor=OTHER) as second:
        two = Asker(second)
        async with Stage({"p": keys}) as first:
            assert await Asker(first).statuses(1) == [0]
            began = time.monotonic()
            while time.monotonic() < began + 0.6:
                assert await two.statuses(1) == [429]
                await asyncio.sleep(0.05)
        # As after a crash: nobody renews it any more.
        for _ in range(40):
            await asyncio.sleep(0.05)
            if await two.statuses(1) == [0]:
                return
        raise AssertionError("the place is held for ever")


@pytest.mark.processes
async def test_prefix_name_and_settings_say_who_counts_together(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url)}) as stage:
        assert await Asker(stage).statuses(4) == [0, 0, 0, 429]
    for name, keys in (("p", {"store_prefix": "other:"}), ("q", {}), ("p", {"burst": 1})):
        async with Stage({name: section(fresh.url, **keys)}) as stage:
            assert await Asker(stage).statuses(1) == [0]
    with fresh.client() as client:
        names = client.keys()
        assert len(names) == 4 and sum(name.startswith("pingap:limit:p:") for name in names) == 2
        assert not [name for name in names if "192.0.2.7" in name], "it learns no addresses"


@pytest.mark.processes
@pytest.mark.parametrize("form", ["redis://127.0.0.1:{port}/3", "unix://{socket}?db=3"])
async def test_a_database_and_a_socket_can_be_named(fresh: RedisServer, form: str) -> None:
    async with Stage({"p": section(form.format(port=fresh.port, socket=fresh.socket))}) as stage:
        assert await Asker(stage).statuses(4) == [0, 0, 0, 429]
    with fresh.client() as client:
        assert (client.info("keyspace").get("db3", {}).get("keys"), client.dbsize()) == (1, 0)


@pytest.mark.processes
async def test_a_server_may_speak_tls_and_proves_who_it_is(tmp_path: Path) -> None:
    for name, text in zip(("cert", "key"), self_signed("localhost"), strict=True):
        (tmp_path / name).write_text(text)
    port = free_port()
    files = ("--tls-cert-file", f"{tmp_path}/cert", "--tls-key-file", f"{tmp_path}/key", "--tls-auth-clients", "no")
    with RedisServer(tmp_path, "--tls-port", str(port), *files):
        for url, expected in ((f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/cert", 429), (f"rediss://localhost:{port}", 503)):
            async with Stage({"p": section(url, store_failure="closed")}) as stage:
                assert (await Asker(stage).statuses(4))[-1] == expected


@pytest.mark.processes
async def test_many_requests_go_there_together(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, burst=99)}) as stage:
        asker = Asker(stage)
        await asker.one()
        with fresh.client() as client:
            before = client.info("stats")["total_reads_processed"]
            out = await come(stage, 150, *(stage.request(sid=SID + 100 + number) for number in range(150)))
            reads = client.info("stats")["total_reads_processed"] - before
    assert sum(isinstance(one, Routed) for one in out) == 99
    assert reads < 10


# -- away --------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize(("failure", "expected"), [("local", [0, 0, 0, 429]), ("open", [0, 0, 0, 0]), ("closed", [503, 503, 503, 503])])
async def test_a_dead_server_costs_one_deadline_and_is_told_once(fresh: RedisServer, failure: str, expected: list[int]) -> None:
    async with Stage({"p": section(fresh.url, store_failure=failure, store_timeout="300ms")}) as stage:
        asker = Asker(stage)
        assert await asker.statuses(1) == [0]
        fresh.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            answers = await asker.statuses(4)
            took = time.monotonic() - began
        finally:
            fresh.signal(signal.SIGCONT)
        assert answers == expected
        assert 0.25 < took < 0.6 * 2, "one deadline, not four"
        counted = stage.context.counted
        assert (counted["limit_store_failures"], counted["limit_store_missed"]) == (1, 4)
        assert asker.rows() == ["the store of a limit is away"]
        await eventually(lambda: not asker.store.is_away)
        assert asker.rows() == ["the store of a limit is away", "the store of a limit is back"]
        # What it took while it was stopped counts, or not: but no more than that.
        assert (await asker.statuses(3))[-1] == 429


@pytest.mark.processes
async def test_many_that_wait_for_a_dead_server_wait_for_one_deadline_together(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, store_failure="open", store_timeout="1s")}) as stage:
        await Asker(stage).one()
        fresh.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            for at in range(3):
                stage.feed(*(stage.request(sid=SID + 1000 * at + 100 + number) for number in range(300)))
                await asyncio.sleep(0.01)
            assert len(await come(stage, 900)) == 900
            assert time.monotonic() - began < 1.9
        finally:
            fresh.signal(signal.SIGCONT)
        assert stage.context.counted["limit_store_failures"] == 1


@pytest.mark.processes
async def test_a_server_that_was_restarted_is_used_again(tmp_path: Any) -> None:
    with RedisServer(tmp_path) as redis:
        async with Stage({"p": section(redis.url, store_failure="closed")}) as stage:
            asker = Asker(stage)
            assert await asker.statuses(4) == [0, 0, 0, 429]
            redis.kill()
            assert await asker.statuses(2) == [503, 503]
            redis.start()
            await eventually(lambda: not asker.store.is_away)
            assert await asker.statuses(4) == [0, 0, 0, 429], "its scripts are given to it again, and it remembers nothing"
            with redis.client() as client:
                client.script_flush()
            assert await asker.statuses(1) == [429]
            assert asker.rows() == ["the store of a limit is away", "the store of a limit is back"]


@pytest.mark.processes
async def test_an_idle_connection_that_the_server_closes_is_no_failure(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, store_failure="closed")}) as stage:
        asker = Asker(stage)
        assert await asker.statuses(1) == [0]
        with fresh.client() as client:
            for known in client.client_list():
                if known["name"] == "pingap":
                    client.client_kill_filter(_id=known["id"])
            assert await asker.statuses(3) == [0, 0, 429]
        assert asker.rows() == []


@pytest.mark.processes
async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Any) -> None:
    with RedisServer(tmp_path, "--requirepass", "s3cr@t") as redis:
        right = f"redis://:{SECRET}@127.0.0.1:{redis.port}"
        async with Stage({"p": section(right)}) as stage:
            assert await Asker(stage).statuses(4) == [0, 0, 0, 429]
        for url in (f"redis://:wr0ng@127.0.0.1:{redis.port}", f"redis://nobody:wr0ng@127.0.0.1:{redis.port}", redis.url):
            async with Stage({"p": section(url, store_failure="closed")}) as stage:
                asker = Asker(stage)
                assert await asker.statuses(1) == [503]
                [(_, _, fields)] = [entry for entry in stage.context.logged if entry[0] == "warn"]
                assert fields["store"] == f"redis://127.0.0.1:{redis.port}/0"
                assert "wr0ng" not in str(stage.context.logged)


@pytest.mark.processes
async def test_a_server_that_cannot_write_is_away(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, store_failure="open")}) as stage:
        asker = Asker(stage)
        with fresh.client() as client:
            client.config_set("maxmemory", 1)
            assert await asker.statuses(2) == [0, 0]
            assert asker.rows()[0] == "the store of a limit is away"


@pytest.mark.processes
async def test_a_key_that_is_something_else_fails_its_own_requests_only(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, store_failure="closed")}) as stage:
        asker = Asker(stage)
        await asker.one()
        with fresh.client() as client:
            [name] = client.keys()
            client.delete(name)
            client.lpush(name, 1)
        assert await asker.statuses(1) == [503]
        assert await asker.statuses(1, client_ip="192.0.2.8") == [0]
        assert asker.rows() == []


@pytest.mark.processes
async def test_a_value_of_somebody_else_is_written_over(fresh: RedisServer) -> None:
    async with Stage({"p": section(fresh.url, store_failure="closed")}) as stage:
        asker = Asker(stage)
        await asker.one()
        with fresh.client() as client:
            [name] = client.keys()
            client.set(name, "garbage")
        assert await asker.statuses(4) == [0, 0, 0, 429]
        assert asker.rows() == []


async def test_nobody_there_is_no_error_of_the_configuration() -> None:
    async with Stage({"p": section(f"redis://127.0.0.1:{free_port()}")}) as stage:
        assert await Asker(stage).statuses(4) == [0, 0, 0, 429]


async def test_what_is_no_redis_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with Stage({"p": section(f"redis://127.0.0.1:{other.getsockname()[1]}", store_timeout="50ms")}) as stage:
            assert await Asker(stage).statuses(4) == [0, 0, 0, 429]


async def test_a_dry_run_refuses_nobody_when_the_store_is_away() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with Stage({"p": section(url, store_failure="closed", dry_run=True)}) as stage:
        assert await Asker(stage).statuses(3) == [0, 0, 0]


# -- addresses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", StoreUrl("redis://h:6379/0", "redis", "h", 6379)),
        ("redis://:p%2Fw@h:1/2", StoreUrl("redis://h:1/2", "redis", "h", 1, db=2, password="p/w")),
        ("redis://u:p@[::1]/?db=3", StoreUrl("redis://[::1]:6379/3", "redis", "::1", 6379, db=3, username="u", password="p")),
        ("rediss://h?ssl_ca_certs=/ca", StoreUrl("rediss://h:6379/0", "rediss", "h", 6379, tls=(("ssl_ca_certs", "/ca"),))),
        ("unix:///a%20b", StoreUrl("unix:///a b?db=0", "unix", path="/a b")),
        ("unix://:p@/a?db=1", StoreUrl("unix:///a?db=1", "unix", path="/a", db=1, password="p")),
        ("", None),
    ],
)
def test_addresses(text: str, expected: StoreUrl | None) -> None:
    assert parse_store_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "memcached://hunter2@h",
        "redis://",
        "redis:///hunter2",
        "redis://h/hunter2",
        "redis://:hun#ter2@h",
        "redis://:hun/hunter2@h",
        "redis://:hunter2@h:port",
        "redis://:a@hunter2@h",
        "redis://:a hunter2@h",
        "redis://h/1?db=2",
        "redis://h?ssl_ca_certs=/hunter2",
        "rediss://h?ssl_cert_reqs=hunter2",
        "redis://[hunter2",
        "unix://hunter2",
        7,
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(text: Any) -> None:
    with pytest.raises(BadValue) as caught:
        parse_store_url(text)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    [problem] = checking.check("p", {"category": "limit", "max": 1, "store": text})
    assert problem.path == "plugins.p.store" and "hunter2" not in str(problem)


@given(st.text(max_size=12).filter(str.strip), st.text(max_size=12))
def test_whatever_a_password_is_it_arrives_and_is_not_shown(password: str, user: str) -> None:
    text = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h"
    url = parse_store_url(text)
    assert url is not None and (url.password, url.username or "") == (password, user)
    assert masked(text) == "redis://***@h"
    assert password not in url.shown or password in "redis://h:6379/0"


@pytest.mark.parametrize("url", ["redis://:hunter2@h", "rediss://u:hunter2@h/1", "unix://:hunter2@/run/x"])
def test_the_password_is_not_shown_with_the_configuration(url: str) -> None:
    assert "hunter2" not in str(masked_value({"store": url}, False))
    assert "hunter2" not in repr(parse_store_url(url))


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"store_timeout": "0s"}, "store_timeout"),
        ({"store_timeout": "11s"}, "store_timeout"),
        ({"store_failure": "x"}, "store_failure"),
        ({"interval": 0.0005}, "interval"),
        ({"store_prefix": 1}, "store_prefix"),
    ],
)
def test_what_a_store_cannot_have_is_refused(keys: Section, key: str) -> None:
    [problem] = checking.check("p", {"category": "limit", "max": 1, "store": "redis://h", **keys})
    assert problem.path == f"plugins.p.{key}"


@pytest.mark.parametrize("key", ["store_prefix", "store_timeout", "store_failure"])
def test_keys_of_a_store_are_of_no_effect_without_one(key: str) -> None:
    value = {"store_prefix": "x", "store_timeout": "1s", "store_failure": "open"}[key]
    [note] = checking.Checker()("p", {"category": "limit", "max": 1, key: value})
    assert note.path == f"plugins.p.{key}"


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    [problem] = checking.check("p", {"category": "limit", "max": 1, "store": "redis://h"})
    assert (problem.path, problem.hint) == ("plugins.p.store", "pip install 'pingap[redis]'")
