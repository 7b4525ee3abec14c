"""proxy_set_headers and proxy_add_headers: variables, order, and what cannot be smuggled through them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pingap.config.model import Basic
from pingap.stages import variables
from pingap.stages.messages import Routed
from pingap.stages.routing.core import Router
from pingap.stages.variables import Source, compile_rules, source_of
from tests.routing.script import PEER, leaving, left, lines, location, request, snapshot

ENVIRON = {"REGION": "eu-1", "EVIL": "a\r\nx-evil: 1", "EMPTY": ""}
HEADERS = b"host: example.com\r\nuser-agent: curl\r\nx_odd: 1\r\nx-forwarded-for: 10.9.9.9\r\n"
SOURCE = Source(PEER, b"example.com", HEADERS, False, "10.0.0.5:80", {"connection_id": 17, "ratio": 1.5, "hit": True})


def rendered(text: str, source: Source = SOURCE) -> str:
    return variables.compile(text, ENVIRON, "node-1").render(source).decode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$host", "example.com"),
        ("$hostname", "node-1"),
        ("$scheme", "http"),
        ("$remote_addr", "192.0.2.7"),
        ("$remote_port", "51234"),
        ("$server_addr", "192.0.2.1"),
        ("$server_port", "8080"),
        ("$upstream_addr", "10.0.0.5:80"),
        ("$proxy_add_x_forwarded_for", "192.0.2.7"),
        ("$http_user_agent", "curl"),
        ("$http_user-agent", "curl"),
        ("$http_User_Agent", "curl"),
        ("$http_x_odd", "1"),
        ("$http_absent", ""),
        ("$REGION", "eu-1"),
        ("$EMPTY", ""),
        (":connection_id", "17"),
        (":ratio", "1.5"),
        (":hit", "true"),
        (":absent", ""),
        # what is no variable stays as it is written
        ("plain", "plain"),
        ("$ABSENT", "$ABSENT"),
        ("$", "$"),
        ("$5.00", "$5.00"),
        (":80", ":80"),
        ("max-age:5", "max-age:5"),
        ("in $REGION", "in $REGION"),
        ("", ""),
        # inside longer text
        ("$scheme://$host:$server_port/", "http://example.com:8080/"),
        ("$hosts and $host", "$hosts and example.com"),
        ("via $hostname", "via node-1"),
        ("<$http_user_agent>", "<curl>"),
        ("to $upstream_addr", "to 10.0.0.5:80"),
        ("$http_user_agent$http_x_odd", "curl1"),
        ("$http_x_odd-$remote_addr", "1-192.0.2.7"),
    ],
)
def test_variables_have_their_values(text: str, value: str) -> None:
    assert rendered(text) == value


def test_constants_are_known_beforehand() -> None:
    assert variables.compile("$REGION", ENVIRON).constant == b"eu-1"
    assert variables.compile("on $hostname", ENVIRON, "node-1").constant == b"on node-1"
    assert variables.compile("$host", ENVIRON).constant is None


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("$host", [b"example.com"]),
        ("$REGION", [b"eu-1"]),
        ("<$host$http_absent-$remote_addr>", [b"<", b"example.com", b"", b"-", b"192.0.2.7", b">"]),
    ],
)
def test_pieces_say_where_one_ends(text: str, pieces: list[bytes]) -> None:
    assert [piece(SOURCE) for piece in variables.compile(text, ENVIRON).pieces] == pieces


def test_no_piece_has_what_may_stand_between_them() -> None:
    source = SOURCE._replace(host=b"a\0b\r\n")
    assert [piece(source) for piece in variables.compile("$host/\0$host", {}).pieces] == [b"ab", b"/", b"ab"]


def test_the_forwarded_for_of_a_trusted_peer_is_extended() -> None:
    assert rendered("$proxy_add_x_forwarded_for", SOURCE._replace(believed=True)) == "10.9.9.9, 192.0.2.7"


@given(st.text(), st.binary())
def test_no_value_ends_its_line(value: str, raw: bytes) -> None:
    for text in (":k", ":b", "$ENVIRON", value):
        template = variables.compile(text, {"ENVIRON": value.replace("\0", "")}, value)
        result = template.render(SOURCE._replace(context={"k": value, "b": raw}))
        assert not set(result) & set(b"\r\n\0")


def applied(sets: list[tuple[str, str]], adds: list[tuple[str, str]], headers: bytes = HEADERS) -> list[str]:
    edit = compile_rules(sets, adds, ENVIRON, "node-1")
    assert edit is not None
    return lines(edit.apply(headers, SOURCE))


def test_setting_replaces_every_line_of_the_name() -> None:
    block = b"a: 1\r\nb: 2\r\na: 3\r\n\r\n"[:-2]
    assert applied([("a", "new")], [], block) == ["b: 2", "a: new"]
    assert applied([("a", "$scheme")], [], block) == ["b: 2", "a: http"]


def test_setting_touches_only_that_very_name() -> None:
    block = b"aa: 1\r\nxa: a: 1\r\nab: 2\r\n"
    assert applied([("a", "new")], [], block) == ["aa: 1", "xa: a: 1", "ab: 2", "a: new"]


@pytest.mark.parametrize("name", ["x-client-name", "x_client_name"])
def test_setting_takes_away_what_a_backend_may_take_for_the_same_name(name: str) -> None:
    """CGI, WSGI and PHP make HTTP_X_CLIENT_NAME of each."""
    block = b"x_client_name: CN=admin\r\nx_client_name: CN=root\r\nx-client-name: b\r\nx-client-name: c\r\n"
    block += b"x-client-names: d\r\nx.client.name: e\r\n"
    for value in ("CN=Alice", "$host", ""):
        kept = applied([(name, value)], [], block)
        assert kept[0] == "x-client-names: d" and kept[1:] == ([f"{name}: {'example.com' if value == '$host' else value}"] if value else [])
    assert applied([(name, "a")], [], b"y: 1\r\n" + block)[:2] == ["y: 1", "x-client-names: d"]
    assert applied([], [(name, "a")], block[:25]) == ["x_client_name: CN=admin", f"{name}: a"]


@pytest.mark.parametrize("empty", ["", "$EMPTY", "$http_absent"])
def test_setting_nothing_removes(empty: str) -> None:
    assert applied([("user-agent", empty)], []) == ["host: example.com", "x_odd: 1", "x-forwarded-for: 10.9.9.9"]


def test_adding_leaves_what_the_client_sent() -> None:
    assert applied([], [("x-tag", "1"), ("x-tag", "2")], b"x-tag: 0\r\n") == ["x-tag: 0", "x-tag: 1", "x-tag: 2"]
    assert applied([], [("x-tag", "$http_absent")], b"x-tag: 0\r\n") == ["x-tag: 0"]


def test_adding_comes_after_setting() -> None:
    assert applied([("x-tag", "1")], [("x-tag", "2")], b"x-tag: 0\r\n") == ["x-tag: 1", "x-tag: 2"]


def test_the_last_of_two_settings_holds() -> None:
    assert applied([("x-tag", "1"), ("x-tag", "2")], [], b"") == ["x-tag: 2"]


def test_there_is_always_exactly_one_host() -> None:
    assert applied([("host", "backend.internal")], [], b"host: a\r\nb: 1\r\n") == ["b: 1", "host: backend.internal"]
    assert applied([], [("host", "backend.internal")], b"host: a\r\nb: 1\r\n") == ["b: 1", "host: backend.internal"]
    assert applied([("host", "")], [], b"host: a\r\nb: 1\r\n") == ["host: a", "b: 1"]
    assert applied([("host", "$http_absent")], [], b"host: a\r\nb: 1\r\n") == ["host: a", "b: 1"]


def test_what_is_known_of_the_backend_is_a_value_like_any_other() -> None:
    assert applied([("a", "$upstream_addr"), ("b", "1")], [("a", "2"), ("c", ":connection_id")], b"a: 0\r\n") == [
        "a: 10.0.0.5:80",
        "b: 1",
        "a: 2",
        "c: 17",
    ]


def test_no_rules_are_no_work() -> None:
    assert compile_rules([], []) is None


def test_rules_are_applied_when_a_request_leaves_and_not_before() -> None:
    site = snapshot(
        l=location(
            proxy_set_headers=["X-Client: $remote_addr", "X-Backend: $upstream_addr", "X-Seen: $http_x_seen"],
            proxy_add_headers=["X-Gateway: pingap"],
        )
    )
    message = request(headers="x-backend: forged\nx-seen: 1\nx-client: forged")
    outcome = Router(site, {}).route(message, lambda: 1.0)
    assert isinstance(outcome, Routed)
    assert outcome.headers == message.headers, "plugins see what the client sent"
    assert leaving(outcome, site) == [
        "host: example.com",
        "x-client: 192.0.2.7",
        "x-backend: 10.0.0.5:80",
        "x-seen: 1",
        "x-gateway: pingap",
    ]


def test_variables_mean_what_plugins_left_of_the_request() -> None:
    site = snapshot(l=location(proxy_set_headers=["X-Seen: $http_x_key"], enable_reverse_proxy_headers=True))
    outcome = Router(site, {}).route(request(headers="x-key: secret\nx-real-ip: forged"), lambda: 1.0)
    assert isinstance(outcome, Routed)
    hidden = replace(outcome, headers=b"host: example.com\r\n")
    assert not any("secret" in line or "x-seen" in line for line in leaving(hidden, site))


def test_the_rules_do_not_see_what_others_wrote() -> None:
    rules = location(
        enable_reverse_proxy_headers=True,
        proxy_set_headers=["Host: inner", "X-A: $http_host, $upstream_addr", "X-B: $http_x_forwarded_for", "X-C: $http_x_a"],
    )
    found = lines(left(snapshot(l=rules), request(headers="x-forwarded-for: 6.6.6.6\nx-a: 0")).headers)
    assert {"x-a: example.com, 10.0.0.5:80", "x-b: 6.6.6.6", "x-c: 0", "host: inner"} <= set(found)


def test_the_chain_of_a_trusted_peer_is_extended() -> None:
    made = snapshot(Basic(trusted_proxies=("192.0.2.0/24",)), l=location(proxy_set_headers=["X-Chain: $proxy_add_x_forwarded_for"]))
    assert "x-chain: 10.9.9.9, 192.0.2.7" in lines(left(made, request(headers="x-forwarded-for: 10.9.9.9")).headers)


@pytest.mark.parametrize("key", ["connection_id", "location", "upstream_addr"])
def test_a_capture_or_a_plugin_may_take_the_name_of_a_context_key(key: str) -> None:
    assert rendered(f":{key}", SOURCE._replace(location="l")) != ""
    assert rendered(f":{key}", SOURCE._replace(context={key: "mine"})) == "mine"


def test_the_source_knows_connection_location_and_captures() -> None:
    outcome = Router(snapshot(l=location(path="~^/(?<kind>\\w+)")), {}).route(request("/orders"), lambda: 1.0)
    assert isinstance(outcome, Routed)
    source = source_of(outcome, "10.0.0.5:80", False, {"upstream_reused": True})
    values = [
        rendered(text, source) for text in (":connection_id", ":location", ":kind", ":upstream_reused", ":upstream_addr", "$upstream_addr")
    ]
    assert values == ["17", "l", "orders", "true", "10.0.0.5:80", "10.0.0.5:80"]
