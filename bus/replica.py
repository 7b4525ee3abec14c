"""Replicated state: snapshot plus numbered updates (Clone pattern, ZeroMQ guide ch. 5; PROTOCOL.md section 5).

`Copy` and `Original` decide only; sockets and timers belong to `replication.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import msgspec

from pingap.bus.messages import Repeat, TopicSnapshot, Update


class Original:
    """The publisher's side: the value, its number, and the envelopes that carry them."""

    def __init__(self, topic: str, epoch: int, value: Any) -> None:
        self.topic = topic
        self.epoch = epoch
        self.seq = 0
        self.value = value
        self.blobs: Mapping[bytes, bytes] = {}
        """By digest, what the value names."""
        self._packed = _packed(value)

    def change(self, value: Any) -> Update:
        """Takes a new value; returns the UPDATE to publish."""
        self.seq += 1
        self.value = value
        self._packed = _packed(value)
        return Update(self.topic, self.epoch, self.seq, self._packed)

    def repeat(self) -> Repeat:
        """Says which UPDATE was the last, for who was not yet subscribed when it went out."""
        return Repeat(self.topic, self.epoch, self.seq)

    def snapshot(self) -> TopicSnapshot:
        """The answer to SNAPSHOT_ASK."""
        return TopicSnapshot(self.topic, self.epoch, self.seq, self._packed)


class Copy:
    """The subscriber's side. `take` says whether the value is new; `needs_snapshot` whether to ask."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.value: Any = None
        self.needs_snapshot = True
        self._epoch = 0
        self._seq = -1

    @property
    def has_value(self) -> bool:
        """False before the first snapshot."""
        return self._seq >= 0

    def take(self, told: TopicSnapshot | Update | Repeat) -> bool:
        """True if the value changed. Numbers are looked at first: what is not new is not unpacked."""
        epoch, seq = told.epoch, told.seq
        if isinstance(told, TopicSnapshot):
            if epoch == self._epoch and seq < self._seq:
                return False  # an answer to an older question
            changed = epoch != self._epoch or seq != self._seq
            self._epoch, self._seq, self.needs_snapshot = epoch, seq, False
            if changed:
                self.value = _unpacked(told.value)
            return changed
        if epoch != self._epoch:
            self.needs_snapshot = True  # the publisher started a new life
            return False
        if seq <= self._seq:
            return False
        if isinstance(told, Repeat) or seq != self._seq + 1:
            self.needs_snapshot = True  # one is missing
            return False
        self._seq, self.value = seq, _unpacked(told.value)
        return True


def _packed(value: Any) -> msgspec.Raw:
    """Once, however many ask."""
    return msgspec.Raw(msgpack.packb(value))


def _unpacked(raw: msgspec.Raw) -> Any:
    return msgpack.unpackb(memoryview(raw), use_list=False, strict_map_key=False)
