"""forward_auth: what the service is asked, and what becomes of its answer. With real servers: tests/e2e/test_forward_auth.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from pingap.config.problems import Note
from pingap.stages.forwarded import overwrite
from pingap.stages.messages import Cancel, Peer, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.fetch import MOST
from tests.plugins.script import PEER, PLUGINS, SID, Stage, data, lines

AUTH = {"category": "forward_auth", "auth_url": "upstream://u/verify?x=1"}
FIRST = (PLUGINS << 32) + 1
"""The sid of the first request of a plugin's own."""
TOLD = [
    "x-forwarded-method: GET",
    "x-forwarded-uri: /a?b=1",
    "x-original-uri: /a?b=1",
    "x-forwarded-host: example.com",
    "x-forwarded-proto: http",
    "x-forwarded-port: 8080",
    "x-forwarded-for: 192.0.2.7",
    "x-real-ip: 192.0.2.7",
]


async def asked(stage: Stage, headers: str = "", target: str = "/a?b=1", **more: Any) -> Routed:
    """What the service is asked because of a request."""
    question = await stage.one(stage.request(target, headers, **more))
    assert isinstance(question, Routed) and question.sid == FIRST
    assert (question.length, question.body, question.ended) == (0, b"", True)
    others = [line for line in lines(question.headers) if not line.startswith("x-forward-auth-way: ")]
    assert len(others) == len(lines(question.headers)) - 1
    return replace(question, headers="".join(f"{line}\r\n" for line in others).encode("latin-1"))


async def said(stage: Stage, status: int = 200, headers: str = "", body: bytes = b"", **more: Any) -> Response | Routed:
    """What becomes of the request when the service has answered."""
    envelope = await stage.one(stage.response(headers, body, status=status, sid=FIRST, **more))
    assert isinstance(envelope, Response | Routed) and envelope.sid == SID
    return envelope


# -- the question -----------------------------------------------------------------------------------


async def test_the_service_is_asked_with_the_head_of_the_request() -> None:
    async with Stage({"p": AUTH}) as stage:
        question = await asked(stage, "cookie: a=b\naccept: x\naccept: y\ncookie: c=d")
        assert (question.method, question.target, question.upstream) == (b"GET", b"/verify?x=1", "u")
        assert lines(question.headers) == ["accept: x", "accept: y", "cookie: a=b; c=d", *TOLD]


@pytest.mark.parametrize(
    ("url", "host"), [("https://auth.example.org", "auth.example.org"), ("http://Auth.example.org:81/v", "auth.example.org:81")]
)
async def test_the_service_may_be_at_any_url(url: str, host: str) -> None:
    async with Stage({"p": {**AUTH, "auth_url": url}}) as stage:
        question = await asked(stage)
        assert [line.lower() for line in lines(question.headers) if line.startswith("host: ")] == [f"host: {host}"]


OF_THE_CONNECTION = """
expect: 100-continue
content-encoding: gzip
content-range: bytes 1-2/3
range: bytes=1-2
if-range: "a"
if-match: "a"
if-none-match: *
if-modified-since: Sun, 29 Nov 2026 22:00:00 GMT
if-unmodified-since: Sun, 29 Nov 2026 22:00:00 GMT
http2-settings: AAMAAABkAAQCAAAAAAIAAAAA
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==
sec-websocket-version: 13
sec-websocket-extensions: permessage-deflate
"""
CLAIMS = """
x-forwarded-for: 10.0.0.1
x-forwarded-for: 10.0.0.2
x_forwarded_for: 10.0.0.3
x-forwarded-method: GET
x-forwarded-uri: /public
x-forwarded-host: other.example.com
x-forwarded-proto: https
x-forwarded-port: 443
x.forwarded.proto: https
x-forwarded-user: admin
x-real-ip: 10.0.0.1
x_real_ip: 10.0.0.1
x-original-uri: /public
forwarded: for=10.0.0.1
"""


