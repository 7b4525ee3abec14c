"""What a storage of configuration text is, whatever is behind it: a file, a directory, memory, later etcd.

A storage keeps **documents**: named texts that together are one configuration. It judges nothing: what a text means is
for `config.text`. Whoever changes something says which version he has read, so that nobody overwrites what he has not
seen; a version is made of the texts alone, and is the same for the same texts wherever and whenever they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Protocol

from pingap.config.problems import ConfigRefused

SECTIONS = ("basic", "servers", "locations", "upstreams", "certificates", "plugins", "storages", "stages", "bus")

SINGLE = ("basic", "bus")
"""Sections that are one item; all others have items with names."""

Print = tuple[str, int, int, int, int]
"""Of a file: path, inode, size, times of the last change of its content and of anything of it in nanoseconds.

The second time cannot be set by anybody: an edit that restores size and time (`touch -r`, `rsync -t`) is seen by it.
"""

Fingerprint = tuple[Print, ...]
"""For each file; one that is not there has zeros. Of what is not in files: one entry, whose numbers say what they like."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a configuration."""

    name: str
    """Of a file its path: relative to the directory, or as given for a single file. Its suffix says the language."""
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """All the texts of a storage, as they were at one time."""

    documents: tuple[Document, ...]
    fingerprint: Fingerprint | None = field(default=None, compare=False, repr=False)
    """What `fingerprint` says as long as this is what there is. None: only who asks it before he reads knows that."""

    @property
    def version(self) -> str:
        """The same for the same texts under the same names; fit for an ETag."""
        digest = blake2b(digest_size=16)
        for document in sorted(self.documents, key=lambda document: document.name):
            for part in (document.name.encode("utf-8", "surrogateescape"), document.text.encode()):
                digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


LISTED: Final = 10
"""Earlier texts of a document that a storage tells of; it may keep more."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A text that a document had."""

    until: int
    """Unix time in seconds at which it was replaced or removed."""
    text: str


class NothingThere(ConfigRefused):
    """A storage has no document yet. What is written first is written against the version of `Reading(())`."""


class OutOfReach(ConfigRefused):
    """Nobody answers where the configuration is: nothing is said about it, and another try may find it."""

    def __str__(self) -> str:
        return "\n".join(("the configuration is out of reach:", *(f"  {problem}" for problem in self.problems)))


class NotWritten(Exception):
    """A document could not be written; the old one is still there. The text says why."""


class Outdated(NotWritten):
    """Somebody has changed the configuration since that version was read."""


class Readable(Protocol):
    @property
    def base(self) -> str:
        """The directory at which relative paths of the configuration start; "" for the current one."""

    def read(self) -> Reading:
        """All there is, as it was at one moment.

        Raises ConfigRefused with a problem for each document that cannot be read; NothingThere and OutOfReach are such.
        """


class Storage(Readable, Protocol):
    def fingerprint(self) -> Fingerprint:
        """Cheap to ask again and again: two equal ones mean that nothing needs reading again. It never fails."""

    def follow(self, moved: Callable[[], None]) -> Callable[[], None]:
        """From now on calls `moved`, from whatever thread, soon after something may have changed. What it returns ends that.

        It is a hint that comes early: it may come for nothing, or, where nobody tells the storage anything, never.
        Who must know looks at `fingerprint` besides, now and then.
        """

    @property
    def trouble(self) -> str:
        """Why `fingerprint` does not know at present what there is, for the log; "" while it does."""

    def write(self, document: Document, version: str) -> str:
        """Replaces a document, or adds one, as a whole and durably, if `version` is still that of all documents.

        The new version. Raises NotWritten, Outdated.
        """

    def replace(self, written: Collection[Document], removed: Collection[str], version: str) -> str:
        """As `write`, for several documents in one step: a reader finds all of that or nothing of it, after a crash too.

        removed: names of documents that are there. Those that are in neither stay as they are.
        """

    def home_of(self, section: str, name: str) -> str:
        """The name of the document for an item that is in none yet. Raises NotWritten for a name that none can have."""

    def history(self, document: str) -> tuple[Earlier, ...] | None:
        """Earlier texts of a document, of one that is not there any more too: the newest first, LISTED at most.

        None: this storage keeps none. Raises NotWritten, with the reason, when they cannot be read.
        """


class Proposed:
    """Texts as they would be, for who checks them before they are written. base: as of the storage for which they are meant."""

    def __init__(self, base: str, documents: tuple[Document, ...]) -> None:
        self.base = base
        self._reading = Reading(documents)

    def read(self) -> Reading:
        return self._reading


class ReadOnce:
    """A storage as it was at one moment, for who reads it several times and must find the same."""

    def __init__(self, storage: Readable) -> None:
        self._storage = storage
        self.base = storage.base
        self._reading: Reading | ConfigRefused | None = None

    def read(self) -> Reading:
        if self._reading is None:
            try:
                self._reading = self._storage.read()
            except ConfigRefused as refused:
                self._reading = refused
        if isinstance(self._reading, ConfigRefused):
            raise self._reading
        return self._reading

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of what was read."""
        return self._reading.fingerprint if isinstance(self._reading, Reading) else None


def reading_of(storage: Storage) -> Reading:
    """As `read`, for who is about to write: of a storage that has no document yet, none."""
    try:
        return storage.read()
    except NothingThere:
        return Reading(())


def same_version(reading: Reading, version: str) -> None:
    """Raises Outdated."""
    if reading.version != version:
        raise Outdated("the configuration has changed since it was read: read it again, and make the change in that")


def after(documents: Iterable[Document], written: Iterable[Document], removed: Iterable[str]) -> tuple[Document, ...]:
    """`documents` once some are written and others removed, in the order of their names."""
    by_name = {document.name: document for document in documents} | {document.name: document for document in written}
    for name in removed:
        by_name.pop(name, None)
    return tuple(by_name[name] for name in sorted(by_name))
