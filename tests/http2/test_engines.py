"""What both engines do alike: streams, windows, settings, resets (RFC 9113 sections 5 and 6)."""

from __future__ import annotations

import gc

import pytest

from pingap.stages.http2 import engine as e
from pingap.stages.http2.engine import (
    PREFACE,
    Body,
    GoAway,
    Head,
    Http2Error,
    InterimHead,
    LocalSettings,
    Pong,
    Reset,
    Room,
    Trailers,
    Unread,
)
from pingap.stages.http2.engines import engine
from tests.http2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    ENGINES,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    OK,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    block,
    data,
    frame,
    frames,
    headers,
    pair,
    pump,
    settled_client,
    settled_server,
    u32,
)

WITH_LENGTH = (*POST, (b"content-length", b"5"))


@pytest.mark.parametrize("client_name", ENGINES)
@pytest.mark.parametrize("server_name", ENGINES)
def test_an_exchange_with_everything_in_it(server_name: str, client_name: str) -> None:
    server, client = pair(server_name, client_name)
    stream = client.request(POST, False)
    client.send_data(stream, b"abc", False)
    client.send_data(stream, b"def", False)
    client.send_trailers(stream, ((b"x-sum", b"1"),))
    seen, _ = pump(server, client)
    assert seen[0] == Head(e.HEAD, stream, POST, False)
    assert b"".join(event.data for event in seen if isinstance(event, Body)) == b"abcdef"
    assert seen[-1] == Trailers(e.TRAILERS, stream, ((b"x-sum", b"1"),))
    server.send_head(stream, ((b":status", b"103"), (b"link", b"</a>")), False)
    server.send_head(stream, (*OK, (b"x", b"y")), False)
    server.send_data(stream, b"body", False)
    server.send_trailers(stream, ((b"grpc-status", b"0"),))
    _, seen = pump(server, client)
    assert seen == [
        InterimHead(e.INTERIM, stream, ((b":status", b"103"), (b"link", b"</a>"))),
        Head(e.HEAD, stream, (*OK, (b"x", b"y")), False),
        Body(e.BODY, stream, b"body", 4, False),
        Trailers(e.TRAILERS, stream, ((b"grpc-status", b"0"),)),
    ]


@pytest.mark.parametrize("name", ENGINES)
def test_many_exchanges_with_fields_that_come_and_go(name: str) -> None:
    server, client = pair(name, "h2")
    for number in range(300):
        fields = (*GET, (b"x-id", b"%d" % number), (b"x-odd", b"%d" % (number % 2)), (b"cookie", b"a=%d" % (number % 3)))
        stream = client.request(fields, True)
        assert pump(server, client)[0] == [Head(e.HEAD, stream, fields, True)]
        answer = (*OK, (b"x-answer", b"%d" % number), (b"set-cookie", b"a=b"), (b"date", b"now"), (b"x-odd", b"%d" % (number % 2)))
        server.send_head(stream, answer, number % 2 == 0)
        if number % 2:
            server.send_data(stream, b"x" * number, True)
        seen = pump(server, client)[1]
        assert seen[0] == Head(e.HEAD, stream, answer, number % 2 == 0)
        if number % 2:
            client.acknowledge(stream, number)


@pytest.mark.parametrize("name", ENGINES)
def test_a_table_of_the_peer_that_shrinks_and_grows_is_obeyed(name: str) -> None:
    server = settled_server(name)
    client = settled_client("h2")
    stream = 1
    for size in (4096, 0, 100, 65536, 4096):
        server.receive(frame(SETTINGS, 0, 0, b"\0\x01" + u32(size)))
        assert server.outgoing() == frame(SETTINGS, ACK)
        for number in range(3):
            server.receive(headers(stream, GET, True))
            client.request(GET, True)
            fields = (*OK, (b"x-some", b"value"), (b"x-other", b"%d" % number))
            server.send_head(stream, fields, True)
            assert client.receive(server.outgoing()) == [Head(e.HEAD, stream, fields, True)]
            stream += 2


