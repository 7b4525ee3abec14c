"""Content codings are given by plugins or by upstream, as the itinerary says: by the same rules, and an answer looks the same."""

from __future__ import annotations

import gzip
from typing import Any

import brotli
import pytest
import zstandard

from pingap.config.model import Location, Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.stages.coding.rules import BUILTIN, SLOW, CodingRules, coding_section
from pingap.stages.itinerary import REQUEST_PLUGINS, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.messages import UNKNOWN, Response, Routed
from pingap.stages.plugins import checking
from tests.plugins.script import Stage, block, lines
from tests.upstream.playbook import Play

TEXT = b"All that is gold does not glitter. " * 40
GZIP: dict[str, Any] = {"category": "compression", "gzip_level": 6}
ALL: dict[str, Any] = {"category": "compression", "gzip_level": 6, "br_level": 5, "zstd_level": 3}
ID: dict[str, Any] = {"category": "request_id"}
HTML = "content-type: text/html"
TAG = '\netag: "a"'


def unpacked(coding: str, body: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    if coding == "br":
        return brotli.decompress(body)  # type: ignore[no-any-return]
    return zstandard.ZstdDecompressor().decompressobj().decompress(body) if coding else body


def coding_of(response: Response) -> str:
    return next((line[18:] for line in lines(response.headers) if line.startswith("content-encoding: ")), "")


async def by_plugins(section: dict[str, Any], method: str, asked: str, status: int, answer: str, body: bytes) -> Response:
    async with Stage({"p": section}) as stage:
        await stage.run(stage.request(headers=asked, method=method.encode()))
        sent = b"" if method == "HEAD" or status in (204, 304) else body
        answered = await stage.one(stage.response(answer, sent, status=status, length=UNKNOWN if status in (204, 304) else len(body)))
        assert isinstance(answered, Response)
        return answered


async def by_upstream(
    monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], method: str, asked: str, status: int, answer: str, body: bytes
) -> Response:
    play = Play(monkeypatch)
    await play.begin()
    play.generation += 1
    made = Snapshot(
        locations={"site": Location(upstream="api", plugins=("p",))},
        upstreams={"api": Upstream(addrs=(Backend("a", 1, 1),))},
        plugins={"p": section},
    )
    play.publishes(play.generation, made)
    assert checking.plans(made)["site"] == RESPONSE_CODING
    sid = play.asks(method.encode(), headers=b"host: example.com\r\n" + block(asked), plan=RESPONSE_CODING)
    await play.turn()
    framing = b"" if status in (204, 304) else b"content-length: %d\r\n" % len(body)
    sent = b"" if method == "HEAD" or status in (204, 304) else body
    play.backend().link.says(b"HTTP/1.1 %d X\r\n%b%b\r\n%b" % (status, block(answer), framing, sent))
    answered = play.hears_response(sid)
    await play.end()
    return answered


@pytest.mark.parametrize(
    ("section", "method", "asked", "status", "answer", "body"),
    [
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML, TEXT),
        (ALL, "GET", "accept-encoding: gzip, deflate, br", 200, HTML, TEXT),
        (ALL, "GET", "accept-encoding: gzip, br, zstd", 200, "content-type: application/json; charset=utf-8", TEXT),
        (ALL, "POST", "accept-encoding: br;q=0.5\naccept-encoding: gzip;q=0.7", 200, HTML, TEXT),
        (ALL, "GET", "accept-encoding: identity, gzip;q=0.5", 200, HTML, TEXT),
        (ALL, "GET", "accept-encoding: *", 200, HTML + TAG, TEXT),
        (ALL, "GET", "", 200, HTML + TAG, TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 404, HTML, TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 206, HTML + "\ncontent-range: bytes 0-1/9", b"ab" * 20),
        (GZIP, "GET", "accept-encoding: gzip", 204, HTML, b""),
        (GZIP, "GET", "accept-encoding: gzip", 304, TAG, b""),
        (GZIP, "GET", "accept-encoding: gzip", 304, HTML + TAG + "\nvary: origin", b""),
        (GZIP, "GET", "accept-encoding: gzip", 304, "content-type: image/png" + TAG, b""),
        (GZIP, "GET", 'if-none-match: "b"\nif-none-match: W/"a"', 304, TAG, b""),
        (GZIP, "HEAD", "accept-encoding: gzip", 200, HTML + TAG, TEXT),
        (GZIP, "HEAD", "", 200, HTML + TAG, TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, 'etag: "a"\naccept-ranges: bytes\ncontent-type: text/html\nvary: Origin', TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + '\netag: W/"a"\nvary: origin, Accept-Encoding', TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + "\nvary: *", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + "\ncache-control: public\ncache-control: No-Transform", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + "\ncache-control: public", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + "\ncontent-encoding: br", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, "content-encoding: identity\n" + HTML + "\ncontent-encoding: identity", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML + "\nx-etag: 1\nx-vary: accept-encoding\nx-content-encoding: br", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, "content-type: image/png", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, "content-type: text/event-stream", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, "content-type: application/problem+json", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, "", TEXT),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML, b"short"),
        (GZIP, "GET", "accept-encoding: gzip", 200, HTML, b""),
        ({**GZIP, "mode": "upstream"}, "GET", "accept-encoding: gzip", 200, HTML, b"short"),
        ({**GZIP, "mode": "upstream"}, "GET", "accept-encoding: gzip", 200, "content-type: application/problem+json", TEXT),
        ({**GZIP, "min_length": 5000}, "GET", "accept-encoding: gzip", 200, HTML, TEXT),
        ({**GZIP, "min_length": 500}, "GET", "accept-encoding: gzip", 200, HTML, TEXT),
        ({**GZIP, "content_types": ["Image/*", "text/event-stream"]}, "GET", "accept-encoding: gzip", 200, "content-type: image/png", TEXT),
        ({**GZIP, "content_types": ["text/event-stream"]}, "GET", "accept-encoding: gzip", 200, "content-type: text/event-stream", TEXT),
        ({**GZIP, "content_types": ["image/*"]}, "GET", "accept-encoding: gzip", 200, HTML, TEXT),
    ],
)  # fmt: skip
async def test_an_answer_looks_the_same_whichever_stage_codes_it(
    monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], method: str, asked: str, status: int, answer: str, body: bytes
) -> None:
    there = await by_plugins(section, method, asked, status, answer, body)
    here = await by_upstream(monkeypatch, section, method, asked, status, answer, body)
    assert lines(here.headers) == lines(there.headers)
    assert (here.status, here.length, here.body, here.ended) == (there.status, there.length, there.body, True)
    is_bodiless = method == "HEAD" or status in (204, 304)
    is_coded = not is_bodiless and here.body != body
    if is_coded:
        assert unpacked(coding_of(here), here.body) == body
    assert here.report is not None and there.report is not None
    for name in ("compression_ratio", "compression_time"):
        assert (name in here.report.context) == (name in there.report.context) == is_coded


