"""Where the secret of session tickets is kept: on the shelf where instances share it, else in the run dir alone.

Whoever has no certificate by ACME finds nothing of it in a directory for certificates, nor in anybody's home. In the run dir it
outlives processes, `pingap restart` and `pingap upgrade`, and is gone after `pingap down`.
"""

from __future__ import annotations

from typing import Final, Protocol

from pingap.stages.acme.run_dir_file import RunDirFile
from pingap.stages.acme.store.base import Shelf, StoreError
from pingap.stages.acme.tickets import NAME

FILE: Final = "tickets.last"
"""In the run dir."""


class TicketPlace(Protocol):
    """Both block, and raise StoreError."""

    def read(self) -> bytes | None: ...

    def write(self, packed: bytes) -> None: ...


class OnShelf:
    """Shared by all who have the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def read(self) -> bytes | None:
        return self._shelf.get("tickets", NAME)

    def write(self, packed: bytes) -> None:
        self._shelf.put("tickets", NAME, packed)


class InRunDir:
    """Of one instance."""

    def __init__(self, instance_dir: str) -> None:
        """As of RunDirFile."""
        self._file = RunDirFile(instance_dir, FILE)

    def read(self) -> bytes | None:
        """What is no secret there is as nothing, and is written again."""
        try:
            found = self._file.read()
        except OSError as error:
            raise StoreError(str(error)) from error
        return found if isinstance(found, bytes) else None

    def write(self, packed: bytes) -> None:
        try:
            self._file.write(packed)
        except OSError as error:
            raise StoreError(str(error)) from error
