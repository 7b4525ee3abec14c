"""PURGE and the commands on a real store: what goes, what stays, and what a fetch that began before may still store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.entry import PURGED_SOFTLY
from pingap.stages.caching.keys import KeyRules
from pingap.stages.caching.purging import PurgeAsked, PurgeScope
from pingap.stages.caching.vary import variant_key
from pingap.stages.plugins.cache.overview import CacheOverview
from pingap.stages.plugins.cache.probe import ProbeAsked
from pingap.stages.plugins.cache.purge import purged
from pingap.stages.plugins.cache.questions import CacheQuestions
from tests.plugins.cache.store.stores import Shop

HOST = b"a.example"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    one = Shop(tmp_path)
    yield one
    one.store.release()


def rules(shop: Shop, namespace: bytes = b"ns", **more: Any) -> CacheRules:
    return CacheRules(shop.place, namespace, keys=KeyRules(namespace, **more))


def key(rules: CacheRules, target: bytes, scheme: bytes = b"https", host: bytes = HOST, headers: bytes = b"") -> bytes:
    return rules.keys.key_of(scheme, host, target, headers, (b"l",))


async def kept(shop: Shop, *keys: bytes) -> list[bool]:
    return [await shop.body(one) is not None for one in keys]


async def do(scope: PurgeScope, target: bytes, rules: CacheRules, shop: Shop, soft: bool = False, tags: tuple[bytes, ...] = ()) -> int:
    done, failed = await purged(PurgeAsked(scope, target, tags, soft), HOST, rules, shop.store)
    assert not failed
    return done


async def test_a_url_goes_with_its_variants_its_parts_and_both_schemes_and_nothing_beside_it(shop: Shop) -> None:
    by = rules(shop, headers=[b"x-color"])
    blue = key(by, b"/a", headers=b"x-color: blue\r\n")
    gone = [key(by, b"/a"), key(by, b"/a", b"http"), blue, variant_key(blue, (b"accept",), b"=x")]
    stay = [key(by, b"/ab"), key(by, b"/a?b=1"), key(by, b"/a/"), key(by, b"/a", host=b"b.example"), key(rules(shop, b"n2"), b"/a")]
    for one in (*gone, *stay):
        assert await shop.put(one, b"x")
    assert await do(PurgeScope.URL, b"/a", by, shop) == len(gone)
    assert await kept(shop, *gone, *stay) == [False] * len(gone) + [True] * len(stay)


@pytest.mark.parametrize("length", [10, 200, 430, 900])
async def test_long_urls_go_like_short_ones(shop: Shop, length: int) -> None:
    by = rules(shop)
    path = b"/dir/" + b"x" * length
    gone, stay = key(by, path), key(by, path + b"y")
    await shop.put(gone, b"x")
    await shop.put(stay, b"x")
    assert await do(PurgeScope.URL, path, by, shop) == 1
    assert await kept(shop, gone, stay) == [False, True]
    assert await do(PurgeScope.PREFIX, b"/dir/", by, shop) == 1
    assert await kept(shop, stay) == [False]


async def test_a_prefix_and_all_of_a_namespace_or_a_host(shop: Shop) -> None:
    by, without = rules(shop), rules(shop, b"")
    images = [key(by, b"/images/1"), key(by, b"/images/x/2", b"http")]
    others = [key(by, b"/imagesque"), key(by, b"/b")]
    unnamed = [key(without, b"/a"), key(without, b"/a", host=b"b.example")]
    for one in (*images, *others, *unnamed):
        await shop.put(one, b"x")
    assert await do(PurgeScope.PREFIX, b"/images/", by, shop) == 2
    assert await kept(shop, *images, *others) == [False, False, True, True]
    assert await do(PurgeScope.ALL, b"", by, shop) == 2
    assert await do(PurgeScope.ALL, b"", without, shop) == 1
    assert await kept(shop, *others, *unnamed) == [False, False, False, True]


async def test_tags_go_and_soft_ones_become_stale(shop: Shop) -> None:
    by = rules(shop)
    one, two = key(by, b"/1"), key(by, b"/2")
    await shop.put(one, b"x", tags=(b"t", b"u"))
    await shop.put(two, b"x", tags=(b"v",))
    assert await do(PurgeScope.TAGS, b"", by, shop, True, (b"u", b"none")) == 1
    stale = await shop.get(one)
    assert stale is not None and stale.entry.flags & PURGED_SOFTLY
    assert await do(PurgeScope.TAGS, b"", by, shop, False, (b"t", b"v")) == 2
    assert await kept(shop, one, two) == [False, False]


@pytest.mark.parametrize(
    ("scope", "target", "tags"),
    [(PurgeScope.URL, b"/a", ()), (PurgeScope.PREFIX, b"/", ()), (PurgeScope.ALL, b"", ()), (PurgeScope.TAGS, b"", (b"t",))],
)
async def test_what_was_asked_for_before_a_purge_is_not_stored_after_it(
    shop: Shop, scope: PurgeScope, target: bytes, tags: tuple[bytes, ...]
) -> None:
    by = rules(shop)
    began = shop.store.mark()
    await do(scope, target, by, shop, tags=tags)
    assert await shop.put(key(by, b"/a"), b"old", began, tags=(b"t",)) == 0
    assert await shop.put(key(by, b"/a"), b"new", tags=(b"t",))
    assert await shop.body(key(by, b"/a")) == b"new"


class Cache:
    """As the stage has it (parts.py)."""

    def __init__(self, shop: Shop, name: str, namespace: bytes) -> None:
        self.name, self.rules, self.store = name, rules(shop, namespace), shop.store
        self.requests = {"hit": 3, "miss": 1}


class Nobody:
    async def ask(self, asked: ProbeAsked, purge: PurgeAsked | None = None) -> dict[str, Any]:
        raise AssertionError("no URL is asked about")


async def told(shop: Shop, word: str, *args: Any) -> Any:
    reported: list[Any] = []
    caches = (Cache(shop, "one", b"n1"), Cache(shop, "two", b"n2"))
    overview = CacheOverview(lambda: caches, lambda: 2, lambda: 5)
    questions = CacheQuestions(asyncio.get_running_loop(), lambda word, value: reported.append(value), Nobody(), overview)
    questions.told(word, (1, *args))
    async with asyncio.timeout(10):
        while not reported:
            await asyncio.sleep(0.001)
    return reported[0]["value"]


async def test_the_operator_purges_all_or_a_namespace_or_by_tags(shop: Shop) -> None:
    spaces = [rules(shop, name) for name in (b"n1", b"n2", b"left over")]
    keys = [key(one, b"/a") for one in spaces]

    async def fill() -> None:
        for one in keys:
            await shop.put(one, b"x", tags=(b"t",))

    await fill()
    assert await told(shop, "cache-purge", "all", False, "n2", []) == {"purged": 1, "failed": 0}
    assert await kept(shop, *keys) == [True, False, True]
    assert await told(shop, "cache-purge", "all", False, None, []) == {"purged": 2, "failed": 0}
    await fill()
    assert await told(shop, "cache-purge", "tags", False, None, ["t", "u"]) == {"purged": 2, "failed": 0}
    assert await told(shop, "cache-purge", "all", False, "n3", []) == "no cache has that namespace: there are 'n1', 'n2'"
    assert "is not a valid" in await told(shop, "cache-purge", "some", False, None, [])


async def test_stats_tell_of_each_store_once_and_of_each_cache(shop: Shop) -> None:
    by = rules(shop, b"n1")
    await shop.put(key(by, b"/a"), b"x" * 100)
    found = await told(shop, "cache-stats")
    ((store,), (one, two)) = found["stores"], found["caches"]
    assert (store["store"], store["objects"], store["counts"]["puts"]) == (str(shop.root), 1, 1)
    assert (one["cache"], one["namespace"], one["objects"], one["requests"]) == ("one", "n1", 1, {"hit": 3, "miss": 1})
    assert (two["objects"], two["bytes"]) == (0, 0)
    assert (found["fetching"], found["waiting"]) == (2, 5)