@pytest.mark.parametrize(
    ("plugins", "names", "plan"),
    [
        ({"p": GZIP}, ["p"], RESPONSE_CODING),
        ({}, ["pingap:compression"], RESPONSE_CODING),
        ({"p": {**GZIP, "mode": "upstream"}}, ["p"], RESPONSE_CODING),
        ({"p": GZIP, "i": {"category": "limit", "max": 9}}, ["i", "p"], REQUEST_PLUGINS | RESPONSE_CODING),
        ({"p": GZIP, "h": {"category": "response_headers", "set_headers": ["A: b"]}}, ["h", "p"], REQUEST_PLUGINS | RESPONSE_PLUGINS),
        ({"p": GZIP, "q": ALL}, ["p", "q"], REQUEST_PLUGINS | RESPONSE_PLUGINS),
        ({"p": {**GZIP, "decompression": True}}, ["p"], REQUEST_PLUGINS | RESPONSE_PLUGINS),
        ({"p": {**ALL, "br_level": SLOW["br"]}}, ["p"], REQUEST_PLUGINS | RESPONSE_PLUGINS),
    ],
)
def test_upstream_codes_where_plugins_would_do_nothing_else_with_answers(
    plugins: dict[str, dict[str, Any]], names: list[str], plan: int
) -> None:
    locations = {"l": Location(upstream="u", plugins=tuple(names)), "here": Location(plugins=tuple(names))}
    plans = checking.plans(Snapshot(locations=locations, plugins=plugins))
    assert plans == {"l": plan, "here": plans["here"] & ~RESPONSE_CODING | REQUEST_PLUGINS}


async def test_what_plugins_answer_themselves_is_coded_by_them_and_what_a_backend_answers_does_not_come_there() -> None:
    page = {"category": "mock", "path": "/page", "headers": ["Content-Type: application/json"], "data": TEXT.decode()}
    async with Stage({"page": page, "p": GZIP}) as stage:
        stage.plan = REQUEST_PLUGINS | RESPONSE_CODING
        answered = await stage.one(stage.request("/page", "accept-encoding: gzip"))
        assert (coding_of(answered), gzip.decompress(answered.body)) == ("gzip", TEXT)
        routed = await stage.one(stage.request("/other", "accept-encoding: gzip"))
        assert isinstance(routed, Routed) and routed.plan & RESPONSE_CODING
        assert stage.actor.held() == 0, "nothing is waited for"


def test_the_section_is_that_of_the_location_and_else_the_built_in_one() -> None:
    sections = {"p": GZIP, "x": {"category": "ping", "path": "/ping"}}
    assert coding_section(("x", "p"), sections) is GZIP
    assert coding_section(("x", "pingap:compression"), sections) == BUILTIN["pingap:compression"]
    assert coding_section(("pingap:compression",), {"pingap:compression": GZIP}) is GZIP
    assert coding_section(("x", "pingap:requestId"), sections) is None


def test_verdicts_of_many_clients_are_not_all_kept() -> None:
    rules = CodingRules(GZIP)
    for number in range(5000):
        asked, said = b"accept-encoding: gzip;v=%d\r\n" % number, b"content-type: text/html;v=%d\r\n" % number
        assert rules.decide(False, asked, 200, said, 100).coding == "gzip"
    assert max(len(rules._chosen), len(rules._verdicts)) <= 1024
