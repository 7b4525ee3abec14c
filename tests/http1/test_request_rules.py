"""The rules of docs/design.md ("Safety at the edges") on request heads: the same verdict from both engines."""

from __future__ import annotations

import pytest

from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.methods import IDEMPOTENT, METHODS
from pingap.stages.http1.rules import EVERY_NAME, HeadLimits, check_host, split_absolute
from pingap.stages.messages import UNKNOWN
from tests.http1.heads import accepted, crlf, every_engine, get, post, request, rows

CHUNKED = b"Transfer-Encoding: chunked"
MANY_NAMES = b",".join(b"x-%d" % number for number in range(65))

REFUSED = rows(
    # version
    ("HTTP 0.9 by its short form", crlf(b"GET /"), "bad_request"),
    ("a port past the last", crlf(b"GET / HTTP/1.1", b"Host: a:65536"), "bad_request"),
    ("a port past the last of an address", crlf(b"GET / HTTP/1.1", b"Host: [::1]:99999"), "bad_request"),
    ("a port past the last in a target", crlf(b"GET http://a:99999/ HTTP/1.1", b"Host: a"), "bad_request"),
    ("HTTP 0.9 by name", crlf(b"GET / HTTP/0.9", b"Host: a"), "bad_version"),
    ("HTTP 1.2", crlf(b"GET / HTTP/1.2", b"Host: a"), "bad_version"),
    ("HTTP 2.0", crlf(b"GET / HTTP/2.0", b"Host: a"), "bad_version"),
    ("the preface of HTTP 2", crlf(b"PRI * HTTP/2.0"), "bad_version"),
    ("HTTP 11 without a point", crlf(b"GET / HTTP/11", b"Host: a"), "bad_request"),
    ("HTTP 1.10", crlf(b"GET / HTTP/1.10", b"Host: a"), "bad_request"),
    ("a lower case protocol name", crlf(b"GET / http/1.1", b"Host: a"), "bad_request"),
    ("another protocol", crlf(b"GET / ICE/1.0", b"Host: a"), "bad_request"),
    ("no version", crlf(b"GET / ", b"Host: a"), "bad_request"),
    # request line
    ("two spaces before the target", crlf(b"GET  / HTTP/1.1", b"Host: a"), "bad_request"),
    ("two spaces before the version", crlf(b"GET /  HTTP/1.1", b"Host: a"), "bad_request"),
    ("a tab before the target", crlf(b"GET\t/ HTTP/1.1", b"Host: a"), "bad_request"),
    ("a space after the version", crlf(b"GET / HTTP/1.1 ", b"Host: a"), "bad_request"),
    ("a space before the method", crlf(b" GET / HTTP/1.1", b"Host: a"), "bad_request"),
    ("a space in the target", crlf(b"GET /a b HTTP/1.1", b"Host: a"), "bad_request"),
    ("an empty line before the request line", b"\r\n" + get(), "bad_request"),
    ("nothing but empty lines", b"\r\n\r\n", "bad_request"),
    ("a request line alone, cut short", b"GET\r\n\r\n", "bad_request"),
    # method
    ("a method that is too long", crlf(b"A" * 33 + b" / HTTP/1.1", b"Host: a"), "not_implemented"),
    ("TRACE in lower case", crlf(b"trace / HTTP/1.1", b"Host: a"), "not_implemented"),
    ("CONNECT in mixed case", crlf(b"Connect / HTTP/1.1", b"Host: a"), "not_implemented"),
    ("PRI", crlf(b"PRI / HTTP/1.1", b"Host: a"), "not_implemented"),
    (
        "an unknown method and a length beside a coding",
        crlf(b"FOO / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        "bad_request",
    ),
    ("an unknown method and two lengths", crlf(b"FOO / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Content-Length: 1"), "bad_request"),
    ("an unknown method and a bare LF", crlf(b"FOO / HTTP/1.1", b"Host: a", b"X-A: 1\nX-B: 2"), "bad_request"),
    ("an unknown method and another coding", crlf(b"FOO / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"), "not_implemented"),
    ("an unknown method and an asterisk", crlf(b"FOO * HTTP/1.1", b"Host: a"), "bad_request"),
    ("an unknown method and an authority", crlf(b"FOO a:443 HTTP/1.1", b"Host: a"), "bad_request"),
    ("an unknown method of HTTP 1.2", crlf(b"FOO / HTTP/1.2", b"Host: a"), "bad_version"),
    ("CONNECT", crlf(b"CONNECT a.example:443 HTTP/1.1", b"Host: a.example:443"), "not_implemented"),
    ("a method with a colon", crlf(b"GE:T / HTTP/1.1", b"Host: a"), "bad_request"),
    # target
    ("a fragment in the target", crlf(b"GET /a#b HTTP/1.1", b"Host: a"), "bad_request"),
    ("a target of another byte than visible ASCII", crlf(b"GET /\xe4 HTTP/1.1", b"Host: a"), "bad_request"),
    ("DEL in the target", crlf(b"GET /\x7f HTTP/1.1", b"Host: a"), "bad_request"),
    ("NUL in the target", crlf(b"GET /\0 HTTP/1.1", b"Host: a"), "bad_request"),
    ("a tab in the target", crlf(b"GET /a\tb HTTP/1.1", b"Host: a"), "bad_request"),
    ("a target without a leading slash", crlf(b"GET admin HTTP/1.1", b"Host: a"), "bad_request"),
    ("a query without a path", crlf(b"GET ?a=b HTTP/1.1", b"Host: a"), "bad_request"),
    ("an asterisk without OPTIONS", crlf(b"GET * HTTP/1.1", b"Host: a"), "bad_request"),
    ("two asterisks", crlf(b"OPTIONS ** HTTP/1.1", b"Host: a"), "bad_request"),
    ("an absolute target of another scheme", crlf(b"GET ftp://a/ HTTP/1.1", b"Host: a"), "bad_request"),
    ("an absolute target without authority", crlf(b"GET http:///x HTTP/1.1", b"Host: a"), "bad_request"),
    ("an absolute target with a user", crlf(b"GET http://u:p@a/ HTTP/1.1", b"Host: a"), "bad_request"),
    ("an absolute target with a backslash", crlf(b"GET http://a\\@b/ HTTP/1.1", b"Host: a"), "bad_request"),
    ("an absolute target with a bad port", crlf(b"GET http://a:x/ HTTP/1.1", b"Host: a"), "bad_request"),
    # Host
    ("no Host in 1.1", crlf(b"GET / HTTP/1.1"), "bad_request"),
    ("two Hosts", get(b"Host: b.example"), "bad_request"),
    ("two Hosts that agree", get(b"Host: a.example"), "bad_request"),
    ("two Hosts in 1.0", crlf(b"GET / HTTP/1.0", b"Host: a", b"Host: b"), "bad_request"),
    ("two Hosts, one of them in capitals", get(b"HOST: b.example"), "bad_request"),
    ("an empty Host", crlf(b"GET / HTTP/1.1", b"Host:"), "bad_request"),
    ("a Host of blanks", crlf(b"GET / HTTP/1.1", b"Host:  \t"), "bad_request"),
    ("two names in one Host", crlf(b"GET / HTTP/1.1", b"Host: a, b"), "bad_request"),
    ("a Host with a path", crlf(b"GET / HTTP/1.1", b"Host: a/b"), "bad_request"),
    ("a Host with a user", crlf(b"GET / HTTP/1.1", b"Host: u@a"), "bad_request"),
    ("a Host with a scheme", crlf(b"GET / HTTP/1.1", b"Host: http://a"), "bad_request"),
    ("a Host with two ports", crlf(b"GET / HTTP/1.1", b"Host: a:1:2"), "bad_request"),
    ("a Host with a port of letters", crlf(b"GET / HTTP/1.1", b"Host: a:http"), "bad_request"),
    ("a Host with a port of six digits", crlf(b"GET / HTTP/1.1", b"Host: a:123456"), "bad_request"),
    ("a Host that is a port", crlf(b"GET / HTTP/1.1", b"Host: :80"), "bad_request"),
    ("a Host with another byte than ASCII", crlf(b"GET / HTTP/1.1", b"Host: \xe4"), "bad_request"),
    ("a Host with an open bracket", crlf(b"GET / HTTP/1.1", b"Host: [::1"), "bad_request"),
    ("a Host with an empty zone", crlf(b"GET / HTTP/1.1", b"Host: [fe80::1%25]"), "bad_request"),
    ("a Host with a zone that is not escaped", crlf(b"GET / HTTP/1.1", b"Host: [fe80::1%eth0]"), "bad_request"),
    ("a Host with a zone of other characters", crlf(b"GET / HTTP/1.1", b"Host: [fe80::1%25a/b]"), "bad_request"),
    # header lines
    ("a space before the colon", get(b"X-A : 1"), "bad_request"),
    ("a space before the colon of the first line", crlf(b"GET / HTTP/1.1", b"Host : a"), "bad_request"),
    ("a tab before the colon", get(b"X-A\t: 1"), "bad_request"),
    ("a space in a name", get(b"X A: 1"), "bad_request"),
    ("a line without colon", get(b"X-A"), "bad_request"),
    ("a line that is a colon", get(b":"), "bad_request"),
    ("a name that is empty", get(b": 1"), "bad_request"),
    ("a folded line", get(b"X-A: 1", b" 2"), "bad_request"),
    ("a line folded by a tab", get(b"X-A: 1", b"\t2"), "bad_request"),
    ("a folded first line", crlf(b"GET / HTTP/1.1", b" X-A: 1", b"Host: a"), "bad_request"),
    ("a line of one blank", get(b"X-A: 1", b" "), "bad_request"),
    ("a bare LF after a value", get(b"X-A: 1\nX-B: 2"), "bad_request"),
    ("a bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "bad_request"),
    ("a bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", "bad_request"),
    ("a bare CR in a value", get(b"X-A: 1\r2"), "bad_request"),
    ("a bare CR in a name", get(b"X-\rA: 1"), "bad_request"),
    ("a bare CR before the CRLF", get(b"X-A: 1\r"), "bad_request"),
    ("NUL in a value", get(b"X-A: 1\x002"), "bad_request"),
    ("NUL in a name", get(b"X-\0A: 1"), "bad_request"),
    ("a control character in a value", get(b"X-A: \x01"), "bad_request"),
    ("a vertical tab in a value", get(b"X-A: 1\x0b2"), "bad_request"),
    ("DEL in a value", get(b"X-A: \x7f"), "bad_request"),
    ("a byte beyond ASCII in a name", get(b"X-\xe4: 1"), "bad_request"),
    ("a parenthesis in a name", get(b"X-(A): 1"), "bad_request"),
    ("an at sign in a name", get(b"X@A: 1"), "bad_request"),
    # framing
    ("Transfer-Encoding in 1.0", crlf(b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked"), "bad_request"),
    ("Transfer-Encoding with Content-Length", post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), "bad_request"),
    ("Content-Length with Transfer-Encoding", post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "bad_request"),
    ("two Content-Lengths", post(b"Content-Length: 5", b"Content-Length: 6"), "bad_request"),
    ("two Content-Lengths that agree", post(b"Content-Length: 5", b"Content-Length: 5"), "bad_request"),
    ("a list as Content-Length", post(b"Content-Length: 5, 5"), "bad_request"),
    ("a coding before chunked", post(b"Transfer-Encoding: gzip, chunked"), "not_implemented"),
    ("a coding before chunked, on two lines", post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), "not_implemented"),
    ("a coding without chunked", post(b"Transfer-Encoding: gzip"), "bad_request"),
    ("a coding after chunked", post(b"Transfer-Encoding: chunked, gzip"), "bad_request"),
    ("chunked twice", post(b"Transfer-Encoding: chunked, chunked"), "bad_request"),
    # methods
    ("CONNECT", crlf(b"CONNECT a:443 HTTP/1.1", b"Host: a:443"), "not_implemented"),
    ("CONNECT of a path", crlf(b"CONNECT /a HTTP/1.1", b"Host: a"), "not_implemented"),
    ("TRACE", crlf(b"TRACE / HTTP/1.1", b"Host: a"), "not_implemented"),
    # expectations
    ("an unknown expectation", post(b"Content-Length: 5", b"Expect: 200-ok"), "expectation_failed"),
    ("two expectations", post(b"Content-Length: 5", b"Expect: 100-continue", b"Expect: 100-continue"), "expectation_failed"),
)


@every_engine
@pytest.mark.parametrize(("head", "kind"), REFUSED)
def test_a_request_that_breaks_a_rule_is_refused_with_the_kind_that_says_how(engine: HeadParser, head: bytes, kind: str) -> None:
    assert request(engine, head) == kind


ACCEPTED = rows(
    ("any token as a name", get(b"!#$%&'*+-.^_`|~09azAZ: 1"), {"headers": b"host: a.example\r\n!#$%&'*+-.^_`|~09azaz: 1\r\n"}),
    ("no blank after the colon", get(b"X-A:1"), {"headers": b"host: a.example\r\nx-a: 1\r\n"}),
    ("blanks around a value", get(b"X-A: \t 1\t "), {"headers": b"host: a.example\r\nx-a: 1\r\n"}),
    ("blanks inside a value", get(b"X-A: 1 \t 2"), {"headers": b"host: a.example\r\nx-a: 1 \t 2\r\n"}),
    ("an empty value", get(b"X-A:", b"X-B: "), {"headers": b"host: a.example\r\nx-a: \r\nx-b: \r\n"}),
    ("colons in a value", get(b"X-A: a:b : c"), {"headers": b"host: a.example\r\nx-a: a:b : c\r\n"}),
    ("bytes beyond ASCII in a value", get(b"X-A: \xe4\xf6"), {"headers": b"host: a.example\r\nx-a: \xe4\xf6\r\n"}),
    ("duplicates in their order", get(b"B: 1", b"A: 2", b"B: 3"), {"headers": b"host: a.example\r\nb: 1\r\na: 2\r\nb: 3\r\n"}),
    ("a Host in any case", crlf(b"GET / HTTP/1.1", b"hOST: A.Example:8080"), {"host": b"a.example:8080", "target": b"/"}),
    ("a Host of an IPv6 address", crlf(b"GET / HTTP/1.1", b"Host: [::1]:80"), {"host": b"[::1]:80"}),
    ("a Host with an empty port", crlf(b"GET / HTTP/1.1", b"Host: a:"), {"host": b"a:"}),
    ("1.0 without Host", crlf(b"GET / HTTP/1.0"), {"host": b"", "version": 10, "keep_alive": False, "headers": b""}),
    ("1.0 that stays open", crlf(b"GET / HTTP/1.0", b"Connection: Keep-Alive"), {"keep_alive": True, "headers": b""}),
    ("1.1 that stays open", get(), {"keep_alive": True, "version": 11}),
    ("1.1 that closes", get(b"Connection: Close"), {"keep_alive": False}),
    ("close wins over keep-alive", get(b"Connection: keep-alive", b"Connection: close"), {"keep_alive": False}),
    ("close among others", get(b"Connection: x, close ,y"), {"keep_alive": False}),
    ("no body", get(), {"length": 0}),
    ("a body of no bytes", post(b"Content-Length: 0"), {"length": 0, "headers": b"host: a.example\r\n"}),
    ("a body", post(b"Content-Length: 5"), {"length": 5, "headers": b"host: a.example\r\n"}),
    ("a length with zeros before it", post(b"Content-Length: 005"), {"length": 5}),
    ("the longest body", post(b"Content-Length: " + b"9" * 18), {"length": 10**18 - 1}),
    ("a chunked body", post(b"Transfer-Encoding: chunked"), {"length": UNKNOWN, "headers": b"host: a.example\r\n"}),
    ("a chunked body in capitals", post(b"TRANSFER-ENCODING: CHUNKED"), {"length": UNKNOWN}),
    ("a chunked body of GET", get(b"Transfer-Encoding: chunked"), {"length": UNKNOWN}),
    ("an empty expectation", post(b"Content-Length: 5", b"Expect:"), {"expects_continue": False, "headers": b"host: a.example\r\n"}),
    ("a Host with a zone", crlf(b"GET / HTTP/1.1", b"Host: [FE80::1%25eth0]:80"), {"host": b"[fe80::1%25eth0]:80"}),
    ("an expectation", post(b"Content-Length: 5", b"Expect: 100-Continue"), {"expects_continue": True, "headers": b"host: a.example\r\n"}),
    ("an expectation in 1.0, ignored", crlf(b"POST / HTTP/1.0", b"Content-Length: 5", b"Expect: x"), {"expects_continue": False}),
    ("the asterisk of OPTIONS", crlf(b"OPTIONS * HTTP/1.1", b"Host: a"), {"target": b"*"}),
    ("OPTIONS of a whole server", crlf(b"OPTIONS http://b:81 HTTP/1.1", b"Host: a"), {"target": b"*", "host": b"b:81"}),
    ("OPTIONS of a server's root", crlf(b"OPTIONS http://b/ HTTP/1.1", b"Host: a"), {"target": b"/", "host": b"b"}),
    ("OPTIONS of a query", crlf(b"OPTIONS http://b? HTTP/1.1", b"Host: a"), {"target": b"/?", "host": b"b"}),
    (
        "an absolute target, whose authority is the Host",
        crlf(b"GET http://B.example:81/x?y=z HTTP/1.1", b"X-A: 1", b"Host: a"),
        {"target": b"/x?y=z", "host": b"b.example:81", "headers": b"x-a: 1\r\nhost: b.example:81\r\n"},
    ),
    (
        "an absolute target in 1.0 without Host",
        crlf(b"GET http://b/x HTTP/1.0", b"X-A: 1"),
        {"target": b"/x", "host": b"b", "headers": b"host: b\r\nx-a: 1\r\n"},
    ),
    ("an absolute target without path", crlf(b"GET HTTP://b HTTP/1.1", b"Host: a"), {"target": b"/", "host": b"b"}),
    ("an absolute target with a query only", crlf(b"GET https://b?x HTTP/1.1", b"Host: a"), {"target": b"/?x", "host": b"b"}),
    ("an at sign in the path of an absolute target", crlf(b"GET http://b/@c HTTP/1.1", b"Host: a"), {"target": b"/@c", "host": b"b"}),
    ("two slashes", crlf(b"GET //b/c HTTP/1.1", b"Host: a"), {"target": b"//b/c", "host": b"a"}),
    (
        "Connection and what it names is dropped",
        get(b"Connection: X-A, close", b"X-A: 1", b"X-AB: 2", b"x-a: 3", b"X-C: x-a"),
        {"headers": b"host: a.example\r\nx-ab: 2\r\nx-c: x-a\r\n"},
    ),
    ("what Connection names can be no trailer", post(b"Connection: X-A", b"connection: x-b, close", CHUNKED), {"named": {b"x-a", b"x-b"}}),
    ("without chunks there are no trailers", post(b"Connection: X-A", b"Content-Length: 5"), {"named": ()}),
    ("what is no trailer anyway needs no look", post(b"Connection: TE, keep-alive, host, upgrade, date", CHUNKED), {"named": ()}),
    ("a Connection that names more than is remembered", post(b"Connection: " + MANY_NAMES, CHUNKED), {"named": EVERY_NAME}),
    ("Connection cannot name Host away", get(b"Connection: host"), {"headers": b"host: a.example\r\n", "host": b"a.example"}),
    ("Connection cannot name the framing away", post(b"Connection: content-length", b"Content-Length: 5"), {"length": 5}),
    (
        "all that belongs to one connection is dropped",
        get(b"Keep-Alive: 5", b"Proxy-Connection: x", b"TE: gzip", b"HTTP2-Settings: x", b"Upgrade: h2c"),
        {"headers": b"host: a.example\r\n", "upgrade": b""},
    ),
    (
        "of TE the one word that is for the whole way stays",
        get(b"TE: gzip;q=0.5, Trailers", b"Connection: TE", b"X: y"),
        {"headers": b"host: a.example\r\nx: y\r\nte: trailers\r\n"},
    ),
    (
        "an upgrade",
        get(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"),
        {"upgrade": b"websocket", "headers": b"host: a.example\r\n"},
    ),
    (
        "an upgrade in HTTP/1.0, which is ignored (RFC 9110 section 7.8)",
        b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        {"upgrade": b"", "headers": b"host: a.example\r\n", "version": 10},
    ),
)


@every_engine
@pytest.mark.parametrize(("head", "fields"), ACCEPTED)
def test_a_request_that_obeys_is_accepted_with_these_fields(engine: HeadParser, head: bytes, fields: dict[str, object]) -> None:
    parsed = accepted(engine, head)
    assert {name: getattr(parsed, name) for name in fields} == fields


@every_engine
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_of_the_list_is_known_to_the_engine(engine: HeadParser, method: bytes) -> None:
    assert accepted(engine, crlf(method + b" / HTTP/1.1", b"Host: a")).method == method


@every_engine
@pytest.mark.parametrize("byte", range(256))
def test_one_byte_in_the_target_is_taken_as_it_is_or_refused(engine: HeadParser, byte: int) -> None:
    target = b"/a%bb" % bytes([byte])
    parsed = request(engine, crlf(b"GET " + target + b" HTTP/1.1", b"Host: a"))
    assert parsed == "bad_request" if byte <= 32 or byte >= 127 or byte == ord("#") else parsed.target == target  # type: ignore[union-attr]


@every_engine
@pytest.mark.parametrize("byte", range(256))
def test_one_byte_in_a_value_is_taken_as_it_is_or_refused(engine: HeadParser, byte: int) -> None:
    value = b"a%bb" % bytes([byte])
    parsed = request(engine, get(b"X-A: " + value))
    if byte == 9 or 32 <= byte <= 126 or byte >= 128:
        assert parsed.headers == b"host: a.example\r\nx-a: %b\r\n" % value  # type: ignore[union-attr]
    else:
        assert parsed == "bad_request"


@every_engine
@pytest.mark.parametrize("byte", range(256))
def test_one_byte_in_a_name_is_taken_or_refused(engine: HeadParser, byte: int) -> None:
    name = b"xa%bb" % bytes([byte])
    parsed = request(engine, get(name + b": 1"))
    if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "!#$%&'*+-.^_`|~"):
        assert parsed.headers == b"host: a.example\r\n%b: 1\r\n" % name.lower()  # type: ignore[union-attr]
    elif byte == ord(":"):
        assert parsed.headers == b"host: a.example\r\nxa: b: 1\r\n"  # type: ignore[union-attr]
    else:
        assert parsed == "bad_request"


@every_engine
def test_the_head_is_capped_in_bytes(engine: HeadParser) -> None:
    head = get(b"X-A: " + b"a" * 100)
    assert request(engine, head, HeadLimits(head=len(head))) != "headers_too_large"
    assert request(engine, head, HeadLimits(head=len(head) - 1)) == "headers_too_large"


@every_engine
def test_a_head_too_large_because_of_its_target_is_414(engine: HeadParser) -> None:
    limits = HeadLimits(head=1000, target=200)
    assert request(engine, crlf(b"GET /" + b"a" * 2000 + b" HTTP/1.1", b"Host: a"), limits) == "target_too_long"


@every_engine
def test_the_number_of_lines_is_capped(engine: HeadParser) -> None:
    limits = HeadLimits(headers=10)
    assert request(engine, get(*[b"X-A: 1"] * 9), limits) != "headers_too_large"
    assert request(engine, get(*[b"X-A: 1"] * 10), limits) == "headers_too_large"


@every_engine
@pytest.mark.parametrize("line", [b"TE:", b"Keep-Alive: 1", b"Trailer: x", b"Connection: x", b"Upgrade: x", b"a:"])
def test_lines_that_are_dropped_count_too(engine: HeadParser, line: bytes) -> None:
    assert request(engine, get(*[line] * 100)) == "headers_too_large"


@every_engine
def test_the_target_is_capped_to_the_byte(engine: HeadParser) -> None:
    limits = HeadLimits(target=100)
    assert accepted(engine, crlf(b"GET /" + b"a" * 99 + b" HTTP/1.1", b"Host: a")).target == b"/" + b"a" * 99
    assert request(engine, crlf(b"GET /" + b"a" * 99 + b" HTTP/1.1", b"Host: a"), limits) != "target_too_long"
    assert request(engine, crlf(b"GET /" + b"a" * 100 + b" HTTP/1.1", b"Host: a"), limits) == "target_too_long"


def test_hosts_that_are_remembered_do_not_fill_the_memory() -> None:
    from pingap.stages.http1 import rules

    for number in range(5000):
        check_host(b"h%d.example" % number)
    check_host(b"a" * 60_000)
    assert len(rules._hosts) <= 4096
    assert max(map(len, rules._hosts)) <= 255


@pytest.mark.parametrize("host", [b"a:", b"a:0", b"a:65535", b"[::1]:00080"])
def test_a_host_may_have_any_port_there_is(host: bytes) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    ("target", "parts"),
    [(b"http://a", (b"a", b"/")), (b"http://a/b?c", (b"a", b"/b?c")), (b"http://a?b/c", (b"a", b"/?b/c")), (b"http://a/?", (b"a", b"/?"))],
)
def test_an_absolute_target_falls_into_authority_and_origin_form(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_absolute(target) == parts


@every_engine
@pytest.mark.parametrize(
    "method",
    [
        *(b"LIST RDG_OUT_DATA RPC_IN_DATA BAN SOURCE M-SEARCH VERSION-CONTROL MKWORKSPACE ORDERPATCH UPDATEREDIRECTREF").split(),
        *(b"DESCRIBE get GETX 0 !#$%&'*+-.^_`|~").split(),
        b"A" * 32,
    ],
)
def test_any_other_token_is_a_method_and_frames_a_body_as_every_method_does(engine: HeadParser, method: bytes) -> None:
    for lines, length in (((), 0), ((b"Content-Length: 5",), 5), ((b"Transfer-Encoding: chunked",), UNKNOWN)):
        parsed = accepted(engine, crlf(method + b" /a?b=c HTTP/1.1", b"Host: a.example", b"X-A: 1", *lines))
        assert (parsed.method, parsed.target, parsed.length) == (method, b"/a?b=c", length)
        assert parsed.headers == b"host: a.example\r\nx-a: 1\r\n"
    assert accepted(engine, crlf(method + b" http://b.example/x HTTP/1.0", b"Host: a")).host == b"b.example"
    assert method not in IDEMPOTENT


@every_engine
@pytest.mark.parametrize(
    ("lines", "is_framed"),
    [
        ((), False),
        ((b"Content-Length: 0",), True),
        ((b"Content-Length: 00",), True),
        ((b"Content-Length: 5",), True),
        ((b"Transfer-Encoding: chunked",), True),
        ((b"Content-Length: 0", b"Connection: x, close"), True),
    ],
)
def test_a_body_of_no_bytes_is_told_from_none(engine: HeadParser, lines: tuple[bytes, ...], is_framed: bool) -> None:
    assert accepted(engine, get(*lines)).is_framed == is_framed
    assert accepted(engine, crlf(b"PROPFIND / HTTP/1.1", b"Host: a", *lines)).is_framed == is_framed
