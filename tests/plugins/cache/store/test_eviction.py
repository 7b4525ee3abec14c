"""What goes when room is needed: S3-FIFO over segments, beside a model of it and beside LRU; what was purged, beside a list."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.plugins.cache.store import eviction, purge_log, purger, records, short_keys
from pingap.stages.plugins.cache.store.eviction import MAIN, MOST_TOUCHES, SMALL, Candidate, Filled
from pingap.stages.plugins.cache.store.ghosts import Ghosts
from pingap.stages.plugins.cache.store.index import Index, number_key
from pingap.stages.plugins.cache.store.purge_log import Purge, PurgeLog
from tests.plugins.cache.store.stores import entry

ROOM = 200
PER_SEGMENT = 2


class Segments:
    """A store of entries of one byte, as the evictor does it."""

    def __init__(self) -> None:
        self.where: dict[int, int] = {}
        self.touches: dict[int, int] = {}
        self.segments: dict[int, tuple[int, list[int]]] = {}
        self.writing: dict[int, int] = {}
        self.last = 0
        self.ghosts = Ghosts(memoryview(bytearray(2 * ROOM)))

    def ask(self, key: int) -> bool:
        if key in self.where:
            self.touches[key] = min(MOST_TOUCHES, self.touches[key] + 1)
            return True
        while sum(len(one) for _, one in self.segments.values()) >= ROOM:
            self.free()
        self.touches[key] = 0
        self.append(MAIN if self.ghosts.take(b"%d" % key) else SMALL, key)
        return False

    def append(self, queue: int, key: int) -> None:
        at = self.writing.get(queue, 0)
        if at not in self.segments or len(self.segments[at][1]) >= PER_SEGMENT:
            self.last += 1
            at = self.writing[queue] = self.last
            self.segments[at] = (queue, [])
        self.segments[at][1].append(key)
        self.where[key] = at

    def free(self) -> None:
        filled = [
            Filled(number, queue, len(keys), sum(self.where.get(key) == number for key in keys), self.writing[queue] != number)
            for number, (queue, keys) in self.segments.items()
        ]
        chosen = eviction.next_to_free(filled, ROOM)
        if chosen is None:
            self.writing.clear()
            chosen = eviction.next_to_free([one._replace(is_sealed=True) for one in filled], ROOM)
        assert chosen is not None
        queue, keys = self.segments.pop(chosen.segment)
        living = [key for key in keys if self.where.get(key) == chosen.segment]
        staying = eviction.survivors(chosen, [Candidate(1, self.touches[key]) for key in living])
        for at, key in enumerate(living):
            if at in staying:
                self.touches[key] = eviction.touches_after(queue, self.touches[key])
                self.append(MAIN, key)
            else:
                del self.where[key], self.touches[key]
                if queue == SMALL:
                    self.ghosts.add(b"%d" % key)


class Model:
    """S3-FIFO as its paper has it, entry by entry."""

    def __init__(self) -> None:
        self.queues: tuple[deque[int], deque[int]] = (deque(), deque())
        self.touches: dict[int, int] = {}
        self.ghosts: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int) -> bool:
        if key in self.touches:
            self.touches[key] = min(3, self.touches[key] + 1)
            return True
        while len(self.touches) >= ROOM:
            self.evict()
        self.touches[key] = 0
        if key in self.ghosts:
            del self.ghosts[key]
            self.queues[MAIN].append(key)
        else:
            self.queues[SMALL].append(key)
        return False

    def evict(self) -> None:
        small, main = self.queues
        if len(small) > ROOM * 0.1 or not main:
            key = small.popleft()
            if self.touches[key] > 1:
                self.touches[key] = 0
                main.append(key)
            else:
                del self.touches[key]
                self.ghosts[key] = None
                if len(self.ghosts) > ROOM:
                    self.ghosts.popitem(last=False)
        else:
            key = main.popleft()
            if self.touches[key]:
                self.touches[key] -= 1
                main.append(key)
            else:
                del self.touches[key]


class Lru:
    def __init__(self) -> None:
        self.keys: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int) -> bool:
        if key in self.keys:
            self.keys.move_to_end(key)
            return True
        if len(self.keys) >= ROOM:
            self.keys.popitem(last=False)
        self.keys[key] = None
        return False


def zipf(count: int, keys: int, seed: int) -> list[int]:
    weights = list(accumulate(1 / (rank + 1) for rank in range(keys)))
    return random.Random(seed).choices(range(keys), cum_weights=weights, k=count)


def test_more_requests_are_hits_than_with_lru_and_about_as_many_as_entry_by_entry() -> None:
    trace = zipf(20_000, 4_000, 1)
    for at in range(0, len(trace), 20):  # a crawler, who asks for each thing once
        trace[at : at + 5] = range(10_000 + at, 10_005 + at)
    segments, model, lru = Segments(), Model(), Lru()
    hits = [sum(one.ask(key) for key in trace) / len(trace) for one in (segments, model, lru)]
    assert hits[0] > hits[2] * 1.1 and hits[0] > hits[1] * 0.95, hits


@given(st.lists(st.integers(0, 400), max_size=600))
def test_it_stays_within_its_room_and_knows_what_it_has(trace: list[int]) -> None:
    store = Segments()
    for key in trace:
        store.ask(key)
        assert store.where[key] in store.segments  # what was asked for last is there
    assert sum(len(keys) for _, keys in store.segments.values()) <= ROOM + PER_SEGMENT
    for key, at in store.where.items():
        assert key in store.segments[at][1]


@given(
    st.lists(st.builds(Filled, st.integers(1, 99), st.sampled_from((SMALL, MAIN)), st.integers(1, 99), st.integers(0, 99), st.booleans())),
    st.integers(0, 500),
)
def test_whose_turn_it_is(segments: list[Filled], room: int) -> None:
    chosen = eviction.next_to_free(segments, room)
    sealed = [one for one in segments if one.is_sealed]
    assert (chosen is None) == (not sealed)
    if chosen is not None and chosen.weight >= chosen.size * eviction.SPARSE:
        assert chosen.segment == min(one.segment for one in sealed if one.queue == chosen.queue)


@given(st.sampled_from((SMALL, MAIN)), st.lists(st.builds(Candidate, st.integers(1, 50), st.integers(0, 3)), max_size=30))
def test_each_turn_frees_half_of_a_segment(queue: int, entries: list[Candidate]) -> None:
    size = sum(one.size for one in entries)
    staying = eviction.survivors(Filled(1, queue, size, size, True), entries)
    assert (staying == sorted(set(staying)) and sum(entries[at].size for at in staying) <= size / 2) or not size
    assert all(entries[at].touches >= eviction.WORTH[queue] for at in staying)


KEYS = st.lists(st.sampled_from((b"a", b"b", b"\0")), max_size=6).map(lambda parts: b"n\0u" + b"".join(parts))
PURGES = st.one_of(
    st.builds(Purge, st.just("url"), st.just(b""), KEYS, st.booleans()),
    st.builds(Purge, st.just("prefix"), st.just(b""), KEYS, st.booleans()),
    st.builds(Purge, st.just("tag"), st.sampled_from((b"n", b"m")), st.sampled_from((b"s", b"t")), st.booleans()),
    st.builds(Purge, st.just("all"), st.sampled_from((b"n", b"m")), st.just(b""), st.booleans()),
)


@given(st.lists(PURGES, max_size=12), KEYS, st.sampled_from(((), (b"s",), (b"s", b"t"))), st.integers(0, 12), st.integers(1, 12))
def test_what_was_purged_since_is_outdated(purges: list[Purge], key: bytes, tags: tuple[bytes, ...], mark: int, most: int) -> None:
    log = PurgeLog(most=most)
    for number, purge in enumerate(purges, 1):
        log.add(number, purge)
    is_purged = any(purge.concerns(key, tags) for number, purge in enumerate(purges, 1) if number > mark)
    assert log.is_outdated(mark, key, tags) == is_purged or (mark < log.floor and not is_purged)


def test_purges_that_are_forgotten_count_for_all() -> None:
    log = PurgeLog()
    for number in range(1, purge_log.MOST + 10):
        log.add(number, Purge("prefix", b"", b"n\0%d" % number, False))
    assert log.floor == 9 and log.is_outdated(8, b"x\0y", ()) and not log.is_outdated(9, b"x\0y", ())
    assert PurgeLog(5).is_outdated(4, b"n\0k", ()) and not PurgeLog(5).is_outdated(5, b"n\0k", ())


def test_changes_of_many_urls_keep_no_other_from_being_stored() -> None:
    log = PurgeLog()
    count = 2 * purge_log.MOST
    for number in range(1, count + 1):
        log.add(number, Purge("url", b"", b"n\0u%d" % number, False))
    assert all(log.is_outdated(number - 1, b"n\0u%d" % number, ()) for number in range(1, count + 1))
    assert all(log.is_outdated(number - 1, b"n\0u%d\0v" % number, ()) for number in range(1, 100))
    assert log.purged_at(b"n\0u1\0v") >= 1
    others = sum(log.is_outdated(0, b"n\0other%d" % number, ()) for number in range(1000))
    assert others < 150, "a fetch that lasted is not stored, whatever it is of"


def test_who_has_not_read_for_long_stores_nothing_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purger, "MOST", 4)
    index, log = Index(str(tmp_path), 1 << 20, 0), PurgeLog()
    seen = b""
    for number in range(1, 21):
        with index.writing() as txn:
            row = purger.PurgeRow("url", b"n", b"n\0u%d" % number, False, 1)
            txn.put(number_key(number) + b"\0\0", msgspec.msgpack.encode(row), db=index.purges)
            if number > 4:
                txn.delete(number_key(number - 4) + b"\0\0", db=index.purges)
        if number in (2, 4, 20):
            with index.reading() as txn:
                seen = purger.read_purges(index, txn, log, seen)
            assert log.floor == (17 if number == 20 else 0)
    assert log.is_outdated(9, b"n\0u10", ()) and not log.is_outdated(17, b"n\0u17", ())
    index.close()


@given(st.binary(max_size=600), st.binary(max_size=600), st.sampled_from((b"", b"\0\0" + b"v" * 16)))
def test_short_keys_keep_apart_and_beside_each_other(first: bytes, second: bytes, variant: bytes) -> None:
    short = short_keys.short_key(first)
    assert len(short_keys.short_key(first + variant)) <= 511
    assert (short == short_keys.short_key(second)) == (first == second)
    if first[-18:-16] != b"\0\0":
        assert short_keys.short_key(first + b"\0\0" + b"v" * 16) == short + b"\0\0" + b"v" * 16
    prefix = first[: len(first) // 2]
    assert short.startswith(short_keys.short_prefix(prefix))
    end = short_keys.after(prefix)
    assert not end or (prefix < end and not end.startswith(prefix))


@given(st.binary(max_size=40), st.sampled_from((b"", b"\0\0" + b"v" * 16)), st.binary(max_size=100), st.integers(0, 300))
def test_a_record_is_whole_or_none(url: bytes, variant: bytes, body: bytes, cut: int) -> None:
    data = records.pack_record(url + variant, entry(url, len(body), tags=(b"t",)), body)
    found = records.unpack_record(data)
    assert found == (url + variant, entry(url, len(body), tags=(b"t",)), body)
    assert records.unpack_record(data[: min(cut, len(data) - 1)]) is None
    assert records.records_in(data + data + data[: min(cut, len(data) - 1)]) == [(0, len(data)), (len(data), len(data))]


@given(st.binary(max_size=200))
def test_what_is_no_record_is_none(data: bytes) -> None:
    assert records.unpack_record(data) is None
    assert records.unpack_record(records.MAGIC + data) is None or len(data) > 20
