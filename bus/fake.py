"""A context for tests: remembers what an actor sends, hands it what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pingap.bus.descriptors import UNBOUNDED, Descriptors
from pingap.bus.members import Members
from pingap.bus.messages import Echo
from pingap.bus.pipes import Pipes


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
        self.counted: dict[str, float] = {}
        self.reported: list[tuple[str, Any]] = []
        self.is_ready = False
        self.beats = 0
        self.boot_failure = ""
        self.stuck: set[int] = set()
        self.following: dict[str, Callable[[Any], None]] = {}
        self.published: dict[str, list[Any]] = {}
        self.events: list[tuple[str, Any]] = []
        self.topics_changed: Callable[[frozenset[str]], None] = lambda topics: None
        self.subscriptions: list[tuple[tuple[str, ...], Callable[[str, list[Any]], None]]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def send(self, to: int, envelope: Any) -> None:
        self.sent.append((to, envelope))

    def _echo(self, to: int, mark: Any) -> None:
        self.pipes.echoed(Echo(to, mark.sent))

    def can_send(self, to: int) -> bool:
        return to not in self.stuck

    def emit(self, envelope: Any) -> None:
        self.emitted.append(envelope)

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.logged.append((level, message, fields))

    def count(self, name: str, delta: float = 1, **labels: str) -> None:
        self.counted[name] = self.counted.get(name, 0) + delta

    def beat(self) -> None:
        self.beats += 1

    def ready(self) -> None:
        self.is_ready = True

    def boot_failed(self, reason: str) -> None:
        self.boot_failure = reason

    def report(self, word: str, value: Any) -> None:
        self.reported.append((word, value))

    def follow(self, topic: str, publisher: str, changed: Callable[[Any], None]) -> None:
        self.following[topic] = changed

    def publish(self, topic: str, value: Any) -> Callable[[Any], None]:
        values = self.published.setdefault(topic, [value])
        return values.append

    def publish_events(self, topics_changed: Callable[[frozenset[str]], None]) -> Callable[[str, bytes], None]:
        self.topics_changed = topics_changed
        return lambda topic, raw: self.events.append((topic, raw))

    def publish_event(self, topic: str, envelopes: list[Any]) -> None:
        self.events.append((topic, envelopes))

    def subscribe_events(self, topics: Sequence[str], take: Callable[[str, list[Any]], None]) -> Callable[[], None]:
        subscription = (tuple(topics), take)
        self.subscriptions.append(subscription)
        return lambda: self.subscriptions.remove(subscription)
