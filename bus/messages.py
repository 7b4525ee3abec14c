"""The bus's own messages between actors (PROTOCOL.md sections 5 and 9)."""

from __future__ import annotations

import msgspec

from pingap.bus.envelope import Message


class SnapshotAsk(Message, frozen=True, tag=32):
    """Follower → publisher's actor: send all that there is of a topic."""

    asker: int
    topic: str


class TopicSnapshot(Message, frozen=True, tag=33):
    """The answer to SNAPSHOT_ASK."""

    topic: str
    epoch: int
    seq: int
    value: msgspec.Raw
    """MessagePack, read by those only to whom the number is new."""


class Update(Message, frozen=True, tag=34):
    """On the publisher's socket: a new value."""

    topic: str
    epoch: int
    seq: int
    value: msgspec.Raw
    """As in TopicSnapshot."""


class Repeat(Message, frozen=True, tag=37):
    """On the publisher's socket: the number of the last UPDATE once more, for those whom that did not reach."""

    topic: str
    epoch: int
    seq: int


class BlobAsk(Message, frozen=True, tag=38):
    """Follower → publisher's actor: send the blobs that have these digests."""

    asker: int
    topic: str
    digests: list[bytes]


class Blob(Message, frozen=True, tag=39):
    """The answer to BLOB_ASK, one for each that the topic's value of now names."""

    topic: str
    digest: bytes
    packed: bytes


class Mark(Message, frozen=True, tag=35):
    """Sent along behind so many bytes of bodies (`bus/pipes.py`)."""

    sender: int
    sent: int
    """Bytes in all until here."""


class Echo(Message, frozen=True, tag=36):
    """The answer to MARK, when what came before it has been dealt with."""

    sender: int
    sent: int


class Wanted(Message, frozen=True, tag=99):
    """logging → every actor: which events somebody reads."""

    topics: list[str]
