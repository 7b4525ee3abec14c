"""Which backends the containers of a Docker host are: from its list of them to addresses, without asking anybody.

The list is what `GET /containers/json` answers (Docker Engine API 1.24 and later, Podman's as well).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from pingap.config.parts import Backend

WEIGHT: Final = "pingap.weight"
PORT: Final = "pingap.port"
NETWORK: Final = "pingap.network"
"""Labels by which a container says of itself what the entry of `addrs` would say of all."""

_HEALTH: Final = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)\s*$")
"""The end of a Status such as `Up 2 minutes (health: starting)`: before API 1.52 the list says it nowhere else."""

_MOST_WEIGHT: Final = 65535

MOST_CONTAINERS: Final = 16384
"""Of a list: more than any one machine runs."""

MOST_CONTAINER: Final = 1 << 20
"""Bytes of one in a list. Each is read by itself, so that the loop has its turns though a long list is read in a thread."""

MOST_BACKENDS: Final = 1024
"""Of one entry."""

MOST_REMARKS: Final = 32
"""Of one entry, each of so many characters:"""

LONGEST_REMARK: Final = 400


class _Port(msgspec.Struct, rename="pascal"):
    private_port: int = 0
    public_port: int = 0
    type: str = "tcp"
    ip: str | None = msgspec.field(default=None, name="IP")
    """Of the host, on which it is published."""


class _Network(msgspec.Struct, rename="pascal"):
    gateway: str | None = None
    ip_address: str | None = msgspec.field(default=None, name="IPAddress")
    ipv6_gateway: str | None = msgspec.field(default=None, name="IPv6Gateway")
    global_ipv6_address: str | None = msgspec.field(default=None, name="GlobalIPv6Address")


class _Networks(msgspec.Struct, rename="pascal"):
    networks: dict[str, _Network | None] | None = None


class _HostConfig(msgspec.Struct, rename="pascal"):
    network_mode: str | None = None


class _Health(msgspec.Struct, rename="pascal"):
    status: str | None = None


class Container(msgspec.Struct, rename="pascal"):
    """One container of the list, as far as it is of interest here."""

    id: str
    names: list[str] | None = None
    labels: dict[str, str] | None = None
    state: str = ""
    status: str = ""
    ports: list[_Port] | None = None
    host_config: _HostConfig | None = None
    network_settings: _Networks | None = None
    health: _Health | None = None

    @property
    def name(self) -> str:
        """As `docker ps` has it; the id where there is none."""
        names = sorted(name.lstrip("/") for name in self.names or () if name.strip("/"))
        # A container that was linked to another has a name `other/alias` besides.
        return next((name for name in names if "/" not in name), self.id[:12])

    @property
    def is_serving(self) -> bool:
        """It runs, is not paused, and its own HEALTHCHECK, if it has one, passes."""
        if self.state != "running":
            return False
        found = _HEALTH.search(self.status)
        health = (self.health.status if self.health else None) or (found[1] if found else "")
        return health not in ("starting", "unhealthy")

    @property
    def network_mode(self) -> str:
        return (self.host_config.network_mode if self.host_config else None) or ""

    @property
    def networks(self) -> dict[str, _Network]:
        """Those that it is in, by name, in the order of the names."""
        found = (self.network_settings.networks if self.network_settings else None) or {}
        return {name: network for name, network in sorted(found.items()) if network is not None}

    @property
    def tcp_ports(self) -> list[_Port]:
        """Exposed and published ones, the lowest first: the list has them in no order."""
        found = [port for port in self.ports or () if port.type == "tcp" and 0 < port.private_port <= 65535]
        return sorted(found, key=lambda port: (port.private_port, port.ip or "", port.public_port))


def containers_of(body: bytes) -> list[Container]:
    """The answer to `GET /containers/json`. Raises ValueError for what is none, or has no end."""
    listed = _LIST.decode(body)
    if len(listed) > MOST_CONTAINERS:
        raise ValueError(f"{len(listed)} containers, more than {MOST_CONTAINERS}")
    if any(memoryview(one).nbytes > MOST_CONTAINER for one in listed):
        raise ValueError(f"a container of more than {MOST_CONTAINER >> 20} MiB")
    return [_CONTAINER.decode(one) for one in listed]


_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_CONTAINER: Final = msgspec.json.Decoder(Container)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An entry of `addrs` that means containers by a label of theirs."""

    name: str
    value: str | None = None
    """None: any."""
    port: int = 0
    """Inside of the container; 0: what it exposes or publishes says it."""
    weight: int = 1

    @classmethod
    def of(cls, entry: Backend) -> Labelled:
        """entry: of an upstream with `discovery = "docker"`; its host is `name` or `name=value`."""
        name, equals, value = entry.host.partition("=")
        return cls(name, value if equals else None, entry.port, entry.weight)

    def is_on(self, container: Container) -> bool:
        value = (container.labels or {}).get(self.name)
        return value is not None and (self.value is None or value == self.value)


@dataclass(frozen=True, slots=True)
class DockerHost:
    """Where the containers run, as seen from here."""

    address: str = "127.0.0.1"
    """An IP address at which the host itself answers: containers in its own network (`--network host`) are found there."""
    is_remote: bool = False
    """It is another machine, whose bridges cannot be reached: published ports are at `address` too, not at their gateways."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All that runs on a host, at one moment."""

    containers: tuple[Container, ...]
    host: DockerHost


