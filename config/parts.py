"""What the packed text of one key is taken apart into: addresses, rules, the health check.

addresses.py and values.py take it apart; `config.model` says which key holds which of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

UNIX = "unix:"
"""Before the path of a socket of this host, where an address has `host:port` else."""

DOCKER_SOCKET = "unix:///var/run/docker.sock"
"""Where a Docker engine is asked when nobody says another: neither the configuration nor DOCKER_HOST."""


def host_and_port(host: str, port: int) -> str:
    """`host:port`, with brackets round an IPv6 address (RFC 3986 section 3.2.2); `unix:/path` for a host that is a path."""
    if is_path(host):
        return UNIX + host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_path(host: str) -> bool:
    """Whether a host is the path of a UNIX socket: no name and no IP address begins so."""
    return host[:1] == "/"


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on, from the comma separated `addr` of a server."""

    host: str
    """An IPv4 or IPv6 address without brackets, or a host name such as `localhost`."""
    port: int
    """0 lets the system choose."""

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend, from an entry `host:port weight` or `unix:/path weight` of `addrs`; or `label:port weight`: what containers have it."""

    host: str
    """An IPv4 address, or an IPv6 address without brackets and perhaps with a zone (`fe80::1%eth0`); or a host name, of which every
    address is a backend; or the absolute path of a UNIX socket. With `discovery = "docker"` a label, `name` or `name=value`."""
    port: int = 80
    """0 with a path, or with a label whose containers say the port."""
    weight: int = 1
    """Its share relative to the others; 0 never gets a request."""

    @property
    def address(self) -> str:
        """`host:port`, with brackets round IPv6, `unix:/path`, or a label: the name of the backend in logs, metrics and health messages."""
        return host_and_port(self.host, self.port) if self.port or is_path(self.host) else self.host

    @property
    def server_name(self) -> str:
        """Whom it is asked for where nobody says: its host without a zone, which means something on this host only (RFC
        6874); `localhost` behind a UNIX socket, as nginx has it."""
        return "localhost" if is_path(self.host) else self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """What a Host header says of it where none comes with the request."""
        return "localhost" if is_path(self.host) else host_and_port(self.server_name, self.port)


@dataclass(frozen=True, slots=True)
class DnsAddress:
    """One of the comma separated servers of `dns_server`."""

    host: str
    """An IPv4 or IPv6 address without brackets."""
    port: int = 53


@dataclass(frozen=True, slots=True)
class DnsSetting:
    """Whom an upstream asks what its names stand for, and how names are made whole."""

    servers: tuple[DnsAddress, ...] = ()
    """None: those of the system, whose hosts file counts as well then."""
    domain: str = ""
    """Tried behind a name that is not whole, before what the system says."""
    search: tuple[str, ...] = ()
    """More of those, tried after what the system says."""


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of the comma separated `host` of a location."""

    kind: Literal["exact", "suffix", "regex"]
    value: str
    """Lower case; a suffix without its `*.`; a regex without its `~`, not changed in case."""


@dataclass(frozen=True, slots=True)
class PathRule:
    """The `path` of a location."""

    kind: Literal["any", "exact", "prefix", "regex"] = "any"
    value: str = ""
    """Without the leading `=` or `~`."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The `rewrite` of a location: the first match of a regex in the path is replaced."""

    pattern: str
    replacement: str = ""
    """May hold `$1`, `${1}`, `$name` and `${name}`: captures of the pattern, the host and the path."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The `algo` of an upstream."""

    kind: Literal["round_robin", "hash", "least_conn", "p2c"] = "round_robin"
    hash_by: Literal["path", "url", "ip", "header", "cookie", "query"] = "path"
    """What is hashed; only of interest when `kind` is `hash`, which is always consistent hashing."""
    hash_key: str = ""
    """The name of the header (lower case), cookie or query parameter."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The `health_check` URL of an upstream, taken apart. Without the key it is DEFAULT_CHECK."""

    scheme: Literal["tcp", "http", "https", "grpc"] = "tcp"
    host: str = ""
    """Whom http, https and grpc checks ask for (Host, `:authority`, SNI); the connection goes to the backend's own address."""
    path: str = "/"
    """Path and query of an http or https check; parameters of the check itself are no longer in it."""
    connection_timeout: float = 3.0
    """Seconds for the lookup of a name, the connect and the TLS handshake together."""
    read_timeout: float = 3.0
    """Seconds from the request to the end of the answer."""
    check_frequency: float = 10.0
    """Seconds between two checks of a backend that nobody has doubts about."""
    success: int = 1
    """This many passed checks in a row make an unhealthy backend healthy."""
    failure: int = 2
    """This many failed checks in a row make a healthy backend unhealthy."""
    reuse: bool = False
    """A check keeps its connection for the next one; tcp has nothing to keep."""
    parallel: bool = False
    """All backends are checked at the same time rather than one after the other."""
    tls: bool = False
    """A grpc check goes over TLS."""
    service: str = ""
    """What a grpc check asks for; empty is the server as a whole."""
    verify_cert: bool = False
    """Over TLS the backend's certificate must be for `host` and from an authority that the system trusts."""

    @property
    def authority(self) -> str:
        """`host` as Host and `:authority` have it."""
        return f"[{self.host}]" if ":" in self.host else self.host


DEFAULT_CHECK: Final = HealthCheck(failure=1)
"""Of an upstream without `health_check`: that nobody listens is known at once."""


@dataclass(frozen=True, slots=True)
class AccessLog:
    """The `access_log` of a server."""

    format: str
    """combined, common, short, tiny, or a template such as `{when} {method} {uri}`."""
    path: str = ""
    """The file it goes to; empty is stderr."""
