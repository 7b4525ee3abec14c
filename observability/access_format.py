"""Access log formats: a template, compiled to a function from an ACCESS record to one line without its end.

Tags, their names, units and what stands for a missing value are the reference's
(pingap-logger/src/access.rs, pingap-core/src/ctx.rs): `-` for most tags, nothing
for cookies and context keys. Braces round anything that is no tag stay as they
are, so that a template may be JSON. Values are escaped (`escape.py`).

Each tag is an expression over `a`, the record. A template becomes one f-string
made of its tags' expressions, with field names turned into indexes: measured, a
"combined" line costs 1 µs that way and twice that with a function per tag.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from pingap.observability import timings
from pingap.observability.escape import plain, text
from pingap.observability.records import Access
from pingap.observability.units import duration_human, size_human

Render = Callable[[Sequence[Any]], str]

FORMATS: Final = {
    "combined": '{remote} "{method} {uri} {proto}" {status} {size_human} "{referer}" "{user_agent}"',
    "common": '{remote} "{method} {uri} {proto}" {status} {size_human}',
    "short": "{remote} {method} {uri} {proto} {status} {size_human} - {latency}ms",
    "tiny": "{method} {uri} {status} {size_human} - {latency}ms",
}
"""The formats that have a name."""

_LATENCY: Final = "int((a.ended - a.started) * 1000)"
_END: Final = "a.time + a.ended - a.started"

TAGS: Final = {
    "host": "host(a.host)",
    "method": "METHODS.get(a.method) or text(a.method) or '-'",
    "path": "text(a.target.partition(b'?')[0]) or '-'",
    "proto": "PROTO.get(a.version, '-')",
    "query": "text(a.target.partition(b'?')[2]) or '-'",
    "remote": "a.peer[0] or '-'",
    "client_ip": "plain(a.client_ip) or '-'",
    "scheme": "a.peer[4]",
    "uri": "text(a.target) or '-'",
    "referer": r"header(a.request_headers, b'\nreferer: ')",
    "user_agent": r"header(a.request_headers, b'\nuser-agent: ')",
    "when": f"when({_END})",
    "when_utc_iso": f"when_utc({_END})",
    "when_unix": f"int(({_END}) * 1000)",
    "size": "a.sent",
    "size_human": "size_human(a.sent)",
    "status": "a.status or '-'",
    "latency": _LATENCY,
    "latency_human": f"duration_human({_LATENCY})",
    "payload_size": "a.received",
    "payload_size_human": "size_human(a.received)",
    "request_id": "shown(a.context.get('request_id')) or '-'",
}
"""Tag → expression. Times of day are those of the line, which is written when the answer is complete."""

_YES_NO: Final = "'true' if {} else 'false'"
_LOOKUP: Final = "a.context.get('cache_lookup_time')"
_TIMES: Final = {
    "upstream_connect_time": "timings.upstream_connect(a)",
    "upstream_processing_time": "timings.upstream_processing(a)",
    "upstream_response_time": "timings.upstream_response(a)",
    "upstream_tcp_connect_time": "timings.upstream_tcp_connect(a)",
    "upstream_tls_handshake_time": "timings.upstream_tls_handshake(a)",
    "upstream_connection_time": "timings.upstream_connection_age(a)",
    "connection_time": "timings.connection_age(a)",
    "service_time": "timings.total(a)",
    "tls_handshake_time": "a.context.get('tls_handshake_time')",
    "compression_time": "a.context.get('compression_time')",
    "cache_lock_time": "a.context.get('cache_lock_time')",
}
_CLIENT: Final = ("subject", "issuer", "serial", "fingerprint", "san_dns", "san_email", "san_uri")
"""What is logged of a client's certificate."""

CONTEXT: Final = {
    "connection_id": "a.peer[5]",
    "error": "error(a)",
    "upstream_reused": _YES_NO.format("a.upstream_reused"),
    "upstream_status": "a.upstream_status or '-'",
    "upstream_addr": "plain(a.addr)",
    "upstream_connected": "upstream_connected(a)",
    "processing": "a.processing",
    "location": "plain(a.location)",
    "connection_reused": _YES_NO.format("a.connection_reused"),
    "tls_version": "shown(a.context.get('tls_version'))",
    "tls_cipher": "shown(a.context.get('tls_cipher'))",
    "tls_client_verify": "client_verify(a.peer)",
    **{f"tls_client_{key}": f"shown(a.context.get('tls_client_{key}'))" for key in _CLIENT},
    "compression_ratio": "one_decimal(a.context.get('compression_ratio'))",
    "cache_lookup_time": f"fine_ms({_LOOKUP})",  # of a hit it is some tens of microseconds
    "cache_lookup_time_human": f"fine_human({_LOOKUP})",
    **{key: f"ms({seconds})" for key, seconds in _TIMES.items()},
    **{f"{key}_human": f"ms_human({seconds})" for key, seconds in _TIMES.items()},
}
"""Context key → expression: what pingap itself knows. Any other key is one that a plugin or a capture may set."""

