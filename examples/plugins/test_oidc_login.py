"""Tests of oidc_login.py, against a small OpenID provider: `pingap plugin test examples/plugins/oidc_login.py`."""

from __future__ import annotations

import base64
import hashlib
import json
import runpy
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from pingap.plugin import Reply, reply
from pingap.plugin_testing import BackendRequest, LivePingap, PluginRefused, PluginStage, StageAnswer

pytestmark = pytest.mark.asyncio

NAVIGATES = {"sec-fetch-mode": "navigate"}


class Provider:
    """Says who somebody is, at 127.0.0.1. Whoever comes to its page is logged in at once."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        self.signer: ECKey | OctKey = self.key
        self.header: dict[str, str] = {"alg": "ES256", "kid": "one"}
        self.claims: dict[str, Any] = {}
        """In place of those that a token would have; None takes one away."""
        self.says: dict[str, Any] = {}
        """In its document, besides."""
        self.adds: dict[str, str] = {}
        """To what it sends browsers back with."""
        self.codes: dict[str, dict[str, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/realm"

    def document(self, path: str) -> Any:
        if path == "/realm/.well-known/openid-configuration":
            pages = {"authorization_endpoint": "login", "token_endpoint": "token", "jwks_uri": "keys", "end_session_endpoint": "out"}
            return {"issuer": self.url, **{name: f"{self.url}/{page}" for name, page in pages.items()}, **self.says}
        return KeySet([self.key]).as_dict(private=False)

    def page(self, query: Mapping[str, str]) -> str:
        """Where the login page sends a browser back to."""
        assert (query["response_type"], query["client_id"], query["code_challenge_method"]) == ("code", "shop", "S256")
        code = f"4/0 A+{len(self.codes)}"  # Google's have a slash
        self.codes[code] = dict(query)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], **self.adds})}"

    def token(self, form: Mapping[str, str], authorization: str) -> dict[str, str]:
        """For a code, once, to who asked for it."""
        asked = self.codes.pop(form["code"])
        assert authorization == f"Basic {base64.b64encode(b'shop:s3cret').decode()}"
        assert form["redirect_uri"] == asked["redirect_uri"]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        assert challenge == asked["code_challenge"]
        usual = {
            "iss": self.url,
            "aud": "shop",
            "sub": "u1",
            "email": "ann@example.com",
            "email_verified": True,
            "exp": int(time.time()) + 60,
            "nonce": asked["nonce"],
        }
        claims = {name: value for name, value in {**usual, **self.claims}.items() if value is not None}
        return {"id_token": jwt.encode(self.header, claims, self.signer), "access_token": "x", "token_type": "Bearer"}

    def answer(self, request: BackendRequest) -> Reply:
        """To what the stage asks, where there is no network."""
        assert request.headers["host"] == urlsplit(self.url).netloc
        if request.method == "GET":
            return reply(200, json.dumps(self.document(request.path)))
        form = {name: values[0] for name, values in parse_qs(request.text).items()}
        return reply(200, json.dumps(self.token(form, request.headers["authorization"])))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(provider.document(self.path))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                self.answer(provider.token({name: values[0] for name, values in form.items()}, self.headers["authorization"]))

            def answer(self, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """It is quiet."""

        return Handler


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.server_close()


def sections(provider: Provider, **keys: Any) -> dict[str, dict[str, Any]]:
    path = str(Path(__file__).with_name("oidc_login.py"))
    section = {"category": "python", "path": path, "issuer": provider.url, "client_id": "shop", "client_secret": "s3cret"}
    return {"login": section | {"cookie_secret": "c" * 32} | keys}


def stage(provider: Provider, **keys: Any) -> PluginStage:
    made = PluginStage(sections(provider, **keys))
    made.outside.answers_with(provider.answer)
    return made


class Browser:
    """Keeps cookies."""

    def __init__(self, proxy: PluginStage | LivePingap) -> None:
        self.proxy = proxy
        self.cookies: dict[str, str] = {}

    async def get(self, target: str, **headers: str) -> StageAnswer:
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.proxy.get(target, headers=NAVIGATES | ({"cookie": jar} if jar else {}) | headers, host="shop.test")
        for line in answer.headers.get_all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            assert "; HttpOnly; SameSite=Lax" in line
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        return answer

    async def log_in(self, provider: Provider, target: str = "/orders?new=1") -> StageAnswer:
        """As far as the answer to what the provider's page sends it back with."""
        sent = await self.get(target)
        assert sent.status == 302 and sent.headers["location"].startswith(f"{provider.url}/login?")
        query = {name: values[0] for name, values in parse_qs(urlsplit(sent.headers["location"]).query).items()}
        back = urlsplit(provider.page(query))
        assert f"{back.scheme}://{back.netloc}{back.path}".removeprefix("http").removeprefix("s") == "://shop.test/oidc/callback"
        return await self.get(f"{back.path}?{back.query}")


