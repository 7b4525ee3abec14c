"""The wire form of a batch of envelopes (PROTOCOL.md section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

VERSION: Final = 1
ATTACH: Final = 64 * 1024
"""Item 2 of an envelope travels as a frame of its own from this many bytes on: below, copying is cheaper."""

MAX_ATTACHMENTS: Final = 255
MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes that one frame may have; a longer one is refused unread."""

_PLAIN: Final = bytes((VERSION, 0))
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class WireError(ValueError):
    """A message that is not of this protocol. It is dropped and counted, never answered."""


def pack(batch: list[Any]) -> list[bytes]:
    """Frames of one message. `batch` holds at most MAX_ATTACHMENTS long payloads (see `split`)."""
    attachments: list[bytes] = []
    for index, envelope in enumerate(batch):
        payload = envelope[2] if len(envelope) > 2 else None
        if type(payload) is bytes and len(payload) >= ATTACH:
            if not attachments:
                batch = list(batch)  # the caller's must stay whole, should another envelope of it not be packable
            attachments.append(payload)
            batch[index] = (*envelope[:2], None, *envelope[3:])
    if not attachments:
        return [_PLAIN + _pack(batch)]
    return [bytes((VERSION, len(attachments))) + _pack(batch), *attachments]


def unpack(head: bytes, attachments: Sequence[bytes] = ()) -> list[Any]:
    """The batch's envelopes as tuples. Raises WireError for anything that is not one."""
    if len(head) < 3 or head[0] != VERSION:
        raise WireError(f"protocol version {head[0] if head else 'none'}, this is {VERSION}")
    if head[1] != len(attachments):
        raise WireError(f"{head[1]} attachments announced, {len(attachments)} came")
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


def attachment_count(head: bytes) -> int:
    """How many further frames belong to the message that starts with `head`."""
    return head[1] if len(head) > 1 else 0
