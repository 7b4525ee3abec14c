"""`ip_restriction`: lets only some addresses in, or keeps some out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from pingap.stages.forwarded import Trust
from pingap.stages.plugins.api import Plugin, Settings, Trouble
from pingap.stages.plugins.exchange import CONTINUE, Exchange, Result, reply

_KEPT: Final = 4096
"""Addresses whose verdict is remembered; past it they are forgotten all at once."""

_BAD: Final = reply(400, "The client has no IP address")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class IpRestrictionSettings(Settings):
    ip_list: list[str] = Field(default_factory=list)
    """Addresses and networks, as `10.0.0.0/8` and `::1`."""
    type: Annotated[Literal["allow", "deny"], BeforeValidator(_lower)] = "allow"
    """allow: nobody but these; deny: everybody but these."""
    message: str = "Request is forbidden"
    """Body of the 403."""


class IpRestriction(Plugin[IpRestrictionSettings]):
    category = "ip_restriction"
    model = IpRestrictionSettings

    def __init__(self, settings: IpRestrictionSettings) -> None:
        super().__init__(settings)
        self._forbidden = reply(403, settings.message or "Request is forbidden")
        self._listed: Trust | None = None
        self._verdicts: dict[str, Result] = {}

    def check(self) -> Iterator[Trouble]:
        networks = []
        for index, entry in enumerate(self.settings.ip_list):
            try:
                networks.append(str(ipaddress.ip_network(entry.strip(), strict=False)))
            except ValueError:
                yield f"ip_list[{index}]", f"{entry!r} is neither an IP address nor a network", 'write "10.0.0.1" or "10.0.0.0/8"'
        self._listed = Trust(networks)

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
        assert self._listed is not None
        is_listed = self._listed.is_trusted(ip)
        return CONTINUE if is_listed == (self.settings.type == "allow") else self._forbidden
