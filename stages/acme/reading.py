"""The shelf as the core knows it: read when anybody has changed it, and records of tries put there, one thing after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic, time
from typing import Final

from pingap.config.problems import ConfigRefused
from pingap.stages.acme.aside import AsideWork
from pingap.stages.acme.records import TryRecord, packed_record, read_record
from pingap.stages.acme.store.base import Shelf, StoreError
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.tries import held_of
from pingap.stages.acme.wanted import WantedCertificate
from pingap.stages.acme.words import Event, ShelfAway, ShelfRead

SLOW: Final = 30.0
"""Seconds after which a store that does not answer is told of."""

TIDY: Final = 86400.0
"""Seconds between two times that what nobody has asked for in a month is taken away."""


class ShelfReading:
    """tell: takes ShelfRead and ShelfAway, in whatever thread."""

    def __init__(self, shelf: Shelf, tell: Callable[[Event], None]) -> None:
        self._shelf = shelf
        self._tell = tell
        self._work = AsideWork("acme shelf")
        self._lock = threading.Lock()
        self._next: tuple[Sequence[WantedCertificate], int] | None = None
        """What is to be read as soon as the reading that is under way is over."""
        self._since = 0.0
        """Monotonic seconds since which an answer is waited for; 0 while none is."""
        self._is_told = False
        self._seen = ("", frozenset[str]())
        """Version that was read, and of which ids."""
        self._tidy_at = monotonic() + TIDY / 24

    def read(self, wanted: Sequence[WantedCertificate], as_of: int) -> None:
        """What is there, unless it is what was there. as_of: `AcmeCore.gains`."""
        with self._lock:
            since, self._next = self._since, (wanted, as_of)
            self._since = since or monotonic()
        if not since:
            self._work.do(self._read)
        elif monotonic() - since > SLOW and not self._is_told:
            self._is_told = True
            self._tell(ShelfAway(f"it has not answered for {SLOW:g} s"))

    def keep(self, id: str, record: TryRecord) -> None:
        """Puts it there, after those before it."""
        self._work.do(partial(self._keep, id, record))

    def stop(self) -> None:
        """Begins nothing any more."""
        self._work.stop()

    # -- in the thread ------------------------------------------------------------

    def _read(self) -> None:
        while True:
            with self._lock:
                asked, self._next = self._next, None
                self._since = monotonic() if asked is not None else 0.0
                if asked is None:
                    return
            event = self._found(*asked)
            if self._is_told:
                self._is_told, self._seen = False, ("", frozenset())
                event = event or self._found(*asked)
            if event is not None:
                self._tell(event)

    def _found(self, wanted: Sequence[WantedCertificate], as_of: int) -> Event | None:
        """None: as it was."""
        ids = frozenset(one.id for one in wanted)
        try:
            if monotonic() >= self._tidy_at:
                self._tidy_at = monotonic() + TIDY
                CertificateKeeper(self._shelf).tidy(ids, time())
            version = self._shelf.version()
            if (version, ids) == self._seen:
                return None
            event = everything_on(self._shelf, ids, as_of)
            self._seen = (version, ids)
            return event
        except (StoreError, ConfigRefused) as error:
            reason = str(error)
        except Exception as error:  # a reader that dies would let certificates expire unseen
            reason = f"a fault of pingap: {error!r}"
        self._seen = ("", frozenset())  # all of it is read when it is there again
        return ShelfAway(reason)

    def _keep(self, id: str, record: TryRecord) -> None:
        try:
            self._shelf.put("records", id, packed_record(record))
        except StoreError as error:
            self._tell(ShelfAway(str(error)))
        except Exception as error:
            self._tell(ShelfAway(f"a fault of pingap: {error!r}"))


def everything_on(shelf: Shelf, ids: frozenset[str], as_of: int) -> ShelfRead:
    """ids: of which records are looked for. Raises StoreError."""
    keeper = CertificateKeeper(shelf)
    held = {}
    for id in shelf.names("certificates"):
        issued = keeper.get_issued(id)
        if issued is not None:
            try:
                held[id] = held_of(issued)
            except ValueError:
                continue  # then another is got
    return ShelfRead(held, {id: read_record(shelf.get("records", id)) for id in ids}, as_of)
