"""PURGE: who may, what goes, and what the client is told. The store is a list that remembers what it was told to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from pingap.plugin import Addresses
from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.keys import KeyRules
from pingap.stages.caching.names import NamePatterns
from pingap.stages.caching.place import CachePlace
from pingap.stages.caching.purging import NOT_PURGED, PurgeAsked, PurgeScope
from pingap.stages.messages import Affinity, Routed
from pingap.stages.plugins.cache import purge
from pingap.stages.plugins.cache.probe import Probe
from pingap.stages.plugins.exchange import Exchange, Reply
from tests.plugins.script import PEER, SID, block

INSIDE = "10.1.2.3"


def rules(namespace: bytes = b"ns", purgers: tuple[str, ...] = ("10.0.0.0/8", "::1"), **keys: Any) -> CacheRules:
    return CacheRules(CachePlace("memory", ""), namespace, keys=KeyRules(namespace, **keys), purgers=Addresses(purgers))


class Ledger:
    """A store that does what it is told in the next turn of the loop, or never, or not at all."""

    def __init__(self, *, count: int = 1, is_silent: bool = False) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._count = count
        self._is_silent = is_silent

    def purge_url(self, *args: Any) -> Awaitable[int]:
        return self._done("url", *args)

    def purge_prefix(self, *args: Any) -> Awaitable[int]:
        return self._done("prefix", *args)

    def purge_tag(self, *args: Any) -> Awaitable[int]:
        return self._done("tag", *args)

    def purge_all(self, *args: Any) -> Awaitable[int]:
        return self._done("all", *args)

    def _done(self, *what: Any) -> Awaitable[int]:
        self.told.append(what)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if not self._is_silent:
            asyncio.get_running_loop().call_soon(future.set_result, self._count)
        return future


def exchange(target: str, headers: str = "", ip: str = INSIDE, rewritten: str = "") -> Exchange:
    raw = b"host: a.example\r\n" + block(headers)
    original = target.encode() if rewritten else b""
    # fmt: off
    routed = Routed(SID, 1, Affinity(2, 3, 4), "s", PEER, b"PURGE", (rewritten or target).encode(), 11, b"a.example", raw, 0, b"", True,
        0.5, b"", ip, "l", "u", 1, {}, (1.0, 2.0), original, ())
    # fmt: on
    return Exchange(routed)


async def answer(asked: Exchange, by: CacheRules, store: Ledger) -> Reply:
    result = purge.handle(asked, by, store)
    answered = await result if isinstance(result, Awaitable) else result
    assert isinstance(answered, Reply)
    return answered


def text(reply: Reply) -> str:
    assert isinstance(reply.body, bytes)
    return reply.body.decode()


async def test_one_url_goes_of_both_schemes_and_the_answer_is_the_same_found_or_not() -> None:
    for count in (0, 3):
        store = Ledger(count=count)
        reply = await answer(exchange("/a?b=1"), rules(), store)
        assert (reply.status, reply.body) == (204, b"")
        assert b"cache-control: no-store\r\n" in reply.headers
        urls = [b"ns\0http://a.example/a?b=1", b"ns\0https://a.example/a?b=1"]
        assert store.told == [("url", url, False) for url in urls]


async def test_a_url_is_looked_up_as_its_query_is_stored() -> None:
    store = Ledger()
    await answer(exchange("/a?b=1&utm_x=2&a=3"), rules(ignore_query=NamePatterns(["utm_x"]), sort_query=True), store)
    assert ("url", b"ns\0https://a.example/a?a=3&b=1", False) in store.told


async def test_a_prefix_is_told_with_its_count() -> None:
    store = Ledger(count=2)
    reply = await answer(exchange("/v/images/*", rewritten="/images/*"), rules(), store)
    assert (reply.status, text(reply)) == (200, "purged: 4, fail: 0")
    assert store.told == [("prefix", b"ns\0http://a.example/images/", False), ("prefix", b"ns\0https://a.example/images/", False)]


async def test_all_is_the_namespace_and_without_one_the_host() -> None:
    store = Ledger(count=5)
    reply = await answer(exchange("/*", "pingap-purge: soft"), rules(), store)
    assert (reply.status, text(reply)) == (200, "purged: 5, fail: 0")
    assert store.told == [("all", b"ns", True)]
    store = Ledger()
    await answer(exchange("/*"), rules(b""), store)
    assert store.told == [("prefix", b"\0http://a.example/", False), ("prefix", b"\0https://a.example/", False)]


async def test_tags_are_those_of_the_namespace() -> None:
    store = Ledger()
    reply = await answer(exchange("/any", "surrogate-key: a b\nfastly-soft-purge: 1"), rules(), store)
    assert (reply.status, text(reply)) == (200, "purged: 2, fail: 0")
    assert store.told == [("tag", b"ns", b"a", True), ("tag", b"ns", b"b", True)]


@pytest.mark.parametrize(
    ("ip", "status", "said"),
    [
        ("192.0.2.9", 403, "Forbidden, ip is not allowed"),
        ("::2", 403, "Forbidden, ip is not allowed"),
        ("unix", 400, "The client has no IP address"),
        ("", 400, "The client has no IP address"),
    ],
)
async def test_who_may_not_purges_nothing(ip: str, status: int, said: str) -> None:
    store = Ledger()
    reply = await answer(exchange("/*", ip=ip), rules(), store)
    assert (reply.status, text(reply), store.told) == (status, said, [])


async def test_without_a_list_nobody_may() -> None:
    store = Ledger()
    assert (await answer(exchange("/a", ip="127.0.0.1"), rules(purgers=()), store)).status == 403
    assert not store.told


async def test_what_is_not_clear_is_refused_with_the_reason() -> None:
    store = Ledger()
    reply = await answer(exchange("/a", "pingap-purge: sof"), rules(), store)
    assert (reply.status, text(reply), store.told) == (400, "Pingap-Purge is soft or hard", [])


async def test_a_store_that_is_silent_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "LONGEST", 0.01)
    reply = await answer(exchange("/a"), rules(), Ledger(is_silent=True))
    assert reply.status == 503 and text(reply).startswith("the purge is not through")


@pytest.mark.parametrize("target", ["/a", "/a/*", "/*"])
async def test_a_store_that_cannot_do_it_is_no_success(target: str) -> None:
    reply = await answer(exchange(target), rules(b""), Ledger(count=NOT_PURGED))
    assert (reply.status, text(reply)) == (500, "purged: 0, fail: 2")


async def test_the_operator_needs_no_address_and_hears_the_count() -> None:
    asked, store = exchange("/any", ip="192.0.2.9"), Ledger(count=2)
    probe = Probe(PurgeAsked(PurgeScope.PREFIX, b"", (), True))
    probe.join(asked)
    assert (await answer(asked, rules(), store)).status == 204
    assert probe.found == {"purged": 4, "failed": 0, "namespace": "ns"}
    assert store.told == [("prefix", b"ns\0http://a.example/any", True), ("prefix", b"ns\0https://a.example/any", True)]
