"""Which location answers: weights, hosts, paths, conditions, and the index that keeps it fast.

Locations of a server are tried from the highest weight down, and the first of
which everything fits wins. Host rules depend on the host alone, so their work
is done once per host: a `View` lists, in order, the locations that this host
may reach, with what their host regexes captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import re2

from pingap.config.model import Conditions, Location
from pingap.config.parts import HostRule, PathRule
from pingap.stages.headers import value_of, values_of
from pingap.stages.routing.normalize import spellings
from pingap.stages.spellings import as_sent, both_cases, one_case, parameter
from pingap.stages.steps import Steps, finished
from pingap.stages.variables import host_name

ANY: Final = 0
EXACT: Final = 1
PREFIX: Final = 2
REGEX: Final = 3

T = TypeVar("T")
Captures = dict[str, str]
Condition = Callable[[bytes, bytes], bool]
"""(header block, target) → holds."""
Candidate = tuple[int, Any, tuple[Condition, ...], T, Captures]
"""(path kind, path value, conditions, what to find, captures of the host)."""
View = tuple[Candidate[T], ...]
"""What one host may reach, first to be tried first."""

_EMPTY: Final[Captures] = {}
_HOST_LIMIT: Final = 255
"""Longest host that is remembered: no DNS name is longer."""
_VIEWS_LIMIT: Final = 4096
"""Hosts remembered, or twice the hosts that the configuration names."""
_CANDIDATES_LIMIT: Final = 200_000
"""Candidates in all remembered hosts together, shared ones not counted."""


class Pattern:
    """A user's regular expression under the linear-time engine, searching anywhere in bytes."""

    __slots__ = ("_names", "_regex")

    def __init__(self, pattern: str, ignore_case: bool = False) -> None:
        """Raises re2.error for a bad pattern."""
        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = not ignore_case
        self._regex = re2.compile(pattern, options)
        self._names = tuple(sorted(self._regex.groupindex.items()))

    def search(self, text: bytes) -> Any:
        """A match as of `re`, or None."""
        return self._regex.search(text)

    def named(self, match: Any) -> Captures:
        """The named groups that took part in a match."""
        found: Captures = {}
        for name, index in self._names:
            value = match[index]
            if value is not None:
                found[name] = value.decode("latin-1")
        return found

    def captures(self, text: bytes) -> Captures | None:
        """The named groups of the first match, None without a match."""
        match = self._regex.search(text)
        if match is None:
            return None
        return self.named(match) if self._names else _EMPTY


def weight_of(location: Location) -> int:
    """Precedence: as given, else from the kind and length of the path and from the host."""
    if location.weight is not None:
        return location.weight
    weight = 0
    path = location.path
    length = len(path.value.encode()) + (path.kind in ("exact", "regex"))  # the mark counts, as it does in the reference
    if path.kind != "any" and length > 1:
        weight = {"exact": 1024, "prefix": 512, "regex": 256}[path.kind] + min(length, 64)
    if any(rule.kind == "regex" for rule in location.host):
        marks = {"exact": "", "suffix": "*.", "regex": "~"}
        return weight + len(",".join(marks[rule.kind] + rule.value for rule in location.host).encode())
    return weight + (128 if location.host else 0)


def compile_path(rule: PathRule, normal: bool = False) -> tuple[int, Any]:
    """(kind, value to compare or Pattern). normal: for paths in normal form. Raises normalize.Unclear then, and re2.error."""
    if rule.kind == "any":
        return ANY, b""
    if rule.kind == "regex":
        return REGEX, Pattern(rule.value)
    value = as_sent(rule.value)
    if normal:
        value, any_spelling = spellings(value)
    else:
        any_spelling = both_cases(value)
    if any_spelling:
        return REGEX, Pattern(rf"\A{any_spelling}" + (r"\z" if rule.kind == "exact" else ""))
    return (EXACT if rule.kind == "exact" else PREFIX), value


def compile_conditions(location: Location) -> tuple[Condition, ...]:
    """match_headers, match_query and match_cookies; all must hold."""
    return (
        *_conditions(location.match_headers, _header_condition),
        *(_query_condition(parameter(name), None if value is None else parameter(value)) for name, value in location.match_query),
        *_conditions(location.match_cookies, _cookie_condition),
    )


def _conditions(pairs: Conditions, make: Callable[[bytes, bytes | None], Condition]) -> list[Condition]:
    return [make(name.encode(), None if value is None else value.encode()) for name, value in pairs]


def _header_condition(name: bytes, expected: bytes | None) -> Condition:
    def holds(headers: bytes, target: bytes) -> bool:
        value = value_of(headers, name)
        return value is not None and (expected is None or value == expected)

    return holds


def _query_condition(name: bytes, expected: bytes | None) -> Condition:
    if b"%" in name or (expected is not None and b"%" in expected):
        plain = _query_condition_of(name, expected)
        return lambda headers, target: plain(headers, one_case(target))
    return _query_condition_of(name, expected)


def _query_condition_of(name: bytes, expected: bytes | None) -> Condition:
    def holds(headers: bytes, target: bytes) -> bool:
        for item in target.partition(b"?")[2].split(b"&"):
            key, _, value = item.partition(b"=")
            if key == name:
                return expected is None or value == expected
        return False

    return holds


def _cookie_condition(name: bytes, expected: bytes | None) -> Condition:
    def holds(headers: bytes, target: bytes) -> bool:
        for line in values_of(headers, b"cookie"):
            for item in line.split(b";"):
                key, equals, value = item.partition(b"=")
                if equals and key.strip() == name:
                    return expected is None or value.strip() == expected
        return False

    return holds


