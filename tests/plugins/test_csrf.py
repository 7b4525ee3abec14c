"""csrf: whose requests change something, and whose do not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import pytest

from pingap.config.problems import Note
from pingap.stages.messages import Peer, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin import csrf
from tests.plugins.script import PEER, Stage, lines

NOW = 1_764_000_000
KEY = "wax and seal"
CSRF = {"category": "csrf", "token_path": "/token", "key": KEY}
BOUND = {**CSRF, "session_cookie": "sid"}
TLS = Peer(*PEER[:4], "https", *PEER[5:])


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [NOW]
    monkeypatch.setattr(csrf, "time", lambda: now[0])
    return now


def theirs(key: str = KEY, made: str = f"{NOW:x}", identity: str = "V1StGXR8_Z5j") -> str:
    """A token as the reference makes it."""
    digest = hashlib.sha256(f"{identity}.{made}{key}".encode()).digest()
    return f"{identity}.{made}.{base64.b64encode(digest).decode()}"


async def ask(stage: Stage, target: str = "/a", headers: str = "", **more: Any) -> Response | Routed:
    envelope = await stage.one(stage.request(target, headers, **more))
    assert isinstance(envelope, Response | Routed)
    return envelope


async def fetched(stage: Stage, headers: str = "", **more: Any) -> tuple[str, str, str]:
    """Name, token and attributes of the cookie that one gets."""
    answer = await ask(stage, "/token", headers, **more)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (204, b"")
    assert "cache-control: private, no-store" in lines(answer.headers)
    [cookie] = [line for line in lines(answer.headers) if line.startswith("set-cookie: ")]
    name, _, rest = cookie.removeprefix("set-cookie: ").partition("=")
    token, _, attributes = rest.partition("; ")
    return name, token, attributes


def both(token: str, cookies: str = "", name: str = "x-csrf-token") -> str:
    return f"{name}: {token}\ncookie: {cookies}{name}={token}"


async def passes(stage: Stage, headers: str = "", method: bytes = b"POST", **more: Any) -> bool:
    answer = await ask(stage, headers=headers, method=method, **more)
    if isinstance(answer, Routed):
        return True
    assert (answer.status, answer.body) in ((401, b"Csrf token is empty or invalid"), (403, b"Csrf origin is not allowed"))
    return False


# -- tokens ---------------------------------------------------------------------------------------


async def test_a_token_that_was_fetched_lets_a_request_pass() -> None:
    async with Stage({"p": CSRF}) as stage:
        name, token, attributes = await fetched(stage)
        assert (name, attributes) == ("x-csrf-token", "Path=/; SameSite=Lax")
        assert re.fullmatch(rf"[\w-]{{12}}\.{NOW:x}\.[\w+/]{{43}}=", token), "the reference takes it, too"
        assert token == theirs(identity=token[:12])
        assert token != (await fetched(stage, method=b"POST"))[1]
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"get", b"QUERY"):
            assert await passes(stage, both(token), method)
            assert await passes(stage, both(token, "a=b; "), method)
            assert not await passes(stage, "", method)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE"])
async def test_what_changes_nothing_needs_no_token(method: bytes) -> None:
    async with Stage({"p": CSRF}) as stage:
        assert await passes(stage, method=method)
        assert await passes(stage, "x-csrf-token: junk", method=method)


async def test_tokens_of_the_reference_stay_good() -> None:
    async with Stage({"p": CSRF}) as stage:
        assert await passes(stage, both(theirs()))
        assert await passes(stage, both(theirs(made="5f000000")))
        assert not await passes(stage, both(theirs(key="other")))


@pytest.mark.parametrize(
    "headers",
    [
        f"x-csrf-token: {theirs()}",
        f"cookie: x-csrf-token={theirs()}",
        f"x-csrf-token: {theirs()}\ncookie: x-csrf-token={theirs(identity='other0000000')}",
        f"x-csrf-token: {theirs()}\ncookie: X-CSRF-Token={theirs()}",
        f"x_csrf_token: {theirs()}\ncookie: x-csrf-token={theirs()}",
        f"x-csrf-token: {theirs()}\nx-csrf-token: {theirs()}\ncookie: x-csrf-token={theirs()}",
        both(theirs(), f"x-csrf-token={theirs(identity='tossed000000')}; "),
        both(theirs()) + f"\ncookie: x-csrf-token={theirs(identity='tossed000000')}",
        both(""),
        both("a.b.c"),
        both(".."),
        both(theirs() + "."),
        both("x." + theirs()),
        both(theirs()[:-1]),
        both(theirs().replace("=", "%3D")),
        both(theirs(made="-1")),
        both(theirs(made="")),
        both(theirs(identity="")),
        both(theirs(made="0x5f")),
        both(theirs(made="f" * 17)),
        both(theirs(made="5F000000")),
        both(theirs(identity="a" * 60_000)),
        both("é" * 66),
        both("\u0661".encode().decode("latin-1") * 30),
        both(theirs(key="")),
    ],
)
async def test_what_is_no_token_of_ours_is_refused(headers: str) -> None:
    async with Stage({"p": CSRF}) as stage:
        assert not await passes(stage, headers)


@pytest.mark.parametrize("plugin", [CSRF, BOUND], ids=["theirs", "bound"])
async def test_no_byte_of_a_token_can_be_another(plugin: dict[str, Any]) -> None:
    async with Stage({"p": plugin}) as stage:
        _, token, _ = await fetched(stage)
        assert await passes(stage, both(token))
        for at, sign in enumerate(token):
            for other in {"A", "0", "."} - {sign}:
                assert not await passes(stage, both(token[:at] + other + token[at + 1 :])), at


async def test_the_time_it_takes_says_nothing_about_what_was_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token that could be one is compared as a whole, with its cookie and with its signature, by what takes the same time for all."""
    compared: list[bytes] = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append(given)
        return real(given, wanted)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    right = theirs()
    async with Stage({"p": CSRF}) as stage:
        for token in (right, right[:-2] + "A=", "A" + right[1:], theirs(key="other"), "a.b.c"):
            for headers in (both(token), f"x-csrf-token: {token}\ncookie: x-csrf-token=other"):
                compared.clear()
                await passes(stage, headers)
                assert compared == [token.encode(), token.rpartition(".")[2].encode()]