async def test_nothing_about_connection_body_and_other_resources_goes_along() -> None:
    async with Stage({"p": AUTH}) as stage:
        question = await asked(stage, OF_THE_CONNECTION + "content-type: text/a\nsec-websocket-protocol: a", upgrade=b"websocket")
        assert lines(question.headers) == ["content-type: text/a", "sec-websocket-protocol: a", *TOLD]
        assert question.upgrade == b""


async def test_a_body_waits_until_the_service_has_answered() -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage, "content-type: a", body=None, method=b"POST")
        assert await stage.run() == [], "nobody is told to send any of it"
        passed = await said(stage)
        assert isinstance(passed, Routed)
        assert (passed.method, passed.length, passed.ended) == (b"POST", -1, False)


async def test_what_a_client_claims_is_left_out() -> None:
    async with Stage({"p": AUTH}) as stage:
        assert lines((await asked(stage, CLAIMS)).headers) == TOLD
    async with Stage({"p": {**AUTH, "request_headers": ["X-Forwarded-For", "X-Forwarded-User", "X-Real-IP"]}}) as stage:
        assert lines((await asked(stage, CLAIMS)).headers) == TOLD


async def test_what_a_trusted_proxy_says_counts() -> None:
    behind: dict[str, Any] = {"client_ip": "10.0.0.1", "peer": Peer("192.0.2.9", *PEER[1:])}
    async with Stage({"p": AUTH}) as stage:
        found = lines((await asked(stage, CLAIMS, **behind)).headers)
    assert found == [
        "x-forwarded-user: admin",
        "forwarded: for=10.0.0.1",
        *TOLD[:3],
        "x-forwarded-host: other.example.com",
        "x-forwarded-proto: https",
        "x-forwarded-port: 443",
        "x-forwarded-for: 10.0.0.1",
        "x-real-ip: 10.0.0.1",
    ]


async def test_only_the_headers_that_it_wants_go_along() -> None:
    async with Stage({"p": {**AUTH, "request_headers": ["Cookie", "X-Key"]}}) as stage:
        question = await asked(stage, "cookie: a=b\naccept: x\nx-key: 1\nx_key: 2\nx-key: 3\nauthorization: c")
        assert lines(question.headers) == ["x-key: 1", "x-key: 3", "cookie: a=b", *TOLD]


async def test_the_service_is_not_told_by_the_client_who_the_client_is() -> None:
    adding = {**AUTH, "add_headers": ["X-User", "Authorization"]}
    async with Stage({"p": adding}) as stage:
        assert lines((await asked(stage, "x-user: admin\nx_user: admin\nauthorization: c")).headers) == ["authorization: c", *TOLD]
    async with Stage({"p": {**adding, "request_headers": ["X-User"]}}) as stage:
        assert lines((await asked(stage, "x-user: admin\nx_user: admin\nauthorization: c")).headers) == ["x-user: admin", *TOLD]


async def test_the_service_hears_of_method_and_target_before_and_after_a_rewrite() -> None:
    for preserves, method in ((False, b"GET"), (True, b"DELETE")):
        async with Stage({"p": {**AUTH, "preserve_method": preserves}}) as stage:
            question = await asked(stage, target="/new?%C3%A9", original=b"/old/../%c3%a9", method=b"DELETE", host=b"Example.com:81")
            assert question.method == method
            found = lines(question.headers)
            assert found[:4] == [
                "x-forwarded-method: DELETE",
                "x-forwarded-uri: /new?%C3%A9",
                "x-original-uri: /old/../%c3%a9",
                "x-forwarded-host: Example.com",
            ]


# -- it lets pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
async def test_2xx_lets_pass_and_only_what_is_wanted_goes_to_the_backend(status: int) -> None:
    async with Stage({"p": {**AUTH, "add_headers": ["X-User", "X-Role", "Cookie"]}}) as stage:
        await asked(stage, "x-user: admin\nx_user: admin\nx.role: a\nx-role: b\nx-role: c\ncookie: a=b\naccept: x")
        passed = await said(stage, status, "x-user: ada\nx-role: one\nx-role: two\nset-cookie: s=1\nx-other: y", b"whatever")
        assert isinstance(passed, Routed)
        assert lines(passed.headers) == ["host: example.com", "accept: x", "x-user: ada", "x-role: one", "x-role: two"]
        assert passed.target == b"/a?b=1"


