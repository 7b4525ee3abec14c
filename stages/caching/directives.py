"""What Cache-Control says, and the fields that say the same to some caches only.

Cache-Control (RFC 9111 section 5.2) is read as leniently as origins write it, and what cannot be read is taken for the stricter
meaning. Fields that are targeted (RFC 9213) are structured, and ignored where they are not well-formed. Surrogate-Control is that of
the W3C note "Edge Architecture Specification", which CDNs and frameworks still speak.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pingap.stages.headers import joined

LONGEST: Final = 2147483648
"""Seconds that any greater number is taken for (RFC 9111 section 1.2.2)."""

_TARGETED: Final = (b"pingap-cache-control", b"cdn-cache-control")
"""Ours first (RFC 9213 section 2.2: the list is the cache's own)."""

_MOST: Final = 2048
"""Bytes of a field; one that is longer is not read, and nothing is stored."""

SURROGATE: Final = b"pingap"
"""How Surrogate-Control names us: `max-age=60;pingap`."""


class Directives(NamedTuple):
    """Seconds are -1 where the directive is missing, 0 where its argument is no number of seconds."""

    max_age: int = -1
    s_maxage: int = -1
    stale_while: int = -1
    """stale-while-revalidate (RFC 5861 section 3)."""
    stale_error: int = -1
    """stale-if-error (section 4)."""
    max_stale: int = -1
    """Of requests; without an argument: LONGEST."""
    min_fresh: int = -1
    no_store: bool = False
    no_cache: bool = False
    """Without names, that is, or with names that are none."""
    private: bool = False
    """The same."""
    public: bool = False
    must_revalidate: bool = False
    """Or proxy-revalidate: one to a shared cache."""
    must_understand: bool = False
    only_if_cached: bool = False
    hidden: tuple[bytes, ...] = ()
    """Names (lower case) that no-cache="…" or private="…" have: lines that are not to be kept."""


NONE: Final = Directives()


class Said(NamedTuple):
    """What an answer says to us, by the field that we are to follow."""

    directives: Directives
    by: str
    """The field, lower case, if it is not Cache-Control: "cdn-cache-control"."""
    is_said: bool
    """There was such a field at all."""
    has_expires: bool
    """Expires counts, where no directive gives a lifetime."""


def said_to_us(headers: bytes) -> Said:
    """By an answer's header block. The first targeted field that is well-formed and not empty stands for all others (RFC 9213 section 2.2);
    Surrogate-Control stands for no-store, no-cache and the lifetime only: what is private stays so."""
    for name in _TARGETED:
        value = joined(headers, name) if headers.find(name) >= 0 else None
        if value is not None:
            targeted = parse_targeted(value)
            if targeted is not None:
                return Said(targeted, name.decode(), True, False)
    if headers.find(b"surrogate-control: ") >= 0:
        value = joined(headers, b"surrogate-control")
        if value is not None:
            surrogate = parse_surrogate(value)
            if surrogate is not None:
                common = parse_cache_control(joined(headers, b"cache-control") or b"")
                kept = surrogate._replace(
                    private=common.private,
                    public=common.public,
                    must_revalidate=False,
                    hidden=common.hidden,
                    stale_error=common.stale_error,
                )
                return Said(kept, "surrogate-control", True, surrogate.max_age < 0)
    value = joined(headers, b"cache-control")
    if value is not None:
        return Said(parse_cache_control(value), "", True, True)
    if headers.find(b"pragma: ") >= 0 and parse_pragma(joined(headers, b"pragma") or b""):
        return Said(Directives(no_cache=True), "pragma", False, False)
    return Said(NONE, "", False, True)


def parse_cache_control(value: bytes) -> Directives:
    """Of a Cache-Control field, its lines joined by commas. Never fails: what is not known or makes no sense is left out, unless it
    begins as a directive that forbids something.

    Of a directive that is there twice the first one counts (section 4.2.1); of directives that contradict each other, both: who
    decides honours the stricter.
    """
    if len(value) <= 256:
        return _remembered(value)
    return _parsed(value) if len(value) <= _MOST else Directives(no_store=True)


@lru_cache(maxsize=512)
def _remembered(value: bytes) -> Directives:
    return _parsed(value)


_MEMBER: Final = re.compile(rb'(?:[^,;"]|"(?:[^"\\]|\\.)*"|")+', re.DOTALL)
"""Up to a comma that is not in quotes, or a semicolon, which some origins take for one. A quote without an end is a sign like others:
nothing may hide behind it."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _parsed(value: bytes) -> Directives:
    seconds: dict[bytes, int] = {}
    flags: set[bytes] = set()
    hidden: list[bytes] = []
    for member in _MEMBER.findall(value):
        before, is_there, argument = member.partition(b"=")
        name = before.strip(b" \t").lower()
        if name not in _SECONDS and name not in _FLAGS:
            flags |= _FORBIDDING.intersection(name.split())  # no directive: commas that were left out, most likely
        if argument.find(b'"') < 0:
            flags |= _FORBIDDING.intersection(argument.lower().split()[1:])
        if name in _SECONDS:
            if name not in seconds:
                if is_there:
                    seconds[name] = 0 if before[-1:].isspace() else _seconds(argument)  # no blank before `=`, and none behind it
                else:
                    seconds[name] = LONGEST if name == b"max-stale" else 0
        elif name in _FLAGS:
            names = _names(argument) if is_there and name in _WITH_NAMES else ()
            if names:
                hidden += names
            else:
                flags.add(name)
    return _made(seconds, flags, tuple(dict.fromkeys(hidden)))


_SECONDS: Final = frozenset((b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error", b"max-stale", b"min-fresh"))
_FORBIDDING: Final = frozenset((b"no-store", b"no-cache", b"private", b"must-revalidate", b"proxy-revalidate"))
_WITH_NAMES: Final = frozenset((b"no-cache", b"private"))
_FLAGS: Final = frozenset(
    b"no-store no-cache private public must-revalidate proxy-revalidate must-understand only-if-cached no-transform".split()
)


def _made(seconds: dict[bytes, int], flags: set[bytes], hidden: tuple[bytes, ...]) -> Directives:
    return Directives(
        max_age=seconds.get(b"max-age", -1),
        s_maxage=seconds.get(b"s-maxage", -1),
        stale_while=seconds.get(b"stale-while-revalidate", -1),
        stale_error=seconds.get(b"stale-if-error", -1),
        max_stale=seconds.get(b"max-stale", -1),
        min_fresh=seconds.get(b"min-fresh", -1),
        no_store=b"no-store" in flags,
        no_cache=b"no-cache" in flags,
        private=b"private" in flags,
        public=b"public" in flags,
        must_revalidate=b"must-revalidate" in flags or b"proxy-revalidate" in flags,
        must_understand=b"must-understand" in flags,
        only_if_cached=b"only-if-cached" in flags,
        hidden=hidden,
    )


def _seconds(argument: bytes) -> int:
    """delta-seconds, quoted or not; 0 for what is none: a lifetime that cannot be read is over (section 4.2.1)."""
    digits = argument.rstrip(b" \t")
    if len(digits) > 1 and digits[0] == 34 and digits[-1] == 34:
        digits = digits[1:-1]
    if not digits.isdigit():
        return 0
    digits = digits.lstrip(b"0")
    return LONGEST if len(digits) > 10 else min(int(digits or b"0"), LONGEST)


def _names(argument: bytes) -> tuple[bytes, ...]:
    """Field names, lower case, quoted or not; none if any of them is no name: then the directive means the whole answer."""
    text = argument.strip(b" \t")
    if len(text) > 1 and text[0] == 34 and text[-1] == 34:
        text = text[1:-1]
    names = [name.strip(b" \t").lower() for name in text.split(b",")]
    names = [name for name in names if name]
    if len(names) > 32 or not all(_TOKEN.fullmatch(name) for name in names):
        return ()
    return tuple(names)


def parse_pragma(value: bytes) -> bool:
    """It has no-cache (RFC 9111 section 5.4)."""
    return any(member.strip(b" \t").lower() == b"no-cache" for member in value.split(b","))


# -- RFC 9213 --------------------------------------------------------------------


def parse_targeted(value: bytes) -> Directives | None:
    """Of a field that is a dictionary of directives; None for what is empty or none: such a field is ignored (section 2.2).

    Members whose value is of another type than its directive's are ignored (section 2.1).
    """
    if len(value) <= 256:
        return _remembered_targeted(value)
    return _targeted(value) if len(value) <= _MOST else Directives(no_store=True)


@lru_cache(maxsize=128)
def _remembered_targeted(value: bytes) -> Directives | None:
    return _targeted(value)


def _targeted(value: bytes) -> Directives | None:
    import http_sf  # only where an answer has such a field

    try:
        members: Any = http_sf.parse(value, tltype="dictionary")
    except Exception:  # it says ValueError, and has IndexError for some texts, too
        return None
    if not members:
        return None
    seconds: dict[bytes, int] = {}
    flags: set[bytes] = set()
    hidden: list[bytes] = []
    for key, member in members.items():
        name, item = str(key).encode(), member[0]
        if name in _SECONDS:
            if type(item) is int and item >= 0:
                seconds[name] = min(item, LONGEST)
        elif name in _FLAGS:
            names = _names(item.encode("latin-1", "replace")) if name in _WITH_NAMES and isinstance(item, str) else ()
            if names:
                hidden += names
            elif item is True or (name in _WITH_NAMES and isinstance(item, str)):
                flags.add(name)
    return _made(seconds, flags, tuple(dict.fromkeys(hidden)))


# -- Surrogate-Control -----------------------------------------------------------


_TARGETED_MEMBER: Final = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+', re.DOTALL)


def parse_surrogate(value: bytes) -> Directives | None:
    """What Surrogate-Control says to surrogates, or to us by name, which counts more. None if that is nothing.

    `max-age=60+30`: 30 seconds more, while it is fetched anew.
    """
    if len(value) > _MOST:
        return Directives(no_store=True)
    by_name: dict[bytes, Directives] = {}
    for member in _TARGETED_MEMBER.findall(value):
        directive, *targets = member.split(b";")
        target = targets[0].strip(b" \t").lower() if targets else b""
        if target not in (b"", SURROGATE):
            continue
        known = by_name.get(target, NONE)
        name, _, argument = directive.partition(b"=")
        name = name.strip(b" \t").lower()
        if name == b"no-store":
            by_name[target] = known._replace(no_store=True)
        elif name == b"max-age" and known.max_age < 0:
            lifetime, _, more = argument.partition(b"+")
            by_name[target] = known._replace(max_age=_seconds(lifetime), stale_while=_seconds(more) if more else -1)
    return by_name.get(SURROGATE) or by_name.get(b"")
