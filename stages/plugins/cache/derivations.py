"""What hooks make of the bodies of stored answers, kept with these (stages/caching/derived.py has the rules).

A hit that is compressed is compressed once: what the first client gets goes into the store on its way, and others get it from there.
"""

from __future__ import annotations

from collections.abc import Awaitable

from pingap.stages.caching.derived import derived_key, is_made_of
from pingap.stages.caching.entry import StoredAnswer
from pingap.stages.plugins.cache.derived_keeper import DerivedKeeper, DerivedStore, begin
from pingap.stages.plugins.cache.stored_bodies import BodyGone, open_stored
from pingap.stages.plugins.exchange import Transformer
from pingap.stages.plugins.file_body import FileBody, SizedBody


class Derivations:
    """Of one stored answer, that goes whole to one client."""

    __slots__ = ("_store", "_stored")

    def __init__(self, store: DerivedStore, stored: StoredAnswer) -> None:
        self._store = store
        self._stored = stored

    def find(self, name: str) -> bytes | SizedBody | Awaitable[bytes | SizedBody | None] | None:
        """What was made under this name; None when it has to be made."""
        stored = self._store.get(derived_key(self._stored.entry, name))
        if stored is None or isinstance(stored, StoredAnswer):
            return self._body_of(stored)
        return self._found_later(stored)

    async def _found_later(self, waits: Awaitable[StoredAnswer | None]) -> bytes | SizedBody | None:
        body = self._body_of(await waits)
        return body if body is None or isinstance(body, bytes | SizedBody) else await body

    def _body_of(self, stored: StoredAnswer | None) -> bytes | SizedBody | Awaitable[bytes | SizedBody | None] | None:
        if stored is None or not is_made_of(stored.entry, self._stored.entry):
            return None
        body = stored.body
        if isinstance(body, bytes):
            return body
        try:
            opened = open_stored(body, stored.entry.length)
        except BodyGone:
            return None
        return opened if isinstance(opened, FileBody) else _or_none(opened)

    def keeper(self, name: str) -> Transformer | None:
        """Comes behind those that make it, and keeps what comes; None when somebody else does."""
        store, stored = self._store, self._stored
        key = derived_key(stored.entry, name)
        return DerivedKeeper(store, key, stored) if begin(store, key) else None


async def _or_none(opened: Awaitable[FileBody]) -> FileBody | None:
    try:
        return await opened
    except BodyGone:
        return None