class Entry(Generic[T]):
    """One location in indexes, and what matching it takes: worked out once, and taken over by the next generation."""

    __slots__ = ("_normal", "_plain", "found", "location", "rules", "weight")

    def __init__(self, location: Location, found: T) -> None:
        """Raises re2.error."""
        self.location = location
        self.found = found
        self.weight = weight_of(location)
        self.rules = tuple((rule, Pattern(rule.value, ignore_case=True) if rule.kind == "regex" else None) for rule in location.host)
        self._plain: Candidate[T] | None = None
        self._normal: Candidate[T] | None = None

    def candidate(self, normal: bool) -> Candidate[T]:
        """normal and errors: as of `compile_path`."""
        known = self._normal if normal else self._plain
        if known is None:
            known = (*compile_path(self.location.path, normal), compile_conditions(self.location), self.found, _EMPTY)
            if normal:
                self._normal = known
            else:
                self._plain = known
        return known


class HostIndex(Generic[T]):
    """The locations of one server, by host."""

    def __init__(self, entries: Sequence[Entry[T]], normal: bool = False) -> None:
        """`entries` as the server lists them; among equal weights that order stays. normal and errors: as of `compile_path`."""
        self._entries: list[Candidate[T]] = []
        self._hosts: list[tuple[tuple[HostRule, Pattern | None], ...]] = []
        self._exact: dict[str, list[int]] = {}
        self._suffix: dict[str, list[int]] = {}
        self._everywhere: list[int] = []
        self.views: dict[bytes, View[T]] = {}
        """Remembered views by authority, as in `Request.host`. Try this before `view`."""
        self._longest_suffix = 0
        self._rest: View[T] = ()
        """Shared by all hosts that no rule names, as long as there is no regex to ask."""
        self._is_rest_plain = True
        self._views_limit = _VIEWS_LIMIT
        self._remembered = 0
        finished(self._fill(entries, normal))

    @classmethod
    def in_steps(cls, entries: Sequence[Entry[T]], normal: bool = False) -> Steps[HostIndex[T]]:
        """As the constructor."""
        index = cls((), normal)
        yield from index._fill(entries, normal)
        return index

    def _fill(self, entries: Sequence[Entry[T]], normal: bool) -> Steps[None]:
        for entry in sorted(entries, key=lambda entry: -entry.weight):
            yield 1
            number = len(self._entries)
            self._entries.append(entry.candidate(normal))
            rules = entry.rules
            self._hosts.append(rules)
            if not rules or any(pattern for _, pattern in rules):
                self._everywhere.append(number)
            for rule, _ in rules:
                if rule.kind != "regex":
                    table = self._exact if rule.kind == "exact" else self._suffix
                    table.setdefault(rule.value.removesuffix("."), []).append(number)
        self._longest_suffix = max(map(len, self._suffix), default=0)
        self._rest = tuple(self._entries[number] for number in self._everywhere)
        self._is_rest_plain = not any(self._hosts[number] for number in self._everywhere)
        self._views_limit = max(_VIEWS_LIMIT, 2 * len(self._exact))

    def view(self, authority: bytes) -> View[T]:
        """What a host may reach. `authority` is lower case, with or without a port."""
        text = host_name(authority).decode("latin-1")
        numbers = self._named(text)
        if not numbers and self._is_rest_plain:
            view: View[T] = self._rest
            size = 1
        else:
            view = tuple(self._candidates(text, numbers))
            size = len(view) + 1
        if len(authority) <= _HOST_LIMIT:
            # Clients choose the host, so what is remembered is bounded in number and in size.
            if len(self.views) >= self._views_limit or self._remembered + size > _CANDIDATES_LIMIT:
                self.views.clear()
                self._remembered = 0
            self.views[authority] = view
            self._remembered += size
        return view

    def _named(self, host: str) -> set[int]:
        numbers = set(self._exact.get(host, ()))
        if self._suffix:
            # Only dots from which on a suffix could fit: a long host full of dots must not cost more than a short one.
            dot = host.find(".", max(1, len(host) - self._longest_suffix - 1))
            while dot >= 0:
                numbers.update(self._suffix.get(host[dot + 1 :], ()))
                dot = host.find(".", dot + 1)
        return numbers

    def _candidates(self, host: str, numbers: set[int]) -> list[Candidate[T]]:
        numbers.update(self._everywhere)
        candidates = []
        for number in sorted(numbers):
            captures = _match_host(self._hosts[number], host)
            if captures is not None:
                entry = self._entries[number]
                candidates.append((*entry[:4], captures) if captures else entry)
        return candidates


def _match_host(rules: Sequence[tuple[HostRule, Pattern | None]], host: str) -> Captures | None:
    """Captures of the first rule that fits, None when none does."""
    if not rules:
        return _EMPTY
    for rule, pattern in rules:
        if pattern is not None:
            captures = pattern.captures(host.encode("latin-1"))
            if captures is not None:
                return captures
        elif rule.kind == "exact":
            if host == rule.value.removesuffix("."):
                return _EMPTY
        elif len(host) > len(rule.value) + 1 and host.endswith("." + rule.value.removesuffix(".")):
            return _EMPTY
    return None


def merge(host: Mapping[str, str], path: Mapping[str, str]) -> Captures:
    """Captures of host and path; the host's win where both have a name."""
    return {**path, **host}
