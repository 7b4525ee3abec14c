"""What `pingap cache explain` says of a request, from what is stored and from the rules of its cache."""

from __future__ import annotations

from typing import Any

import pytest
import re2
from msgspec.structs import replace

from pingap.plugin import Addresses
from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.entry import ALWAYS_VALIDATE, MARKER, MUST_REVALIDATE, PURGED_SOFTLY, CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.names import NamePatterns
from pingap.stages.caching.place import CachePlace
from pingap.stages.caching.vary import chosen_by, variant_key
from pingap.stages.messages import Affinity, Routed
from pingap.stages.plugins.cache import explain
from pingap.stages.plugins.cache.flights.known import KnownOfKey
from pingap.stages.plugins.cache.probe import Probe
from pingap.stages.plugins.exchange import Exchange
from tests.plugins.script import PEER, SID, block

KEY = b"ns\0https://a.example/a\0/l"
NOW = 1000.0
RULES = CacheRules(CachePlace("memory", ""), b"ns", trusted=Addresses(["10.0.0.0/8"]))


NOTHING = KnownOfKey()


class Shelf:
    """A store that has what it is given; `slow` answers later."""

    def __init__(self, *stored: StoredAnswer, is_slow: bool = False) -> None:
        self._by_key = {one.entry.key: one for one in stored}
        self._is_slow = is_slow

    def now(self) -> float:
        return NOW

    def get(self, key: bytes) -> Any:
        found = self._by_key.get(key)
        return self._later(found) if self._is_slow else found

    async def _later(self, found: StoredAnswer | None) -> StoredAnswer | None:
        return found


def entry(key: bytes = KEY, **more: Any) -> CacheEntry:
    # fmt: off
    plain = CacheEntry(key, 200, b"", 5, NOW - 12, NOW - 12, NOW + 48, 30.0, 3600.0, 0, b'"x"', b"", 0.0, 60.0, "max-age", (b"t1", b"t2"))
    # fmt: on
    return replace(plain, **more)


def stored(**more: Any) -> StoredAnswer:
    return StoredAnswer(entry(**more), b"hello", 7)


async def told(
    *shelf: StoredAnswer, headers: str = "", method: bytes = b"GET", ip: str = "192.0.2.9", rules: CacheRules = RULES, slow: bool = False,
    known: KnownOfKey = NOTHING,
) -> dict[str, Any]:  # fmt: skip
    raw = b"host: a.example\r\n" + block(headers)
    # fmt: off
    routed = Routed(SID, 1, Affinity(2, 3, 4), "s", PEER, method, b"/a", 11, b"a.example", raw, 0, b"", True, 0.5, b"", ip, "l", "u", 1, {},
        (1.0, 2.0), b"", ())
    # fmt: on
    exchange, probe = Exchange(routed), Probe()
    probe.join(exchange)
    await explain.explained(exchange, probe, rules, Shelf(*shelf, is_slow=slow), KEY, lambda key: known)
    assert probe.found is not None
    return probe.found


@pytest.mark.parametrize("slow", [False, True])
async def test_a_hit_says_how_old_it_is_and_for_how_long_it_is_fresh(slow: bool) -> None:
    found = await told(stored(), slow=slow)
    assert (found["outcome"], found["rule"], found["source"]) == ("hit", "fresh", "RFC 9111 section 4.2")
    assert found["stored"] == {
        "status": 200, "size": 5, "age": 12.0, "ttl": 48.0, "lifetime": 60.0, "lifetime_rule": "max-age", "stale_while_revalidate": 30.0,
        "stale_if_error": 3600.0, "etag": '"x"', "last_modified": "", "tags": ["t1", "t2"], "flags": [], "stored": 12.0, "number": 7,
        "where": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "outcome", "rule"),
    [
        ({"fresh_until": NOW - 10}, "stale-updating", "stale-while-revalidate"),
        ({"fresh_until": NOW - 40}, "expired", "stale"),
        ({"fresh_until": NOW - 10, "flags": MUST_REVALIDATE}, "expired", "must-revalidate"),
        ({"flags": ALWAYS_VALIDATE}, "expired", "no-cache"),
        ({"flags": PURGED_SOFTLY, "stale_while": 0.0, "fresh_until": NOW - 1}, "expired", "purged softly"),
    ],
)
async def test_what_is_not_fresh_says_why(more: dict[str, Any], outcome: str, rule: str) -> None:
    found = await told(stored(**more))
    assert (found["outcome"], found["rule"]) == (outcome, rule)
    assert found["source"], "each rule is written somewhere"