@pytest.mark.parametrize("name", ENGINES)
def test_the_same_bytes_one_at_a_time_mean_the_same(name: str) -> None:
    script = (
        headers(1, WITH_LENGTH)
        + frame(PRIORITY, 0, 1, u32(0) + b"\x10")
        + data(1, b"hello", True)
        + frame(HEADERS, END, 3, block(GET)[:7])
        + frame(CONTINUATION, 0, 3, block(GET)[7:9])
        + frame(CONTINUATION, END_HEADERS, 3, block(GET)[9:])
        + frame(HEADERS, END | END_HEADERS | PADDED | HAS_PRIORITY, 5, b"\x03" + u32(3) + b"\x05" + block(GET) + b"\0\0\0")
        + frame(0x77, 0, 9, b"unknown")
        + frame(PING, 0, 0, b"12345678")
    )
    whole = settled_server(name)
    bytewise = settled_server(name)
    expected = whole.receive(script)
    assert [event for at in range(len(script)) for event in bytewise.receive(script[at : at + 1])] == expected
    assert [type(event) for event in expected] == [Head, Body, Head, Head]
    assert whole.outgoing() == bytewise.outgoing() == frame(PING, ACK, 0, b"12345678")


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_is_sent_beyond_the_windows(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, GET, True) + headers(3, GET, True))
    server.send_head(1, OK, False)
    server.send_head(3, OK, False)
    assert server.room(1) == 65535
    server.send_data(1, b"x" * 40000, False)
    assert server.room(1) == server.room(3) == 25535
    sent = [(kind, len(body)) for kind, _, _, body in frames(server.outgoing()) if kind == DATA]
    assert sent == [(DATA, 16384), (DATA, 16384), (DATA, 7232)]
    assert server.receive(frame(WINDOW, 0, 0, u32(100000))) == [Room(e.ROOM, 0)]
    assert (server.room(1), server.room(3)) == (25535, 65535)
    assert server.receive(frame(WINDOW, 0, 1, u32(10))) == [Room(e.ROOM, 1)]
    assert server.room(1) == 25545
    # A smaller initial window may make a stream's negative (RFC 9113 section 6.9.2).
    assert Room(e.ROOM, 0) in server.receive(frame(SETTINGS, 0, 0, b"\0\x04" + u32(1000)))
    assert (server.room(1), server.room(3)) == (0, 1000)
    assert server.room(99) == 0


@pytest.mark.parametrize("name", ENGINES)
def test_larger_frames_only_when_the_peer_takes_them(name: str) -> None:
    server = settled_server(name)
    server.receive(frame(SETTINGS, 0, 0, b"\0\x05" + u32(32768)) + headers(1, GET, True))
    server.send_head(1, OK, False)
    server.send_data(1, b"x" * 40000, True)
    sizes = [len(body) for kind, _, _, body in frames(server.outgoing()) if kind == DATA]
    assert sum(sizes) == 40000
    assert max(sizes) <= 32768


@pytest.mark.parametrize("name", ENGINES)
def test_a_window_opens_only_when_bytes_are_acknowledged(name: str) -> None:
    server = settled_server(name, LocalSettings(window=65535, connection_window=200000))
    server.receive(headers(1, POST) + headers(3, POST))
    for _ in range(4):
        server.receive(data(1, b"x" * 16383))
    assert server.outgoing() == b""
    server.receive(data(3, b"other streams go on"))
    server.acknowledge(1, 65532)
    updates = {stream: int.from_bytes(body, "big") for kind, _, stream, body in frames(server.outgoing()) if kind == WINDOW}
    assert updates[1] == 65532
    server.acknowledge(1, 65532)  # more than was there
    assert server.outgoing() == b""


@pytest.mark.parametrize("name", ENGINES)
def test_more_than_the_window_breaks_the_rule(name: str) -> None:
    server = settled_server(name, LocalSettings(window=65535))
    server.receive(headers(1, POST))
    try:
        seen = server.receive(b"".join(data(1, b"x" * 16384) for _ in range(5)))
        assert seen[-1] == Reset(e.RESET, 1, e.FLOW_CONTROL_ERROR, True)
    except Http2Error as error:
        assert error.code == e.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("name", ENGINES)
