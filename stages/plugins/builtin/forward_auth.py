"""`forward_auth`: a service of yours says who may pass, as with nginx's `auth_request`, Traefik's `forwardAuth` and Caddy's `forward_auth`.

For each request, an upgrade to WebSocket too, `auth_url` is asked with GET and the headers of the request, without its body. 2xx
lets it pass, with the headers of `add_headers` for the backend. Any other answer is the client's: its status, its headers, all of
its Set-Cookie, its body. No redirect is followed: it is the client that is sent to log in, and a relative Location is one of the
site that the client asked. The service is told:

| header | |
| --- | --- |
| `X-Forwarded-Method` | the method |
| `X-Forwarded-Uri` | path and query, as the backend will get them |
| `X-Original-Uri` | path and query, as the client sent them |
| `X-Forwarded-Host` | the host, without its port |
| `X-Forwarded-Proto`, `X-Forwarded-Port` | by which the client came |
| `X-Forwarded-For`, `X-Real-Ip` | the address of the client |

What the client says itself under these names, `Forwarded` or any `X-Forwarded-…` counts where `basic.trusted_proxies` says so; it is
left out otherwise. So is what is about the connection or a body (Host, Expect, Content-Length …), conditions and ranges, which
would be about another resource, and what `add_headers` names, unless it is Authorization, Cookie or in `request_headers`.

Whoever cannot be asked lets nobody pass: no connection, no answer within `timeout`, one that breaks off or has more than 1 MiB
is 502 `Forward auth request failed`, a 304 too; the log says which. So is an `auth_url` that leads back to a location with the
same plugin: each question has a mark, `X-Forward-Auth-Way`. With `upstream://NAME/path` the service is an upstream of the
configuration, with its pool, TLS, health checks and retries.

Unlike pingap 0.13.9: that follows redirects, so that a login page lets everybody pass. It leaves what the client sends under the
names of `add_headers` in the request, adds its X-Forwarded-For to the client's, makes requests with a body wait in vain, takes
refusals of any size, and keeps one Set-Cookie of several. Here a name in `add_headers` is removed in each spelling that CGI, WSGI
or PHP take for it (`X_User`), and gets all lines that the service sends, not only the first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final

from pydantic import Field

from pingap.plugin import (
    CONTINUE,
    Duration,
    Exchange,
    FetchAnswer,
    FetchFailed,
    HeaderName,
    Hook,
    Host,
    Plugin,
    Reply,
    Result,
    Settings,
    Step,
    Trouble,
    Url,
    as_header_name,
    reply,
)
from pingap.stages.plugins.builtin.overwritten import note_overwritten
from pingap.stages.plugins.builtin.told import keep_apart

LARGEST: Final = 1024 * 1024
"""Bytes of the service's answer."""
LONGEST_TIMEOUT: Final = 3600.0
"""Seconds."""

_FAILED: Final = reply(502, "Forward auth request failed")

_KEPT: Final = frozenset(
    ("host", "expect", "connection", "content-length", "transfer-encoding", "keep-alive", "proxy-connection", "te", "trailer", "upgrade")
    + ("http2-settings", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "content-encoding", "content-range")
    + ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
)
"""Headers of the client that are about its connection, its body or the resource that it wants."""
_TOLD: Final = frozenset(
    ("x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-for")
    + ("x-original-uri", "x-real-ip")
)
"""What we write."""
_WAY: Final = "x-forward-auth-way"
"""The marks of the plugins that a question has come from."""
_WAY_LINE: Final = as_header_name(_WAY)
_CREDENTIALS: Final = frozenset(("authorization", "cookie"))

_NOT_RELAYED: Final = frozenset(
    ("connection", "content-length", "transfer-encoding", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "alt-svc")
)
"""Headers of an answer that are about the service's connection."""

_DASHES: Final = {ord(sign): "-" for sign in "!#$%&'*+.^_`|~"}
"""For names that some servers take for the same."""


class ForwardAuthSettings(Settings):
    auth_url: Url
    """Who is asked: `"https://auth.example.org/verify"`, or `"upstream://NAME/verify"` for an upstream of the configuration."""
    request_headers: list[Annotated[HeaderName, Field(min_length=1)]] = Field(default_factory=list)
    """Headers of the client that the service gets, as `"Cookie"`; without it all."""
    add_headers: list[Annotated[HeaderName, Field(min_length=1)]] = Field(default_factory=list)
    """Headers of the service's answer that the backend gets, as `"X-User"`. What clients send under these names never gets there.
    X-Real-Ip, Forwarded, X-Forwarded-For, -Proto, -Host and -Port are `enable_reverse_proxy_headers`' own where a location has that."""
    timeout: Duration = 10.0
    """For the whole of the service's answer; at most 1 h."""
    response_headers: list[Annotated[HeaderName, Field(min_length=1)]] = Field(default_factory=list)
    """Headers of an answer that lets pass which the client gets, as `"Set-Cookie"`, which comes beside those of the backend; others
    come in their place. Only with answers of backends. Ours."""
    preserve_method: bool = False
    """Ask with the method of the request instead of GET. Ours."""


