"""Problem documents of authorities (RFC 7807, RFC 8555 section 6.7), read and said in words for users. Decides only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

FINAL: Final = frozenset(
    (
        "badCSR",
        "badPublicKey",
        "badSignatureAlgorithm",
        "externalAccountRequired",
        "invalidContact",
        "invalidProfile",
        "rejectedIdentifier",
        "unsupportedContact",
        "unsupportedIdentifier",
        "userActionRequired",
    )
)
"""Of these another try with the same configuration is hardly of use."""

_HINTS: Final = {
    "badCSR": "another acme_key_type may do",
    "badPublicKey": "another acme_key_type may do",
    "caa": "a CAA record of the domain, or of one above it, names other authorities only",
    "connection": "is this instance reached from the internet under that name, on port 80 for http-01 and on 443 for tls-alpn-01?",
    "dns": "do the name's servers answer, and does it have an A or AAAA record, or for dns-01 the TXT record?",
    "externalAccountRequired": "set acme_eab_kid and acme_eab_hmac_key, which the authority hands out",
    "invalidContact": "look at acme_email",
    "invalidProfile": "look at acme_profile",
    "unsupportedContact": "look at acme_email",
    "tls": "does port 443 of that name lead to this instance, with nothing before it that ends TLS?",
}

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_MOST: Final = 600
_MOST_PARTS: Final = 100


class AcmeProblem(NamedTuple):
    """What an authority does not like."""

    kind: str
    """Its type without `urn:ietf:params:acme:error:`; "" when it has none."""
    detail: str = ""
    name: str = ""
    """Of the identifier it is about; "" for all."""
    parts: tuple[AcmeProblem, ...] = ()
    instance: str = ""
    """URL for people, of userActionRequired."""


def shown(text: str, most: int = _MOST) -> str:
    """Somebody else's text on one line, and not all of it when it is long."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= most else line[:most] + "…"


def _text(value: object) -> str:
    return shown(value) if isinstance(value, str) else ""


def read_problem(value: object, depth: int = 0) -> AcmeProblem | None:
    """value: a JSON value. None: it is no problem document."""
    if not isinstance(value, dict) or not isinstance(value.get("type", value.get("detail")), str):
        return None
    identifier = value.get("identifier")
    inner = value.get("subproblems") if depth < 2 else None
    parts = [read_problem(one, depth + 1) for one in inner[:_MOST_PARTS]] if isinstance(inner, list) else []
    return AcmeProblem(
        _text(value.get("type")).rpartition(":")[2].removeprefix("//"),
        _text(value.get("detail")) or _text(value.get("title")),
        _text(identifier.get("value")) if isinstance(identifier, dict) else "",
        tuple(one for one in parts if one is not None),
        _text(value.get("instance")),
    )


def _said(problem: AcmeProblem, name: str) -> Iterator[str]:
    """Each thing that is wrong, with the name it is wrong with. Subproblems say more than what they are in."""
    name = problem.name or name
    if problem.parts:
        for part in problem.parts:
            yield from _said(part, name)
        return
    detail = problem.detail.rstrip(".") or "no more than that was said"
    kind = f" ({problem.kind})" if problem.kind else ""
    yield (f"{name}: " if name else "") + f"the authority says: {detail}{kind}"


def _kinds(problem: AcmeProblem) -> Iterator[str]:
    yield problem.kind
    for part in problem.parts:
        yield from _kinds(part)


def in_words(problem: AcmeProblem, name: str = "", kind: str = "") -> str:
    """name: whom it is about when it does not say. kind: of the challenge it comes from."""
    lines = dict.fromkeys(_said(problem, name))
    hints = dict.fromkeys(_HINTS[one] for one in _kinds(problem) if one in _HINTS)
    if kind == "http-01" and "unauthorized" in _kinds(problem):
        hints["does port 80 of that name lead to this instance, from everywhere?"] = None
    if problem.kind == "userActionRequired" and problem.instance:
        hints[f"a person has to go to {problem.instance}"] = None
    return "; ".join([*lines, *hints])


def is_final(problem: AcmeProblem) -> bool:
    return any(kind in FINAL for kind in _kinds(problem))
