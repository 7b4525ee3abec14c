"""Which requests an answer is for, where it says Vary (RFC 9111 section 4.1).

A URL whose answers vary has a marker in the store in place of an answer: sets of header names, the newest first. For each set, what a
request has in those lines is a variant's key. Lines are compared in a form in which the same wish is the same bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from pingap.stages.caching.entry import MARKER, CacheEntry
from pingap.stages.headers import joined, values_of

MOST_NAMES: Final = 16
"""Of one answer; one with more is not stored, as if it had said `*`."""

MOST_SETS: Final = 4

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")

EVER: Final = 1e15
"""A marker is never stale: it goes when nobody asks for it."""


def names_of(headers: bytes) -> tuple[bytes, ...] | None:
    """Names that an answer's Vary has: lower case, sorted, each once. None for `*`, or what is no list of names: it is for one request."""
    value = joined(headers, b"vary")
    if value is None:
        return ()
    names = {name.strip(b" \t") for name in value.lower().split(b",")} - {b""}
    if len(names) > MOST_NAMES or b"*" in names or not all(_TOKEN.fullmatch(name) for name in names):
        return None
    return tuple(sorted(names))


def chosen_by(names: tuple[bytes, ...], request_headers: bytes) -> bytes:
    """What a request has in these lines. A line that is missing is another thing than an empty one."""
    parts = []
    for name in names:
        parts.append(_chosen(name, request_headers))
    return b"\n".join(parts)


def variant_key(key: bytes, names: tuple[bytes, ...], chosen: bytes) -> bytes:
    """Of the answer for requests that have `chosen` (see chosen_by) in these lines. key: the URL's."""
    return key + b"\0\0" + blake2b(b",".join(names) + b"\n" + chosen, digest_size=16).digest()


def with_names(sets: tuple[tuple[bytes, ...], ...], names: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
    """A marker's sets with one that an answer had just now: the same ones if it is among them."""
    if names in sets:
        return sets
    return (names, *sets)[:MOST_SETS]


def marker(key: bytes, known: CacheEntry | None, names: tuple[bytes, ...], now: float) -> CacheEntry:
    """What is to be stored for a URL, one of whose answers has said these names. known: what is there; itself if it need not change."""
    if known is None or not known.flags & MARKER:
        return CacheEntry(key, 0, b"", 0, now, now, EVER, 0.0, 0.0, MARKER, vary=(names,))
    sets = with_names(known.vary, names)
    return known if sets is known.vary else msgspec.structs.replace(known, vary=sets, stored=now)


# -- one form for one wish ---------------------------------------------------------


def _chosen(name: bytes, request_headers: bytes) -> bytes:
    if name in _WHOLE:
        values = values_of(request_headers, name)
        return b"=" + b"; ".join(values) if values else b"-"
    value = joined(request_headers, name)
    if value is None:
        return b"-"
    if name == b"accept-encoding":
        return b"=" + (_known_codings(value) if len(value) <= 256 else codings(value))
    if name == b"accept-language":
        return b"=" + (_known_languages(value) if len(value) <= 256 else languages(value))
    return b"=" + without_blanks(value)


@lru_cache(maxsize=512)
def _known_codings(value: bytes) -> bytes:
    return codings(value)


@lru_cache(maxsize=512)
def _known_languages(value: bytes) -> bytes:
    return languages(value)


_WHOLE: Final = frozenset((b"authorization", b"cookie", b"host", b"origin", b"referer", b"user-agent"))
"""No lists: a comma in them separates nothing."""


def codings(value: bytes) -> bytes:
    """Accept-Encoding: which codings the client takes, in one order. How much it likes each is left out: it takes what it has listed.

    A refusal counts where something would be taken without it: of identity always, of others beside `*`.
    """
    taken: set[bytes] = set()
    refused: set[bytes] = set()
    for member in value.lower().split(b",")[:32]:
        coding, _, parameters = member.partition(b";")
        coding = coding.strip(b" \t")
        if coding.startswith(b"x-"):
            coding = coding[2:]
        if coding:
            (refused if _quality(parameters) == 0 else taken).add(coding)
    taken -= refused
    taken.discard(b"identity")
    if b"*" not in taken:
        refused &= {b"identity", b"*"}
    return b",".join(sorted(taken) + [b"-" + coding for coding in sorted(refused)])


def languages(value: bytes) -> bytes:
    """Accept-Language: by preference; those that are liked equally, in one order (RFC 9110 section 12.5.4: theirs says nothing)."""
    members = value.lower().split(b",")
    if len(members) > 32:
        return without_blanks(value)
    wished = []
    for member in members:
        language, _, parameters = member.partition(b";")
        language = language.strip(b" \t")
        if language:
            wished.append((-_quality(parameters), language))
    return b",".join([language if quality == -1000 else b"%b;%d" % (language, -quality) for quality, language in sorted(set(wished))])


_QUALITY: Final = re.compile(rb"[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|\Z)")


def _quality(parameters: bytes) -> int:
    """Thousandths; 1000 for none, and for what is none."""
    found = _QUALITY.match(parameters)
    if found is None:
        return 1000
    whole, _, part = found[1].partition(b".")
    return 1000 if whole == b"1" else int((part + b"000")[:3])


_QUOTED_OR_COMMA: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[ \t]*([,;])[ \t]*')


def without_blanks(value: bytes) -> bytes:
    """A list of which we know nothing, without blanks around its commas and semicolons, unless they are in quotes."""
    if len(value) > 1024 or (value.find(b" ") < 0 and value.find(b"\t") < 0):
        return value.strip(b" \t")
    return _QUOTED_OR_COMMA.sub(_without, value).strip(b" \t")


def _without(found: re.Match[bytes]) -> bytes:
    return found[1] or found[0]
