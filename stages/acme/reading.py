"""The shelf as the core knows it: read when anybody has changed it, and records of tries put there, one thing after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import CLOCK_BOOTTIME, clock_gettime, monotonic, time
from typing import Final

from pingap.config.problems import ConfigRefused
from pingap.stages.acme.aside import AsideWork
from pingap.stages.acme.currents import is_better
from pingap.stages.acme.held import held_in, held_on
from pingap.stages.acme.records import TryRecord, packed_record, read_record
from pingap.stages.acme.store.base import Shelf, StoreError
from pingap.stages.acme.store.kept import CertificateKeeper
from pingap.stages.acme.tries import LEASE
from pingap.stages.acme.wanted import WantedCertificate
from pingap.stages.acme.words import Event, HeldCertificate, ShelfAway, ShelfRead

SLOW: Final = 30.0
"""Seconds after which a store that does not answer is told of."""

TIDY: Final = 86400.0
"""Seconds between two times that what nobody has asked for in a month is taken away."""

LEAP: Final = 300.0
"""Seconds by which the clock may have been set meanwhile."""


def _nobody(_: str) -> None:
    return None


class ShelfReading:
    """tell: takes ShelfRead and ShelfAway, in whatever thread; warn: lines for the log."""

    def __init__(self, shelf: Shelf, tell: Callable[[Event], None], warn: Callable[[str], None] = _nobody) -> None:
        self._shelf = shelf
        self._tell = tell
        self._warn = warn
        self._owed: dict[str, HeldCertificate] = {}
        """What is to be put back, by id."""
        self._warned = ""
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
        self._has_read = False
        """All of it, once in this life."""
        self._clocks: tuple[float, float] | None = None
        """Of the last time that it was to be tidied: seconds of the machine's life, and Unix time."""

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

    def put_back(self, id: str, held: HeldCertificate) -> None:
        """Puts it there, and tries that until it is."""
        self._work.do(partial(self._owe, id, held))

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
                if self._is_clock_steady():
                    CertificateKeeper(self._shelf).tidy(ids, time())
            self._pay()
            version = self._shelf.version()
            if (version, ids) == self._seen:
                return None
            event = everything_on(self._shelf, ids, as_of)
            self._seen, self._has_read = (version, ids), True
            return event
        except (StoreError, ConfigRefused) as error:
            reason = str(error)
        except Exception as error:  # a reader that dies would let certificates expire unseen
            reason = f"a fault of pingap: {error!r}"
        self._seen = ("", frozenset())  # all of it is read when it is there again
        return ShelfAway(reason, {} if self._has_read else certificates_on(self._shelf))

    def _is_clock_steady(self) -> bool:
        """Since a day ago; not known the first time."""
        before, self._clocks = self._clocks, (clock_gettime(CLOCK_BOOTTIME), time())
        return before is not None and abs((self._clocks[1] - before[1]) - (self._clocks[0] - before[0])) < LEAP

    def _owe(self, id: str, held: HeldCertificate) -> None:
        self._owed[id] = held
        self._pay()

    def _pay(self) -> None:
        for id, held in list(self._owed.items()):
            try:
                if put_back(self._shelf, id, held, time()):
                    del self._owed[id]
                self._warned = ""
            except Exception as error:  # it is tried again, and what is served does not hang on it
                if (reason := str(error) or repr(error)) != self._warned:
                    self._warned = reason
                    self._warn(f"a certificate cannot be put back into the store: {reason}")
                return

    def _keep(self, id: str, record: TryRecord) -> None:
        try:
            self._shelf.put("records", id, packed_record(record))
            return
        except StoreError as error:
            reason = str(error)
        except Exception as error:
            reason = f"a fault of pingap: {error!r}"
        self._seen = ("", frozenset())  # else nothing would tell that it is well again
        self._tell(ShelfAway(reason))


def everything_on(shelf: Shelf, ids: frozenset[str], as_of: int) -> ShelfRead:
    """ids: of which records are looked for. A value that cannot be read is as if it were not there. Raises StoreError."""
    records = shelf.values("records")
    return ShelfRead(_held(shelf.values("certificates")), {id: read_record(records.get(id)) for id in ids}, as_of)


def certificates_on(shelf: Shelf) -> dict[str, HeldCertificate]:
    """Those that can be read, whatever is wrong with the rest."""
    with suppress(StoreError):
        return _held(shelf.values("certificates"))
    return {}


def _held(values: Mapping[str, bytes]) -> dict[str, HeldCertificate]:
    return {id: one for id, value in values.items() if (one := held_in(value)) is not None}


def put_back(shelf: Shelf, id: str, held: HeldCertificate, now: float) -> bool:
    """Unless what is there is as good. False: another instance is at it. Raises StoreError."""
    lease = shelf.lease(id, LEASE)
    if lease is None:
        return False
    try:
        if now < held.not_after and is_better(held, held_on(shelf, id), now):
            CertificateKeeper(shelf).put_issued(id, held.issued, held.not_before)
        return True
    finally:
        lease.release()
