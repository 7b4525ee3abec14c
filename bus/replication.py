"""Replicated state of one process: the topics that its actors publish and follow (PROTOCOL.md section 5; replica.py decides).

A topic's value is small: numbers, and digests that stand for what is large. Those
blobs are asked for by who needs them, once a process however many of its actors do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.messages import Blob, BlobAsk, Repeat, SnapshotAsk, TopicSnapshot, Update
from pingap.bus.replica import Copy, Original
from pingap.bus.sockets import Publisher, Watched

FIRST_REPEAT: Final = 0.05
REPEATS_END: Final = 1.0
"""Seconds after which an update's number is published again, then after twice that and so on, until the waits are this long."""

BLOBS_AGAIN: Final = 1.0
"""Seconds after which blobs that have not come are asked for again: they may be megabytes, on their way."""

NO_BLOBS: Final[Mapping[bytes, bytes]] = {}


class Change(Protocol):
    """Publishes a new value of a topic."""

    def __call__(self, value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> None:
        """blobs: by digest, all that the value names."""


class Ways(Protocol):
    """What is needed of a link."""

    @property
    def members(self) -> Members: ...

    def send(self, to: int, envelope: Any) -> None: ...

    def publisher(self, endpoint: str) -> Publisher: ...

    def subscriber(self, endpoint: str, topics: list[bytes], take: Callable[[bytes, list[Any]], None], messages: list[type]) -> Watched: ...


class _Followed:
    """A topic that actors of this process follow."""

    __slots__ = ("asker", "copy", "followers", "publisher")

    def __init__(self, asker: int, copy: Copy, publisher: str) -> None:
        self.asker = asker
        """The actor of this process to whose inbox the answers come."""
        self.copy = copy
        self.publisher = publisher
        self.followers: list[Callable[[Any], None]] = []


class _Fetch:
    """Blobs that one actor waits for."""

    __slots__ = ("asker", "found", "got", "missing", "publisher", "topic")

    def __init__(self, asker: int, topic: str, publisher: str, digests: Iterable[bytes], got: Callable[[dict[bytes, bytes]], None]) -> None:
        self.asker = asker
        self.topic = topic
        self.publisher = publisher
        self.missing = set(digests)
        self.found: dict[bytes, bytes] = {}
        self.got = got


class Replication:
    """What the actors of one process publish and follow."""

    def __init__(self, link: Ways, run_dir: str, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._run_dir = run_dir
        self._loop = loop
        self._followed: dict[str, _Followed] = {}
        self._fetches: list[_Fetch] = []
        self._asked: dict[str, float] = {}
        """Topic → when its blobs were last asked for."""
        self._originals: dict[str, Original] = {}
        self._publishers: dict[str, Publisher] = {}

    def receivers(self) -> Receivers:
        """Of every actor of the process."""
        return {TopicSnapshot: self._snapshot, SnapshotAsk: self._snapshot_asked, Blob: self._blob, BlobAsk: self._blobs_asked}

    def members_changed(self, born: frozenset[str]) -> None:
        """born: stages with an actor that the table did not name before."""
        for followed in self._followed.values():
            # A new publisher's first words are lost on those whose SUB had not found it again by then.
            followed.copy.needs_snapshot |= followed.publisher in born
        for fetch in self._fetches:
            if fetch.publisher in born:
                self._asked.pop(fetch.topic, None)
        self.ask()

    def ask(self) -> None:
        """Asks for what is missing. To be called several times a second: questions and answers may be lost with a publisher."""
        for followed in self._followed.values():
            if followed.copy.needs_snapshot:
                self._ask(followed.publisher, SnapshotAsk(followed.asker, followed.copy.topic))
        now = self._loop.time()
        for topic in {fetch.topic for fetch in self._fetches}:
            if now - self._asked.get(topic, 0.0) >= BLOBS_AGAIN:
                fetches = [fetch for fetch in self._fetches if fetch.topic == topic]
                self._asked[topic] = now
                self._ask_blobs(fetches[0], set().union(*(fetch.missing for fetch in fetches)))

    def _ask(self, publisher: str, question: Any) -> None:
        for member in self._link.members.of_stage(publisher):
            self._link.send(member.id, question)

    def _ask_blobs(self, fetch: _Fetch, digests: set[bytes]) -> None:
        self._ask(fetch.publisher, BlobAsk(fetch.asker, fetch.topic, sorted(digests)))

    def stop(self) -> None:
        """Nothing is repeated from here on."""
        self._originals.clear()

    # -- following --------------------------------------------------------------------

    def follow(self, actor: int, topic: str, publisher: str, changed: Callable[[Any], None]) -> None:
        """See `Context.follow`."""
        followed = self._followed.get(topic)
        if followed is not None:
            followed.followers.append(changed)
            if followed.copy.has_value:
                self._loop.call_soon(self._tell, changed, followed.copy)
            return
        followed = self._followed[topic] = _Followed(actor, Copy(topic), publisher)
        followed.followers.append(changed)
        copy = followed.copy

        def take(_: bytes, messages: list[Any]) -> None:
            for message in messages:
                if copy.take(message):
                    self._tell_all(followed)
            if copy.needs_snapshot:
                self._ask(publisher, SnapshotAsk(actor, topic))

        self._link.subscriber(f"ipc://{self._run_dir}/{publisher}.pub", [topic.encode()], take, [Update, Repeat])
        self._ask(publisher, SnapshotAsk(actor, topic))

    def _snapshot(self, snapshot: TopicSnapshot) -> None:
        followed = self._followed.get(snapshot.topic)
        if followed is not None and followed.copy.take(snapshot):
            self._tell_all(followed)

    def _tell_all(self, followed: _Followed) -> None:
        for changed in followed.followers:
            self._tell(changed, followed.copy)

    def _tell(self, changed: Callable[[Any], None], copy: Copy) -> None:
        try:
            changed(copy.value)
        except Exception as error:  # of one actor: the others of this process follow the same topic
            self._loop.call_exception_handler({"message": f"a follower of topic {copy.topic} failed", "exception": error})

    # -- blobs -----------------------------------------------------------------------

    def fetch(
        self, actor: int, topic: str, publisher: str, digests: Iterable[bytes], got: Callable[[dict[bytes, bytes]], None]
    ) -> Callable[[], None]:
        """See `Context.fetch`."""
        fetch = _Fetch(actor, topic, publisher, digests, got)
        others = [other for other in self._fetches if other.topic == topic]
        self._fetches.append(fetch)
        if others:
            unasked = fetch.missing.difference(*(other.missing for other in others))
        else:
            unasked, self._asked[topic] = fetch.missing, self._loop.time()
        if unasked:
            self._ask_blobs(fetch, unasked)

        def give_up() -> None:
            if fetch in self._fetches:
                self._fetches.remove(fetch)

        return give_up

    def _blob(self, blob: Blob) -> None:
        for fetch in [fetch for fetch in self._fetches if fetch.topic == blob.topic and blob.digest in fetch.missing]:
            fetch.missing.discard(blob.digest)
            fetch.found[blob.digest] = blob.packed
            if not fetch.missing and fetch in self._fetches:
                self._fetches.remove(fetch)
                try:
                    fetch.got(fetch.found)
                except Exception as error:  # as in _tell
                    self._loop.call_exception_handler({"message": f"who fetched of topic {fetch.topic} failed", "exception": error})

    # -- publishing -------------------------------------------------------------------

    def publish(self, stage: str, topic: str, value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> Change:
        """See `Context.publish`."""
        original = self._originals[topic] = Original(topic, random.getrandbits(53), value)
        if stage not in self._publishers:
            self._publishers[stage] = self._link.publisher(f"ipc://{self._run_dir}/{stage}.pub")
        publisher = self._publishers[stage]

        def repeat(seq: int, wait: float) -> None:
            # A subscription is known to the publisher some time after the subscriber connected, and its snapshot may be
            # older than that: what was published in between reached nobody there, and perhaps nothing follows it.
            if original.seq == seq and self._originals.get(topic) is original:
                publisher.send(topic.encode(), original.repeat())
                if wait < REPEATS_END:
                    self._loop.call_later(wait, repeat, seq, wait * 2)

        def change(value: Any, blobs: Mapping[bytes, bytes] = NO_BLOBS) -> None:
            original.blobs = blobs
            publisher.send(topic.encode(), original.change(value))
            self._loop.call_later(FIRST_REPEAT, repeat, original.seq, FIRST_REPEAT * 2)

        change(value, blobs)  # tells old subscribers of the new epoch
        return change

    def _snapshot_asked(self, ask: SnapshotAsk) -> None:
        original = self._originals.get(ask.topic)
        if original is not None:
            self._link.send(ask.asker, original.snapshot())

    def _blobs_asked(self, ask: BlobAsk) -> None:
        original = self._originals.get(ask.topic)
        if original is not None:
            for digest in ask.digests:
                packed = original.blobs.get(digest)
                if packed is not None:  # else it is of a value that was: the asker has heard of the next one, or will
                    self._link.send(ask.asker, Blob(ask.topic, digest, packed))
