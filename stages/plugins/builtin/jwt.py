"""`jwt`: lets pass who brings a JSON Web Token (RFC 7519) that is signed by whom you trust.

Keys are one of three: a `secret` that the issuer shares (HMAC), a `public_key`, or a JWK Set that the issuer publishes
at `jwks_url`, as OpenID Connect providers do.

```toml
[plugins.session]                  # HMAC; tokens are made of what the backend answers at /login
category = "jwt"
header = "Authorization"
secret = "$SECRET:session-key"
auth_path = "/login"
token_ttl = "8h"

[plugins.sso]                      # Keycloak, Auth0, Entra ID, Cognito …
category = "jwt"
header = "Authorization"
jwks_url = "https://login.example.com/realms/shop/protocol/openid-connect/certs"
iss = "https://login.example.com/realms/shop"
aud = "orders"
claims_to_headers = ["X-User: sub", "X-Roles: realm_access.roles"]
```

In a header the token stands by itself or after `Bearer `. Two tokens in one request that differ are refused, since the
backend might read the other one: also when the second is spelt in another way that some backends take for the same, as
`x_token` for `x-token`, `%74oken`, `TOKEN`, `token[]` or `a=b;token=c` for `token`. So are tokens of more than 16 KiB.

| case | answer (401) |
| --- | --- |
| no token | `Jwt authorization is missing` |
| not three parts (with a secret) | `Jwt authorization format is invalid` |
| expired (with a secret) | `Jwt authorization is expired` |
| all else, after `delay` | `Jwt authorization is invalid` |
| there are no keys of `jwks_url` that may still be used | 503 `Jwt keys are not available`, with Retry-After |

Each 401 has a `WWW-Authenticate: Bearer` (RFC 6750) that says what is wrong with the token.

**Algorithms.** The configuration says which are taken, never the token. With a secret these are HS256 and HS512 (HS384
when `algorithm` names it), with a public key the one that you name, with a JWK Set RS256, RS384, RS512, PS256, PS384,
PS512, ES256, ES384, ES512 and EdDSA, or those of them that `algorithm` names. A key is used for what its type, `alg`,
`use` and `key_ops` allow; RSA keys of less than 2048 or more than 8192 bits are not used. `none` is no algorithm; `jwk`,
`jku`, `x5u` and `x5c` in a token are not looked at; tokens with `crit` are refused, and so are encrypted ones.

**Times.** `exp` and `nbf` are honoured, with `leeway`. With public keys a token without `exp` is refused; with a secret it
is valid for ever, unless `required_claims = ["exp"]`.

**Keys of jwks_url** are fetched before the first request, and again after `jwks_ttl`, or when no key of them has signed a
token: one fetch at a time, whoever waits, and at most one every `jwks_cooldown`. A token without `kid` is taken when one
key alone fits its algorithm. While the issuer is away old keys serve for `jwks_stale`, then nobody is let in. An answer
that is no JWK Set changes nothing; at most 256 KiB and 128 keys are read.

**Making tokens.** At `auth_path`, whatever the method, no token is asked for, and a JSON object that the backend answers
with 2xx is signed as it is: the client gets `{"token": "…"}`, never to be cached. Whoever gets a 2xx there gets a token, so
the backend has to check the password. What is no JSON object of at most 12,032 bytes (a login form, an error) passes as it
is. The backend is asked not to compress there; an answer that is compressed all the same is not signed.

**Cost.** A token is verified once; the last 4096 that were good (of up to 4 KiB) are known by their digest until they expire,
the keys change, or the plugin's settings do. That takes 2 µs; verifying takes 10 with a secret, 27 with RS256, 57 with ES256,
75 with EdDSA, and 350 with ES384 or ES512. A wrong token takes that each time: where a flood of them is to be feared, put a
`limit` before this, or let the issuer sign with ES256.

Unlike pingap 0.13.9: `typ` is optional and `nbf` is honoured. What is signed, and what is taken, is a JSON object; there any
text is signed, an error page too, and such a token is valid for ever. Making tokens beside public keys is refused, where an
empty secret would sign them. A broken section keeps everybody out, where there everybody gets in. Two tokens that differ are
refused, where there the first counts. The scheme may be spelt `bearer`. Failed fetches of keys have a pause after them, and
old keys do not serve for ever. A token without `kid` may be taken. Without any keys the answer is 503 and not 401, so that
clients keep their tokens. With `exp` of this very second a token has expired.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator, Mapping
from math import ceil
from time import monotonic, time
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from pingap.plugin import (
    CONTINUE,
    SKIP,
    BadValue,
    Duration,
    Exchange,
    HeaderLine,
    HeaderName,
    Hook,
    Host,
    Plugin,
    Reply,
    RequestPath,
    Result,
    Settings,
    Step,
    Texts,
    Trouble,
    Url,
    Words,
    codings_of,
    is_path,
    reply,
)
from pingap.stages.plugins.builtin.credential import Credential
from pingap.stages.plugins.builtin.overwritten import note_overwritten
from pingap.stages.plugins.builtin.tokens.claims import EXPIRED, ClaimCopies, ClaimRules, ToldClaims, tell
from pingap.stages.plugins.builtin.tokens.jwks import FETCH_SECONDS, PATIENCE, KeyAges, PublishedKeys
from pingap.stages.plugins.builtin.tokens.keys import HASHES, PUBLIC, KeySet, of_pem, of_secret, parse_pem
from pingap.stages.plugins.builtin.tokens.minting import GONE, LARGEST, Minter
from pingap.stages.plugins.builtin.tokens.token import BadToken, json_object, parse
from pingap.stages.plugins.builtin.tokens.verified import VerifiedTokens

_USUAL: Final = ("HS256", "HS512")
"""With a secret, unless `algorithm` says otherwise."""
_LEEWAY: Final = 60.0
"""Seconds, with public keys: the clocks are those of others."""
_COOKIE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_KEYS_OF_JWKS: Final = ("jwks_ttl", "jwks_stale", "jwks_cooldown")
_NOT_OF_CLAIMS: Final = ("host", "cookie")

UNSIGNED: Final = "The signature is of no key that is known here"
NOT_ALLOWED: Final = "The algorithm is not taken here"


class JwtSettings(Settings):
    header: HeaderName = ""
    """The header with the token, as `Authorization`; `Bearer ` before it is left out. It wins over `cookie` and `query`, only one
    of the three is read, and one has to be there."""
    cookie: str = ""
    """The cookie with the token; wins over `query`."""
    query: str = ""
    """The query parameter with the token."""
    secret: str = ""
    """The secret that whoever issues tokens shares. It should have as many bytes as the hash, 32 or 64."""
    algorithm: Words = Field(default_factory=list)
    """The algorithm that tokens are signed with, or a list of those that are taken; a must beside `public_key`. Tokens are made
    with the first one."""
    public_key: str = ""
    """The public key, or a certificate, of whoever issues tokens: the text of a PEM."""
    jwks_url: Annotated[Url | None, BeforeValidator(lambda value: None if value == "" else value)] = None
    """Where the issuer publishes its keys: `https://…`, `http://…`, or `upstream://NAME/path` for an upstream of the configuration."""
    jwks_ttl: Duration = 3600.0
    """How long fetched keys are fresh."""
    jwks_stale: Duration = 86400.0
    """Ours. How much longer they serve while no new ones can be had; then nobody is let in."""
    jwks_cooldown: Duration = 10.0
    """Ours. The shortest time between two fetches, whatever keys tokens name; failed ones come sooner at first, from 1s on."""
    auth_path: RequestPath = ""
    """The path where tokens are made of the backend's answers, with the secret."""
    token_ttl: Duration = 0.0
    """Ours. Tokens made here get `iat` and `exp`, so many seconds later, where the backend has not said them. `0s`: they do not."""
    delay: Duration = 0.0
    """Wait this long before a wrong token is answered."""
    leeway: Duration | None = None
    """Ours. How much clocks may differ, for `exp` and `nbf`. Without it 60s with public keys, and 0s with a secret."""
    iss: Texts = Field(default_factory=list)
    """Ours. Who has to have issued the token, or a list: one of these."""
    aud: Texts = Field(default_factory=list)
    """Ours. For whom the token has to be, or a list: for one of these at least."""
    required_claims: list[str] = Field(default_factory=list)
    """Ours. Claims that a token has to have, as `["exp", "sub"]`."""
    claims_to_headers: list[HeaderLine] = Field(default_factory=list)
    """Ours. Headers that the backend gets, as `"X-User: sub"` or `"X-Roles: realm_access.roles"`. The client's own lines of these
    names, and of those that CGI, WSGI or PHP take for them (`X.User`), are removed first, at `auth_path` too. Entries of a
    list are separated by `,`, within them `%` and `,` are percent-encoded; objects are JSON. Left out is a text with control
    characters, or with blanks at an end. X-Real-Ip, Forwarded, X-Forwarded-For, -Proto, -Host and -Port are
    `enable_reverse_proxy_headers`' own where a location has that."""
    claims_to_context: list[HeaderLine] = Field(default_factory=list)
    """Ours. The same for the context, as `"user: sub"`: `{:user}` in access logs, `:user` in header rules. Names are in lower case."""
    hide_credentials: bool = False
    """Ours. The backend does not get the token; access log and events show it as `***`."""


