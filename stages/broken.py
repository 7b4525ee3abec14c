"""Streams of which a message got lost, because it held what no message of its kind may: they must not hang.

A plugin that puts a `datetime` where text belongs is the everyday case. Nobody else is waiting for that message to fail.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr

from pingap.bus.actor import Actor
from pingap.bus.envelope import Message, WireError, kind_of, messages_of
from pingap.stages import messages
from pingap.stages.messages import Broken, owner_of

OF_STREAMS: Final = frozenset(kind_of(one) for one in messages_of(messages) if one.__struct_fields__[0] == "sid")
"""Kinds of messages that belong to a stream."""


@mypyc_attr(allow_interpreted_subclasses=True)
class OfStreams(Actor):
    """An actor through which streams go: what breaks one is told to the actor that owns it."""

    def unreadable(self, error: WireError) -> None:
        if error.kind in OF_STREAMS:
            self.broken(Broken(error.key, self.context.id, str(error)))

    def unsent(self, message: Any, error: Exception) -> None:
        if isinstance(message, Message) and kind_of(type(message)) in OF_STREAMS:
            self.broken(Broken(message.sid, self.context.id, f"{type(message).__name__}: {error}"))  # type: ignore[attr-defined]

    def broken(self, broken: Broken) -> None:
        self.context.send(owner_of(broken.sid), broken)
