"""What `pingap cache stats` and `pingap cache explain` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pingap import tables
from pingap.ps_table import span
from pingap.stages.caching.words import GROUPS
from pingap.tables import Column

Row = Mapping[str, Any]


def summed(answers: Sequence[Row], silent: int) -> dict[str, Any]:
    """One answer of what each process has said. What is counted is added up; what a store holds is the same for all of them."""
    stores: dict[str, dict[str, Any]] = {}
    caches: dict[tuple[str, str], dict[str, Any]] = {}
    for answer in answers:
        for store in answer["stores"]:
            known = stores.setdefault(store["store"], {**store, "counts": {}, "refused": {}})
            known["counts"] = dict(Counter(known["counts"]) + Counter(store["counts"]))
            known["refused"] = dict(Counter(known["refused"]) + Counter(store["refused"]))
            known["objects"], known["bytes"] = max(known["objects"], store["objects"]), max(known["bytes"], store["bytes"])
        for cache in answer["caches"]:
            merged = caches.setdefault((cache["cache"], cache["store"]), {**cache, "requests": {}})
            merged["requests"] = dict(Counter(merged["requests"]) + Counter(cache["requests"]))
    return {
        "stores": list(stores.values()),
        "caches": list(caches.values()),
        "fetching": sum(answer["fetching"] for answer in answers),
        "waiting": sum(answer["waiting"] for answer in answers),
        "processes": len(answers),
        "silent": silent,
    }


def _grouped(row: Row, group: str) -> int:
    """Of a cache's requests those that the words of a group are for."""
    return sum(row["requests"].get(word, 0) for word in GROUPS[group])


def _of(group: str) -> Callable[[Row], str]:
    return lambda row: str(_grouped(row, group))


def _rate(row: Row) -> str:
    """Of what was looked up."""
    total = sum(row["requests"].values()) - _grouped(row, "bypass")
    return f"{100 * _grouped(row, 'hits') / total:.1f}%" if total else "-"


def _size_of_part(row: Row) -> str:
    """With its bound, where a namespace has one."""
    return f"{size_of(row['bytes'])} of {size_of(row['cap'])}" if row["cap"] else size_of(row["bytes"])


_STORES: Final[tuple[Column[Row], ...]] = (
    Column("STORE", lambda row: tables.safe(row["store"]), False, 0, least=8),
    Column("OBJECTS", lambda row: str(row["objects"]), True, 0),
    Column("SIZE", lambda row: size_of(row["bytes"]), True, 0),
    Column("OF", lambda row: size_of(row["cap"]) if row["cap"] else "-", True, 0),
    Column("STORED", lambda row: _count(row, "puts"), True, 1),
    Column("EVICTED", lambda row: _count(row, "evicted"), True, 2),
    Column("PURGED", lambda row: _count(row, "purged"), True, 3),
    Column("REFUSED", lambda row: str(sum(row["refused"].values())), True, 4, usual="0"),
)

_CACHES: Final[tuple[Column[Row], ...]] = (
    Column("CACHE", lambda row: tables.safe(row["cache"]), False, 0, least=8),
    Column("NAMESPACE", lambda row: tables.safe(row["namespace"]) or "-", False, 0, least=8),
    Column("OBJECTS", lambda row: str(row["objects"]), True, 1),
    Column("SIZE", _size_of_part, True, 1),
    Column("REQUESTS", lambda row: str(sum(row["requests"].values())), True, 0),
    Column("RATE", _rate, True, 0),
    *(Column(group.upper(), _of(group), True, at, usual="0") for at, group in enumerate(GROUPS, 2)),
)


def _count(row: Row, name: str) -> str:
    return str(row["counts"].get(name, 0))


def stats_lines(stats: Row, width: int = 0) -> list[str]:
    """stats: of `summed`. width: columns, 0 is any."""
    if not stats["caches"]:
        return ["no location has a cache"]
    found = [*tables.fitted(_STORES, stats["stores"], width), "", *tables.fitted(_CACHES, stats["caches"], width), ""]
    refused: Counter[str] = Counter()
    for store in stats["stores"]:
        refused.update(store["refused"])
    if refused:
        found.append(f"not stored: {', '.join(f'{count} {tables.safe(reason)}' for reason, count in refused.most_common())}")
    of = f"{stats['processes']} process{'es' if stats['processes'] != 1 else ''}"
    found.append(f"{of}: {stats['fetching']} fetching, {stats['waiting']} requests wait for one")
    if stats["silent"]:
        found.append(f"{stats['silent']} more did not answer in time")
    return found


def size_of(count: int) -> str:
    """`512 B`, `1.5 kB`, `2.0 GB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def explain_lines(url: str, found: Row) -> list[str]:
    """What `explain` found, a line for each thing."""
    rows = list(_explained(found))
    size = max(len(name) for name, _ in rows)
    return [f"{tables.safe(url)}: {found['outcome']}", *(f"  {name.ljust(size)}  {tables.safe(text)}" for name, text in rows)]


def _explained(found: Row) -> Iterator[tuple[str, str]]:
    source = f" ({found['source']})" if found.get("source") else ""
    remembered = f", which is remembered for {span(found['remembered'])} more" if "remembered" in found else ""
    again = f", of {found['failure']}: the next is tried in {_seconds(found['again'])}" if "again" in found else ""
    yield "because", f"{found['rule']}{source}{remembered}{again}"
    if found["outcome"] == "answered":
        yield "status", str(found["status"])
    if stored := found.get("stored"):
        yield "stored", f"status {stored['status']}, {size_of(stored['size'])}, {_ago(stored['stored'])}"
        yield "age", f"{_seconds(stored['age'])} of {_seconds(stored['lifetime'])} that {stored['lifetime_rule'] or 'it'} gives"
        yield "fresh", _fresh(stored)
        yield (
            "stale",
            f"{_stale(stored['stale_while_revalidate'], 'while it is validated')}, {_stale(stored['stale_if_error'], 'on error')}",
        )
        validators = [stored["etag"] and f"etag {stored['etag']}", stored["last_modified"] and f"last-modified {stored['last_modified']}"]
        yield "validators", ", ".join(filter(None, validators)) or "none"
        if stored["flags"]:
            yield "marks", ", ".join(stored["flags"])
        if stored["tags"]:
            yield "tags", ", ".join(stored["tags"])
        if stored["where"]:
            yield "file", stored["where"]
    if variant := found.get("variant"):
        yield "varies by", ", ".join(f"{name} {_chosen(value)}" for name, value in variant.items())
    if "key" in found:
        yield "key", " · ".join(found["key"].removeprefix("\0").split("\0"))  # without a namespace it begins so
    for name in ("location", "upstream", "server", "plugin"):
        if found.get(name):
            yield name, found[name]


def _fresh(stored: Row) -> str:
    if "purged softly" in stored["flags"]:
        return "no: purged softly"
    left = stored["ttl"]
    return f"for {_seconds(left)} more" if left > 0 else f"until {_seconds(-left)} ago"


def _chosen(value: str) -> str:
    return "(not there)" if value == "-" else value.removeprefix("=") or "(empty)"


def _stale(seconds: float, when: str) -> str:
    return f"usable {_seconds(seconds)} {when}" if seconds > 0 else f"not usable {when}"


def _ago(seconds: float) -> str:
    return f"{_seconds(seconds)} ago"


def _seconds(seconds: float) -> str:
    return span(seconds) if seconds >= 10 else f"{seconds:.1f}s"
