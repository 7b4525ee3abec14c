"""In which order things happen to a request: the table in docs/routing.md, pair by pair.

Routing, the plugins stage and what a location writes into requests as they leave, handed on by hand.
"""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pingap.config.model import Basic
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.routing.core import Refusal, Router
from pingap.stages.steps import finished
from pingap.stages.upstream.compiled import UpstreamCompiler
from tests.plugins.script import Sections, Stage
from tests.plugins.test_python_plugins import plugin, section
from tests.routing.script import lines, location, request, snapshot

KEY: Sections = {"p": {"category": "key_auth", "header": "X-Key", "keys": ["internal", "front"]}}
FRONT, BACK = ("Basic " + base64.b64encode(pair).decode() for pair in (b"ann:front", b"svc:back"))
BASIC: Sections = {"p": {"category": "basic_auth", "authorizations": [FRONT.removeprefix("Basic ")]}}


def hidden(plugins: Sections) -> Sections:
    return {name: {**keys, "hide_credentials": True} for name, keys in plugins.items()}


class Trip:
    """One location `l` with these plugins: what becomes of a request to it."""

    def __init__(self, plugins: Sections, trusted: tuple[str, ...] = (), via: str = "", **keys: Any) -> None:
        made = snapshot(Basic(trusted_proxies=trusted), l=location(plugins=tuple(plugins), **keys))
        self.made = dataclasses.replace(made, plugins=plugins, servers={"s": dataclasses.replace(made.servers["s"], via=via)})
        plans = checking.plans(self.made, trusts=True)
        self.router = Router(self.made, plans)
        self.stage = Stage(plugins)
        self.plans = plans

    async def sends(self, target: str = "/", headers: str = "", **more: Any) -> Routed | Response:
        """The request as its backend gets it, or the answer of a plugin."""
        async with self.stage as stage:
            stage.publish(self.made, self.plans)
            assert not any(stage.answers_to_config())
            outcome: Any = self.router.route(request(target, headers=headers, generation=stage.generation, **more), lambda: 1.0)
            assert isinstance(outcome, Routed)
            if outcome.plan & REQUEST_PLUGINS:
                outcome = await stage.one(outcome)
                if isinstance(outcome, Response):
                    return outcome
            rules = finished(UpstreamCompiler().compile(self.made, {})).rules["l"]
            assert rules.writes or rules.leaving(outcome.headers, outcome, "") == outcome.headers
            left: Routed = structs.replace(outcome, headers=rules.leaving(outcome.headers, outcome, "10.0.0.5:80"))
            return left

    async def status(self, headers: str = "") -> int:
        """0 when it goes to a backend."""
        outcome = await self.sends(headers=headers)
        return outcome.status if isinstance(outcome, Response) else 0

    async def lines(self, headers: str = "", target: str = "/") -> list[str]:
        """What the backend gets after Host."""
        return lines((await self.sends(target, headers)).headers)[1:]


# -- plugins, then the location's own headers ------------------------------------------------


@pytest.mark.parametrize("rules", ["proxy_set_headers", "proxy_add_headers"])
async def test_a_locations_own_header_opens_no_door(rules: str) -> None:
    trip: dict[str, Any] = {rules: ["X-Key: internal"]}
    assert await Trip(KEY, **trip).status() == 401
    assert await Trip(KEY, **trip).status("x-key: wrong") == 401
    assert await Trip(KEY, **trip).status("x-key: front") == 0
    assert await Trip(BASIC, **dict[str, Any]({rules: [f"Authorization: {FRONT}"]})).status() == 401


@pytest.mark.parametrize("value", [BACK, "", "$http_absent", "$upstream_addr", ":connection_id"])
async def test_a_locations_own_header_closes_no_door(value: str) -> None:
    trip: dict[str, Any] = {"proxy_set_headers": [f"Authorization: {value}", f"X-Key: {value}"]}
    assert await Trip(BASIC, **trip).status(f"authorization: {FRONT}") == 0
    assert await Trip(BASIC, **trip).status() == 401
    assert await Trip(KEY, **trip).status("x-key: front") == 0
    assert await Trip(KEY, **trip).status() == 401


async def test_the_backend_gets_the_locations_credentials_and_not_the_clients() -> None:
    trip: dict[str, Any] = {"proxy_set_headers": [f"Authorization: {BACK}"]}
    for plugins in (BASIC, hidden(BASIC)):
        assert await Trip(plugins, **trip).lines(f"authorization: {FRONT}") == [f"authorization: {BACK}"]


async def test_hidden_credentials_come_back_by_no_rule() -> None:
    for rule in ("X-Copy: $http_x_key", "X-Key: $http_x_key", "X-Copy: <$http_x_key> $upstream_addr"):
        said = await Trip(hidden(KEY), proxy_set_headers=[rule]).lines("x-key: front")
        assert "front" not in "".join(said)
    # To give a key to the backend under another name: do not hide it, and take it out by a rule.
    rules = ["X-Key:", "X-Consumer: $http_x_key"]
    assert await Trip(KEY, proxy_set_headers=rules).lines("x-key: front") == ["x-consumer: front"]


