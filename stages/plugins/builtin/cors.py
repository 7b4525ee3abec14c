"""`cors`: lets pages of other origins read what a location answers (Cross-Origin Resource Sharing, of the Fetch standard).

**Preflights**, the questions that browsers ask before they send what a form could not, are answered here: 204 with what is
allowed, and 403 `Origin is not allowed` for an origin that is not. A preflight is an OPTIONS with Origin and
Access-Control-Request-Method; any other OPTIONS goes to the backend, WebDAV's for instance. That is done at `early_request`, so
no plugin that asks for a password or counts requests stands in the way, wherever it is in the list: a browser sends no
credentials with a preflight.

**All other answers** get the header lines that let the page read them: the backend's, those of other plugins (so that the page
can read the 401 of an auth plugin), and pingap's error pages of plugins and backends, as a 502 (not those that are made before the
location's plugins: 404 without a location, 413, 429 of `max_processing`). They replace lines of that name of the
backend, and for an origin that is not allowed they are taken away. It is done after the `response` hooks of all other plugins.

Of several `cors` of a location the first one whose `path` matches is asked.

**Origins.** `"https://app.example.com"` is just that one; `"https://*.example.com"` are all below it, not itself; `"http://localhost:*"`
has any port; `"~^https://pr-[0-9]+\\.example\\.com$"` is a regular expression for all of it (in a list, not in a text with commas);
`"null"` is what sandboxed frames and local files have, and so whoever wants to. `"$http_origin"` is whatever is asked for; with
`allow_credentials` it lets every page in the world act as its reader, and `pingap check` notes it. `"https://$host"` takes variables, too.

**Caches.** But for `"*"` alone the answer depends on the origin, and says so by `Vary: Origin`, whether the request has one or not. With
`"*"` it does not: then all answers have the line, also those to requests without an Origin.

Unlike pingap 0.13.9: an origin that is written out works, and so does `"*"`, where there each request with an Origin is answered
with 400; several origins; Vary; an OPTIONS that is no preflight reaches the backend; answers of other plugins and error pages can
be read; answers have those lines alone that say something in them. `"*"` with `allow_credentials`, which no browser takes, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from pingap.plugin import (
    CONTINUE,
    SKIP,
    BadValue,
    Duration,
    Exchange,
    Headers,
    Hook,
    PathRegex,
    Plugin,
    Result,
    Settings,
    Step,
    Trouble,
    Words,
    reply,
    varying,
)
from pingap.stages.plugins.builtin.origins import OriginRule, Origins, parse_origin

_ALLOW: Final = "access-control-allow-"
_ALLOW_ORIGIN: Final = f"{_ALLOW}origin"
_ALLOW_CREDENTIALS: Final = f"{_ALLOW}credentials"
_ALLOW_HEADERS: Final = f"{_ALLOW}headers"
_ALLOW_METHODS: Final = f"{_ALLOW}methods"
_ALLOW_PRIVATE: Final = f"{_ALLOW}private-network"
_EXPOSE: Final = "access-control-expose-headers"
_MAX_AGE: Final = "access-control-max-age"
_OF_ANSWERS: Final = (_ALLOW_ORIGIN, _ALLOW_CREDENTIALS, _EXPOSE)
"""Lines that say something in an answer that is none to a preflight."""

_ORIGIN: Final = b"origin: "
_METHOD: Final = b"access-control-request-method: "
_HEADERS: Final = b"access-control-request-headers: "
_PRIVATE: Final = b"access-control-request-private-network: "

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKENS: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}){0,127}")
"""Names that a browser asks for, and that it is told again."""

_MADE: Final = "cors"
"""The key of `exchange.state`: the answer that has got its lines."""
_PREFLIGHT: Final = "cors preflight"


def _origins(value: object) -> list[OriginRule]:
    if isinstance(value, str):
        if not value.strip():
            return [OriginRule("", is_any=True)]  # the reference's default
        value = value.replace(",", " ").split() if not value.strip().startswith("~") else [value.strip()]
    if not isinstance(value, list):
        raise BadValue("expected text or a list", 'write "https://app.example.com"')
    rules: list[OriginRule] = []
    for item in value:
        if not isinstance(item, str):
            raise BadValue("expected a list of text", 'write ["https://app.example.com"]')
        rules += [parse_origin(item.strip())] if item.strip().startswith("~") else map(parse_origin, item.replace(",", " ").split())
    if not rules:
        raise BadValue("names no origin", '"*" lets every page in the world read the answers; without the plugin none may')
    return rules


_TEXT_OR_LIST: Final = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "default": "*"})


class CorsSettings(Settings):
    path: PathRegex = None
    """A regex: only requests for paths in which it is found; without it all."""
    allow_origin: Annotated[Any, BeforeValidator(_origins), _TEXT_OR_LIST] = Field(default_factory=lambda: _origins("*"))
    """Who may: `"*"`, or origins, in a list or with commas between them (several are ours). An empty text is `"*"`, an empty list is
    refused."""
    allow_methods: Words = Field(default_factory=lambda: list(_METHODS))
    """Methods, as `"GET, PUT"`; `"*"` is whichever is asked for."""
    allow_headers: Words = Field(default_factory=list)
    """Header lines that a page may send, as `"Content-Type, Authorization"`; `"*"` is whichever are asked for."""
    allow_credentials: bool = False
    """Pages may send cookies and the like."""
    expose_headers: Words = Field(default_factory=list)
    """Header lines of the answer that a page may read besides the usual ones, as `"X-Request-Id"`; `"*"` are all, without credentials."""
    max_age: Duration = 3600.0
    """How long a browser may remember the answer to a preflight, in whole seconds; `"0s"` says nothing of it."""
    private_network: bool = False
    """Pages of the public internet may ask a server in a private network (Access-Control-Allow-Private-Network). Ours."""


class Cors(Plugin[CorsSettings]):
    category = "cors"
    model = CorsSettings
    steps = ("request",)  # as existing files have it
    is_outermost = True
    sees_error_pages = True

    def __init__(self, settings: CorsSettings) -> None:
        super().__init__(settings)
        self._origins = Origins(settings.allow_origin)
        self._is_for_all = self._origins.has_any and not settings.allow_credentials
        self._methods = ", ".join(settings.allow_methods or _METHODS)
        self._headers = ", ".join(settings.allow_headers)
        self._expose = ", ".join(settings.expose_headers)
        self._max_age = str(int(settings.max_age)) if settings.max_age else ""
        self._refused = reply(403, "Origin is not allowed", [("vary", "origin")])

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        for key in ("allow_methods", "allow_headers", "expose_headers"):
            for name in getattr(settings, key):
                if not _TOKEN.fullmatch(name):
                    yield key, f"{name!r} is not the name of a {'method' if key == 'allow_methods' else 'header'}"
        if settings.allow_credentials:
            if self._origins.has_any:
                hint = 'write the origins; "$http_origin" is all of them, and lets every page act as its reader'
                yield "allow_origin", '"*" with allow_credentials is not taken by any browser', hint
            if "*" in settings.expose_headers:
                yield "expose_headers", '"*" with allow_credentials is taken by browsers for the name of a header', "name the headers"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        if settings.allow_credentials:
            for rule in settings.allow_origin:
                if rule.text in ("$http_origin", "null"):
                    yield (
                        "allow_origin",
                        f"{rule.text!r} with allow_credentials: any page in the world may ask as its reader, and read the answer",
                        "name the origins that are yours",
                    )
        if not settings.allow_origin[0].text:
            yield (
                "allow_origin",
                'an empty text is taken for "*": every page in the world may read the answers',
                "name the origins that are yours",
            )
        if self._origins.has_any and len(settings.allow_origin) > 1:
            yield "allow_origin", 'without effect beside "*": all others', "leave one or the other out"

    def hooks(self) -> Mapping[Step, Hook]:
        return {"early_request": self.early_request, "response": self.response}

    def early_request(self, exchange: Exchange) -> Result:
        """Answers a preflight."""
        if exchange.method != "OPTIONS":
            return SKIP
        headers = exchange.headers
        method = headers.first(_METHOD)
        if method is None or headers.first(_ORIGIN) is None or not self._is_here(exchange):
            return SKIP
        exchange.state[_PREFLIGHT] = True
        origin = self._allowed(exchange)
        if origin is None:
            return self._refused
        lines = Headers()
        self._add(lines, _ALLOW_METHODS, self._methods if self._methods != "*" else _told(method))
        self._add(lines, _ALLOW_HEADERS, self._headers if self._headers != "*" else _told(headers.joined(_HEADERS)))
        self._add(lines, _MAX_AGE, self._max_age)
        self._describe(lines, origin)
        if self.settings.private_network and headers.first(_PRIVATE) == b"true":
            lines.add(_ALLOW_PRIVATE, "true")
        varies = [] if self._is_for_all else ["origin"]
        varies += [
            name
            for name, text in (("access-control-request-method", self._methods), ("access-control-request-headers", self._headers))
            if text == "*"
        ]
        self._add(lines, "vary", ", ".join(varies))
        return reply(204, b"", lines.items())

    def response(self, exchange: Exchange) -> Result:
        """Says in an answer whether the page may read it."""
        response, state = exchange.response, exchange.state
        assert response is not None
        if response.status == 101 or state.get(_MADE) is response or _PREFLIGHT in state or not self._is_here(exchange):
            return SKIP
        state[_MADE] = response
        headers = response.headers
        if self._is_for_all:
            self._replace(headers, b"*")
            return CONTINUE
        headers.raw = varying(headers.raw, b"origin")
        if exchange.headers.first(_ORIGIN) is not None:
            self._replace(headers, self._allowed(exchange))
        return CONTINUE

    def _is_here(self, exchange: Exchange) -> bool:
        path = self.settings.path
        return path is None or path.search(exchange.raw_path) is not None

    def _allowed(self, exchange: Exchange) -> bytes | None:
        """What the answer names as the origin that may read it; None when that of the request may not."""
        if self._is_for_all:
            return b"*"
        origin = exchange.headers.joined(_ORIGIN) or b""  # of two lines none is an origin
        return origin if self._origins.has(origin, exchange.variables if self._origins.needs_variables else None) else None

    def _replace(self, headers: Headers, origin: bytes | None) -> None:
        for name in _OF_ANSWERS:
            headers.remove(name)
        if origin is not None:
            self._describe(headers, origin)

    def _describe(self, headers: Headers, origin: bytes) -> None:
        if self.settings.allow_credentials:
            headers.add(_ALLOW_CREDENTIALS, "true")
        self._add(headers, _EXPOSE, self._expose)
        headers.add(_ALLOW_ORIGIN, origin)

    @staticmethod
    def _add(headers: Headers, name: str, value: str) -> None:
        if value:
            headers.add(name, value)


def _told(asked: bytes | None) -> str:
    """What a browser asks for, as it is told again; "" for what is no list of names."""
    return asked.decode("latin-1") if asked and _TOKENS.fullmatch(asked) else ""
