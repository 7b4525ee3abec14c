"""What is asked of those who serve zones."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import dns.exception
import dns.name


class ProviderZone(NamedTuple):
    """One that the provider serves for the account."""

    name: str
    """Lower case, ASCII, without the dot at the end."""
    id: str
    """By which the provider's interface knows it; with some that is the name, in letters of its own choosing."""


class ProviderRefused(Exception):
    """It said no, or nothing of use. `message` has no keys."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        self.code = code
        """The interface's own, else the HTTP status, else ""."""
        self.message = message
        self.hint = hint
        super().__init__(": ".join(filter(None, (code, message))) + (f" ({hint})" if hint else ""))


class DnsProvider(Protocol):
    """An account with one of them. All methods block, and raise ProviderRefused."""

    name: str
    """As `dns_provider` has it."""

    def zone(self, name: str) -> ProviderZone | None:
        """The zone of exactly this name."""

    def add(self, zone: ProviderZone, record: str, value: str) -> str:
        """Adds a value to the TXT records of a name, beside others; what is there already is no error. Returns its id."""

    def remove(self, zone: ProviderZone, record: str, value: str, known: str) -> None:
        """Takes it out, and no other. known: its id, "" when it has to be looked for. What is not there is no error."""

    def close(self) -> None:
        """Of no use any more."""


def find_zone(provider: DnsProvider, name: str) -> ProviderZone | None:
    """Of those that the name is in the longest. Raises ProviderRefused."""
    labels = name.split(".")
    return next((zone for start in range(len(labels) - 1) if (zone := provider.zone(".".join(labels[start:])))), None)


def zone_among(zones: object, name: str, name_key: str, id_key: str) -> ProviderZone | None:
    """The one of this name in what an interface lists. The keys are those of its tables."""
    found = ((one.get(name_key), one.get(id_key)) for one in tables(zones))
    return next((ProviderZone(name, known) for told, known in found if plain(told) == name and isinstance(known, str)), None)


def tables(value: object) -> list[dict[str, Any]]:
    """The objects of a list that an interface gave; none for what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def host_in(zone: ProviderZone, record: str) -> str:
    """The name of a record as it stands in the zone; `@` is the zone itself."""
    return "@" if record == zone.name else record.removesuffix("." + zone.name)


def as_written(name: str) -> str:
    """A name with its letters, as some interfaces know it, instead of Punycode."""
    try:
        return dns.name.from_text(name).to_unicode(omit_final_dot=True) if "xn--" in name else name
    except dns.exception.DNSException:
        return name


def plain(name: object) -> str:
    """A name that an interface gave, in the form of ProviderZone.name; "" for what is none."""
    try:
        return dns.name.from_unicode(name).to_text(omit_final_dot=True).lower() if isinstance(name, str) and name else ""
    except dns.exception.DNSException:
        return ""
