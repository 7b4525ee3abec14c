"""`traffic_splitting`: sends a share of a location's requests to another upstream, for canaries and A/B tests.

The location's own upstream stays that of all others; a location without one answers 404 to them. Everything else of the
location holds for both: its rewrite, its header rules, its limits. Of several such plugins in a location the last one that
chooses a request has it.

**By chance**, which is the usual way, each process deals the share exactly: of 100 requests as many as `weight` says, of 10,000 the
hundredths of it, too, and no pattern in the requests meets one in the plugin.

**By client**, with `stickiness`: the same value of the cookie or header always has the same outcome, in every process and after
every restart, as long as the weight stays; with a higher one no client loses the new version. The share is that of the
values, and as exact as they are many. A request without the cookie or header, or with an empty one, stays with the location's
upstream. It is CRC-32 that decides, as in pingap 0.13.9, so that the same clients are chosen here and there.

**By group**, with `matcher`: all whose value it is found in, and no other. Any weight above 0 is 100 then.

An upgrade (WebSocket) is a request as others, and its connection stays where it was sent; over HTTP/2 each request is chosen for
itself. Retries stay within the chosen upstream. When all of its backends are down, its requests are answered with 502 or 503: they
do not go back to the location's, for a canary that is dead should be seen. `weight = 0` and a reload take it out.

`upstream = "$name"` takes the name from a capture of the location's host or path, or from the context. If it is no upstream that
is configured, the answer is 503.

Unlike pingap 0.13.9: an upstream that is not configured is refused instead of answered with 503; hundredths of a per cent; an empty
cookie or header counts as none, where it is always chosen there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from math import isfinite
from time import monotonic
from typing import Annotated, Final
from zlib import crc32

from pydantic import Field

from pingap.plugin import CONTINUE, SKIP, Exchange, HeaderName, Host, Plugin, Regex, Result, Settings, Trouble, as_header_name, reply
from pingap.stages.plugins.builtin.exact_share import WHOLE, ExactShare

_CAPTURE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})")

LONGEST: Final = 4096
"""Bytes of a value that `matcher` looks at; it is found in none that is longer."""

_QUIET: Final = 1.0
"""Seconds between two lines about upstreams that there are not."""


class TrafficSplittingSettings(Settings):
    upstream: Annotated[str, Field(min_length=1)]
    """The upstream that gets the share, or `"$name"` for a capture."""
    weight: float = 0
    """Per cent of the requests, or of the clients: 0 to 100, with at most two digits behind the point (these are ours)."""
    stickiness: bool = False
    """By the value of a cookie or header, not by chance."""
    sticky_cookie: str = ""
    """The name of that cookie."""
    sticky_header: HeaderName = ""
    """The name of that header; only looked at without `sticky_cookie`."""
    matcher: Regex = None
    """A regex, with `stickiness`: all requests in whose value it is found, and no others."""


class TrafficSplitting(Plugin[TrafficSplittingSettings]):
    category = "traffic_splitting"
    model = TrafficSplittingSettings

    def __init__(self, settings: TrafficSplittingSettings) -> None:
        super().__init__(settings)
        weight = min(max(settings.weight, 0.0), 100.0) if isfinite(settings.weight) else 0.0
        self._share = round(weight * (WHOLE // 100))
        self._dealt = ExactShare(self._share, random.shuffle)
        capture = _CAPTURE.fullmatch(settings.upstream)
        self._capture = (capture[1] or capture[2]) if capture else ""
        self._line = as_header_name(settings.sticky_header) if settings.sticky_header else b""
        self._host: Host | None = None
        self._quiet_until = 0.0

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if settings.upstream.startswith("$") and not self._capture:
            yield "upstream", f"{settings.upstream!r} names no capture", 'write "$name" or "${name}"'
        if not isfinite(settings.weight):
            yield "weight", "must be a number from 0 to 100"
        elif abs(settings.weight * 100 - round(settings.weight * 100)) > 1e-6:
            yield "weight", "has more than two digits behind its point"
        if settings.stickiness and not settings.sticky_cookie and not settings.sticky_header:
            hint = 'sticky_cookie = "deviceId", or sticky_header = "X-Device"'
            yield "stickiness", "neither sticky_cookie nor sticky_header says what a client is known by", hint
        if settings.sticky_cookie and set(settings.sticky_cookie) & set("=;, \t"):
            yield "sticky_cookie", f"{settings.sticky_cookie!r} is not the name of a cookie"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        if not 0 <= settings.weight <= 100:
            yield "weight", f"{settings.weight:g} is taken for {self._share // 100}"
        elif not self._share:
            yield "weight", "0: no request goes there"
        if not settings.stickiness:
            for key in ("sticky_cookie", "sticky_header", "matcher"):
                if getattr(settings, key):
                    yield key, "without effect: it takes stickiness = true"
        elif settings.sticky_cookie and settings.sticky_header:
            yield "sticky_header", "without effect: it is sticky_cookie that counts"
        if settings.stickiness and settings.matcher is not None and 0 < self._share < WHOLE:
            yield "weight", "without effect beside matcher: all requests in whose value that is found go there"

    def upstreams(self) -> Iterator[tuple[str, str]]:
        if not self.settings.upstream.startswith("$"):
            yield "upstream", self.settings.upstream

    def start(self, host: Host) -> None:
        self._host = host

    def request(self, exchange: Exchange) -> Result:
        is_chosen = self._is_sticky(exchange) if self.settings.stickiness else self._dealt.deal()
        if not is_chosen:
            return SKIP
        if not self._capture:
            exchange.upstream = self.settings.upstream
            return CONTINUE
        found = exchange.context.get(self._capture)
        name = found if isinstance(found, str) else ""
        try:
            exchange.upstream = name
        except ValueError:
            self._tell(name)
            return reply(503, "There is no such upstream")
        return CONTINUE

    def _is_sticky(self, exchange: Exchange) -> bool:
        """Whether the client is one of the share."""
        value = self._value(exchange)
        if not value:
            return False
        matcher = self.settings.matcher
        if matcher is not None:
            return self._share > 0 and len(value) <= LONGEST and matcher.search(value) is not None
        percent, more = (crc := crc32(value)) % 100, crc // 100 % 100
        return percent * 100 + more < self._share

    def _value(self, exchange: Exchange) -> bytes | None:
        if self.settings.sticky_cookie:
            cookie = exchange.cookie(self.settings.sticky_cookie)
            return cookie.encode("latin-1") if cookie else None
        return exchange.headers.first(self._line)

    def _tell(self, name: str) -> None:
        now = monotonic()
        if self._host is not None and now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            self._host.log("warn", "a request was to go to an upstream that there is not", upstream=name, capture=self._capture)
