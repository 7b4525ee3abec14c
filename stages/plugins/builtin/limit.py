"""`limit`: requests a second, or requests at the same time, for each client, header, cookie or query parameter.

One replica of the stage counts for each value (stages/plugins/limits.py), so that the
limit is the limit however many there are.
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
    tag: Literal["ip", "header", "cookie", "query"] = "ip"
    """What is limited: each client address, or each value of a header, cookie or query parameter."""
    key: str = ""
    """The name of that header, cookie or parameter; without it nobody is limited, which a note says (config/lenient.py)."""
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
