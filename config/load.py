"""Text to a checked `Snapshot`, or to every problem at once.

The steps: read the documents, parse them (config/text), put them together, open the
storages, fill in `$ENV:NAME` and `$SECRET:NAME`, put includes over the keys of items,
take what only the reference takes (lenient.py), set aside what is not supported yet,
validate each item by itself (pydantic, strict, from the model), then check what spans
items. A step goes on with what the one before could use, so that one misspelling hides
no other; and nothing that is said shows a secret.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import CoreConfig, SchemaValidator

from pingap.config import check, includes, lenient, unsupported
from pingap.config.acme import idle_keys, is_proved_by_dns
from pingap.config.addresses import is_host_name
from pingap.config.certificates import leaf_of, names_of
from pingap.config.encryption import is_encrypted
from pingap.config.gathering import Gathered, gathered, no_table
from pingap.config.includes import INCLUDING, IncludeShelf
from pingap.config.model import KINDS, Basic, Bus, Certificate, Location, Server, Snapshot, Stage, StoredValue, Upstream
from pingap.config.notes import grouped
from pingap.config.opened import OpenedStorages
from pingap.config.pem import path_in
from pingap.config.private_keys import decrypted_key, is_encrypted_key
from pingap.config.problems import BadValue, Note, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.references import KeyPlace, References, of_environment, of_file, of_no_storage, of_storages
from pingap.config.refused import SnapshotRefused
from pingap.config.secrecy import Told, is_within, secrets_of, without_secrets
from pingap.config.storage.base import SECTIONS, SINGLE, Readable

PluginChecker = Callable[[str, dict[str, Any], frozenset[str] | None], list[Problem | Note]]
"""Given the name of a [plugins.X] section and the section: what is wrong with it, and what of it is taken otherwise, by full path.

