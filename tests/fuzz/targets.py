"""The fuzz targets: what is drawn, and what must hold of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import hpack
from hypothesis import strategies as st

from pingap.bus import envelope as wire
from pingap.config.convert import WRITERS, converted
from pingap.config.model import Snapshot
from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import Document
from pingap.config.storage.memory import MemoryStorage
from pingap.config.text.formats import tables_of
from pingap.stages.accept import proxy_protocol
from pingap.stages.http1.body import ChunkedBody
from pingap.stages.http1.rules import ProtocolError
from pingap.stages.http2.engine import (
    PREFACE,
    Body,
    Event,
    Fields,
    GoAway,
    Head,
    Http2Engine,
    Http2Error,
    InterimHead,
    LocalSettings,
    Trailers,
    Unread,
)
from pingap.stages.http2.engines import NAMES, engine, is_installed
from pingap.stages.http2.guard import FloodGuard
from pingap.stages.messages import Affinity, Cancel, Credit, Data, Peer, Request
from tests.accept.test_proxy_protocol import BAD, GOOD
from tests.fuzz.mutations import cut, cuts, mutants
from tests.http1.test_bodies import h11_reads, read
from tests.http1.test_engines_agree import REQUESTS, RESPONSES, SHARDS, must_agree_on_request, must_agree_on_response
from tests.http2.wire import (
    ACK,
    CONTINUATION,
    END,
    END_HEADERS,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    OK,
    PADDED,
    PING,
    POST,
    PRIORITY,
    RST,
    SETTINGS,
    WINDOW,
    block,
    data,
    frame,
    headers,
    settled_client,
    settled_server,
    u32,
)
from tests.kit.config import load_text
from tests.kit.wire import MESSAGES
from tests.tls.test_client_hello import hello, hello_of

ROOT = Path(__file__).resolve().parents[2]
ENGINES = [name for name in NAMES if is_installed(name)]


class Target(NamedTuple):
    """One thing that reads what others write."""

    drawn: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    """Fails with whatever exception it is not to fail with."""
    says: str


# -- HTTP/1.1 --------------------------------------------------------------------------


def one_head(data: bytes) -> bytes:
    """Up to and with the first empty line, as a connection cuts it."""
    data += b"\r\n\r\n"
    return data[: data.find(b"\r\n\r\n") + 4]


CHUNKED = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b'1;a=b\r\nx\r\nA;q="\\""\r\n0123456789\r\n00\r\nX-A: 1\r\nX-B:\t2 \r\n\r\n',
    b"000000000000005\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
)
SIZES = (b"0", b"f", b"ffffffff", b"\r\n", b"\n", b";", b"=", b'"', b"0\r\n\r\n", b"0x", b"+1", b"-1", b" ", b"\t")


def chunked(drawn: tuple[bytes, list[int]]) -> None:
    """The same however it is cut; and whatever we take for a whole body h11 takes too, with the same payload."""
    wire, places = drawn

    def we(portions: list[bytes]) -> tuple[bytes, bytes] | None:
        decoder = ChunkedBody()
        try:
            found = read(decoder, portions)
        except ProtocolError:
            return None
        return found if decoder.done else None

    ours = we([wire])
    assert we(cut(wire, places)) == ours
    if ours is not None:
        assert h11_reads([wire]) == ours[0]


# -- HTTP/2 ----------------------------------------------------------------------------

STREAM_CLOSED = 5
"""RFC 9113 section 7."""

PSEUDO = (*POST, (b"content-length", b"5"), (b"cookie", b"a=b"), (b"te", b"trailers"))
TO_SERVER = (
    headers(1, PSEUDO) + data(1, b"hello", ended=True),
    headers(1, POST, ended=True) + headers(3, POST) + data(3, b"x") + headers(3, ((b"x-sum", b"1"),), ended=True),
    frame(HEADERS, END, 1, block(POST)[:9]) + frame(CONTINUATION, END_HEADERS, 1, block(POST)[9:]),
    frame(HEADERS, END | END_HEADERS | PADDED | HAS_PRIORITY, 1, b"\x03" + u32(0) + b"\x10" + block(POST) + b"\0\0\0"),
    frame(PRIORITY, 0, 5, u32(3) + b"\xff") + headers(5, POST) + frame(RST, 0, 5, u32(8)),
    frame(SETTINGS, 0, 0, b"\0\x04" + u32(1) + b"\0\x05" + u32(16384) + b"\0\x01" + u32(0)) + frame(PING, 0, 0, b"12345678"),
    headers(1, POST) + frame(WINDOW, 0, 1, u32(1)) + frame(WINDOW, 0, 0, u32(2**31 - 1)) + frame(GOAWAY, 0, 0, u32(7) + u32(0)),
)
TO_CLIENT = (
    headers(1, (*OK, (b"content-length", b"5"))) + data(1, b"hello", ended=True),
    headers(1, ((b":status", b"103"), (b"link", b"</a>"))) + headers(1, OK) + headers(1, ((b"grpc-status", b"0"),), ended=True),
    headers(1, OK, ended=True) + headers(3, OK) + frame(RST, 0, 3, u32(7)) + frame(GOAWAY, 0, 0, u32(1) + u32(0) + b"bye"),
    frame(SETTINGS, 0, 0, b"\0\x03" + u32(1)) + frame(PING, ACK, 0, b"12345678") + frame(WINDOW, 0, 3, u32(5)),
)
FRAMES = tuple(frame(kind, flags, stream, b"") for kind in range(11) for flags in (0, 0xFF) for stream in (0, 1, 2**31 - 1))
LISTS = (
    hpack.Encoder().encode([(b":status", b"200"), (b"content-type", b"text/html"), (b"x-a", b"b" * 40)], huffman=True),
    hpack.Encoder().encode([(b":status", b"404"), (b"set-cookie", b"a=b"), (b"etag", b'"x"')], huffman=False),
    b"\x88\x40\x01a\x01b\xbe\xbe\x3f\xe1\x1f\x88",
    b"\x20\x88\x10\x01a\x01b\x00\x01c\x01d\x5c\x015",
)
FIELDS = tuple(bytes.fromhex(text) for text in ("80", "be", "ffffffff0f", "3fe11f", "3fe2ffff07", "20", "4001610162", "0081ff81ff"))


def seen(peer: Http2Engine, portions: list[bytes]) -> tuple[list[Event], int | None]:
    """What it makes of them: events, bodies in one piece, and the code with which it breaks the connection off.

    What it has to say leaves at the end: a reset that was sent changes what comes after it.
    """
    events: list[Event] = []
    code = None
    try:
        for portion in portions:
            events += peer.receive(portion)
    except Http2Error as error:
        code = error.code
    whole_frames(peer.outgoing())
    return joined(events), code


def joined(events: list[Event]) -> list[Event]:
    """Payloads of one frame come in as many pieces as the frame did."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Body) and isinstance(last, Body) and last.stream_id == event.stream_id:
            out[-1] = last._replace(data=last.data + event.data, flow_length=last.flow_length + event.flow_length)
        else:
            out.append(event)
    return out