def test_bytes_of_a_reset_stream_go_back_to_the_connection(name: str) -> None:
    server = settled_server(name, LocalSettings(window=65535, connection_window=65535))
    for stream in range(1, 41, 2):
        server.receive(headers(stream, POST) + data(stream, b"x" * 10000))
        if stream % 4 == 1:
            server.reset(stream, e.CANCEL)
            server.acknowledge(stream, 10000)  # too late, and without effect
        else:
            assert server.receive(frame(RST, 0, stream, u32(e.CANCEL))) == [Reset(e.RESET, stream, e.CANCEL, False)]
    returned = sum(int.from_bytes(body, "big") for kind, _, stream, body in frames(server.outgoing()) if kind == WINDOW and not stream)
    assert 200000 - 65535 <= returned <= 200000


@pytest.mark.parametrize("name", ENGINES)
def test_data_in_flight_to_a_stream_that_was_reset_by_us_is_ignored_and_its_window_returned(name: str) -> None:
    server = settled_server(name, LocalSettings(window=65535, connection_window=65535))
    server.receive(headers(1, POST))
    server.reset(1, e.CANCEL)
    server.outgoing()
    for _ in range(10):
        assert server.receive(data(1, b"x" * 16000)) == []
    returned = sum(int.from_bytes(body, "big") for kind, _, stream, body in frames(server.outgoing()) if kind == WINDOW and not stream)
    assert returned >= 160000 - 65535
    assert server.receive(headers(3, GET, True)) == [Head(e.HEAD, 3, GET, True)]


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_sent_on_a_stream_that_is_gone_is_dropped(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, GET, True))
    assert server.receive(frame(RST, 0, 1, u32(e.CANCEL))) == [Reset(e.RESET, 1, e.CANCEL, False)]
    server.send_head(1, OK, False)
    server.send_data(1, b"x", True)
    server.send_trailers(1, ())
    server.reset(1, e.CANCEL)
    server.acknowledge(1, 5)
    assert server.outgoing() == b""


@pytest.mark.parametrize("name", ENGINES)
def test_padding_counts_for_the_window(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, POST))
    (event,) = server.receive(frame(DATA, PADDED | END, 1, b"\x04abcd\0\0\0\0"))
    assert isinstance(event, Body)
    assert (event.data, event.ended) == (b"abcd", True)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "script",
    [
        headers(1, WITH_LENGTH) + data(1, b"abc", True),
        headers(1, WITH_LENGTH) + data(1, b"abc") + data(1, b"def"),
        headers(1, WITH_LENGTH) + data(1, b"abc") + headers(1, ((b"x", b"y"),), True),
    ],
    ids=["too short", "too long", "too short before trailers"],
)
def test_a_body_unlike_its_content_length_resets_the_stream_alone(name: str, script: bytes) -> None:
    server = settled_server(name)
    assert server.receive(script)[-1] == Reset(e.RESET, 1, e.PROTOCOL_ERROR, True)
    assert (RST, 0, 1, u32(e.PROTOCOL_ERROR)) in frames(server.outgoing())
    assert server.forced_resets == 1
    assert server.receive(headers(3, GET, True)) == [Head(e.HEAD, 3, GET, True)]


@pytest.mark.parametrize("name", ENGINES)
def test_content_length_on_a_head_that_ends_the_stream_is_no_head(name: str) -> None:
    server = settled_server(name)
    assert server.receive(headers(1, WITH_LENGTH, True)) == [Unread(e.UNREAD, 1)]
    assert server.forced_resets == 1
    assert (RST, 0, 1, u32(e.PROTOCOL_ERROR)) in frames(server.outgoing())


@pytest.mark.parametrize("name", ENGINES)
def test_a_response_to_head_or_304_may_say_a_length_and_have_no_body(name: str) -> None:
    client = settled_client(name)
    first = client.request(((b":method", b"HEAD"), *GET[1:]), True)
    second = client.request(GET, True)
    client.outgoing()
    long = (*OK, (b"content-length", b"10"))
    unchanged = ((b":status", b"304"), (b"content-length", b"10"))
    assert client.receive(headers(first, long, True)) == [Head(e.HEAD, first, long, True)]
    assert client.receive(headers(second, unchanged, True)) == [Head(e.HEAD, second, unchanged, True)]