class Jwt(Plugin[JwtSettings]):
    category = "jwt"
    model = JwtSettings
    steps = ("request",)

    def __init__(self, settings: JwtSettings) -> None:
        super().__init__(settings)
        self._is_public = bool(settings.public_key or settings.jwks_url)
        usual = PUBLIC if settings.jwks_url else () if self._is_public else _USUAL
        self._algorithms = tuple(dict.fromkeys(settings.algorithm)) or usual
        leeway = settings.leeway if settings.leeway is not None else _LEEWAY if self._is_public else 0.0
        self._rules = ClaimRules(
            self._is_public, leeway, frozenset(settings.iss), frozenset(settings.aud), tuple(dict.fromkeys(settings.required_claims))
        )
        self._copies = ClaimCopies(settings.claims_to_headers, settings.claims_to_context)
        self._credential = Credential(settings.header, settings.cookie, settings.query)
        self._is_auth_path = is_path(settings.auth_path) if settings.auth_path else None
        self._minter = Minter(settings.secret.encode(), self._algorithms[0] if settings.algorithm else _USUAL[0], settings.token_ttl)
        self._keys: KeySet | None = None
        """Those that never change."""
        self._published: PublishedKeys | None = None
        self._verified = VerifiedTokens()
        self._host: Host | None = None
        self._missing = reply(401, "Jwt authorization is missing", (("www-authenticate", "Bearer"),))

    # -- what is wrong with the settings ---------------------------------------------------

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if not (settings.header or settings.cookie or settings.query):
            yield "header", "neither header nor cookie nor query says where the token is", 'header = "Authorization"'
        if settings.cookie and not _COOKIE.fullmatch(settings.cookie):
            yield "cookie", f"{settings.cookie!r} is not the name of a cookie"
        yield from self._wrong_keys()
        if settings.auth_path and self._is_public:
            hint = "make them where the secret is: a plugin of its own, in a location of its own"
            yield "auth_path", "tokens are made with a secret, and here they are verified with a public key", hint
        if not settings.jwks_ttl:
            yield "jwks_ttl", "must be more than 0"
        for key in ("iss", "aud", "required_claims"):
            # A variable that turned out empty is no reason to let in whoever comes.
            if "" in getattr(settings, key) or (key in settings.model_fields_set and not getattr(settings, key)):
                yield key, "must not be empty", "leave it out if it does not matter"
        forbidden = {*_NOT_OF_CLAIMS, settings.header.lower()}
        for index, (name, _) in enumerate(settings.claims_to_headers):
            if name in forbidden:
                yield f"claims_to_headers[{index}]", f"a claim cannot take the place of {name}", 'choose another name, as "X-User: sub"'
        for key in ("claims_to_headers", "claims_to_context"):
            for index, (name, claim) in enumerate(getattr(settings, key)):
                if not claim:
                    yield f"{key}[{index}]", f"{name!r} of which claim?", f'"{name}: sub"'

    def _wrong_keys(self) -> Iterator[Trouble]:
        settings, algorithms = self.settings, self._algorithms
        known = PUBLIC if self._is_public else tuple(HASHES)
        strange = [name for name in settings.algorithm if name not in known]
        for name in strange:
            if name in PUBLIC:
                yield "algorithm", f"{name} needs a public key", "write public_key or jwks_url"
            elif name in HASHES:
                yield "algorithm", f"{name} is for a secret, and here keys are public", f"one of: {', '.join(PUBLIC)}"
            else:
                hint = "a token that nobody signed is let in nowhere" if name.lower() == "none" else f"one of: {', '.join(known)}"
                yield "algorithm", f"there is no algorithm {name!r} here", hint
        if settings.public_key and settings.jwks_url:
            yield "public_key", "beside jwks_url it is not clear which keys are meant", "leave one of them out"
        elif settings.public_key and not settings.algorithm:
            yield "algorithm", "a public key needs an algorithm", 'algorithm = "RS256", or what the issuer signs with'
        elif settings.public_key and not strange:
            try:
                parse_pem(settings.public_key, algorithms)
            except BadValue as error:
                yield "public_key", error.message, error.hint
        elif not self._is_public and not settings.secret and not strange:
            yield "secret", "must not be empty", "write secret, public_key or jwks_url"
        elif not self._is_public and re.search(r"BEGIN [A-Z ]*(PUBLIC KEY|CERTIFICATE)", settings.secret):
            yield "secret", "a public key is no secret: with it anybody can sign", "write it as public_key"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        yield from note_overwritten("claims_to_headers", (name for name, _ in settings.claims_to_headers))
        places = [key for key in ("header", "cookie", "query") if getattr(settings, key)]
        for key in places[1:]:
            yield key, f"without effect: the token is looked for in {places[0]} alone", "leave it out"
        if settings.secret and self._is_public:
            yield "secret", "without effect: tokens are verified with public keys", "leave it out"
        elif settings.secret:
            least = min(int(name[2:]) // 8 for name in self._algorithms)
            if len(settings.secret.encode()) < least:
                yield "secret", f"has less than {least} bytes: who has a token can find it by trying", "openssl rand -base64 48"
        if not settings.jwks_url:
            for key in settings.model_fields_set.intersection(_KEYS_OF_JWKS):
                yield key, "without effect: there is no jwks_url", "leave it out"
        if settings.token_ttl and not settings.auth_path:
            yield "token_ttl", "without effect: no tokens are made here, for there is no auth_path", "leave it out"
        elif settings.auth_path and not settings.token_ttl and "exp" not in settings.required_claims:
            yield "auth_path", "a token made of an answer without exp is valid for ever", 'token_ttl = "8h"'

    def hooks(self) -> Mapping[Step, Hook]:
        return super().hooks() if self._is_auth_path is not None else {"request": self.request}

    def start(self, host: Host) -> None:
        settings = self.settings
        self._host = host
        if settings.jwks_url is not None:
            ages = KeyAges(settings.jwks_ttl, settings.jwks_stale, settings.jwks_cooldown)
            self._published = PublishedKeys(settings.jwks_url, self._algorithms, ages)
            self._published.start(host)
        elif settings.public_key:
            self._keys = of_pem(settings.public_key, self._algorithms)
        else:
            self._keys = of_secret(settings.secret.encode(), self._algorithms)

    def stop(self) -> None:
        if self._published is not None:
            self._published.stop()

    # -- who may pass ----------------------------------------------------------------------

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        is_auth_path = self._is_auth_path is not None and self._is_auth_path(exchange.raw_path)
        given = [] if is_auth_path else self._credential.values(exchange)
        self._copies.clear(exchange)
        if is_auth_path:
            exchange.state[self] = True
            exchange.headers["accept-encoding"] = "identity"  # what is signed is what the backend says, and not how it packs that
            exchange.headers.remove("range")
            return CONTINUE
        token = self._stripped(given[0]) if given else b""
        if not token:
            return self._missing
        if any(other != given[0] for other in given[1:]):
            return self._refused("There are several tokens")
        keys, published = self._keys, self._published
        if published is None:
            assert keys is not None
            return self._decided(exchange, self._judge(keys, token))
        now = monotonic()
        keys = published.fresh(now)
        if keys is not None:
            verdict = self._judge(keys, token)
            if verdict is not UNSIGNED or not published.may_change(now):
                return self._decided(exchange, verdict)
        return self._later(exchange, token, published)

    async def _later(self, exchange: Exchange, token: bytes, published: PublishedKeys) -> Result:
        """The same when other keys may be needed than those that are here."""
        now = monotonic()
        published.fetch(now)
        keys = published.usable(now)
        # Where fetching has failed already, nobody waits for it who need not.
        verdict = self._judge(keys, token) if keys is not None and published.ages.failures else UNSIGNED
        if verdict is UNSIGNED:
            await published.wait(now, PATIENCE if keys is not None else FETCH_SECONDS + 1)
            now = monotonic()
            keys = published.usable(now)
            if keys is None:
                seconds = str(max(1, ceil(published.ages.pause(now))))
                return reply(503, "Jwt keys are not available", (("retry-after", seconds),))
            verdict = self._judge(keys, token)
        decided = self._decided(exchange, verdict)
        return await decided if isinstance(decided, Awaitable) else decided

    def _stripped(self, value: bytes) -> bytes:
        is_bearer = self.settings.header and value[:7].lower() == b"bearer "
        return value[7:].strip() if is_bearer else value

    def _judge(self, keys: KeySet, token: bytes) -> ToldClaims | str:
        """What is told on of a good token; of others, why they are none."""
        now = time()
        digest = self._verified.digest(keys, token)
        if (known := self._verified.find(digest, now)) is not None:
            return known
        try:
            parsed = parse(token)
            if parsed.alg not in self._algorithms:
                return NOT_ALLOWED
            if not keys.has_signed(parsed):
                return UNSIGNED
            claims = json_object(parsed.payload)
        except BadToken as error:
            return f"The token cannot be read: {error}"
        if objection := self._rules.objection(claims, now):
            return objection
        told = self._copies.of(claims)
        self._verified.remember(digest, self._rules.until(claims), told)
        return told

    def _decided(self, exchange: Exchange, verdict: ToldClaims | str) -> Result | Awaitable[Result]:
        if isinstance(verdict, str):
            return self._refused(verdict)
        tell(exchange, verdict)
        if self.settings.hide_credentials:
            self._credential.remove(exchange)
        return CONTINUE

    def _refused(self, why: str) -> Result | Awaitable[Result]:
        challenge = (("www-authenticate", f'Bearer error="invalid_token", error_description="{why}"'),)
        if not self._is_public and why is EXPIRED:
            return reply(401, "Jwt authorization is expired", challenge)
        if not self._is_public and why == _NO_PARTS:
            return reply(401, "Jwt authorization format is invalid", challenge)
        refusal = reply(401, "Jwt authorization is invalid", challenge)
        return self._delayed(refusal) if self.settings.delay else refusal

    async def _delayed(self, refusal: Reply) -> Reply:
        await asyncio.sleep(self.settings.delay)
        return refusal

    # -- making tokens ----------------------------------------------------------------------

    def response(self, exchange: Exchange) -> Result:
        response = exchange.response
        assert response is not None
        if self not in exchange.state or not 200 <= response.status < 300 or response.status == 206:
            return SKIP
        if exchange.method == "HEAD":  # as it would be with GET, as far as that is known
            response.headers["cache-control"] = _NO_STORE
        if codings_of(response.headers.raw):
            assert self._host is not None
            self._host.log("warn", "jwt: a compressed answer is not signed", path=exchange.path)
            return SKIP
        exchange.collect_response(self._mint, limit=LARGEST)
        return CONTINUE

    def _mint(self, exchange: Exchange, body: bytes) -> bytes | None:
        token = self._minter.mint(body, time())
        if token is None:
            return None
        response = exchange.response
        assert response is not None
        headers = response.headers
        for name in GONE:
            headers.remove(name)
        headers["content-type"] = "application/json; charset=utf-8"
        headers["cache-control"] = _NO_STORE
        return b'{"token": "%b"}' % token


_NO_STORE: Final = "private, no-store"
_NO_PARTS: Final = "The token cannot be read: it has not three parts"