async def test_what_the_service_does_not_send_the_backend_does_not_get() -> None:
    async with Stage({"p": {**AUTH, "add_headers": ["X-User"]}}) as stage:
        await asked(stage, "x-user: admin\nx~user: root\nx-users: y")
        passed = await said(stage)
        assert lines(passed.headers) == ["host: example.com", "x-users: y"]


async def test_the_client_may_get_some_of_what_the_service_says() -> None:
    async with Stage({"p": {**AUTH, "response_headers": ["Set-Cookie", "X-Session", "X-Not"]}}) as stage:
        await asked(stage)
        passed = await said(stage, 200, "set-cookie: s=1\nset-cookie: t=2\nx-session: new\nx-other: y")
        assert isinstance(passed, Routed)
        answer = await stage.one(stage.response("set-cookie: b=0\nx-session: old\nx-not: z", b"page"))
        assert lines(answer.headers) == ["set-cookie: b=0", "x-not: z", "set-cookie: s=1", "set-cookie: t=2", "x-session: new"]
        assert stage.actor.held() == 0


async def test_without_that_answers_do_not_visit_the_stage() -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage)
        assert isinstance(await said(stage), Routed)
        assert stage.actor.held() == 0


# -- it does not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 407, 418, 429, 500, 502, 503, 599])
async def test_every_other_answer_is_the_clients(status: int) -> None:
    async with Stage({"p": {**AUTH, "add_headers": ["X-User"]}}) as stage:
        await asked(stage)
        refused = await said(
            stage, status, "location: /login?rd=%2Fa\nwww-authenticate: Basic\nwww-authenticate: Bearer\nset-cookie: a=1\nset-cookie: b=2"
            "\ncontent-type: text/a\ncontent-encoding: gzip\nalt-svc: h3\nretry-after: 5", b"\x1f\x8b"
        )  # fmt: skip
        assert isinstance(refused, Response)
        assert (refused.status, refused.body, refused.length) == (status, b"\x1f\x8b", 2)
        assert lines(refused.headers) == [
            "location: /login?rd=%2Fa",
            "www-authenticate: Basic",
            "www-authenticate: Bearer",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "content-type: text/a",
            "content-encoding: gzip",
            "retry-after: 5",
            "cache-control: private, no-cache",
        ]
        assert stage.actor.held() == 0


async def test_a_refusal_of_head_has_no_body() -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage, method=b"HEAD")
        refused = await said(stage, 403, "cache-control: no-store", b"no")
        assert isinstance(refused, Response)
        assert (refused.status, refused.body, refused.length, lines(refused.headers)) == (403, b"", 2, ["cache-control: no-store"])


async def failed(stage: Stage, envelope: Any) -> None:
    assert isinstance(envelope, Response)
    assert (envelope.status, envelope.body) == (502, b"Forward auth request failed")
    assert stage.actor.held() == 0
    [fields] = [fields for level, _, fields in stage.context.logged if level == "error"]
    assert fields["plugin"] == "p" and fields["service"] == "u" and fields["error"]


@pytest.mark.parametrize(
    "more",
    [
        {"status": 304},
        {"status": 502, "error": "connect_failed"},
        {"status": 504, "error": "gateway_timeout"},
        {"body": bytes(1024 * 1024 + 1)},
        {"body": bytes(1024 * 1024 + 1), "status": 403},
    ],
)
async def test_a_service_that_gives_no_answer_lets_nobody_pass(more: dict[str, Any]) -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage)
        envelopes = await stage.run(stage.response(sid=FIRST, **more))
        await failed(stage, next(one for one in envelopes if isinstance(one, Response)))


async def test_an_answer_that_breaks_off_lets_nobody_pass() -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage)
        assert await stage.run(stage.response(sid=FIRST, body=b"half", ended=False)) == []
        await failed(stage, await stage.one(data(b"", error="bad_gateway", sid=FIRST)))


