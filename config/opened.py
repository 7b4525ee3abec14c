"""The readable texts of storages. One for which a key has to be derived is decrypted when it is used for the first time, if ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pingap.config.encryption import NotDecrypted, decrypt, salt_of
from pingap.config.model import StoredValue
from pingap.config.problems import Note, Problem, path_of

MANY_SALTS = 16
"""Of more it is noted: two to three seconds of each start."""


class OpenedStorages(Mapping[str, str]):
    """Name → text of those that can be used."""

    def __init__(self, usable: Mapping[str, StoredValue], tell: Callable[[Problem], None]) -> None:
        """tell: of each that cannot be decrypted, once; such a one is as if it were not there."""
        self._usable = usable
        self._tell = tell
        self._texts: dict[str, str | None] = {}
        self._salts: set[bytes] = set()
        for name, one in usable.items():
            if one.secret and not salt_of(one.value):
                self._texts[name] = self._opened(name, one)  # that is cheap, and a mistake is then told whoever uses it

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = self._opened(name, self._usable[name])
        text = self._texts[name]
        if text is None:
            raise KeyError(name)
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self._usable)

    def __len__(self) -> int:
        return len(self._usable)

    def notes(self) -> Iterator[Note]:
        """What should be known of those that were used so far."""
        if len(self._salts) > MANY_SALTS:
            message = f"{len(self._salts)} values have a salt each, and each costs a fifth of a second of every start"
            yield Note("storages", message, "`pingap secret rotate` gives them one, under the same pass phrase or another")

    def _opened(self, name: str, one: StoredValue) -> str | None:
        if not one.secret:
            return one.value
        self._salts |= {salt_of(one.value)} - {b""}
        try:
            return decrypt(one.value, one.secret)
        except NotDecrypted as error:
            hint = "`pingap secret encrypt` makes such a text, `pingap secret decrypt` tries one"
            self._tell(Problem(path_of("storages", name, "value"), str(error), hint))
            return None
