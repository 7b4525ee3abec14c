"""`jwt` makes tokens of what a backend answers at `auth_path`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.itinerary import RESPONSE_PLUGINS
from pingap.stages.messages import INLINE, Cancel, Response, Routed
from pingap.stages.plugins import checking, making
from pingap.stages.plugins.builtin import jwt as plugin
from pingap.stages.plugins.builtin.tokens.minting import LARGEST, Minter
from pingap.stages.plugins.builtin.tokens.token import json_object, parse
from tests.plugins.script import SID, Stage, bodies, credit, data, lines

SECRET = "it takes thirty-two bytes, or more" * 2
NOW = 1_800_000_000
MINTING = {"category": "jwt", "header": "Authorization", "secret": SECRET, "auth_path": "/login"}
CLAIMS = b'{"id":"u-1", "exp": 2000000000}'


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugin, "time", lambda: float(NOW))
    yield


async def minted(body: bytes = CLAIMS, answer: str = "content-type: text/plain", target: str = "/login", **more: Any) -> Response:
    """The answer to a request at auth_path, as accept gets it. more: of the section, or status."""
    given = {name: more.pop(name) for name in ("status",) if name in more}
    async with Stage({"p": {**MINTING, **more}}) as stage:
        return await stage.exchange(target, "", answer, body, **given)


def header(answered: Response | Routed, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answered.headers) if line.startswith(f"{name}: ")]


def payload(response: Response) -> bytes:
    token: str = json.loads(response.body)["token"]
    body = token.split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


@pytest.mark.parametrize(
    ("algorithm", "alg"), [("", "HS256"), ("HS256", "HS256"), ("HS384", "HS384"), ("HS512", "HS512"), (["HS512", "HS256"], "HS512")]
)
async def test_an_answer_is_signed_as_it_is(algorithm: Any, alg: str) -> None:
    response = await minted(algorithm=algorithm)
    assert (response.status, response.length, response.ended) == (200, len(response.body), True)
    assert response.body.startswith(b'{"token": "') and response.body.endswith(b'"}')
    token = json.loads(response.body)["token"]
    assert base64.urlsafe_b64decode(token.split(".")[0] + "==") == b'{"alg": "%b","typ": "JWT"}' % alg.encode()
    assert payload(response) == CLAIMS
    assert pyjwt.decode(token, SECRET, [alg]) == {"id": "u-1", "exp": 2000000000}
    assert header(response, "content-type") == ["application/json; charset=utf-8"]
    async with Stage({"p": {**MINTING, "algorithm": algorithm}}) as stage:
        assert isinstance(await stage.one(stage.request("/", f"authorization: Bearer {token}")), Routed)


async def test_it_is_the_token_that_the_reference_makes() -> None:
    """Of its tests: pingap-plugin/src/jwt.rs, with a JSON object instead of a text."""
    token = Minter(b"123123", "HS256", 0).mint(b'{"name":"Pingap"}', NOW)
    assert token is not None and token.startswith(b"eyJhbGciOiAiSFMyNTYiLCJ0eXAiOiAiSldUIn0.")


async def test_at_auth_path_no_token_is_needed_and_elsewhere_one_is() -> None:
    async with Stage({"p": MINTING}) as stage:
        for target in ("/login", "/login?next=/a"):
            for method in (b"GET", b"POST"):
                assert isinstance(await stage.one(stage.request(target, method=method)), Routed)
        for target in ("/login/", "/Login", "/logi", "//login", "/"):
            assert (await stage.one(stage.request(target))).status == 401


async def test_the_backend_is_asked_for_the_whole_answer_as_it_is() -> None:
    async with Stage({"p": MINTING}) as stage:
        routed = await stage.one(stage.request("/login", "accept-encoding: gzip, br\nrange: bytes=0-3"))
        assert lines(routed.headers) == ["host: example.com", "accept-encoding: identity"]


async def test_a_client_cannot_give_itself_claims_where_no_token_is_needed() -> None:
    async with Stage({"p": {**MINTING, "claims_to_headers": ["X-User: sub"]}}) as stage:
        routed = await stage.one(stage.request("/login", "x-user: root\nx_user: root\nx.user: root"))
        assert lines(routed.headers) == ["host: example.com", "accept-encoding: identity"]


async def test_what_is_said_of_the_body_before_does_not_hold_after() -> None:
    answer = 'etag: "1"\nlast-modified: x\naccept-ranges: bytes\ncontent-md5: x\ndigest: x\ncache-control: public, max-age=60\nx-other: 1'
    response = await minted(answer=answer)
    assert sorted(lines(response.headers)) == [
        "cache-control: private, no-store",
        "content-type: application/json; charset=utf-8",
        "x-other: 1",
    ]


async def test_the_answer_to_head_is_not_stored_either() -> None:
    for status, expected in ((200, ["private, no-store"]), (404, ["public"])):
        async with Stage({"p": MINTING}) as stage:
            await stage.one(stage.request("/login", method=b"HEAD"))
            response = await stage.one(stage.response("cache-control: public", b"", status=status))
            assert isinstance(response, Response) and header(response, "cache-control") == expected


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_good_answers_are_signed(status: int) -> None:
    response = await minted(status=status)
    assert response.status == status and payload(response) == CLAIMS


@pytest.mark.parametrize("status", [206, 301, 400, 401, 500])
async def test_other_answers_pass(status: int) -> None:
    response = await minted(status=status)
    assert (response.status, response.body, header(response, "content-type")) == (status, CLAIMS, ["text/plain"])


@pytest.mark.parametrize(
    "body",
    [b"", b"Pingap", b"<html>", b'"text"', b"[1]", b"null", b"{", b'{"a":1}{}', b'{"exp":NaN}', b'{"a":"\xff"}', b"{}" + b" " * LARGEST],
)
async def test_what_is_no_json_object_is_not_signed(body: bytes) -> None:
    for ttl in ("0s", "1h"):
        response = await minted(body, token_ttl=ttl)
        assert (response.body, response.length, header(response, "content-type")) == (body, len(body), ["text/plain"])


async def test_a_compressed_answer_is_not_signed() -> None:
    async with Stage({"p": MINTING}) as stage:
        response = await stage.exchange("/login", "", "content-encoding: gzip", b"\x1f\x8b")
        assert response.body == b"\x1f\x8b" and header(response, "content-encoding") == ["gzip"]
        assert stage.context.logged[-1][1] == "jwt: a compressed answer is not signed"
    assert payload(await minted(answer="content-encoding: identity")) == CLAIMS


async def test_head_says_nothing_of_a_body_that_nobody_knows() -> None:
    async with Stage({"p": MINTING}) as stage:
        assert isinstance(await stage.one(stage.request("/login", method=b"HEAD")), Routed)
        response = await stage.one(stage.response("content-type: text/plain", b"", length=len(CLAIMS)))
        assert (response.status, response.body, response.length) == (200, b"", -1)


async def test_an_answer_that_comes_in_pieces_is_signed_whole() -> None:
    async with Stage({"p": MINTING}) as stage:
        assert isinstance(await stage.one(stage.request("/login")), Routed)
        assert await stage.run(stage.response("", CLAIMS[:10], ended=False)) == []
        assert await stage.run(data(CLAIMS[10:20])) == []
        [response] = await stage.run(data(CLAIMS[20:], ended=True))
        assert payload(response) == CLAIMS and response.length == len(response.body)


async def test_a_long_answer_passes_as_it_is() -> None:
    body = b"<html>" * INLINE
    async with Stage({"p": MINTING}) as stage:
        assert isinstance(await stage.one(stage.request("/login")), Routed)
        out = await stage.run(stage.response("", body[:INLINE], ended=False), credit(len(body)))
        out += await stage.run(data(body[INLINE:], ended=True), credit(len(body)))
        assert bodies(out) == body


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    async with Stage({"p": MINTING}) as stage:
        await stage.one(stage.request("/login"))
        await stage.run(stage.response("", CLAIMS[:10], ended=False))
        await stage.run(Cancel(SID, "client"))
        assert stage.actor.held() == 0


@pytest.mark.parametrize(
    ("body", "signed"),
    [
        (b'{"id":1}', b'{"iat":1800000000,"exp":1800028800,"id":1}'),
        (b' {"id":1} ', b' {"iat":1800000000,"exp":1800028800,"id":1} '),
        (b"{}", b'{"iat":1800000000,"exp":1800028800}'),
        (b"{ }", b'{"iat":1800000000,"exp":1800028800 }'),
        (b'{"exp":5}', b'{"iat":1800000000,"exp":5}'),
        (b'{"iat":5,"exp":6}', b'{"iat":5,"exp":6}'),
        (b'{"exp":null,"iat":null}', b'{"exp":null,"iat":null}'),
        (b'{"a":{"exp":1},"n":1.0,"big":123456789012345678901234567890}',)
        + (b'{"iat":1800000000,"exp":1800028800,"a":{"exp":1},"n":1.0,"big":123456789012345678901234567890}',),
    ],
)
async def test_a_token_gets_times_that_the_backend_has_not_said(body: bytes, signed: bytes) -> None:
    response = await minted(body, token_ttl="8h")
    assert payload(response) == signed
    assert payload(await minted(body)) == body


async def test_a_token_is_not_taken_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    token = json.loads((await minted(b'{"id":1}', token_ttl="8h")).body)["token"]
    for later, status in ((28799, None), (28800, 401)):
        monkeypatch.setattr(plugin, "time", lambda later=later: float(NOW + later))
        async with Stage({"p": MINTING}) as stage:
            answer = await stage.one(stage.request("/", f"authorization: {token}"))
            assert getattr(answer, "status", None) == status


async def test_what_another_plugin_answers_is_not_signed() -> None:
    async with Stage({"p": MINTING, "m": {"category": "mock", "path": "/login", "data": "{}"}}) as stage:
        assert (await stage.one(stage.request("/login"))).body == b"{}"


def test_without_an_auth_path_answers_do_not_visit_the_stage() -> None:
    for path, wants in (("", False), ("/login", True)):
        made = making.make("p", {**MINTING, "auth_path": path}, checking.load_guard)
        assert bool(made.plan & RESPONSE_PLUGINS) is wants


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.text(max_size=9) | st.sampled_from(["exp", "iat"])


@settings(max_examples=50)
@given(st.dictionaries(KEYS, JSON, max_size=4), st.sampled_from(["HS256", "HS384", "HS512"]), st.sampled_from([0.0, 60.0]))
def test_whatever_is_signed_is_said_again_by_who_reads_it(claims: dict[str, Any], alg: str, ttl: float) -> None:
    body = json.dumps(claims).encode()
    token = Minter(SECRET.encode(), alg, ttl).mint(body, NOW)
    assert token is not None
    times = {"iat": NOW, "exp": NOW + 60} if ttl else {}
    said = json_object(parse(token).payload)
    read = pyjwt.decode(token, SECRET, [alg], options={"verify_exp": False, "verify_iat": False, "verify_sub": False, "verify_jti": False,
        "verify_aud": False, "verify_iss": False, "verify_nbf": False})  # fmt: skip
    assert said == read == {**times, **claims}
