"""Header compression (RFC 7541) for the h2 engine: hpack's decoder with a memory, and an encoder of our own.

A header block that leaves the dynamic table as it was means the same as long as
the table stays as it is; then a block that comes again is one look-up. The
memories belong to one connection, so no peer learns anything of another's fields.

The encoder fills the dynamic table once and then leaves it: indexes stop moving,
so what a field becomes is a look-up too. Literals are not Huffman-coded: in Python
that costs more than the bytes.
"""

from __future__ import annotations

from typing import Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from pingap.stages.http2.engine import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Fields, Http2Error

_BLOCKS: Final = 64
_LONGEST_BLOCK: Final = 512
_MOST_FIELDS: Final = 64
"""Of a block that is remembered; each of its bytes may stand for a long field of the table."""
_OURS: Final = 4096
"""Bytes of dynamic table that we use at most, whatever the peer offers."""

VOLATILE: Final = frozenset(
    (b":path", b"content-length", b"date", b"etag", b"last-modified", b"age", b"location", b"if-none-match", b"if-modified-since")
    + (b"x-request-id", b"traceparent", b"range", b"content-range", b"expires", b"cf-ray", b"x-trace-id", b"sec-websocket-key")
)
"""Fields whose next value is another one: not worth room in the table."""

NEVER_INDEXED: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))
"""RFC 7541 section 7.1.3."""

_STATIC: Final = {(name, value): index for index, (name, value) in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES: Final = {name: index for index, (name, _) in reversed(tuple(enumerate(HeaderTable.STATIC_TABLE, 1)))}


class BlockDecoder:
    """Header blocks of one connection, in their order, to field lists."""

    __slots__ = ("_decoder", "_known", "_table")

    def __init__(self, header_list: int) -> None:
        self._decoder = Decoder()
        self._decoder.max_header_list_size = header_list
        self._table = self._decoder.header_table
        self._known: dict[bytes, Fields] = {}

    def decode(self, block: bytes) -> Fields:
        """Raises Http2Error: a block that cannot be decoded, or is cut off, leaves the tables of the two ends apart."""
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._table.dynamic_entries
        newest, count, size = entries[0] if entries else None, len(entries), self._table.maxsize
        try:
            fields = tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Http2Error(ENHANCE_YOUR_CALM, "header list too large") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise Http2Error(COMPRESSION_ERROR, f"header block: {error}") from error
        entries = self._table.dynamic_entries
        if len(entries) != count or (entries[0] if entries else None) is not newest or self._table.maxsize != size:
            self._known.clear()
        elif len(block) <= _LONGEST_BLOCK and len(fields) <= _MOST_FIELDS:
            if len(self._known) >= _BLOCKS:
                self._known.clear()
            self._known[block] = fields
        return fields


class BlockEncoder:
    """Field lists to header blocks of one connection."""

    __slots__ = ("_added", "_codes", "_resize", "_room")

    def __init__(self) -> None:
        self._codes: dict[tuple[bytes, bytes], bytes] = {}
        self._added: list[tuple[bytes, bytes]] = []
        self._room = _OURS
        self._resize = b""

    def resize(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE: we start anew with an empty table (RFC 7541 section 4.2)."""
        size = min(size, _OURS)
        self._added.clear()
        self._codes.clear()
        self._room = size
        self._resize = b"\x20" + _integer(0x20, 5, size)  # the smallest size first, so that the peer's table is empty

    def encode(self, fields: Fields) -> bytes:
        try:
            codes = self._codes
            block = b"".join([codes[field] for field in fields])
        except KeyError:
            block = b"".join([self._codes.get(field) or self._encode(field) for field in fields])
        if self._resize:
            block = self._resize + block
            self._resize = b""
        return block

    def _encode(self, field: tuple[bytes, bytes]) -> bytes:
        index = _STATIC.get(field)
        if index is not None:
            code = self._codes[field] = _integer(0x80, 7, index)
            return code
        name, value = field
        if name in NEVER_INDEXED:
            return self._literal(0x10, 4, name, value)
        size = len(name) + len(value) + 32
        if name in VOLATILE or size > self._room:
            return self._literal(0x00, 4, name, value)
        literal = self._literal(0x40, 6, name, value)
        self._room -= size
        self._added.append(field)
        # What was added before has moved by one.
        count = len(self._added)
        for place, added in enumerate(self._added):
            self._codes[added] = _integer(0x80, 7, 61 + count - place)
        return literal

    def _literal(self, mark: int, bits: int, name: bytes, value: bytes) -> bytes:
        index = _STATIC_NAMES.get(name)
        if index is not None:
            return _integer(mark, bits, index) + _integer(0, 7, len(value)) + value
        return bytes((mark,)) + _integer(0, 7, len(name)) + name + _integer(0, 7, len(value)) + value


def _integer(mark: int, bits: int, value: int) -> bytes:
    """RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((mark | value,))
    octets = bytearray((mark | most,))
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)
