"""`ip_restriction`: lets only some addresses in, or keeps some out.

403 for who is kept out, 400 for who has no address. The address is that of the client as `basic.trusted_proxies` lets us
believe it.

Unlike pingap 0.13.9: an unknown `type`, and an entry of `ip_list` that is no address, are refused instead of ignored.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from pingap.plugin import CONTINUE, Addresses, Exchange, Network, Plugin, Result, Settings, reply

_KEPT: Final = 4096
"""Addresses whose verdict is remembered; past it they are forgotten all at once."""

_BAD: Final = reply(400, "The client has no IP address")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class IpRestrictionSettings(Settings):
    ip_list: list[Network] = Field(default_factory=list)
    """Addresses and networks: `"10.0.0.0/8"`, `"::1"`."""
    type: Annotated[Literal["allow", "deny"], BeforeValidator(_lower)] = "allow"
    """`"allow"`: nobody but these; `"deny"`: everybody but these."""
    message: str = "Request is forbidden"
    """Body of the 403."""


class IpRestriction(Plugin[IpRestrictionSettings]):
    category = "ip_restriction"
    model = IpRestrictionSettings

    def __init__(self, settings: IpRestrictionSettings) -> None:
        super().__init__(settings)
        self._forbidden = reply(403, settings.message or "Request is forbidden")
        self._listed = Addresses(settings.ip_list)
        self._verdicts: dict[str, Result] = {}

    def request(self, exchange: Exchange) -> Result:
        ip = exchange.client_ip
        verdict = self._verdicts.get(ip)
        if verdict is None:
            verdict = self._judge(ip)
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            self._verdicts[ip] = verdict
        return verdict

    def _judge(self, ip: str) -> Result:
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            return _BAD
        is_listed = self._listed.has(ip)
        return CONTINUE if is_listed == (self.settings.type == "allow") else self._forbidden
