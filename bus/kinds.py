"""Kinds of the bus's own envelopes (PROTOCOL.md sections 4, 5 and 9)."""

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

SNAPSHOT_ASK: Final = 32
SNAPSHOT: Final = 33
UPDATE: Final = 34

MARK: Final = 35
ECHO: Final = 36

ACCESS: Final = 96
LOG: Final = 97
COUNT: Final = 98
WANTED: Final = 99
LINES: Final = 100
