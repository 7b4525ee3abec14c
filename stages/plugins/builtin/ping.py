"""`ping`: answers 200 `pong` at one path, so that whoever watches sees that requests are answered.

Unlike pingap 0.13.9: a section without `path` is refused instead of doing nothing.
"""

from __future__ import annotations

from pydantic import Field

from pingap.plugin import CONTINUE, Exchange, Plugin, RequestPath, Result, Settings, is_path, reply


class PingSettings(Settings):
    path: RequestPath = Field(min_length=1)
    """Exactly this path, whatever the method."""


class Ping(Plugin[PingSettings]):
    category = "ping"
    model = PingSettings

    def __init__(self, settings: PingSettings) -> None:
        super().__init__(settings)
        self._is_path = is_path(settings.path)
        self._pong = reply(200, "pong")

    def request(self, exchange: Exchange) -> Result:
        return self._pong if self._is_path(exchange.raw_path) else CONTINUE
