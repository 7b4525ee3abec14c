"""`csrf`: a request that changes something has to come from a page of the site itself, not from another that the browser is on.

A page fetches a token from `token_path`: 204 with a cookie. With each request that is not GET, HEAD, OPTIONS or TRACE it sends
the value of that cookie in a header of the same name. Another site can make a browser send the cookie, but can neither read it
nor write that header. Whoever has no token, an old one or another than the cookie's, gets 401 `Csrf token is empty or invalid`:

```js
await fetch("/csrf-token")
const token = document.cookie.match(/(?:^|; )x-csrf-token=([^;]+)/)[1]
const answer = await fetch("/orders", { method: "POST", headers: { "x-csrf-token": token }, body })
```

A token shows no more than that this site made it: who can set cookies for the site, as the owner of a sub-domain can, may set one
that was made for himself. `session_cookie` (or `session_header`) binds each token to the session for which it was fetched, by
HMAC-SHA256: that of another session, or of none, is refused. Fetch a new one after a login. A name that begins with `__Host-`
keeps others from setting the cookie at all. Several cookies of that name that differ are refused: nobody could tell whose they are.

`check_origin` looks at what browsers say of where a request comes from, Sec-Fetch-Site or else Origin, before it looks at the
token: another site, or another origin of the same, gets 403 `Csrf origin is not allowed`. What says nothing is no browser of these
years, and needs its token. So it is for WebSockets, which any page may open: a token cannot go with them. `trusted_origins` are
written as in `cors`: `"https://app.example.org"` is just that one, `"https://*.example.org"` are all below it, not itself, and
`"~^https://pr-[0-9]+\\.example\\.org$"` is a regular expression.

The cookie has `Path=/`, `SameSite=Lax` and, over TLS, `Secure`; scripts have to read it, so it is not HttpOnly.

Unlike pingap 0.13.9: SameSite and Secure; TRACE passes, as it changes nothing. Tokens that it made are taken as long as no session
is named, and it takes ours. A `ttl` of less than a second is refused: there it means for ever. As there, its 401 has no
`WWW-Authenticate`, which RFC 9110 wants with each: no scheme of HTTP could make it good.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from time import time
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pingap.plugin import (
    CONTINUE,
    BadValue,
    Duration,
    Exchange,
    HeaderName,
    Plugin,
    Reply,
    RequestPath,
    Result,
    Settings,
    Trouble,
    as_header_name,
    is_path,
    reply,
)
from pingap.stages.plugins.builtin.origins import OriginRule, Origins, parse_origin

_USUAL_NAME: Final = "x-csrf-token"
_HARMLESS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods by which nothing is changed (RFC 9110 section 9.2.1)."""

_ID_BYTES: Final = 9
"""Twelve characters of base64, as the reference's tokens have."""
_LONGEST: Final = 256
"""Bytes of a token; the reference's have 66."""
_SHORT: Final = 16
"""Bytes of a key, of which fewer are too few."""
_TIME: Final = re.compile(rb"[0-9a-f]{1,16}")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@\s,]+)", re.IGNORECASE)

_HOW: Final = 'write "https://app.example.org", without a path, or "https://*.example.org"'

_ANYBODYS: Final = frozenset(("accept", "accept-language", "content-language", "content-type", "cookie", "range"))
"""Headers that pages of other sites can have sent: without a preflight (Fetch, "CORS-safelisted request-header")."""

_NO_STORE: Final = ("cache-control", "private, no-store")
_INVALID: Final = reply(401, "Csrf token is empty or invalid")
_FOREIGN: Final = reply(403, "Csrf origin is not allowed")


def _trusted(value: object) -> OriginRule:
    """An origin, or those below one; not what anybody may call itself."""
    text = value.strip() if isinstance(value, str) else ""
    if text in ("", "*", "null") or ("$" in text and not text.startswith("~")):
        raise BadValue(f"{value!r} is not an origin", _HOW)
    try:
        return parse_origin(text)
    except BadValue as error:
        raise BadValue(error.message, _HOW) from error  # what `cors` recommends is more than may be trusted


class CsrfSettings(Settings):
    token_path: Annotated[RequestPath, Field(min_length=1)]
    """Exactly this path gives out tokens, whatever the method."""
    key: Annotated[str, Field(min_length=1)]
    """The secret by which they are made: a long random text."""
    name: HeaderName = _USUAL_NAME
    """Of the header and of the cookie."""
    ttl: Duration = 0.0
    """How long a token is good for, in whole seconds; without it for ever."""
    session_cookie: str = ""
    """The cookie with the session that tokens are bound to. Ours."""
    session_header: HeaderName = ""
    """The header with the session, as `Authorization`, instead of a cookie. Ours."""
    same_site: Literal["strict", "lax", "none"] = "lax"
    """SameSite of the cookie. `"none"` is for sites that others show in frames. Ours."""
    secure: bool | None = None
    """Whether the cookie is for TLS only. Without it: if it was fetched over TLS, and always where browsers insist. Ours."""
    check_origin: bool = False
    """Refuse what browsers say comes from another origin, WebSockets too. Ours."""
    trusted_origins: list[Annotated[Any, BeforeValidator(_trusted), WithJsonSchema({"type": "string"})]] = Field(default_factory=list)
    """Other origins that `check_origin` lets pass, as `"https://app.example.org"` or `"https://*.example.org"`. Ours."""


