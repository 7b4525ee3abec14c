"""What one key alone cannot show: references, regular expressions, addresses, stages.

Regular expressions are compiled here by the engine that will run them, so that
a stage never meets one that does not compile.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from pingap.config import unsupported
from pingap.config.acme import check_acme
from pingap.config.addresses import is_host_name, no_backend
from pingap.config.certificates import check_certificates
from pingap.config.client_authorities import check_client_authorities
from pingap.config.model import PLUGIN_STEPS, RESERVED, SCALED_STAGES, STAGES, Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, Listen, is_path
from pingap.config.problems import Note, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.tls_library import check_with_library

Declared = Mapping[str, frozenset[str]]
"""By section, the names that the files give items, also of items that are not usable."""

_LARGEST: Final = 2**31 - 1
"""That the kernel takes for an option of a socket."""
_NEVER_NORMAL: Final = re.compile(r"//|[;\\]|%(?![0-9A-Fa-f]{2})|%00|/(?:\.|%2[Ee]){1,2}/")
"""What no path in normal form has (stages/routing/normalize.py)."""
_ENDS_IN_DOTS: Final = re.compile(r"/(?:\.|%2[Ee]){1,2}\Z")
_REPLACEMENT = re.compile(r"\$(?:\{(\w+)\}|(\w+)|\$)")


def check(snapshot: Snapshot, declared: Declared, partial: AbstractSet[str], builtin_plugins: frozenset[str]) -> Iterator[Problem | Note]:
    """Everything that is wrong, or to be known, between the items of a configuration.

    `partial` are the paths of items some keys of which could not be used: nothing is said of what they lack.
    """
    if not declared["servers"]:
        yield Problem("servers", "no server is configured, so that nothing would listen", "add [servers.NAME]")
    for name, server in snapshot.servers.items():
        yield from _server(path_of("servers", name), server, declared)
    yield from _listen_addresses(snapshot.servers)
    for name, location in snapshot.locations.items():
        path = path_of("locations", name)
        yield from _location(path, location, declared, path in partial, builtin_plugins)
    for name, upstream in snapshot.upstreams.items():
        if name.startswith(RESERVED):
            yield Problem(path_of("upstreams", name), f"names that begin with {RESERVED!r} are pingap's own", "call it otherwise")
        yield from _upstream(path_of("upstreams", name), upstream)
    found = list(check_certificates(snapshot.certificates, partial))
    yield from found
    yield from check_acme(snapshot.certificates, snapshot.servers, partial)
    yield from check_with_library(snapshot, partial | {one.path.rpartition(".")[0] for one in found if isinstance(one, Problem)})
    yield from _tls(snapshot, declared, partial)
    yield from _normal_paths(snapshot)
    yield from _open_to_all(snapshot)
    yield from _grpc_web(snapshot)
    yield from _proxy_protocol(snapshot, partial)
    yield from _stages(snapshot, declared)


def check_plugin(path: str, table: dict[str, Any]) -> list[Problem]:
    """What is wrong with a [plugins.X] section as far as every plugin has it; the rest is the plugin's business."""
    problems = [Problem(f"{path}{place}", "a plugin takes no dates", "write it as text") for place in _dates(table)]
    category = table.get("category")
    if not isinstance(category, str) or not category:
        message = "the key is required" if category is None else f"expected text, got {describe(category)}"
        problems.append(Problem(f"{path}.category", message, "the category says which plugin this is"))
    elif category in unsupported.PLUGIN_CATEGORIES:
        problems.append(unsupported.not_yet(f"{path}.category", f"the plugin {category!r}"))
    step = table.get("step")
    if step is not None and step not in PLUGIN_STEPS:
        hint = (nearest(step, PLUGIN_STEPS) if isinstance(step, str) else "") or choices(PLUGIN_STEPS)
        problems.append(Problem(f"{path}.step", f"{step!r} is not a step", hint))
    return problems


