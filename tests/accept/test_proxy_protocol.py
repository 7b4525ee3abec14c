"""The header of the PROXY protocol: what is read, what must be refused, and that no split of the bytes changes it."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.accept.proxy_protocol import LARGEST, BadHeader, Header, crc32c, parse

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = bytes([192, 0, 2, 1, 203, 0, 113, 9]) + struct.pack("!HH", 56324, 443)
ENDS = ("192.0.2.1", 56324, "203.0.113.9", 443)


def v2(payload: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(payload)) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def with_checksum(before: bytes = b"", after: bytes = b"") -> bytes:
    header = v2(V4 + before + tlv(3, bytes(4)) + after)
    at = 16 + len(V4) + len(before) + 3
    return header[:at] + struct.pack("!I", crc32c(header)) + header[at + 4 :]


ALL_ONES = "ffff:" * 7 + "ffff"
IP6 = "2001:db8::1", 56324, "2001:db8::2", 443
PACKED6 = ipaddress.ip_address(IP6[0]).packed + ipaddress.ip_address(IP6[2]).packed + struct.pack("!HH", 56324, 443)

GOOD = {
    "tcp4": (b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n", ENDS),
    "tcp6": (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 56324 443\r\n", IP6),
    "the longest tcp6": (b"PROXY TCP6 %b %b 65535 65535\r\n" % (ALL_ONES.encode(), ALL_ONES.encode()), (ALL_ONES, 65535) * 2),
    "ports 0": (b"PROXY TCP4 192.0.2.1 203.0.113.9 0 0\r\n", ("192.0.2.1", 0, "203.0.113.9", 0)),
    "ipv4 in ipv6": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:203.0.113.9 56324 443\r\n", ENDS),
    "unknown": (b"PROXY UNKNOWN\r\n", None),
    "the longest unknown": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
    "v2 tcp4": (v2(V4), ENDS),
    "v2 tcp6": (v2(PACKED6, family=0x21), IP6),
    "v2 with additions": (v2(V4 + tlv(2, b"www.example.com") + tlv(4, b"") + tlv(0xEA, b"vpce")), ENDS),
    "v2 with a checksum": (with_checksum(), ENDS),
    "v2 with a checksum between others": (with_checksum(tlv(1, b"h2"), tlv(4, bytes(9))), ENDS),
    "v2 local": (v2(b"", 0x20, 0), None),
    "v2 local with addresses": (v2(V4, 0x20), None),
    "v2 unspecified": (v2(b"", family=0), None),
    "v2 unix": (v2(bytes(216), family=0x31), None),
    "v2 udp": (v2(V4, family=0x12), None),
    "v2 of a family without transport": (v2(V4, family=0x10), None),
}

BAD = {
    "http": b"GET / HTTP/1.1\r\n",
    "tls": b"\x16\x03\x01",
    "lower case": b"proxy TCP4 192.0.2.1 203.0.113.9 56324 443\r\n",
    "another family": b"PROXY UDP4 192.0.2.1 203.0.113.9 56324 443\r\n",
    "no family": b"PROXY \r\n",
    "two spaces": b"PROXY  TCP4 192.0.2.1 203.0.113.9 56324 443\r\n",
    "too few fields": b"PROXY TCP4 192.0.2.1 203.0.113.9 443\r\n",
    "too many fields": b"PROXY TCP4 192.0.2.1 203.0.113.9 1 2 3\r\n",
    "a space at the end": b"PROXY TCP4 192.0.2.1 203.0.113.9 1 2 \r\n",
    "an ipv6 address as tcp4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "an ipv4 address as tcp6": b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
    "an octet with a leading zero": b"PROXY TCP4 192.0.02.1 203.0.113.9 1 2\r\n",
    "an interface": b"PROXY TCP6 fe80::1%eth0 fe80::1 1 2\r\n",
    "a port too large": b"PROXY TCP4 192.0.2.1 203.0.113.9 1 65536\r\n",
    "a port with a leading zero": b"PROXY TCP4 192.0.2.1 203.0.113.9 1 080\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.1 203.0.113.9 1 +80\r\n",
    "no port": b"PROXY TCP4 192.0.2.1 203.0.113.9  443\r\n",
    "digits that are not ASCII": "PROXY TCP4 192.0.2.1 203.0.113.9 1 ٣\r\n".encode(),
    "a line of 108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "a line that does not end": b"PROXY TCP4 " + b"1" * 200,
    "a bare LF": b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\nGET / HTTP/1.1\r\n",
    "version 3": v2(V4, 0x31),
    "a command of 2": v2(V4, 0x22),
    "a family of 4": v2(V4, family=0x41),
    "a transport of 3": v2(V4, family=0x13),
    "too short for its addresses": v2(V4[:11]),
    "too short for ipv6": v2(V4, family=0x21),
    "too long": v2(bytes(LARGEST - 15), 0x20),
    "half an addition": v2(V4 + b"\x04\x00"),
    "an addition past the end": v2(V4 + b"\x04\x00\x05abcd"),
    "a wrong checksum": with_checksum()[:-1] + bytes([with_checksum()[-1] ^ 1]),
    "a checksum of three bytes": v2(V4 + tlv(3, b"abc")),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_whole_and_byte_by_byte(name: str) -> None:
    data, ends = GOOD[name]
    assert parse(data) == Header(ends, len(data))
    assert parse(data + b"GET / HTTP/1.1\r\n\r\n") == Header(ends, len(data)), "what follows is the client's"
    for size in range(len(data)):
        assert parse(data[:size]) is None, size


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_and_never_waits_longer_than_a_header_may_be(name: str) -> None:
    data = BAD[name]
    with pytest.raises(BadHeader):
        parse(data)
    refused = next(size for size in range(1, len(data) + 1) if is_refused(data[:size]))
    for size in range(refused, len(data) + 1):
        assert is_refused(data[:size]), "a refusal is final"


def is_refused(data: bytes) -> bool:
    try:
        parse(data)
    except BadHeader:
        return True
    return False


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


addresses = st.one_of(st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)))
ports = st.integers(0, 65535)
additions = st.lists(st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=40)), max_size=5)


@given(addresses, ports, ports, additions, st.binary(max_size=60))
def test_both_versions_say_the_same(
    pair: tuple[ipaddress.IPv4Address, ...], port: int, other: int, more: list[tuple[int, bytes]], rest: bytes
) -> None:
    source, target = pair
    line = f"PROXY TCP{source.version} {source} {target} {port} {other}\r\n".encode()
    payload = source.packed + target.packed + struct.pack("!HH", port, other) + b"".join(tlv(*one) for one in more)
    binary = v2(payload, family=0x11 if source.version == 4 else 0x21)
    one, two = parse(line + rest), parse(binary + rest)
    assert one is not None and two is not None
    assert one.ends == two.ends
    assert (one.size, two.size) == (len(line), len(binary))


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00", v2(V4)[:15]]), st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail_otherwise(prefix: bytes, noise: bytes) -> None:
    data = prefix + noise
    try:
        header = parse(data)
    except BadHeader:
        return
    if header is None:
        assert len(data) < LARGEST
    else:
        assert 0 < header.size <= len(data)
