"""What an actor is, and what it may ask of its process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from mypy_extensions import mypyc_attr

from pingap.bus.descriptors import Descriptors
from pingap.bus.envelope import WireError
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.pipes import Pipes
from pingap.bus.replication import NO_BLOBS, Change


class Context(Protocol):
    """An actor's view of its process. `tests.kit.context.FakeContext` stands in for it in tests."""

    id: int
    stage: str
    replica: int
    run_dir: str
    settings: dict[str, Any]
    """What the supervisor hands to this actor at its start: plain data (see pingap/topology.py)."""
    wanted: frozenset[str]
    """Event topics that somebody reads ("access", "log", "count"): make no event that nobody wants."""
    pipes: Pipes
    """What lies in the pipes to other actors of what this one has sent, as far as it has told."""
    descriptors: Descriptors
    """How many connections there may be: `join` it, and have no more than its `most`."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def members(self) -> Members:
        """The newest table of actors."""

    def send(self, to: int, envelope: Any) -> None:
        """Queues an envelope for the actor `to`. Never blocks; order per receiver is kept."""

    def can_send(self, to: int) -> bool:
        """False when the way to `to` is stuck: start nothing new on it."""

    def emit(self, envelope: Any) -> None:
        """Sends an event to logging; dropped and counted when its pipe is full."""

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Application log: level is error, warn, info or debug."""

    def notice(self, level: str, category: str, message: str, **fields: Any) -> None:
        """Tells consumers what an operator may want to hear at once; nobody need be there. category: of observability/notices.py."""

    def count(self, name: str, delta: int | float = 1, **labels: str) -> None:
        """Adds to a counter that metrics will see; shipped with the next heartbeat."""

    def beat(self) -> None:
        """Tells the supervisor now that this process lives: for who is about to hold up its loop, or has done so."""

    def ready(self) -> None:
        """Tells the supervisor that this actor serves. Call once, from or after `start`."""

    def boot_failed(self, reason: str) -> None:
        """Instead of `ready`, when that turns out after `start`: the process ends, and the supervisor hears why."""

    def report(self, word: str, value: Any) -> None:
        """Tells the supervisor something that the operator must hear."""

    def follow(self, topic: str, publisher: str, changed: Callable[[Any], None]) -> None:
        """Replicates a topic of the stage `publisher`; `changed(value)` soon and at each change."""

    def fetch(self, topic: str, publisher: str, digests: Iterable[bytes], got: Callable[[dict[bytes, bytes]], None]) -> Callable[[], None]:
        """Asks for blobs that a topic's value names by their digests, until `got(packed by digest)`; the result gives it up.

        Those that the publisher's value names no more never come: who hears of a new value gives up what it waits for.
        """

    def publish(self, topic: str, value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> Change:
        """Starts publishing a topic of this stage; the result publishes a new value.

        Every follower gets the whole value each time: what is large is a blob, named in it by a digest. blobs: all of those.
        """

    def publish_events(self, topics_changed: Callable[[frozenset[str]], None]) -> Callable[[str, bytes], None]:
        """Logging only: opens the events socket. Returns forward(topic, raw batch)."""

    def publish_event(self, topic: str, envelopes: list[Any]) -> None:
        """Logging only: publishes envelopes on a topic of the events socket."""

    def subscribe_events(self, topics: Sequence[str], take: Callable[[str, list[Any]], None]) -> Callable[[], None]:
        """Side-consumers: `take(topic, envelopes)` for each batch of events from now on; the result ends it.

        A topic is a prefix. A restarted logging actor is found again by itself; what it published meanwhile is lost.
        """


@mypyc_attr(allow_interpreted_subclasses=True)
class Actor:
    """Base of all stage actors. One thread, one loop: nothing in it needs a lock.

    An exception that leaves a receiver is logged and costs that envelope only, so
    a receiver that owes an answer must catch what it can answer for.
    """

    stage: ClassVar[str]
    speaks_to: ClassVar[tuple[str, ...]] = ()
    """Stages that it sends to, logging aside: the pipes to them are opened at once and not with the first message."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def receivers(self) -> Receivers:
        """What takes the messages of each class that this actor receives. Read once, at the start."""
        return {}

    def receive_batch(self) -> Callable[[bytes, list[Any]], None] | None:
        """A function of (raw frame, envelopes) that takes whole batches from other processes, as plain tuples; or None."""
        return None

    def unreadable(self, error: WireError) -> None:
        """A message to this actor has come that has not the fields of its kind."""

    def unsent(self, message: Any, error: Exception) -> None:
        """A message of an actor of this process could not be packed: it holds what MessagePack cannot carry."""

    async def start(self) -> None:
        """Opens what it needs; calls `context.ready()` now or when it can serve.

        An exception here is a boot failure: the supervisor hears the reason.
        """
        self.context.ready()

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        """A new table; `gone` are the ids that it no longer names."""

    def told(self, word: str, args: Any) -> None:
        """TELL from the supervisor: `reopen`, `reload`."""

    def look_at_run_dir(self) -> None:
        """Twice a second: what this actor keeps there for its next life may have been removed. Raises OSError."""

    def sum_up(self) -> None:
        """Before each heartbeat: what is counted aside, where a count takes no time, goes to `context.count`."""

    def figures(self) -> dict[str, float]:
        """For `pingap ps`, with each heartbeat: in_flight, requests, …"""
        return {}

    def begin_drain(self, reprieve: float) -> None:
        """Take no new work from outside; what is held goes on. `held` is asked until it is 0.

        reprieve: seconds that who is connected, and has others to go to, may take for one more request; 0 on a stop.
        """

    def held(self) -> int:
        """Streams that this actor still holds."""
        return 0

    async def stop(self) -> None:
        """Closes what `start` opened. No deadline beyond the process's own."""


ActorFactory = Callable[[Context], Actor]