def _dates(value: Any, place: str = "") -> Iterator[str]:
    """Where in a section values are that MessagePack cannot carry."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _dates(entry, f"{place}.{path_of(key)}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _dates(entry, f"{place}[{index}]")
    elif not isinstance(value, str | int | float):
        yield place


def _server(path: str, server: Server, declared: Declared) -> Iterator[Problem | Note]:
    yield from _references(f"{path}.locations", server.locations, declared["locations"], "location")
    yield from _kernel(path, server)
    for key in ("max_header_bytes", "max_target_bytes"):
        if not getattr(server, key):
            yield Problem(f"{path}.{key}", "must be more than 0", "no request could be served")


def _tls(snapshot: Snapshot, declared: Declared, partial: AbstractSet[str]) -> Iterator[Problem | Note]:
    for name, server in snapshot.servers.items():
        path = path_of("servers", name)
        if server.global_certificates and not declared["certificates"]:
            yield Problem(f"{path}.global_certificates", "there is no certificate to use", "add [certificates.NAME]")
        if path not in partial:
            yield from check_client_authorities(path, server)
        if server.tls_min_version > server.tls_max_version:
            yield Problem(f"{path}.tls_min_version", f"is newer than tls_max_version, {server.tls_max_version}")
        yield from _engine(path, server)


def _engine(path: str, item: Server | Upstream) -> Iterator[Problem]:
    if item.http2_engine == "ngh2" and find_spec("ngh2") is None:
        yield Problem(f"{path}.http2_engine", "ngh2 is not installed", "pip install ngh2, or leave the key out")


def _normal_paths(snapshot: Snapshot) -> Iterator[Problem]:
    """Where a server normalises paths, one in another form can never match."""
    for name, server in snapshot.servers.items():
        if server.normalize_path == "off":
            continue
        server_path = path_of("servers", name)
        paths = [(path_of("locations", one), snapshot.locations[one].path) for one in server.locations if one in snapshot.locations]
        wanted = [(f"{path}.path", rule.value, rule.kind == "exact") for path, rule in paths if rule.kind in ("exact", "prefix")]
        if server.prometheus_metrics:
            wanted.append((f"{server_path}.prometheus_metrics", server.prometheus_metrics, True))
        for path, value, is_exact in wanted:
            if _NEVER_NORMAL.search(value) or (is_exact and _ENDS_IN_DOTS.search(value)):
                hint = "write it without doubled slashes, dot segments, backslashes, parameters (`;…`) and bare percent signs"
                yield Problem(path, f"{value!r} can never match in {server_path}, which normalises paths", hint)


def _open_to_all(snapshot: Snapshot) -> Iterator[Note]:
    """Who may choose the host, and is given that one, goes where he likes."""
    for name, location in snapshot.locations.items():
        upstream = snapshot.upstreams.get(location.upstream)
        if upstream is not None and upstream.discovery == "transparent" and not location.host:
            message = "has no host, and its upstream is transparent: who reaches it may have pingap ask any host of the internet"
            yield Note(path_of("locations", name), message, 'say which: host = "*.example.com"')


def _grpc_web(snapshot: Snapshot) -> Iterator[Problem]:
    """The key needs a module at each server that asks for it, and a backend that speaks gRPC."""
    for name, location in snapshot.locations.items():
        if not location.grpc_web:
            continue
        path = f"{path_of('locations', name)}.grpc_web"
        for server_name, server in snapshot.servers.items():
            if name in server.locations and "grpc-web" not in server.modules:
                where = path_of("servers", server_name)
                yield Problem(path, f"{where} does not have the module", f'write modules = ["grpc-web"] in [{where}]')
        upstream = snapshot.upstreams.get(location.upstream)
        # Without TLS there is nothing by which "h2h1" could be agreed on, and it means HTTP/1.1.
        if upstream is not None and (upstream.alpn == "h1" or (upstream.alpn == "h2h1" and not upstream.sni)):
            where = path_of("upstreams", location.upstream)
            yield Problem(path, f"{where} does not speak HTTP/2, which gRPC needs", f'write alpn = "h2" in [{where}]')


def _proxy_protocol(snapshot: Snapshot, partial: AbstractSet[str]) -> Iterator[Problem]:
    if snapshot.basic.trusted_proxies or "basic" in partial:
        return
    for name, server in snapshot.servers.items():
        if server.proxy_protocol:
            path = f"{path_of('servers', name)}.proxy_protocol"
            yield Problem(path, "nobody may connect", "name the proxies in basic.trusted_proxies, as 10.0.0.0/8")


def _kernel(path: str, item: Server | Upstream) -> Iterator[Problem]:
    for key in ("tcp_idle", "tcp_interval"):
        seconds = getattr(item, key)
        if seconds is not None and (seconds < 1 or seconds > 32767):
            yield Problem(f"{path}.{key}", "must be between 1s and 9h", "the kernel counts whole seconds")
    seconds = item.tcp_user_timeout
    if seconds is not None and not 0.001 <= seconds <= _LARGEST / 1000:
        yield Problem(f"{path}.tcp_user_timeout", "must be between 1ms and 24d", "the kernel counts milliseconds")


def _listen_addresses(servers: Mapping[str, Server]) -> Iterator[Problem]:
    """Doubled addresses; a wildcard takes the port on every address of its family, unless both share it."""
    seen: list[tuple[str, Listen, Server]] = []
    for name, server in servers.items():
        path = path_of("servers", name, "addr")
        for listen in server.addr:
            for other_path, other, owner in seen:
                same = listen == other
                # With SO_REUSEPORT on both, the kernel prefers the more exact address.
                shared = server.reuse_port and owner.reuse_port
                if same and listen.port:
                    if other_path == path:
                        yield Problem(path, f"{listen} is twice", "once is enough")
                        continue
                    hint = "two servers cannot share an address; one may have locations of many hosts, and certificates for each"
                    yield Problem(path, f"{listen} is also in {other_path}", hint)
                elif _covers(listen, other) and not shared:
                    yield Problem(path, f"{listen} and {other} ({other_path}) overlap", "keep the wildcard or the other")
            seen.append((path, listen, server))


def _covers(one: Listen, other: Listen) -> bool:
    if one.port != other.port or not one.port or one == other:
        return False
    if "0.0.0.0" in (one.host, other.host):
        return ":" not in one.host + other.host
    return "::" in (one.host, other.host) and ":" in one.host and ":" in other.host


def _location(
    path: str, location: Location, declared: Declared, partial: bool, builtin_plugins: frozenset[str]
) -> Iterator[Problem | Note]:
    regexes = [("path", location.path.value)] if location.path.kind == "regex" else []
    regexes += [("host", rule.value) for rule in location.host if rule.kind == "regex"]
    regexes += [("rewrite", location.rewrite.pattern)] if location.rewrite else []
    captures: set[str] | None = None if partial else set()
    for key, pattern in regexes:
        yield from _regex(f"{path}.{key}", pattern)
        compiled = _compile(pattern)[0]
        captures = captures | set(compiled.groupindex) if compiled and captures is not None else None
    if captures is not None and location.rewrite:
        groups = _compile(location.rewrite.pattern)[0].groups
        yield from _replacement(f"{path}.rewrite", location.rewrite.replacement, captures, groups)
    if captures is not None or not location.upstream.startswith("$"):
        yield from _upstream_of(path, location, captures or set(), declared)
    if not location.upstream and not location.plugins and not partial:
        yield Problem(path, "neither an upstream nor a plugin would answer", "add upstream or plugins")
    known = declared["plugins"] | builtin_plugins
    for index, name in enumerate(location.plugins):
        if name not in known and name in unsupported.LATER_BUILTIN_PLUGINS:
            yield unsupported.not_yet(f"{path}.plugins[{index}]", f"the plugin {name!r}")
        elif name not in known:
            hint = nearest(name, known) or f"add [{path_of('plugins', name)}]"
            yield Problem(f"{path}.plugins[{index}]", f"plugin {name!r} does not exist", hint)
    yield from _doubled(f"{path}.plugins", location.plugins)


def _upstream_of(path: str, location: Location, captures: set[str], declared: Declared) -> Iterator[Problem]:
    name = location.upstream
    if name.startswith("$"):
        wanted = name[1:].removeprefix("{").removesuffix("}")
        if wanted not in captures:
            hint = nearest(wanted, captures) or f"name the group: (?<{wanted}>…) in a regex of host, path or rewrite"
            yield Problem(f"{path}.upstream", f"no regex of this location captures {wanted!r}", hint)
    elif name and name not in declared["upstreams"]:
        hint = nearest(name, declared["upstreams"]) or f"add [{path_of('upstreams', name)}]"
        yield Problem(f"{path}.upstream", f"upstream {name!r} does not exist", hint)


def _replacement(path: str, text: str, captures: set[str], groups: int) -> Iterator[Problem]:
    """The `$` references of a rewrite; one that names nothing would silently become nothing."""
    for match in _REPLACEMENT.finditer(text):
        name = match[1] or match[2]
        if name is None or name in captures or (_is_number(name) and int(name) <= groups):
            continue
        if _is_number(name):
            yield Problem(path, f"${name} is used, but the pattern has no group {name}")
        else:
            hint = nearest(name, captures)
            if _is_number(name[0]):
                digits = re.match(r"[0-9]+", name)
                hint = f"write ${{{digits[0]}}}{name[digits.end() :]} for group {digits[0]}" if digits else ""
            yield Problem(path, f"no regex of this location captures {name!r}", hint)


def _is_number(text: str) -> bool:
    """Of the digits 0 to 9: `²` is a digit to Python, and no number; `٣` is one, and no group."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def _upstream(path: str, upstream: Upstream) -> Iterator[Problem | Note]:
    yield from _kernel(path, upstream)
    if upstream.tcp_recv_buf is not None and upstream.tcp_recv_buf > _LARGEST:
        yield Problem(f"{path}.tcp_recv_buf", "must be less than 2GiB", "leave the key out for the system's own sizes")
    if upstream.backend_stats_interval < 1:
        yield Problem(f"{path}.backend_stats_interval", "must be at least 1s", "it slides by tenths, reports come ten times a second")
    yield from _engine(path, upstream)
    if upstream.preserve_header_case and upstream.alpn == "h2":
        yield Problem(f"{path}.preserve_header_case", "HTTP/2 has lower-case names only", 'write alpn = "h1", or leave the key out')
    if upstream.discovery == "transparent":
        yield from _transparent(path, upstream)
        return
    for key in ("transparent_ports", "transparent_networks"):
        if getattr(upstream, key):
            yield Note(f"{path}.{key}", 'without effect: it is for discovery = "transparent"', "leave it out")
    if not upstream.addrs:
        form = "label:port" if upstream.discovery == "docker" else "host:port"
        yield Problem(f"{path}.addrs", "no address is given", f'write addrs = ["{form}"]')
    elif upstream.discovery != "docker" and not any(backend.weight for backend in upstream.addrs):  # containers may say their own
        yield Problem(f"{path}.addrs", "every weight is 0, so that no backend would get a request")
    yield from _doubled(f"{path}.addrs", tuple(backend.address for backend in upstream.addrs))
    for index, backend in enumerate(upstream.addrs):
        if not (is_path(backend.host) or is_host_name(backend.host)):
            yield from _ip_address(f"{path}.addrs[{index}]", backend, upstream.ipv4_only)
    if upstream.addrs and all(is_path(backend.host) for backend in upstream.addrs):
        for key in _OF_TCP:
            if getattr(upstream, key) not in (None, False):
                yield Note(f"{path}.{key}", "without effect: a UNIX socket is no TCP connection", "leave it out")