async def test_two_cookies_that_agree_are_one() -> None:
    async with Stage({"p": CSRF}) as stage:
        assert await passes(stage, both(theirs(), f"x-csrf-token={theirs()}; "))


async def test_a_token_may_have_an_end(clock: list[int]) -> None:
    async with Stage({"p": {**CSRF, "ttl": "1h"}}) as stage:
        _, token, attributes = await fetched(stage)
        assert attributes == "Path=/; Max-Age=3600; SameSite=Lax"
        clock[0] += 3600
        assert await passes(stage, both(token))
        clock[0] += 1
        assert not await passes(stage, both(token))
        assert await passes(stage, both(theirs(made=f"{clock[0] + 30:x}"))), "clocks of replicas differ"
    async with Stage({"p": CSRF}) as stage:
        clock[0] += 10**9
        assert await passes(stage, both(token))


async def test_only_its_own_path_gives_out_tokens() -> None:
    async with Stage({"p": {**CSRF, "token_path": "/tökén"}}) as stage:
        for target in ("/t%C3%B6k%c3%a9n", "/t%c3%b6k%C3%A9n?x=1"):
            answer = await ask(stage, target, method=b"POST")
            assert isinstance(answer, Response) and answer.status == 204
        for target in ("/t%C3%B6k%C3%A9n/", "/token", "/t%C3%B6k%C3%A9n/../x"):
            assert isinstance(await ask(stage, target), Routed)


async def test_header_and_cookie_can_have_another_name() -> None:
    async with Stage({"p": {**CSRF, "name": "X-Stamp"}}) as stage:
        name, token, _ = await fetched(stage)
        assert name == "X-Stamp"
        assert await passes(stage, f"x-stamp: {token}\ncookie: X-Stamp={token}")
        assert not await passes(stage, both(token))