async def test_a_limit_counts_clients_by_what_they_sent() -> None:
    plugins: Sections = {"p": {"category": "limit", "tag": "header", "key": "X-Who", "type": "inflight", "max": 0}}
    assert await Trip(plugins, proxy_set_headers=["X-Who: all"]).status() == 0, "who has no key is not limited by it"
    assert await Trip(plugins, proxy_set_headers=["X-Who:"]).status("x-who: me") == 429


STEPS = ("early_request", "request", "proxy_upstream", "upstream_response", "response")


@pytest.mark.parametrize("step", STEPS)
async def test_every_step_sees_what_the_client_sent_and_the_rewritten_target(step: str, tmp_path: Path) -> None:
    rules = ["X-A: rule", "X-Forwarded-For: rule", "Accept-Encoding: identity", "Host: inner"]
    sent = "x-a: client\nx-forwarded-for: 6.6.6.6\naccept-encoding: gzip\nvia: 1.1 first"
    note = f"def {step}(self, exchange):\n    exchange.context['saw'] = [exchange.target, *map(':'.join, exchange.headers.items())]"
    plugins = {"p": section(tmp_path, plugin(note))}
    trip = Trip(plugins, proxy_set_headers=rules, enable_reverse_proxy_headers=True, rewrite="^/a /b", via="edge")
    async with trip.stage as stage:
        stage.publish(trip.made, trip.plans)
        outcome: Any = trip.router.route(request("/a?q=1", headers=sent, generation=stage.generation), lambda: 1.0)
        stage.answers_to_config()
        outcome = await stage.one(outcome)
        if "response" in step:
            outcome = await stage.one(stage.response())
        context = outcome.report.context if isinstance(outcome, Response) and outcome.report else outcome.variables
        saw = context["saw"]
    assert saw == ["/b?q=1", "host:example.com", *(line.replace(": ", ":") for line in sent.split("\n"))]


async def test_what_the_client_accepts_decides_about_compression_whatever_the_backend_is_told() -> None:
    plugins: Sections = {"p": {"category": "compression", "gzip_level": 6, "decompression": True}}
    trip = Trip(plugins, proxy_set_headers=["Accept-Encoding: identity"])
    async with trip.stage as stage:
        stage.publish(trip.made, trip.plans)
        stage.answers_to_config()
        routed: Any = trip.router.route(request(headers="accept-encoding: gzip", generation=stage.generation), lambda: 1.0)
        await stage.run(routed)
        answer = (await stage.run(stage.response("content-type: text/html", b"word " * 100)))[0]
        assert "content-encoding: gzip" in lines(answer.headers)


async def test_variables_of_response_headers_mean_what_the_client_sent() -> None:
    plugins: Sections = {
        "q": {"category": "key_auth", "header": "X-Key", "keys": ["front"], "hide_credentials": True},
        "p": {"category": "response_headers", "set_headers": ["X-O: $http_origin", "X-K: $http_x_key", "X-P: $proxy_add_x_forwarded_for"]},
    }
    trip = Trip(plugins, proxy_set_headers=["Origin: http://inner", "X-Key: back"], enable_reverse_proxy_headers=True)
    async with trip.stage as stage:
        stage.publish(trip.made, trip.plans)
        stage.answers_to_config()
        sent = request(headers="origin: http://site\nx-key: front\nx-forwarded-for: 6.6.6.6", generation=stage.generation)
        routed: Any = trip.router.route(sent, lambda: 1.0)
        await stage.one(routed)
        answer = await stage.one(stage.response())
        assert lines(answer.headers) == ["x-o: http://site", "x-k: front", "x-p: 192.0.2.7"]


# -- what plugins leave, then rules, and variables in them ----------------------------------


def setting(tmp_path: Path, name: str, value: str) -> Sections:
    return {"p": section(tmp_path, plugin(f"def request(self, exchange):\n    exchange.headers.set({name!r}, {value!r})"))}


async def test_a_rule_wins_over_what_a_plugin_set(tmp_path: Path) -> None:
    plugins = setting(tmp_path, "x-a", "plugin")
    assert await Trip(plugins).lines("x-a: client") == ["x-a: plugin"]
    assert await Trip(plugins, proxy_set_headers=["X-A: rule"]).lines("x-a: client") == ["x-a: rule"]
    assert await Trip(plugins, proxy_add_headers=["X-A: rule"]).lines("x-a: client") == ["x-a: plugin", "x-a: rule"]


async def test_variables_in_rules_mean_the_request_as_plugins_left_it(tmp_path: Path) -> None:
    """A plugin that says who the client is must not be overruled by what the client says of itself."""
    plugins = setting(tmp_path, "x-user", "ann")
    said = await Trip(plugins, proxy_set_headers=["X-Remote-User: $http_x_user"]).lines("x-user: root")
    assert said == ["x-user: ann", "x-remote-user: ann"]
    made: Sections = {"p": {"category": "request_id"}}
    [given, copied] = await Trip(made, proxy_set_headers=["X-Trace: $http_x_request_id"]).lines()
    assert given.split(": ")[1] == copied.split(": ")[1] != ""


