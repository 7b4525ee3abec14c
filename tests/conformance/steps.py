"""What a case is made of: bytes to send, and what a conforming server does then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pingap.stages.http2 import engine as e
from pingap.stages.http2.engine import Fields
from tests.conformance.peer import Closed, Frame, Peer
from tests.http2.wire import ACK, DATA, END, END_HEADERS, GOAWAY, HEADERS, PING, PRIORITY, RST, SETTINGS, WINDOW, block, frame, u32

Step = bytes | Callable[[Peer], None]

NAMES = {value: name for name, value in vars(e).items() if isinstance(value, int) and (name.endswith("_ERROR") or name in (
    "STREAM_CLOSED", "REFUSED_STREAM", "CANCEL", "ENHANCE_YOUR_CALM"))}  # fmt: skip


class Case(NamedTuple):
    name: str
    """A sentence, with the section of RFC 9113 (or RFC 7541, 8441) that says so first."""
    h2spec: str
    """The case of h2spec that it corresponds to: suite/section/number; empty for one of our own."""
    steps: tuple[Step, ...]
    raw: bool = False
    """The steps send the preface themselves."""
    lenient: Mapping[str, tuple[str, tuple[Step, ...]]] = MappingProxyType({})
    """Engine → why it does something else, and what."""


def case(name: str, *steps: Step, h2spec: str = "", raw: bool = False, **lenient: tuple[str, tuple[Step, ...]]) -> Case:
    return Case(name, h2spec, steps, raw, lenient)


def play(peer: Peer, steps: tuple[Step, ...]) -> None:
    """Bytes that follow one another go out in one piece, so that the server sees them in one state."""
    out = b""
    for step in steps:
        if isinstance(step, bytes):
            out += step
            continue
        if out:
            peer.send(out)
            out = b""
        step(peer)
    assert not out, "a case that ends without expecting anything"


# -- requests ---------------------------------------------------------------------


def request(method: bytes = b"GET", path: bytes = b"/", *more: tuple[bytes, bytes], authority: bytes = b"test.local") -> Fields:
    return ((b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority), *more)


GET = request()
POST = request(b"POST")


def get(stream: int, *more: tuple[bytes, bytes], path: bytes = b"/") -> bytes:
    """A whole request without a body."""
    return fields(stream, request(b"GET", path, *more), END)


def post(stream: int, *more: tuple[bytes, bytes]) -> bytes:
    """The head of a request whose body is to come."""
    return fields(stream, request(b"POST", b"/", *more))


def fields(stream: int, them: Fields, flags: int = 0) -> bytes:
    return frame(HEADERS, END_HEADERS | flags, stream, block(them))


def pieces(stream: int, *parts: bytes, flags: int = 0, last: int = END_HEADERS) -> bytes:
    """HEADERS with the first part, CONTINUATION with the others; `last` are the flags of the last one."""
    first, *rest = parts
    out = frame(HEADERS, flags, stream, first)
    for number, part in enumerate(rest, 1):
        out += frame(9, last if number == len(rest) else 0, stream, part)
    return out


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(name.to_bytes(2, "big") + u32(value) for name, value in pairs))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, u32(increment))


def rst(stream: int, code: int = e.CANCEL) -> bytes:
    return frame(RST, 0, stream, u32(code))


def priority(stream: int, depends_on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    return frame(PRIORITY, 0, stream, u32(depends_on | exclusive << 31) + bytes((weight,)))


def goaway(code: int = e.NO_ERROR, last: int = 0, debug: bytes = b"", stream: int = 0) -> bytes:
    return frame(GOAWAY, 0, stream, u32(last) + u32(code) + debug)


# -- what is to happen --------------------------------------------------------------


def dies(*codes: int) -> Callable[[Peer], None]:
    """A connection error (section 5.4.1): GOAWAY with one of the codes, then the connection is closed."""

    def check(peer: Peer) -> None:
        found = peer.until(lambda seen: seen.kind == GOAWAY and seen.code != e.NO_ERROR, f"GOAWAY {_names(codes)}")
        assert found.code in codes, f"GOAWAY {NAMES.get(found.code, found.code)}, not {_names(codes)}; {peer.history()}"
        peer.wait_closed()

    return check


def breaks(stream: int, *codes: int) -> Callable[[Peer], None]:
    """A stream error (section 5.4.2): RST_STREAM with one of the codes, and the connection goes on.

    "A connection error is always allowed instead" is how implementations read section 5.4; GOAWAY with one of the codes passes.
    """

    def check(peer: Peer) -> None:
        def is_it(seen: Frame) -> bool:
            return (seen.kind == RST and seen.stream == stream) or (seen.kind == GOAWAY and seen.code != e.NO_ERROR)

        found = peer.until(is_it, f"RST_STREAM {_names(codes)} on stream {stream}")
        assert found.code in codes, f"{NAMES.get(found.code, found.code)}, not {_names(codes)}; {peer.history()}"
        if found.kind == GOAWAY:
            peer.wait_closed()
        else:
            peer.ping()

    return check


def only_breaks(stream: int, *codes: int) -> Callable[[Peer], None]:
    """As `breaks`, and the connection must survive: messages that are malformed (section 8.1.1), streams that are refused."""

    def check(peer: Peer) -> None:
        breaks(stream, *codes)(peer)
        assert not peer.goaways(), f"the whole connection is ended; {peer.history()}"

    return check


def answers(stream: int, status: int = 200, body: bytes | None = None) -> Callable[[Peer], None]:
    def check(peer: Peer) -> None:
        answer = peer.answer(stream)
        assert answer.status == status, f"{answer.status} {answer.body[:100]!r}"
        assert body is None or answer.body == body

    return check


def refuses(stream: int) -> Callable[[Peer], None]:
    """An answer with 400, or a reset with PROTOCOL_ERROR (section 8.1.1); the connection goes on."""

    def check(peer: Peer) -> None:
        found = peer.until(lambda seen: seen.stream == stream and seen.kind in (HEADERS, RST), "an answer or a reset")
        if found.kind == RST:
            assert found.code == e.PROTOCOL_ERROR
        else:
            assert peer.answer(stream).status == 400
        lives(peer)

    return check


def lives(peer: Peer) -> None:
    """A PING is acknowledged, and there was no GOAWAY."""
    peer.ping()
    assert not peer.goaways(), peer.history()


def lives_or_ends(peer: Peer) -> None:
    """After a GOAWAY of ours the server may go on or close."""
    peer.send(frame(PING, 0, 0, b"are you?"))
    try:
        while peer.next().kind != PING:
            pass
    except Closed:
        pass
    bad = [seen for seen in peer.goaways() if seen.code != e.NO_ERROR]
    assert not bad, peer.history()


def closes(peer: Peer) -> None:
    """In whatever way."""
    peer.wait_closed()


def acknowledges(peer: Peer) -> None:
    """SETTINGS that were sent as a step are acknowledged, and so were those of the preface."""
    while peer.unacknowledged > -1:
        peer.until(lambda seen: seen.kind == SETTINGS and bool(seen.flags & ACK), "SETTINGS is acknowledged")
    peer.unacknowledged = 0


def sends(stream: int, *sizes: int) -> Callable[[Peer], None]:
    """DATA of exactly these lengths on a stream, and no more as long as nothing else is done."""

    def check(peer: Peer) -> None:
        for size in sizes:
            found = peer.until(lambda seen: seen.kind == DATA and seen.stream == stream, f"DATA on stream {stream}")
            assert len(found.body) == size, f"{len(found.body)} bytes, not {size}"
        before = len(peer.seen)
        peer.ping()
        assert not [seen for seen in peer.seen[before:] if seen.kind == DATA], f"more than the window; {peer.history()}"

    return check


def sends_in_all(stream: int, size: int) -> Callable[[Peer], None]:
    """So many bytes of DATA on a stream, in frames of any length, and then no more."""

    def check(peer: Peer) -> None:
        peer.until(lambda _: stream in peer.answers and len(peer.answers[stream].body) >= size, f"{size} bytes on stream {stream}")
        peer.ping()
        assert len(peer.answers[stream].body) == size, "more than the window"

    return check


def holds_back(stream: int) -> Callable[[Peer], None]:
    """The answer has begun, and nothing of its body comes."""

    def check(peer: Peer) -> None:
        if stream not in peer.answers:
            peer.until(lambda seen: seen.kind == HEADERS and seen.stream == stream, "the answer begins")
        peer.ping()
        assert not peer.answers[stream].body, "DATA without a window"

    return check


def _names(codes: tuple[int, ...]) -> str:
    return " or ".join(NAMES.get(code, str(code)) for code in codes)
