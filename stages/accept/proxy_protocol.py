"""The header that a proxy in front of a TCP connection writes before its client's first byte (pure).

Source: haproxy's proxy-protocol.txt, of 2020/03/05: version 1 is section 2.1, version 2 section 2.2.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

LINE: Final = 107
"""Most bytes of a header of version 1, its CRLF included."""

LARGEST: Final = 4096
"""Most bytes of a header of version 2. What senders add to the addresses is a few hundred bytes; the format allows 64 KiB."""

_LINE_BEGINS: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
"""Bytes of the part of version 2 that says how long the rest is."""

_INET, _INET6, _UNIX = 1, 2, 3
_ADDRESSES: Final = {0: 0, _INET: 12, _INET6: 36, _UNIX: 216}
"""Bytes that the addresses take, by family."""
_STREAM: Final = 1
_CRC32C: Final = 3


class BadHeader(ValueError):
    """What came is no such header, and never will be. The connection must be closed (section 2)."""


class Header(NamedTuple):
    """A whole header."""

    ends: tuple[str, int, str, int] | None
    """The client's address and port, and those that it connected to. None when the header does not tell, or speaks of
    the sender's own connection (LOCAL): what the kernel knows is then the truth."""
    size: int
    """Its bytes: what follows is the client's."""


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None when more of it has to come. Raises BadHeader as soon as it is known to be none."""
    if data.startswith(_LINE_BEGINS):
        return _parse_line(data)
    if data.startswith(_SIGNATURE):
        return _parse_binary(data)
    if _LINE_BEGINS.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise BadHeader("the connection does not begin with a header of the PROXY protocol")


# -- version 1 -------------------------------------------------------------------


def _parse_line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LINE)
    if end < 0:
        if len(data) >= LINE:
            raise BadHeader(f"a header of version 1 is longer than {LINE} bytes")
        return None
    fields = data[:end].split(b" ")
    family, size = fields[1], end + 2
    if family == b"UNKNOWN":  # whatever follows it means nothing
        return Header(None, size)
    if family not in (b"TCP4", b"TCP6"):
        raise BadHeader(f"{family!r} is no protocol of a header of version 1")
    if len(fields) != 6:
        raise BadHeader("a header of version 1 has two addresses and two ports, with one space between")
    read = _ipv4 if family == b"TCP4" else _ipv6
    return Header((read(fields[2]), _port(fields[4]), read(fields[3]), _port(fields[5])), size)


def _ipv4(text: bytes) -> str:
    try:
        return str(IPv4Address(text.decode("ascii")))
    except ValueError:
        raise BadHeader(f"{text!r} is no IPv4 address") from None


def _ipv6(text: bytes) -> str:
    try:
        address = IPv6Address(text.decode("ascii"))
    except ValueError:
        raise BadHeader(f"{text!r} is no IPv6 address") from None
    if address.scope_id is not None:
        raise BadHeader(f"{text!r} names an interface")
    return _plain(address)


def _plain(address: IPv6Address) -> str:
    mapped = address.ipv4_mapped  # as a listener for both families sees an IPv4 client
    return str(address if mapped is None else mapped)


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or (text[:1] == b"0" and text != b"0") or int(text) > 65535:
        raise BadHeader(f"{text!r} is no port")
    return int(text)


# -- version 2 -------------------------------------------------------------------


def _parse_binary(data: bytes) -> Header | None:
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise BadHeader(f"version and command are 0x{data[12]:02x}")
    if len(data) > 13 and (data[13] >> 4 not in _ADDRESSES or data[13] & 15 > 2):
        raise BadHeader(f"family and transport are 0x{data[13]:02x}")
    if len(data) < _FIXED:
        return None
    family, transport = data[13] >> 4, data[13] & 15
    size = _FIXED + int.from_bytes(data[14:16])
    if size > LARGEST:
        raise BadHeader(f"a header of {size} bytes is longer than {LARGEST}")
    is_local = data[12] == 0x20
    addresses = _ADDRESSES[family]
    if size < _FIXED + addresses and not is_local:
        raise BadHeader("the header is too short for its addresses")
    if len(data) < size:
        return None
    if is_local:  # what is in it is to be discarded
        return Header(None, size)
    _check_additions(data, _FIXED + addresses, size)
    if transport != _STREAM or family not in (_INET, _INET6):
        return Header(None, size)
    if family == _INET:
        a, b, port, local_port = struct.unpack_from("!4s4sHH", data, _FIXED)
        return Header((str(IPv4Address(a)), port, str(IPv4Address(b)), local_port), size)
    a, b, port, local_port = struct.unpack_from("!16s16sHH", data, _FIXED)
    return Header((_plain(IPv6Address(a)), port, _plain(IPv6Address(b)), local_port), size)


def _check_additions(data: bytes, at: int, size: int) -> None:
    """Walks the type-length-value vectors, of which only the checksum is looked at; one that is there must be right."""
    while at < size:
        end = at + 3
        if end <= size:
            end += int.from_bytes(data[at + 1 : at + 3])
        if end > size:
            raise BadHeader("an addition is longer than the header")
        if data[at] == _CRC32C:
            if end != at + 7:
                raise BadHeader("a checksum has four bytes")
            zeroed = data[: at + 3] + bytes(4) + data[end:size]
            if crc32c(zeroed) != int.from_bytes(data[at + 3 : end]):
                raise BadHeader("the checksum is wrong")
        at = end


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC: Final = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum (RFC 3385, appendix of RFC 4960)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