_OF_BACKENDS: Final = re.compile("algo|health_check|slow_start|update_frequency|dns_.*|enable_backend_stats|backend_.*|circuit_break_.*")
"""Keys that are about a set of backends, or about finding one."""


def _transparent(path: str, upstream: Upstream) -> Iterator[Problem | Note]:
    for spec in fields(upstream):
        if _OF_BACKENDS.fullmatch(spec.name) and getattr(upstream, spec.name) != spec.default:
            yield Note(f"{path}.{spec.name}", "without effect: each request goes to the host that it asks for", "leave it out")
    yield from _doubled(f"{path}.transparent_ports", tuple(map(str, upstream.transparent_ports)))
    yield from _doubled(f"{path}.transparent_networks", upstream.transparent_networks)
    for index, network in enumerate(upstream.transparent_networks):
        kind = ipaddress.ip_network(network)
        if kind.is_multicast or (kind.is_unspecified and kind.num_addresses == 1):
            yield Problem(f"{path}.transparent_networks[{index}]", f"{network} has no address that a backend could have")
        elif upstream.ipv4_only and kind.version == 6:
            yield Problem(f"{path}.transparent_networks[{index}]", f"{network} is IPv6, and ipv4_only is true")


_OF_TCP: Final = ("tcp_idle", "tcp_interval", "tcp_probe_count", "tcp_user_timeout", "tcp_recv_buf", "tcp_fast_open", "ipv4_only")