async def test_it_waits_no_longer_than_it_may() -> None:
    async with Stage({"p": {**AUTH, "timeout": "20ms"}}) as stage:
        await asked(stage)
        out: list[Any] = []
        while not any(isinstance(one, Response) for one in out):
            await asyncio.sleep(0.005)
            out += stage.out()
        assert out[0] == Cancel(FIRST, "plugins")
        await failed(stage, out[1])


async def test_the_service_hears_when_the_client_has_left() -> None:
    async with Stage({"p": AUTH}) as stage:
        await asked(stage)
        assert Cancel(FIRST, "plugins") in await stage.run(Cancel(SID, "client"))
        assert stage.actor.held() == 0


async def test_a_question_that_comes_back_is_the_end_of_it() -> None:
    async with Stage({"p": {**AUTH, "request_headers": ["Cookie"]}}) as stage:
        question = await stage.one(stage.request(headers="x-forward-auth-way: other"))
        other, own = [line for line in lines(question.headers) if line.startswith("x-forward-auth-way: ")]
        assert other == "x-forward-auth-way: other"
        assert isinstance(await said(stage), Routed)
        back = f"{other}, {own.partition(': ')[2]},more"
        await failed(stage, await stage.one(stage.request(headers=f"x-forward-auth-way: a\n{back}", sid=SID + 1)))


async def test_when_too_many_wait_nobody_passes() -> None:
    async with Stage({"p": AUTH}) as stage:
        stage.actor._fetches._waiting = MOST
        answer = await stage.one(stage.request())
        assert isinstance(answer, Response) and answer.status == 503


# -- what is no configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"auth_url": ""}, "auth_url"),
        ({"auth_url": "not a url"}, "auth_url"),
        ({"auth_url": "ftp://a/"}, "auth_url"),
        ({"timeout": "0s"}, "timeout"),
        ({"timeout": "2h"}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"request_headers": "Cookie"}, "request_headers"),
        ({"request_headers": ["a b"]}, "request_headers[0]"),
        ({"add_headers": ["X-A", ""]}, "add_headers[1]"),
        ({"add_headers": ["Content-Length"]}, "add_headers[0]"),
        ({"add_headers": ["HOST"]}, "add_headers[0]"),
        ({"response_headers": ["Transfer-Encoding"]}, "response_headers[0]"),
        ({"step": "response"}, "step"),
    ],
)
def test_what_could_not_work_is_refused(more: dict[str, Any], key: str) -> None:
    assert [problem.path for problem in checking.check("p", {**AUTH, **more})] == [f"plugins.p.{key}"]


def test_the_url_is_required_and_the_usual_step_may_be_said() -> None:
    assert [problem.path for problem in checking.check("p", {"category": "forward_auth"})] == ["plugins.p.auth_url"]
    assert checking.check("p", {**AUTH, "step": "request"}) == []


@pytest.mark.parametrize("name", ["X-Real-Ip", "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded"])
def test_a_header_that_is_overwritten_later_is_noted(name: str) -> None:
    headers = {"add_headers": ["X-User", "X-Forwarded-User", name]}
    assert [(type(one), one.path) for one in checking.Checker()("p", {**AUTH, **headers})] == [(Note, "plugins.p.add_headers[2]")]
    said = f"{name.lower()}: of a plugin\r\n".encode()
    assert said not in overwrite(said, PEER, b"example.com")


def test_an_empty_list_of_headers_is_noted_as_it_is_all_of_them() -> None:
    [note] = checking.Checker()("p", {**AUTH, "request_headers": []})
    assert (type(note), note.path) == (Note, "plugins.p.request_headers")
    assert not checking.Checker()("p", AUTH)


def test_a_name_that_is_never_passed_on_is_noted() -> None:
    told = checking.Checker()("p", {**AUTH, "request_headers": ["Cookie", "If-Match", "X-Forwarded-For"]})
    assert [(type(one), one.path) for one in told] == [(Note, f"plugins.p.request_headers[{index}]") for index in (1, 2)]
