"""What speaks against a connection to an address that a client has chosen. Pure.

Only what is reached over the public internet is let pass, and what the configuration lists besides. That is told by the registries
of IANA (IPv4 and IPv6 Special-Purpose Address Space) and not by the ipaddress module, which takes some of it for global (the relays
of 6to4, a metadata service), and other things from one version of Python to the next.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Special(NamedTuple):
    network: Network
    what: str
    is_guarded: bool = False
    """To be let pass it must be listed by itself, and not within something larger."""
    is_nobody: bool = False
    """No backend can be there, whatever is listed."""


def _special(network: str, what: str, is_guarded: bool = False, is_nobody: bool = False) -> _Special:
    return _Special(ipaddress.ip_network(network), what, is_guarded, is_nobody)


_SPECIAL: Final = {
    4: (
        _special("0.0.0.0/32", "the unspecified address", is_nobody=True),
        _special("0.0.0.0/8", "of this network", is_guarded=True),  # the kernel takes some of it for this host
        _special("10.0.0.0/8", "private"),
        _special("100.64.0.0/10", "shared by customers of a carrier"),
        _special("127.0.0.0/8", "loopback", is_guarded=True),
        _special("168.63.129.16/32", "the metadata service of a cloud", is_guarded=True),  # Azure's; others are link-local
        _special("169.254.0.0/16", "link-local", is_guarded=True),
        _special("172.16.0.0/12", "private"),
        _special("192.0.0.0/24", "for protocols of the IETF"),
        _special("192.0.2.0/24", "for documentation"),
        _special("192.88.99.0/24", "a relay of 6to4"),
        _special("192.168.0.0/16", "private"),
        _special("198.18.0.0/15", "for benchmarks"),
        _special("198.51.100.0/24", "for documentation"),
        _special("203.0.113.0/24", "for documentation"),
        _special("224.0.0.0/4", "multicast", is_nobody=True),
        _special("255.255.255.255/32", "broadcast", is_nobody=True),
        _special("240.0.0.0/4", "reserved"),
    ),
    6: (
        _special("::/128", "the unspecified address", is_nobody=True),
        _special("::1/128", "loopback", is_guarded=True),
        _special("fe80::/10", "link-local", is_guarded=True),
        _special("fc00::/7", "private"),
        _special("fec0::/10", "private"),
        _special("ff00::/8", "multicast", is_nobody=True),
        _special("2001:db8::/32", "for documentation"),
        _special("2001::/23", "for protocols of the IETF"),  # Teredo among them
        _special("3fff::/20", "for documentation"),
    ),
}
"""The first that has an address counts."""
_GLOBAL: Final = ipaddress.ip_network("2000::/3")
"""All that IANA has given out so far for the public internet."""
_ELSEWHERE: Final = _special("::/0", "not of the public internet")

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")


def faces(host: str) -> tuple[Address, ...]:
    """An IP address, its zone dropped, and the IPv4 address that is meant by it when it is one of IPv6 that stands for such."""
    address = ipaddress.ip_address(host.partition("%")[0])
    meant = _meant(address) if isinstance(address, ipaddress.IPv6Address) else None
    return (address,) if meant is None else (address, meant)


def _meant(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Mapped (RFC 4291), of NAT64 (RFC 6052), of 6to4 (RFC 3056), or of a form that is out of use."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    low = int(address) & 0xFFFFFFFF
    if address in _NAT64 or (address in _COMPATIBLE and low > 1):
        return ipaddress.IPv4Address(low)
    return None


class Objections:
    """Those of one upstream. networks: that are let pass besides the public internet, as `10.0.0.0/8`."""

    __slots__ = ("_listed",)

    def __init__(self, networks: Iterable[str]) -> None:
        self._listed = tuple(ipaddress.ip_network(network) for network in networks)

    def to(self, host: str, is_own: bool) -> str:
        """Why nothing is to be sent to an IP address; "" when it may be. is_own: it is an address of this host."""
        addresses = faces(host)
        special = _special_of(addresses[-1])
        if special is None and not is_own:
            return ""
        if special is not None and special.is_nobody:
            return f"{host} is {special.what}"
        if any(self._tells_of(network, addresses, special, is_own) for network in self._listed):
            return ""
        what = special.what if special is not None and (special.is_guarded or not is_own) else "an address of this host"
        return f"{host} is {what}, and not in transparent_networks"

    @staticmethod
    def _tells_of(network: Network, addresses: tuple[Address, ...], special: _Special | None, is_own: bool) -> bool:
        """Whether a listed network is meant to let this pass."""
        if not any(address in network for address in addresses if address.version == network.version):
            return False
        if special is not None and special.is_guarded:
            return _is_within(network, special.network)
        return not is_own or network.num_addresses == 1


def _special_of(address: Address) -> _Special | None:
    """What sets it apart from the public internet; None when nothing does."""
    for special in _SPECIAL[address.version]:
        if address in special.network:
            return special
    return _ELSEWHERE if address.version == 6 and address not in _GLOBAL else None


def _is_within(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.subnet_of(other)
    return isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)
