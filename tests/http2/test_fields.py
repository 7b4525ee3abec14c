"""Field lists to the normal form and back: the rules of RFC 9113 section 8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.http1.engine import ENGINES as HTTP1
from pingap.stages.http1.rules import HeadLimits, ProtocolError
from pingap.stages.http2.engine import Fields
from pingap.stages.http2.fields import (
    Malformed,
    request_fields,
    request_head,
    response_fields,
    response_head,
    trailer_block,
    trailer_fields,
)
from pingap.stages.messages import EMPTY, UNKNOWN
from tests.http2.wire import GET, POST

LIMITS = HeadLimits()


def with_pseudo(**changes: bytes | None) -> Fields:
    """GET with pseudo fields replaced, or removed by None."""
    fields = dict(GET) | {b":" + name.encode(): value for name, value in changes.items()}
    return tuple((name, value) for name, value in fields.items() if value is not None)


def test_a_request_becomes_what_http_1_would_have_given() -> None:
    fields = (*with_pseudo(path=b"/a?b=c"), (b"accept", b"*/*"), (b"x-one", b"a"), (b"x-one", b"b"), (b"te", b"trailers"))
    head = request_head(fields, True, LIMITS)
    same = HTTP1["httptools"].parse_request(
        b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\nX-One: a\r\nx-one: b\r\n\r\n", LIMITS
    )
    assert head._replace(version=11, headers=head.headers.replace(b"te: trailers\r\n", b"")) == same
    assert head.version == 20
    assert head.headers.endswith(b"te: trailers\r\n")
    assert request_head(fields, True, LIMITS) == head


def test_the_length_is_what_was_said_or_what_the_end_says() -> None:
    assert request_head(POST, True, LIMITS).length == 0
    assert request_head(POST, False, LIMITS).length == UNKNOWN
    assert request_head((*POST, (b"content-length", b"5")), False, LIMITS).length == 5
    assert request_head((*POST, (b"content-length", b"0")), True, LIMITS).length == 0
    assert b"content-length" not in request_head((*POST, (b"content-length", b"5")), False, LIMITS).headers


def test_the_host_comes_from_either_place() -> None:
    assert request_head((*with_pseudo(authority=None), (b"host", b"A.example")), True, LIMITS).host == b"a.example"
    both = request_head((*GET, (b"host", b"Example.com")), True, LIMITS)
    assert both.host == b"example.com"
    assert both.headers.count(b"host: ") == 1


def test_cookie_crumbs_count_as_one_line() -> None:
    """Browsers send each cookie as a field of its own: over HTTP/1.1 the same are one line."""
    crumbs = tuple((b"cookie", b"c%d=1" % number) for number in range(200))
    others = tuple((b"x-%d" % number, b"y") for number in range(LIMITS.headers - 2))
    request_head((*GET, *crumbs, *others), True, LIMITS)
    with pytest.raises(ProtocolError) as caught:
        request_head((*GET, *crumbs, *others, (b"x", b"y"), (b"z", b"y")), True, LIMITS)
    assert caught.value.kind == "headers_too_large"


def test_cookie_crumbs_are_one_cookie() -> None:
    head = request_head((*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")), True, LIMITS)
    assert head.headers == b"host: example.com\r\nx: y\r\ncookie: a=1; b=2\r\n"


def test_what_servers_take_for_framing_is_dropped() -> None:
    head = request_head((*GET, (b"content_length", b"5"), (b"transfer_encoding", b"chunked")), True, LIMITS)
    assert head.headers == b"host: example.com\r\n"


def test_trailers_are_announced_as_over_http1() -> None:
    """Servers in Go show a handler only those."""
    assert request_head((*POST, (b"trailer", b"x-sum")), False, LIMITS).headers == b"host: example.com\r\ntrailer: x-sum\r\n"
    assert response_head(((b":status", b"200"), (b"trailer", b"x-sum")), LIMITS).headers == b"trailer: x-sum\r\n"


def test_an_expectation_is_known() -> None:
    assert request_head((*POST, (b"expect", b"100-Continue")), False, LIMITS).expects_continue
    assert not request_head((*POST, (b"expect", b"100-continue")), True, LIMITS).expects_continue


def test_extended_connect_becomes_an_upgrade() -> None:
    fields = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:], (b"sec-websocket-version", b"13"))
    head = request_head(fields, False, LIMITS)
    assert (head.method, head.upgrade, head.length) == (b"GET", b"websocket", 0)


MALFORMED: dict[str, Fields] = {
    "no :method": with_pseudo(method=None),
    "no :scheme": with_pseudo(scheme=None),
    "no :path": with_pseudo(path=None),
    "empty :path": with_pseudo(path=b""),
    "CR LF in :path": with_pseudo(path=b"/ HTTP/1.1\r\nx: y"),
    "space in :method": with_pseudo(method=b"GET / HTTP/1.1\r\n"),
    "CR LF in :authority": with_pseudo(authority=b"a\r\nb"),
    "two :method": ((b":method", b"GET"), *GET),
    "unknown pseudo field": ((b":foo", b"x"), *GET),
    ":status in a request": (*GET, (b":status", b"200")),
    "pseudo field after others": (*GET[:3], (b"a", b"b"), GET[3]),
    "CONNECT with :scheme and :path": ((b":method", b"CONNECT"), *GET[1:]),
    "CONNECT without :authority": ((b":method", b"CONNECT"),),
    ":protocol without CONNECT": (*GET, (b":protocol", b"websocket")),
    "upper case name": (*GET, (b"Accept", b"x")),
    "empty name": (*GET, (b"", b"x")),
    "space in name": (*GET, (b"a b", b"x")),
    "colon in name": (*GET, (b"a:b", b"x")),
    "CR LF in name": (*GET, (b"a\r\nb", b"x")),
    "odd byte in name": (*GET, (b"a\xff", b"x")),
    "CR in value": (*GET, (b"a", b"x\ry")),
    "LF in value": (*GET, (b"a", b"x\ny")),
    "CR LF in value": (*GET, (b"a", b"x\r\ntransfer-encoding: chunked")),
    "NUL in value": (*GET, (b"a", b"x\0y")),
    "DEL in value": (*GET, (b"a", b"x\x7fy")),
    "leading space": (*GET, (b"a", b" x")),
    "trailing tab": (*GET, (b"a", b"x\t")),
    "connection": (*GET, (b"connection", b"close")),
    "keep-alive": (*GET, (b"keep-alive", b"5")),
    "proxy-connection": (*GET, (b"proxy-connection", b"close")),
    "transfer-encoding": (*POST, (b"transfer-encoding", b"chunked")),
    "upgrade": (*GET, (b"upgrade", b"h2c")),
    "te": (*GET, (b"te", b"gzip, trailers")),
    "content-length of a word": (*POST, (b"content-length", b"five")),
    "content-length with sign": (*POST, (b"content-length", b"+5")),
    "content-length list": (*POST, (b"content-length", b"5, 5")),
    "two content-lengths": (*POST, (b"content-length", b"5"), (b"content-length", b"5")),
    "empty content-length": (*POST, (b"content-length", b"")),
    "huge content-length": (*POST, (b"content-length", b"9" * 19)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_every_time(case: str) -> None:
    for _ in range(3):
        with pytest.raises(Malformed):
            request_head(MALFORMED[case], False, LIMITS)


BAD: dict[str, Fields] = {
    ":path without slash": with_pseudo(path=b"a"),
    "absolute :path": with_pseudo(path=b"http://example.com/"),
    "* without OPTIONS": with_pseudo(path=b"*"),
    "space in :path": with_pseudo(path=b"/a b"),
    "neither :authority nor Host": with_pseudo(authority=None),
    "empty :authority": with_pseudo(authority=b""),
    "user in :authority": with_pseudo(authority=b"me@example.com"),
    "path in :authority": with_pseudo(authority=b"example.com/a"),
    "a port past the last in :authority": with_pseudo(authority=b"a:99999"),
    "a port past the last in Host": (*with_pseudo(authority=None), (b"host", b"[::1]:65536")),
    "Host unlike :authority": (*GET, (b"host", b"other.example")),
    "two Hosts": (*GET, (b"host", b"example.com"), (b"host", b"example.com")),
    "two Hosts without :authority": (*with_pseudo(authority=None), (b"host", b"a"), (b"host", b"a")),
    "CONNECT with protocol and content-length": (
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        *GET[1:],
        (b"content-length", b"0"),
    ),
    "a port that does not belong to the scheme": (*GET, (b"host", b"example.com:443")),
    "another port": (*GET, (b"host", b"example.com:8443")),
    "a name that ends like a port": (*with_pseudo(authority=b"[::443]"), (b"host", b"[:")),
}
"""What HTTP/1.1 answers with 400: not malformed in the sense of RFC 9113, or such that section 8.1.1 lets a server answer it."""


@pytest.mark.parametrize("case", BAD)
def test_what_names_no_target_or_no_one_authority_is_a_bad_request(case: str) -> None:
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            request_head(BAD[case], False, LIMITS)
        assert caught.value.kind == "bad_request"
        assert not isinstance(caught.value, Malformed)


@pytest.mark.parametrize(
    ("scheme", "authority", "host"),
    [
        (b"https", b"Site:443", b"site"),
        (b"https", b"site", b"site:443"),
        (b"HTTPS", b"[::1]:443", b"[::1]"),
        (b"http", b"site:80", b"site"),
        (b"http", b"site", b"SITE:80"),
    ],
)
def test_the_port_of_the_scheme_makes_no_other_authority(scheme: bytes, authority: bytes, host: bytes) -> None:
    head = request_head((*with_pseudo(scheme=scheme, authority=authority), (b"host", host)), True, LIMITS)
    assert head.host == authority.lower()
    assert head.headers.count(b"host: ") == 1


def test_content_length_without_a_body_is_malformed() -> None:
    with pytest.raises(Malformed):
        request_head((*POST, (b"content-length", b"5")), True, LIMITS)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (((b":method", b"CONNECT"), (b":authority", b"a:1")), "not_implemented"),
        (with_pseudo(method=b"trace"), "not_implemented"),
        (with_pseudo(method=b"A" * 33), "not_implemented"),
        (((b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *GET[1:]), "not_implemented"),
        (with_pseudo(scheme=b"ftp"), "bad_request"),
        (with_pseudo(path=b"/a#b"), "bad_request"),
        (with_pseudo(path=b"/" + b"a" * LIMITS.target), "target_too_long"),
        ((*GET, (b"expect", b"something")), "expectation_failed"),
        ((*GET, *((b"x-%d" % number, b"") for number in range(101))), "headers_too_large"),
        ((*GET, (b"x", b"y" * LIMITS.head)), "headers_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_well_formed_and_not_done_is_answered(fields: Fields, kind: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        request_head(fields, False, LIMITS)
    assert caught.value.kind == kind
    assert not isinstance(caught.value, Malformed)


def test_options_of_the_whole_server_is_a_request() -> None:
    assert request_head(with_pseudo(method=b"OPTIONS", path=b"*"), True, LIMITS).target == b"*"


def test_a_response_and_back() -> None:
    fields = response_fields(200, b"x: y\r\nset-cookie: a\r\nset-cookie: b\r\n", 5)
    assert fields == ((b":status", b"200"), (b"x", b"y"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-length", b"5"))
    head = response_head(fields, LIMITS)
    assert head == (200, 20, b"x: y\r\nset-cookie: a\r\nset-cookie: b\r\n", 5, False, True, b"", (), b"", ())
    assert response_head(response_fields(200, b"", UNKNOWN), LIMITS).length == UNKNOWN


@pytest.mark.parametrize(
    "fields",
    [
        ((b"x", b"y"),),
        ((b":status", b"abc"),),
        ((b":status", b"1000"),),
        ((b":status", b"101"),),
        ((b":status", b"200"), (b":status", b"200")),
        ((b":status", b"200"), (b":path", b"/")),
        ((b"x", b"y"), (b":status", b"200")),
        ((b":status", b"200"), (b"connection", b"close")),
        ((b":status", b"200"), (b"transfer-encoding", b"chunked")),
        ((b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"1")),
        ((b":status", b"200"), (b"content-length", b"-1")),
        ((b":status", b"200"), (b"x", b"a\r\nb")),
        ((b":status", b"204"), (b"content-length", b"1")),
        ((b":status", b"200"), *((b"x", b"y"),) * 101),
        ((b":status", b"200"), (b"x", b"y" * LIMITS.head)),
    ],
)
def test_a_malformed_response_is_the_backends_fault(fields: Fields) -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            response_head(fields, LIMITS)
        assert caught.value.kind == "bad_gateway"


def test_a_request_to_a_backend() -> None:
    block = b"host: b.example\r\nx: y\r\nte: trailers\r\n"
    fields = request_fields(b"POST", b"/a", b"https", block, 3)
    assert fields == (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a"),
        (b":authority", b"b.example"),
        (b"x", b"y"),
        (b"te", b"trailers"),
        (b"content-length", b"3"),
    )
    assert (b"content-length", b"0") in request_fields(b"PUT", b"/", b"http", block, 0)
    assert not any(name == b"content-length" for name, _ in request_fields(b"GET", b"/", b"http", block, 0))
    for method in (b"GET", b"PUT", b"LIST"):
        assert request_fields(method, b"/", b"http", block, EMPTY).count((b"content-length", b"0")) == 1
    assert not any(name == b"content-length" for name, _ in request_fields(b"POST", b"/", b"http", block, UNKNOWN))
    tunnel = request_fields(b"GET", b"/", b"http", block, 0, b"websocket")
    assert tunnel[:2] == ((b":method", b"CONNECT"), (b":protocol", b"websocket"))


def test_trailers_lose_what_may_not_be_there() -> None:
    fields = ((b"grpc-status", b"0"), (b"content-length", b"5"), (b"host", b"x"), (b"authorization", b"y"), (b"x", b"z"))
    block = trailer_block(fields)
    assert block == b"grpc-status: 0\r\nx: z\r\n"
    assert trailer_fields(block) == ((b"grpc-status", b"0"), (b"x", b"z"))


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"X", b"y"), (b"x", b"a\nb"), (b"connection", b"close")])
def test_malformed_trailers_are_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(Malformed):
        trailer_block((field,))


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.!", min_size=1, max_size=12).map(str.encode)
values = st.binary(max_size=20)


@given(st.lists(st.tuples(names, values), max_size=6))
def test_whatever_gets_through_is_lines_that_say_the_same(extra: list[tuple[bytes, bytes]]) -> None:
    try:
        head = request_head((*GET, *extra), False, LIMITS)
    except ProtocolError:
        return
    lines = head.headers.split(b"\r\n")
    assert lines.pop() == b""
    for line in lines:
        name, _, value = line.partition(b": ")
        assert b"\n" not in line
        assert b"\r" not in line
        assert b"\0" not in line
        assert (name, value) in extra or name in (b"host", b"cookie", b"te")


@given(st.lists(st.tuples(names, st.text("abc, ;=\x80\xff", max_size=20).map(lambda text: text.strip().encode("latin-1"))), max_size=6))
def test_a_block_survives_the_way_to_a_backend(extra: list[tuple[bytes, bytes]]) -> None:
    try:
        head = request_head((*GET, *extra), True, LIMITS)
    except ProtocolError:
        return
    again = request_head(request_fields(head.method, head.target, b"http", head.headers, head.length), True, LIMITS)
    assert again == head._replace(expects_continue=False)


def test_a_body_of_no_bytes_is_told_from_none() -> None:
    assert request_head((*GET, (b"content-length", b"0")), True, LIMITS).is_framed
    assert not request_head(GET, True, LIMITS).is_framed
    assert not request_head(GET, False, LIMITS).is_framed, "nobody has announced anything"


@pytest.mark.parametrize("method", [b"LIST", b"RPC_IN_DATA", b"M-SEARCH", b"BREW", b"get", b"A" * 32])
def test_any_other_token_is_a_method(method: bytes) -> None:
    assert request_head(with_pseudo(method=method), True, LIMITS).method == method


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_of_no_class_passes_in_both_directions(status: int) -> None:
    assert response_head(((b":status", b"%d" % status),), LIMITS).status == status
    assert response_fields(status, b"", UNKNOWN) == ((b":status", b"%d" % status),)


def test_bytes_beyond_ascii_in_a_path_are_escaped_or_refused() -> None:
    fields = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", "/café?ü".encode()))
    assert request_head(fields, True, HeadLimits(escapes=True)).target == b"/caf%C3%A9?%C3%BC"
    with pytest.raises((ProtocolError, Malformed)):
        request_head(fields, True, HeadLimits())
