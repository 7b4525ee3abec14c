"""What the reference takes and this program takes otherwise, or takes for nothing: the one table of it.

It is for who migrates, where strictness would only hurt: each value that is taken is either the same thing in other
words, or nothing that anybody relies on. Whatever guards something is not here: that is refused instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pingap.config.acme_values import named_directory
from pingap.config.addresses import is_host_name, parse_backend
from pingap.config.levels import is_ignored, levels_of
from pingap.config.model import Snapshot
from pingap.config.problems import BadValue, Note
from pingap.config.unsupported import path_of_key
from pingap.config.values import idle_check_parameters, parse_health_check, parse_spelled_header

NOTHING: Final = object()
"""Instead of a value: the key is left out."""


@dataclass(frozen=True, slots=True)
class Lenience:
    """How a value is taken."""

    message: str = ""
    """What is to be known of it; empty where there is nothing to be known."""
    hint: str = ""
    value: Any = NOTHING
    """What it is taken for."""


Rule = Callable[[Any, dict[str, Any]], Lenience | None]
"""Given a value as it is written, and the item, to which it may add what the value means: how it is taken, or None for as it is."""


def dead(message: str, hint: str = "leave it out") -> Rule:
    """The rule of a key that means nothing, whatever its value."""
    return lambda value, item: Lenience(message, hint)


def take(section: str, path: str, table: dict[str, Any]) -> Iterator[Note]:
    """Changes in `table`, one item of `section`, what is taken otherwise, and tells each of it."""
    if section == "plugins":
        section = f"plugins.{table.get('category')}"
    for key, rule in RULES.get(section, {}).items():
        taken = rule(table[key], table) if key in table else None
        if taken is None:
            continue
        if taken.value is NOTHING:
            del table[key]
        else:
            table[key] = taken.value
        if taken.message:
            yield Note(path_of_key(path, key), taken.message, taken.hint)


def once(snapshot: Snapshot) -> Snapshot:
    """Without what stands in a list for the second time; config/check.py tells of it."""
    servers = {
        name: replace(server, locations=tuple(dict.fromkeys(server.locations)))
        for name, server in snapshot.servers.items()
        if len(set(server.locations)) < len(server.locations)
    }
    locations = {
        name: replace(location, plugins=tuple(dict.fromkeys(location.plugins)))
        for name, location in snapshot.locations.items()
        if len(set(location.plugins)) < len(location.plugins)
    }
    upstreams = {}
    for name, upstream in snapshot.upstreams.items():
        first = {backend.address: backend for backend in reversed(upstream.addrs)}
        if len(first) < len(upstream.addrs):
            upstreams[name] = replace(upstream, addrs=tuple(one for one in upstream.addrs if first.get(one.address) is one))
    if not (servers or locations or upstreams):
        return snapshot
    return replace(
        snapshot,
        servers={**snapshot.servers, **servers},
        locations={**snapshot.locations, **locations},
        upstreams={**snapshot.upstreams, **upstreams},
    )


# -- [basic] -------------------------------------------------------------------------

_CACHE: Final = dead("without effect, as in pingap 0.13.9", "a plugin of the category cache has its own `directory` and `max_size`")


def _log_level(value: Any, item: dict[str, Any]) -> Lenience | None:
    if not isinstance(value, str):
        return None
    levels = levels_of(value)
    if not str(levels):
        return None if value.strip() else Lenience()
    return Lenience(is_ignored(levels.ignored), "", str(levels)) if levels.ignored else None


# -- [servers.X] ---------------------------------------------------------------------

_TLS: Final = re.compile(r"(?:tls)?[ _-]?v?1[._]?([0-3])|(ssl).*", re.IGNORECASE)
_OLDEST, _NEWEST = "tlsv1.2", "tlsv1.3"


def _tls_version(value: Any, item: dict[str, Any]) -> Lenience | None:
    if not isinstance(value, str) or value in (_OLDEST, _NEWEST):
        return None
    text = value.strip()
    if not text:
        return Lenience()
    match = _TLS.fullmatch(text)
    if match is None and text.lower() not in ("tls1", "tlsv1"):
        return None
    minor = match[1] if match else ""
    if minor == "3":
        # The reference knows this version by one spelling alone, and takes every other for 1.2.
        is_same = text.lower() == _NEWEST
        return Lenience("" if is_same else f'taken for "{_NEWEST}"; for pingap 0.13.9 it is 1.2', f'write "{_NEWEST}"', _NEWEST)
    if minor == "2":
        return Lenience(value=_OLDEST)
    hint = "SSL and TLS 1.0 and 1.1 are not spoken any more (RFC 8996)"
    return Lenience(f'{value!r} is too old: "{_OLDEST}" is used', hint, _OLDEST)


def _ciphersuites(value: Any, item: dict[str, Any]) -> Lenience | None:
    import ssl

    if not value or not isinstance(value, str) or hasattr(ssl.SSLContext, "set_ciphersuites"):
        return None
    message = "without effect: this Python's ssl module cannot choose TLS 1.3 suites"
    return Lenience(message, "leave it out: OpenSSL's three are all strong; or run pingap on Python 3.15")


# -- [locations.X] -------------------------------------------------------------------

_OF_UPGRADES: Final = {
    "connection": ("", "upgrade", "keep-alive", "close", "$http_connection", "$connection_upgrade"),
    "upgrade": ("", "websocket", "$http_upgrade"),
}
"""Header → values by which nginx is told to pass an upgrade on, or to keep a connection to a backend."""


def _proxy_headers(value: Any, item: dict[str, Any]) -> Lenience | None:
    if not isinstance(value, list):
        return None
    kept: list[Any] = []
    gone: list[str] = []
    for line in value:
        name, _, content = line.partition(":") if isinstance(line, str) else ("", "", "")
        known = _OF_UPGRADES.get(name.strip().lower(), ())
        (gone if content.strip().strip("\"'").lower() in known else kept).append(line)
    if not gone or any(_is_wrong(line) for line in kept):  # the numbers of those that are wrong are told
        return None
    names = " and ".join(dict.fromkeys(line.partition(":")[0].strip() for line in gone))
    hint = "pingap passes upgrades on and keeps connections to backends by itself"
    return Lenience(f"{names} left out", hint, kept)


def _is_wrong(line: Any) -> bool:
    try:
        parse_spelled_header(line)
    except BadValue:
        return True
    return False


# -- [upstreams.X] -------------------------------------------------------------------


def _update_frequency(value: Any, item: dict[str, Any]) -> Lenience | None:
    if not _is_static(item):
        return None
    return Lenience("without effect: static addresses are looked up again only when none of a name is healthy", "leave it out")


def _is_static(item: Mapping[str, Any]) -> bool:
    if item.get("discovery"):
        return bool(item["discovery"] == "static")
    addrs = item.get("addrs")
    if "discovery" in item or not isinstance(addrs, list):
        return True
    hosts = []
    for entry in addrs:
        try:
            hosts.append(parse_backend(entry).host)
        except BadValue:
            continue
    return not any(is_host_name(host) and host != "localhost" for host in hosts)


def _health_check(value: Any, item: dict[str, Any]) -> Lenience | None:
    try:
        parse_health_check(value)
    except BadValue:
        return None
    idle = idle_check_parameters(value)
    scheme = value.strip().partition(":")[0]
    return Lenience(f"without effect in a check by {scheme}: {', '.join(idle)}", "leave it out", value) if idle else None


def _addrs(value: Any, item: dict[str, Any]) -> Lenience | None:
    """A host name calls for DNS where `discovery` is not written. `localhost` does not: it is looked up here, and never changes."""
    if "discovery" not in item and not _is_static(item):
        item["discovery"] = "dns"
    if item.get("discovery") != "transparent":
        return None
    return Lenience("without effect: each request goes to the host that it asks for" if value else "", "leave it out")


_SWITCHES: Final = ("circuit_break_max_consecutive_failures", "circuit_break_max_failure_percent")


def _circuit_switch(value: Any, item: dict[str, Any]) -> Lenience | None:
    return Lenience("0 is off, as without it", "leave it out") if type(value) is int and value == 0 else None


def _circuit_detail(value: Any, item: dict[str, Any]) -> Lenience | None:
    if any(key in item for key in _SWITCHES):  # one of 0 has been taken out by then
        return None
    return Lenience(f"without effect: neither {_SWITCHES[0]} nor {_SWITCHES[1]} is more than 0", "leave it out")


def _circuit_threshold(value: Any, item: dict[str, Any]) -> Lenience | None:
    if _SWITCHES[1] in item:
        return None
    return (
        Lenience(f"without effect: {_SWITCHES[1]} is not more than 0", "leave it out")
        if _SWITCHES[0] in item
        else _circuit_detail(value, item)
    )


# -- [certificates.X] ----------------------------------------------------------------


def has_no_certificate(item: Mapping[str, Any]) -> bool:
    """Whether a section has nothing of a certificate, nor asks for one: the reference passes it over."""
    return not any(item.get(key) for key in ("tls_cert", "tls_key", "acme", "is_ca"))


def _acme(value: Any, item: dict[str, Any]) -> Lenience | None:
    """Any text turns it on there, and there is but one authority."""
    if not isinstance(value, str) or not value.strip() or "://" in value or named_directory(value):
        return None
    return Lenience(f"{value!r} names no authority: taken for Let's Encrypt, as in pingap 0.13.9", 'write "lets_encrypt"', "lets_encrypt")


def _buffer_days(value: Any, item: dict[str, Any]) -> Lenience | None:
    return Lenience() if type(value) is int and value == 0 else None


def _domains(value: Any, item: dict[str, Any]) -> Lenience | None:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else []
    if "*" not in names:
        return None
    item["is_default"] = True
    others = ",".join(name for name in names if name != "*")
    return Lenience('"*" is taken for is_default = true', "write that", others) if others else Lenience("taken for is_default = true")


# -- [plugins.X] ---------------------------------------------------------------------


def _limit_tag(value: Any, item: dict[str, Any]) -> Lenience | None:
    if value in ("header", "cookie", "query") and not item.get("key"):
        return Lenience(f"nobody is limited: `key` does not name the {value}", 'write key = "…", or tag = "ip"', value)
    return None


RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "basic": {
        "log_level": _log_level,
        "cache_directory": _CACHE,
        "cache_max_size": _CACHE,
        "work_stealing": dead("without effect: processes share no tasks"),
        "upgrade_sock": dead("without effect: an upgrade hands over in the run dir, which is open to its own user alone"),
        "listener_tasks_per_fd": dead("without effect: each accept process has one loop for all that it listens on"),
    },
    "servers": {
        "tls_min_version": _tls_version,
        "tls_max_version": _tls_version,
        "tls_ciphersuites": _ciphersuites,
        "tcp_fast_open": dead("without effect, as in pingap 0.13.9", "of a server the key is tcp_fastopen, the length of a queue"),
    },
    "locations": {"proxy_set_headers": _proxy_headers, "proxy_add_headers": _proxy_headers},
    "upstreams": {
        "addrs": _addrs,
        "health_check": _health_check,
        "update_frequency": _update_frequency,
        _SWITCHES[0]: _circuit_switch,
        _SWITCHES[1]: _circuit_switch,
        "circuit_break_min_requests_threshold": _circuit_threshold,
        "circuit_break_half_open_consecutive_success_threshold": _circuit_detail,
        "circuit_break_open_duration": _circuit_detail,
    },
    "certificates": {"acme": _acme, "buffer_days": _buffer_days, "domains": _domains},
    "plugins.limit": {"tag": _limit_tag},
}
"""Section → key → rule, in the order in which they are asked; of plugins: `plugins.CATEGORY`."""
