"""`normalize_path`: one location for all the spellings of a path, and what each part sees of it."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from itertools import product
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.model import Location
from pingap.stages.http1.rules import TARGET
from pingap.stages.itinerary import CHALLENGE, METRICS, OPTIONS
from pingap.stages.messages import Routed
from pingap.stages.routing.core import Inward, Outcome, Refusal, Router
from pingap.stages.routing.normalize import Unclear, is_tidy, normalize
from tests.routing.script import location, request, site, snapshot

BOTH = pytest.mark.parametrize("mode", ["match", "forward"])


def router(mode: Any, metrics: str | None = None, **locations: Location) -> Router:
    made = site(locations, metrics=metrics)
    return Router(replace(made, servers={"s": replace(made.servers["s"], normalize_path=mode)}), {})


def route(mode: str, target: str, /, metrics: str | None = None, method: bytes = b"GET", **locations: Location) -> Outcome:
    return router(mode, metrics, **locations).route(request(target, method=method), lambda: 1.0)


def landing(outcome: Outcome) -> str:
    """The location, or the error of a refusal."""
    if isinstance(outcome, Refusal):
        return outcome.error
    assert isinstance(outcome, Routed)
    return outcome.location


@pytest.mark.parametrize(
    ("sent", "compared", "normal"),
    [
        ("/", "/", "/"),
        ("//", "/", "/"),
        ("//a///b//?x//y", "/a/b/?x//y", None),
        ("/a//", "/a/", None),
        ("/%61dmin", "/admin", None),
        ("/%7euser/%2e-%5F", "/~user/.-_", None),
        ("/%c3%bc%2f%2F", "/%C3%BC%2F%2F", None),
        ("/a%20b%2B+", "/a%20b%2B+", None),
        ("/a?%61/../%zz//;", "/a?%61/../%zz//;", None),
        ("/x/../admin", "/admin", None),
        ("/x/%2e%2E/./admin", "/admin", None),
        ("/../../admin", "/admin", None),
        ("/a/.", "/a/", None),
        ("/a/b/..", "/a/", None),
        ("/..", "/", None),
        ("/.?q", "/?q", None),
        ("/...", "/...", None),
        ("/a/..b/.c", "/a/..b/.c", None),
        ("\\admin".join(("/", "")), "/admin", None),
        ("/x\\..\\admin", "/admin", None),
        ("/admin%5Cx", "/admin%5Cx", None),
        ("/admin;x", "/admin", "/admin;x"),
        ("/admin;x=1;y/list;z?q;r", "/admin/list?q;r", "/admin;x=1;y/list;z?q;r"),
        ("/admin;x/../y", "/y", None),
        ("/app/;jsessionid=1", "/app/", "/app/;jsessionid=1"),
        ("/a%3bb", "/a%3Bb", None),
        ("/%2561", "/%2561", None),
    ],
)
def test_the_normal_form(sent: str, compared: str, normal: str | None) -> None:
    assert normalize(sent.encode()) == (compared.encode(), (compared if normal is None else normal).encode())


@pytest.mark.parametrize(
    "target",
    ["/%", "/%6", "/%zz", "/%%36%31dmin", "/a%00", "/x//../admin", "/a/;/../b", "/;x/a", "/x/..;/admin", "/x/..;a=b", "/x/.;/admin"]
    + ["/x%2f..%2fadmin", "/x/..%5cadmin", "/x/%2e%2e%2fadmin", "/..%3b/admin", "/a;b%2F../c"],
)
@BOTH
def test_what_backends_understand_differently_is_refused(mode: str, target: str) -> None:
    assert landing(route(mode, target, any=location())) == "bad_request"
    assert landing(route("off", target, any=location())) == "any"
    assert landing(route(mode, f"/?{target}", any=location())) == "any"


PATHS = st.text(alphabet=bytes(TARGET.replace(b"?", b"")).decode(), max_size=12)
PIECES = st.sampled_from(["/", "//", "/.", "/..", "/../", "%2e", "%2F", "%5c", "\\", ";", ";x", "%61", "%C3%bc", "%3B", "admin", "%"])
WILD = st.lists(st.one_of(PIECES, PATHS), max_size=10).map(lambda parts: "/" + "".join(parts))


@given(WILD, st.sampled_from(["", "?", "?a//b/../%61"]))
def test_the_normal_form_has_one_form(path: str, query: str) -> None:
    target = (path + query).encode()
    try:
        compared, normal = normalize(target)
    except Unclear:
        assert not is_tidy(target)
        return
    for found in (compared, normal):
        assert found.endswith(query.encode())
        bare = found[: len(found) - len(query)]
        assert bare.startswith(b"/")
        assert b"//" not in bare
        assert not {b".", b".."} & set(bare.split(b"/"))
        assert b"\\" not in bare
        assert normalize(found) == (compared, found)
        assert set(found) <= set(TARGET)
    assert b";" not in compared.partition(b"?")[0]
    if is_tidy(target):
        assert compared == normal == target


def views(path: str) -> set[str]:
    """What backends may make of a path: with or without parameters, `\\` for `/` or not, slashes merged before dots or after them."""
    found = set()
    for without_parameters, leaning, merging in product((False, True), repeat=3):
        one = re.sub(";[^/]*", "", path) if without_parameters else path
        one = unquote_to_bytes(one).decode("latin-1")
        one = one.replace("\\", "/") if leaning else one
        if not merging:
            kept: list[str] = []
            for segment in one.split("/")[1:]:
                if segment == "..":
                    del kept[-1:]
                elif segment != ".":
                    kept.append(segment)
            one = "/" + "/".join(kept)
        found.add("/" + posixpath.normpath(one).lstrip("/"))
    return found


def spelled(text: str, choices: st.DataObject) -> str:
    """Some of the letters as escapes, in either case of their digits."""
    forms = ([letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}"] if letter != "/" else ["/"] for letter in text)
    return "".join(choices.draw(st.sampled_from(form)) for form in forms)


DETOUR = st.sampled_from(["/", "/.", "/x/..", "/%2e", "/y/%2E.", "/..", "/;p", "/z;q/..", "/.;", "\\", "/x/..;r", "/x%2f.."])
DETOURS = st.lists(DETOUR, max_size=4).map("".join)


@given(st.data(), st.sampled_from(["/admin", "/admin/a@b!c", "/admin/(x)+y", "/~u_-.1"]), DETOURS, DETOURS)
@BOTH
def test_every_spelling_of_a_path_lands_at_its_location(mode: str, choices: st.DataObject, path: str, before: str, after: str) -> None:
    head, slash, tail = path.rpartition("/")
    target = before + spelled(head, choices) + (after or "/").removesuffix("/") + slash + spelled(tail, choices)
    exact = router(mode, guarded=location(path=f"= {path}"), rest=location())
    prefix = router(mode, guarded=location(path=path), rest=location())
    for one in (exact, prefix):
        outcome = one.route(request(target), lambda: 1.0)
        if path in views(target):  # a detour may lead elsewhere for every backend
            assert landing(outcome) in ("guarded", "bad_request")
        if isinstance(outcome, Routed) and mode == "match":
            assert outcome.target.decode() == target


@given(WILD)
def test_what_any_backend_takes_for_the_guarded_path_is_guarded(path: str) -> None:
    """But for escaped slashes, which stay: docs/routing.md says so."""
    outcome = route("match", path, guarded=location(path="/admin"), rest=location())
    clear = path.lower().replace("%2f", "").replace("%5c", "")
    if clear == path.lower() and any((view + "/").startswith("/admin/") for view in views(path)):
        assert landing(outcome) in ("guarded", "bad_request")


@pytest.mark.parametrize(
    ("target", "mode", "left", "original"),
    [
        ("//a/%61;x?%61", "off", "//a/%61;x?%61", ""),
        ("//a/%61;x?%61", "match", "//a/%61;x?%61", ""),
        ("//a/%61;x?%61", "forward", "/a/a;x?%61", "//a/%61;x?%61"),
        ("/a;x", "forward", "/a;x", ""),
        ("/a", "forward", "/a", ""),
    ],
)
def test_the_backend_gets_the_path_that_was_chosen(target: str, mode: str, left: str, original: str) -> None:
    outcome = route(mode, target, any=location())
    assert isinstance(outcome, Routed)
    assert (outcome.target.decode(), outcome.original.decode()) == (left, original)


@BOTH
def test_a_rewrite_sees_the_normal_path_and_plugins_are_told_what_was_sent(mode: str) -> None:
    outcome = route(mode, "//a%70i/x;y?q//", api=location(path="/api/", rewrite="^/api/(.*)$ /$1"))
    assert isinstance(outcome, Routed)
    assert (outcome.target, outcome.original) == (b"/x;y?q//", b"//a%70i/x;y?q//")


@BOTH
def test_captures_are_of_the_normal_path(mode: str) -> None:
    outcome = route(mode, "/x/..//u%73ers/%6aoe;v", users=location(path="~^/users/(?<who>[^/]+)$"))
    assert isinstance(outcome, Routed)
    assert outcome.variables == {"who": "joe"}


@BOTH
@pytest.mark.parametrize("path", ["= /a@b", "= /a%40b", "/a%40b", "/%61@b"])
@pytest.mark.parametrize("target", ["/a@b", "/a%40b", "//%61%40%62"])
def test_a_location_takes_a_reserved_character_and_its_escape(mode: str, path: str, target: str) -> None:
    assert landing(route(mode, target, one=location(path=path), rest=location())) == "one"


@BOTH
@pytest.mark.parametrize(("path", "target"), [("= /ü", "/%c3%bc"), ("/a%2fb", "/a%2Fb"), ("/a%2Fb", "/a%2fb"), ("= /%3b", "/%3B")])
def test_a_location_with_escapes_that_stay_takes_both_cases(mode: str, path: str, target: str) -> None:
    assert landing(route(mode, target, one=location(path=path), rest=location())) == "one"


@BOTH
def test_the_page_of_metrics_has_all_its_spellings(mode: str) -> None:
    asked = route(mode, "//metri%63s?x", metrics="/metrics", any=location())
    assert isinstance(asked, Inward) and (asked.destination, asked.routed.target) == (METRICS, b"//metri%63s?x")
    assert landing(route("off", "//metri%63s?x", metrics="/metrics", any=location())) == "any"


@BOTH
def test_options_of_the_whole_server_has_no_path(mode: str) -> None:
    asked = route(mode, "*", method=b"OPTIONS", any=location())
    assert isinstance(asked, Inward) and asked.destination == OPTIONS


@BOTH
def test_servers_with_and_without_share_a_location(mode: str) -> None:
    site: Any = snapshot(guarded=location(path="/admin"), rest=location())
    servers = {"s": site.servers["s"], "n": replace(site.servers["s"], normalize_path=mode)}
    both = Router(replace(site, servers=servers), {})
    assert [landing(both.route(request("//admin", server=name), lambda: 1.0)) for name in ("s", "n")] == ["rest", "guarded"]


@BOTH
def test_where_proofs_are_no_spelling_leads_to_a_backend(mode: Any) -> None:
    made = site({"all": location(path="/")})
    proving = replace(made, servers={"s": replace(made.servers["s"], normalize_path=mode)}, challenged={"x": "https://ca.test"})
    for target in ("/.well-known/acme-challenge/x", "/a/../.well-known/acme%2dchallenge/x", "/%2ewell-known//acme-challenge/x"):
        outcome = Router(proving, {}).route(request(target), lambda: 1.0)
        assert isinstance(outcome, Inward) and outcome.destination == CHALLENGE, target
