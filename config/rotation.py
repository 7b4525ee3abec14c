"""Values of storages, encrypted anew under another pass phrase, all of a configuration in one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pingap.config import encryption
from pingap.config.problems import BadValue, ConfigRefused, Problem, path_of
from pingap.config.references import References, is_reference, of_environment, of_file
from pingap.config.storage.base import Document, NotWritten, Storage
from pingap.config.text import toml
from pingap.config.text.formats import is_toml, tables_of

_SECTION = "storages"


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of it; paths of storages."""

    done: tuple[str, ...]
    left: tuple[str, ...]
    """Those whose value is not in the configuration but in a file or a variable that it names."""


def rotate(storage: Storage, new: str, reference: str, old: str | None, env: Mapping[str, str]) -> Rotated:
    """Encrypts all that has a `secret` under the pass phrase `new`. Comments and all else stay; there is one write, or none.

    reference: what `secret` says from now on, as `$ENV:NAME`; "" leaves what it says, for who gives the variable or file another
    value afterwards. old: the pass phrase so far; None is what each `secret` says. Raises ConfigRefused with all that stands
    against it, and NotWritten.
    """
    reading = storage.read()
    work = _Work(encryption.new_salt(), new, reference, old, env)
    written = [changed for document in reading.documents if (changed := work.rotated(document)) is not document]
    if work.problems:
        raise ConfigRefused(work.problems)
    if written:
        storage.replace(written, (), reading.version)
    return Rotated(tuple(work.done), tuple(work.left))


class _Work:
    """One rotation, so far."""

    def __init__(self, salt: bytes, new: str, reference: str, old: str | None, env: Mapping[str, str]) -> None:
        self._salt = salt
        self._new = new
        self._reference = reference
        self._old = old
        self._env = env
        self.done: list[str] = []
        self.left: list[str] = []
        self.problems: list[Problem] = []

    def rotated(self, document: Document) -> Document:
        """The document with its storages encrypted anew; itself when there is nothing to do."""
        tables = tables_of(document)
        if isinstance(tables, Problem):
            self.problems.append(tables)
            return document
        items = tables.get(_SECTION)
        text = document.text
        for name, item in self._encrypted(items if isinstance(items, dict) else {}):
            path = path_of(_SECTION, name)
            value = self._value(path, item)
            if value is None:
                continue
            if not is_toml(document):
                raise NotWritten(f"{document.name} is not TOML, and only that can be written")
            try:
                changed = {"value": value} | ({"secret": self._reference} if self._reference else {})
                text = toml.edited(text, _SECTION, name, item | changed)
            except ValueError as error:
                raise NotWritten(f"{path} in {document.name}: {error}") from error
            self.done.append(path)
        return replace(document, text=text) if text != document.text else document

    def _encrypted(self, items: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those with a `secret`."""
        for name, item in items.items():
            if not isinstance(item, dict) or not isinstance(item.get("value"), str) or not isinstance(item.get("secret", ""), str):
                continue  # a mistake of the configuration, and not one of this
            if not item.get("secret"):
                continue
            if is_reference(item["value"]):
                self.left.append(path_of(_SECTION, name))
            else:
                yield name, item

    def _value(self, path: str, item: dict[str, Any]) -> str | None:
        """The new value; None after noting why not."""
        if not self._reference and not is_reference(item["secret"]):
            hint = "name the variable or file of the new pass phrase, so that this can refer to it"
            self.problems.append(Problem(f"{path}.secret", "the pass phrase stands here in clear", hint))
            return None
        try:
            old = self._old if self._old is not None else self._phrase_of(item["secret"])
            return encryption.encrypt(encryption.decrypt(item["value"], old), self._new, self._salt)
        except BadValue as error:
            self.problems.append(Problem(f"{path}.secret", error.message, error.hint))
        except encryption.NotDecrypted as error:
            self.problems.append(Problem(f"{path}.value", str(error)))
        return None

    def _phrase_of(self, secret: str) -> str:
        """What a `secret` stands for. Raises BadValue."""

        def missing(_: Any, why: BadValue) -> None:
            raise why

        found: str = References({"ENV": of_environment(self._env), "FILE": of_file}, missing).fill(secret, ())
        return found
