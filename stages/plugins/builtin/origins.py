"""Which origins a list has: a part of `cors` and `csrf`.

An origin is what the Origin header says, `https://app.example.com` or `null` (RFC 6454).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pingap.plugin import BadValue, Template, Variables, as_host_name, compile_regex, template

LONGEST: Final = 512
"""Bytes of an Origin that may be on a list: a scheme, a name of 253 and a port have fewer."""

_KEPT: Final = 1024
"""Origins whose verdict is remembered; past it they are forgotten all at once."""

_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\*\.)?(\[[0-9a-f:.]+\]|[^/?#@:\[\]*\s]+)(?::([0-9]{1,5}|\*))?", re.IGNORECASE)
_PORTS: Final = {"http": "80", "https": "443"}
_LABELS: Final = r"(?:[a-z0-9_-]+\.)+"
_HINT: Final = 'write "https://app.example.com", "https://*.example.com", "http://localhost:*", "null" or "*"'


class OriginRule(NamedTuple):
    """One entry of the list; just one of these is given."""

    text: str
    """As it is written."""
    is_any: bool = False
    exact: bytes = b""
    pattern: Any = None
    """A compiled regex for all of the origin."""
    value: Template | None = None
    """What the origin has to be, with variables in it."""


def parse_origin(text: str) -> OriginRule:
    """Raises BadValue for what no browser would send."""
    if text == "*":
        return OriginRule(text, is_any=True)
    if text == "null":
        return OriginRule(text, exact=b"null")
    if "$" in text and not text.startswith("~"):
        return OriginRule(text, value=template(text))
    if text.startswith("~"):
        return OriginRule(text, pattern=compile_regex(text[1:].strip()))
    found = _ORIGIN.fullmatch(text)
    if found is None:
        host = text.removeprefix("*.")
        hint = f'write "https://{text}"' if re.fullmatch(r"[\w.-]+", host) else _HINT
        raise BadValue(f"{text!r} is not an origin: a scheme and a host, without a path and a final /", hint)
    scheme, below, host, port = found[1].lower(), found[2], _host(found[3]), _port(found[4])
    end = "" if port in ("", _PORTS.get(scheme)) else f":{port}"
    if not below and port != "*":
        return OriginRule(text, exact=f"{scheme}://{host}{end}".encode())
    pattern = f"{re.escape(scheme)}://{_LABELS if below else ''}{re.escape(host)}{'(?::[0-9]{1,5})?' if port == '*' else re.escape(end)}"
    return OriginRule(text, pattern=re.compile(pattern.encode()))


def _host(text: str) -> str:
    if not text.startswith("["):
        return as_host_name(text)
    try:
        return f"[{ipaddress.IPv6Address(text[1:-1])}]"
    except ValueError as error:
        raise BadValue(f"{text!r} is not an IPv6 address") from error


def _port(text: str | None) -> str:
    """As browsers write it; "" for none."""
    if text is None or text == "*":
        return text or ""
    if not 0 < int(text) < 65536:
        raise BadValue(f"there is no port {text}", "1 to 65535, or * for any")
    return str(int(text))


class Origins:
    """The list, asked for the origins of requests."""

    __slots__ = ("_exact", "_patterns", "_values", "_verdicts", "has_any")

    def __init__(self, rules: Iterable[OriginRule]) -> None:
        rules = list(rules)
        self.has_any: Final = any(rule.is_any for rule in rules)
        self._exact = frozenset(rule.exact for rule in rules if rule.exact)
        self._patterns = [rule.pattern for rule in rules if rule.pattern is not None]
        self._values = [rule.value for rule in rules if rule.value is not None]
        self._verdicts: dict[bytes, bool] = {}

    @property
    def needs_variables(self) -> bool:
        """`has` wants to know the variables of the request."""
        return bool(self._values)

    def has(self, origin: bytes, variables: Variables | None) -> bool:
        """Whether an origin is on it. Nothing is that is empty or too long, or could not stand in a header line again."""
        if not 0 < len(origin) <= LONGEST or not origin.isascii():
            return False
        if self.has_any:
            return True
        verdict = self._verdicts.get(origin)
        if verdict is None:
            verdict = origin in self._exact or any(pattern.fullmatch(origin) for pattern in self._patterns)
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            self._verdicts[origin] = verdict
        return verdict or (variables is not None and any(value.render(variables) == origin for value in self._values))
