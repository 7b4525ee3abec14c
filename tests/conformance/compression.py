"""RFC 7541: header compression."""

from __future__ import annotations

import hpack

from pingap.stages.http2.engine import COMPRESSION_ERROR
from tests.conformance.peer import Peer
from tests.conformance.steps import GET, Case, Step, acknowledges, answers, case, dies, fields, get, settings
from tests.http2.wire import END, END_HEADERS, HEADERS, block, frame

H2SPEC = b"\x06h2spec"
HUFFMAN_H2SPEC = b"\x84\x9c\x48\xac\xa4"
USER_AGENT = b"\x0auser-agent"
HUFFMAN_USER_AGENT = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93"
X_TEST = b"\x06x-test"
HUFFMAN_X_TEST = b"\x85\xf2\xb2\x4a\x84\xff"


def with_field(representation: bytes, stream: int = 1) -> bytes:
    """A good request, and at its end a field in this representation."""
    return frame(HEADERS, END | END_HEADERS, stream, block(GET) + representation)


def resized(*sizes: int) -> bytes:
    """A request that begins with table size updates."""
    return frame(HEADERS, END | END_HEADERS, 1, b"".join(integer(0x20, 5, size) for size in sizes) + block(GET))


def integer(mark: int, bits: int, value: int) -> bytes:
    octets = hpack.hpack.encode_integer(value, bits)
    octets[0] |= mark
    return bytes(octets)


def accepted(name: str, representation: bytes, number: int = 0) -> Case:
    return case(name, with_field(representation), answers(1), h2spec=f"generic/5/{number}" if number else "")


def refused(name: str, representation: bytes, h2spec: str = "") -> Case:
    return case(name, with_field(representation), dies(COMPRESSION_ERROR), h2spec=h2spec)


def table_after(size: int) -> Step:
    """The server's blocks keep to a table of this size; hpack's decoder raises when they do not."""

    def check(peer: Peer) -> None:
        peer.decoder.max_allowed_table_size = size
        for stream in (1, 3, 5):
            peer.send(get(stream))
            assert peer.answer(stream).status == 200
        assert peer.decoder.header_table_size <= size, "the table is larger than allowed"

    return check


FULL = b"".join(b"\x40" + integer(0, 7, 6) + b"x-%04d" % n + integer(0, 7, 100) + b"y" * 100 for n in range(40))
"""40 entries of 138 bytes: 29 of them fit into 4096."""

