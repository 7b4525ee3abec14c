"""Writes small databases in MaxMind's format, by its specification (version 2.0): for tests of who reads them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

_SEPARATOR = bytes(16)
_SHORT, _UINT32, _LONG = 5, 6, 9


class Short(int):
    """An unsigned number of 16 bits: readers in C want the types that the specification has."""


class Long(int):
    """One of 64 bits."""


def mmdb(networks: Mapping[str, Any], version: int = 6) -> bytes:
    """network → record. version: 4 or 6, of the addresses; in the latter IPv4 networks are within ::/96."""
    nodes: list[list[Any]] = [[None, None]]
    for text, record in networks.items():
        network = ipaddress.ip_network(text)
        value, length = int(network.network_address), network.prefixlen
        if version == 6 and network.version == 4:
            length += 96
        width = 128 if version == 6 else 32
        at = 0
        for place in range(length - 1):
            bit = value >> (width - 1 - place) & 1
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][value >> (width - length) & 1] = ("record", record)
    data, tree, count = b"", b"", len(nodes)
    for pair in nodes:
        for child in pair:
            number = count
            if isinstance(child, tuple):
                number = count + 16 + len(data)
                data += _field(child[1])
            elif child is not None:
                number = child
            tree += number.to_bytes(3)
    told = {
        "binary_format_major_version": Short(2), "binary_format_minor_version": Short(0), "build_epoch": Long(1_700_000_000),
        "database_type": "Test-Country", "description": {"en": "a test"}, "ip_version": Short(version), "languages": ["en"],
        "node_count": count, "record_size": Short(24),
    }  # fmt: skip
    return tree + _SEPARATOR + data + b"\xab\xcd\xefMaxMind.com" + _field(told)


def _field(value: Any) -> bytes:
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(_field(key) + _field(one) for key, one in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_field, value))
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    kind = _SHORT if isinstance(value, Short) else _LONG if isinstance(value, Long) or value >> 32 else _UINT32
    raw: bytes = value.to_bytes((value.bit_length() + 7) // 8)
    return _control(kind, len(raw)) + raw


def _control(kind: int, size: int) -> bytes:
    first, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return (bytes([kind << 5 | first]) if kind < 8 else bytes([first, kind - 7])) + more
