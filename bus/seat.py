"""What an actor sees of the process that hosts it: its seat there, and the context that it is made with."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pingap.bus.actor import ActorFactory
from pingap.bus.descriptors import Descriptors
from pingap.bus.kinds import COUNT, LOG, NOTICE, READY, REPORT
from pingap.bus.link import Link
from pingap.bus.members import Members
from pingap.bus.pipes import Pipes
from pingap.bus.replication import NO_BLOBS, Change, Replication
from pingap.bus.sockets import Pair, Publisher

EVENT_GATHER: Final = 0.02
"""Seconds for which events wait for company on their way to logging."""

MOST_EVENTS: Final = 256
"""Events that leave at once, however short they waited."""

_MOST: Final = 2**63 - 1
"""That a counter can tell."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One actor that a process is to host."""

    id: int
    stage: str
    replica: int
    endpoint: str
    factory: ActorFactory
    settings: dict[str, Any] = field(default_factory=dict)


class Hosting(Protocol):
    """What a seat needs of the process that it is in."""

    run_dir: str
    loop: asyncio.AbstractEventLoop
    link: Link
    descriptors: Descriptors
    replication: Replication
    control: Pair
    logging_actor: int
    """The actor that takes events, 0 while there is none."""

    def beat(self) -> object: ...

    def boot_failed(self, reason: str) -> None: ...


class SeatContext:
    """`Context` of one actor (see bus/actor.py for what each member promises)."""

    def __init__(self, process: Hosting, seat: Seat) -> None:
        self._process = process
        self._link = process.link
        self.id, self.stage, self.replica = seat.id, seat.stage, seat.replica
        self.run_dir = process.run_dir
        self.settings = seat.settings
        self.loop = process.loop
        self.send = process.link.send
        self.can_send = process.link.can_send
        self.pipes = Pipes(seat.id, process.link.send)
        self.descriptors = process.descriptors
        self.wanted: frozenset[str] = frozenset()
        self._held: list[Any] = []
        self._counts: dict[Any, float] = {}
        self._events: Publisher | None = None

    @property
    def members(self) -> Members:
        return self._link.members

    def emit(self, envelope: Any) -> None:
        held = self._held
        held.append(envelope)
        if len(held) == 1:
            self.loop.call_later(EVENT_GATHER, self.ship_events)
        elif len(held) == MOST_EVENTS:
            self.ship_events()

    def ship_events(self) -> None:
        """Hands on the events gathered so far. A wake-up of logging for each loop turn would cost more than the events do."""
        held, self._held = self._held, []
        to = self._process.logging_actor
        if not to or not self._link.can_send(to):
            self._link.dropped += len(held)
            return
        for envelope in held:
            self._link.send(to, envelope)

    def log(self, level: str, message: str, **fields: Any) -> None:
        record = (LOG, time.time(), level, self.stage, self.replica, message, fields)
        if self._process.logging_actor:
            self._link.offer(self._process.logging_actor, record)
        else:  # nobody there to write it: at start, at the end, and while logging is replaced
            extra = "".join(f" {k}={v}" for k, v in fields.items())
            print(f"{level}: {self.stage}.{self.replica}: {message}{extra}", file=sys.stderr, flush=True)

    def notice(self, level: str, category: str, message: str, **fields: Any) -> None:
        if self._process.logging_actor:
            record = (NOTICE, time.time(), level, self.stage, self.replica, category, message, fields)
            self._link.offer(self._process.logging_actor, record)

    def count(self, name: str, delta: int | float = 1, **labels: str) -> None:
        key = (name, *sorted(labels.items())) if labels else name
        self._counts[key] = self._counts.get(key, 0) + delta

    def ship_counts(self, figures: dict[str, float]) -> None:
        """Sends what was counted since the last time and the figures of now, if anybody reads them."""
        if "count" in self.wanted:
            counts, self._counts = self._counts, {}
            self.emit((COUNT, self.stage, self.replica, [_row(key, value) for key, value in counts.items()], figures))

    def beat(self) -> None:
        self._process.beat()

    def ready(self) -> None:
        self._process.control.send((READY, [self.id]))
        # What it has made by now, of a configuration above all, stays for long, and no request is there yet: the garbage
        # collector need not look at it again and again, and hold up a loop for tens of milliseconds.
        gc.freeze()

    def boot_failed(self, reason: str) -> None:
        self._process.boot_failed(reason)

    def report(self, word: str, value: Any) -> None:
        self._process.control.send((REPORT, self.id, word, value))

    def follow(self, topic: str, publisher: str, changed: Callable[[Any], None]) -> None:
        self._process.replication.follow(self.id, topic, publisher, changed)

    def fetch(self, topic: str, publisher: str, digests: Iterable[bytes], got: Callable[[dict[bytes, bytes]], None]) -> Callable[[], None]:
        return self._process.replication.fetch(self.id, topic, publisher, digests, got)

    def publish(self, topic: str, value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> Change:
        return self._process.replication.publish(self.stage, topic, value, blobs)

    def publish_events(self, topics_changed: Callable[[frozenset[str]], None]) -> Callable[[str, bytes], None]:
        topics: set[str] = set()

        def subscribed(message: bytes) -> None:
            topic = message[1:].decode(errors="replace")
            if message[0]:
                topics.add(topic)
            else:
                topics.discard(topic)
            topics_changed(frozenset(topics))

        events = self._events = self._link.publisher(f"ipc://{self.run_dir}/events.pub", subscribed)
        return lambda topic, raw: events.forward(topic.encode(), raw)

    def publish_event(self, topic: str, envelopes: list[Any]) -> None:
        assert self._events is not None, "publish_events was not called"
        self._events.send(topic.encode(), *envelopes)

    def subscribe_events(self, topics: Sequence[str], take: Callable[[str, list[Any]], None]) -> Callable[[], None]:
        def taken(topic: bytes, envelopes: list[Any]) -> None:
            take(topic.decode(errors="replace"), envelopes)

        return self._link.subscriber(f"ipc://{self.run_dir}/events.pub", [t.encode() for t in topics], taken).close


def _row(key: Any, value: Any) -> list[Any]:
    """A counter as COUNT has it. What cannot travel is made so that it can: it must not cost the stage's other counters."""
    name, *labels = (key,) if isinstance(key, str) else key
    number = max(-_MOST, min(_MOST, value)) if type(value) is int else float(value)
    return [_text(name), {_text(label): _text(text) for label, text in labels}, number]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode(errors="replace").decode()  # a lone surrogate is no text to MessagePack