@pytest.mark.parametrize("name", ENGINES)
def test_a_response_shorter_than_its_length_is_a_reset(name: str) -> None:
    client = settled_client(name)
    stream = client.request(GET, True)
    client.outgoing()
    seen = client.receive(headers(stream, (*OK, (b"content-length", b"10"))) + data(stream, b"abc", True))
    assert seen[-1] == Reset(e.RESET, stream, e.PROTOCOL_ERROR, True)


@pytest.mark.parametrize("name", ENGINES)
def test_streams_above_the_cap_are_refused_while_the_client_cannot_know_it(name: str) -> None:
    server = engine(name)(False, LocalSettings(max_streams=1))
    server.start()
    server.outgoing()
    seen = server.receive(PREFACE + frame(SETTINGS) + headers(1, GET, True) + headers(3, GET, True))
    assert [event.stream_id for event in seen if isinstance(event, Head)] == [1]
    assert (RST, 0, 3, u32(e.REFUSED_STREAM)) in frames(server.outgoing())


BROKEN: dict[str, tuple[bytes, set[int]]] = {
    "PING of 7 bytes": (frame(PING, 0, 0, b"1234567"), {e.FRAME_SIZE_ERROR}),
    "PING on a stream": (frame(PING, 0, 1, b"12345678"), {e.PROTOCOL_ERROR}),
    "DATA on stream 0": (data(0, b"x"), {e.PROTOCOL_ERROR}),
    "DATA on an idle stream": (data(1, b"x"), {e.PROTOCOL_ERROR}),
    "HEADERS on stream 0": (headers(0, GET, True), {e.PROTOCOL_ERROR}),
    "HEADERS on an even stream": (headers(2, GET, True), {e.PROTOCOL_ERROR}),
    "RST_STREAM on an idle stream": (frame(RST, 0, 1, u32(8)), {e.PROTOCOL_ERROR}),
    "RST_STREAM on stream 0": (frame(RST, 0, 0, u32(8)), {e.PROTOCOL_ERROR}),
    "RST_STREAM of 3 bytes": (headers(1, POST) + frame(RST, 0, 1, b"abc"), {e.FRAME_SIZE_ERROR}),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW, 0, 1, u32(8)), {e.PROTOCOL_ERROR}),
    "WINDOW_UPDATE of 0": (frame(WINDOW, 0, 0, u32(0)), {e.PROTOCOL_ERROR}),
    "WINDOW_UPDATE of 3 bytes": (frame(WINDOW, 0, 0, b"abc"), {e.FRAME_SIZE_ERROR}),
    "WINDOW_UPDATE beyond 2^31-1": (frame(WINDOW, 0, 0, u32(2**31 - 1)), {e.FLOW_CONTROL_ERROR}),
    "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, b"abcde"), {e.FRAME_SIZE_ERROR}),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), {e.PROTOCOL_ERROR}),
    "SETTINGS ACK with a payload": (frame(SETTINGS, ACK, 0, b"\0\x03" + u32(1)), {e.FRAME_SIZE_ERROR}),
    "SETTINGS_ENABLE_PUSH of 2": (frame(SETTINGS, 0, 0, b"\0\x02" + u32(2)), {e.PROTOCOL_ERROR}),
    "SETTINGS_INITIAL_WINDOW_SIZE of 2^31": (frame(SETTINGS, 0, 0, b"\0\x04" + u32(2**31)), {e.FLOW_CONTROL_ERROR}),
    "SETTINGS_MAX_FRAME_SIZE of 100": (frame(SETTINGS, 0, 0, b"\0\x05" + u32(100)), {e.PROTOCOL_ERROR}),
    "a frame of 16385 bytes": (headers(1, POST) + data(1, b"x" * 16385), {e.FRAME_SIZE_ERROR}),
    "PUSH_PROMISE from a client": (frame(PUSH, END_HEADERS, 1, u32(2) + block(GET)), {e.PROTOCOL_ERROR}),
    "CONTINUATION alone": (frame(CONTINUATION, END_HEADERS, 1, block(GET)), {e.PROTOCOL_ERROR}),
    "another frame inside a block": (frame(HEADERS, END, 1, block(GET)) + frame(PING, 0, 0, b"12345678"), {e.PROTOCOL_ERROR}),
    "another stream inside a block": (
        frame(HEADERS, END, 1, block(GET)) + frame(CONTINUATION, END_HEADERS, 3, b""),
        {e.PROTOCOL_ERROR},
    ),
    "a header block that cannot be decoded": (frame(HEADERS, END | END_HEADERS, 1, b"\xff\xff\xff\xff"), {e.COMPRESSION_ERROR}),
    "padding longer than DATA": (headers(1, POST) + frame(DATA, PADDED, 1, b"\x05abcd"), {e.PROTOCOL_ERROR}),
    "padding longer than HEADERS": (frame(HEADERS, PADDED | END_HEADERS | END, 1, b"\xff" + block(GET)), {e.PROTOCOL_ERROR}),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, u32(3) + b"\x01"), {e.PROTOCOL_ERROR}),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, u32(0) + u32(0)), {e.PROTOCOL_ERROR}),
}


