"""`ua_restriction` and `referer_restriction`, as clients meet them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.problems import Note, Problem
from pingap.plugin import CONTINUE, Headers
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin.admission import Admission
from pingap.stages.plugins.builtin.header_admission import LONGEST, HeaderAdmission
from pingap.stages.plugins.builtin.referer_restriction import host_of
from tests.plugins.script import Stage

Section = dict[str, Any]
UA, REFERER = "ua_restriction", "referer_restriction"
LIST = {UA: "ua_list", REFERER: "referer_list"}
LINE = {UA: b"user-agent", REFERER: b"referer"}


async def status(stage: Stage, category: str, *values: str | bytes, **more: Any) -> int:
    """403, or 0 for a request that goes on."""
    raw = [value if isinstance(value, bytes) else value.encode() for value in values]
    headers = b"".join(b"%b: %b\r\n" % (LINE[category], value) for value in raw)
    decided = await stage.one(replace(stage.request(**more), headers=b"host: example.com\r\n" + headers))
    assert isinstance(decided, Response | Routed)
    return decided.status if isinstance(decided, Response) else 0


def section(category: str, listed: list[str], kind: str = "allow", **more: Any) -> Section:
    return {"category": category, LIST[category]: listed, "type": kind, **more}


async def passes(category: str, listed: list[str], *values: str | bytes) -> bool:
    """Whether it does where the listed are let in; who are kept out where they are not is the same, but for several lines."""
    verdicts = []
    for kind in ("allow", "Deny"):
        async with Stage({"p": section(category, listed, kind)}) as stage:
            found = {await status(stage, category, *values) for _ in range(2)}  # the second one is remembered
            assert len(found) == 1
            verdicts.append(found == {0})
    assert verdicts[0] is not verdicts[1]
    return verdicts[0]


# -- both ----------------------------------------------------------------------------


@pytest.mark.parametrize(("category", "listed"), [(UA, "^curl/"), (REFERER, "example.com")])
async def test_who_is_kept_out_gets_a_403_with_the_message(category: str, listed: str) -> None:
    for message, body in (("Members only", b"Members only"), ("", b"Request is forbidden")):
        async with Stage({"p": section(category, [listed], message=message)}) as stage:
            refused = await stage.one(stage.request())
            assert isinstance(refused, Response)
            assert (refused.status, refused.body) == (403, body)
            assert b"cache-control: private, no-cache" in refused.headers
    async with Stage({"p": {"category": category}}) as stage:
        assert await status(stage, category, "http://example.com/") == 403, "allow is the usual type, and nobody is listed"


@pytest.mark.parametrize("category", [UA, REFERER])
@pytest.mark.parametrize(
    ("kind", "missing", "expected"),
    [("allow", "", 403), ("deny", "", 0), ("allow", "allow", 0), ("deny", "allow", 0), ("allow", "deny", 403), ("deny", "deny", 403)],
)
async def test_without_the_header_a_request_is_not_listed_unless_missing_says_otherwise(
    category: str, kind: str, missing: str, expected: int
) -> None:
    async with Stage({"p": section(category, ["*" if category == REFERER else ".*"], kind, missing=missing)}) as stage:
        assert await status(stage, category) == expected
        assert await status(stage, category, "http://a/") == (0 if kind == "allow" else 403)


@pytest.mark.parametrize(("category", "good", "other"), [(UA, "good", "other"), (REFERER, "http://good/", "http://other/")])
async def test_of_several_lines_each_has_to_pass(category: str, good: str, other: str) -> None:
    async with Stage({"p": section(category, ["good"])}) as stage:
        assert await status(stage, category, good, good) == 0
        assert await status(stage, category, good, other) == await status(stage, category, other, good) == 403
    async with Stage({"p": section(category, ["good"], "deny")}) as stage:
        assert await status(stage, category, other, other) == 0
        assert await status(stage, category, good, other) == await status(stage, category, other, good) == 403


@pytest.mark.parametrize("category", [UA, REFERER])
@pytest.mark.parametrize("kind", ["allow", "deny"])
async def test_no_padding_hides_what_is_looked_for(category: str, kind: str) -> None:
    listed = ["*"] if category == REFERER else [".*", "curl"]
    async with Stage({"p": section(category, listed, kind)}) as stage:
        assert await status(stage, category, b"a" * (LONGEST + 1)) == 403
        assert await status(stage, category, b"a" * LONGEST) == (0 if kind == "allow" else 403)


@pytest.mark.parametrize("category", [UA, REFERER])
async def test_an_upgrade_is_judged_as_well(category: str) -> None:
    async with Stage({"p": section(category, ["good"])}) as stage:
        assert await status(stage, category, upgrade=b"websocket") == 403


def test_values_that_clients_make_up_are_not_all_kept() -> None:
    door = HeaderAdmission(b"referer: ", lambda value: False, Admission("deny", ""), "")
    for value in (*(b"a%d" % number for number in range(2000)), b"a" * 3000):
        assert door.judge(Headers(b"referer: %b\r\n" % value)) is CONTINUE
    assert sum(map(len, door._verdicts)) < 10_000


@pytest.mark.parametrize("category", [UA, REFERER])
def test_mistakes_are_refused_for_it_guards_something(category: str) -> None:
    for wrong in ({"type": "permit"}, {"missing": "no"}, {LIST[category]: "good"}, {LIST[category]: [5]}, {"message": 5}, {"typ": "deny"}):
        assert checking.check("p", section(category, ["good"]) | wrong), wrong
    for right in ({"type": "DENY"}, {"type": ""}, {"step": "request"}):
        assert not checking.check("p", section(category, ["good"]) | right)


# -- user agents --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "value", "expected"),
    [
        (["[Cc]rawler", "^curl/"], "SomeCrawler/1.0", True),
        (["[Cc]rawler", "^curl/"], "curl/8.1", True),
        (["[Cc]rawler", "^curl/"], "libcurl/8.1 CRAWLER", False),
        (["(?i)crawler"], "CRAWLER", True),
        (["(Twitterspider)/(\\d+)\\.(\\d+)"], "Twitterspider/1.0", True),
        (["^$"], "", True),
        (["bot"], "", False),
        (["^evil.+bot$"], b"evil\xff\xfe bot", True),
        (["^evil.+bot$"], "evil ü bot", True),
        (["ü"], "für", True),
        ([], "anything", False),
    ],
)
async def test_a_user_agent_is_found_by_a_regex(listed: list[str], value: str | bytes, expected: bool) -> None:
    assert await passes(UA, listed, value) is expected


def test_regexes_that_cannot_be_used_are_all_told() -> None:
    found = checking.check("p", section(UA, ["(", "fine", "(?=a)b"]))
    assert [problem.path for problem in found] == ["plugins.p.ua_list[0]", "plugins.p.ua_list[2]"]
    [empty] = checking.check("p", section(UA, ["fine", ""]))
    assert (empty.path, empty.message) == ("plugins.p.ua_list[1]", "must not be empty")


# -- referers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "value", "expected"),
    [
        ("example.com", "https://example.com/page?x=1", True),
        ("example.com", "https://example.com", True),
        ("example.com", "http://EXAMPLE.com:8080/", True),
        ("EXAMPLE.Com", "https://example.com/", True),
        ("example.com", "https://example.com./", True),
        ("example.com.", "https://example.com/", True),
        ("example.com", "https://www.example.com/", False),
        ("example.com", "https://example.com.evil.org/", False),
        ("example.com", "https://evil.org/https://example.com/", False),
        ("example.com", "https://evil.org?https://example.com", False),
        ("example.com", "https://evil.org#@example.com", False),
        ("example.com", "https://evil.org\\@example.com", False),
        ("example.com", "https://example.com@evil.org/", False),
        ("example.com", "https://example.com:80@evil.org/", False),
        ("example.com", "https://me:secret@example.com/", True),
        ("example.com", "android-app://example.com/", True),
        ("example.com", "example.com", False),
        ("example.com", "//example.com/", False),
        ("example.com", "https://example.com:port/", False),
        ("example.com", "about:client", False),
        ("example.com", "", False),
        ("example.com", "https:///", False),
        ("example.com", b"\xff\xfe", False),
        ("*.example.com", "https://a.example.com/", True),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.EXAMPLE.com", "https://A.example.COM/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://notexample.com/", False),
        ("*example.com", "https://example.com/", True),
        ("*example.com", "https://a.example.com/", True),
        ("*example.com", "https://notexample.com/", False),
        ("*-cdn.example.com", "https://one-cdn.example.com/", True),
        ("*-cdn.example.com", "https://cdn.example.com/", False),
        ("*", "https://example.com/", True),
        ("*", "junk", True),
        ("*", "", True),
        ("bücher.example", "https://xn--bcher-kva.example/", True),
        ("xn--bcher-kva.example", "https://bücher.example/", True),
        ("*.bücher.example", "https://a.xn--bcher-kva.example/", True),
        ("192.0.2.1", "http://192.0.2.1:81/", True),
        ("[2001:DB8::1]", "http://[2001:db8:0::1]:81/", True),
        ("[2001:db8::1]", "http://[2001:db8::1]/", True),
        ("[2001:db8::1]", "http://[2001:db8::1/", False),
    ],
)
async def test_a_referer_is_known_by_its_host(listed: str, value: str | bytes, expected: bool) -> None:
    assert await passes(REFERER, [listed], value) is expected
    assert await passes(REFERER, ["other.test", listed, "*.another.test"], value) is expected


async def test_an_empty_list_has_nobody() -> None:
    assert not await passes(REFERER, [], "https://example.com/")
    assert not await passes(REFERER, [], "junk")


@pytest.mark.parametrize(
    "entry", ["https://example.com", "example.com:80", "example.com/a", "", "*.", "**", "a.*.com", "*.*.com", "exa mple.com", "[::g]"]
)
def test_an_entry_that_could_never_match_is_refused(entry: str) -> None:
    [found] = checking.check("p", section(REFERER, ["example.com", entry]))
    assert found.path == "plugins.p.referer_list[1]"


def test_the_trap_of_a_star_without_a_dot_is_noted() -> None:
    told = checking.Checker()("p", section(REFERER, ["*example.com", "*.example.com", "*"]))
    assert not [one for one in told if isinstance(one, Problem)]
    [note] = [one for one in told if isinstance(one, Note)]
    assert note.path == "plugins.p.referer_list[0]"
    assert note.message == '"*example.com" is taken for "example.com" and "*.example.com"'


@pytest.mark.parametrize(
    ("category", "key"), [("ip_restriction", "ip_list"), ("ua_restriction", "ua_list"), ("referer_restriction", "referer_list")]
)
def test_an_empty_list_is_noted(category: str, key: str) -> None:
    """It comes from an include or a template, and opens or shuts without a word otherwise."""
    for kind, effect in (("deny", "nobody is kept out"), ("allow", "nobody is let in"), ("", "nobody is let in")):
        for mine in ({"category": category, "type": kind, key: []}, {"category": category, "type": kind}):
            [note] = checking.Checker()("p", mine)
            assert (type(note), note.path, note.message) == (Note, f"plugins.p.{key}", f"empty: {effect}")


HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,5}){0,2}", fullmatch=True)


@given(HOSTS, st.sampled_from(["", ":80", ":"]), st.sampled_from(["", "/", "/a/b?c#d", "?x", "#y", "\\z"]))
def test_the_host_of_every_url_is_found(host: str, port: str, rest: str) -> None:
    assert host_of(f"https://{host}{port}{rest}".encode()) == host


@given(st.binary(max_size=80))
def test_no_referer_breaks_it(value: bytes) -> None:
    for text in (value, b"http://" + value, b"http://[" + value):
        found = host_of(text)
        assert found.isascii() and found == found.lower()