async def test_who_logs_in_comes_back_to_where_he_was_and_the_backend_knows_who_it_is(provider: Provider) -> None:
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        back = await browser.log_in(provider)
        assert (back.status, back.headers["location"]) == (302, "/orders?new=1")
        assert list(browser.cookies) == ["session"] and "ann@" not in browser.cookies["session"]
        assert proxy.backend.requests == []
        browser.cookies["theirs"] = "1"
        answer = await browser.get("/orders?new=1", **{"x-user": "root", "x-email": "root@example.com"})
        assert (answer.status, answer.context["user"]) == (200, "u1")
        [request] = proxy.backend.requests
        assert request.headers.get_all("x-user") == ["u1"] and request.headers.get_all("x-email") == ["ann@example.com"]
        assert request.headers.get_all("cookie") == ["theirs=1"]


async def test_a_logout_is_one_here_and_at_the_provider(provider: Provider) -> None:
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        await browser.log_in(provider)
        away = await browser.get("/oidc/logout")
        assert away.headers["location"].startswith(f"{provider.url}/out?client_id=shop&post_logout_redirect_uri=http%3A%2F%2Fshop.test%2F")
        assert (await browser.get("/")).status == 302
        assert proxy.backend.requests == []


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "other"},
        {"nonce": None},
        {"aud": "other"},
        {"aud": None},
        {"iss": "http://evil.test"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"sub": 7},
        {"sub": "u" * 256},
    ]
    + [{"aud": ["shop", "other"], "azp": "other"}],
)
async def test_a_token_that_is_not_for_this_login_lets_nobody_in(provider: Provider, claims: dict[str, Any]) -> None:
    provider.claims = claims
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        assert (await browser.log_in(provider)).status == 403
        assert "session" not in browser.cookies
        assert (await browser.get("/")).status == 302


