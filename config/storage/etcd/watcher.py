"""A thread that knows what is under a prefix of etcd now: not the texts, but whether they are others.

Its knowledge is two numbers: the revision of the newest change of a key that is there, and how many keys there are. Two
equal pairs are the same keys with the same values, since a change makes the first larger and a removal the second smaller.
It asks for the pair, then waits for etcd to tell of any later change (a watch), then asks again. A watch from a
revision that was compacted, a lost connection, or a minute of silence (which may be a dead connection) end in the same
way: it asks again. Whether that was for nothing the pair says.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final

from pingap.config.storage.base import Fingerprint
from pingap.config.storage.etcd.gateway import Cluster, EtcdError, EtcdUnreachable, Gateway, number, revision
from pingap.config.storage.etcd.transactions import range_of

SILENCE: Final = 60.0
"""Seconds without a change after which etcd is asked all the same."""

HELD: Final = 5.0
"""Seconds that a watch was there, after which its loss is none of those that come ever later: proxies cut what is idle."""

MANY: Final = 4
"""Watches lost at once, in a row, after which that is told: changes are seen late then."""

SHORTEST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds until the next try after a failure; each is twice the one before, give or take a quarter."""

Pair = tuple[int, int]


class _WatchLost(Exception):
    """Etcd tells of no change any more. The text says why."""

    def __init__(self, why: str, held: float) -> None:
        super().__init__(why)
        self.held = held
        """Seconds for which it would have told."""


class _Life:
    """Of one thread: what it waits in, so that another thread can end it."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._gateway: Gateway | None = None

    def end(self) -> None:
        with self._lock:
            self.ended.set()
            if self._gateway is not None:
                self._gateway.end()

    @contextmanager
    def calling(self, cluster: Cluster) -> Iterator[Gateway]:
        with Gateway(cluster) as gateway:
            with self._lock:
                if self.ended.is_set():
                    gateway.end()
                self._gateway = gateway
            try:
                yield gateway
            finally:
                with self._lock:
                    self._gateway = None


class EtcdWatcher:
    """Threads may share it. Its own thread is a daemon, begun by `start`, and in no other process than the one that called that."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._life = _Life()
        self.is_watching = False
        """etcd will tell of the next change."""
        self._listeners: list[Callable[[], None]] = []
        self._revision = 0
        """Of the store, at which the pair was true."""
        self._pair: Pair | None = None
        self._trouble = ""
        self._in_step = 0.0
        """Unix time at which it last knew what is there."""

    # -- for everybody ------------------------------------------------------------------

    @property
    def fingerprint(self) -> Fingerprint:
        """As far as is known: () before anything is."""
        return () if self._pair is None else self.fingerprint_of(self._pair)

    def fingerprint_of(self, pair: Pair) -> Fingerprint:
        return ((self._cluster.address.shown, *pair, 0, 0),)

    @property
    def trouble(self) -> str:
        """Why it does not know what is there now; "" while it does."""
        trouble = self._trouble
        if not trouble or not self._in_step:
            return trouble
        return f"{trouble}; last in step at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self._in_step))}"

    def learn(self, at: int, pair: Pair, is_own: bool = False) -> None:
        """Somebody has asked etcd. at: the revision of the answer.

        An older answer than that which is known counts only when it is our own: a cluster that was restored from a backup counts
        anew, and what etcd tells afterwards is told from there.
        """
        with self._lock:
            self._in_step = time.time()
            if at < self._revision and not is_own:
                return
            changed = self._pair is not None and self._pair != pair
            self._revision, self._pair = at, pair
            listeners = list(self._listeners) if changed else []
        for tell in listeners:
            with suppress(Exception):  # whoever listens has gone
                tell()

    def follow(self, moved: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(moved)
        self.start()

        def end() -> None:
            with self._lock:
                if moved in self._listeners:
                    self._listeners.remove(moved)
                is_last = not self._listeners
            if is_last:
                self.stop()

        return end

    def start(self) -> None:
        """Begins, unless it has begun."""
        with self._lock:
            if self._thread is not None and self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._life = _Life()
            self._thread = threading.Thread(target=self._run, args=(self._life,), name="etcd watch", daemon=True)
            self._thread.start()

    def stop(self, wait: float = 0.0) -> None:
        """Ends it. wait: seconds that this may take to be seen."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._life.end()
        if thread is not None and wait:
            thread.join(wait)

    # -- its thread ---------------------------------------------------------------------

    def _run(self, life: _Life) -> None:
        failures = lost = 0
        late = ""
        while not life.ended.is_set():
            try:
                at = self._ask(life)
                self._trouble = late
                self._wait_for_change(at, life)
                failures = lost = 0
                late = ""
                continue
            except _WatchLost as error:
                # Whether that is trouble the next question will tell, but for watches that are never there for long.
                failures, lost = (0, 0) if error.held >= HELD else (failures, lost + 1)
                late = f"etcd: it answers, but each watch is lost at once ({error}): changes are seen late" if lost >= MANY else ""
            except (EtcdError, EtcdUnreachable) as error:
                self._trouble = f"etcd: {error}"
            except Exception as error:  # a thread that dies would not be noticed
                self._trouble = f"etcd: {type(error).__name__}: {error}"
            delay = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(failures, 10)) * random.uniform(0.75, 1.25)
            failures += 1
            life.ended.wait(max(SHORTEST_PAUSE, delay))

    def _ask(self, life: _Life) -> int:
        """Learns the pair; the revision at which it is true."""
        wanted = {"limit": 1, "sort_order": "DESCEND", "sort_target": "MOD", "keys_only": True}
        with life.calling(self._cluster) as gateway:
            answer = gateway.call("kv/range", {**range_of(self._cluster.address.prefix), **wanted})
        newest = max((number(kv, "mod_revision") for kv in answer.get("kvs", ())), default=0)
        at = revision(answer)
        self.learn(at, (newest, number(answer, "count")), is_own=True)
        return at

    def _wait_for_change(self, at: int, life: _Life) -> None:
        """Until something has changed after `at`, or may have. Raises _WatchLost, EtcdError."""
        began: float | None = None
        request = {"create_request": {**range_of(self._cluster.address.prefix), "start_revision": str(at + 1)}}
        try:
            with life.calling(self._cluster) as gateway:
                for message in gateway.lines("watch", request, SILENCE):
                    if message.get("canceled") and "compact_revision" not in message:
                        raise EtcdError(2, f"the watch was ended: {message.get('cancel_reason', 'no reason given')}")
                    if message.get("canceled") or message.get("events"):
                        return
                    began = began or monotonic()
                    self.is_watching = True
        except EtcdUnreachable as error:
            raise _WatchLost(str(error), monotonic() - began if began else 0.0) from error
        finally:
            self.is_watching = False
