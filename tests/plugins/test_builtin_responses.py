"""Built-in plugins that look at answers: header lines, compression, substitution."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard

from pingap.stages.messages import UNKNOWN, WINDOW, Data, Response, Routed
from tests.plugins.script import Stage, bodies, data, lines

TEXT = b"All that is gold does not glitter. " * 40
GZIP: dict[str, Any] = {"category": "compression", "gzip_level": 6}
ALL: dict[str, Any] = {"category": "compression", "gzip_level": 6, "br_level": 6, "zstd_level": 3}


def unpack(coding: str, body: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    if coding == "br":
        return brotli.decompress(body)  # type: ignore[no-any-return]
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


def header(response: Response, name: str) -> str | None:
    return next((line.partition(": ")[2] for line in lines(response.headers) if line.startswith(f"{name}: ")), None)


# -- response_headers ---------------------------------------------------------


async def test_header_operations_run_in_their_fixed_order() -> None:
    section = {
        "category": "response_headers",
        "rename_headers": ["X-Old: X-New", "X-Two: X-New"],
        "set_headers_not_exists": ["Cache-Control: no-cache", "X-Kept: not this"],
        "set_headers": ["X-Frame-Options: DENY", "X-Old: set"],
        "remove_headers": ["Server", "X-Added"],
        "add_headers": ["X-Added: 1", "X-Kept: 2", "Vary: origin"],
    }
    async with Stage({"p": section}) as stage:
        answered = await stage.exchange(answer="server: nginx\nx-old: a\nvary: accept\nx-two: b\nx-old: c", body=b"x")
    assert lines(answered.headers) == [
        "vary: accept",
        "x-kept: 2",
        "vary: origin",
        "x-frame-options: DENY",
        "cache-control: no-cache",
        "x-new: set",
        "x-new: b",
    ]


async def test_header_values_may_be_variables() -> None:
    section = {
        "category": "response_headers",
        "add_headers": ["A: $remote_addr", "B: $upstream_addr", "C: $http_user_agent", "D: :request_id", "E: $host", "F: x-$scheme"],
        "set_headers": ["X-Unset: $http_missing"],
    }
    async with Stage({"p": section}, names=["pingap:requestId", "p"]) as stage:
        answered = await stage.exchange(headers="user-agent: test\nx-request-id: id-7", answer="x-unset: gone")
    assert lines(answered.headers) == ["a: 192.0.2.7", "b: 127.0.0.1:9000", "c: test", "d: id-7", "e: example.com", "f: x-http"]


async def test_upstream_mode_comes_before_the_response_step_of_all_others() -> None:
    late = {"category": "response_headers", "set_headers_not_exists": ["X: late"]}
    early = {"category": "response_headers", "mode": "upstream", "set_headers": ["X: early"]}
    async with Stage({"late": late, "early": early}) as stage:
        assert lines((await stage.exchange()).headers) == ["x: early"]


async def test_a_body_that_nobody_changes_keeps_its_length_and_goes_through_as_it_is() -> None:
    async with Stage({"p": {"category": "response_headers", "set_headers": ["X: 1"]}}) as stage:
        await stage.run(stage.request())
        head = await stage.one(stage.response("content-type: a/b", b"12", ended=False, length=6))
        assert (head.length, head.body, head.ended, head.source) == (6, b"12", False, stage.context.id)
        assert stage.feed(data(b"34")) == [data(b"34")]
        assert stage.feed(data(b"56", ended=True)) == [data(b"56", ended=True)]
        assert stage.actor.held() == 0


# -- compression ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "br"),
        ("gzip, br, zstd", "zstd"),
        ("GZIP", "gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("zstd;q=0, br;q=0.1, gzip;q=0.1", "br"),
        ("x-gzip", None),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=x", None),
        ("*", None),
        ("", None),
    ],
)
async def test_the_coding_is_what_the_client_likes_best(accepted: str, coding: str | None) -> None:
    async with Stage({"p": ALL}) as stage:
        answered = await stage.exchange(headers=f"accept-encoding: {accepted}", answer="content-type: text/html", body=TEXT)
    assert header(answered, "content-encoding") == coding
    assert header(answered, "vary") == "accept-encoding"
    assert (unpack(coding, answered.body) if coding else answered.body) == TEXT
    assert answered.length == len(answered.body)


@pytest.mark.parametrize("name", ["pingap:compression", "pingap:compressionUpstream"])
async def test_the_built_in_instances_compress(name: str) -> None:
    async with Stage({}, names=[name]) as stage:
        answered = await stage.exchange(headers="accept-encoding: gzip", answer="content-type: application/json", body=TEXT)
    assert unpack("gzip", answered.body) == TEXT


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        ("content-type: image/png", {}),
        ("", {}),
        ("content-type: text/event-stream", {}),
        ("content-type: text/html\ncontent-encoding: br", {}),
        ("content-type: text/html\ncache-control: public, No-Transform", {}),
        ("content-type: text/html\ncontent-range: bytes 0-9/90", {"status": 206}),
        ("content-type: text/html", {"body": b"short"}),
        ("content-type: text/html", {"status": 304, "body": b""}),
        ("content-type: text/html", {"status": 204, "body": b""}),
    ],
)
async def test_what_must_not_be_compressed_is_left_alone(answer: str, more: dict[str, Any]) -> None:
    async with Stage({"p": GZIP}) as stage:
        answered = await stage.exchange(headers="accept-encoding: gzip", answer=answer, **{"body": TEXT, **more})
    assert header(answered, "content-encoding") in (None, "br")
    assert answered.body == more.get("body", TEXT)


@pytest.mark.parametrize(
    ("answer", "vary"),
    [
        ("content-type: text/html", "accept-encoding"),
        ("content-type: text/html\nvary: origin, accept-encoding", "origin, accept-encoding"),
        ("content-type: image/png", None),
        ("content-type: text/html\ncontent-encoding: br", None),
    ],
)
async def test_a_part_says_that_the_whole_depends_on_what_is_accepted(answer: str, vary: str | None) -> None:
    async with Stage({"p": GZIP}) as stage:
        answered = await stage.exchange(answer=answer + "\ncontent-range: bytes 0-9/90", status=206, body=TEXT)
    assert header(answered, "vary") == vary and answered.body == TEXT


async def test_an_answer_to_head_is_not_compressed() -> None:
    async with Stage({"p": GZIP}) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip", method=b"HEAD"))
        answered = await stage.one(stage.response("content-type: text/html", b"", length=5000))
    assert (answered.length, answered.body, header(answered, "content-encoding")) == (5000, b"", None)


async def test_min_length_applies_to_what_is_known_to_be_shorter() -> None:
    async with Stage({"p": {**GZIP, "mode": "upstream", "min_length": 5000}}) as stage:
        headers, answer = "accept-encoding: gzip", "content-type: text/html"
        assert header(await stage.exchange(headers=headers, answer=answer, body=TEXT), "content-encoding") is None
        assert header(await stage.exchange(headers=headers, answer=answer, body=TEXT * 9), "content-encoding") == "gzip"
        assert header(await stage.exchange(headers=headers, answer=answer, body=TEXT, length=UNKNOWN), "content-encoding") == "gzip"


async def test_upstream_mode_compresses_the_types_of_its_documentation_only() -> None:
    async with Stage({"p": {**GZIP, "mode": "upstream"}}) as stage:
        for kind, coding in (("application/json", "gzip"), ("text/css; charset=x", "gzip"), ("application/javascript", None)):
            answered = await stage.exchange(headers="accept-encoding: gzip", answer=f"content-type: {kind}", body=TEXT)
            assert header(answered, "content-encoding") == coding


async def test_content_types_can_be_chosen_even_event_streams() -> None:
    async with Stage({"p": {**GZIP, "content_types": ["text/event-stream", "Image/*"]}}) as stage:
        for kind, coding in (("text/event-stream", "gzip"), ("image/png", "gzip"), ("text/html", None)):
            answered = await stage.exchange(headers="accept-encoding: gzip", answer=f"content-type: {kind}", body=TEXT)
            assert header(answered, "content-encoding") == coding


async def test_validators_of_a_compressed_answer_are_weak_and_ranges_are_not_offered() -> None:
    answer = 'content-type: text/html\netag: "a"\naccept-ranges: bytes\nvary: Origin'
    async with Stage({"p": GZIP}) as stage:
        answered = await stage.exchange(headers="accept-encoding: gzip", answer=answer, body=TEXT)
        plain = await stage.exchange(answer=answer, body=TEXT)
    assert (header(answered, "etag"), header(answered, "accept-ranges")) == ('W/"a"', None)
    assert (header(plain, "etag"), header(plain, "accept-ranges")) == ('"a"', "bytes")
    assert [line for line in lines(plain.headers) if line.startswith("vary")] == ["vary: Origin", "vary: accept-encoding"]


HTML = "content-type: text/html"
SUB: dict[str, Any] = {"category": "sub_filter", "filters": ["sub_filter 'gold' 'lead' g"]}


@pytest.mark.parametrize(
    "section", [GZIP, {**GZIP, "mode": "upstream"}, {**GZIP, "decompression": True}, SUB], ids=["usual", "up", "un", "sub"]
)
@pytest.mark.parametrize(
    ("asked", "answer", "name", "members"),
    [
        ("", HTML, "cache-control", ["public", "no-transform"]),
        ("", HTML, "cache-control", ["max-age=1", "No-Transform", "public"]),
        ("", HTML, "content-encoding", ["identity", "br"]),
        ("", HTML, "content-encoding", ["gzip", "br"]),
        ("", HTML, "vary", ["origin", "Accept-Encoding"]),
        ("", HTML, "vary", ["origin", "*"]),
        ("accept-encoding", HTML, "accept-encoding", ["br", "gzip"]),
        ("accept-encoding", HTML, "accept-encoding", ["identity", "gzip;q=0"]),
    ],
)
async def test_a_list_means_the_same_on_one_line_and_on_several(
    section: dict[str, Any], asked: str, answer: str, name: str, members: list[str]
) -> None:
    """RFC 9110 section 5.3."""
    found = []
    for split in ([", ".join(members)], members):
        block = "\n".join(f"{name}: {value}" for value in split)
        headers, said = (block, answer) if asked else ("accept-encoding: gzip", f"{answer}\n{block}")
        async with Stage({"p": section}) as stage:
            answered = await stage.exchange(headers=headers, answer=said, body=TEXT)
        rest = [line for line in lines(answered.headers) if not line.startswith(f"{name}: ")]
        added = [line for line in lines(answered.headers) if line.startswith(f"{name}: ")][len(split) if not asked else 0 :]
        found.append((rest, added, answered.body))
    assert found[0] == found[1]
    if "transform" in members[1].lower() and section is not SUB:
        assert found[0][2] == TEXT


TAGGED = 'etag: "a"'


@pytest.mark.parametrize(
    ("section", "asked", "answer", "tag", "varies"),
    [
        (GZIP, "accept-encoding: gzip", "", 'W/"a"', True),
        (GZIP, "accept-encoding: gzip", HTML, 'W/"a"', True),
        (GZIP, "accept-encoding: gzip", "content-type: image/png", '"a"', False),
        (GZIP, "accept-encoding: gzip", "cache-control: no-transform", '"a"', False),
        (GZIP, "", "", '"a"', True),
        (GZIP, 'if-none-match: W/"a"', "", 'W/"a"', True),
        (GZIP, 'if-none-match: "b"\nif-none-match: W/"a"', "", 'W/"a"', True),
        ({**GZIP, "mode": "upstream"}, "accept-encoding: gzip", HTML, 'W/"a"', True),
        ({"category": "compression", "decompression": True}, 'if-none-match: W/"a"', "", 'W/"a"', True),
        ({"category": "compression", "decompression": True}, 'if-none-match: "a"', "", '"a"', False),
        (SUB, "", "", 'W/"a"', False),
        ({**SUB, "status_codes": "200"}, "", "", 'W/"a"', False),
        ({**SUB, "status_codes": "404"}, "", "", '"a"', False),
    ],
)
async def test_a_304_says_of_the_answer_what_the_200_said(section: dict[str, Any], asked: str, answer: str, tag: str, varies: bool) -> None:
    async with Stage({"p": section}) as stage:
        answered = await stage.exchange(headers=asked, answer=f"{answer}\n{TAGGED}", status=304)
    assert (answered.status, header(answered, "etag"), header(answered, "content-encoding")) == (304, tag, None)
    assert header(answered, "vary") == ("accept-encoding" if varies else None)


async def test_the_tag_of_an_answer_to_head_is_that_of_get() -> None:
    async with Stage({"p": GZIP}) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip", method=b"HEAD"))
        answered = await stage.one(stage.response(f"{HTML}\n{TAGGED}", b"", length=5000))
    assert (header(answered, "etag"), header(answered, "vary")) == ('W/"a"', "accept-encoding")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_whole_answer_is_coded_at_once_and_its_length_is_known(coding: str) -> None:
    async with Stage({"p": ALL}) as stage:
        stage.feed(stage.request(headers=f"accept-encoding: {coding}"))
        [answered] = stage.feed(stage.response("content-type: text/html", TEXT))
        assert (answered.ended, answered.length, unpack(coding, answered.body)) == (True, len(answered.body), TEXT)
        assert stage.actor.held() == 0


@pytest.mark.parametrize("level", range(1, 10))
async def test_what_each_level_of_gzip_makes_is_read_by_zlib(level: int) -> None:
    """Whole and in pieces: zlib-ng makes it, and most clients have zlib."""
    text = bytes(range(256)) * 40 + TEXT * 35
    async with Stage({"p": {**GZIP, "gzip_level": level}}) as stage:
        whole = await stage.exchange(headers="accept-encoding: gzip", answer="content-type: text/html", body=text)
        assert gzip.decompress(whole.body) == text
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        out = await stage.run(stage.response("content-type: text/html", text[:5000], ended=False))
        out += await stage.run(data(text[5000:30000]))
        out += await stage.run(data(text[30000:], ended=True))
    reader = zlib.decompressobj(31)
    assert reader.decompress(bodies(out)) == text and reader.eof and not reader.unused_data


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_each_piece_of_a_slow_body_can_be_read_when_it_comes(coding: str) -> None:
    readers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
    }
    reader = readers[coding]()
    async with Stage({"p": ALL}) as stage:
        await stage.run(stage.request(headers=f"accept-encoding: {coding}"))
        [head] = await stage.run(stage.response("content-type: text/html", b"", ended=False))
        assert (head.length, head.ended, head.body) == (UNKNOWN, False, b"")
        for text in (b"first line\n", b"second line\n"):
            [piece] = await stage.run(data(text))
            assert isinstance(piece, Data) and not piece.ended
            assert reader(piece.payload) == text
        [last] = await stage.run(data(b"end", ended=True))
        assert last.ended and reader(last.payload) == b"end"
        assert stage.actor.held() == 0


async def test_the_access_log_learns_time_and_ratio_with_the_head_or_with_the_end() -> None:
    async with Stage({"p": GZIP}) as stage:
        small = await stage.exchange(headers="accept-encoding: gzip", answer="content-type: text/html", body=TEXT)
        assert small.report is not None
        assert small.report.context["compression_ratio"] > 5
        assert small.report.context["compression_time"] > 0
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        [head] = await stage.run(stage.response("content-type: text/html", TEXT, ended=False))
        assert "compression_ratio" not in head.report.context
        out = await stage.run(data(TEXT, ended=True))
        assert out[-1].ended and out[-1].context["compression_ratio"] > 5


async def test_decompression_is_for_clients_that_take_no_coding() -> None:
    section = {"category": "compression", "decompression": True}
    async with Stage({"p": section}) as stage:
        for coding, packed in (("gzip", gzip.compress(TEXT) + gzip.compress(TEXT)), ("br", brotli.compress(TEXT * 2))):
            answer = f"content-type: text/html\ncontent-encoding: {coding}"
            plain = await stage.exchange(answer=answer, body=packed)
            assert (plain.body, header(plain, "content-encoding"), header(plain, "vary")) == (TEXT * 2, None, "accept-encoding")
            kept = await stage.exchange(headers=f"accept-encoding: {coding}", answer=answer, body=packed)
            assert (kept.body, header(kept, "content-encoding")) == (packed, coding)


async def test_decompressed_answers_are_compressed_again_as_the_client_likes() -> None:
    async with Stage({"p": {**ALL, "decompression": True}}) as stage:
        answer = "content-type: text/html\ncontent-encoding: gzip"
        answered = await stage.exchange(headers="accept-encoding: br", answer=answer, body=gzip.compress(TEXT))
    assert header(answered, "content-encoding") == "br"
    assert unpack("br", answered.body) == TEXT


async def test_a_body_that_is_not_what_it_says_fails_and_does_not_look_complete() -> None:
    async with Stage({"p": {"category": "compression", "decompression": True}}) as stage:
        answer = "content-type: text/html\ncontent-encoding: gzip"
        failed = await stage.exchange(answer=answer, body=b"not gzip at all")
        assert failed.status == 500
        assert failed.report is not None and failed.report.error == "plugin_failed"
        packed = gzip.compress(TEXT)
        cut = await stage.exchange(answer=answer, body=packed[:-9])
        assert cut.status == 500


async def test_a_bomb_is_unpacked_no_faster_than_the_client_reads() -> None:
    bomb = gzip.compress(bytes(256 * 1024 * 1024))
    async with Stage({"p": {"category": "compression", "decompression": True}}) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("content-encoding: gzip", bomb[:200000], ended=False))
        assert len(bodies(out)) == WINDOW
        flow = stage.actor.streams.by_sid[(1 << 32) + 7].download.flow  # type: ignore[union-attr]
        assert flow.ready <= 128 * 1024


async def test_plugins_that_answer_are_compressed_too() -> None:
    page = {"category": "mock", "headers": ["Content-Type: application/json"], "data": TEXT.decode()}
    async with Stage({"page": page}, names=["page", "pingap:compression"]) as stage:
        answered = await stage.one(stage.request(headers="accept-encoding: gzip"))
    assert header(answered, "content-encoding") == "gzip"
    assert unpack("gzip", answered.body) == TEXT


async def test_error_pages_of_upstream_go_through_untouched() -> None:
    async with Stage({"h": {"category": "response_headers", "set_headers": ["X: 1"]}, "p": GZIP}) as stage:
        answered = await stage.exchange(
            headers="accept-encoding: gzip", answer="content-type: text/html", body=TEXT, status=502, error="bad_gateway"
        )
    assert (answered.status, answered.body, lines(answered.headers)) == (502, TEXT, ["content-type: text/html"])


async def test_long_pieces_at_costly_levels_are_compressed_beside_the_loop() -> None:
    body = TEXT * 100
    async with Stage({"p": {"category": "compression", "br_level": 9}}) as stage:
        await stage.run(stage.request(headers="accept-encoding: br"))
        out = stage.feed(stage.response("content-type: text/html", body))
        stream = next(iter(stage.actor.streams.by_sid.values()))
        assert stream.download is not None and stream.download.task is not None
        await stream.download.task
        out += stage.out()
    assert unpack("br", bodies(out)) == body


# -- sub_filter ----------------------------------------------------------------------


def rules(*filters: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {"p": {"category": "sub_filter", "filters": list(filters), **more}}


@pytest.mark.parametrize(
    ("filters", "body", "expected"),
    [
        (["sub_filter 'a' 'b'"], b"aaa", b"baa"),
        (["sub_filter 'a' 'b' g"], b"aaa", b"bbb"),
        (["sub_filter  'http://old' 'https://new'  g"], b"x http://old/1 HTTP://OLD http://old", b"x https://new/1 HTTP://OLD https://new"),
        (["sub_filter 'http://old' 'n' gi"], b"http://old HTTP://OLD", b"n n"),
        (["sub_filter 'a' ''  g"], b"banana", b"bnn"),
        (["subs_filter '<title>(.*?)</title>' '<title>$1 - Docs</title>' i"], b"<TITLE>x</TITLE>", b"<title>x - Docs</title>"),
        (["subs_filter '(?P<a>[a-z])(\\d)' '${2}${a}$$' g"], b"a1 b2", b"1a$ 2b$"),
        (["subs_filter '^a' 'b' g"], b"aaa", b"baa"),
        (["subs_filter 'x*' '-' g"], b"axb", b"-a-b-"),
        (["sub_filter 'a' 'bb' g", "subs_filter 'b+' 'c'", "sub_filter 'bb' 'd'"], b"a a a", b"c d bb"),
    ],
)
@pytest.mark.parametrize("size", [1000, 1])
async def test_rules_replace_the_same_whole_or_byte_by_byte(filters: list[str], body: bytes, expected: bytes, size: int) -> None:
    async with Stage(rules(*filters)) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("content-type: text/html", b"", ended=False))
        for at in range(0, len(body), size):
            out += await stage.run(data(body[at : at + size], ended=at + size >= len(body)))
    assert bodies(out) == expected
    assert out[0].length == UNKNOWN and out[-1].ended


async def test_a_literal_holds_back_no_more_than_the_beginning_of_a_match() -> None:
    async with Stage(rules("sub_filter '</head>' '<script></head>'")) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("content-type: text/event-stream", b"", ended=False))
        assert bodies(await stage.run(data(b"data: <b> </he"))) == b"data: <b> "
        assert bodies(await stage.run(data(b"y\n\n"))) == b"</hey\n\n"
        assert bodies(await stage.run(data(b"</he"))) == b""
        assert bodies(await stage.run(data(b"ad>", ended=True))) == b"<script></head>"


async def test_regexes_leave_event_streams_alone() -> None:
    async with Stage(rules("subs_filter 'a+' 'b' g")) as stage:
        assert (await stage.exchange(answer="content-type: text/event-stream", body=b"aa")).body == b"aa"


@pytest.mark.parametrize(
    ("more", "target", "answer", "status", "body"),
    [
        ({"path": "^/docs"}, "/docs/1", "", 200, b"b"),
        ({"path": "^/docs"}, "/other", "", 200, b"a"),
        ({"status_codes": "200, 404"}, "/", "", 404, b"b"),
        ({"status_codes": "200,404"}, "/", "", 500, b"a"),
        ({}, "/", "content-encoding: gzip", 200, b"a"),
        ({}, "/", "content-encoding: identity", 200, b"b"),
        ({}, "/", "content-range: bytes 0-1/2", 206, b"a"),
    ],
)
async def test_substitution_is_limited_to_what_was_asked_for(
    more: dict[str, str], target: str, answer: str, status: int, body: bytes
) -> None:
    async with Stage(rules("sub_filter 'a' 'b'", **more)) as stage:
        assert (await stage.exchange(target, answer=answer, body=b"a", status=status)).body == body


async def test_substitution_comes_before_compression_whatever_their_order() -> None:
    plugins = {"zip": GZIP, **rules("sub_filter 'gold' 'lead' g")}
    async with Stage(plugins) as stage:
        answered = await stage.exchange(headers="accept-encoding: gzip", answer="content-type: text/html", body=TEXT)
    assert unpack("gzip", answered.body) == TEXT.replace(b"gold", b"lead")


async def test_replacements_that_grow_do_so_no_faster_than_the_client_reads() -> None:
    async with Stage(rules(f"sub_filter 'a' '{'x' * 1000}' g")) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"a" * 200_000, ended=False))
        assert len(bodies(out)) == WINDOW
        stream = next(iter(stage.actor.streams.by_sid.values()))
        assert stream.download is not None and stream.download.flow.ready < 200_000


async def test_a_websocket_body_is_never_looked_at() -> None:
    async with Stage(rules("sub_filter 'a' 'b' g")) as stage:
        routed = await stage.one(stage.request(upgrade=b"websocket"))
        assert isinstance(routed, Routed) and routed.upgrade == b"websocket"
        head = await stage.one(stage.response("", b"", ended=False, status=101))
        assert head.status == 101
        assert bodies(await stage.run(data(b"aaa"))) == b"aaa"
