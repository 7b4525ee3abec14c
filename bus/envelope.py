"""The wire form of a batch of envelopes (PROTOCOL.md section 2).

An envelope is a `Message`, or a plain tuple that begins with its kind (events, and
what the supervisor's control connections carry).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Any, Final

import msgpack
import msgspec

VERSION: Final = 1
ATTACH: Final = 64 * 1024
"""A payload travels as a frame of its own from this many bytes on: below, copying is cheaper."""

MAX_ATTACHMENTS: Final = 255
MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes that one frame may have; a longer one is refused unread."""

_PLAIN: Final = bytes((VERSION, 0))
_pack: Final = msgspec.msgpack.Encoder().encode


class WireError(ValueError):
    """A message that is not of this protocol. It is dropped and counted, never answered."""

    kind = 0
    """Of an envelope that is no message of its kind: 0 for all else."""
    key = 0
    """Its item 1, where that is a number: most messages have the stream there that they belong to."""


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Fields that several messages have in common and carry as one array."""


class Message(Part, frozen=True):
    """What one actor tells another. A class of it says its kind: `class Done(Message, frozen=True, tag=71)`.

    It holds what MessagePack can carry, and nothing that holds itself (gc=False: the garbage collector looks at none).
    """


class Payload(Message, frozen=True):
    """A message whose payload travels as a frame of its own when it is long."""

    sid: int
    payload: bytes


def kind_of(message: type[Message]) -> int:
    """The number that a class of messages has on the wire."""
    kind = message.__struct_config__.tag
    assert isinstance(kind, int), f"{message.__name__} has no kind"
    return kind


def messages_of(module: ModuleType) -> list[type[Message]]:
    """The classes of messages that a module defines."""
    found = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    return [one for one in found if issubclass(one, Message)]


def pack(batch: list[Any]) -> list[bytes]:
    """Frames of one message. `batch` holds at most MAX_ATTACHMENTS long payloads.

    Raises TypeError, OverflowError and the like for what MessagePack cannot carry.
    """
    attachments: list[bytes] = []
    for index, envelope in enumerate(batch):
        if isinstance(envelope, Payload) and len(envelope.payload) >= ATTACH:
            if not attachments:
                batch = list(batch)  # the caller's must stay whole, should another envelope of it not be packable
            attachments.append(envelope.payload)
            sid, _, *more = msgspec.structs.astuple(envelope)
            batch[index] = (kind_of(type(envelope)), sid, None, *more)
    if not attachments:
        return [_PLAIN + _pack(batch)]
    return [bytes((VERSION, len(attachments))) + _pack(batch), *attachments]


def unpack(head: bytes, attachments: Sequence[bytes] = ()) -> list[Any]:
    """The batch's envelopes as plain tuples. Raises WireError for anything that is not one."""
    _check_head(head, attachments)
    try:
        batch = msgpack.unpackb(memoryview(head)[2:], use_list=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not MessagePack: {error}") from error
    if type(batch) is not tuple:
        raise WireError("not an array of envelopes")
    if not attachments:
        return list(batch)
    waiting = iter(attachments)
    whole: list[Any] = []
    for envelope in batch:
        if type(envelope) is tuple and len(envelope) > 2 and envelope[2] is None:
            payload = next(waiting, None)
            if payload is None:
                raise WireError("fewer attachments than envelopes that need one")
            envelope = (*envelope[:2], payload, *envelope[3:])
        whole.append(envelope)
    if next(waiting, None) is not None:
        raise WireError("more attachments than envelopes that need one")
    return whole


class Reader:
    """Reads the messages of the given classes, and checks their types."""

    def __init__(self, messages: Iterable[type[Message]], refuse: Callable[[WireError], None]) -> None:
        """refuse: is told of each envelope that is none of them; it costs the others of its batch nothing."""
        self._one: Any = reduce(or_, messages)
        self._refuse = refuse
        batch: Any = list.__class_getitem__(self._one)
        self._decode: Callable[[Any], list[Any]] = msgspec.msgpack.Decoder(batch).decode

    def unpack(self, head: bytes, attachments: Sequence[bytes] = ()) -> list[Any]:
        """The messages of a batch. Raises WireError for what is no batch."""
        if not attachments and head[:2] == _PLAIN:
            try:
                return self._decode(memoryview(head)[2:])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # of one perhaps
        return [message for envelope in unpack(head, attachments) if (message := self.read(envelope)) is not None]

    def read(self, envelope: Any) -> Any:
        """The message of an envelope that came as a plain tuple; None when it is refused."""
        try:
            try:
                return msgspec.convert(envelope, self._one, builtin_types=(bytes,))  # else text would be read as base64
            except msgspec.ValidationError:
                return self._decode(_pack([envelope]))[0]  # a field that is to stay packed cannot be made of a plain one
        except (msgspec.MsgspecError, RecursionError) as error:
            kind, key, *_ = (*envelope, 0, 0) if type(envelope) is tuple else (0, 0)
            refused = WireError(f"an envelope of kind {kind!r:.100}: {error}")
            if type(kind) is int and type(key) is int:
                refused.kind, refused.key = kind, key
            self._refuse(refused)
            return None


def _check_head(head: bytes, attachments: Sequence[bytes]) -> None:
    if len(head) < 3 or head[0] != VERSION:
        raise WireError(f"protocol version {head[0] if head else 'none'}, this is {VERSION}")
    if head[1] != len(attachments):
        raise WireError(f"{head[1]} attachments announced, {len(attachments)} came")


def attachment_count(head: bytes) -> int:
    """How many further frames belong to the message that starts with `head`."""
    return head[1] if len(head) > 1 else 0
