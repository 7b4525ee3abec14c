"""A configuration that is in no file: the embedded one of `pingap up`, and what tests say."""

from __future__ import annotations

from pingap.config.storage.base import Document, Fingerprint, NotWritten, Reading, same_version


class MemoryStorage:
    """One document, as long as the process lives. See `Storage`."""

    def __init__(self, text: str, name: str = "pingap.toml") -> None:
        self._document = Document(name, text)
        self._writes = 0
        self.base = ""

    def read(self) -> Reading:
        return Reading((self._document,))

    def changes(self) -> Fingerprint:
        return ((self._document.name, 0, len(self._document.text), self._writes, 0),)

    def write(self, document: Document, version: str) -> str:
        same_version(self.read(), version)
        if document.name != self._document.name:
            raise NotWritten(f"{document.name}: there is one document here, {self._document.name}")
        self._document = document
        self._writes += 1
        return self.read().version

    def home_of(self, section: str, name: str) -> str:
        return self._document.name