def _ip_address(path: str, backend: Backend, ipv4_only: bool) -> Iterator[Problem]:
    ip = ipaddress.ip_address(backend.host)
    kind = no_backend(ip)
    if kind == "link-local" and ip.version == 6:
        hint = f'name the interface: "[{backend.host}%eth0]:{backend.port}"'
        yield Problem(path, f"{backend.host} is link-local: it says nothing without its network interface", hint)
    elif kind:
        yield Problem(path, f"{backend.host} is {kind}: no backend can be there")
    elif ip.version == 6 and ipv4_only:
        yield Problem(path, f"{backend.host} is IPv6, and ipv4_only is true")


def _stages(snapshot: Snapshot, declared: Declared) -> Iterator[Problem | Note]:
    bus = snapshot.bus
    for name in sorted(declared["stages"]):
        if name not in STAGES:
            yield Problem(path_of("stages", name), "unknown stage", nearest(name, STAGES) or choices(STAGES))
    for name, stage in snapshot.stages.items():
        path = path_of("stages", name)
        if name in STAGES and name not in SCALED_STAGES and (stage.replicas or 1) > 1:
            yield Problem(f"{path}.replicas", "runs once", f"only these may have several: {', '.join(SCALED_STAGES)}")
        if stage.endpoint and not bus.public_key and "public_key" not in declared["bus"]:
            yield Problem(f"{path}.endpoint", "tcp needs CURVE keys", "add [bus] with public_key and secret_key")
        yield from _doubled(f"{path}.cpus", tuple(map(str, stage.cpus)))
    missing = {"public_key", "secret_key"} - declared["bus"]
    if len(missing) == 1:
        yield Problem(f"bus.{missing.pop()}", "both keys are needed, or none")


