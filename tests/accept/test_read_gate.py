"""Reasons for which a connection is not read: the end of one does not end another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pingap.stages.read_gate import BACKLOG, BULK, CREDIT, ReadGate


class Transport:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.is_lost = False

    def is_closing(self) -> bool:
        return self.is_lost

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


def gate_before() -> tuple[ReadGate, Transport]:
    transport: Any = Transport()
    return ReadGate(transport), transport


def test_it_opens_when_the_last_reason_is_gone() -> None:
    gate, transport = gate_before()
    gate.shut(CREDIT)
    gate.shut(BULK)
    gate.open(CREDIT)
    assert transport.told == ["pause"]
    gate.open(BULK)
    assert transport.told == ["pause", "resume"]


def test_a_reason_given_twice_is_one() -> None:
    gate, transport = gate_before()
    gate.shut(CREDIT)
    gate.shut(CREDIT)
    gate.open(CREDIT)
    assert transport.told == ["pause", "resume"]


def test_the_end_of_a_reason_that_there_was_not_changes_nothing() -> None:
    gate, transport = gate_before()
    gate.open(BULK)
    gate.shut(CREDIT)
    gate.open(BULK | BACKLOG)
    assert transport.told == ["pause"]
    gate.open(CREDIT | BACKLOG)
    assert transport.told == ["pause", "resume"]


def test_a_transport_that_closes_is_left_alone() -> None:
    gate, transport = gate_before()
    gate.shut(CREDIT)
    transport.is_lost = True
    gate.open(CREDIT)
    gate.shut(BULK)
    assert transport.told == ["pause"]


def test_nobody_else_stops_a_transport_or_lets_it_go_on() -> None:
    for path in (Path(__file__).parents[2] / "stages").rglob("*.py"):
        if path.name != "read_gate.py":
            assert not re.search(r"\.(pause|resume)_reading\(", path.read_text()), path
