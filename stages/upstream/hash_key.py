"""What is hashed of a request, where `algo` is hash."""

from __future__ import annotations

from urllib.parse import unquote_plus

from pingap.config.parts import Balance
from pingap.stages.headers import value_of, values_of
from pingap.stages.messages import Routed


def key_of(algo: Balance, routed: Routed) -> str:
    """ "" for a request that has not what is hashed: all of those go to one backend."""
    by = algo.hash_by
    if by == "ip":
        return routed.client_ip
    target = routed.target.decode("latin-1")
    if by == "url":
        return target
    path, _, query = target.partition("?")
    if by == "path":
        return path
    if by == "query":
        return _pair(query.split("&"), algo.hash_key)
    if by == "cookie":
        cookies = b";".join(values_of(routed.headers, b"cookie")).decode("latin-1")
        return _pair([part.strip() for part in cookies.split(";")], algo.hash_key, decode=False)
    return (value_of(routed.headers, algo.hash_key.encode()) or b"").decode("latin-1")


def _pair(pairs: list[str], name: str, decode: bool = True) -> str:
    for pair in pairs:
        key, _, value = pair.partition("=")
        if (unquote_plus(key) if decode else key) == name:
            return unquote_plus(value) if decode else value
    return ""
