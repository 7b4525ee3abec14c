"""What an actor counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pingap.bus.actor import Actor
from pingap.bus.envelope import pack, unpack
from pingap.bus.kinds import COUNT
from pingap.bus.seat import Seat, SeatContext


def counting() -> tuple[SeatContext, list[Any]]:
    link = SimpleNamespace(send=None, can_send=None)
    process: Any = SimpleNamespace(link=link, run_dir="", loop=None, descriptors=None)
    context = SeatContext(process, Seat(1, "plugins", 0, "", Actor))
    context.wanted = frozenset({"count"})
    emitted: list[Any] = []
    context.emit = emitted.append  # type: ignore[method-assign,assignment]  # parameters of append have no names
    return context, emitted


@pytest.mark.interpreted
def test_a_label_or_number_that_cannot_travel_costs_no_other_counter() -> None:
    context, emitted = counting()
    context.count("good", 2, location="ä")
    context.count("surrogate", location="\udc80")
    context.count("object", location=object)  # type: ignore[arg-type]
    context.count("much", 2**70)
    context.ship_counts({})
    ((kind, stage, _, rows, _),) = unpack(pack(emitted)[0])
    assert (kind, stage) == (COUNT, "plugins")
    assert rows == (
        ("good", {"location": "ä"}, 2),
        ("surrogate", {"location": "?"}, 1),
        ("object", {"location": "<class 'object'>"}, 1),
        ("much", {}, 2**63 - 1),
    )