_TAG: Final = re.compile(r"\{([A-Za-z0-9_<>\-~:$]+)\}")
_FIELD: Final = re.compile(r"\ba\.([a-z_]+)")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SAME: Final = 0.9
"""A context key this like a known one is a slip; further away it may well be a plugin's."""


def problems(format: str) -> list[str]:
    """What is wrong with a format or template, each with a hint; nothing if it can be used."""
    template = FORMATS.get(format, format)
    found = [] if template.replace("\t", " ").isprintable() else ["a template is one line of printable text"]
    for key in _TAG.findall(template):
        problem = _problem(key)
        if problem and problem not in found:
            found.append(problem)
    return found


def compile_format(format: str, env: Callable[[str], str | None] = os.environ.get) -> Render:
    """The function that writes the lines of `format`. Raises ValueError with all `problems`.

    env: looks up the variables of `{$NAME}` tags, once, now.
    """
    if found := problems(format):
        raise ValueError("; ".join(found))
    parts: list[ast.expr] = [
        ast.Constant(part) if isinstance(part, str) else ast.FormattedValue(value=part, conversion=-1)
        for part in _parts(FORMATS.get(format, format), env)
    ]
    only = ast.arg("a")
    arguments = ast.arguments(posonlyargs=[], args=[only], kwonlyargs=[], kw_defaults=[], defaults=[])
    tree = ast.Expression(ast.Lambda(arguments, ast.JoinedStr(values=parts)))
    # Made of expressions of this file only; what the template brings in are constants of the tree.
    render: Render = eval(compile(ast.fix_missing_locations(tree), "<access log format>", "eval"), _NAMES)
    return render


def _problem(key: str) -> str:
    first, name = key[0], key[1:]
    if first in "<>" and _TOKEN.fullmatch(name):
        return ""
    if first in "~$" and name:
        return ""
    if first == ":":
        if name in CONTEXT or (name and not _like(name, CONTEXT, _SAME)):
            return ""
        return f"{{{key}}}: unknown context key; {_hint(name, CONTEXT, ':')}"
    if key in TAGS:
        return ""
    return f"{{{key}}}: unknown tag; {_hint(key, TAGS, '')}"


def _like(word: str, known: Any, cutoff: float) -> list[str]:
    return difflib.get_close_matches(word, known, n=1, cutoff=cutoff)


def _hint(word: str, known: dict[str, str], prefix: str) -> str:
    if close := _like(word, known, 0.6):
        return f"did you mean {{{prefix}{close[0]}}}?"
    if not prefix and word in CONTEXT:
        return f"did you mean {{:{word}}}?"
    return f"one of: {', '.join(known)}"


def _parts(template: str, env: Callable[[str], str | None]) -> Iterator[str | ast.expr]:
    """Fixed text and expressions, in order."""
    at = 0
    for match in _TAG.finditer(template):
        yield template[at : match.start()]
        at = match.end()
        first, name = match[1][0], match[1][1:]
        if first == "$":
            value = os.uname().nodename if name == "hostname" else env(name) or ""
            yield plain(value)
        elif first == "~":
            yield _expression(f"cookie(a.request_headers, {name.encode()!r})")
        elif first in "<>":
            block = "a.request_headers" if first == ">" else "a.response_headers"
            yield _expression(f"header({block}, {_wanted_line(name)!r})")
        elif first == ":":
            yield _expression(CONTEXT.get(name) or f"shown(a.context.get({name!r}))")
        else:
            yield _expression(TAGS[match[1]])
    yield template[at:]


def _wanted_line(name: str) -> bytes:
    return f"\n{name.lower()}: ".encode()


def _expression(source: str) -> ast.expr:
    indexed = _FIELD.sub(lambda match: f"a[{Access._fields.index(match[1])}]", source)
    return ast.parse(indexed, mode="eval").body


# -- what the expressions call ------------------------------------------------

