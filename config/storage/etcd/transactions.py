"""A change of several documents as one transaction of etcd, which fails when somebody was faster. No I/O.

What is compared: that no key under the prefix has changed since the revision at which it was read (one comparison for
all of them, etcd 3.3 and later), and, as that does not see a key that is gone, that keys are still there: those that are
written first, then as many others as there is room for. A pingap that removes documents and writes none therefore writes
one that stays once more, with its own text, so that its revision tells.

A transaction may have 128 operations (`--max-txn-ops`), but one of these may be a transaction again.
A request may have 1.5 MiB (`--max-request-bytes`). What needs more goes in several, each of which holds only if nobody came
between: what is referred to before what refers to it, and what is removed last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.storage.base import Document
from pingap.config.storage.etcd import keys
from pingap.config.storage.etcd.gateway import sent

WIDTH: Final = 60
"""Operations of a transaction, and of each in it: what the outer one has is taken off what inner ones may have."""

ROOM: Final = WIDTH
"""Comparisons of a transaction that keys are there: they count as its operations do."""

MOST_BYTES: Final = 1_200_000
MOST: Final = WIDTH * WIDTH

_ORDER: Final = ("basic", "bus", "stages", "storages", "upstreams", "plugins", "certificates", "locations", "servers")
"""Sections, those that others refer to first."""

Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A document as it was read."""

    text: str
    revision: int
    """Of its last change."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """Where the keys are."""

    prefix: str
    history: str
    keeps_history: bool

    def key(self, document: str) -> str:
        return f"{self.prefix}{document}"

    def history_of(self, document: str) -> str:
        return f"{self.history}{document}/"


@dataclass(slots=True)
class Portion:
    """The operations of one transaction."""

    operations: list[Operation] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    """Those that it writes and removes."""
    size: int = 0
    has_put: bool = False


def range_of(prefix: str) -> dict[str, str]:
    """All keys that begin with it."""
    start = prefix.encode()
    return {"key": sent(start), "range_end": sent(keys.end_of(start))}


def portions(
    place: Keyspace,
    held: Mapping[str, HeldKey],
    written: Iterable[Document],
    removed: Collection[str],
    old: Mapping[str, list[str]],
    now: float,
) -> list[Portion]:
    """What is to be done, in as few transactions as it goes in. old: keys of earlier texts of a document that are too many now."""
    found: list[Portion] = []

    def add(document: str, operations: list[Operation], size: int, is_put: bool) -> None:
        portion = found[-1] if found else None
        if portion is None or portion.size + size > MOST_BYTES or len(portion.operations) + len(operations) > MOST:
            portion = Portion()
            found.append(portion)
        portion.operations += operations
        portion.documents.append(document)
        portion.size += size
        portion.has_put |= is_put

    for document in sorted(written, key=lambda one: (_rank(one.name), one.name)):
        before = held.get(document.name)
        if before is not None and before.text == document.text:
            continue
        history, size = _history(place, document.name, before, old, now)
        text = document.text.encode()
        put = {"request_put": {"key": sent(place.key(document.name)), "value": sent(text)}}
        add(document.name, [put, *history], size + len(text) + len(document.name) + 100, True)
    for name in sorted(removed, key=lambda one: (-_rank(one), one)):
        history, size = _history(place, name, held.get(name), old, now)
        add(name, [{"request_delete_range": {"key": sent(place.key(name))}}, *history], size + len(name) + 100, False)
    for portion in found:
        stays = next((name for name in held if name not in removed), None)
        if not portion.has_put and stays is not None:
            portion.operations.append({"request_put": {"key": sent(place.key(stays)), "ignore_value": True}})
    return found


def transaction(place: Keyspace, portion: Portion, held: Collection[str], revision: int) -> dict[str, Any]:
    """The body of the call. held: documents that must be there; revision: after which none may have changed."""
    unchanged = {**range_of(place.prefix), "target": "MOD", "result": "LESS", "mod_revision": str(revision + 1)}
    concerned = dict.fromkeys(name for name in (*portion.documents, *held) if name in held)
    there = [{"key": sent(place.key(name)), "target": "VERSION", "result": "GREATER", "version": "0"} for name in list(concerned)[:ROOM]]
    return {"compare": [unchanged, *there], "success": _nested(portion.operations)}


def asked(ranges: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls that answer many ranges, as few of them as it goes in."""
    for at in range(0, len(ranges), MOST):
        yield {"success": _nested([{"request_range": one} for one in ranges[at : at + MOST]])}


def answered(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers to the operations of a transaction, of those within it too."""
    for response in answer.get("responses", ()):
        if "response_txn" in response:
            yield from answered(response["response_txn"])
        else:
            yield next(iter(response.values()), {})


def _nested(operations: list[Operation]) -> list[Operation]:
    if len(operations) <= WIDTH:
        return operations
    return [{"request_txn": {"success": operations[at : at + WIDTH]}} for at in range(0, len(operations), WIDTH)]


def _history(place: Keyspace, name: str, before: HeldKey | None, old: Mapping[str, list[str]], now: float) -> tuple[list[Operation], int]:
    """What keeps the text that a document has had, and lets go of the oldest ones; and its size."""
    if before is None or not place.keeps_history:
        return [], 0
    kept = {"request_put": {"key": sent(place.history_of(name) + keys.earlier(before.revision, now)), "value": sent(before.text)}}
    gone = [{"request_delete_range": {"key": sent(key)}} for key in old.get(name, ())]
    return [kept, *gone], len(before.text.encode()) + 200 * (1 + len(gone))


def _rank(document: str) -> int:
    section = document.partition("/")[0].partition(".")[0]
    return _ORDER.index(section) if section in _ORDER else len(_ORDER)
