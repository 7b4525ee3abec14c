"""Access log formats: what each tag shows, and what no client can do to a line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.observability.access_format import CONTEXT, TAGS, compile_format, problems
from tests.observability.samples import SAMPLE, access


@pytest.fixture
def in_paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("combined", '192.0.2.7 "GET /users?id=3&x=%20y HTTP/1.1" 200 2.5KB "http://a/" "curl/8.0"'),
        ("common", '192.0.2.7 "GET /users?id=3&x=%20y HTTP/1.1" 200 2.5KB'),
        ("short", "192.0.2.7 GET /users?id=3&x=%20y HTTP/1.1 200 2.5KB - 25ms"),
        ("tiny", "GET /users?id=3&x=%20y 200 2.5KB - 25ms"),
    ],
)
def test_named_formats_are_the_references(format: str, line: str) -> None:
    assert compile_format(format)(access()) == line


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("host", "example.com"),
        ("method", "GET"),
        ("path", "/users"),
        ("proto", "HTTP/1.1"),
        ("query", "id=3&x=%20y"),
        ("remote", "192.0.2.7"),
        ("client_ip", "198.51.100.9"),
        ("scheme", "http"),
        ("uri", "/users?id=3&x=%20y"),
        ("referer", "http://a/"),
        ("user_agent", "curl/8.0"),
        ("when_utc_iso", "2026-07-01T10:00:00.275Z"),
        ("when_unix", "1782900000275"),
        ("size", "2500"),
        ("size_human", "2.5KB"),
        ("status", "200"),
        ("latency", "25"),
        ("latency_human", "25ms"),
        ("payload_size", "1024"),
        ("payload_size_human", "1KB"),
        ("~sid", "s3cret"),
        ("~none", ""),
        (">User-Agent", "curl/8.0"),
        (">x-none", "-"),
        ("<X-Id", "r1"),
        ("<x-none", "-"),
        (":connection_id", "12"),
        (":upstream_reused", "false"),
        (":upstream_status", "200"),
        (":upstream_addr", "10.0.0.1:8080"),
        (":upstream_connected", "5"),
        (":processing", "4"),
        (":location", "api"),
        (":connection_reused", "true"),
        (":upstream_connect_time", "2"),
        (":upstream_processing_time", "10"),
        (":upstream_response_time", "7"),
        (":upstream_tcp_connect_time", "1"),
        (":upstream_connection_time", "1"),
        (":connection_time", "2000"),
        (":connection_time_human", "2s"),
        (":service_time", "25"),
        (":service_time_human", "25ms"),
        (":tls_version", ""),
        (":cache_lookup_time", ""),
        (":tenant", ""),
    ],
)
def test_each_tag_shows_its_value(tag: str, shown: str) -> None:
    # The stamps are binary fractions of a second only by chance: a millisecond less is the same to a reader.
    line = compile_format(f"<{{{tag}}}>")(access())
    near = f"<{int(shown) - 1}>" if shown.isdigit() and tag.endswith("_time") else ""
    assert line in (f"<{shown}>", near)


def test_the_local_time_has_its_offset(in_paris: None) -> None:
    # Another second than the other tests': within one, the zone is not looked up again.
    assert compile_format("{when}")(access(time=1_782_900_005.25)) == "2026-07-01T12:00:05.275+02:00"


def test_what_plugins_set_can_be_logged() -> None:
    line = compile_format("{request_id} {:compression_ratio} {:compression_time} {:compression_time_human} {:tenant} {:cached}")
    context = {"request_id": "abc", "compression_ratio": 3.25, "compression_time": 0.0123, "tenant": 'a"b', "cached": True}
    assert line(access(context=context)) == 'abc 3.2 12 12ms a\\"b true'
    assert line(access()) == "-     "


def test_how_long_a_cache_looked_is_told_in_parts_of_a_millisecond() -> None:
    line = compile_format("{:cache_lookup_time} {:cache_lookup_time_human}")
    assert line(access(context={"cache_lookup_time": 0.0000734})) == "0.073 73us"
    assert line(access(context={"cache_lookup_time": 0.0123})) == "12.300 12ms"


@pytest.mark.parametrize("value", ["3.25", "", b"\xff", None, [1], {"a": 1}, float("nan"), float("inf"), -(2**63)])
def test_what_a_capture_or_a_claim_is_called_costs_no_line(value: object) -> None:
    names = "request_id tls_version tls_cipher tls_handshake_time compression_ratio compression_time cache_lookup_time cache_lock_time"
    keys = f"{names} geo_country limit_status plugin_seconds".split()
    line = compile_format(" ".join(f"{{:{key}}} {{:{key}_human}}" if key.endswith("_time") else f"{{:{key}}}" for key in keys))
    assert line(access(context=dict.fromkeys(keys, value))).isprintable()


def test_an_answer_without_a_backend_leaves_the_upstream_keys_empty() -> None:
    line = compile_format("[{:upstream_addr}|{:upstream_status}|{:upstream_connect_time}|{:upstream_processing_time_human}|{referer}]")
    assert line(access(addr="", upstream="", upstream_status=0, stamps=(1.0, 2.0), connect=(), request_headers=b"")) == "[|-|||-]"


def test_a_request_that_could_not_be_parsed_still_gives_a_line() -> None:
    broken = access(method=b"", target=b"", host=b"", request_headers=b"", status=400, stamps=())
    assert compile_format("combined")(broken) == '192.0.2.7 "- - HTTP/1.1" 400 2.5KB "-" "-"'


def test_a_record_of_an_older_accept_without_the_newest_fields_still_gives_a_line() -> None:
    older = access()[: SAMPLE._fields.index("connected")]
    assert compile_format("{status}|{:connection_time}|{:upstream_connection_time}|{:upstream_connected}")(older) == "200|||"


@pytest.mark.parametrize(
    ("host", "shown"), [(b"[::1]:6188", "[::1]"), (b"[::1]", "[::1]"), (b"a.b", "a.b"), (b"a.b:80", "a.b"), (b"", "-")]
)
def test_the_host_is_shown_without_its_port(host: bytes, shown: str) -> None:
    assert compile_format("{host}")(access(host=host)) == shown


def test_environment_variables_are_taken_when_the_format_is_read() -> None:
    line = compile_format("{$REGION}/{$NONE}/{$hostname}", {"REGION": "eu\n1"}.get)
    assert line(access()).startswith("eu\\n1//")
    assert not line(access()).endswith("/")


def test_a_template_may_be_json() -> None:
    line = compile_format('{"method": "{method}", "uri": "{uri}", "agent": "{user_agent}", "n": {size}, "o": {}}')
    agent = b'user-agent: a"b\\c\x1b[31m \xff\xe2\x80\xa8\r\n'
    shown = json.loads(line(access(request_headers=agent)))
    assert shown == {"method": "GET", "uri": "/users?id=3&x=%20y", "agent": 'a"b\\c\x1b[31m \ufffd\u2028', "n": 2500, "o": {}}


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_no_client_can_forge_a_line_or_a_field(target: bytes, agent: bytes, cookie: bytes) -> None:
    agent, cookie = (part.replace(b"\r", b"").replace(b"\n", b"") for part in (agent, cookie))  # the parser's work
    block = b"user-agent: " + agent + b"\r\ncookie: a=" + cookie + b"\r\n"
    line = compile_format('"{uri}" "{user_agent}" "{~a}" "{host}"')(access(target=target, request_headers=block, host=target))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert line.replace("\\\\", "").replace('\\"', "").count('"') == 8


@given(st.text(alphabet=st.sampled_from("{}<>~:$abc_ \"'\\é"), max_size=40))
def test_a_template_is_refused_or_works_and_never_raises_later(template: str) -> None:
    if problems(template):
        with pytest.raises(ValueError):
            compile_format(template)
    else:
        assert isinstance(compile_format(template)(access()), str)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{staus}", "{staus}: unknown tag; did you mean {status}?"),
        ("{upstream_addr}", "{upstream_addr}: unknown tag; did you mean {:upstream_addr}?"),
        ("{:upstream_adr}", "{:upstream_adr}: unknown context key; did you mean {:upstream_addr}?"),
        ("{method}\n{uri}", "a template is one line of printable text"),
    ],
)
def test_mistakes_are_told_with_a_hint(template: str, problem: str) -> None:
    assert problems(template) == [problem]


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems("{foo} {bar} {:upstream_adr} {foo}")) == 3


def test_every_documented_tag_and_key_is_accepted_and_works_on_every_record() -> None:
    template = " ".join([*(f"{{{tag}}}" for tag in TAGS), *(f"{{:{key}}}" for key in CONTEXT)])
    assert problems(template) == []
    line = compile_format(template)
    for record in (access(), access(stamps=(), connect=(), context={}, status=499, responded=0.0), access()[:30]):
        assert line(record)


@pytest.mark.parametrize(
    ("error", "reason", "shown"),
    [("", "", ""), ("bad_request", "", "bad_request"), ("bad_request", "two lengths\x1b", "bad_request: two lengths\\u001b")],
)
def test_why_pingap_answered_itself_can_be_logged(error: str, reason: str, shown: str) -> None:
    assert compile_format("{:error}")(access(error=error, reason=reason)) == shown