_PROTO: Final = {version: f"HTTP/{version // 10}.{version % 10}" for version in range(1, 100)}
_METHODS: Final = {name.encode(): name for name in ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE")}
_ERROR: Final = Access._fields.index("error")
_REASON: Final = Access._fields.index("reason")
_CERTIFICATE: Final = 6
"""Place of the client's certificate in `peer`."""
_CONNECTIONS: Final = Access._fields.index("upstream_connections")


def _header(block: bytes, name: bytes) -> str:
    """First value of a header in a block in normal form; `name` is `\\nname: `."""
    at = block.find(name)
    if at >= 0:
        at += len(name)
    elif block.startswith(name[1:]):
        at = len(name) - 1
    else:
        return "-"
    return text(block[at : block.find(b"\r", at)]) or "-"


def _cookie(block: bytes, name: bytes) -> str:
    """A cookie's value, nothing if there is none."""
    for line in block.split(b"\r\n"):
        if line.startswith(b"cookie: "):
            for pair in line[8:].split(b";"):
                key, _, value = pair.partition(b"=")
                if key.strip() == name:
                    return text(value.strip())
    return ""


def _host(authority: bytes) -> str:
    """The host without its port."""
    name, colon, port = authority.rpartition(b":")
    if colon and port.isdigit() and (b":" not in name or name.endswith(b"]")):
        return text(name) or "-"
    return text(authority) or "-"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is bytes:
        return text(value)
    return plain(str(value))


def _client_verify(peer: Any) -> str:
    """As nginx has it: whether the client of a TLS connection has proved who it is."""
    if len(peer) > _CERTIFICATE and peer[_CERTIFICATE]:
        return "SUCCESS"
    return "NONE" if peer[4] == "https" else ""


def _is_number(value: Any) -> bool:
    """Not what a capture, a claim or a plugin may have put into the context under the name of one."""
    return isinstance(value, float | int) and isfinite(value)


def _ms(seconds: Any) -> str | int:
    return int(seconds * 1000) if _is_number(seconds) else ""


def _ms_human(seconds: Any) -> str:
    return duration_human(int(seconds * 1000)) if _is_number(seconds) else ""


def _fine_ms(seconds: Any) -> str:
    return f"{seconds * 1000:.3f}" if _is_number(seconds) else ""


def _fine_human(seconds: Any) -> str:
    if _is_number(seconds) and 0 <= seconds < 0.001:
        return f"{seconds * 1_000_000:.0f}us"
    return _ms_human(seconds)


def _one_decimal(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float | int) else ""


def _upstream_connected(a: Sequence[Any]) -> str | int:
    return (a[_CONNECTIONS] or "") if len(a) > _CONNECTIONS else ""


def _error(a: Sequence[Any]) -> str:
    kind, reason = a[_ERROR], a[_REASON] if len(a) > _REASON else ""
    return plain(f"{kind}: {reason}" if kind and reason else kind)


class _Clock:
    """Times of day in RFC 3339 with milliseconds; what changes only once a second is kept that long."""

    def __init__(self, utc: bool) -> None:
        self._utc = utc
        self._second = -1
        self._before = self._after = ""

    def __call__(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            moment = datetime.fromtimestamp(second, UTC)
            written = (moment if self._utc else moment.astimezone()).isoformat()
            self._before = f"{written[:19]}."
            self._after = "Z" if self._utc else written[19:]
        return f"{self._before}{int((at - second) * 1000):03d}{self._after}"


when: Final = _Clock(utc=False)
"""Unix time → 2026-07-01T12:00:00.123+02:00, in the local time zone."""
when_utc: Final = _Clock(utc=True)
"""Unix time → 2026-07-01T10:00:00.123Z."""

_NAMES: Final[dict[str, Any]] = {
    "METHODS": _METHODS,
    "PROTO": _PROTO,
    "client_verify": _client_verify,
    "cookie": _cookie,
    "duration_human": duration_human,
    "fine_human": _fine_human,
    "fine_ms": _fine_ms,
    "error": _error,
    "header": _header,
    "host": _host,
    "int": int,
    "ms": _ms,
    "ms_human": _ms_human,
    "one_decimal": _one_decimal,
    "plain": plain,
    "shown": _shown,
    "size_human": size_human,
    "text": text,
    "timings": timings,
    "upstream_connected": _upstream_connected,
    "when": when,
    "when_utc": when_utc,
    "__builtins__": {},
}