What is taken otherwise is changed in the section.
"""

Item = TypeVar("Item")
Table = dict[str, Any]

_VALIDATORS: dict[type, SchemaValidator] = {}

_STAND_INS: Mapping[str, Any] = {
    "addr": "127.0.0.1:0",
    "addrs": ["localhost"],
    "category": "",
    "value": "",
}
"""For keys that an item cannot be made without; neither gives rise to a problem."""

_READ_BY: Mapping[str, str] = {"discovery": "addrs"}
"""A key → one whose meaning it says: without the one, nothing is known of the other."""


def load(
    storage: Readable,
    *,
    plugin_checker: PluginChecker | None = None,
    builtin_plugins: frozenset[str] = unsupported.BUILTIN_PLUGINS,
    env: Mapping[str, str] = os.environ,
) -> Snapshot:
    """Reads all that a storage holds. Raises ConfigRefused with all problems, SnapshotRefused where something could be read."""
    raw = _Raw(gathered(storage.read().documents))
    _fill(raw, env)
    certificates, ends = _certificates(raw)
    snapshot = Snapshot(
        basic=_single(raw, "basic", Basic) or Basic(),
        servers=_items(raw, "servers", Server),
        locations=_items(raw, "locations", Location),
        upstreams=_items(raw, "upstreams", Upstream),
        plugins=_plugins(raw, plugin_checker),
        certificates=certificates,
        ends=ends,
        files=_files(raw, certificates),
        challenged={name: one.acme for name, one in certificates.items() if one.acme and not is_proved_by_dns(one)},
        stages=_items(raw, "stages", Stage),
        bus=_single(raw, "bus", Bus) or Bus(),
        secret=tuple(sorted(raw.secret)),
    )
    if raw.gathered.is_whole:
        # References are checked against what the files name, usable or not: one mistake is then told once.
        declared = {section: frozenset(raw.tables.get(section, {})) for section in SECTIONS}
        for one in check.check(snapshot, declared, raw.partial, builtin_plugins):
            if isinstance(one, Note):
                raw.notes.append(one)
            else:
                raw.tell(one)
    raw.let_idle_pass(idle_keys(certificates, raw.partial))
    if raw.problems:
        raise SnapshotRefused(raw.attributed(raw.problems), grouped(raw.attributed(raw.notes)), snapshot)
    return replace(lenient.once(snapshot), notes=grouped(raw.attributed(raw.notes)))


@dataclass(slots=True)
class _Raw:
    """The tables of all files put together, and what is wrong so far."""

    gathered: Gathered
    tables: dict[str, Table] = field(init=False)
    partial: set[str] = field(default_factory=set)
    """The paths of items that lack keys which the file gives, because those were wrong, and of these keys."""
    unset: set[str] = field(default_factory=set)
    """The paths of texts that refer to something which is not there."""
    idle: set[str] = field(default_factory=set)
    """The paths of keys and items without effect: what they refer to need not be there."""
    secret: set[str] = field(default_factory=set)
    """The paths of values that came out of an encrypted storage, or from a storage by `$SECRET:NAME`."""
    included: dict[str, str] = field(default_factory=dict)
    """Path of a key → the place in a storage that it was included from."""
    problems: list[Problem] = field(init=False)
    notes: list[Note] = field(default_factory=list)
    """What is taken all the same."""

    def __post_init__(self) -> None:
        self.tables = self.gathered.tables
        self.problems = list(self.gathered.problems)

    def tell(self, *problems: Problem) -> None:
        """Of a text that refers to nothing, only that is told, which it was."""
        self.problems += [problem for problem in problems if problem.path not in self.unset]

    def let_idle_pass(self, keys: Iterable[str]) -> None:
        """What such texts refer to in vain is a note. keys: paths of those without effect, besides the ones that are known."""
        idle = self.idle.union(keys)
        passed = [one for one in self.problems if one.path in self.unset and is_within(one.path, idle)] if idle else []
        self.notes += [Note(one.path, one.message, one.hint) for one in passed]
        self.problems = [one for one in self.problems if one not in passed]

    def attributed(self, found: Iterable[Told]) -> list[Told]:
        """`found` in the order of the items, each with its file where there are several files."""
        origins = self.gathered.origins
        several = len(set(origins.values())) > 1
        places = {path: (rank, name) for rank, (path, name) in enumerate(origins.items())}
        ranked = []
        for one in found:
            rank, origin = next((places[outer] for outer in _around(one.path) if outer in places), (-1, one.source))
            include = next((self.included[outer] for outer in _around(one.path) if outer in self.included), "")
            source = ", ".join(filter(None, (origin if several else "", include)))
            ranked.append((rank, replace(one, source=source)))
        in_order = [one for _, one in sorted(ranked, key=lambda pair: pair[0])]
        return without_secrets(in_order, secrets_of(self.tables, self.secret)) if in_order else []


def _around(path: str) -> Iterator[str]:
    """The path, and the paths of all that it may be in, the innermost first: a dot in a quoted name parts nothing that there is."""
    yield path
    for end in range(len(path) - 1, 0, -1):
        if path[end] in ".[":
            yield path[:end]


def _fill(raw: _Raw, env: Mapping[str, str]) -> None:
    """What texts refer to, and what items include, put in their places."""

    def unset(place: KeyPlace, why: BadValue) -> None:
        raw.unset.add(path_of(*place))
        if why.message:
            raw.problems.append(Problem(path_of(*place), why.message, why.hint))

    def used(place: KeyPlace, kind: str, text: str) -> None:
        if kind == "SECRET":
            raw.secret.add(path_of(*place))

    variable = of_environment(env)
    if "storages" in raw.tables:
        opener = References({"ENV": variable, "FILE": of_file}, unset)
        raw.tables["storages"] = opener.fill(raw.tables["storages"], ("storages",))
    stored = _items(raw, "storages", StoredValue)
    declared = frozenset(raw.tables.get("storages", {}))
    values = OpenedStorages(dict(_usable(raw, stored)), raw.problems.append)
    references = References({"ENV": variable, "SECRET": of_storages(values, declared)}, unset, used)
    for section in raw.tables.keys() - {"storages", "basic"}:
        raw.tables[section] = references.fill(raw.tables[section], (section,))
    if "basic" in raw.tables:
        raw.tables["basic"] = _basic(raw.tables["basic"], references, References({"ENV": variable, "SECRET": of_no_storage}, unset))
    marks: dict[str, tuple[set[str], set[str]]] = {}

    def filled(keys: Any, name: str) -> Any:
        place = ("storages", name, "value")
        found = references.fill(keys, place)
        base = path_of(*place)
        secret, missing = ({path.removeprefix(base) for path in those if is_within(path, {base})} for those in (raw.secret, raw.unset))
        if stored[name].secret:
            secret = {f".{path_of(key)}" for key in keys}
        marks[name] = secret, missing
        return found

    shelf = IncludeShelf(values, declared, filled)
    for section in INCLUDING:
        items = raw.tables.get(section, {})
        for name, table in items.items():
            if isinstance(table, dict) and includes.KEY in table:
                items[name] = _expanded(raw, shelf, path_of(section, name), table, marks)
    raw.problems += shelf.problems
    raw.notes += values.notes()


def _basic(table: Table, references: References, before: References) -> Table:
    """before: for the keys that root reads before it becomes who they say, and so before it opens anything."""
    early = ("user", "group")
    return {key: (before if key in early else references).fill(value, ("basic", key)) for key, value in table.items()}


def _expanded(raw: _Raw, shelf: IncludeShelf, path: str, table: Table, marks: Mapping[str, tuple[set[str], set[str]]]) -> Table:
    """marks: of each storage that was read, where in it are secrets, and what refers to nothing: paths from the value on."""
    item = shelf.expanded(path, table)
    raw.tell(*item.problems)
    raw.included |= {f"{path}.{path_of(key)}": origin.place for key, origin in item.origins.items()}
    for storage in {origin.storage for origin in item.origins.values()}:
        secret, missing = marks[storage]
        raw.secret |= {path + inner for inner in secret}
        raw.unset |= {path + inner for inner in missing}
    return item.table


def _usable(raw: _Raw, stored: Mapping[str, StoredValue]) -> Iterator[tuple[str, StoredValue]]:
    """Those of which nothing is wrong, as far as that can be told without opening them."""
    for name, one in stored.items():
        path = path_of("storages", name)
        if path in raw.partial or raw.unset & {f"{path}.value", f"{path}.secret"}:
            continue
        if not one.secret and is_encrypted(one.value):
            hint = 'write secret = "$ENV:NAME", with the pass phrase in that environment variable'
            raw.problems.append(Problem(f"{path}.secret", "the value is encrypted, and there is no pass phrase", hint))
        else:
            yield name, one


def _single(raw: _Raw, section: str, kind: type[Item]) -> Item | None:
    return _item(raw, section, (section,), raw.tables.get(section, {}), kind)


def _items(raw: _Raw, section: str, kind: type[Item]) -> dict[str, Item]:
    found = {}
    for name, table in raw.tables.get(section, {}).items():
        item = _item(raw, section, (section, name), table, kind)
        if item is not None:
            found[name] = item
    return found


def _item(raw: _Raw, section: str, place: tuple[str, ...], table: Any, kind: type[Item]) -> Item | None:
    """One item validated by itself, or None after noting why not."""
    path = path_of(*place)
    if not isinstance(table, dict):
        raw.problems.append(no_table(path, table))
        return None
    if not place[-1]:
        raw.problems.append(Problem(path, "the name is empty"))
    table = dict(table)
    raw.notes += lenient.take(section, path, table)
    raw.problems += unsupported.take_unsupported(section, path, table)
    try:
        return _validated(table, kind)
    except ValidationError as error:
        wrongs = error.errors(include_url=False, include_input=False)
    raw.tell(*(_explained(place, table, wrong, kind) for wrong in wrongs))
    # The sound keys go on to the checks between items, so that those problems are told too. The snapshot itself is
    # never used.
    unusable = {str(wrong["loc"][0]) for wrong in wrongs}
    raw.partial |= {path, *(path_of(*place, key) for key in unusable)}
    for key in unusable | {_READ_BY[key] for key in unusable & _READ_BY.keys()}:
        table.pop(key, None)
        if key in _STAND_INS and key in {spec.name for spec in fields(kind)}:  # type: ignore[arg-type]
            table[key] = _STAND_INS[key]
    return _validated(table, kind)


def _date(value: object) -> dict[str, str]:
    # TOML dates fit no key. As a table they are refused wherever text or a number is expected.
    return {"date": str(value)}


def _validator(kind: type) -> SchemaValidator:
    # Values are not to stay in the cache of strings: 16,000 of them, scattered, would keep the memory of all else that was read.
    return SchemaValidator(TypeAdapter(kind).core_schema, CoreConfig(cache_strings="keys"))


def _validated(table: Table, kind: type[Item]) -> Item:
    # As JSON: pydantic's strict mode takes lists for tuples and tables for dataclasses only from there.
    item: Item = (_VALIDATORS.get(kind) or _VALIDATORS.setdefault(kind, _validator(kind))).validate_json(
        json.dumps(table, default=_date), strict=True
    )
    return item


def _explained(place: tuple[str, ...], table: Table, wrong: Any, kind: Any) -> Problem:
    """A validation error in the words of this project."""
    loc = wrong["loc"]
    path, context = path_of(*place, *loc), wrong.get("ctx", {})
    match wrong["type"]:
        case "missing":
            return Problem(path, "the key is required")
        case "unexpected_keyword_argument":
            return Problem(path, "unknown key", _meant(str(loc[-1]), kind))
        case "value_error" if isinstance(context.get("error"), BadValue):
            return Problem(path, context["error"].message, context["error"].hint)
    got = describe(_at(table, loc))
    match wrong["type"]:
        case "greater_than_equal":
            return Problem(path, f"must be at least {context['ge']}, got {got}")
        case "less_than_equal":
            return Problem(path, f"must be at most {context['le']}, got {got}")
        case "literal_error":
            words = [word for word in re.findall(r"'([^']*)'", str(context["expected"])) if word]  # "" is a key without a word
            value = _at(table, loc)
            close = nearest(value, words) if isinstance(value, str) else ""
            return Problem(path, f"expected {choices(words)}; got {got}", close)
    wanted = _WANTED.get(wrong["type"])
    return Problem(path, f"expected {wanted}, got {got}" if wanted else wrong["msg"])


def _meant(key: str, kind: Any) -> str:
    """A hint on an unknown key: the section that has it, unless one of this section is nearly the same."""
    section = next((name for name, other in KINDS.items() if other is kind), "")
    known = [*(spec.name for spec in fields(kind)), *unsupported.KEYS.get(section, ()), *lenient.RULES.get(section, ())]
    owners = [name for name, other in KINDS.items() if any(spec.name == key for spec in fields(other))]
    if owners and not nearest(key, known, 0.9):
        return f"it belongs in {' or '.join(f'[{name}]' if name in SINGLE else f'[{name}.NAME]' for name in owners)}"
    return nearest(key, known)


_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "dataclass_type": "a table",
}


def _at(table: Any, loc: tuple[str | int, ...]) -> Any:
    """The value that a validation error is about."""
    for step in loc:
        try:
            table = table[step]
        except (KeyError, IndexError, TypeError):
            return table
    return table


def _certificates(raw: _Raw) -> tuple[dict[str, Certificate], dict[str, float]]:
    """(certificates, `Snapshot.ends`). Those without `domains` get the names that they are for: no stage has to look into one then."""
    tables = raw.tables.get("certificates", {})
    for name in [name for name, table in tables.items() if isinstance(table, dict) and lenient.has_no_certificate(table)]:
        raw.notes.append(Note(path_of("certificates", name), "without effect: it has neither tls_cert nor tls_key", "leave it out"))
        raw.idle.add(path_of("certificates", name))
        del tables[name]
    found = _items(raw, "certificates", Certificate)
    ends = {}
    for name, written in found.items():
        certificate = found[name] = _decrypted(raw, path_of("certificates", name), written)
        with suppress(ValueError):  # it is no certificate, which the checks say
            leaf = leaf_of(certificate.tls_cert)
            ends[name] = leaf.not_valid_after_utc.timestamp()
            if not certificate.domains and not certificate.is_ca:  # an authority without them makes certificates for any name
                names = names_of(leaf)  # addresses are of use only where a new one is asked for: clients choose by names
                found[name] = replace(certificate, domains=names if certificate.acme else tuple(filter(is_host_name, names)))
    return found, ends


def _decrypted(raw: _Raw, path: str, certificate: Certificate) -> Certificate:
    """Without its pass phrase, for no stage needs one. What is wrong with an encrypted key that has none is told by the checks."""
    if not certificate.tls_key_passphrase:
        return certificate
    if f"{path}.tls_key_passphrase" in raw.unset:
        raw.partial.add(path)
    key = certificate.tls_key
    if not key or path in raw.partial:
        pass  # the checks tell what is wrong with it
    elif not is_encrypted_key(key):
        raw.notes.append(Note(f"{path}.tls_key_passphrase", "without effect: tls_key is not encrypted", "leave it out"))
    else:
        try:
            key = decrypted_key(key, certificate.tls_key_passphrase)
        except BadValue as error:
            raw.tell(Problem(f"{path}.tls_key", error.message, error.hint))
            raw.partial.add(path)
    return replace(certificate, tls_key=key, tls_key_passphrase="")


def _files(raw: _Raw, certificates: Mapping[str, Certificate]) -> dict[str, str]:
    written = ((name, raw.tables["certificates"][name].get("tls_cert")) for name in certificates)
    return {name: path for name, value in written if isinstance(value, str) and (path := path_in(value))}


def _plugins(raw: _Raw, plugin_checker: PluginChecker | None) -> dict[str, Table]:
    found = {}
    upstreams = frozenset(raw.tables.get("upstreams", {})) if raw.gathered.is_whole else None
    for name, table in raw.tables.get("plugins", {}).items():
        path = path_of("plugins", name)
        if not isinstance(table, dict):
            raw.problems.append(no_table(path, table))
            continue
        table = dict(table)
        raw.notes += lenient.take("plugins", path, table)
        problems = check.check_plugin(path, table)
        if not problems and plugin_checker:
            told = plugin_checker(name, table, upstreams)
            problems = [one for one in told if isinstance(one, Problem)]
            raw.notes += [one for one in told if isinstance(one, Note)]
        raw.tell(*problems)
        if not problems:
            found[name] = table
    return found
