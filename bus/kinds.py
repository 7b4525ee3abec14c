"""Kinds of the envelopes that are plain tuples: of the control connection, and events (PROTOCOL.md sections 4 and 9)."""

from __future__ import annotations

from typing import Final

HELLO: Final = 1
HEARTBEAT: Final = 2
READY: Final = 3
BOOT_FAILED: Final = 4
MEMBERS: Final = 5
DRAIN: Final = 6
DRAINED: Final = 7
STOP: Final = 8
TELL: Final = 9
ASK: Final = 10
REPLY: Final = 11
REPORT: Final = 12

ACCESS: Final = 96
LOG: Final = 97
COUNT: Final = 98
LINES: Final = 100
NOTICE: Final = 101