@pytest.mark.parametrize(("key", "paths"), [("fifteen-letters", ["plugins.p.key"]), ("sixteen-letters!", [])])
def test_a_key_that_is_easily_found_out_is_noted(key: str, paths: list[str]) -> None:
    told = checking.Checker()("p", {**CSRF, "key": key})
    assert [one.path for one in told if isinstance(one, Note)] == [one.path for one in told] == paths
    assert key not in str(told)


# -- sessions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "session"),
    [(BOUND, "cookie: sid={}"), ({**CSRF, "session_header": "Authorization"}, "authorization: {}")],
    ids=["cookie", "header"],
)
async def test_a_token_is_good_for_the_session_that_fetched_it(plugin: dict[str, Any], session: str) -> None:
    ada, bob = session.format("ada"), session.format("bob")
    async with Stage({"p": plugin}) as stage:
        _, token, _ = await fetched(stage, ada)
        _, nobodys, _ = await fetched(stage)
        assert re.fullmatch(rf"[\w-]{{12}}\.{NOW:x}\.[\w-]{{43}}", token)
        assert await passes(stage, f"{both(token)}\n{ada}")
        assert not await passes(stage, f"{both(token)}\n{bob}")
        assert not await passes(stage, both(token))
        assert await passes(stage, both(nobodys)), "who logs in has no session yet"
        assert not await passes(stage, f"{both(nobodys)}\n{ada}")
        assert not await passes(stage, f"{both(theirs())}\n{ada}"), "one that is bound to nothing"
        assert not await passes(stage, both(theirs()))


async def test_nobody_knows_which_of_two_sessions_it_is() -> None:
    async with Stage({"p": BOUND}) as stage:
        _, token, _ = await fetched(stage, "cookie: sid=ada")
        assert not await passes(stage, f"{both(token, 'sid=ada; sid=bob; ')}")
        assert await passes(stage, f"{both(token, 'sid=ada; sid=ada; ')}")
        refused = await ask(stage, "/token", "cookie: sid=ada\ncookie: sid=bob")
        assert isinstance(refused, Response) and refused.status == 401


# -- the cookie -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "peer", "attributes"),
    [
        ({}, TLS, "Path=/; SameSite=Lax; Secure"),
        ({"secure": True}, PEER, "Path=/; SameSite=Lax; Secure"),
        ({"secure": False}, TLS, "Path=/; SameSite=Lax"),
        ({"same_site": "strict"}, PEER, "Path=/; SameSite=Strict"),
        ({"same_site": "none"}, PEER, "Path=/; SameSite=None; Secure"),
        ({"name": "__Host-csrf"}, PEER, "Path=/; SameSite=Lax; Secure"),
    ],
)
async def test_what_the_cookie_says_of_itself(more: dict[str, Any], peer: Peer, attributes: str) -> None:
    async with Stage({"p": {**CSRF, **more}}) as stage:
        assert (await fetched(stage, peer=peer))[2] == attributes


# -- where requests come from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_let_pass"),
    [
        ("", True),
        ("sec-fetch-site: same-origin", True),
        ("sec-fetch-site: none", True),
        ("sec-fetch-site: same-site", False),
        ("sec-fetch-site: cross-site", False),
        ("sec-fetch-site: none\nsec-fetch-site: cross-site", False),
        ("sec-fetch-site: cross-site\norigin: https://example.com", False),
        ("sec-fetch-site: cross-site\norigin: https://app.example.org", True),
        ("origin: https://example.com", True),
        ("origin: http://EXAMPLE.com:80", True),
        ("origin: https://example.com:443", True),
        ("origin: https://example.com:8443", False),
        ("origin: https://App.example.org", True),
        ("origin: https://app.example.org:443", False),
        ("origin: https://example.com.evil.net", False),
        ("origin: https://evil.net", False),
        ("origin: null", False),
        ("origin: example.com", False),
        ("origin: https://example.com/", False),
        ("origin: https://example.com\norigin: https://example.com", False),
        ("origin: https://user@example.com", False),
    ],
)
async def test_where_a_request_comes_from_can_be_looked_at(headers: str, is_let_pass: bool) -> None:
    checking = {**CSRF, "check_origin": True, "trusted_origins": ["https://app.Example.org"]}
    async with Stage({"p": checking}) as stage:
        assert await passes(stage, f"{both(theirs())}\n{headers}") is is_let_pass
        assert await passes(stage, headers, b"GET", upgrade=b"websocket") is is_let_pass
        assert await passes(stage, headers, b"GET")
        assert not await passes(stage, headers), "it needs its token all the same"
    async with Stage({"p": CSRF}) as stage:
        assert await passes(stage, f"{both(theirs())}\n{headers}")


