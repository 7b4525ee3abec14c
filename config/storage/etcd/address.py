"""What an `etcd://` address says: `etcd://h1:2379,h2:2379/prefix?timeout=10s&user=x&password=$ENV:NAME`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from pingap.config.addresses import parse_backend
from pingap.config.home import expanded
from pingap.config.parts import host_and_port
from pingap.config.problems import BadValue, ConfigRefused, Problem, choices, nearest
from pingap.config.quantities import parse_limit
from pingap.config.references import References, is_variable, of_environment

SCHEMES: Final = ("etcd", "etcds")
"""Plain, and over TLS."""

PORT: Final = 2379
"""Where etcd waits for clients, when none is given (IANA: etcd-client)."""

_PARAMETERS: Final = ("timeout", "connect_timeout", "user", "password", "enable_history", "tls", "ca", "cert", "key")
_SHOWN: Final = frozenset(_PARAMETERS) - {"password"}
_USER_INFO: Final = re.compile(r"^([a-z]+://)[^/?]*@")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member of a cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """A cluster, and what of it is ours."""

    shown: str
    """The address as it may be told: without the password."""
    endpoints: tuple[Endpoint, ...]
    prefix: str
    """What keys begin with; it ends in `/`."""
    history: str
    """What keys of earlier texts begin with; it ends in `/`."""
    timeout: float = 10.0
    """Seconds for one call, all endpoints that are tried for it together."""
    connect_timeout: float = 3.0
    """Seconds for the connection to one endpoint, TLS included."""
    user: str = ""
    password: str = field(default="", repr=False)
    keeps_history: bool = False
    is_tls: bool = False
    ca: str = ""
    """A file of authorities; "" for those of the system."""
    cert: str = ""
    key: str = ""
    """Files of our own certificate and its key; "" for none."""


def is_etcd(source: str) -> bool:
    return source.partition("://")[0] in SCHEMES and "://" in source


def without_password(source: str) -> str:
    """An address as it may be told: its password replaced, and what might be one. Anything else stays as it is."""
    if not is_etcd(source):
        return source
    place, mark, query = source.partition("?")
    if not mark:
        return _USER_INFO.sub(r"\1***@", place)
    parts = [part.partition("=") for part in query.split("&")]
    told = (f"{name}={value if name in _SHOWN or is_variable(value) else '***'}" if sign else "***" for name, sign, value in parts)
    return _USER_INFO.sub(r"\1***@", place) + "?" + "&".join(told)


def address_of(source: str, env: Mapping[str, str] = os.environ) -> EtcdAddress:
    """Takes an address apart. Raises ConfigRefused with all that is wrong with it."""
    shown = without_password(source)
    problems: list[Problem] = []

    def wrong(message: str, hint: str = "") -> None:
        problems.append(Problem(shown, message, hint))

    scheme, _, rest = source.partition("://")
    place, _, query = rest.partition("?")
    hosts, slash, path = place.partition("/")
    if not slash:
        wrong("no prefix of keys is given", f"write {scheme}://HOST:{PORT}/pingap")
    if "@" in hosts:
        wrong("user and password are not written before the host", "write ?user=NAME&password=$ENV:NAME")
        hosts = ""
    endpoints = []
    for text in hosts.split(",") if hosts else ():
        if len(text.split()) != 1:
            wrong(f"{text!r} is not an address", "write host:port")
            continue
        try:
            backend = parse_backend(text.strip() if _has_port(text.strip()) else f"{text.strip()}:{PORT}")
            endpoints.append(Endpoint(backend.host, backend.port))
        except BadValue as bad:
            wrong(bad.message, bad.hint)
    if not endpoints and not problems:
        wrong("no endpoint is given", f"write {scheme}://HOST:{PORT}/pingap")

    given: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = (unquote(side) for side in part.partition("="))  # not parse_qsl: `+` is a space in forms alone (RFC 3986)
        if name not in _PARAMETERS:
            wrong(f"unknown parameter {name!r}", nearest(name, _PARAMETERS) or choices(_PARAMETERS))
        elif name in given:
            wrong(f"the parameter {name!r} is given twice")
        else:
            given[name] = value
    variables = References({"ENV": of_environment(env)}, lambda place, why: wrong(f"{place[0]}: {why.message}", why.hint))
    for name in ("user", "password"):
        if name in given:
            given[name] = variables.fill(given[name], (name,))
    if bool(given.get("user")) != bool(given.get("password")):
        wrong("user and password go together", f"{'password' if given.get('user') else 'user'} is missing")

    limits = {}
    for name in ("timeout", "connect_timeout"):
        if name in given:
            try:
                limits[name] = parse_limit(given[name])
            except BadValue as bad:
                wrong(f"{name}: {bad.message}", bad.hint)
    switches = {}
    for name in ("enable_history", "tls"):
        switches[name] = given.get(name, "false") == "true"
        if given.get(name, "false") not in ("true", "false"):
            wrong(f"{name}: {given[name]!r} is neither true nor false")
    is_tls = scheme == "etcds" or switches["tls"]
    files = {name: given[name] for name in ("ca", "cert", "key") if given.get(name)}
    for name, file in files.items():
        try:
            files[name] = expanded(file)
        except BadValue as bad:
            wrong(f"{name}: {bad.message}", bad.hint)
    if files and not is_tls:
        wrong(f"{' and '.join(files)}: only for TLS", f"write etcds://{place}")
    if bool(given.get("cert")) != bool(given.get("key")):
        wrong("cert and key go together", f"{'key' if given.get('cert') else 'cert'} is missing")
    if problems:
        raise ConfigRefused(problems)
    stem = f"/{path}".removesuffix("/")
    return EtcdAddress(
        shown,
        tuple(endpoints),
        prefix=f"{stem}/",
        history=f"{stem}-history/",
        user=given.get("user", ""),
        password=given.get("password", ""),
        keeps_history=switches["enable_history"],
        is_tls=is_tls,
        **files,
        timeout=limits.get("timeout", 10.0),
        connect_timeout=limits.get("connect_timeout", 3.0),
    )


def _has_port(text: str) -> bool:
    return ":" in text.rpartition("]")[2]
