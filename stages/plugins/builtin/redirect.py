"""`redirect`: forces a scheme, and a prefix of the path.

The port is kept when the scheme stays, and left out when it changes.

Unlike pingap 0.13.9: the port is kept when the scheme stays, hosts may be IPv6 addresses, and `/apis` is not under `/api`.
An unknown `status` is refused instead of ignored.
"""

from __future__ import annotations

from typing import Literal

from pingap.plugin import SKIP, Exchange, Plugin, Result, Settings, as_sent, reply


class RedirectSettings(Settings):
    http_to_https: bool = False
    """`true`: clients are sent to https; `false`: to http."""
    prefix: str = ""
    """Put before paths that are not under it; a slash in front is added, `/` alone is none."""
    status: Literal[301, 302, 307, 308] = 307
    """Of the answer."""


class Redirect(Plugin[RedirectSettings]):
    category = "redirect"
    model = RedirectSettings

    def __init__(self, settings: RedirectSettings) -> None:
        super().__init__(settings)
        prefix = settings.prefix.strip("/")
        self._prefix = as_sent(f"/{prefix}") if prefix else b""
        self._scheme = "https" if settings.http_to_https else "http"
        self._status = settings.status

    def request(self, exchange: Exchange) -> Result:
        target, prefix = exchange.raw_target, self._prefix
        if target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?"):
            prefix = b""
        is_other_scheme = exchange.scheme != self._scheme
        if not (is_other_scheme or prefix):
            return SKIP
        # The port belongs to the scheme: the other scheme is served at its usual one.
        authority = exchange.host if is_other_scheme else exchange.authority
        if not authority:  # HTTP/1.0 need not name a host
            authority = exchange.local_ip
        location = f"{self._scheme}://{authority}{(prefix + target).decode('latin-1')}"
        return reply(self._status, b"", (("location", location),))
