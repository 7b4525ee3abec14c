"""Credentials that plugins hide from backends are in no access log line and in no event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.bus.kinds import ACCESS, LINES
from pingap.config.model import Location, Server, Snapshot
from pingap.config.parts import AccessLog, Listen
from pingap.observability.records import Access
from pingap.stages.accept.hidden import Hidden, Mask
from pingap.stages.messages import Report
from pingap.stages.plugins.exchange import query_alike, query_value, without_query, without_query_alike
from pingap.stages.plugins.registry import CATEGORIES
from pingap.stages.spellings import parameter
from tests.accept.playbook import Play, get
from tests.observability.samples import access

BY_QUERY: dict[str, Any] = {"category": "key_auth", "query": "key", "keys": ["s3cret"], "hide_credentials": True}
BY_HEADER: dict[str, Any] = {"category": "key_auth", "header": "X-API-Key", "keys": ["s3cret"], "hide_credentials": True}
BASIC: dict[str, Any] = {"category": "basic_auth", "authorizations": ["czNjcmV0OnMzY3JldA=="], "hide_credentials": True}
APP: dict[str, Any] = {
    "category": "combined_auth",
    "authorizations": [{"app_id": "a", "secret": "b", "deviation": 60}],
    "hide_credentials": True,
}
APP_BY_HEADER = {**APP, "app_id_header": "X-App", "ts_header": "X-Ts", "digest_header": "X-Digest"}
TOKEN: dict[str, Any] = {"category": "jwt", "secret": "s3cret", "hide_credentials": True}
TOKEN_BY_HEADER = {**TOKEN, "header": "X-Token", "cookie": "session", "query": "key"}
TOKEN_BY_COOKIE = {**TOKEN, "cookie": "session", "query": "key"}
TOKEN_BY_QUERY = {**TOKEN, "query": "key"}
SHOWN = {**BY_QUERY, "hide_credentials": False}
FORMAT = "{uri} {path} {query} {>authorization} {>x-api-key}"


def snapshot(**sections: dict[str, Any]) -> Snapshot:
    """One location for each plugin, and one without."""
    locations = {name: Location(upstream="u", plugins=(name,)) for name in sections} | {"plain": Location(upstream="u")}
    server = Server(addr=(Listen("127.0.0.1", 1),), access_log=AccessLog(FORMAT), locations=tuple(locations))
    return Snapshot(servers={"web": server}, locations=locations, plugins=sections)


def event(**changes: Any) -> Access:
    return Access(*access(server="web", **changes))


def test_every_plugin_that_hides_credentials_is_known_here() -> None:
    hiding = {category for category, kind in CATEGORIES.items() if "hide_credentials" in kind.model.model_fields}
    for section in (BY_QUERY, BY_HEADER, BASIC, APP, TOKEN_BY_HEADER, TOKEN_BY_COOKIE, TOKEN_BY_QUERY):
        assert Hidden(snapshot(p=section))
        hiding.discard(section["category"])
    assert not hiding


def test_nothing_is_covered_that_is_not_hidden() -> None:
    assert not Hidden(snapshot())
    assert not Hidden(snapshot(p=SHOWN))
    hidden = Hidden(snapshot(p=BY_QUERY, q=SHOWN))
    for location in ("plain", "q"):
        one = event(location=location, target=b"/a?key=s3cret")
        assert hidden.cover(one) is one


@pytest.mark.parametrize(
    ("section", "target", "shown"),
    [
        (BY_QUERY, b"/a?key=s3cret", b"/a?key=***"),
        (BY_QUERY, b"/a?x=1&key=s3cret&y&key=s3cret&key", b"/a?x=1&key=***&y&key=***&key"),
        (BY_QUERY, b"/a?KEY=1&keys=2", b"/a?KEY=***&keys=2"),
        (BY_QUERY, b"/a?b=1;key=s3cret;c=2&key=x;y", b"/a?b=1;key=***;c=2&key=***"),
        (BY_QUERY, b"/key=s3cret", b"/key=s3cret"),
        (BY_HEADER, b"/a?key=1", b"/a?key=1"),
        (APP, b"/a?app_id=shop&ts=1&digest=s3cret&x", b"/a?app_id=shop&ts=1&digest=***&x"),
        (APP_BY_HEADER, b"/a?digest=1", b"/a?digest=1"),
        (TOKEN_BY_QUERY, b"/a?key=s3cret", b"/a?key=***"),
        (TOKEN_BY_COOKIE, b"/a?key=1", b"/a?key=1"),
        (TOKEN_BY_HEADER, b"/a?key=1", b"/a?key=1"),
    ],
)
def test_the_value_of_a_parameter_is_covered(section: dict[str, Any], target: bytes, shown: bytes) -> None:
    assert Hidden(snapshot(p=section)).cover(event(location="p", target=target)).target == shown


def test_the_value_of_a_cookie_is_covered_and_others_are_not() -> None:
    block = b"cookie: session=s3cret; a=b;session = s3cret=; x_session=c; session\r\nx: session=1\r\ncookie: session=s3cret\r\n"
    covered = Hidden(snapshot(p=TOKEN_BY_COOKIE, q=BY_HEADER)).cover(event(location="p", request_headers=block))
    lines = b"cookie: session=***; a=b;session =***; x_session=c; session\r\nx: session=1\r\ncookie: session=***\r\n"
    assert covered.request_headers == lines
    for section in (TOKEN_BY_HEADER, TOKEN_BY_QUERY):
        assert Hidden(snapshot(p=section)).cover(event(location="p", request_headers=block)).request_headers == block


@pytest.mark.parametrize(
    ("section", "name"),
    [(BY_HEADER, b"x-api-key"), (BASIC, b"authorization"), (APP_BY_HEADER, b"x-digest"), (TOKEN_BY_HEADER, b"x-token")],
)
def test_the_value_of_a_header_is_covered(section: dict[str, Any], name: bytes) -> None:
    spelt = name.replace(b"-", b"_")
    block = b"%b: s3cret\r\nx-%b: y\r\n%b: s3cret two\r\nz: %b: q\r\n" % (name, name, spelt, name)
    covered = Hidden(snapshot(p=section)).cover(event(location="p", request_headers=block))
    assert covered.request_headers == b"%b: ***\r\nx-%b: y\r\n%b: ***\r\nz: %b: q\r\n" % (name, name, spelt, name)


SPELLINGS = st.sampled_from([b"key", b"Key", b"k", b"%6bey", b"+key", b"key[]", b"a;key", b""])


@given(st.lists(st.tuples(SPELLINGS, st.sampled_from([None, b"", b"s3cret", b"a=b", b"c;key=d"]))))
def test_what_is_covered_is_what_the_plugin_reads_and_removes(pairs: list[tuple[bytes, bytes | None]]) -> None:
    target = b"/a?" + b"&".join(name if value is None else name + b"=" + value for name, value in pairs)
    covered = Mask([b"key"], []).target(target)
    assert query_value(covered, b"key") in (None, "***")
    assert (query_value(covered, b"key") is None) == (query_value(target, b"key") is None)
    assert set(query_alike(covered, b"key")) <= {"***", ""}
    assert without_query_alike(covered, b"key") == without_query_alike(target, b"key")
    assert query_alike(without_query_alike(target, b"key"), b"key") == []


@pytest.mark.parametrize("end", ["answered", "left", "refused", "malformed"])
async def test_however_a_request_ends_its_key_is_not_told(play: Play, end: str) -> None:
    made = snapshot(p=BY_QUERY, q=BY_HEADER, r=BASIC)
    play.commits(2, snapshot=made)
    play.context.wanted = frozenset({"access"})
    client = play.connects()
    lines = (b"Authorization: s3cret", b"X-API-Key: s3cret")
    if end == "refused":
        client.says(get(b"/a?key=s3cret", *lines, b"Content-Length: x"))
    elif end == "malformed":
        client.says(b"GET /a?key=s3cret HTTP/1.1 x\r\n\r\n")
    else:
        client.says(get(b"/a?key=s3cret", *lines))
        request = play.hears_request()
        if end == "answered":
            told = [Report(name, "u", "", 200, False, 1, (), (), "", {}, "192.0.2.1") for name in "pqr"]
            play.answers(request, report=told[0])
        else:
            client.resets()
    await play.turn()
    play.actor._lines.ship()
    lines_and_events = [envelope for envelope in play.context.emitted if envelope[0] in (LINES, ACCESS)]
    assert {envelope[0] for envelope in lines_and_events} == {LINES, ACCESS}
    [(_, _, _, line)] = [envelope for envelope in lines_and_events if envelope[0] == LINES]
    assert "key=***" in line
    [one] = [envelope for envelope in lines_and_events if envelope[0] == ACCESS]
    assert b"s3cret" not in one.target
    if end == "left":  # no location is known: all that the server may hide is covered
        assert b"s3cret" not in one.request_headers
        assert "s3cret" not in line


@pytest.mark.parametrize("sent", ["/?schl%C3%BCssel=s3cret&a=1", "/?a=1&schl%c3%bcssel=s3cret", "/?schl%C3%bcssel=s3cret&a=1"])
def test_a_name_beyond_ascii_is_covered_read_and_taken_away_as_clients_send_it(sent: str) -> None:
    name = parameter("schlüssel")
    assert query_value(sent.encode(), name) == "s3cret"
    assert without_query(sent.encode(), name) == b"/?a=1"
    covered = Mask([name], []).target(sent.encode())
    assert covered.decode() == sent.replace("s3cret", "***")