def same(whole: tuple[list[Event], int | None], in_pieces: tuple[list[Event], int | None]) -> None:
    """However it is cut the connection breaks or goes on, and when it goes on each stream has the same messages.

    When a reset of our own is told, and whose it was when both ends reset, may depend on the cuts; so may what comes after
    a GOAWAY, when libnghttp2 has no stream left. What follows the end of a stream with a head that nobody takes breaks the
    connection if libnghttp2 still has the stream, and is let pass when it has reset it.
    """
    if any(isinstance(event, GoAway) for event in whole[0] + in_pieces[0]):
        return
    if {whole[1], in_pieces[1]} == {None, STREAM_CLOSED} and any(isinstance(event, Unread) for event in whole[0] + in_pieces[0]):
        return
    assert (whole[1] is None) == (in_pieces[1] is None), (whole, in_pieces)
    if whole[1] is None:
        told = [[event for event in events if isinstance(event, Head | InterimHead | Body | Trailers)] for events, _ in (whole, in_pieces)]
        assert messages(told[0]) == messages(told[1])


def messages(events: list[Head | InterimHead | Body | Trailers]) -> dict[int, list[Event]]:
    """By stream."""
    streams = {event.stream_id for event in events}
    return {stream: joined([event for event in events if event.stream_id == stream]) for stream in streams}