async def test_context_of_plugins_is_known_to_rules() -> None:
    made: Sections = {"p": {"category": "request_id"}}
    assert await Trip(made, proxy_set_headers=["X-Trace: :request_id"]).lines("x-request-id: r1") == ["x-request-id: r1", "x-trace: r1"]


# -- forwarded headers ------------------------------------------------------------------------


async def test_plugins_and_then_the_account_of_the_client(tmp_path: Path) -> None:
    plugins = setting(tmp_path, "x-real-ip", "6.6.6.6")
    said = await Trip(plugins, enable_reverse_proxy_headers=True).lines("x-forwarded-proto: https")
    assert said[:2] == ["x-real-ip: 192.0.2.7", "x-forwarded-for: 192.0.2.7"]
    assert said[2] == "x-forwarded-proto: http"


async def test_what_a_trusted_peer_said_is_taken_as_plugins_left_it(tmp_path: Path) -> None:
    plugins = setting(tmp_path, "x-forwarded-proto", "wss")
    trip = Trip(plugins, ("192.0.2.0/24",), enable_reverse_proxy_headers=True)
    said = await trip.lines("x-forwarded-for: 203.0.113.9\nx-forwarded-proto: https")
    assert {"x-forwarded-proto: wss", "x-forwarded-for: 203.0.113.9, 192.0.2.7", "x-real-ip: 203.0.113.9"} <= set(said)


async def test_rules_have_the_last_word_about_forwarded_headers_and_via() -> None:
    rules = ["X-Real-IP: hidden", "X-Forwarded-For:", "Via: 1.1 other"]
    said = await Trip({}, via="edge", enable_reverse_proxy_headers=True, proxy_set_headers=rules).lines("via: 1.1 first")
    assert [line for line in said if line.startswith(("x-real", "x-forwarded-for", "via"))] == ["x-real-ip: hidden", "via: 1.1 other"]


async def test_forwarded_headers_are_there_before_via() -> None:
    said = await Trip({}, via="edge", enable_reverse_proxy_headers=True).lines()
    assert [line.partition(":")[0] for line in said][-2:] == ["x-forwarded-host", "via"]


# -- rewrite ------------------------------------------------------------------------------------


async def test_a_plugin_that_answers_by_path_sees_the_rewritten_one() -> None:
    plugins: Sections = {"p": {"category": "ping", "path": "/inner"}}
    trip = Trip(plugins, path="/outer", rewrite="^/outer /inner")
    outcome = await trip.sends("/outer")
    assert isinstance(outcome, Response)
    assert outcome.body == b"pong"


async def test_the_location_is_found_by_the_target_before_the_rewrite_and_the_headers_before_the_rules() -> None:
    trip = Trip({}, path="/outer", rewrite="^/outer /inner", match_headers=["x-a: 1"], proxy_set_headers=["X-A: 2"])
    assert (await trip.sends("/outer", "x-a: 1")).target == b"/inner"  # type: ignore[union-attr]
    for target, headers in (("/inner", "x-a: 1"), ("/outer", "x-a: 2")):
        assert isinstance(trip.router.route(request(target, headers=headers), lambda: 1.0), Refusal)


async def test_captures_of_the_rewrite_are_known_to_plugins_and_rules(tmp_path: Path) -> None:
    plugins = {"p": section(tmp_path, plugin("def request(self, exchange):\n    exchange.headers['x-p'] = exchange.context['kind']"))}
    trip = Trip(plugins, rewrite=r"^/(?<kind>\w+)/ /", proxy_set_headers=["X-R: :kind"])
    assert await trip.lines(target="/orders/1") == ["x-p: orders", "x-r: orders"]


# -- where nothing is in between --------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", [b"", b"websocket"])
async def test_without_plugins_the_rules_apply_all_the_same(upgrade: bytes) -> None:
    trip = Trip({}, proxy_set_headers=["X-A: 1"], enable_reverse_proxy_headers=True)
    outcome = await trip.sends(headers="x-a: 0", upgrade=upgrade)
    assert lines(outcome.headers)[-1] == "x-a: 1"
    assert outcome.upgrade == upgrade  # type: ignore[union-attr]


async def test_an_upgrade_passes_plugins_first() -> None:
    assert await Trip(KEY, proxy_set_headers=["X-Key: internal"]).status("upgrade-insecure-requests: 1") == 401
    outcome = await Trip(KEY, proxy_set_headers=["X-Key: internal"]).sends(headers="x-key: front", upgrade=b"websocket")
    assert lines(outcome.headers)[1:] == ["x-key: internal"]


async def test_what_a_plugin_sets_a_client_does_not_say_beside_it(tmp_path: Path) -> None:
    """CGI, WSGI and PHP make one variable of all three."""
    plugins = {"p": section(tmp_path, plugin("def request(self, exchange):\n    exchange.headers['X-User'] = 'ann'"))}
    assert await Trip(plugins).lines("x_user: root\nx-user: root\nx.user: root") == ["x-user: ann"]
