"""Lets in who has logged in at an OpenID provider (Keycloak, Entra, Google, Dex …), and tells the backend who it is.

    pip install pingap joserfc
    pingap up -c examples/plugins/oidc_login.toml     # its end says what to try
    pingap plugin test examples/plugins/oidc_login.py

Authorization code with PKCE, state and nonce. Nothing is kept here: the session is a cookie that only this proxy can read, so all its
processes know it, and a restart logs nobody out. The backend gets `X-User` (the subject) and, when the provider says that it is
verified, `X-Email`, and never the cookies. Who logs out loses the cookie: one that was stolen before is good until the session ends.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, urlencode

from joserfc import jwe, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from pingap.plugin import (
    CONTINUE,
    Duration,
    Exchange,
    FetchFailed,
    Host,
    Overloaded,
    Plugin,
    Reply,
    Result,
    Settings,
    Trouble,
    Url,
    parse_url,
    reply,
)

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Of id tokens; never HS256, with which the client's secret would be a key."""

LOGIN = 600
"""Seconds that somebody may take to log in."""

LOGINS = 4
"""At the same time in one browser: their cookies come with every request."""

LONGEST_TARGET = 1500
"""Of a page that somebody comes back to: browsers take no cookie of more than 4096 bytes."""

LONGEST_CLAIM = 255
"""OpenID Connect Core 1.0, section 2. A part of a longer one could be somebody else's name."""

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")

TO_BACKEND = {"x-user": "sub", "x-email": "email"}
"""Header → claim. Lines of these names that a client sends never reach the backend."""


class OidcLoginSettings(Settings):
    """The keys of its section."""

    issuer: Url
    """Of the provider, as `https://login.example.com/realms/main`."""
    client_id: str
    client_secret: str
    cookie_secret: str
    """Encrypts the cookies: `openssl rand -base64 32`. Whoever changes it logs everybody out."""
    address: Url | None = None
    """Where browsers find this site, as `https://shop.example.com`: for a proxy behind another one that ends TLS. Without it, scheme
    and host are those of the request."""
    scopes: str = "openid profile email"
    callback: str = "/oidc/callback"
    """Where the provider sends browsers back to: to be registered there, with scheme and host."""
    logout: str = "/oidc/logout"
    cookie: str = "session"
    """Its name, with `__Host-` before it where browsers come by https: then no other host of the domain can set it."""
    session: Duration = 8 * 3600.0
    """After which one has to log in again."""
    keys_again: Duration = 60.0
    """For so long the provider's keys are not fetched again, whatever key a token names."""


class NotLoggedIn(Exception):
    """What has come back from the provider is not to be trusted; the text is for the log."""


