"""HTTP/2 section by section: every case against a running pingap, once for each engine.

The cases are in starting.py, streams.py, frames.py, messages.py and compression.py. CONFORMANCE_PORT=N plays them
against another server without TLS on that port, which answers GET / with `hello`.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.conformance import compression, frames, messages, starting, streams
from tests.conformance.conftest import Server
from tests.conformance.peer import Peer
from tests.conformance.steps import Case, play
from tests.e2e.harness import Pingap

CASES: list[Case] = [*starting.CASES, *streams.CASES, *frames.CASES, *messages.CASES, *compression.CASES]
BRIEF = [case for case in CASES if case.h2spec.endswith("/1")]
"""The first of each section of h2spec, for TLS and for the other placement."""

GROUPS = {
    "generic": "1:1 2:5 3.1:3 3.2:3 3.3:5 3.4:1 3.5:1 3.7:1 3.8:1 3.9:2 3.10:2 4:4 5:15",
    "http2": "3.5:2 4.1:3 4.2:3 4.3:3 5.1:13 5.1.1:2 5.1.2:1 5.3.1:2 5.4.1:2 5.5:2 6.1:3 6.2:4 6.3:2 6.4:3 6.5:3 6.5.2:5 6.5.3:2 "
    "6.7:4 6.8:1 6.9:3 6.9.1:3 6.9.2:3 6.10:6 7:2 8.1:1 8.1.2:1 8.1.2.1:4 8.1.2.2:2 8.1.2.3:7 8.1.2.6:2 8.2:1",
    "hpack": "2.3.3:1 4.2:1 5.2:3 6.1:1 6.3:1",
}
"""How many cases h2spec 2.6 has in each section."""


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(CASES)
def test_section(server: Server, case: Case) -> None:
    _, steps = case.lenient.get(server.engine, ("", case.steps))
    with server.peer(raw=case.raw) as peer:
        play(peer, steps)


@named(BRIEF)
def test_section_over_tls(server: Server, case: Case) -> None:
    with server.peer(raw=case.raw, tls=True) as peer:
        assert peer.alpn == "h2"
        play(peer, case.lenient.get(server.engine, ("", case.steps))[1])


@named(BRIEF)
def test_section_colocated(colocated: tuple[Pingap, dict[str, int]], engine: str, case: Case) -> None:
    with Peer(colocated[1][engine], raw=case.raw) as peer:
        play(peer, case.lenient.get(engine, ("", case.steps))[1])


def test_every_case_of_h2spec_has_one_of_ours() -> None:
    theirs = {
        f"{suite}/{section}/{number}"
        for suite, groups in GROUPS.items()
        for section, count in (group.split(":") for group in groups.split())
        for number in range(1, int(count) + 1)
    }
    assert len(theirs) == 146
    ours = Counter(case.h2spec for case in CASES if case.h2spec)
    assert set(ours) == theirs
    assert max(ours.values()) == 1


def test_names_begin_with_their_section_and_are_unlike() -> None:
    assert max(Counter(case.name for case in CASES).values()) == 1
    assert all(re.match(r"(7541 |8441 )?\d+(\.\d+)* ", case.name) for case in CASES)