async def test_what_is_left_of_the_time_for_stale_answers_is_told() -> None:
    found = await told(stored(fresh_until=NOW - 10))
    assert found["stored"]["stale_while_revalidate"] == 20.0
    assert (await told(stored(flags=MUST_REVALIDATE)))["stored"]["stale_if_error"] == 0.0
    assert (await told(stored(flags=PURGED_SOFTLY)))["stored"]["stale_while_revalidate"] == 78.0
    assert (await told(stored(flags=PURGED_SOFTLY, stale_while=0.0)))["stored"]["stale_while_revalidate"] == 0.0


async def test_a_miss_says_what_it_was_looked_up_by() -> None:
    found = await told()
    assert (found["outcome"], found["rule"], found["namespace"]) == ("miss", "nothing stored", "ns")
    assert found["key"] == KEY.decode()
    assert "stored" not in found


async def test_a_variant_is_told_with_what_chooses_it() -> None:
    names = (b"accept-encoding", b"x-color")
    marker = StoredAnswer(entry(flags=MARKER, vary=(names,), fresh_until=1e15), b"", 8)
    headers = "accept-encoding: gzip, br\nx-color: blue"
    key = variant_key(KEY, names, chosen_by(names, block(headers)))
    found = await told(marker, stored(key=key, chosen_by=chosen_by(names, block(headers))), headers=headers)
    assert found["outcome"] == "hit"
    assert found["variant"] == {"accept-encoding": "=br,gzip", "x-color": "=blue"}
    found = await told(marker, stored(key=key, chosen_by=chosen_by(names, block(headers))), headers="x-color: red")
    assert (found["outcome"], found["rule"]) == ("miss", "vary")
    assert found["variant"] == {"accept-encoding": "-", "x-color": "=red"}


@pytest.mark.parametrize(
    ("method", "headers", "rules", "rule"),
    [
        (b"POST", "", RULES, "method"),
        (b"GET", "", RULES._replace(skip=re2.compile(b"^/a")), "skip"),
        (b"GET", "cookie: a=b; sid=1", RULES._replace(bypass_cookies=NamePatterns(["sid"])), "bypass_cookies"),
    ],
    ids=["method", "skip", "cookies"],
)
async def test_what_the_cache_lets_go_by_says_which_key_says_so(method: bytes, headers: str, rules: CacheRules, rule: str) -> None:
    found = await told(stored(), method=method, headers=headers, rules=rules)
    assert (found["outcome"], found["rule"]) == ("bypass", rule)
    assert found["source"] and "b'" not in found["source"]


async def test_directives_count_of_trusted_clients_alone() -> None:
    assert (await told(stored(), headers="cache-control: no-cache"))["outcome"] == "hit"
    found = await told(stored(), headers="cache-control: no-cache", ip="10.1.1.1")
    assert (found["outcome"], found["rule"], found["source"]) == ("expired", "request: no-cache", "RFC 9111 section 5.2.1.4")
    found = await told(stored(), headers="cache-control: no-store", ip="10.1.1.1")
    assert (found["outcome"], found["rule"]) == ("bypass", "request: no-store")
    found = await told(headers="cache-control: only-if-cached", ip="10.1.1.1")
    assert (found["outcome"], found["rule"]) == ("unavailable", "request: only-if-cached")
    found = await told(stored(), headers="cache-control: no-store", ip="10.1.1.1")
    assert (found["outcome"], found["rule"], found["source"]) == ("bypass", "request: no-store", "RFC 9111 section 5.2.1.5")


async def test_what_could_not_be_stored_before_is_not_waited_for() -> None:
    found = await told(known=KnownOfKey(12.0))
    assert (found["outcome"], found["remembered"]) == ("uncacheable", 12.0)
    assert (await told(stored(), known=KnownOfKey(12.0)))["outcome"] == "hit"


async def test_a_backend_that_fails_is_left_alone_and_what_is_stored_used_instead() -> None:
    known = KnownOfKey(again=3.0, soon=1.0, failure="bad_gateway")
    found = await told(known=known)
    assert (found["outcome"], found["again"], found["failure"]) == ("failed", 1.0, "bad_gateway")
    found = await told(stored(fresh_until=NOW - 40), known=known)
    assert (found["outcome"], found["again"], found["source"]) == ("stale", 3.0, "RFC 5861 section 4")
    must = stored(fresh_until=NOW - 40, flags=MUST_REVALIDATE)
    assert (await told(must, known=known))["outcome"] == "failed"
    assert (await told(must, known=known._replace(soon=0.0)))["outcome"] == "expired", "what has nothing to give asks"


async def test_a_large_body_is_told_with_its_file() -> None:
    found = await told(StoredAnswer(entry(), FileSpot("/var/cache/x/1"), 7))
    assert found["stored"]["where"] == "/var/cache/x/1"
