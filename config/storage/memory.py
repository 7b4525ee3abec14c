"""A configuration that is in no file: the embedded one of `pingap up`, and what tests say."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pingap.config.storage.base import Document, Fingerprint, NotWritten, Reading, same_version


class MemoryStorage:
    """One document, as long as the process lives. See `Storage`."""

    def __init__(self, text: str, name: str = "pingap.toml") -> None:
        self._document = Document(name, text)
        self._writes = 0
        self.base = ""
        self.trouble = ""

    def read(self) -> Reading:
        return Reading((self._document,))

    def fingerprint(self) -> Fingerprint:
        return ((self._document.name, 0, len(self._document.text), self._writes, 0),)

    def follow(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Nobody but who holds this object can change it."""
        return lambda: None

    def write(self, document: Document, version: str) -> str:
        return self.replace((document,), (), version)

    def replace(self, written: Collection[Document], removed: Collection[str], version: str) -> str:
        same_version(self.read(), version)
        for name in (*removed, *(document.name for document in written)):
            if name in removed or name != self._document.name:
                raise NotWritten(f"{name}: there is one document here, {self._document.name}")
        for document in written:
            self._document = document
            self._writes += 1
        return self.read().version

    def home_of(self, section: str, name: str) -> str:
        return self._document.name

    def history(self, document: str) -> None:
        return None
