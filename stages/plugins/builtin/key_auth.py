"""`key_auth`: an API key in a header or in the query.

401 without a known key; keys are compared in constant time. As with pingap 0.13.9, the 401 has no `WWW-Authenticate`: HTTP has
no scheme for such keys. With `hide_credentials` access log and events show the key as `***`, too.

Two keys in one request that differ are refused, since the backend might read the other one: also when the second is spelt in
another way that some backends take for the same, as `x_api_key`, `%6Bey`, `KEY` or `a=b;key=c`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from hmac import compare_digest
from typing import Annotated

from pydantic import Field

from pingap.plugin import (
    CONTINUE,
    Duration,
    Exchange,
    HeaderName,
    Plugin,
    Reply,
    Result,
    Settings,
    Trouble,
    reply,
)
from pingap.stages.plugins.builtin.credential import Credential


class KeyAuthSettings(Settings):
    header: HeaderName = ""
    """The header with the key, as `"X-API-Key"`."""
    query: str = ""
    """The query parameter with the key; if both are given only this one is read."""
    keys: Annotated[list[str], Field(min_length=1)]
    """The keys that are let pass, compared byte by byte."""
    delay: Duration = 0.0
    """Wait this long before a wrong key is answered."""
    hide_credentials: bool = False
    """The backend does not get the key."""


class KeyAuth(Plugin[KeyAuthSettings]):
    category = "key_auth"
    model = KeyAuthSettings

    def __init__(self, settings: KeyAuthSettings) -> None:
        super().__init__(settings)
        self._keys = [key.encode() for key in settings.keys]
        self._credential = Credential("" if settings.query else settings.header, query=settings.query)
        self._missing = reply(401, "Key missing")
        self._wrong = reply(401, "Key auth fail")

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        if not settings.query and not settings.header:
            yield "header", "neither header nor query says where the key is", 'header = "X-API-Key"'
        for index, key in enumerate(settings.keys):
            if not key:
                yield f"keys[{index}]", "must not be empty"

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        given, *others = self._credential.values(exchange) or (b"",)
        if not given:
            return self._missing
        is_known = False
        for key in self._keys:  # all of them, so that the time says nothing about which one it was
            is_known |= compare_digest(key, given)
        if not is_known or any(other != given for other in others):
            return self._later() if self.settings.delay else self._wrong
        if self.settings.hide_credentials:
            self._credential.remove(exchange)
        return CONTINUE

    async def _later(self) -> Reply:
        await asyncio.sleep(self.settings.delay)
        return self._wrong