@pytest.mark.parametrize("algorithm", ["HS256", "none", "ES256"])
async def test_a_token_of_another_key_lets_nobody_in(provider: Provider, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.header = {"alg": algorithm, "kid": "one"}
    provider.signer = ECKey.generate_key("P-256") if algorithm == "ES256" else OctKey.import_key("s3cret" * 6)
    if algorithm == "none":
        monkeypatch.setattr(provider, "token", lambda form, authorization: {"id_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9."})
    async with stage(provider) as proxy:
        assert (await Browser(proxy).log_in(provider)).status == 403


@pytest.mark.parametrize(("keys_again", "status"), [("0s", 302), ("1m", 403)])
async def test_a_new_key_of_the_provider_is_fetched_but_not_all_the_time(provider: Provider, keys_again: str, status: int) -> None:
    async with stage(provider, keys_again=keys_again) as proxy:
        await Browser(proxy).log_in(provider)
        provider.key = provider.signer = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
        provider.header = {"alg": "ES256", "kid": "two"}
        assert (await Browser(proxy).log_in(provider)).status == status


async def test_the_answer_has_to_come_to_the_browser_that_asked(provider: Provider) -> None:
    async with stage(provider) as proxy:
        victim, other = Browser(proxy), Browser(proxy)
        sent = await other.get("/")
        query = {name: values[0] for name, values in parse_qs(urlsplit(sent.headers["location"]).query).items()}
        back = urlsplit(provider.page(query))
        assert (await victim.get(f"{back.path}?{back.query}")).status == 403
        assert (await other.get(f"{back.path}?state=x&code=y")).status == 403
        assert (await other.get(f"{back.path}?error=access_denied&state={query['state']}")).status == 403


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c.d.e", "x" * 5000])
async def test_a_cookie_that_is_not_ours_is_none(provider: Provider, cookie: str) -> None:
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        browser.cookies["session"] = cookie
        assert (await browser.get("/")).status == 302
        login = next(value for name, value in browser.cookies.items() if name.startswith("session-login-"))
        browser.cookies = {"session": login}  # sealed by us, for something else
        assert (await browser.get("/")).status == 302


async def test_a_session_ends(provider: Provider) -> None:
    async with stage(provider, session="0s") as proxy:
        browser = Browser(proxy)
        await browser.log_in(provider)
        assert (await browser.get("/")).status == 302


async def test_programs_are_not_sent_to_a_page(provider: Provider) -> None:
    async with stage(provider) as proxy:
        assert (await proxy.post("/", b"")).status == 401
        assert (await proxy.get("/", headers={"sec-fetch-mode": "cors"})).status == 401


@pytest.mark.parametrize("target", ["//evil.test/", "/\\evil.test/", "/\t/evil.test", "/?" + "x" * 2000])
async def test_nobody_is_sent_to_another_site_nor_to_where_no_cookie_has_room(provider: Provider, target: str) -> None:
    spec = runpy.run_path(str(Path(__file__).with_name("oidc_login.py")))
    assert spec["local"](target) == "/"
    if "\t" not in target and "\\" not in target:
        async with stage(provider) as proxy:
            assert (await Browser(proxy).log_in(provider, target)).headers["location"] == "/"


async def test_by_https_no_other_host_can_set_the_cookies(provider: Provider) -> None:
    async with stage(provider, address="https://shop.test") as proxy:
        browser = Browser(proxy)
        answer = await browser.log_in(provider)
        assert all(line.startswith("__Host-session") and "; Secure" in line for line in answer.headers.get_all("set-cookie"))
        browser.cookies["session"] = "tossed"
        assert (await browser.get("/")).status == 200
        assert "cookie" not in proxy.backend.requests[0].headers
        browser.cookies = {"session": browser.cookies["__Host-session"]}
        assert (await browser.get("/")).status == 302


@pytest.mark.parametrize(
    ("says", "adds", "status"),
    [
        ({}, {"iss": "http://evil.test"}, 403),
        ({"authorization_response_iss_parameter_supported": True}, {}, 403),
        ({"authorization_response_iss_parameter_supported": True}, {"iss": "ours"}, 302),
        ({}, {"iss": "ours"}, 302),
    ],
)
async def test_the_answer_of_another_provider_is_none(provider: Provider, says: dict[str, Any], adds: dict[str, str], status: int) -> None:
    provider.says, provider.adds = says, {name: provider.url if value == "ours" else value for name, value in adds.items()}
    async with stage(provider) as proxy:
        assert (await Browser(proxy).log_in(provider)).status == status
        assert len(provider.codes) == (status == 403)


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email_verified": None}, {"email": "a" * 256}])
async def test_the_backend_hears_of_no_address_that_might_be_somebody_elses(provider: Provider, claims: dict[str, Any]) -> None:
    provider.claims = claims
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        await browser.log_in(provider)
        assert (await browser.get("/", **{"x-email": "a@b", "x_email": "a@b", "x_user": "root"})).status == 200
        names = set(proxy.backend.requests[0].headers)
        assert "x-user" in names and not {"x-email", "x_email", "x_user"} & names


async def test_no_other_site_logs_anybody_out(provider: Provider) -> None:
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        await browser.log_in(provider)
        for site in ("cross-site", "same-site"):
            assert (await browser.get("/oidc/logout", **{"sec-fetch-site": site})).status == 403
        assert (await browser.get("/")).status == 200
        assert (await browser.get("/oidc/logout", **{"sec-fetch-site": "same-origin"})).status == 302
        assert "session" not in browser.cookies


async def test_a_logout_needs_no_provider(provider: Provider) -> None:
    async with stage(provider) as proxy:
        proxy.outside.fails()
        answer = await Browser(proxy).get("/oidc/logout")
        assert (answer.status, answer.headers["location"]) == (302, "/")
        assert answer.headers["set-cookie"].startswith("session=;")


async def test_logins_that_nobody_ends_do_not_fill_the_browser(provider: Provider) -> None:
    async with stage(provider) as proxy:
        browser = Browser(proxy)
        for _ in range(9):
            await browser.get("/")
        assert len(browser.cookies) == 4
        assert (await browser.log_in(provider)).status == 302


async def test_a_document_that_says_too_little_lets_nobody_in(provider: Provider) -> None:
    provider.says = {"token_endpoint": None}
    async with stage(provider) as proxy:
        assert (await Browser(proxy).get("/")).status == 403


async def test_without_the_provider_nobody_new_gets_in(provider: Provider) -> None:
    async with stage(provider) as proxy:
        proxy.outside.fails()
        assert (await Browser(proxy).get("/")).status == 502
        assert proxy.backend.requests == []


async def test_what_is_too_weak_is_refused(provider: Provider) -> None:
    weak = {
        "cookie_secret": "short",
        "scopes": "email",
        "issuer": "login.test",
        "cookie": "a;b",
        "address": "upstream://app/",
        "callback": "//x",
        "logout": "/oidc/callback",
    }
    for key, value in weak.items():
        with pytest.raises(PluginRefused, match=key):
            async with stage(provider, **{key: value}):
                pass


async def test_a_whole_pingap(provider: Provider) -> None:
    serving = threading.Thread(target=provider.server.serve_forever)
    serving.start()
    try:
        async with LivePingap(sections(provider)) as proxy:
            browser = Browser(proxy)
            assert (await browser.log_in(provider)).headers["location"] == "/orders?new=1"
            assert (await browser.get("/orders?new=1")).status == 200
            assert proxy.backend.requests[0].headers["x-user"] == "u1"
    finally:
        provider.server.shutdown()
        serving.join()
