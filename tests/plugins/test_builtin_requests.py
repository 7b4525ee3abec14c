"""Built-in plugins that look at requests, as a client meets them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from pingap.stages.messages import Cancel, Response, Routed
from tests.plugins.script import SID, Stage, lines

Section = dict[str, Any]


async def answer(section: Section, target: str = "/", headers: str = "", **more: Any) -> Response | Routed:
    async with Stage({"p": section}) as stage:
        envelope = await stage.one(stage.request(target, headers, **more))
        assert isinstance(envelope, Response | Routed)
        return envelope


def header(answered: Response | Routed, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answered.headers) if line.startswith(f"{name}: ")]


# -- ping --------------------------------------------------------------------


async def test_ping_answers_pong_at_its_path_and_nowhere_else() -> None:
    section = {"category": "ping", "path": "/ping"}
    pong = await answer(section, "/ping?x=1", method=b"POST")
    assert isinstance(pong, Response)
    assert (pong.status, pong.body, pong.ended, pong.length) == (200, b"pong", True, 4)
    assert isinstance(await answer(section, "/pin"), Routed)
    assert isinstance(await answer(section, "/ping/"), Routed)


async def test_an_answer_to_head_has_a_length_but_no_body() -> None:
    pong = await answer({"category": "ping", "path": "/ping"}, "/ping", method=b"HEAD")
    assert isinstance(pong, Response)
    assert (pong.body, pong.length) == (b"", 4)


async def test_the_built_in_ping_needs_no_section() -> None:
    async with Stage({}, names=["pingap:ping"]) as stage:
        assert (await stage.one(stage.request("/ping"))).body == b"pong"


@pytest.mark.parametrize("section", [{"category": "ping"}, {"category": "mock"}], ids=lambda section: section["category"])
async def test_a_path_outside_ascii_is_compared_as_clients_send_it(section: dict[str, Any]) -> None:
    for target in ("/%C3%BCn/%C3%AF", "/%c3%bcn/%C3%af?q"):
        assert isinstance(await answer({**section, "path": "/ün/ï"}, target), Response)
    assert isinstance(await answer({**section, "path": "/ün/ï"}, "/%C3%BCn/%C3%AF/"), Routed)


# -- mock --------------------------------------------------------------------


async def test_mock_answers_for_the_backend() -> None:
    section = {"category": "mock", "status": 503, "headers": ["Retry-After: 600", "X-A: b"], "data": "<h1>soon</h1>"}
    mocked = await answer(section, "/anything")
    assert isinstance(mocked, Response)
    assert (mocked.status, mocked.body) == (503, b"<h1>soon</h1>")
    assert header(mocked, "retry-after") == ["600"]
    assert header(mocked, "cache-control") == ["private, no-cache"]


async def test_mock_with_a_path_lets_other_paths_pass() -> None:
    section = {"category": "mock", "path": "/a", "data": "x"}
    assert isinstance(await answer(section, "/a"), Response)
    assert isinstance(await answer(section, "/a/b"), Routed)


async def test_mock_waits_before_it_answers() -> None:
    async with Stage({"p": {"category": "mock", "delay": "20ms", "data": "x"}}) as stage:
        assert await stage.run(stage.request()) == []
        assert stage.actor.held() == 1
        await stage.actor.streams.by_sid[SID].task  # type: ignore[misc]
        [late] = stage.out()
        assert late.body == b"x"
        assert stage.actor.held() == 0


async def test_a_client_that_leaves_during_a_delay_is_forgotten() -> None:
    async with Stage({"p": {"category": "mock", "delay": "10s"}}) as stage:
        await stage.run(stage.request())
        assert await stage.run(Cancel(SID, "client")) == []
        assert stage.actor.held() == 0


async def test_at_proxy_upstream_a_mock_answers_only_what_would_go_to_an_upstream() -> None:
    section = {"category": "mock", "step": "proxy_upstream", "data": "x"}
    assert (await answer(section)).body == b"x"
    nowhere = await answer(section, upstream="")
    assert isinstance(nowhere, Response)
    assert (nowhere.status, nowhere.report and nowhere.report.error) == (404, "not_found")


# -- redirect ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "target", "host", "location"),
    [
        ({"http_to_https": True}, "/a?b=1", "example.com", "https://example.com/a?b=1"),
        ({"http_to_https": True}, "/a", "example.com:8080", "https://example.com/a"),
        ({"http_to_https": True}, "/a", "[::1]:8080", "https://[::1]/a"),
        ({"http_to_https": True, "prefix": "/api"}, "/users", "example.com", "https://example.com/api/users"),
        ({"http_to_https": True, "prefix": "/api"}, "/api/users", "example.com", "https://example.com/api/users"),
        ({"prefix": "api"}, "/users", "example.com:8080", "http://example.com:8080/api/users"),
        ({"prefix": "/api"}, "/apis", "example.com", "http://example.com/api/apis"),
    ],
)
async def test_redirect_sends_elsewhere(section: Section, target: str, host: str, location: str) -> None:
    redirected = await answer({"category": "redirect", **section}, target, host=host.encode())
    assert isinstance(redirected, Response)
    assert redirected.status == 307
    assert header(redirected, "location") == [location]


@pytest.mark.parametrize("target", ["/api", "/api/users", "/api?x=1"])
async def test_redirect_leaves_alone_what_is_in_place(target: str) -> None:
    assert isinstance(await answer({"category": "redirect", "prefix": "/api"}, target), Routed)


async def test_redirect_uses_the_status_that_it_is_given() -> None:
    redirected = await answer({"category": "redirect", "http_to_https": True, "status": 308})
    assert isinstance(redirected, Response) and redirected.status == 308


# -- request_id ----------------------------------------------------------------


async def test_a_request_without_an_id_gets_one_that_sorts_by_time() -> None:
    async with Stage({}, names=["pingap:requestId"]) as stage:
        first = await stage.one(stage.request())
        second = await stage.one(stage.request(sid=SID + 1))
    [one], [two] = header(first, "x-request-id"), header(second, "x-request-id")
    assert one != two
    assert (len(one), one[14], one[19] in "89ab") == (36, "7", True)
    assert one[:13] <= two[:13]
    assert first.variables["request_id"] == one


async def test_an_id_that_the_client_brings_is_kept() -> None:
    routed = await answer({"category": "request_id"}, headers="X-Request-Id: abc".lower())
    assert header(routed, "x-request-id") == ["abc"]
    assert isinstance(routed, Routed) and routed.variables["request_id"] == "abc"


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Trace"])
@pytest.mark.parametrize("given", ["{}: \r\n", "{0}: \r\n{0}: second\r\n", "a: 1\r\n{}: \r\nb: 2\r\n"])
async def test_an_empty_id_counts_as_none(name: str, given: str) -> None:
    headers = given.format(name.lower()).encode()
    async with Stage({"p": {"category": "request_id", "header_name": name}}) as stage:
        request = stage.request()
        routed = await stage.one(replace(request, headers=headers))
    assert isinstance(routed, Routed)
    [made] = header(routed, name.lower())
    assert len(made) == 36 and routed.variables["request_id"] == made


async def test_ids_can_be_short_and_in_another_header() -> None:
    routed = await answer({"category": "request_id", "algorithm": "nanoid", "size": 12, "header_name": "X-Trace"})
    assert [len(value) for value in header(routed, "x-trace")] == [12]


async def test_a_request_that_nothing_waits_for_leaves_no_state() -> None:
    async with Stage({}, names=["pingap:requestId"]) as stage:
        routed = await stage.one(stage.request())
        assert stage.actor.held() == 0
        assert stage.actor.figures() == {"requests": 1, "in_flight": 0}
    assert routed.stamps[:2] == (1.0, 2.0)
    assert 2.0 < routed.stamps[2] <= routed.stamps[3]


# -- basic_auth ------------------------------------------------------------------


def basic(text: str) -> str:
    return f"authorization: Basic {base64.b64encode(text.encode()).decode()}"


ACCOUNTS = {"category": "basic_auth", "authorizations": ["cGluZ2FwOjEyMzEyMw==", "YWRtaW46c2VjcmV0"]}


async def test_basic_auth_asks_for_a_password() -> None:
    refused = await answer(ACCOUNTS)
    assert isinstance(refused, Response)
    assert (refused.status, refused.body) == (401, b"Authorization is missing")
    assert header(refused, "www-authenticate") == ['Basic realm="Access to the staging site"']


@pytest.mark.parametrize(
    "given", [basic("pingap:wrong"), "authorization: Basic", "authorization: Bearer YWRtaW46c2VjcmV0", basic("pingap:123123") + "x"]
)
async def test_basic_auth_refuses_wrong_passwords(given: str) -> None:
    refused = await answer(ACCOUNTS, headers=given)
    assert isinstance(refused, Response)
    assert (refused.status, refused.body) == (401, b"Invalid user or password")


@pytest.mark.parametrize("account", ["pingap:123123", "admin:secret"])
@pytest.mark.parametrize("hides", [True, False])
async def test_basic_auth_lets_accounts_in(account: str, hides: bool) -> None:
    routed = await answer({**ACCOUNTS, "hide_credentials": hides}, headers=basic(account))
    assert isinstance(routed, Routed)
    assert bool(header(routed, "authorization")) is not hides


async def test_basic_auth_delays_only_failures() -> None:
    section = {**ACCOUNTS, "delay": "20ms"}
    async with Stage({"p": section}) as stage:
        assert await stage.run(stage.request(headers=basic("a:b"))) == []
        await stage.actor.streams.by_sid[SID].task  # type: ignore[misc]
        assert [refused.status for refused in stage.out()] == [401]
        assert len(await stage.run(stage.request(headers=basic("admin:secret")))) == 1


async def test_an_upgrade_does_not_get_past_authentication() -> None:
    refused = await answer(ACCOUNTS, upgrade=b"websocket")
    assert isinstance(refused, Response) and refused.status == 401


# -- key_auth ----------------------------------------------------------------------

KEYS = {"category": "key_auth", "header": "X-API-Key", "keys": ["KOXQaw", "GKvXY2"]}


@pytest.mark.parametrize(
    ("section", "target", "headers", "body"),
    [
        (KEYS, "/", "", b"Key missing"),
        (KEYS, "/", "x-api-key: ", b"Key missing"),
        (KEYS, "/", "x-api-key: nope", b"Key auth fail"),
        ({**KEYS, "query": "key"}, "/", "x-api-key: KOXQaw", b"Key missing"),
        ({**KEYS, "query": "key"}, "/?key=", "", b"Key missing"),
        ({**KEYS, "query": "ü"}, "/?%c3%bc=x", "", b"Key auth fail"),
        ({**KEYS, "query": "key"}, "/?akey=KOXQaw&key=x", "", b"Key auth fail"),
    ],
)
async def test_key_auth_refuses(section: Section, target: str, headers: str, body: bytes) -> None:
    refused = await answer(section, target, headers)
    assert isinstance(refused, Response)
    assert (refused.status, refused.body) == (401, body)


async def test_key_auth_takes_the_key_out_of_what_the_backend_gets() -> None:
    section = {**KEYS, "hide_credentials": True}
    routed = await answer(section, headers="x-api-key: GKvXY2\nx-other: 1")
    assert isinstance(routed, Routed)
    assert lines(routed.headers) == ["host: example.com", "x-other: 1"]
    routed = await answer({**section, "query": "key"}, "/a?x=1&key=KOXQaw&y=2&key=KOXQaw&z=3;KEY=KOXQaw&keys=4")
    assert isinstance(routed, Routed) and routed.target == b"/a?x=1&y=2&z=3&keys=4"
    routed = await answer({**section, "query": "key"}, "/a?key=KOXQaw")
    assert isinstance(routed, Routed) and routed.target == b"/a"


@pytest.mark.parametrize(
    ("section", "target", "headers"),
    [
        (KEYS, "/", "x-api-key: KOXQaw\nx-api-key: OTHER"),
        (KEYS, "/", "x-api-key: KOXQaw\nx_api_key: OTHER"),
        (KEYS, "/", "x.api_key: OTHER\nx-api-key: KOXQaw"),
        ({**KEYS, "query": "key"}, "/?key=KOXQaw&key=OTHER", ""),
        ({**KEYS, "query": "key"}, "/?%6Bey=OTHER&key=KOXQaw", ""),
        ({**KEYS, "query": "key"}, "/?a=1;key=OTHER&key=KOXQaw", ""),
        ({"category": "basic_auth", "authorizations": ["YTpi"]}, "/", "authorization: Basic YTpi\nauthorization: OTHER"),
    ],
)
async def test_a_second_credential_is_not_left_to_the_backend(section: Section, target: str, headers: str) -> None:
    """It might read that one, which nobody has looked at."""
    refused = await answer(section, target, headers)
    assert isinstance(refused, Response) and refused.status == 401
    if section is KEYS or "query" in section:
        both = [text.replace("OTHER", "KOXQaw") for text in (target, headers)]
        assert isinstance(await answer(section, *both), Routed)


async def test_a_key_may_have_any_sign_in_it() -> None:
    section = {"category": "key_auth", "query": "key", "keys": ["a;b=c"], "hide_credentials": True}
    routed = await answer(section, "/a?key=a;b=c&x=1")
    assert isinstance(routed, Routed) and routed.target == b"/a?x=1"


# -- ip_restriction -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "listed", "ip", "passes"),
    [
        ("allow", ["10.0.0.0/8", "::1"], "10.1.2.3", True),
        ("allow", ["10.0.0.0/8", "::1"], "::1", True),
        ("allow", ["10.0.0.0/8", "::1"], "11.0.0.1", False),
        ("allow", [], "10.1.2.3", False),
        ("Deny", ["1.2.3.4", "203.0.113.0/24"], "203.0.113.9", False),
        ("deny", ["1.2.3.4", "203.0.113.0/24"], "203.0.114.9", True),
        ("deny", ["10.0.0.0/8"], "::ffff:10.0.0.1", False),
    ],
)
async def test_ip_restriction_goes_by_the_list(kind: str, listed: list[str], ip: str, passes: bool) -> None:
    decided = await answer({"category": "ip_restriction", "type": kind, "ip_list": listed, "message": "no"}, client_ip=ip)
    if passes:
        assert isinstance(decided, Routed)
    else:
        assert isinstance(decided, Response)
        assert (decided.status, decided.body) == (403, b"no")


async def test_who_has_no_address_is_let_in_by_no_list() -> None:
    decided = await answer({"category": "ip_restriction", "type": "deny", "ip_list": []}, client_ip="")
    assert isinstance(decided, Response) and decided.status == 400


async def test_plugins_run_in_the_order_of_the_location() -> None:
    plugins = {"open": {"category": "ping", "path": "/ping"}, "closed": {"category": "ip_restriction"}}
    async with Stage(plugins) as stage:
        assert (await stage.one(stage.request("/ping"))).body == b"pong"
    async with Stage(plugins, names=["closed", "open"]) as stage:
        assert (await stage.one(stage.request("/ping"))).status == 403