class OidcLogin(Plugin[OidcLoginSettings]):
    """One object for each section that names this file."""

    model = OidcLoginSettings

    def __init__(self, settings: OidcLoginSettings) -> None:
        super().__init__(settings)
        self.key = OctKey.import_key(hashlib.sha256(settings.cookie_secret.encode()).digest())
        self.issuer = settings.issuer.text.rstrip("/")
        self.provider: dict[str, Any] = {}
        self.keys: KeySet | None = None
        self.keys_at = 0.0
        self.turn = asyncio.Lock()
        """Whoever comes meanwhile waits for what is being fetched."""

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        if len(self.settings.cookie_secret) < 32:
            yield "cookie_secret", "is shorter than 32 characters", "openssl rand -base64 32"
        if "openid" not in self.settings.scopes.split():
            yield "scopes", "has no `openid`", 'scopes = "openid email"'
        if not re.fullmatch(r"[\w-]+", self.settings.cookie, re.ASCII):
            yield "cookie", "may have letters, digits, - and _ in it"
        if self.settings.address is not None and self.settings.address.upstream:
            yield "address", "is not one that a browser has", 'address = "https://shop.example.com"'
        for key in ("callback", "logout"):
            if not re.fullmatch(r"/[\w.~-][\w./~-]*", getattr(self.settings, key), re.ASCII):
                yield key, "is not a path", 'callback = "/oidc/callback"'
        if self.settings.callback == self.settings.logout:
            yield "logout", "is the path of `callback`"

    def start(self, host: Host) -> None:
        """Called once, before the first request."""
        self.host = host

    async def request(self, exchange: Exchange) -> Result:
        """Runs for each request, before anything of it has gone to the backend."""
        try:
            if exchange.path == self.settings.callback:
                return await self.come_back(exchange)
            if exchange.path == self.settings.logout:
                return await self.log_out(exchange)
            if (claims := self.opened(exchange.cookie(self.session_cookie(exchange)), "session")) is None:
                return await self.send_to_login(exchange)
        except NotLoggedIn as error:
            self.host.log("warn", "a login failed", reason=str(error), client=exchange.client_ip)
            return reply(403, "The login failed\n", [no_store()])
        except (FetchFailed, Overloaded) as error:
            self.host.log("error", "the OpenID provider cannot be asked", error=str(error))
            return reply(502, "The login service does not answer\n", [no_store()])
        for header, claim in TO_BACKEND.items():
            exchange.headers.remove_alike(header)
            if claim in claims:
                exchange.headers[header] = quote(claims[claim], safe="@:|+ ")
        self.hide_cookies(exchange)
        exchange.context["user"] = str(claims["sub"])  # `{:user}` in the access log
        return CONTINUE

    # -- the three steps of a login --------------------------------------------------------------

    async def send_to_login(self, exchange: Exchange) -> Reply:
        """To the provider, with what the answer has to fit."""
        if exchange.method not in ("GET", "HEAD") or exchange.headers.get("sec-fetch-mode", "navigate") != "navigate":
            return reply(401, "Log in first\n", [no_store()])  # a form or a script gets nowhere with a page of the provider's
        provider = await self.discovered()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        back = self.address(exchange, self.settings.callback)
        login = {"state": state, "nonce": nonce, "verifier": verifier, "back": back, "target": local(exchange.original_target)}
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": back,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        cookie = self.cookie(exchange, self.login_cookie(exchange, state), self.sealed(login, "login", LOGIN), LOGIN)
        prefix = f"{self.session_cookie(exchange)}-login-"
        begun = [one.partition("=")[0] for one in cookies(exchange) if one.startswith(prefix)]  # the oldest first: RFC 6265, 5.4
        forgotten = [self.cookie(exchange, name, "", 0) for name in begun[: -LOGINS + 1]]
        return redirect(with_query(provider["authorization_endpoint"], query), cookie, *forgotten)

    async def come_back(self, exchange: Exchange) -> Reply:
        """From the provider, with a code that is exchanged for a token."""
        state = exchange.query_value("state") or ""
        name = self.login_cookie(exchange, state)
        login = self.opened(exchange.cookie(name), "login")
        if login is None or not hmac.compare_digest(login["state"].encode(), state.encode()):
            raise NotLoggedIn("the state is not one that this browser was given, or it took too long")
        provider = await self.discovered()
        issuer = exchange.query_value("iss")  # RFC 9207: else another provider's answer could be taken for this one's
        if unquote_plus(issuer or "") != provider["issuer"] and (
            issuer is not None or provider.get("authorization_response_iss_parameter_supported") is True
        ):
            raise NotLoggedIn(f"the answer is of the issuer {(issuer or 'that it does not name')[:80]!r}")
        if exchange.method != "GET" or (code := exchange.query_value("code")) is None:
            raise NotLoggedIn(f"the provider says {(exchange.query_value('error') or 'nothing')[:80]!r}")
        claims = await self.claims_for(unquote_plus(code), login)
        kept = {claim: claims[claim] for claim in TO_BACKEND.values() if is_short_text(claims.get(claim))}
        if "sub" not in kept:
            raise NotLoggedIn("the subject of the token is none")
        if claims.get("email_verified") is not True:  # else whoever may write his own address is whom he likes
            kept.pop("email", None)
        session = self.cookie(
            exchange, self.session_cookie(exchange), self.sealed(kept, "session", self.settings.session), self.settings.session
        )
        return redirect(login["target"], session, self.cookie(exchange, name, "", 0))

    async def log_out(self, exchange: Exchange) -> Reply:
        """Here, and at the provider if it has a page for that; never because another site's page wants it."""
        if exchange.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return reply(403, "Another site cannot log you out\n", [no_store()])
        away = self.cookie(exchange, self.session_cookie(exchange), "", 0)
        try:
            end = (await self.discovered()).get("end_session_endpoint")
        except (FetchFailed, Overloaded, NotLoggedIn):
            end = None  # no reason to stay logged in here
        home = self.address(exchange, "/")
        return redirect(with_query(end, {"client_id": self.settings.client_id, "post_logout_redirect_uri": home}) if end else "/", away)

    async def claims_for(self, code: str, login: Mapping[str, Any]) -> dict[str, Any]:
        """Of the id token. Raises NotLoggedIn."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": login["back"], "code_verifier": login["verifier"]}
        account = f"{quote_plus(self.settings.client_id)}:{quote_plus(self.settings.client_secret)}"
        headers = {
            "authorization": f"Basic {base64.b64encode(account.encode()).decode()}",
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        url = parse_url((await self.discovered())["token_endpoint"])
        answer = await self.host.fetch_url(url, "POST", headers, urlencode(form), limit=1 << 20)
        try:
            claims = (await self.decoded(json.loads(answer.body)["id_token"])).claims
            jwt.JWTClaimsRegistry(
                leeway=60,
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "value": self.settings.client_id},
                nonce={"essential": True, "value": login["nonce"]},
                sub={"essential": True},
                exp={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotLoggedIn(f"status {answer.status}, {type(error).__name__}: {error}") from error
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise NotLoggedIn("the token is for somebody else")
        return claims

    async def decoded(self, token: str) -> jwt.Token:
        """With the provider's keys; they are fetched again for a key that is not among them."""
        try:
            return jwt.decode(token, await self.provider_keys(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if time.monotonic() - self.keys_at < self.settings.keys_again:
                raise
            self.keys = None  # fetched anew
            return jwt.decode(token, await self.provider_keys(), algorithms=ALGORITHMS)

    # -- what the provider says of itself -----------------------------------------------------------

    async def discovered(self) -> dict[str, Any]:
        """Its document. Raises NotLoggedIn for one that is of somebody else."""
        async with self.turn:
            if not self.provider:
                found = await self.document(f"{self.issuer}/.well-known/openid-configuration")
                if str(found.get("issuer", "")).rstrip("/") != self.issuer:
                    raise NotLoggedIn(f"the provider calls itself {found.get('issuer')!r}")
                if not all(isinstance(found.get(name), str) for name in ENDPOINTS):
                    raise NotLoggedIn(f"the provider does not say all of {', '.join(ENDPOINTS)}")
                self.issuer = found["issuer"]
                self.provider = found
        return self.provider

    async def provider_keys(self) -> KeySet:
        provider = await self.discovered()
        async with self.turn:
            if self.keys is None:
                self.keys_at = time.monotonic()
                self.keys = KeySet.import_key_set(await self.document(provider["jwks_uri"]))
            return self.keys

    async def document(self, url: str) -> Any:
        answer = await self.host.fetch_url(parse_url(url), headers={"accept": "application/json"}, limit=1 << 20)
        try:
            if answer.status == 200 and isinstance(found := json.loads(answer.body), dict):
                return found
        except ValueError:
            pass
        raise NotLoggedIn(f"{url} answers {answer.status}, and no JSON that could be used")

    # -- cookies ---------------------------------------------------------------------------------------

    def sealed(self, content: Mapping[str, Any], purpose: str, seconds: float) -> str:
        """So that nobody else can read it, change it, use it for something else, or use it later."""
        whole = {"is": purpose, "until": time.time() + seconds, **content}
        return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, json.dumps(whole), self.key)

    def opened(self, cookie: str | None, purpose: str) -> dict[str, Any] | None:
        """What `sealed` was given; None for anything else."""
        if not cookie or len(cookie) > 4096:
            return None
        try:
            found: dict[str, Any] = json.loads(jwe.decrypt_compact(cookie, self.key, algorithms=["dir", "A256GCM"]).plaintext or b"")
        except (JoseError, ValueError):
            return None
        return found if found["is"] == purpose and time.time() < found["until"] else None

    def session_cookie(self, exchange: Exchange) -> str:
        return f"{'__Host-' if self.is_secure(exchange) else ''}{self.settings.cookie}"

    def login_cookie(self, exchange: Exchange, state: str) -> str:
        """Each login has its own, so that two tabs do not disturb each other."""
        return f"{self.session_cookie(exchange)}-login-{hashlib.sha256(state.encode()).hexdigest()[:12]}"

    def cookie(self, exchange: Exchange, name: str, value: str, seconds: float) -> tuple[str, str]:
        secure = "; Secure" if self.is_secure(exchange) else ""
        return "set-cookie", f"{name}={value}; Path=/; Max-Age={seconds:.0f}; HttpOnly; SameSite=Lax{secure}"

    def hide_cookies(self, exchange: Exchange) -> None:
        """The backend gets those that are its own."""
        ours = re.compile(rf"(__Host-)?{re.escape(self.settings.cookie)}(-login-[^=]*)?\s*(=.*)?", re.DOTALL)
        others = [one for one in cookies(exchange) if not ours.fullmatch(one)]
        exchange.headers.remove("cookie")
        if others:
            exchange.headers["cookie"] = "; ".join(others)

    def address(self, exchange: Exchange, path: str) -> str:
        """Of a page of this site, for the provider."""
        ours = self.settings.address
        return f"{ours.scheme}://{ours.authority}{path}" if ours is not None else f"{exchange.scheme}://{exchange.authority}{path}"

    def is_secure(self, exchange: Exchange) -> bool:
        """Whether the browser comes by https."""
        return (exchange if self.settings.address is None else self.settings.address).scheme == "https"


def redirect(where: str, *headers: tuple[str, str]) -> Reply:
    return reply(302, "", [("location", where), no_store(), *headers])


def no_store() -> tuple[str, str]:
    return "cache-control", "no-store"


def with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def local(target: str) -> str:
    """A target that stays on this site: `//evil.test` would not, nor would what a browser makes that of (it skips tabs)."""
    return target if len(target) <= LONGEST_TARGET and re.fullmatch(r"/(?![/\\])[!-~]*", target) else "/"


def cookies(exchange: Exchange) -> list[str]:
    """All of them, each as `name=value`."""
    found = [one.strip() for line in exchange.headers.get_all("cookie") for one in line.split(";")]
    return [one for one in found if one]


def is_short_text(claim: object) -> bool:
    return isinstance(claim, str) and 0 < len(claim) <= LONGEST_CLAIM