@pytest.mark.parametrize("script", BROKEN)
@pytest.mark.parametrize("name", ENGINES)
def test_a_broken_connection_is_told_why(name: str, script: str) -> None:
    raw, codes = BROKEN[script]
    if name == "ngh2" and script == "PRIORITY on stream 0":
        pytest.skip("libnghttp2 ignores PRIORITY, which RFC 9113 deprecates, whatever is in it")
    server = settled_server(name)
    with pytest.raises(Http2Error) as caught:
        server.receive(raw)
    assert caught.value.code in codes
    kind, _, _, body = frames(server.outgoing())[-1]
    assert kind == GOAWAY
    assert int.from_bytes(body[4:8], "big") in codes


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("script", [data(1, b"x"), headers(1, GET, True)], ids=["DATA", "HEADERS"])
def test_a_frame_after_the_end_of_a_stream_is_its_error(name: str, script: bytes) -> None:
    for is_answered in (False, True):
        server = settled_server(name)
        server.receive(headers(1, GET, True))
        if is_answered:
            server.send_head(1, OK, True)
            server.outgoing()
        try:
            # libnghttp2 forgets a stream with its end, and ignores what comes for it.
            assert server.receive(script) in ([], [Reset(e.RESET, 1, e.STREAM_CLOSED, True)])
        except Http2Error as error:
            assert error.code == e.STREAM_CLOSED


@pytest.mark.parametrize("name", ENGINES)
def test_trailers_that_do_not_end_the_stream_reset_it(name: str) -> None:
    server = settled_server(name)
    assert server.receive(headers(1, POST) + headers(1, ((b"x", b"y"),)))[-1] == Reset(e.RESET, 1, e.PROTOCOL_ERROR, True)


@pytest.mark.parametrize("name", ENGINES)
def test_without_the_preface_there_is_no_connection(name: str) -> None:
    server = engine(name)(False, LocalSettings())
    server.start()
    with pytest.raises(Http2Error):
        server.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")


@pytest.mark.parametrize("name", ENGINES)
def test_the_first_frame_is_settings(name: str) -> None:
    server = engine(name)(False, LocalSettings())
    server.start()
    with pytest.raises(Http2Error):
        server.receive(PREFACE + headers(1, GET, True))


@pytest.mark.parametrize("name", ENGINES)
def test_goaway_announces_and_then_names_the_last_stream(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, GET, True))
    server.goaway(e.NO_ERROR, e.LAST_STREAM)
    assert frames(server.outgoing()) == [(GOAWAY, 0, 0, u32(2**31 - 1) + u32(0))]
    server.receive(headers(3, GET, True))
    server.goaway(e.NO_ERROR)
    assert frames(server.outgoing()) == [(GOAWAY, 0, 0, u32(3) + u32(0))]
    server.send_head(1, OK, True)
    server.send_head(3, OK, True)
    assert [kind for kind, _, _, _ in frames(server.outgoing())] == [HEADERS, HEADERS]


