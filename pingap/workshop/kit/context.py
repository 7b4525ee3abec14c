"""A context for tests: remembers what an actor sends, hands it what the test says.

All of it goes through the wire's form first, as it does between processes: a message with wrong types, or with what
MessagePack cannot carry, fails the test that sends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pingap.bus.descriptors import UNBOUNDED, Descriptors
from pingap.bus.members import Members
from pingap.bus.messages import Echo
from pingap.bus.pipes import Pipes
from pingap.bus.replication import NO_BLOBS, Change
from pingap.workshop.kit.wire import over_the_wire, plain


class FakeContext:
    """`Context` without processes or sockets. `sent` holds (to, envelope) in order."""

    def __init__(self, stage: str = "test", actor: int = 1, settings: dict[str, Any] | None = None) -> None:
        self.id, self.stage, self.replica = actor, stage, 0
        self.run_dir = "/nonexistent"
        self.settings = settings or {}
        self.members = Members()
        self.pipes = Pipes(actor, self._echo)
        """The other ends take at once what comes."""
        self.descriptors = Descriptors(UNBOUNDED)
        self.wanted: frozenset[str] = frozenset({"access", "log", "count"})
        self.sent: list[tuple[int, Any]] = []
        self.emitted: list[Any] = []
        self.logged: list[tuple[str, str, dict[str, Any]]] = []
        self.noticed: list[tuple[str, str, str, dict[str, Any]]] = []
        self.counted: dict[str, float] = {}
        self.reported: list[tuple[str, Any]] = []
        self.told_of_send: Callable[[], None] = lambda: None
        self.told_of_report: Callable[[str, Any], None] = lambda word, value: None
        self.told_of_log: Callable[[str, str, dict[str, Any]], None] = lambda level, message, fields: None
        self.is_ready = False
        self.beats = 0
        self.boot_failure = ""
        self.stuck: set[int] = set()
        self.following: dict[str, Callable[[Any], None]] = {}
        self.published: dict[str, list[Any]] = {}
        self.blobs: dict[bytes, bytes] = {}
        """Those that this actor publishes, and those that it finds when it fetches."""
        self.fetching: list[tuple[frozenset[bytes], Callable[[dict[bytes, bytes]], None]]] = []
        """What it fetches and has not found."""
        self.events: list[tuple[str, Any]] = []
        self.topics_changed: Callable[[frozenset[str]], None] = lambda topics: None
        self.subscriptions: list[tuple[tuple[str, ...], Callable[[str, list[Any]], None]]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def send(self, to: int, envelope: Any) -> None:
        self.sent.append((to, over_the_wire(envelope)))
        self.told_of_send()

    def _echo(self, to: int, mark: Any) -> None:
        self.pipes.echoed(Echo(to, mark.sent))

    def can_send(self, to: int) -> bool:
        return to not in self.stuck

    def emit(self, envelope: Any) -> None:
        arrived = over_the_wire(envelope)
        named = getattr(type(envelope), "_make", None)  # records are named tuples, and so again for who reads them
        self.emitted.append(named(arrived) if named else arrived)

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.logged.append((level, message, plain(fields)))
        self.told_of_log(level, message, fields)

    def notice(self, level: str, category: str, message: str, **fields: Any) -> None:
        self.noticed.append((level, category, message, plain(fields)))

    def count(self, name: str, delta: float = 1, **labels: str) -> None:
        self.counted[name] = self.counted.get(name, 0) + delta

    def beat(self) -> None:
        self.beats += 1

    def ready(self) -> None:
        self.is_ready = True

    def boot_failed(self, reason: str) -> None:
        self.boot_failure = reason

    def report(self, word: str, value: Any) -> None:
        self.reported.append((word, plain(value)))
        self.told_of_report(word, value)

    def follow(self, topic: str, publisher: str, changed: Callable[[Any], None]) -> None:
        self.following[topic] = lambda value: changed(plain(value))

    def fetch(self, topic: str, publisher: str, digests: Iterable[bytes], got: Callable[[dict[bytes, bytes]], None]) -> Callable[[], None]:
        fetch = frozenset(digests), got
        self.fetching.append(fetch)
        self.blobs_came()
        return lambda: self.fetching.remove(fetch) if fetch in self.fetching else None

    def blobs_came(self, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> None:
        """Hands over what is fetched and here."""
        self.blobs |= blobs
        for fetch in [fetch for fetch in self.fetching if fetch[0] <= self.blobs.keys()]:
            self.fetching.remove(fetch)
            fetch[1]({digest: self.blobs[digest] for digest in fetch[0]})

    def publish(self, topic: str, value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> Change:
        values = self.published.setdefault(topic, [])

        def change(value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> None:
            values.append(plain(value))
            self.blobs = dict(blobs)

        change(value, blobs)
        return change

    def publish_events(self, topics_changed: Callable[[frozenset[str]], None]) -> Callable[[str, bytes], None]:
        self.topics_changed = topics_changed
        return lambda topic, raw: self.events.append((topic, raw))

    def publish_event(self, topic: str, envelopes: list[Any]) -> None:
        self.events.append((topic, [over_the_wire(envelope) for envelope in envelopes]))

    def subscribe_events(self, topics: Sequence[str], take: Callable[[str, list[Any]], None]) -> Callable[[], None]:
        subscription = (tuple(topics), take)
        self.subscriptions.append(subscription)
        return lambda: self.subscriptions.remove(subscription)
