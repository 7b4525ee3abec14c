"""Texts that stand for others: `$ENV:NAME`, `$FILE:PATH` and `$SECRET:NAME`, each as a whole text.

Of the one key that is a URL with credentials in its query (`WITHIN`) parts may be such, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from pingap.config.home import expanded
from pingap.config.problems import BadValue, nearest, path_of
from pingap.config.storage.regular import content_of

LONGEST_FILE: Final = 1024 * 1024
"""Bytes of a file that a text may stand for."""

KeyPlace = tuple[str | int, ...]
"""Keys and indices from the section down, for `path_of`."""

_REFERENCE: Final = re.compile(r"\$(?:(ENV):([A-Za-z_][A-Za-z0-9_]*)|(FILE|SECRET):(.+))")

_WITHIN: Final = re.compile(r"\$(ENV|SECRET):([A-Za-z_][A-Za-z0-9_]*)")

WITHIN: Final = "dns_service_url"
"""The key in whose text references may stand in between; what they stand for is percent-encoded there (RFC 3986 section 2.1)."""


def is_reference(text: str) -> bool:
    """Whether it stands for another text, if there is one."""
    return text.startswith("$") and _REFERENCE.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Whether it stands for an environment variable."""
    return text.startswith("$ENV:") and is_reference(text)


def files_named(table: Any) -> list[str]:
    """The files that the texts of a table, as written, stand for."""
    texts = table.values() if isinstance(table, dict) else ()
    found = (_REFERENCE.fullmatch(text) for text in texts if isinstance(text, str))
    paths = [match[4] for match in found if match and match[3] == "FILE"]
    return [expanded(path) for path in paths if "\0" not in path]


class References:
    """Replaces them in tables. It asks for what they stand for, and tells what came of it.

    lookups: kind (ENV, FILE, SECRET) → what a name stands for; raises BadValue. A kind that is not in it is text like any other.
    """

    def __init__(
        self,
        lookups: Mapping[str, Callable[[str], str]],
        unset: Callable[[KeyPlace, BadValue], None],
        used: Callable[[KeyPlace, str, str], None] = lambda place, kind, text: None,
    ) -> None:
        """unset: is told of each that stands for nothing, which then stays as it is. used: place, kind and text of each other."""
        self._lookups = lookups
        self._unset = unset
        self._used = used

    def fill(self, value: Any, place: KeyPlace) -> Any:
        """`value` with what its texts stand for."""
        if isinstance(value, dict):
            return {key: self.fill(entry, (*place, key)) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.fill(entry, (*place, index)) for index, entry in enumerate(value)]
        if not isinstance(value, str) or "$" not in value:
            return value
        if match := _REFERENCE.fullmatch(value):
            return self._looked_up(match[1] or match[3], match[2] or match[4], value, place)
        if place and place[-1] == WITHIN:
            return _WITHIN.sub(lambda part: _encoded(part[0], self._looked_up(part[1], part[2], part[0], place)), value)
        return value

    def _looked_up(self, kind: str, name: str, written: str, place: KeyPlace) -> str:
        if kind not in self._lookups:
            return written
        try:
            text = self._lookups[kind](name)
        except BadValue as error:
            self._unset(place, error)
            return written
        self._used(place, kind, text)
        return text


def _encoded(written: str, text: str) -> str:
    return written if text == written else quote(text, safe="")


def of_environment(env: Mapping[str, str]) -> Callable[[str], str]:
    """The lookup of `$ENV:NAME`."""

    def lookup(name: str) -> str:
        if name not in env:
            raise BadValue(f"the environment variable {name} is not set")
        try:
            env[name].encode()
        except UnicodeEncodeError:  # what os.environ makes of other bytes can be in no text, and travel nowhere
            raise BadValue(f"the environment variable {name} is not UTF-8") from None
        return env[name]

    return lookup


def of_file(path: str) -> str:
    """The lookup of `$FILE:PATH`: the text of a file without a line end at its end."""
    full = expanded(path)
    if not os.path.isabs(full):
        raise BadValue(f"{path} is no absolute path", "a path begins with / or ~")
    try:
        content = content_of(full, LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise BadValue(f"{path} cannot be read: {(reason or str(error)).lower()}") from None
    if len(content) > LONGEST_FILE:
        raise BadValue(f"{path} is longer than 1 MiB")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadValue(f"{path} is not UTF-8") from None


def of_storages(values: Mapping[str, str], declared: frozenset[str]) -> Callable[[str], str]:
    """The lookup of `$SECRET:NAME`. values: of usable storages; declared: the names of all, of which more is told elsewhere."""

    def lookup(name: str) -> str:
        if name in values:
            return values[name]
        if name in declared:
            raise BadValue("")
        raise BadValue(f"storage {name!r} does not exist", nearest(name, declared) or f"add [{path_of('storages', name)}]")

    return lookup


def of_no_storage(name: str) -> str:
    """The lookup of `$SECRET:NAME` for a key that must be known before any storage is opened. Raises BadValue."""
    raise BadValue("cannot come out of a storage: it is needed before any is opened", "write it as it is, or as $ENV:NAME")
