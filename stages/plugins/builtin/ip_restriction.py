"""`ip_restriction`: lets only some addresses in, or keeps some out.

403 for who is kept out, 400 for who has no address. The address is that of the client as `basic.trusted_proxies` lets us
believe it.

Unlike pingap 0.13.9: an unknown `type`, and an entry of `ip_list` that is no address, are refused instead of ignored.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from pingap.plugin import Addresses, Exchange, Network, Plugin, Result, Settings, Trouble, reply
from pingap.stages.plugins.builtin.admission import FORBIDDEN, Admission, AdmissionType, note_empty

_KEPT: Final = 4096
"""Addresses whose verdict is remembered; past it they are forgotten all at once."""

_BAD: Final = reply(400, "The client has no IP address")


class IpRestrictionSettings(Settings):
    ip_list: list[Network] = Field(default_factory=list)
    """Addresses and networks: `"10.0.0.0/8"`, `"::1"`."""
    type: AdmissionType = "allow"
    """`"allow"`: nobody but these; `"deny"`: everybody but these."""
    message: str = FORBIDDEN
    """Body of the 403."""


class IpRestriction(Plugin[IpRestrictionSettings]):
    category = "ip_restriction"
    model = IpRestrictionSettings

    def __init__(self, settings: IpRestrictionSettings) -> None:
        super().__init__(settings)
        self._admission = Admission(settings.type, settings.message)
        self._listed = Addresses(settings.ip_list)
        self._verdicts: dict[str, Result] = {}

    def notes(self) -> Iterator[Trouble]:
        yield from note_empty("ip_list", self.settings.ip_list, self.settings.type, 'ip_list = ["10.0.0.0/8"]')

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
        return self._admission.verdict(self._listed.has(ip))