@pytest.mark.parametrize(
    ("trusted", "origin", "is_let_pass"),
    [
        ("https://app.example.org:443", "https://app.example.org", True),
        ("http://APP.example.org:080", "http://app.example.org", True),
        ("https://app.example.org:8443", "https://app.example.org", False),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://a.example.org.evil.net", False),
        ("http://localhost:*", "http://localhost:3000", True),
        ("https://b\xfccher.example", "https://xn--bcher-kva.example", True),
        (r"~^https://pr-[0-9]+\.example\.org$", "https://pr-7.example.org", True),
        (r"~https://pr-[0-9]+\.example\.org", "https://pr-7.example.org.evil.net", False),
    ],
)
async def test_who_is_trusted_is_written_as_for_cors(trusted: str, origin: str, is_let_pass: bool) -> None:
    async with Stage({"p": {**CSRF, "check_origin": True, "trusted_origins": [trusted]}}) as stage:
        assert await passes(stage, f"{both(theirs())}\norigin: {origin}\nsec-fetch-site: cross-site") is is_let_pass
        assert not await passes(stage, f"{both(theirs())}\norigin: null")


async def test_the_origin_may_have_a_port() -> None:
    async with Stage({"p": {**CSRF, "check_origin": True}}) as stage:
        for host, origin, same in ((b"a:8080", "http://a:8080", True), (b"a:8080", "http://a", False), (b"[::1]:80", "http://[::1]", True)):
            assert await passes(stage, f"{both(theirs())}\norigin: {origin}", host=host) is same


# -- what is no configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"token_path": ""}, "token_path"),
        ({"token_path": "token"}, "token_path"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"name": "a b"}, "name"),
        ({"name": "Content-Length"}, "name"),
        ({"name": "Accept-Language"}, "name"),
        ({"ttl": "500ms"}, "ttl"),
        ({"ttl": "1a"}, "ttl"),
        ({"session_cookie": "a", "session_header": "b"}, "session_header"),
        ({"session_cookie": "a;b"}, "session_cookie"),
        ({"session_cookie": "x-csrf-token"}, "session_cookie"),
        ({"same_site": "Lax"}, "same_site"),
        ({"same_site": "none", "secure": False}, "secure"),
        ({"name": "__Host-a", "secure": False}, "secure"),
        ({"trusted_origins": ["https://a.b"]}, "trusted_origins"),
        ({"check_origin": True, "trusted_origins": ["https://a.b/"]}, "trusted_origins[0]"),
        *[
            ({"check_origin": True, "trusted_origins": [wrong]}, "trusted_origins[0]")
            for wrong in (
                "null",
                "",
                "*",
                ",",
                "$http_origin",
                "https://$host",
                "a.b",
                "https://[",
                "http://x:99999",
                "https://app..x",
                "~(",
            )
        ],
    ],
)
def test_what_would_not_protect_is_refused(more: dict[str, Any], key: str) -> None:
    [problem] = checking.check("p", {**CSRF, **more})
    assert problem.path == f"plugins.p.{key}" and "null" not in problem.hint


@pytest.mark.parametrize("key", ["token_path", "key"])
def test_path_and_key_are_required(key: str) -> None:
    section = {name: value for name, value in CSRF.items() if name != key}
    assert [problem.path for problem in checking.check("p", section)] == [f"plugins.p.{key}"]
