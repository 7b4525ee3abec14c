"""The thread that knows what is there: it tells of changes at once, and gets over whatever happens to etcd."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pingap.config.storage.base import Document, Reading
from pingap.config.storage.etcd import watcher as module
from pingap.config.storage.etcd.gateway import EtcdUnreachable, Gateway
from pingap.config.storage.etcd.storage import EtcdStorage
from tests.etcd.conftest import Open
from tests.kit.clock import Clock
from tests.kit.etcd import Etcd
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.processes


def known(storage: EtcdStorage) -> None:
    until(lambda: storage.fingerprint() or None, 5, "the watch knows what is there")


def told(storage: EtcdStorage, change: Callable[[], object]) -> float:
    """Seconds from the end of a change until `follow` has told of it; what it knows is then another."""
    before, moved = storage.fingerprint(), threading.Event()
    end = storage.follow(moved.set)
    try:
        change()
        done = time.monotonic()
        assert moved.wait(10), "nothing was told"
        took = time.monotonic() - done
        assert storage.fingerprint() != before
        return took
    finally:
        end()
        storage.fingerprint()  # goes on


def test_it_knows_what_a_reading_was_made_of(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    """Else each start would read twice."""
    storage.write(Document("a.toml", "1"), Reading(()).version)
    exact = storage.read().fingerprint
    assert storage.fingerprint() == exact
    until(lambda: storage.watcher.is_watching, 5, "the watch has begun")
    assert storage.fingerprint() == exact
    storage.write(Document("a.toml", "2"), storage.read().version)
    assert storage.read().fingerprint not in (None, exact)
    etcd.delete(f"{prefix}/a.toml")
    until(lambda: storage.fingerprint()[0][2] == 0 or None, 5, "the removal")


@pytest.mark.parametrize("what", ["changed", "added", "removed"])
def test_a_change_is_told_at_once(etcd: Etcd, prefix: str, storage: EtcdStorage, what: str) -> None:
    etcd.put(f"{prefix}/a.toml", "1")
    known(storage)
    change: dict[str, Callable[[], object]] = {
        "changed": lambda: etcd.put(f"{prefix}/a.toml", "2"),
        "added": lambda: etcd.put(f"{prefix}/b.toml", "2"),
        "removed": lambda: etcd.delete(f"{prefix}/a.toml"),
    }
    assert told(storage, change[what]) < 1


def test_what_others_keep_in_etcd_is_none_of_its_business(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    etcd.put(f"{prefix}/a.toml", "1")
    known(storage)
    before = storage.fingerprint()
    etcd.put(f"{prefix}-history/a.toml/1-1", "1")
    etcd.put(f"{prefix}2/a.toml", "1")
    told(storage, lambda: etcd.put(f"{prefix}/b.toml", "2"))
    assert storage.fingerprint()[0][2] == before[0][2] + 1


def test_a_compaction_of_what_it_waits_for_costs_one_more_look(
    etcd: Etcd, prefix: str, storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch begins at a revision that is gone: nothing has changed since, then something has."""
    etcd.put(f"{prefix}/a.toml", "1")
    lines, compacted = Gateway.lines, threading.Event()

    def late(self: Gateway, method: str, body: dict[str, Any], silence: float) -> Any:
        if not compacted.is_set():
            revision = etcd.put("/elsewhere", "1")
            etcd.put("/elsewhere", "2")
            etcd.ctl("compact", str(revision + 1))
            compacted.set()
        return lines(self, method, body, silence)

    monkeypatch.setattr(Gateway, "lines", late)
    asked: list[int] = []
    troubles: list[str] = []
    learn = storage.watcher.learn

    def counted(at: int, pair: tuple[int, int], is_own: bool = False) -> None:
        asked.append(at)
        troubles.append(storage.trouble)
        learn(at, pair, is_own)

    monkeypatch.setattr(storage.watcher, "learn", counted)
    known(storage)
    before = storage.fingerprint()
    until(lambda: len(asked) > 1, 5, "it has asked again")
    assert storage.fingerprint() == before
    assert not any(troubles)
    told(storage, lambda: etcd.put(f"{prefix}/a.toml", "2"))


