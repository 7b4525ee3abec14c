"""From a stored answer, or one that is growing, to the reply that a request gets of it (RFC 9111 section 4, RFC 9110 sections 13 and 14).

Of conditions only those are looked at that a cache may answer. If-Match and If-Unmodified-Since are for the origin: a cache ignores them,
but a Range beside them is sent whole where they mean another version than this, so that no client joins parts of two.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from pingap.stages.caching.entry import CacheEntry, StoredAnswer
from pingap.stages.conditions import CLEARLY, Validators, is_unchanged, means_another
from pingap.stages.http_dates import parse_date
from pingap.stages.plugins.as_asked import asked_spans, no_such_part, parts_reply, without_content
from pingap.stages.plugins.cache.derivations import Derivations
from pingap.stages.plugins.cache.derived_keeper import DerivedStore
from pingap.stages.plugins.cache.stored_bodies import open_stored
from pingap.stages.plugins.exchange import Reply
from pingap.stages.plugins.file_body import DividedBody, FileBody, SizedBody, UnreadBody
from pingap.stages.ranges import Spans

FAR: Final = 16 << 20
"""Bytes that a part may be ahead of what has come of a body: who asks for more, as a player that jumps, need not wait for all between."""

_GET: Final = b"GET"
_HEAD: Final = b"HEAD"


def answer(
    stored: StoredAnswer,
    method: bytes,
    headers: bytes,
    now: float,
    lines: bytes,
    store: DerivedStore | None = None,
    held: FileBody | None = None,
) -> Reply | Awaitable[Reply]:
    """The reply to GET or HEAD. headers: the request's block. now: seconds of the store's clock. lines: header lines to add. store: that it
    is in, and where what hooks make of its body can be kept with it. held: its body, if that is open already.

    To await where a file on a disk has to be opened. Raises BodyGone, or what is awaited does, for one that is not there any more.
    """
    entry, body = stored.entry, stored.body
    age = now - entry.born
    block = b"%bage: %d\r\n%b" % (entry.headers, age if age > 0 else 0, lines)
    if headers.find(b"if-") < 0 and headers.find(b"range: ") < 0:  # in a name or in a value: nearly all have neither
        spans = None
    else:
        spans = _spans(entry, entry.length, method, headers)
        if spans is not None:
            if not spans:
                return _nothing_there(entry.length, lines)
        elif _is_unchanged(entry, headers):
            return _unchanged(block)
    if spans is None:
        source = None if store is None else Derivations(store, stored)
        if isinstance(body, bytes):
            return Reply(entry.status, block, body, True, source)
        if method == _HEAD:
            return _reply(entry, block, UnreadBody(entry.length))
        opened = open_stored(body, entry.length) if held is None else held
        return _reply(entry, block, opened, source) if isinstance(opened, FileBody) else _whole_later(entry, block, opened, source)
    if isinstance(body, bytes):
        return _parts(block, body, spans)
    opened = open_stored(body, entry.length) if held is None else held
    return _parts(block, opened, spans) if isinstance(opened, FileBody) else _parts_later(block, opened, spans)


def answer_growing(entry: CacheEntry, body: DividedBody, method: bytes, headers: bytes, now: float, lines: bytes) -> Reply:
    """As `answer`, of a body that is still being fetched; where its length is not known, no parts of it are."""
    age = now - entry.born
    block = b"%bage: %d\r\n%b" % (entry.headers, age if age > 0 else 0, lines)
    spans = _spans(entry, body.length, method, headers) if body.length >= 0 else None
    if spans is not None:
        return _parts(block, body, spans) if spans else _nothing_there(body.length, lines)
    if _is_unchanged(entry, headers):
        return _unchanged(block)
    return _reply(entry, block, UnreadBody(body.length) if method == _HEAD else body)


def is_far(entry: CacheEntry, body: DividedBody, there: int, method: bytes, headers: bytes) -> bool:
    """Whether a request wants parts of a growing body that will not be there soon. there: bytes that are."""
    if body.length <= there + FAR:
        return False
    spans = _spans(entry, body.length, method, headers)
    return spans is not None and len(spans) > 0 and min(spans)[0] > there + FAR


def _reply(entry: CacheEntry, block: bytes, body: SizedBody, source: Derivations | None = None) -> Reply:
    return Reply(entry.status, block, body, True, source)


async def _whole_later(entry: CacheEntry, block: bytes, opened: Awaitable[FileBody], source: Derivations | None) -> Reply:
    return _reply(entry, block, await opened, source)


def _parts(block: bytes, body: bytes | DividedBody, spans: Spans) -> Reply:
    made = parts_reply(block, body, spans)
    return Reply(made.status, made.headers, made.body, True)


async def _parts_later(block: bytes, opened: Awaitable[FileBody], spans: Spans) -> Reply:
    return _parts(block, await opened, spans)


def _nothing_there(size: int, lines: bytes) -> Reply:
    made = no_such_part(size)
    return Reply(made.status, made.headers + lines, made.body, True)


def _unchanged(block: bytes) -> Reply:
    return Reply(304, without_content(block), b"", True)


def _spans(entry: CacheEntry, size: int, method: bytes, headers: bytes) -> Spans | None:
    """What Range asks for; None where it does not count, as where a condition is answered first."""
    if entry.status != 200 or method != _GET or headers.find(b"range: ") < 0:
        return None
    known = validators_of_entry(entry)
    return None if is_unchanged(headers, known) or means_another(headers, known) else asked_spans(headers, known, size)


def _is_unchanged(entry: CacheEntry, headers: bytes) -> bool:
    """Conditions are ignored where the answer is none of success (RFC 9110 section 13.2.1)."""
    return 200 <= entry.status < 300 and headers.find(b"if-") >= 0 and is_unchanged(headers, validators_of_entry(entry))


def validators_of_entry(entry: CacheEntry) -> Validators:
    """Without a Last-Modified its Date is what If-Modified-Since is compared with (RFC 9111 section 4.3.2)."""
    line = entry.last_modified
    modified = parse_date(line) if line else None
    if modified is None:
        return Validators(entry.etag, int(entry.date), b"", False)
    return Validators(entry.etag, modified, line, entry.date - modified >= CLEARLY)
