"""What becomes of the target, and where it is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.parts import Rewrite
from pingap.stages.http1.rules import TARGET
from pingap.stages.messages import Routed
from pingap.stages.routing.core import Outcome, Refusal, Router
from pingap.stages.routing.rewrite import Rewriter
from tests.routing.script import location, request, snapshot


def route(target: str = "/", host: str = "example.com", upstreams: tuple[str, ...] = ("u",), /, **keys: object) -> Outcome:
    return Router(snapshot(upstreams=upstreams, l=location(**keys)), {}).route(request(target, host), lambda: 1.0)


def routed(target: str = "/", host: str = "example.com", upstreams: tuple[str, ...] = ("u",), /, **keys: object) -> Routed:
    outcome = route(target, host, upstreams, **keys)
    assert isinstance(outcome, Routed)
    return outcome


@pytest.mark.parametrize(
    ("rewrite", "target", "rewritten"),
    [
        ("^/users/(.*)$ /api/users/$1", "/users/123", "/api/users/123"),
        ("^/users/(.*)$ /api/users/$1", "/users/123?a=1&b", "/api/users/123?a=1&b"),
        ("^/users/(.*)$ /api/users/$1", "/other/123?a=1", "/other/123?a=1"),
        ("^/users/(?<who>.*?)/(.*)$ /$2/${who}", "/users/joe/me", "/me/joe"),
        ("^/(\\w+)/(\\w+) /${2}x/$1", "/a/b/c", "/bx/a/c"),
        ("^/a /$$b", "/a", "/$b"),
        ("b B", "/b/b", "/B/b"),
        ("^/api", "/api/users", "/users"),
        ("^/api", "/api", "/"),
        ("^/api", "/api?x", "/?x"),
        ("^/u/(\\d+)$ /user?id=$1", "/u/7", "/user?id=7"),
        ("^/u/(\\d+)$ /user?id=$1", "/u/7?full=1", "/user?id=7&full=1"),
        ("^/(x)?y /[$1]", "/y", "/[]"),
        ("^/a /é#", "/a", "/%C3%A9%23"),
        ("^/(.*)$ /$1", "/a%0D%0AX-Y:%20z", "/a%0D%0AX-Y:%20z"),
        ("/fixed$0", "/anything/at/all?q", "/fixed/anything/at/all?q"),
    ],
)
def test_the_first_match_in_the_path_is_replaced_and_the_query_stays(rewrite: str, target: str, rewritten: str) -> None:
    found = routed(target, rewrite=rewrite)
    assert found.target.decode() == rewritten
    assert found.original.decode() == ("" if rewritten == target else target)


def test_captures_of_host_and_path_serve_the_rewrite() -> None:
    found = routed(
        "/v1/orders/7?x",
        "acme.example.com:8080",
        host="~^(?<tenant>[a-z]+)\\.",
        path="~^/v1/(?<kind>\\w+)/",
        rewrite="^/v1/\\w+/(.*)$ /$tenant/${kind}/$1",
    )
    assert found.target == b"/acme/orders/7?x"
    assert found.variables == {"tenant": "acme", "kind": "orders"}


def test_captures_of_the_rewrite_join_the_variables() -> None:
    assert routed("/users/joe", rewrite="^/users/(?<who>.+)$ /me").variables == {"who": "joe"}


def test_each_request_has_variables_of_its_own() -> None:
    router = Router(snapshot(l=location(host="~^(?<tenant>[a-z]+)\\.")), {})
    first, second = (router.route(request("/", "acme.example.com"), lambda: 1.0) for _ in range(2))
    assert isinstance(first, Routed)
    assert isinstance(second, Routed)
    first.variables["tenant"] = "changed by a plugin"
    assert second.variables == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("target", "host", "keys"),
    [
        ("/", "blue.example.com", {"host": "~^(?<u>\\w+)\\.", "upstream": "$u"}),
        ("/blue/x", "", {"path": "~^/(?<u>\\w+)", "upstream": "$u"}),
        ("/blue/x", "", {"rewrite": "^/(?<u>\\w+)/ /", "upstream": "${u}"}),
    ],
)
def test_a_capture_names_the_upstream(target: str, host: str, keys: dict[str, str]) -> None:
    assert routed(target, host, ("blue", "green"), **keys).upstream == "blue"


def test_a_capture_that_names_no_upstream_is_answered_with_503_and_logged() -> None:
    outcome = route("/", "red.example.com", ("blue",), host="~^(?<u>\\w+)\\.", upstream="$u")
    assert isinstance(outcome, Refusal)
    assert outcome.error == "no_backend"
    assert "red" in outcome.reason
    # What a client makes up never becomes a label of a metric.
    assert (outcome.location, outcome.upstream) == ("l", "")


def test_a_group_that_took_no_part_names_no_upstream() -> None:
    outcome = route("/", "", ("blue",), path="~^/(?<u>blue)?", upstream="$u")
    assert isinstance(outcome, Refusal)
    assert outcome.error == "no_backend"


@given(st.text(alphabet=bytes(TARGET).decode(), max_size=30), st.text(max_size=20), st.sampled_from(["^/", ".*", "a", "x*", "(.)/(.)"]))
def test_a_rewritten_target_can_always_be_sent(path: str, replacement: str, pattern: str) -> None:
    replacement = replacement.replace("$", "$$")
    rewritten, _ = Rewriter(Rewrite(pattern, replacement)).apply(b"/" + path.encode(), {})
    assert rewritten.startswith(b"/")
    assert set(rewritten) <= set(TARGET)


@given(st.text(alphabet=bytes(TARGET).decode(), max_size=30), st.sampled_from(["^/(.*)$ /x/$1", "^/(?<n>.*)$ /$n", "(.) $1$1 b"]))
def test_captures_of_a_target_can_always_be_sent(path: str, rewrite: str) -> None:
    pattern, _, replacement = rewrite.partition(" ")
    rewritten, _ = Rewriter(Rewrite(pattern, replacement)).apply(b"/" + path.encode(), {})
    assert rewritten.startswith(b"/")
    assert set(rewritten) <= set(TARGET)