def seen_from(containers: Iterable[Container], own: frozenset[str], engine: str) -> DockerHost:
    """The host of these containers, as seen by a process with the IP addresses `own`, that asked an engine at `engine`, "" on this host.

    A container with one of these addresses is this process's own, or a proxy before the engine's socket: the host is behind its gateway.
    """
    near = own | {engine}
    for container in containers:
        for network in container.networks.values():
            gateway = _ip(network.gateway)
            if gateway is not None and network.ip_address and network.ip_address in near:
                return DockerHost(str(gateway))
    return DockerHost(engine, is_remote=True) if engine else DockerHost()


@dataclass(frozen=True, slots=True)
class FoundContainers:
    """What an entry of `addrs` stands for at the moment."""

    backends: tuple[Backend, ...]
    """In the order of their addresses, each once."""
    remarks: tuple[str, ...] = ()
    """Of containers that have the label and serve, and yet are no backends, or not as their labels say: why."""


def backends_of(containers: Sequence[Container], entry: Labelled, host: DockerHost, ipv4_only: bool = False) -> FoundContainers:
    """The containers with the label of `entry` that serve. The order of `containers` does not matter."""
    found: dict[str, Backend] = {}
    remarks = []
    by_id = {container.id: container for container in containers}
    serving = [container for container in containers if entry.is_on(container) and container.is_serving]
    for container in sorted(serving, key=lambda one: (one.name, one.id)):
        try:
            weight = _number(container.labels, WEIGHT, 0, _MOST_WEIGHT, entry.weight)
            addresses = list(_addresses(container, by_id, entry, host))
        except _Left as left:
            remarks.append(f"container {container.name} {left}")
            continue
        usable = [(ip, port) for ip, port in addresses if not (ipv4_only and ip.version == 6)]
        if not usable:
            remarks.append(f"container {container.name} has IPv6 addresses only, and ipv4_only is true")
        for ip, port in usable:
            backend = Backend(str(ip), port, weight)
            found.setdefault(backend.address, backend)
        if len(found) > MOST_BACKENDS:
            remarks.insert(0, f"there are more than {MOST_BACKENDS} backends; those of the first containers by name are used")
            break
    if len(remarks) > MOST_REMARKS:
        remarks[MOST_REMARKS:] = ["and there is more of that kind"]
    used = sorted(list(found)[:MOST_BACKENDS])
    return FoundContainers(tuple(found[address] for address in used), tuple(remark[:LONGEST_REMARK] for remark in remarks))


_Ip = IPv4Address | IPv6Address


class _Left(Exception):
    """The container is no backend; the text says why."""


def _addresses(container: Container, by_id: Mapping[str, Container], entry: Labelled, host: DockerHost) -> Iterator[tuple[_Ip, int]]:
    """At least one. Raises _Left."""
    port = _number(container.labels, PORT, 1, 65535, entry.port)
    owner = container
    if container.network_mode.startswith("container:"):
        wanted_id = container.network_mode.removeprefix("container:")
        other = by_id.get(wanted_id)
        if other is None:
            raise _Left("is in the network of a container that does not run")
        owner = other
    networks = owner.networks
    wanted = (container.labels or {}).get(NETWORK)
    if wanted is not None:
        if wanted not in networks:
            names = ", ".join(networks) or "none"
            raise _Left(f"is not in the network {wanted!r}, which its label {NETWORK} names (it is in: {names})")
        networks = {wanted: networks[wanted]}
    exposed = owner.tcp_ports
    published: list[_Port] = []
    if not port:
        if not exposed:
            raise _Left(f'has no TCP port that it exposes or publishes: write "label:port", or give it the label {PORT}')
        port = exposed[0].private_port
        published = [one for one in exposed if one.private_port == port and 0 < one.public_port <= 65535]
    if owner.network_mode == "host" or set(networks) == {"host"}:
        found = [(_ip(host.address), port)]
    else:
        found = list(_published(published, networks, host))
        if not any(ip for ip, _ in found):
            found = [(_ip(text), port) for network in networks.values() for text in (network.ip_address, network.global_ipv6_address)]
        if not any(ip for ip, _ in found):  # rootless: what is published is all that can be reached
            found = list(_published(published, {}, replace(host, is_remote=True)))
    usable = [(ip, at) for ip, at in found if ip is not None]
    if not usable:
        raise _Left(f"has no address (its network: {', '.join(networks) or owner.network_mode or 'none'})")
    yield from usable


def _published(ports: Iterable[_Port], networks: Mapping[str, _Network], host: DockerHost) -> Iterator[tuple[_Ip | None, int]]:
    """Where the host takes connections for a container. The same port is behind the gateway of every network: the first one does."""
    gateways = ([_ip(network.gateway) for network in networks.values()], [_ip(network.ipv6_gateway) for network in networks.values()])
    behind = [next((ip for ip in family if ip is not None), None) for family in gateways]
    for port in ports:
        at = _ip(port.ip)
        if at is not None and not at.is_unspecified:
            yield at, port.public_port
        elif host.is_remote:
            ip = _ip(host.address)
            # Both families are published; the host is known by one.
            yield (ip if ip is not None and (at is None or at.version == ip.version) else None), port.public_port
        else:
            yield behind[at is not None and at.version == 6], port.public_port


def _ip(text: str | None) -> _Ip | None:
    """None for no address."""
    try:
        return ip_address(text) if text else None
    except ValueError:
        return None


def _number(labels: Mapping[str, str] | None, label: str, least: int, most: int, default: int) -> int:
    """Of a container's own label. Raises _Left: a weight or a port that was not meant may do more harm than a container less."""
    text = (labels or {}).get(label)
    if text is None:
        return default
    text = text.strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    if not least <= number <= most:
        raise _Left(f"has the label {label}={text!r}, which is no whole number from {least} to {most}")
    return number
