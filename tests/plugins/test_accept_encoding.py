"""`accept_encoding`, as backends and clients meet it."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.model import Location, Snapshot
from pingap.config.problems import Problem
from pingap.stages.coding.rules import CodingRules
from pingap.stages.itinerary import REQUEST_PLUGINS, RESPONSE_CODING
from pingap.stages.messages import Affinity, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.accept_encoding import AcceptEncoding, AcceptEncodingSettings
from pingap.stages.plugins.exchange import Exchange
from tests.plugins.script import PEER, PLUGINS, ROUTING, SID, UPSTREAM, Stage, lines

Section = dict[str, Any]
TEXT = b"All that is gold does not glitter. " * 40


def section(encodings: Any, **more: Any) -> Section:
    return {"category": "accept_encoding", "encodings": encodings, **more}


async def left(stage: Stage, *asked: str) -> list[str]:
    """The header lines as they go on."""
    headers = "".join(f"accept-encoding: {value}\r\n" for value in asked).encode("latin-1")
    routed = await stage.one(replace(stage.request(), headers=b"host: example.com\r\n" + headers))
    assert isinstance(routed, Routed)
    return [line.partition(": ")[2] for line in lines(routed.headers) if line.startswith("accept-encoding: ")]


@pytest.mark.parametrize("encodings", ["zstd, br,gzip", ["zstd", "br", "gzip"], ["zstd, br", "gzip"], "ZSTD BR GZIP", "zstd,,br,gzip,br"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("gzip, deflate, br, zstd", ["zstd, br, gzip"]),
        ("gzip;q=0.1, br;q=1.0", ["br, gzip"]),
        ("GZIP", ["gzip"]),
        ("x-gzip", ["gzip"]),
        ("x-gzip, gzip;q=0", []),
        ("gzipx, xbr", []),
        ("deflate", []),
        ("br;q=0, gzip", ["gzip"]),
        ("br; q=0.000 , gzip", ["gzip"]),
        ("br;q=nonsense, gzip;level=9", ["gzip"]),
        ("br;q=nan, gzip", ["gzip"]),
        ("*", ["zstd, br, gzip"]),
        ("gzip;q=0, *;q=0.5", ["zstd, br"]),
        ("*;q=0", []),
        ("br, *;q=0", ["br"]),
        ("identity", []),
        ("identity;q=0, gzip", ["gzip"]),
        (" , ;q=1", []),
        ("", [""]),
    ],
)
async def test_only_the_codings_that_are_named_are_left_in_their_order(encodings: Any, asked: str, expected: list[str]) -> None:
    async with Stage({"p": section(encodings)}) as stage:
        for _ in range(2):  # the second one is remembered
            assert await left(stage, asked) == expected


async def test_a_request_without_the_header_stays_without() -> None:
    async with Stage({"p": section("gzip")}) as stage:
        assert await left(stage) == []


async def test_several_lines_are_one_list() -> None:
    async with Stage({"p": section("br, gzip")}) as stage:
        assert await left(stage, "gzip", "deflate", "br") == ["br, gzip"]


async def test_only_one_is_left_if_that_is_wanted() -> None:
    async with Stage({"p": section("zstd, br, gzip", only_one_encoding=True)}) as stage:
        assert await left(stage, "gzip, br") == ["br"]


async def test_without_any_coding_every_request_loses_the_header() -> None:
    async with Stage({"p": {"category": "accept_encoding"}}) as stage:
        assert await left(stage, "gzip") == []


async def test_identity_is_liked_unless_it_is_excluded() -> None:
    async with Stage({"p": section("gzip, identity")}) as stage:
        assert await left(stage, "gzip") == ["gzip, identity"]
        assert await left(stage, "gzip, identity;q=0") == ["gzip"]
        assert await left(stage, "gzip, *;q=0") == ["gzip"]


async def test_the_built_in_instance_leaves_the_best_of_three() -> None:
    async with Stage({}, names=["pingap:acceptEncodingAdjustment"]) as stage:
        assert await left(stage, "gzip, deflate, br, zstd") == ["zstd"]
        assert await left(stage, "gzip, br;q=0.1") == ["br"]


# -- beside compression ----------------------------------------------------------

CODED: Section = {"category": "compression", "gzip_level": 6, "br_level": 5}


@pytest.mark.parametrize("names", [["a", "c"], ["c", "a"]])
@pytest.mark.parametrize("level", [6, 8])  # of gzip: by upstream, or by plugins
async def test_answers_get_a_coding_that_was_left(names: list[str], level: int) -> None:
    plugins = {"a": section("gzip"), "c": {**CODED, "gzip_level": level}}
    made = Snapshot(locations={"l": Location(upstream="u", plugins=tuple(names))}, plugins=plugins)
    by_upstream = checking.plans(made)["l"] == REQUEST_PLUGINS | RESPONSE_CODING
    assert by_upstream == (level == 6)
    async with Stage(plugins, names=names) as stage:
        routed = await stage.one(stage.request(headers="accept-encoding: br, gzip"))
        # What upstream would do with the request that it gets.
        verdict = CodingRules(plugins["c"]).decide(False, routed.headers, 200, b"content-type: text/html\r\n", len(TEXT))
        assert verdict.coding == "gzip"
        answered = await stage.one(stage.response("content-type: text/html", TEXT))
        assert "content-encoding: gzip" in lines(answered.headers)
        assert gzip.decompress(answered.body) == TEXT


async def test_what_a_plugin_answers_gets_a_coding_that_was_left() -> None:
    page = {"category": "mock", "headers": ["Content-Type: text/html"], "data": TEXT.decode()}
    async with Stage({"m": page, "c": CODED, "a": section("gzip")}) as stage:
        answered = await stage.one(stage.request(headers="accept-encoding: br, gzip"))
        assert gzip.decompress(answered.body) == TEXT
        plain = await stage.one(stage.request(headers="accept-encoding: br"))
        assert plain.body == TEXT


async def test_a_request_of_which_nothing_is_left_is_not_coded() -> None:
    async with Stage({"a": section("gzip"), "c": CODED}) as stage:
        answered = await stage.exchange(headers="accept-encoding: br", answer="content-type: text/html", body=TEXT)
        assert answered.body == TEXT
        assert "vary: accept-encoding" in lines(answered.headers)


# -- settings, and what clients may send ---------------------------------------------


def test_what_is_no_coding_is_refused_and_other_types_are_taken_as_they_are_meant() -> None:
    wrong = checking.check("p", section("gzip, *, br;q=0.5, ü"))
    assert [problem.path for problem in wrong] == ["plugins.p.encodings"] * 3
    assert [problem.path for problem in checking.check("p", section(5))] == ["plugins.p.encodings"]
    assert [problem.path for problem in checking.check("p", section(["gzip", 5]))] == ["plugins.p.encodings[1]"]
    told = checking.Checker()("p", written := section("gzip", only_one_encoding="true"))
    assert not [one for one in told if isinstance(one, Problem)]
    assert written["only_one_encoding"] is True


def test_it_runs_early_and_nowhere_else() -> None:
    assert not checking.check("p", section("gzip", step="early_request"))
    assert checking.check("p", section("gzip", step="response"))


def asked_for(value: bytes) -> Exchange:
    headers = b"host: example.com\r\naccept-encoding: " + value + b"\r\n"
    # fmt: off
    return Exchange(Routed(SID, 1, Affinity(ROUTING, PLUGINS, UPSTREAM), "s", PEER, b"GET", b"/", 11, b"example.com", headers, 0, b"",
        True, 0.5, b"", "192.0.2.7", "l", "u", 0, {}, (1.0, 2.0), b"", ()))
    # fmt: on


@given(st.binary(max_size=60).filter(lambda data: not {*data} & {*b"\r\n\0"}), st.booleans())
def test_no_header_breaks_it_and_nothing_comes_in_that_was_not_asked_for(value: bytes, one: bool) -> None:
    plugin = AcceptEncoding(AcceptEncodingSettings(encodings=["zstd", "gzip"], only_one_encoding=one))
    exchange = asked_for(value)
    plugin.early_request(exchange)
    after = exchange.headers.get("accept-encoding")
    assert after in (None, "", "zstd", "gzip", *(() if one else ("zstd, gzip",)))
    if after:
        assert b"*" in value or all(name.encode() in value.lower() for name in after.split(", "))


def test_values_that_clients_make_up_are_not_all_kept() -> None:
    plugin = AcceptEncoding(AcceptEncodingSettings(encodings=["gzip"]))
    for number in range(5000):
        plugin.early_request(asked_for(b"a%d" % number))
    plugin.early_request(asked_for(b"a" * 100_000))
    assert sum(map(len, plugin._kept)) < 50_000