class ForwardAuth(Plugin[ForwardAuthSettings]):
    category = "forward_auth"
    model = ForwardAuthSettings
    steps = ("request",)

    def __init__(self, settings: ForwardAuthSettings) -> None:
        super().__init__(settings)
        self._host: Host | None = None
        self._mark = b""
        self._asked = frozenset(name.lower() for name in settings.request_headers)
        self._added = list(dict.fromkeys(name.lower() for name in settings.add_headers))
        self._relayed = list(dict.fromkeys(name.lower() for name in settings.response_headers))
        self._left_out = frozenset(name.translate(_DASHES) for name in self._added) - _CREDENTIALS

    def check(self) -> Iterator[Trouble]:
        if not 0 < self.settings.timeout <= LONGEST_TIMEOUT:
            yield "timeout", "must be more than 0 and at most 1h"
        for index, name in enumerate(self.settings.add_headers):
            if name.lower() == "host":
                yield f"add_headers[{index}]", "a request is sent to the host that it was let pass for", "proxy_set_headers sets Host"

    def notes(self) -> Iterator[Trouble]:
        yield from note_overwritten("add_headers", self.settings.add_headers)
        if not self.settings.request_headers and "request_headers" in self.settings.model_fields_set:
            yield "request_headers", "empty: the service gets all headers of the client", 'request_headers = ["Cookie"]'
        for index, name in enumerate(self.settings.request_headers):
            if name.lower() in _KEPT or name.lower().translate(_DASHES) in _TOLD:
                yield f"request_headers[{index}]", f"without effect: {name} is never passed on as it is", "leave it out"

    def start(self, host: Host) -> None:
        self._host = host
        self._mark = secrets.token_hex(8).encode()  # which no client knows: it is not to make a loop of a request

    def hooks(self) -> Mapping[Step, Hook]:
        return {"request": self.request, "response": self.response} if self._relayed else {"request": self.request}

    async def request(self, exchange: Exchange) -> Result:
        host, settings = self._host, self.settings
        assert host is not None
        if self._mark in (exchange.headers.joined(_WAY_LINE) or b"").replace(b" ", b"").split(b","):
            return self._failed("auth_url leads back to a location with this plugin")
        method = exchange.method if settings.preserve_method else "GET"
        try:
            answer = await host.fetch_url(settings.auth_url, method, self._headers(exchange), timeout=settings.timeout, limit=LARGEST)
        except FetchFailed as failed:
            return self._failed(str(failed))
        if 200 <= answer.status < 300:
            self._admit(exchange, answer)
            return CONTINUE
        if answer.status == 304 or not 300 <= answer.status <= 599:
            return self._failed(f"status {answer.status} is no answer to what was asked")
        return _refusal(answer)

    def response(self, exchange: Exchange) -> Result:
        response = exchange.response
        assert response is not None
        for name, values in exchange.state.get(self, ()):
            if name != "set-cookie":
                response.headers.remove(name)
            for value in values:
                response.headers.add(name, value)
        return CONTINUE

    # -- the question ------------------------------------------------------------

    def _headers(self, exchange: Exchange) -> list[tuple[str, str]]:
        is_believed = exchange.client_ip != exchange.peer_ip  # as basic.trusted_proxies has it
        lines = []
        cookies = []
        for name, value in exchange.headers.items():
            if name == _WAY:
                lines.append((name, value))
                continue
            if name in _KEPT or (self._asked and name not in self._asked):
                continue
            plain = name.translate(_DASHES)
            if plain in _TOLD or (not is_believed and _is_claim(plain)) or (plain in self._left_out and name not in self._asked):
                continue
            if name == "cookie":
                cookies.append(value)
            else:
                lines.append((name, value))
        if cookies:
            lines.append(("cookie", "; ".join(cookies)))  # RFC 6265 section 5.4: it is one line
        lines += [(name, value) for name, value in _told(exchange, exchange.headers.get if is_believed else _nothing) if value]
        lines.append((_WAY, self._mark.decode()))
        return lines

    # -- the answer ---------------------------------------------------------------

    def _admit(self, exchange: Exchange, answer: FetchAnswer) -> None:
        for name in self._added:
            exchange.headers.remove_alike(name)
            for value in answer.headers.get_all(name):
                exchange.headers.add(name, value)
        keep_apart(exchange, [(name, value) for name in self._added for value in answer.headers.get_all(name)])
        if self._relayed:
            found = [(name, answer.headers.get_all(name)) for name in self._relayed]
            exchange.state[self] = [(name, values) for name, values in found if values]

    def _failed(self, reason: str) -> Reply:
        assert self._host is not None
        url = self.settings.auth_url
        self._host.log("error", "who may pass cannot be asked", service=url.upstream or url.authority, error=reason)
        return _FAILED


def _refusal(answer: FetchAnswer) -> Reply:
    """A refusal, as the client gets it."""
    return reply(answer.status, answer.body, [line for line in answer.headers.items() if line[0] not in _NOT_RELAYED])


def _told(exchange: Exchange, said: Callable[[str], str | None]) -> Iterator[tuple[str, str]]:
    """What the service is told of the request. said: what a proxy before us says."""
    yield "x-forwarded-method", exchange.method
    yield "x-forwarded-uri", exchange.target
    yield "x-original-uri", exchange.original_target
    yield "x-forwarded-host", said("x-forwarded-host") or exchange.host
    yield "x-forwarded-proto", said("x-forwarded-proto") or exchange.scheme
    yield "x-forwarded-port", said("x-forwarded-port") or str(exchange.local_port)
    yield "x-forwarded-for", exchange.client_ip
    yield "x-real-ip", exchange.client_ip


def _is_claim(plain: str) -> bool:
    """Whether a header says of the client what only a proxy can know. plain: its name with dashes."""
    return plain.startswith("x-forwarded-") or plain == "forwarded" or plain in _TOLD


def _nothing(name: str) -> None:
    return None
