"""`basic_auth`: HTTP Basic authentication (RFC 7617).

Without credentials, or with wrong ones, 401 with a challenge; passwords are compared in constant time.
With `hide_credentials` access log and events show the value of Authorization as `***`, too. Two Authorization lines that differ
are refused, since the backend might read the other one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Iterator
from hmac import compare_digest
from typing import Annotated, Final

from pydantic import Field

from pingap.plugin import CONTINUE, Duration, Exchange, Plugin, Reply, Result, Settings, Trouble, reply
from pingap.stages.plugins.builtin.credential import Credential

_CHALLENGE: Final = (("www-authenticate", 'Basic realm="Access to the staging site"'),)
"""The realm is part of how browsers remember a password, so it is the reference's."""


class BasicAuthSettings(Settings):
    authorizations: Annotated[list[str], Field(min_length=1)]
    """Base64 of `user:password`, one for each account: `echo -n 'user:password' | base64`."""
    delay: Duration = 0.0
    """Wait this long before a wrong password is answered."""
    hide_credentials: bool = False
    """The backend does not get the Authorization header."""


class BasicAuth(Plugin[BasicAuthSettings]):
    category = "basic_auth"
    model = BasicAuthSettings

    def __init__(self, settings: BasicAuthSettings) -> None:
        super().__init__(settings)
        self._accounts = [entry.encode() for entry in settings.authorizations]
        self._credential = Credential("authorization")
        self._missing = reply(401, "Authorization is missing", _CHALLENGE)
        self._wrong = reply(401, "Invalid user or password", _CHALLENGE)

    def check(self) -> Iterator[Trouble]:
        for index, entry in enumerate(self.settings.authorizations):
            try:
                decoded = base64.b64decode(entry, validate=True)
            except (binascii.Error, ValueError):
                yield f"authorizations[{index}]", "is not base64", "echo -n 'user:password' | base64"
                continue
            if b":" not in decoded:
                yield f"authorizations[{index}]", "is not the base64 of user:password", "echo -n 'user:password' | base64"

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        given, *others = self._credential.values(exchange) or (b"",)
        if not given:
            return self._missing
        scheme, _, credentials = given.partition(b" ")
        credentials = credentials.strip()
        is_known = False
        for account in self._accounts:  # all of them, so that the time says nothing about which one it was
            is_known |= compare_digest(account, credentials)
        if not is_known or scheme.lower() != b"basic" or any(other != given for other in others):
            return self._later() if self.settings.delay else self._wrong
        if self.settings.hide_credentials:
            self._credential.remove(exchange)
        return CONTINUE

    async def _later(self) -> Reply:
        await asyncio.sleep(self.settings.delay)
        return self._wrong