def whole_frames(raw: bytes) -> None:
    raw = raw.removeprefix(PREFACE)
    while raw:
        assert len(raw) >= 9, "part of a frame"
        raw = raw[9 + int.from_bytes(raw[:3], "big") :]


def http2_server(drawn: tuple[bytes, list[int]]) -> None:
    """Nothing but Http2Error, whole frames as answers, and the flood guard reads the same frames however they are cut."""
    wire, places = drawn
    for name in ENGINES:
        same(seen(settled_server(name), [wire]), seen(settled_server(name), cut(wire, places)))
    levels = []
    for portions in ([wire], cut(wire, places)):
        guard = FloodGuard()
        with suppress(Http2Error):
            for portion in portions:
                guard.came(portion, 0.0)
        levels.append(guard._levels)
    assert levels[0] == levels[1]


def http2_client(drawn: tuple[bytes, list[int]]) -> None:
    """The same for the end that opens streams."""
    wire, places = drawn
    for name in ENGINES:
        found = []
        for portions in ([wire], cut(wire, places)):
            client = settled_client(name)
            for ended in (True, False):
                client.request(POST, ended)
            client.outgoing()
            found.append(seen(client, portions))
        same(*found)


def field_list(raw: bytes) -> None:
    """HPACK: two engines that take a block have read the same fields."""
    heads: list[Fields] = []
    for name in ENGINES:
        client = engine(name)(True, LocalSettings())
        client.start()
        client.receive(frame(SETTINGS) + frame(SETTINGS, ACK))
        stream = client.request(POST, True)
        events, error = seen(client, [frame(HEADERS, END | END_HEADERS, stream, raw)])
        if error is None:
            heads += [event.fields for event in events if isinstance(event, Head)]
    assert all(head == heads[0] for head in heads), heads


# -- before HTTP -----------------------------------------------------------------------


def proxy_header(drawn: tuple[bytes, bytes]) -> None:
    """Known as soon as it is there and not before, and what follows changes nothing."""
    data, more = drawn

    def verdict(data: bytes) -> Any:
        try:
            return proxy_protocol.parse(data)
        except proxy_protocol.BadHeader:
            return "bad"

    whole = verdict(data)
    if whole is not None:
        assert verdict(data + more) == whole
    if isinstance(whole, proxy_protocol.Header):
        assert 0 < whole.size <= len(data)
        assert all(verdict(data[:size]) is None for size in range(whole.size))


def client_hello(drawn: tuple[bytes, bytes]) -> None:
    """The name is known as soon as the message is whole, and what follows changes nothing."""
    data, more = drawn
    found = hello_of(data)
    assert found is None or isinstance(found.name, bytes)
    if found is not None:
        assert hello_of(data + more) == found
    assert hello_of(data[:7], data[7:]) == found


# -- between processes -----------------------------------------------------------------

PEER = Peer("192.0.2.7", 51234, "192.0.2.1", 80, "http", 17)
BATCHES = tuple(
    wire.pack(batch)[0]
    for batch in (
        [Data(7, b"payload", False, "", False), Credit(7, 100, 2), Cancel(7, "left")],
        [
            Request(
                7,
                1,
                Affinity(2, 3, 4),
                "s",
                Peer("192.0.2.7", 1, "", 80, "http", 1),
                b"GET",
                b"/",
                11,
                b"a",
                b"host: a\r\n",
                0,
                b"",
                True,
                0.5,
                b"",
            )
        ],
        [("LOG", 0.5, "info", {"a": (1, 2.5, None, True)})],
        [],
    )
)
TYPES = (*(bytes((octet,)) for octet in bytes.fromhex("c0c1c2c4c7cacbcfd3d4d9dcde8090a0")), b"\x91" * 600, b"\x93\x01\x02\x03")
"""MessagePack: the first byte of a nil, a text, an array, a table and so on; many arrays in each other."""
TYPES += tuple(octet + b"\xff" * 4 for octet in (b"\xdd", b"\xdf", b"\xc6", b"\xdb"))  # longer than there are bytes