class Csrf(Plugin[CsrfSettings]):
    category = "csrf"
    model = CsrfSettings

    def __init__(self, settings: CsrfSettings) -> None:
        super().__init__(settings)
        self._is_token_path = is_path(settings.token_path)
        self._key = settings.key.encode()
        self._name = settings.name or _USUAL_NAME
        self._line = as_header_name(self._name)
        self._ttl = int(settings.ttl)
        self._session_line = as_header_name(settings.session_header) if settings.session_header else b""
        self._is_bound = bool(settings.session_cookie or settings.session_header)
        self._trusted = Origins(settings.trusted_origins)
        has_to_be_secure = settings.same_site == "none" or self._name.lower().startswith(("__host-", "__secure-"))
        self._secure = True if has_to_be_secure and settings.secure is None else settings.secure
        self._has_to_be_secure = has_to_be_secure
        ending = f"; Max-Age={self._ttl}" if self._ttl else ""
        self._attributes = f"; Path=/{ending}; SameSite={settings.same_site.capitalize()}"

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if self._name.lower() in _ANYBODYS:
            yield "name", f"pages of other sites can send {self._name}, too", f'name = "{_USUAL_NAME}"'
        if 0 < settings.ttl < 1:
            yield "ttl", "must be at least a second", "leave it out for tokens that do not expire"
        if settings.session_cookie and settings.session_header:
            yield "session_header", "a session is in a cookie or in a header, not in both"
        if settings.session_cookie:
            try:
                as_header_name(settings.session_cookie)  # the same characters (RFC 6265 section 4.1.1)
            except ValueError:
                yield "session_cookie", f"{settings.session_cookie!r} is not the name of a cookie"
        if settings.session_cookie == self._name:
            yield "session_cookie", "is the cookie of the token itself"
        if self._has_to_be_secure and settings.secure is False:
            yield "secure", f'browsers take no cookie of this name, or with same_site = "{settings.same_site}", that is not secure'
        if settings.trusted_origins and not settings.check_origin:
            yield "trusted_origins", "without effect as long as no origin is checked", "check_origin = true"

    def notes(self) -> Iterator[Trouble]:
        if len(self._key) < _SHORT:
            yield "key", f"has less than {_SHORT} bytes: who has a token can find it by trying", "openssl rand -base64 32"

    def request(self, exchange: Exchange) -> Result:
        if self._is_token_path(exchange.raw_path):
            return self._token(exchange)
        is_harmless = exchange.method in _HARMLESS
        if self.settings.check_origin and (not is_harmless or exchange.upgrade) and self._is_foreign(exchange):
            return _FOREIGN
        return CONTINUE if is_harmless or self._has_token(exchange) else _INVALID

    # -- tokens -----------------------------------------------------------------

    def _token(self, exchange: Exchange) -> Reply:
        session = self._session(exchange)
        if session is None:
            return _INVALID
        start = f"{secrets.token_urlsafe(_ID_BYTES)}.{int(time()):x}".encode()
        token = b"%b.%b" % (start, self._signature(start, session))
        is_secure = self._secure if self._secure is not None else exchange.scheme == "https"
        cookie = f"{self._name}={token.decode()}{self._attributes}{'; Secure' if is_secure else ''}"
        return reply(204, b"", [_NO_STORE, ("set-cookie", cookie)])

    def _has_token(self, exchange: Exchange) -> bool:
        given = exchange.headers.joined(self._line)
        if not given or len(given) > _LONGEST:
            return False
        cookies = {one.encode("latin-1") for one in exchange.cookies(self._name)}
        session = self._session(exchange)
        if len(cookies) != 1 or session is None:
            return False
        is_same = hmac.compare_digest(given, cookies.pop())
        start, _, signature = given.rpartition(b".")
        identity, _, made = start.partition(b".")
        is_ours = hmac.compare_digest(signature, self._signature(start, session))
        if not (is_same and is_ours and identity and _TIME.fullmatch(made)):
            return False
        return not self._ttl or int(time()) - int(made, 16) <= self._ttl

    def _signature(self, start: bytes, session: bytes) -> bytes:
        if self._is_bound:
            return base64.urlsafe_b64encode(hmac.digest(self._key, b"%b\0%b" % (start, session), "sha256")).rstrip(b"=")
        return base64.b64encode(hashlib.sha256(start + self._key).digest())  # as the reference does

    def _session(self, exchange: Exchange) -> bytes | None:
        """What tokens are bound to, b"" while there is no session; None when it is not clear which."""
        if self._session_line:
            return exchange.headers.joined(self._session_line) or b""
        if not self.settings.session_cookie:
            return b""
        values = set(exchange.cookies(self.settings.session_cookie)) or {""}
        return values.pop().encode("latin-1") if len(values) == 1 else None

    # -- origins ------------------------------------------------------------------

    def _is_foreign(self, exchange: Exchange) -> bool:
        """Whether the browser says that it is on another site, or on another origin of this one."""
        origin = exchange.headers.joined(b"origin: ")
        if origin is not None and self._trusted.has(origin.lower(), None):
            return False
        site = exchange.headers.joined(b"sec-fetch-site: ")
        if site is not None:
            return site not in (b"same-origin", b"none")
        if origin is None:
            return False
        found = _ORIGIN.fullmatch(origin.decode("latin-1"))
        if found is None:  # `null`, among others
            return True
        # A proxy before us may have ended TLS: the scheme is the browser's to know.
        usual = ":443" if found[1].lower() == "https" else ":80"
        return found[2].lower().removesuffix(usual) != exchange.authority.lower().removesuffix(usual)