def _references(path: str, names: Iterable[str], known: frozenset[str], kind: str) -> Iterator[Problem | Note]:
    names = tuple(names)
    for index, name in enumerate(names):
        if name not in known:
            hint = nearest(name, known) or f"add [{path_of(f'{kind}s', name)}]"
            yield Problem(f"{path}[{index}]", f"{kind} {name!r} does not exist", hint)
    yield from _doubled(path, names)


def _doubled(path: str, entries: tuple[str, ...]) -> Iterator[Note]:
    for entry, count in Counter(entries).items():
        if count > 1:
            yield Note(path, f"{entry!r} is there {count} times, and taken once", "keep one")


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> tuple[Any, str]:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options), ""
    except re2.error as error:
        reason = error.args[0]
        return None, reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _regex(path: str, pattern: str) -> Iterator[Problem]:
    reason = _compile(pattern)[1]
    if not reason:
        return
    hint = ""
    if "perl operator" in reason:
        hint = "the regex engine takes linear time and has no look-around and no atomic groups"
    elif re.search(r"invalid escape sequence: \\(\d|k)", reason):
        hint = "the regex engine takes linear time and has no back-references"
    elif path.endswith(".host"):
        hint = "a comma separates hosts and cannot stand in a regex"
    yield Problem(path, f"bad regular expression {pattern!r}: {reason}", hint)
