"""Requests with bytes changed, put in, taken out and repeated around their framing: what passes is what the book says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pingap.stages.http2.engine import Fields
from tests.http2.wire import data, headers
from tests.smuggling.book import Request, escaped
from tests.smuggling.lab import Lab, Run
from tests.smuggling.payload import MARK, SMUGGLED, chunked, get, length, post
from tests.smuggling.payloads_http2 import GET, MARKED, START, Http2Payload
from tests.smuggling.suite import HTTP2_DOORS, PAYLOADS, RAW, RAW_H11, run_http2
from tests.smuggling.verdict import disagreements, of_origins, verdict

BATCH = 25
"""Mutants of one example: connections are slow, and they can go side by side."""

pytestmark = pytest.mark.timeout(240)

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Making a failure smaller would take minutes: the one mutant at fault is in the message."""

VALID = (
    get(),
    get(b"Connection: close"),
    get(target=b"http://b.example/mark0000?x=y"),
    get(method=b"OPTIONS") + get(target=b"/mark0000/2"),
    post(length(SMUGGLED), body=SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=chunked(b"hello", SMUGGLED)),
    post(b"Transfer-Encoding: chunked", b"Trailer: X-A", body=b"5;a=b\r\nhello\r\n0\r\nX-A: 1\r\n\r\n"),
    post(b"Expect: 100-continue", length(b"hello"), body=b"hello") + get(target=b"/mark0000/2"),
    post(b"Connection: Upgrade", b"Upgrade: websocket", length(b"hello"), body=b"hello"),
)
SEEDS = [*VALID, *(payload.wire for payload in PAYLOADS if len(payload.wire) < 600 and not payload.only_raw and not payload.pauses)]

RECORDERS = [door for door in HTTP2_DOORS if door.origin == "raw"]

TOKENS = (
    (b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff")
    + (b":", b";", b",", b"=", b'"', b"#", b"\\", b"/", b"*", b"@", b"?", b"%", b"+", b"-", b"_", b"0", b"5", b"a", b"0x", b"\r\n ")
    + (b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: b.example\r\n", b"Connection: close\r\n", b"0\r\n\r\n")
    + (b"chunked", b"HTTP/1.1", b"HTTP/1.0", SMUGGLED)
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Recorders only; what they saw in all is looked at last."""
    with Lab([RAW, RAW_H11, *RECORDERS]) as lab:
        yield lab
        assert of_origins(lab) == []


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A request of the lists with one to three changes; the mark is left alone, for without it nobody knows whose a request is."""
    wire = draw(st.sampled_from(VALID) | st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(wire)) | _near(wire))
        size = draw(st.sampled_from((0, 0, 1, 1, 2, 5)))
        token = draw(st.sampled_from(TOKENS) | st.binary(min_size=0, max_size=2))
        if draw(st.booleans()) and size:
            token = wire[at : at + size] * 2
        changed = wire[:at] + token + wire[at + size :]
        if changed.count(MARK) >= wire.count(MARK):
            wire = changed
    return wire


def _near(wire: bytes) -> st.SearchStrategy[int]:
    """Places where framing is decided: line ends, colons, and the two that say how long."""
    places = [at for at, byte in enumerate(wire) if byte in b"\r\n:;"]
    for name in (b"Transfer-Encoding", b"Content-Length", b"chunked", b"HTTP/"):
        start = wire.find(name)
        if start >= 0:
            places += range(start, min(start + len(name) + 3, len(wire)))
    return st.sampled_from(places)


async def _say_all(lab: Lab, wires: list[bytes]) -> list[tuple[Run, Run]]:
    pairs = [lab.say(door, wire, kind="fuz") for wire in wires for door in (RAW, RAW_H11)]
    runs = await asyncio.gather(*pairs)
    return list(zip(runs[::2], runs[1::2], strict=True))


@settings(max_examples=24, phases=PHASES)
@given(st.lists(mutants(), min_size=BATCH, max_size=BATCH))
def test_a_mutant_is_understood_as_the_book_says_or_refused_by_both_engines(lab: Lab, wires: list[bytes]) -> None:
    for runs in lab.wait(_say_all(lab, wires)):
        for run in runs:
            assert disagreements(lab, run) == [], run.wire
        assert verdict(runs[0]) == verdict(runs[1]), runs[0].wire


FIELDS: tuple[Fields, ...] = (
    (*GET, MARKED),
    (*START, MARKED, (b"content-length", b"%d" % len(SMUGGLED))),
    (*START, MARKED, (b"te", b"trailers"), (b"expect", b"100-continue"), (b"cookie", b"a=b"), (b"cookie", b"c=d")),
    (*GET, MARKED, (b"host", b"a.example"), (b"foo", b"bar")),
)


@st.composite
def field_lists(draw: st.DrawFn) -> Http2Payload:
    """A list of fields with one to three bytes or words put in, one field moved or repeated, and a body."""
    fields = [list(field) for field in draw(st.sampled_from(FIELDS))]
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(fields))
        part = draw(st.integers(0, 1))
        at = draw(st.integers(0, len(field[part])))
        token = draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=2))
        changed = field[part][:at] + token + field[part][at:]
        if MARK not in field[part] or MARK in changed:
            field[part] = changed
    if draw(st.booleans()):
        fields.insert(draw(st.integers(0, len(fields))), list(draw(st.sampled_from(fields))))
    body = draw(st.sampled_from((b"", SMUGGLED, b"0\r\n\r\n" + SMUGGLED)))
    sent: Fields = tuple((name, value) for name, value in fields)
    named = dict(reversed(sent))
    meant = Request(named.get(b":method", b""), escaped(named.get(b":path", b"")), body)
    return Http2Payload("mutants", "", headers(1, sent, not body) + (data(1, body, True) if body else b""), "either", meant)


@settings(max_examples=12, phases=PHASES)
@given(st.lists(field_lists(), min_size=BATCH, max_size=BATCH))
def test_a_mutant_over_http_2_reaches_the_origin_as_it_was_sent_or_not_at_all(lab: Lab, payloads: list[Http2Payload]) -> None:
    for outcome in run_http2(lab, payloads, RECORDERS, settle=False):
        assert outcome.wrong == (), outcome.payload.wire
