"""For which names an authority may make certificates: the name constraints of it and of those above it (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NameBounds:
    """Of one certificate of an authority. A kind of name that it does not speak of is free."""

    permitted_names: tuple[str, ...] = ()
    """In lower case; each stands for itself and for whatever is under it."""
    permitted_networks: tuple[Network, ...] = ()
    excluded_names: tuple[str, ...] = ()
    excluded_networks: tuple[Network, ...] = ()
    others: tuple[NameBounds, ...] = field(default=())
    """Of those above it: all of them have to permit a name."""

    def is_within(self, name: str) -> bool:
        """name: of a host, in lower case, or `*.` and one."""
        name = name.removeprefix("*.")
        if any(_is_under(name, one) for one in self.excluded_names):
            return False
        if self.permitted_names and not any(_is_under(name, one) for one in self.permitted_names):
            return False
        return all(one.is_within(name) for one in self.others)

    def has_address(self, address: Address) -> bool:
        """Whether certificates may be for it."""
        if any(address in network for network in self.excluded_networks):
            return False
        if self.permitted_networks and not any(address in network for network in self.permitted_networks):
            return False
        return all(one.has_address(address) for one in self.others)

    def permits(self, name: str) -> bool:
        """The same of text that is either."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return self.is_within(name)
        return self.has_address(address)


def _is_under(name: str, bound: str) -> bool:
    if bound.startswith("."):  # not of the RFC, but libraries take it for what is under it alone
        return name.endswith(bound)
    return not bound or name == bound or name.endswith(f".{bound}")


def bounds_of(chain: Iterable[X509]) -> NameBounds:
    """chain: the authority first. Raises ValueError for an extension that cannot be read."""
    found = [_bounds_of_one(one) for one in chain]
    return NameBounds(others=tuple(one for one in found if one != NameBounds()))


def _bounds_of_one(certificate: X509) -> NameBounds:
    from cryptography import x509

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return NameBounds()
    permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
    return NameBounds(_names(permitted), _networks(permitted), _names(excluded), _networks(excluded))


def _names(subtrees: Iterable[object]) -> tuple[str, ...]:
    from cryptography import x509

    return tuple(one.value.lower() for one in subtrees if isinstance(one, x509.DNSName))


def _networks(subtrees: Iterable[object]) -> tuple[Network, ...]:
    from cryptography import x509

    return tuple(one.value for one in subtrees if isinstance(one, x509.IPAddress) and not isinstance(one.value, Address))
