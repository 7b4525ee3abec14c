"""What a token has to say to be let in (RFC 7519 section 4.1), and what is told on of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pingap.plugin import Exchange
from pingap.stages.plugins.builtin.told import keep_apart

EXPIRED: Final = "The token has expired"

_UNSAFE: Final = {**dict.fromkeys(range(32)), 127: None}


class ClaimRules(NamedTuple):
    """What is asked of the claims of a token whose signature is good."""

    needs_exp: bool
    leeway: float
    """Seconds that clocks may differ."""
    issuers: frozenset[str]
    """One of them has issued it; empty: whoever."""
    audiences: frozenset[str]
    """It is for one of them; empty: for whomever."""
    required: tuple[str, ...] = ()
    """Names of claims that it has."""

    def objection(self, claims: Mapping[str, Any], now: float) -> str:
        """Why it is not let in, in words for its client; "" for a good one. now: seconds since 1970."""
        if "exp" in claims:
            if not now < _date(claims["exp"], -math.inf) + self.leeway:
                return EXPIRED
        elif self.needs_exp:
            return "The token never expires"
        if "nbf" in claims and not _date(claims["nbf"], math.inf) - self.leeway <= now:
            return "The token is not valid yet"
        issuer = claims.get("iss")
        if self.issuers and not (isinstance(issuer, str) and issuer in self.issuers):
            return "The token is of another issuer"
        if self.audiences and self.audiences.isdisjoint(_texts(claims.get("aud"))):
            return "The token is for another audience"
        if any(claims.get(name) is None for name in self.required):
            return "The token lacks a claim"
        return ""

    def until(self, claims: Mapping[str, Any]) -> float:
        """When it expires, as seconds since 1970."""
        return _date(claims["exp"], -math.inf) + self.leeway if "exp" in claims else math.inf


def _date(value: Any, otherwise: float) -> float:
    """A NumericDate (RFC 7519 section 2); what is none is a time at which the token is not valid."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


class ToldClaims(NamedTuple):
    """What is told on of one token."""

    headers: tuple[tuple[str, bytes], ...]
    context: Mapping[str, str]


class ClaimCopies:
    """Claims that the backend gets as headers, and access logs and header rules as context."""

    def __init__(self, headers: Iterable[tuple[str, str]], context: Iterable[tuple[str, str]]) -> None:
        """(name in lower case, claim) of each."""
        self._headers = tuple(headers)
        self._context = tuple(context)

    def clear(self, exchange: Exchange) -> None:
        """Takes the headers of those names away: none of them is to come from the client.

        In no spelling that is the same to some backend, and in no trailer: they are removed whether they are there or not.
        """
        for name, _ in self._headers:
            exchange.headers.remove_alike(name)

    def of(self, claims: Mapping[str, Any]) -> ToldClaims:
        """What is told on of these claims. Those that are missing, and those that no header can carry, are left out."""
        headers = [(name, text.encode()) for name, claim in self._headers if (text := _text(_found(claims, claim)))]
        return ToldClaims(tuple(headers), {name: text for name, claim in self._context if (text := _text(_found(claims, claim)))})


def tell(exchange: Exchange, told: ToldClaims) -> None:
    for name, value in told.headers:
        exchange.headers[name] = value
    keep_apart(exchange, told.headers)
    if told.context:
        exchange.context.update(told.context)


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or the one at that path, as `realm_access.roles`; None when there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _text(value: Any) -> str:
    """A claim in one line; "" for what is not to be sent: nothing, control characters, or blanks at an end, which would get lost there."""
    if isinstance(value, str):
        return value if value == value.strip() and value == value.translate(_UNSAFE) and _has_utf8(value) else ""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return _text(",".join(_item(one) for one in value))
    return "" if value is None else json.dumps(value, separators=(",", ":"))


def _item(value: str | int | float) -> str:
    """An entry of a list, with what would make two of it, or be taken for an escape, percent-encoded."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("%", "%25").replace(",", "%2C")


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