def test_what_was_changed_and_compacted_while_it_was_away_is_seen(own_etcd: Etcd, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = opened(f"etcd://{own_etcd.endpoint}/p")
    own_etcd.put("/p/a.toml", "1")
    known(storage)
    before = storage.fingerprint()
    storage.watcher.stop(5)
    own_etcd.put("/p/a.toml", "2")
    own_etcd.ctl("compact", str(own_etcd.put("/elsewhere", "1")))
    until(lambda: storage.fingerprint() != before, 5, "the change")


def test_a_cluster_that_counts_anew_is_believed(own_etcd: Etcd, opened: Open, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Restored from a backup, or another one at the same address: its revisions are lower."""
    storage = opened(f"etcd://{own_etcd.endpoint}/p")
    for number in range(20):
        own_etcd.put("/p/a.toml", str(number))
    known(storage)
    before, port = storage.fingerprint(), own_etcd.port
    own_etcd.stop()
    other = Etcd(tmp_path_factory.mktemp("etcd"))
    other.port = port
    with other:
        other.put("/p/a.toml", "restored")
        until(lambda: storage.fingerprint() != before, 10, "the other one's keys")
        told(storage, lambda: other.put("/p/a.toml", "changed"))


def test_silence_is_not_believed_for_ever(etcd: Etcd, prefix: str, storage: EtcdStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that etcd has forgotten looks like one to which nothing happens."""
    monkeypatch.setattr(module, "SILENCE", 0.2)
    etcd.put(f"{prefix}/a.toml", "1")
    lines = Gateway.lines

    def deaf(self: Gateway, method: str, body: dict[str, Any], silence: float) -> Any:
        for line in lines(self, method, body, silence):
            if not line.get("events"):
                yield line

    monkeypatch.setattr(Gateway, "lines", deaf)
    known(storage)
    told(storage, lambda: etcd.put(f"{prefix}/a.toml", "2"))


def test_a_restart_of_etcd_is_got_over(own_etcd: Etcd, opened: Open) -> None:
    storage = opened(f"etcd://{own_etcd.endpoint}/p")
    own_etcd.put("/p/a.toml", "1")
    known(storage)
    before = storage.fingerprint()
    own_etcd.stop()
    until(lambda: storage.trouble, 10, "the trouble is told")
    assert own_etcd.endpoint in storage.trouble
    assert "connection refused; last in step at 20" in storage.trouble
    assert storage.fingerprint() == before
    own_etcd.start()
    until(lambda: not storage.trouble, 10, "the trouble is over")
    assert storage.fingerprint() == before
    assert told(storage, lambda: own_etcd.put("/p/a.toml", "2")) < 1


def test_what_changed_while_etcd_was_away_is_seen_afterwards(own_etcd: Etcd, opened: Open) -> None:
    storage = opened(f"etcd://{own_etcd.endpoint}/p")
    own_etcd.put("/p/a.toml", "1")
    known(storage)
    before, listening = storage.fingerprint(), own_etcd.port
    own_etcd.stop()
    until(lambda: storage.trouble, 10, "the trouble is told")
    own_etcd.port = free_port()
    own_etcd.start().put("/p/a.toml", "2")
    own_etcd.stop()
    own_etcd.port = listening
    own_etcd.start()
    until(lambda: storage.fingerprint() != before, 10, "the change")


def test_an_etcd_that_was_never_there_is_waited_for(opened: Open) -> None:
    storage = opened(f"etcd://127.0.0.1:{free_port()}/p")
    assert storage.fingerprint() == ()
    until(lambda: storage.trouble, 5, "the trouble is told")
    assert "last in step" not in storage.trouble


def waited(storage: EtcdStorage, tries: int, seen: Callable[[], None] = lambda: None) -> list[float]:
    """Seconds until each of the next tries, none of which are waited for. seen: called in front of each."""
    waits: list[float] = []

    class Never(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            seen()
            if len(waits) == tries:
                self.set()
            return self.is_set()

    life = module._Life()
    life.ended = Never()
    storage.watcher._run(life)
    return waits


def test_tries_come_ever_less_often(opened: Open) -> None:
    waits = waited(opened(f"etcd://127.0.0.1:{free_port()}/p"), 12)
    assert 0.5 <= waits[0] < 0.7
    assert all(0.7 <= wait / expected <= 1.3 for wait, expected in zip(waits, [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60], strict=False))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes an etcd behind a proxy that cuts each watch after so many seconds, none of which are waited for."""
    clock = Clock()

    def answered(self: Gateway, method: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"header": {"revision": "1"}}

    def after(seconds: float) -> None:
        def lines(self: Gateway, method: str, body: dict[str, Any], silence: float) -> Any:
            yield {"created": True}
            clock.now += seconds
            raise EtcdUnreachable("h:1: the connection was closed")

        monkeypatch.setattr(module, "monotonic", clock)
        monkeypatch.setattr(Gateway, "call", answered)
        monkeypatch.setattr(Gateway, "lines", lines)

    return after


def test_a_proxy_that_cuts_what_is_idle_makes_no_tries_rare(opened: Open, cut: Callable[[float], None]) -> None:
    """Else a change would be seen a minute late, and nothing would say so."""
    cut(30)
    storage = opened("etcd://h:1/p")
    troubles: list[str] = []
    waits = waited(storage, 12, lambda: troubles.append(storage.trouble))
    assert all(0.5 <= wait < 0.7 for wait in waits)
    assert not any(troubles)


def test_watches_that_are_lost_at_once_are_told(opened: Open, cut: Callable[[float], None]) -> None:
    cut(0.1)
    storage = opened("etcd://h:1/p")
    troubles: list[str] = []
    waits = waited(storage, 8, lambda: troubles.append(storage.trouble))
    assert waits[-1] > 40
    assert troubles[:4] == [""] * 4
    assert all("each watch is lost at once (h:1: the connection was closed): changes are seen late" in told for told in troubles[5:])


def test_asking_what_changed_never_waits_and_begins_one_thread(opened: Open) -> None:
    storage = opened("etcd://192.0.2.1:2379/p")  # nobody answers there (RFC 5737)
    before = time.monotonic()
    for _ in range(1000):
        storage.fingerprint()
    assert time.monotonic() - before < 1
    assert [thread.name for thread in threading.enumerate()].count("etcd watch") == 1


def test_reading_alone_begins_no_thread(etcd: Etcd, prefix: str, storage: EtcdStorage) -> None:
    etcd.put(f"{prefix}/a.toml", "1")
    storage.read()
    storage.write(Document("a.toml", "2"), storage.read().version)
    assert not any(thread.name == "etcd watch" for thread in threading.enumerate())


def test_it_ends_with_the_last_who_follows(etcd: Etcd, storage: EtcdStorage) -> None:
    ends = [storage.follow(lambda: None) for _ in range(2)]
    until(lambda: storage.watcher.is_watching, 5, "the watch has begun")
    ends.pop()()
    assert any(thread.name == "etcd watch" for thread in threading.enumerate())
    ends.pop()()
    until(lambda: not any(thread.name == "etcd watch" for thread in threading.enumerate()), 5, "the thread has ended")
