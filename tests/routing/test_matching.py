"""Which location answers a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.model import Location
from pingap.config.parts import HostRule, PathRule
from pingap.stages.messages import Routed
from pingap.stages.routing import match
from pingap.stages.routing.core import Refusal, Router
from pingap.stages.routing.match import Entry, HostIndex, weight_of
from tests.routing.script import location, request, site


def winner(locations: dict[str, Location], *args: str, **more: str) -> str:
    """Name of the location that answers, "" for none."""
    outcome = Router(site(locations), {}).route(request(*args, **more), lambda: 1.0)
    if isinstance(outcome, Refusal):
        assert outcome.error == "not_found"
        return ""
    assert isinstance(outcome, Routed)
    return outcome.location


@pytest.mark.parametrize(
    ("keys", "weight"),
    [
        ({"weight": 2048, "path": "=/api"}, 2048),
        ({"weight": 0, "path": "=/api"}, 0),
        ({"path": "=/api"}, 1029),
        ({"path": "~/api"}, 261),
        ({"path": "/api"}, 516),
        ({"path": "/"}, 0),
        ({"path": "/" + "x" * 100}, 512 + 64),
        ({}, 0),
        ({"host": "github.com"}, 128),
        ({"host": "*.github.com"}, 128),
        ({"host": "~github.com"}, 11),
        ({"host": "a.com,~github.com"}, 17),
        ({"path": "/api", "host": "github.com"}, 644),
    ],
)
def test_a_weight_that_is_not_given_is_computed_as_the_reference_does(keys: dict[str, object], weight: int) -> None:
    assert weight_of(location(**keys)) == weight


def test_the_highest_weight_wins_whatever_the_order_in_the_server() -> None:
    locations = {
        "any": location(),
        "prefix": location(path="/api"),
        "longer": location(path="/api/users"),
        "regex": location(path="~^/api"),
        "exact": location(path="= /api"),
        "forced": location(path="/api/users/vip", weight=2000),
    }
    assert winner(locations, "/api") == "exact"
    assert winner(locations, "/api?x=1") == "exact"
    assert winner(locations, "/api/x") == "prefix"
    assert winner(locations, "/api/users/1") == "longer"
    assert winner(locations, "/api/users/vip") == "forced"
    assert winner(locations, "/other") == "any"


def test_among_equal_weights_the_servers_order_decides() -> None:
    assert winner({"a": location(path="/x/a", weight=5), "b": location(path="/x", weight=5)}, "/x/a") == "a"
    assert winner({"b": location(path="/x", weight=5), "a": location(path="/x/a", weight=5)}, "/x/a") == "b"


def test_a_location_that_does_not_fit_in_full_gives_way_to_the_next() -> None:
    locations = {"canary": location(path="= /", match_headers=["x-canary"]), "rest": location()}
    assert winner(locations, "/", headers="x-canary: 1") == "canary"
    assert winner(locations, "/") == "rest"


def test_a_path_is_compared_without_its_query() -> None:
    assert winner({"l": location(path="= /a")}, "/a?b") == "l"
    assert winner({"l": location(path="= /a")}, "/a/b") == ""
    assert winner({"l": location(path="~^/a$")}, "/a?b") == "l"
    assert winner({"l": location(path="~b")}, "/a?b") == ""


@pytest.mark.parametrize(
    ("path", "targets", "others"),
    [
        ("/straße", ("/stra%C3%9Fe", "/stra%c3%9fe/1", "/stra%C3%9fe?q"), ("/STRA%C3%9Fe", "/stra%C3%9E", "/x/stra%C3%9Fe")),
        ("= /ünï", ("/%C3%BCn%C3%AF", "/%c3%bcn%c3%af", "/%C3%bcn%c3%Af?q"), ("/%C3%BCn%C3%AF/", "/%C3%BCN%C3%AF", "/a/%C3%BCn%C3%AF")),
        ("/%c3%bc.b", ("/%C3%BC.b", "/%c3%bc.b/c"), ("/%C3%BCxb",)),
        ("/a%2Fb", ("/a%2fb", "/a%2Fb"), ("/a/b", "/A%2Fb")),
        ("/a b|", ("/a%20b|",), ("/a b|", "/a%20b")),
    ],
)
def test_a_path_with_escapes_fits_both_cases_of_their_digits(path: str, targets: Sequence[str], others: Sequence[str]) -> None:
    assert [target for target in (*targets, *others) if winner({"l": location(path=path)}, target)] == list(targets)


def test_a_path_with_escapes_weighs_as_its_kind_does() -> None:
    locations = {"regex": location(path="~^/%C3%BCn"), "prefix": location(path="/ü"), "exact": location(path="= /ünï")}
    assert [winner(locations, target) for target in ("/%c3%bcn%c3%af", "/%C3%BCn", "/x")] == ["exact", "prefix", ""]


@pytest.mark.parametrize("target", ["/?n%c3%a4me=%c3%bc", "/?x&n%C3%A4me=%C3%BC", "/?n%C3%a4me=%c3%BC&y"])
def test_a_query_condition_outside_ascii_is_compared_as_clients_send_it(target: str) -> None:
    for condition in ("näme:ü", "näme", "n%c3%a4me:%C3%bc"):
        assert winner({"l": location(match_query=[condition])}, target) == "l"
        assert winner({"l": location(match_query=[condition])}, "/?n%c3%a5me=%c3%bc") == ""


@pytest.mark.parametrize(
    ("rule", "hosts"),
    [
        ("müller.de", ("xn--mller-kva.de", "XN--Mller-KVA.de:8080", "xn--mller-kva.de.")),
        ("MÜLLER.de", ("xn--mller-kva.de",)),
        ("*.müller.de", ("www.xn--mller-kva.de",)),
        ("[0:0::0:1]", ("[::1]", "[::1]:80")),
    ],
)
def test_a_host_is_compared_in_the_form_in_which_clients_name_it(rule: str, hosts: Sequence[str]) -> None:
    assert [winner({"l": location(host=rule)}, host=host.lower()) for host in hosts] == ["l"] * len(hosts)


def test_options_asterisk_reaches_only_a_location_for_any_path() -> None:
    assert winner({"l": location(path="/"), "any": location()}, "*") == "any"
    assert winner({"l": location(path="/")}, "*") == ""


@pytest.mark.parametrize(
    ("rule", "host", "fits"),
    [
        ("example.com", "example.com", True),
        ("Example.COM", "example.com", True),
        ("example.com", "example.com:8080", True),
        ("example.com", "example.com.", True),
        ("example.com", "www.example.com", False),
        ("example.com", "", False),
        ("example.com", "example.com.evil.org", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com:443", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evil-example.com", False),
        ("*.example.com", ".example.com", False),
        ("~^(?<user>[a-z]+)\\.example\\.com$", "joe.example.com", True),
        ("~^(?<user>[a-z]+)\\.example\\.com$", "joe.example.com:81", True),
        ("~^[A-Z]+$", "localhost", True),
        ("~^(?<user>[a-z]+)\\.example\\.com$", "9.example.com", False),
        ("a.com, *.b.com, ~^c", "a.com", True),
        ("a.com, *.b.com, ~^c", "x.b.com", True),
        ("a.com, *.b.com, ~^c", "cc", True),
        ("a.com, *.b.com, ~^c", "b.com", False),
        ("[::1]", "[::1]:8080", True),
        ("[::1]", "[::1]", True),
        ("", "anything", True),
        ("", "", True),
    ],
)
def test_hosts_are_compared_without_port_and_case(rule: str, host: str, fits: bool) -> None:
    assert (winner({"l": location(host=rule)}, "/", host) == "l") is fits


@pytest.mark.parametrize(
    ("condition", "headers", "fits"),
    [
        ("X-Version:2", "x-version: 2", True),
        ("X-Version:2", "x-version: 3", False),
        ("X-Version:2", "x-version: 2.0", False),
        ("X-Version:2", "", False),
        ("x-version", "x-version: 9", True),
        ("x-version", "x-versions: 9", False),
        ("x-version", "old-x-version: 9", False),
        ("x-version", "other: x-version: 9", False),
        ("x-version:", "x-version: ", True),
        ("x-url:http://a", "x-url: http://a", True),
        ("x-version:2", "x-version: 1\nx-version: 2", False),
        ("host:example.com", "", True),
    ],
)
def test_a_header_condition_asks_for_the_first_line_of_that_name(condition: str, headers: str, fits: bool) -> None:
    assert (winner({"l": location(match_headers=[condition])}, "/", headers=headers) == "l") is fits


@pytest.mark.parametrize(
    ("condition", "target", "fits"),
    [
        ("ver:2", "/?ver=2", True),
        ("ver:2", "/?a=1&ver=2&b", True),
        ("ver:2", "/?ver=1&ver=2", False),
        ("ver:2", "/?Ver=2", False),
        ("ver:2", "/?xver=2", False),
        ("ver:2", "/", False),
        ("ver", "/?ver=", True),
        ("ver", "/?ver", True),
        ("ver:a=b", "/?ver=a=b", True),
    ],
)
def test_a_query_condition_asks_for_the_first_parameter_of_that_name(condition: str, target: str, fits: bool) -> None:
    assert (winner({"l": location(match_query=[condition])}, target) == "l") is fits


@pytest.mark.parametrize(
    ("condition", "headers", "fits"),
    [
        ("session", "cookie: session=abc", True),
        ("session", "cookie: a=1; session=abc", True),
        ("session", "cookie: a=1;session=abc", True),
        ("session", "cookie: a=1\ncookie: session=abc", True),
        ("session", "cookie: xsession=abc", False),
        ("session", "cookie: a=session", False),
        ("session:abc", "cookie: session=abc; b=2", True),
        ("session:abc", "cookie: session=abcd", False),
        ("session:a=b", "cookie: session=a=b", True),
        ("session", "", False),
    ],
)
def test_a_cookie_condition_asks_for_the_first_cookie_of_that_name(condition: str, headers: str, fits: bool) -> None:
    assert (winner({"l": location(match_cookies=[condition])}, "/", headers=headers) == "l") is fits


def test_all_conditions_must_hold() -> None:
    locations = {"l": location(match_headers=["a:1", "b"], match_query=["c"], match_cookies=["d:4"])}
    assert winner(locations, "/?c=3", headers="a: 1\nb: 2\ncookie: d=4") == "l"
    assert winner(locations, "/?c=3", headers="a: 1\ncookie: d=4") == ""
    assert winner(locations, "/", headers="a: 1\nb: 2\ncookie: d=4") == ""
    assert winner(locations, "/?c=3", headers="a: 1\nb: 2\ncookie: d=5") == ""


@pytest.mark.interpreted
def test_the_memory_of_hosts_stays_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "_VIEWS_LIMIT", 8)
    index = HostIndex([Entry(location(host="*.example.com"), "wild"), Entry(location(), "any")])
    for number in range(100):
        view = index.view(b"h%d.example.com" % number)
        assert [candidate[3] for candidate in view] == ["wild", "any"]
        assert len(index.views) <= 8
    index.view(b"x" * 300)
    assert b"x" * 300 not in index.views


def test_a_long_host_full_of_dots_costs_no_more_than_a_short_one() -> None:
    index = HostIndex([Entry(location(host="*.example.com"), "wild")])
    host = b"a." * 30_000 + b"example.com"
    assert [candidate[3] for candidate in index.view(host)] == ["wild"]


# -- the index against a plain scan ------------------------------------------------

_LABELS = st.sampled_from(["a", "b", "ab", "www"])
_HOSTS = st.lists(_LABELS, min_size=1, max_size=3).map(".".join)
_HOST_RULES = st.one_of(
    _HOSTS.map(lambda host: HostRule("exact", host)),
    _HOSTS.map(lambda host: HostRule("suffix", host)),
    _LABELS.map(lambda label: HostRule("regex", f"^(?<first>{label})\\.")),
    _LABELS.map(lambda label: HostRule("regex", f"{label}$")),
)
_PATHS = st.lists(_LABELS, max_size=3).map(lambda labels: "/" + "/".join(labels))
_PATH_RULES = st.one_of(
    st.just(PathRule()),
    _PATHS.map(lambda path: PathRule("exact", path)),
    _PATHS.map(lambda path: PathRule("prefix", path)),
    _LABELS.map(lambda label: PathRule("regex", f"/{label}(?P<rest>/.*)?$")),
)
_LOCATIONS = st.builds(
    lambda path, host, weight, header: Location(upstream="u", path=path, host=tuple(host), weight=weight, match_headers=header),
    _PATH_RULES,
    st.lists(_HOST_RULES, max_size=3),
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from([(), (("x", "1"),), (("x", None),)]),
)


def _scan(locations: list[Location], host: str, path: str, x: str | None) -> tuple[int, dict[str, str]] | None:
    """The rules of features.md said once more, without an index and with Python's own regexes."""
    order = sorted(range(len(locations)), key=lambda number: (-weight_of(locations[number]), number))
    for number in order:
        rules = locations[number]
        captures: dict[str, str] = {}
        if rules.path.kind == "exact" and path != rules.path.value:
            continue
        if rules.path.kind == "prefix" and not path.startswith(rules.path.value):
            continue
        if rules.path.kind == "regex":
            found = re.search(rules.path.value, path)
            if found is None:
                continue
            captures.update({name: value for name, value in found.groupdict().items() if value is not None})
        if rules.host:
            for rule in rules.host:
                matched = re.search(rule.value.replace("(?<", "(?P<"), host) if rule.kind == "regex" else None
                if matched:
                    captures.update(matched.groupdict())
                    break
                if rule.kind == "exact" and host == rule.value:
                    break
                if rule.kind == "suffix" and host.endswith("." + rule.value) and host != "." + rule.value:
                    break
            else:
                continue
        if all(x is not None and (expected is None or expected == x) for _, expected in rules.match_headers):
            return number, captures
    return None


@settings(max_examples=400, deadline=None)
@given(st.lists(_LOCATIONS, max_size=8), st.lists(st.tuples(_HOSTS, _PATHS, st.sampled_from([None, "1", "2"])), min_size=1, max_size=6))
def test_the_index_finds_what_a_plain_scan_finds(locations: list[Location], asked: list[tuple[str, str, str | None]]) -> None:
    router = Router(site({f"l{number}": rules for number, rules in enumerate(locations)}), {})
    for host, path, x in asked * 2:  # the second time from memory
        message = request(path, host, f"x: {x}" if x else "")
        outcome = router.route(message, lambda: 1.0)
        expected = _scan(locations, host, path, x)
        if expected is None:
            assert isinstance(outcome, Refusal)
        else:
            assert isinstance(outcome, Routed)
            assert (outcome.location, outcome.variables) == (f"l{expected[0]}", expected[1])
