"""Values of the model as a file would say them: the way back from `config.values`, for who shows what is in use.

A value that could be written in several ways comes out in the shortest of them; reading it again gives the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Final, get_args, get_type_hints
from urllib.parse import quote

from pingap.config.addresses import is_host_name
from pingap.config.fields import EachParsed, Parsed
from pingap.config.parts import DEFAULT_CHECK, AccessLog, Backend, Balance, HealthCheck, HostRule, PathRule, Rewrite, host_and_port
from pingap.config.quantities import format_duration, format_size


def as_written(kind: type, name: str, value: Any) -> Any:
    """The value of a key of `kind`, a section of the model, in the plain data of TOML; None where it stands for no text."""
    marker = _markers(kind).get(name)
    if value is None or marker is None:
        return list(value) if isinstance(value, tuple) else value
    write = WRITERS.get(marker.form, str)
    if isinstance(marker, EachParsed):
        return [write(entry) for entry in value]
    return write(value)


@cache
def _markers(kind: type) -> Mapping[str, Parsed | EachParsed]:
    hints = get_type_hints(kind, include_extras=True)
    found = {spec.name: _marker(hints[spec.name]) for spec in fields(kind)}
    return {name: marker for name, marker in found.items() if marker is not None}


def _marker(hint: Any) -> Parsed | EachParsed | None:
    """The marker in the annotation of a key, wherever it is in it."""
    if isinstance(hint, Parsed | EachParsed):
        return hint
    parts = (*getattr(hint, "__metadata__", ()), *get_args(hint))
    return next((marker for part in parts if (marker := _marker(part)) is not None), None)


def _access_log(log: AccessLog) -> str:
    return f"{log.path} {log.format}" if log.path else log.format


def _backend(backend: Backend) -> str:
    # Only of addresses: of a label, what containers say would take the place of the port.
    address = backend.address if is_host_name(backend.host) or ":" in backend.host else backend.address.removesuffix(":80")
    return address if backend.weight == 1 else f"{address} {backend.weight}"


def _balance(balance: Balance) -> str:
    if balance.kind != "hash":
        return balance.kind
    return ":".join(filter(None, ("hash", balance.hash_by, balance.hash_key)))


def _condition(condition: tuple[str, str | None]) -> str:
    name, value = condition
    return name if value is None else f"{name}:{value}"


def _health_check(check: HealthCheck) -> str:
    if check == DEFAULT_CHECK:
        return ""
    plain = HealthCheck()
    parameters = [
        f"{name}={_parameter(value)}"
        for name in ("connection_timeout", "read_timeout", "check_frequency", "success", "failure", "reuse", "parallel")
        + ("tls", "service", "verify_cert")
        if (value := getattr(check, name)) != getattr(plain, name)
    ]
    url = f"{check.scheme}://{f'[{check.host}]' if ':' in check.host else check.host}"
    if check.scheme in ("http", "https"):
        url += check.path
    if not parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(parameters)}"


def _parameter(value: float | int | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quote(format_duration(value) if isinstance(value, float) else str(value), "")


def _host(rule: HostRule) -> str:
    return {"exact": "", "suffix": "*.", "regex": "~"}[rule.kind] + rule.value


def _path(rule: PathRule) -> str:
    return {"any": "", "exact": "= ", "prefix": "", "regex": "~ "}[rule.kind] + rule.value


def _rewrite(rewrite: Rewrite) -> str:
    return f"{rewrite.pattern} {rewrite.replacement}".rstrip()


WRITERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "access_log": _access_log,
    "backend": _backend,
    "balance": _balance,
    "condition": _condition,
    "cpu": int,
    "dns_servers": lambda servers: ", ".join(host_and_port(one.host, one.port) for one in servers),
    "domains": ", ".join,
    "duration": format_duration,
    "limit": format_duration,
    "header": ":".join,
    "header_condition": _condition,
    "health_check": _health_check,
    "host_list": lambda rules: ", ".join(map(_host, rules)),
    "listen_list": lambda addresses: ", ".join(map(str, addresses)),
    "path": _path,
    "port": int,
    "rewrite": _rewrite,
    "size": format_size,
}
"""By the form of a marker (config/fields.py); all others are texts."""
