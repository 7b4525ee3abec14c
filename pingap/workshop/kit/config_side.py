"""What config says to a stage, without a config stage."""

from __future__ import annotations

from typing import Any

import msgpack

from pingap.config.model import Snapshot
from pingap.stages.bundles import packed
from pingap.workshop.kit.context import FakeContext

Generation = tuple[int, Snapshot, dict[str, int]]
"""Number, snapshot, itinerary flags by location."""


def say_config(context: FakeContext, committed: Generation | None = None, candidate: Generation | None = None, oldest: int = 0) -> None:
    """Tells the stage of `context` a value of topic config; the bundles come when it asks for them."""
    context.blobs |= blobs_of(committed, candidate)
    value = msgpack.unpackb(msgpack.packb(value_of(committed, candidate, oldest)), use_list=False)
    context.following["config"](value)


def value_of(committed: Generation | None = None, candidate: Generation | None = None, oldest: int = 0) -> dict[str, Any]:
    """As it is published."""
    value: dict[str, Any] = {"committed": 0, "current": None, "candidate": 0, "next": None, "oldest": oldest, "problems": []}
    for number, contents, generation in (("committed", "current", committed), ("candidate", "next", candidate)):
        if generation is not None:
            value |= {number: generation[0], contents: packed(*generation[1:]).contents}
    return value


def blobs_of(*generations: Generation | None) -> dict[bytes, bytes]:
    """The bundles of these."""
    return {digest: blob for generation in generations if generation is not None for digest, blob in packed(*generation[1:]).blobs.items()}