@pytest.mark.parametrize("code", [e.NO_ERROR, e.ENHANCE_YOUR_CALM, e.HTTP_1_1_REQUIRED])
@pytest.mark.parametrize("name", ENGINES)
def test_answers_still_come_after_a_goaway(name: str, code: int) -> None:
    client = settled_client(name)
    first, second = client.request(GET, True), client.request(GET, True)
    client.outgoing()
    assert client.receive(frame(GOAWAY, 0, 0, u32(first) + u32(code))) == [GoAway(e.GOAWAY, first, code)]
    assert client.forced_resets == 0  # the streams above were not reset for an error of the peer's
    assert client.receive(headers(first, OK, True)) == [Head(e.HEAD, first, OK, True)]
    assert second != first


@pytest.mark.parametrize("name", ENGINES)
def test_what_was_said_before_a_reset_leaves_before_it(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, GET, True))
    server.send_head(1, OK, False)
    server.send_data(1, b"some", False)
    server.reset(1, e.INTERNAL_ERROR)
    assert [kind for kind, _, _, _ in frames(server.outgoing())] == [HEADERS, DATA, RST]


@pytest.mark.parametrize("name", ENGINES)
def test_what_was_not_written_when_a_goaway_came_is_written_or_refused(name: str) -> None:
    """The first GOAWAY of a backend that ends gracefully names no stream (RFC 9113 section 6.8)."""
    client = settled_client(name)
    stream = client.request(GET, True)
    events = client.receive(frame(GOAWAY, 0, 0, u32(e.LAST_STREAM) + u32(e.NO_ERROR)))
    is_written = HEADERS in [kind for kind, _, _, _ in frames(client.outgoing())]
    assert is_written or events[1:] == [Reset(e.RESET, stream, e.REFUSED_STREAM, False)]
    assert client.forced_resets == 0


@pytest.mark.parametrize("name", ENGINES)
def test_settings_of_the_peer_are_known(name: str) -> None:
    client = settled_client(name)
    client.receive(frame(SETTINGS, 0, 0, b"\0\x03" + u32(7) + b"\0\x08" + u32(1)))
    assert client.remote_max_streams == 7
    assert client.connect_enabled
    assert not settled_client(name).connect_enabled


@pytest.mark.parametrize("name", ENGINES)
def test_extended_connect_is_announced_by_a_server_that_takes_it(name: str) -> None:
    server, client = pair(name, "h2", LocalSettings(enable_connect=True))
    assert client.connect_enabled
    assert not server.connect_enabled
    assert not pair(name, "h2")[1].connect_enabled


@pytest.mark.parametrize("name", ENGINES)
def test_a_connection_that_was_http_1_begins_with_stream_1(name: str) -> None:
    server = engine(name)(False, LocalSettings())
    server.upgrade(b"\0\x04" + u32(100), False)
    server.receive(PREFACE + frame(SETTINGS, 0, 0, b"\0\x04" + u32(50)))
    server.outgoing()
    server.send_head(1, OK, False)
    assert server.room(1) == 50
    server.send_data(1, b"x" * 50, False)
    assert [kind for kind, _, _, _ in frames(server.outgoing())] == [HEADERS, DATA]
    assert server.receive(headers(3, GET, True)) == [Head(e.HEAD, 3, GET, True)]


@pytest.mark.parametrize("name", ENGINES)
def test_bad_settings_in_an_upgrade_are_an_error(name: str) -> None:
    with pytest.raises(Http2Error):
        engine(name)(False, LocalSettings()).upgrade(b"abc", False)


@pytest.mark.parametrize("name", ENGINES)
def test_a_ping_comes_back(name: str) -> None:
    client = settled_client(name)
    client.ping(b"abcdefgh")
    assert client.outgoing() == frame(PING, 0, 0, b"abcdefgh")
    assert client.receive(frame(PING, ACK, 0, b"abcdefgh")) == [Pong(e.PONG, b"abcdefgh")]