CASES: list[Case] = [
    # -- 2.3 ------------------------------------------------------------------
    refused("7541 2.3.3 an index beyond both tables is a decoding error", b"\xc6", "hpack/2.3.3/1"),
    refused("7541 2.3.3 the first index of an empty dynamic table is one too", b"\xbe"),
    accepted("7541 2.3.2 the newest entry has the lowest index", b"\x40\1a\1b\x40\1c\1d\xbe\xbf"),
    refused("7541 2.3.3 a literal's name index beyond both tables is a decoding error", b"\x7f\x20\1b"),
    # -- 3, 4 -----------------------------------------------------------------
    case("7541 2.2 the dynamic table lasts from block to block", with_field(b"\x40\1a\1b") + with_field(b"\xbe", 3), answers(3)),
    case("7541 4.1 entries that do not fit are evicted", with_field(FULL) + with_field(integer(0x80, 7, 62 + 28), 3), answers(3)),
    case("7541 4.3 and their indexes are gone", with_field(FULL) + with_field(integer(0x80, 7, 62 + 29), 3), dies(COMPRESSION_ERROR)),
    case(
        "7541 4.4 an entry larger than the table empties it",
        with_field(b"\x40\1a\1b") + with_field(b"\x40\1c" + integer(0, 7, 4096) + b"y" * 4096, 3) + with_field(b"\xbe", 5),
        dies(COMPRESSION_ERROR),
    ),
    refused("7541 4.2 a size update at the end of a block is a decoding error", b"\x21", "hpack/4.2/1"),
    refused("7541 4.2 so is one between two fields", b"\x21" + b"\x40\1a\1b"),
    case("7541 4.2 our blocks keep to a smaller table of the client's", settings((1, 256)), acknowledges, table_after(256)),
    case("7541 4.2 and to none", settings((1, 0)), acknowledges, table_after(0)),
    case("7541 4.2 and to the smaller of two", settings((1, 0)) + settings((1, 4096)), acknowledges, acknowledges, table_after(4096)),
    # -- 5 --------------------------------------------------------------------
    refused("7541 5.1 an integer too large for anything is a decoding error", b"\x7f" + b"\xff" * 12 + b"\x01"),
    refused("7541 5.1 so is one that does not end", b"\x7f\xff\xff"),
    accepted("7541 5.1 an integer may begin with zeros", b"\x00\x01a\x7f\x80\x80\x00" + b"b" * 127),
    refused("7541 5.2 a string longer than the block is a decoding error", b"\x00\x01a\x7e" + b"b" * 9),
    refused(
        "7541 5.2 Huffman padding of more than 7 bits is a decoding error",
        b"\x00" + HUFFMAN_X_TEST + b"\x84\x49\x50\x9f\xff",
        "hpack/5.2/1",
    ),
    refused("7541 5.2 Huffman padding of zeros is a decoding error", b"\x00" + HUFFMAN_X_TEST + b"\x83\x49\x50\x90", "hpack/5.2/2"),
    refused(
        "7541 5.2 the EOS symbol in a string is a decoding error",
        b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfd\x25\x42\x7f",
        "hpack/5.2/3",
    ),
    # -- 6 --------------------------------------------------------------------
    case(
        "7541 6.1 an indexed field is accepted",
        with_field(b"\x40\x06x-test\x06h2spec") + with_field(b"\xbe", 3),
        answers(3),
        h2spec="generic/5/1",
    ),
    accepted("7541 6.2.1 a literal with indexing, its name Huffman-coded, is accepted", b"\x40" + HUFFMAN_USER_AGENT + HUFFMAN_H2SPEC, 2),
    accepted("7541 6.2.1 a literal with indexing, its name a string, is accepted", b"\x40" + USER_AGENT + H2SPEC, 3),
    accepted("7541 6.2.1 a literal with indexing and a new name is accepted", b"\x40" + X_TEST + H2SPEC, 4),
    accepted("7541 6.2.1 a literal with indexing and a new name, Huffman-coded, is accepted", b"\x40" + HUFFMAN_X_TEST + HUFFMAN_H2SPEC, 5),
    accepted("7541 6.2.1 a literal with indexing and an indexed name is accepted", b"\x7a" + H2SPEC),
    accepted("7541 6.2.2 a literal without indexing, its name a string, is accepted", b"\x00" + USER_AGENT + H2SPEC, 6),
    accepted(
        "7541 6.2.2 a literal without indexing, its name Huffman-coded, is accepted", b"\x00" + HUFFMAN_USER_AGENT + HUFFMAN_H2SPEC, 7
    ),
    accepted("7541 6.2.2 a literal without indexing and a new name is accepted", b"\x00" + X_TEST + H2SPEC, 8),
    accepted(
        "7541 6.2.2 a literal without indexing and a new name, Huffman-coded, is accepted", b"\x00" + HUFFMAN_X_TEST + HUFFMAN_H2SPEC, 9
    ),
    accepted("7541 6.2.2 a literal without indexing and an indexed name is accepted", b"\x0f\x2b" + H2SPEC),
    accepted("7541 6.2.3 a literal never indexed, its name a string, is accepted", b"\x10" + USER_AGENT + H2SPEC, 10),
    accepted("7541 6.2.3 a literal never indexed, its name Huffman-coded, is accepted", b"\x10" + HUFFMAN_USER_AGENT + HUFFMAN_H2SPEC, 11),
    accepted("7541 6.2.3 a literal never indexed and with a new name is accepted", b"\x10" + X_TEST + H2SPEC, 12),
    accepted(
        "7541 6.2.3 a literal never indexed and with a new name, Huffman-coded, is accepted", b"\x10" + HUFFMAN_X_TEST + HUFFMAN_H2SPEC, 13
    ),
    accepted("7541 6.2.3 a literal never indexed and with an indexed name is accepted", b"\x1f\x2b" + H2SPEC),
    case("7541 6.3 a size update is accepted", resized(128), answers(1), h2spec="generic/5/14"),
    case("7541 6.3 two size updates are accepted", resized(128, 4096), answers(1), h2spec="generic/5/15"),
    case(
        "7541 6.3 an update to 0 empties the table",
        with_field(b"\x40\1a\1b") + fields(3, GET, END) + frame(HEADERS, END | END_HEADERS, 5, b"\x20\x3f\xe1\x1f" + block(GET) + b"\xbe"),
        dies(COMPRESSION_ERROR),
    ),
    refused("7541 6.1 index 0 is a decoding error", b"\x80", "hpack/6.1/1"),
    case(
        "7541 6.3 an update above SETTINGS_HEADER_TABLE_SIZE is a decoding error",
        resized(4097),
        dies(COMPRESSION_ERROR),
        h2spec="hpack/6.3/1",
    ),
]
