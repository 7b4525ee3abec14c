"""What pingap knows and this version does not do yet: the one table of it.

Such a key is refused in other words than a key that does not exist, because its
reader should wait or work around it rather than look for a misspelling. A key
whose value only says "off" asks for nothing and is let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pingap.config.problems import BadValue, Problem, path_of
from pingap.config.values import parse_access_log

_OFF: tuple[Any, ...] = (False, "", [])
_LOG_COMPRESSION = "compressing old logs"

KEYS: Mapping[str, Mapping[str, str]] = {
    "basic": {
        "webhook": "notices by webhook",
        "webhook_type": "notices by webhook",
        "webhook_notifications": "notices by webhook",
        "log_buffered_size": "buffering the application log",
        "sentry": "Sentry",
        "pyroscope": "Pyroscope",
        "log_compress_algorithm": _LOG_COMPRESSION,
        "log_compress_level": _LOG_COMPRESSION,
        "log_compress_days_ago": _LOG_COMPRESSION,
        "log_compress_time_point_hour": _LOG_COMPRESSION,
    },
    "servers": {
        "otlp_exporter": "OpenTelemetry",
    },
    "upstreams": {},
}

PLUGIN_CATEGORIES: frozenset[str] = frozenset()
"""Categories of plugins that the reference has and the registry of plugins does not have yet."""

BUILTIN_PLUGINS = frozenset(
    ("pingap:acceptEncodingAdjustment", "pingap:compression", "pingap:compressionUpstream", "pingap:ping", "pingap:requestId")
    + ("pingap:stats",)
)
"""Built-in plugins that may be named without a section, when the caller does not say which there are."""

LATER_BUILTIN_PLUGINS: frozenset[str] = frozenset()


def not_yet(path: str, what: str, hint: str = "") -> Problem:
    """The problem of asking for something that comes later."""
    return Problem(path, f"not supported yet: {what}", hint)


def take_unsupported(section: str, path: str, table: dict[str, Any]) -> Iterator[Problem]:
    """Takes out of `table`, one item of `section`, what is not supported yet, and tells each of it.

    Taking it out keeps the checks that follow from calling it unknown as well.
    """
    for key, what in KEYS.get(section, {}).items():
        if key not in table:
            continue
        value = table.pop(key)
        if not any(type(value) is type(off) and value == off for off in _OFF):
            yield not_yet(path_of_key(path, key), what)
    for key, find in _VALUES.get(section, {}).items():
        if key in table and (found := find(table)):
            what, hint = found
            table.pop(key)
            yield not_yet(path_of_key(path, key), what, hint)


def path_of_key(path: str, key: str) -> str:
    """The path of a key inside the table at `path`."""
    return f"{path}.{path_of(key)}"


def _metrics_push(table: Mapping[str, Any]) -> tuple[str, str] | None:
    value = table["prometheus_metrics"]
    if isinstance(value, str) and value.strip().startswith(("http://", "https://")):
        return "pushing metrics to a gateway", 'write a path such as "/metrics" to have them fetched'
    return None


def _rolling_log(table: Mapping[str, Any], key: str) -> tuple[str, str] | None:
    value = table[key]
    if key == "access_log":
        try:
            log = parse_access_log(value)
        except BadValue:
            return None
        value = log.path if log else ""
    if isinstance(value, str) and value.startswith("syslog:"):
        return "writing to syslog", "write a path; empty is stderr"
    if isinstance(value, str) and "?" in value:
        return "rolling log files", "write the path alone; USR1 reopens the file after logrotate"
    return None


_VALUES: Mapping[str, Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str] | None]]] = {
    "basic": {"error_log": lambda table: _rolling_log(table, "error_log")},
    "servers": {
        "prometheus_metrics": _metrics_push,
        "access_log": lambda table: _rolling_log(table, "access_log"),
    },
}
