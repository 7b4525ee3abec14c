"""`admin`: keeps the place of the admin page and its API, which are not part of this version.

Its keys are checked, so that a configuration that has it can be used; `pingap check` notes it. Under `path` every request is
answered with 501, whoever sends it: nothing is shown, and nothing can be changed. Step `request`.

Unlike pingap 0.13.9: nothing is served yet. `/pingap` is not also the path of `/pingapx`. Entries of `authorizations` that are not
the Base64 of `user:password` are refused, where there one without a colon is skipped, so that with no other nobody has to log in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from pingap.plugin import CONTINUE, Duration, Exchange, Plugin, RequestPath, Result, Settings, Trouble, as_sent, is_path, reply

_HINT: Final = "echo -n 'user:password' | base64"


class AdminSettings(Settings):
    path: RequestPath = ""
    """Where it is: this path and all below it. Empty: every path of the location."""
    authorizations: list[str] = Field(default_factory=list)
    """Who may log in: Base64 of `user:password`, one for each account."""
    max_age: Duration = 172_800.0
    """How long a login lasts."""
    ip_fail_limit: int = 10
    """Failed logins of an address after which it is shut out; 0 and less is 10."""


class Admin(Plugin[AdminSettings]):
    category = "admin"
    model = AdminSettings

    def __init__(self, settings: AdminSettings) -> None:
        super().__init__(settings)
        path = settings.path.rstrip("/")
        self._is_path = is_path(path)
        self._size = len(as_sent(path))
        self._answer = reply(501, "The admin page is not part of this version of pingap.\n", [("cache-control", "private, no-store")])

    def check(self) -> Iterator[Trouble]:
        for index, entry in enumerate(self.settings.authorizations):
            try:
                decoded = base64.b64decode(entry, validate=True)
            except (binascii.Error, ValueError):
                yield f"authorizations[{index}]", "is not base64", _HINT
                continue
            if b":" not in decoded:
                yield f"authorizations[{index}]", "is not the base64 of user:password", _HINT

    def notes(self) -> Iterator[Trouble]:
        yield "category", "the admin page and its API are not part of this version: what is asked under its path is answered with 501"

    def request(self, exchange: Exchange) -> Result:
        path, size = exchange.raw_path, self._size
        return self._answer if path[size : size + 1] in (b"", b"/") and self._is_path(path[:size]) else CONTINUE
