"""What becomes of a message on its way to another process."""

from __future__ import annotations

from typing import Any

from pingap.bus import envelope as wire
from pingap.bus import messages as of_bus
from pingap.stages import messages as of_stages

MESSAGES: list[type[wire.Message]] = wire.messages_of(of_bus) + wire.messages_of(of_stages)


def _refuse(error: wire.WireError) -> None:
    raise error


_READER = wire.Reader(MESSAGES, _refuse)


def over_the_wire(envelope: Any) -> Any:
    """What arrives of it. Raises what `bus.envelope.pack` does, and WireError for what its receiver would refuse."""
    head, *attachments = wire.pack([envelope])
    unpack = _READER.unpack if isinstance(envelope, wire.Message) else wire.unpack
    return unpack(head, attachments)[0]


def plain(value: Any) -> Any:
    """What arrives of plain data (replicated state, fields of a log line): tuples for lists."""
    return over_the_wire((0, value))[1]
