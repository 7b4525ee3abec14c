"""Replicated state: snapshot plus numbered updates (Clone pattern, ZeroMQ guide ch. 5; PROTOCOL.md section 5).

`Copy` and `Original` decide only; sockets and timers belong to `process.py`.
"""

from __future__ import annotations

from typing import Any

from bus.kinds import SNAPSHOT, UPDATE


class Original:
    """The publisher's side: the value, its number, and the envelopes that carry them."""

    def __init__(self, topic: str, epoch: int, value: Any) -> None:
        self.topic = topic
        self.epoch = epoch
        self.seq = 0
        self.value = value

    def change(self, value: Any) -> tuple[Any, ...]:
        """Takes a new value; returns the UPDATE envelope to publish."""
        self.seq += 1
        self.value = value
        return (UPDATE, self.topic, self.epoch, self.seq, value)

    def again(self) -> tuple[Any, ...]:
        """The last UPDATE envelope once more, for who was not yet subscribed when it went out."""
        return (UPDATE, self.topic, self.epoch, self.seq, self.value)

    def snapshot(self) -> tuple[Any, ...]:
        """The SNAPSHOT envelope that answers SNAPSHOT_ASK."""
        return (SNAPSHOT, self.topic, self.epoch, self.seq, self.value)


class Copy:
    """The subscriber's side. `take` says whether the value is new; `needs_snapshot` whether to ask."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.value: Any = None
        self.needs_snapshot = True
        self._epoch = 0
        self._seq = -1

    def take(self, envelope: Any) -> bool:
        """Feeds a SNAPSHOT or UPDATE; True if the value changed."""
        kind, _, epoch, seq, value = envelope
        if kind == SNAPSHOT:
            if epoch == self._epoch and seq < self._seq:
                return False  # an answer to an older question
            changed = self.needs_snapshot or epoch != self._epoch or seq != self._seq
            self._epoch, self._seq, self.value, self.needs_snapshot = epoch, seq, value, False
            return changed
        if epoch != self._epoch:
            self.needs_snapshot = True  # the publisher started a new life
            return False
        if seq <= self._seq:
            return False
        if seq != self._seq + 1:
            self.needs_snapshot = True  # one is missing
            return False
        self._seq, self.value = seq, value
        return True
