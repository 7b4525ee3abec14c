"""Who the client is, and what the backend is told of it: trusted proxies and the X-Forwarded-* lines.

A line that a client wrote about itself is a claim. It is believed only when the
connection comes from one of `basic.trusted_proxies`, and then X-Forwarded-For is
read from the right, past addresses that are trusted too: the first other one is
the client, and whatever stands left of it that client may have made up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from pingap.stages.headers import loose_cutter, value_of, values_of
from pingap.stages.messages import Peer

FOR: Final = b"x-forwarded-for"
REAL_IP: Final = b"x-real-ip"

_KEPT: Final = 4096
"""Addresses whose verdict is remembered; past it they are forgotten all at once, so that memory stays bounded."""

OVERWRITTEN: Final = ("x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded")
"""Headers of a request whose lines are taken out or replaced before it goes to a backend, with `enable_reverse_proxy_headers`."""

_cut_claims = loose_cutter(name.encode() for name in OVERWRITTEN)
_cut_rewritten = loose_cutter((REAL_IP, FOR), [name.encode() for name in OVERWRITTEN])
"""What a trusted peer says it says under the usual names: the other spellings are its own clients'."""


class Trust:
    """The trusted proxies of one configuration."""

    __slots__ = ("_known", "_networks", "nobody")

    def __init__(self, networks: Iterable[str]) -> None:
        """`networks` as the configuration has them (`10.0.0.0/8`, `::1/128`); ValueError for anything else."""
        # By version and prefix length: a long list, such as a CDN's, then costs one look-up per length.
        table: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            network = ipaddress.ip_network(text, strict=False)
            shift = network.max_prefixlen - network.prefixlen
            table.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._networks = tuple((version, shift, frozenset(prefixes)) for (version, shift), prefixes in table.items())
        self._known: dict[str, bool] = {}
        self.nobody = not table
        """No proxy is trusted: the peer is the client and no header needs reading."""

    def is_trusted(self, address: str) -> bool:
        """Whether an IP address is one of a trusted proxy; False for what is no address."""
        verdict = self._known.get(address)
        if verdict is None:
            verdict = self._look_up(address)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[address] = verdict
        return verdict

    def _look_up(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped  # a listener on [::] sees IPv4 peers this way
        number = int(ip)
        return any(version == ip.version and number >> shift in prefixes for version, shift, prefixes in self._networks)

    def client_ip(self, peer_ip: str, headers: bytes) -> str:
        """The address of the client: the peer, unless that is trusted and says who it is."""
        if self.nobody or not self.is_trusted(peer_ip):
            return peer_ip
        client = peer_ip
        lines = values_of(headers, FOR)
        if not lines:
            # A proxy that writes X-Forwarded-For may pass the client's own X-Real-IP on, so this is only the second choice.
            real_ip = address_of(value_of(headers, REAL_IP) or b"")
            return real_ip or peer_ip
        for entry in reversed(b",".join(lines).split(b",")):
            address = address_of(entry)
            if not address:
                break
            client = address
            if not self.is_trusted(address):
                break
        return client


def address_of(entry: bytes) -> str:
    """The IP address of one entry of X-Forwarded-For, a port and brackets taken off; "" if it is none."""
    text = entry.strip(b" \t").decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def forwarded_for(headers: bytes, peer_ip: str, believed: bool) -> bytes:
    """The X-Forwarded-For to send on: the peer's address, after what the peer said if it is believed."""
    ip = peer_ip.encode()
    if not believed:
        return ip
    said = b", ".join(value for value in values_of(headers, FOR) if value)
    return said + b", " + ip if said else ip


def overwrite(headers: bytes, peer: Peer, host: bytes) -> bytes:
    """The block with our own account of the client, whatever it said of itself. `peer` is a `Peer`.

    `host`: the name that the client asked for, without its port; b"" for a request without a host.
    """
    ip = peer.ip
    ours = f"x-real-ip: {ip}\r\nx-forwarded-for: {ip}\r\nx-forwarded-proto: {peer.scheme}\r\nx-forwarded-port: {peer.local_port}\r\n"
    if headers.find(b"forwarded") >= 0 or headers.find(b"real") >= 0:  # most clients claim nothing: two searches cost a tenth of the cut
        headers = _cut_claims(headers)
    if host:
        return b"%b%bx-forwarded-host: %b\r\n" % (headers, ours.encode(), host)
    return headers + ours.encode()


def extend(headers: bytes, peer: Peer, host: bytes, client_ip: str) -> bytes:
    """The block of a trusted peer: its account is kept, our own peer is added, and what it did not say is filled in."""
    lines = [
        _cut_rewritten(headers),
        b"x-real-ip: ",
        client_ip.encode(),
        b"\r\nx-forwarded-for: ",
        forwarded_for(headers, peer.ip, True),
        b"\r\n",
    ]
    for name, line in (
        (b"x-forwarded-proto", b"x-forwarded-proto: %b\r\n" % peer.scheme.encode()),
        (b"x-forwarded-port", b"x-forwarded-port: %d\r\n" % peer.local_port),
        (b"x-forwarded-host", b"x-forwarded-host: %b\r\n" % host if host else b""),
    ):
        if value_of(headers, name) is None:
            lines.append(line)
    return b"".join(lines)
