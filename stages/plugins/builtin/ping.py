"""`ping`: answers 200 `pong` at one path, so that whoever watches sees that requests are answered."""

from __future__ import annotations

from pydantic import Field

from stages.plugins.api import Plugin, Settings
from stages.plugins.exchange import CONTINUE, Exchange, Result, reply


class PingSettings(Settings):
    path: str = Field(min_length=1)
    """The path at which it answers, whatever the method."""


class Ping(Plugin[PingSettings]):
    category = "ping"
    model = PingSettings

    def __init__(self, settings: PingSettings) -> None:
        super().__init__(settings)
        self._path = settings.path.encode()
        self._pong = reply(200, "pong")

    def request(self, exchange: Exchange) -> Result:
        return self._pong if exchange.raw_path == self._path else CONTINUE
