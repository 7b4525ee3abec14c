"""`mock`: a canned answer instead of a backend's.

Unlike pingap 0.13.9: a `status` that is none is refused instead of ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pydantic import Field

from pingap.plugin import SKIP, Duration, Exchange, HeaderLine, Plugin, Reply, RequestPath, Result, Settings, Status, is_path, reply


class MockSettings(Settings):
    path: RequestPath = ""
    """Only requests for exactly this path; without it every path of the location."""
    status: Status = 200
    """Of the answer."""
    headers: list[HeaderLine] = Field(default_factory=list)
    """`"Name: value"`."""
    data: str = ""
    """The body."""
    delay: Duration = 0.0
    """Wait this long before answering."""


class Mock(Plugin[MockSettings]):
    category = "mock"
    model = MockSettings
    steps = ("request", "proxy_upstream")

    def __init__(self, settings: MockSettings) -> None:
        super().__init__(settings)
        self._is_path = is_path(settings.path) if settings.path else None
        self._delay = settings.delay
        self._reply = reply(settings.status, settings.data, settings.headers)

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        if self._is_path is not None and not self._is_path(exchange.raw_path):
            return SKIP
        return self._later() if self._delay else self._reply

    async def _later(self) -> Reply:
        await asyncio.sleep(self._delay)
        return self._reply
