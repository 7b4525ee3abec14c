"""Why a connection is not read. One gate stands before each, and nobody else stops a transport or lets it go on.

Who stops reading for one reason must not be let go on for the end of another: so each reason is a bit, and what comes is read
while there is none.
"""

from __future__ import annotations

import asyncio
from typing import Final

BULK: Final = 1
"""It has read a lot and it is another's turn, or the pipe to who gets what it reads is full (bulk.py)."""

CREDIT: Final = 2
"""Who gets the body that comes in has asked for no more of it."""

BACKLOG: Final = 4
"""Who asks without end has to wait: its requests are not begun yet, or their answers not taken."""

TLS: Final = 8
"""Enough of a handshake has come; it waits for its turn (tls.py)."""

INNER: Final = 16
"""The protocol inside TLS reads no more, for a reason of its own."""


class ReadGate:
    """Before one transport, which must be told by nobody else."""

    __slots__ = ("_transport", "reasons")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.reasons = 0
        """The bits above; 0 while it is read. To be looked at only."""

    def shut(self, reason: int) -> None:
        """Nothing more is read until this reason and all others are gone."""
        if not self.reasons and not self._transport.is_closing():
            self._transport.pause_reading()
        self.reasons |= reason

    def open(self, reasons: int) -> None:
        """These reasons are gone, those of them that there were."""
        if self.reasons & reasons:
            self.reasons &= ~reasons
            if not self.reasons and not self._transport.is_closing():
                self._transport.resume_reading()
