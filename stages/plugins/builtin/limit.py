"""`limit`: requests a second, or requests at the same time, for each client, header, cookie or query parameter.

Beyond the limit 429.

The rate is `(before * (100 - weight) + current * weight) / 100 / interval`, and
`max / interval` is what it may be (`interval` counting as at least a second
there). So the first window lets `max * 100 / weight` requests through;
`weight = 100` counts each window by itself. A request without a value is not
limited: put an authentication plugin in front. One replica of the stage counts for
each value, so the limit is the limit however many replicas there are. When that replica
dies its successor is asked, and counts from 0; should it not answer within a second,
requests pass and `limit_claims_unanswered` counts them. A reload does not reset a limit whose
settings stay as they are.

Unlike pingap 0.13.9: it counts once for all replicas, and a refused request holds no place. An unknown `type` or `tag` is
refused instead of ignored; a `tag` without its `key` limits nobody there as here, which [a note](configuration.md#taken-with-a-note)
says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from pingap.plugin import (
    CONTINUE,
    INFLIGHT,
    RATE,
    SKIP,
    Duration,
    Exchange,
    Host,
    Plugin,
    Result,
    Settings,
    Trouble,
    Verdict,
    as_header_name,
    reply,
)

NOBODY: Final = ""
"""Instead of a tag: nothing says what the name of the header, cookie or parameter is."""


class LimitSettings(Settings):
    type: Literal["rate", "inflight"] = "rate"
    """`"rate"`: requests a second; `"inflight"`: requests at the same time."""
    tag: Literal["ip", "header", "cookie", "query"] = "ip"
    """What is limited: each client address, or each value of a header, cookie or query parameter."""
    key: str = ""
    """The name of that header, cookie or parameter; without it nobody is limited."""
    max: Annotated[int, Field(ge=0)] = 0
    """Requests in each `interval` (rate), or at the same time (inflight)."""
    interval: Duration = 10.0
    """The window of a rate."""
    weight: Annotated[int, Field(ge=0, le=100)] = 50
    """Percentage of the current window in the rate, the rest being the window before; 0 is that one alone."""


class Limit(Plugin[LimitSettings]):
    category = "limit"
    model = LimitSettings
    steps = ("request", "proxy_upstream")

    def __init__(self, settings: LimitSettings) -> None:
        super().__init__(settings)
        # A limit with other settings counts anew; one with the same goes on counting across reloads.
        said = json.dumps(settings.model_dump(exclude={"remark"}), sort_keys=True)
        self._prefix = hashlib.sha256(said.encode()).hexdigest()[:12]
        self._args: tuple[Any, ...]
        if settings.type == "rate":
            self._max = settings.max / max(settings.interval, 1.0)
            self._args = (RATE, self._max, settings.interval, settings.weight / 100)
        else:
            self._max = float(settings.max)
            self._args = (INFLIGHT, settings.max)
        self._host: Host | None = None
        key = settings.key
        readers: dict[str, Callable[[Exchange], str | None]] = {
            "ip": lambda exchange: exchange.client_ip,
            "header": lambda exchange: exchange.headers.get(key),
            "cookie": lambda exchange: exchange.cookie(key),
            "query": lambda exchange: exchange.query_value(key),
            NOBODY: lambda exchange: None,
        }
        self._value = readers[settings.tag if settings.tag == "ip" or key else NOBODY]

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if settings.tag == "header" and settings.key:
            try:
                as_header_name(settings.key)
            except ValueError as error:
                yield "key", str(error)
        if settings.interval <= 0:
            yield "interval", "must be more than 0"

    def start(self, host: Host) -> None:
        self._host = host
        self._prefix = f"{host.name}\0{self._prefix}\0"

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        value = self._value(exchange)
        if not value:
            return SKIP  # as documented: who has no key is not limited by it
        assert self._host is not None
        verdict = self._host.claim(exchange, self._prefix + value, self._args)
        if isinstance(verdict, Verdict):
            return CONTINUE if verdict.allowed else self._refused(verdict)
        return self._later(verdict)

    async def _later(self, waits: Awaitable[Verdict]) -> Result:
        verdict = await waits
        return CONTINUE if verdict.allowed else self._refused(verdict)

    def _refused(self, verdict: Verdict) -> Result:
        return reply(429, f"Plugin limit, exceed limit {verdict.value:.15g}/{self._max:.15g}")
