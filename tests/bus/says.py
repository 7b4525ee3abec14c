"""A message for tests of the bus."""

from __future__ import annotations

from pingap.bus.envelope import Payload


class Said(Payload, frozen=True, tag=64):
    """Its number is its sid."""


def say(number: int, payload: bytes = b"") -> Said:
    return Said(number, payload)
