"""All payloads, all doors, in one go: runs them, judges them, counts them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tests.smuggling import http2_side, payloads_chunks, payloads_framing, payloads_heads, payloads_hops
from tests.smuggling.http2_side import Http2Outcome
from tests.smuggling.lab import Door, Lab, Run
from tests.smuggling.payload import Payload
from tests.smuggling.payloads_http2 import Http2Payload
from tests.smuggling.verdict import disagreements, verdict

FAMILIES = payloads_framing.FAMILIES + payloads_chunks.FAMILIES + payloads_heads.FAMILIES + payloads_hops.FAMILIES
PAYLOADS = [payload for family in FAMILIES for payload in family.payloads.values()]

RAW, RAW_H11 = Door("raw"), Door("raw", "h11")
DOORS = [RAW, RAW_H11, Door("nginx"), Door("uvicorn-h11"), Door("uvicorn-httptools")]
HTTP2_DOORS = [
    Door("raw", http2="h2"),
    Door("raw", http2="ngh2"),
    Door("nginx", http2="h2"),
    Door("nginx", http2="ngh2"),
    Door("uvicorn-h11", http2="ngh2"),
    Door("uvicorn-httptools", http2="h2"),
]
CUTS = ("whole", "late", "pieces")


@dataclass(frozen=True, slots=True)
class Outcome:
    payload: Payload
    run: Run
    wrong: tuple[str, ...]
    """Disagreements."""

    @property
    def verdict(self) -> str:
        return verdict(self.run)

    @property
    def is_expected(self) -> bool:
        return self.verdict == self.payload.verdict


def run_all(lab: Lab, payloads: Iterable[Payload], doors: list[Door], thorough: bool = False) -> list[Outcome]:
    """Says payloads to doors, with another cut at each.

    What passes goes to every door. What is to be refused says little about an origin: it goes to the recorders and to one
    other, in turn; thorough: to all. The odd ones of a sweep go to the recorders only, and to one of them unless thorough.
    """
    return lab.wait(_run_all(lab, list(payloads), doors, thorough))


def run_http2(lab: Lab, payloads: list[Http2Payload], doors: list[Door], thorough: bool = False, settle: bool = True) -> list[Http2Outcome]:
    pairs = [(payload, door) for at, payload in enumerate(payloads) for door in _doors_of(at, payload, doors, thorough)]
    return lab.wait(http2_side.run_all(lab, pairs, settle))


def _doors_of(at: int, payload: Payload | Http2Payload, doors: list[Door], thorough: bool) -> list[Door]:
    recorders = [door for door in doors if door.origin == "raw"]
    others = [door for door in doors if door.origin != "raw"]
    if isinstance(payload, Payload) and payload.only_raw:
        return recorders if thorough else [recorders[at % len(recorders)]]
    if isinstance(payload, Payload) and payload.only_recorders:
        return recorders
    if payload.verdict == "refused" and not thorough and others:
        others = [others[at % len(others)]]
    return recorders + others


async def _run_all(lab: Lab, payloads: list[Payload], doors: list[Door], thorough: bool) -> list[Outcome]:
    pairs = [(payload, door) for at, payload in enumerate(payloads) for door in _doors_of(at, payload, doors, thorough)]
    # Those that end by a time-out first: the others run meanwhile.
    pairs.sort(key=lambda pair: not pair[0].pauses)
    outcomes = await asyncio.gather(*(_run_one(lab, payload, door) for payload, door in pairs))
    await lab.settled()
    order = {id(payload): at for at, payload in enumerate(payloads)}
    outcomes.sort(key=lambda outcome: order[id(outcome.payload)])
    return [Outcome(o.payload, o.run, tuple(disagreements(lab, o.run))) for o in outcomes]


async def _run_one(lab: Lab, payload: Payload, door: Door) -> Outcome:
    cut = CUTS[(len(payload.wire) + len(door.name)) % len(CUTS)] if door.http1 == "httptools" else "whole"
    run = await lab.say(door, payload.wire, cut)
    outcome = Outcome(payload, run, ())
    if not outcome.is_expected:  # on a busy machine a time-out may come early, once
        outcome = Outcome(payload, await lab.say(door, payload.wire, cut), ())
    return outcome