def bus_frame(head: bytes) -> None:
    """A batch or WireError; and what was taken for messages is packed and read as the same again."""
    refused: list[wire.WireError] = []
    reader = wire.Reader(MESSAGES, refused.append)
    with suppress(wire.WireError):
        wire.unpack(head)
    try:
        messages = reader.unpack(head)
    except wire.WireError:
        return
    again, *attachments = wire.pack(messages)
    assert repr(reader.unpack(again, attachments)) == repr(messages)  # by their text, for NaN is not itself


# -- configuration ---------------------------------------------------------------------

TEXTS = tuple(path.read_bytes() for path in sorted((ROOT / "tests/config/cases").glob("*.toml")))
WORDS = (*b"[ ] [[ ]] \" ''' = { } , # . - $ENV:X true 1e9 nan 1979-05-27 1s 1kb \\u0000 basic servers.a plugins.a".split(), b"\n", b"\r")


def configuration(raw: bytes) -> None:
    """A snapshot, which survives the wire, or problems, each with its place."""
    try:
        snapshot = load_text(raw.decode(errors="replace"), env={})
    except ConfigRefused as refused:
        assert refused.problems
        assert all(problem.message for problem in refused.problems)
    else:
        assert Snapshot.from_wire(snapshot.to_wire()) == snapshot


CONVERSIONS = ROOT / "tests/config/conversions"
BLOCKS = (
    *b'{ } [ ] = : ; , " \\ # // /* */ /- - #true true null 1e9 0x1f <<EOT <<-EOT EOT ${ $${ %{ ( ) (list) (table)'.split(),
    *(b'server "a"', b"basic", b"x", b"\n", b"\r", b" ", b'"""', b'#"', b'"#', b"\n}\n", b"item {", b"\\u{41}"),
)


def blocks(language: str) -> Target:
    """Text of HCL or KDL."""

    def check(raw: bytes) -> None:
        """Tables, which can be written in every language and are the same then; or a problem with its line and column, or its key."""
        text = raw.decode(errors="replace")
        tables = tables_of(Document(f"x.{language}", text))
        if isinstance(tables, Problem):
            is_named = tables.message.endswith("is a number of more than 64 bits")
            assert is_named or re.fullmatch(rf"x\.{language}:[1-9]\d*:[1-9]\d*", tables.path), tables
            return
        for other in WRITERS:
            try:
                converted(MemoryStorage(text, f"x.{language}"), other)
            except ConfigRefused as refused:
                [problem] = refused.problems
                assert "no form" in problem.message or "would be a block" in problem.message, problem

    whole = (CONVERSIONS / f"full.{language}").read_bytes()
    return Target(mutants([whole, *re.split(rb"(?<=\n)\n(?=\w)", whole)], BLOCKS), check, f"configuration text in {language.upper()}")


# --------------------------------------------------------------------------------------

TARGETS = {
    "request-head": Target(mutants(REQUESTS, SHARDS).map(one_head), must_agree_on_request, "HTTP/1.1 request heads, all engines alike"),
    "response-head": Target(mutants(RESPONSES, SHARDS).map(one_head), must_agree_on_response, "HTTP/1.1 response heads, all engines alike"),
    "chunked": Target(st.tuples(mutants(CHUNKED, SIZES), cuts), chunked, "chunked bodies, as h11 reads them"),
    "http2-server": Target(st.tuples(mutants(TO_SERVER, FRAMES), cuts), http2_server, "frames to a server, in every engine"),
    "http2-client": Target(st.tuples(mutants(TO_CLIENT, FRAMES), cuts), http2_client, "frames to a client, in every engine"),
    "hpack": Target(mutants(LISTS, FIELDS), field_list, "compressed field lists, all engines alike"),
    "proxy-protocol": Target(
        st.tuples(mutants([header for header, _ in GOOD.values()] + list(BAD.values())), st.binary(max_size=20)), proxy_header,
        "the PROXY protocol's header, both versions",
    ),
    "client-hello": Target(
        st.tuples(mutants([hello(), hello(None), hello("a" * 60 + ".example")]), st.binary(max_size=20)), client_hello,
        "the name in a TLS client's first message",
    ),
    "bus": Target(mutants(BATCHES, TYPES), bus_frame, "messages between processes"),
    "configuration": Target(mutants(TEXTS, WORDS), configuration, "configuration text"),
    "hcl": blocks("hcl"),
    "kdl": blocks("kdl"),
}  # fmt: skip