@pytest.mark.parametrize("name", ENGINES)
def test_a_field_list_that_unpacks_to_far_too_much_ends_the_connection_or_the_stream(name: str) -> None:
    server = settled_server(name, LocalSettings(header_list=8192))
    bomb = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 200
    with pytest.raises(Http2Error) as caught:
        server.receive(frame(HEADERS, END | END_HEADERS, 1, block(GET) + bomb))
    assert caught.value.code in (e.ENHANCE_YOUR_CALM, e.COMPRESSION_ERROR, e.PROTOCOL_ERROR)


@pytest.mark.parametrize("name", ENGINES)
def test_the_reserved_bit_of_an_increment_is_ignored(name: str) -> None:
    server = settled_server(name)
    server.receive(headers(1, GET, True))
    server.send_head(1, OK, False)
    assert server.receive(frame(WINDOW, 0, 1, u32(1 << 31 | 10))) == [Room(e.ROOM, 1)]


def test_a_stream_id_that_goes_back_is_a_protocol_error() -> None:
    server = settled_server("h2")
    server.receive(headers(5, GET, True))
    with pytest.raises(Http2Error) as caught:
        server.receive(headers(3, GET, True))
    assert caught.value.code == e.PROTOCOL_ERROR


@pytest.mark.parametrize("name", ENGINES)
def test_a_connection_that_is_over_is_freed_at_once(name: str) -> None:
    """The garbage collector, which would find what names itself, looks at old things seldom."""
    gc.collect()
    gc.disable()
    try:
        server = settled_server(name)
        server.receive(frame(SETTINGS) + headers(1, GET, True) + headers(3, POST) + data(3, b"abc"))
        server.send_head(1, OK, True)
        server.outgoing()
        del server
        gc.set_debug(gc.DEBUG_SAVEALL)  # threads of other tests may leave something meanwhile: whose it is counts
        gc.collect()
        left = {type(one).__module__ for one in gc.garbage}
        assert not {name for name in left if name.partition(".")[0] in ("h2", "hpack", "hyperframe", "ngh2", "pingap")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", ENGINES)
def test_what_still_comes_of_a_stream_that_was_reset_long_ago_is_passed_over(name: str) -> None:
    client = settled_client(name)
    old = client.request(GET, True)
    client.outgoing()
    client.reset(old, e.CANCEL)
    for _ in range(1100):
        stream = client.request(GET, True)
        client.outgoing()
        assert client.receive(headers(stream, OK, True)) == [Head(e.HEAD, stream, OK, True)]
    assert client.receive(headers(old, OK, False) + data(old, b"late", False)) == []


@pytest.mark.parametrize("name", ENGINES)
def test_room_for_the_rest_of_a_request_is_there_before_its_answer_ends(name: str) -> None:
    """Again and again on one connection, beside bytes that nobody has acknowledged."""
    server, client = pair(name, "h2", LocalSettings(window=1000, connection_window=65535))
    beside = client.request(POST, False)
    client.send_data(beside, bytes(900), False)
    for rest in (500_000, 200_000, 1 << 30, 1 << 30):
        stream = client.request(POST, False)
        client.send_data(stream, bytes(1000), False)
        pump(server, client)
        assert client.room(stream) == 0
        server.let_in(stream, rest)
        server.send_head(stream, OK, True)
        told = frames(out := server.outgoing())
        assert told[-1][0] == HEADERS
        client.receive(out)
        assert client.room(stream) >= rest
        for _ in range(19):
            client.send_data(stream, bytes(10_000), False)
            pump(server, client)
        server.reset(stream, e.NO_ERROR)
        pump(server, client)
    assert client.connection_room <= 2**31 - 1


@pytest.mark.parametrize("name", ENGINES)
def test_room_on_a_stream_that_is_gone_is_no_matter(name: str) -> None:
    server, client = pair(name, "h2")
    stream = client.request(POST, False)
    pump(server, client)
    client.reset(stream, e.CANCEL)
    pump(server, client)
    server.let_in(stream, 1000)
    assert server.outgoing() == b""
