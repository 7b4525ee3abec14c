"""The wire form: what is packed comes back, and nothing else is taken for a batch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.envelope import ATTACH, MAX_ATTACHMENTS, VERSION, WireError, attachment_count, pack, unpack

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.binary(max_size=40) | st.integers(ATTACH - 1, ATTACH + 1).map(bytes)
"""Short ones, and such as just do or do not become an attachment."""

ENVELOPES = st.one_of(
    st.tuples(st.integers(0, 255)),
    st.tuples(st.integers(0, 255), PLAIN),
    st.tuples(st.integers(0, 255), st.integers(0, 2**63), PAYLOADS, PLAIN),
)


def through(batch: list[Any]) -> list[Any]:
    head, *attachments = pack(batch)
    assert attachment_count(head) == len(attachments)
    return unpack(head, attachments)


@given(st.lists(ENVELOPES, max_size=8))
def test_every_batch_comes_back_as_it_was(batch: list[Any]) -> None:
    assert through(list(batch)) == batch


@given(st.lists(ENVELOPES, max_size=8))
def test_payloads_of_64_kib_and_more_travel_beside_the_batch_and_no_others(batch: list[Any]) -> None:
    long = [envelope[2] for envelope in batch if len(envelope) > 2 and len(envelope[2]) >= ATTACH]
    assert pack(list(batch))[1:] == long


def test_an_attachment_is_the_very_object_and_no_copy() -> None:
    payload = bytes(ATTACH)
    assert pack([(67, 1, payload)])[1] is payload


def test_a_batch_may_have_as_many_attachments_as_one_byte_counts() -> None:
    batch = [(67, number, bytes(ATTACH), False, "") for number in range(MAX_ATTACHMENTS)]
    assert through(list(batch)) == batch


HEAD = bytes((VERSION, 0))


@pytest.mark.parametrize(
    ("head", "attachments", "why"),
    [
        (b"", [], "version"),
        (b"\x01", [], "version"),
        (bytes((VERSION + 1, 0)) + msgpack.packb([]), [], "protocol version 2"),
        (b"GET / HTTP/1.1\r\n", [], "protocol version 71"),
        (HEAD + b"\xc1", [], "not MessagePack"),
        (HEAD + msgpack.packb([[1]]) + b"more", [], "not MessagePack"),
        (HEAD + b"\x91" * 5000, [], "not MessagePack"),
        (HEAD + b"\xdd\xff\xff\xff\xff", [], "not MessagePack"),
        (HEAD + b"\x81\x80\x01", [], "not MessagePack"),
        (HEAD + b"\xa2\xff\xff", [], "not MessagePack"),
        (HEAD + msgpack.packb({1: 2}), [], "not an array"),
        (HEAD + msgpack.packb(7), [], "not an array"),
        (HEAD + msgpack.packb([[67, 1, None]]), [b"x"], "0 attachments announced, 1 came"),
        (bytes((VERSION, 1)) + msgpack.packb([[67, 1, None]]), [], "1 attachments announced, 0 came"),
        (bytes((VERSION, 1)) + msgpack.packb([[67, 1, None], [67, 2, None]]), [b"x"], "fewer attachments"),
        (bytes((VERSION, 2)) + msgpack.packb([[67, 1, None]]), [b"x", b"y"], "more attachments"),
    ],
)
def test_what_is_no_batch_of_this_protocol_is_refused(head: bytes, attachments: list[bytes], why: str) -> None:
    with pytest.raises(WireError, match=why):
        unpack(head, attachments)


@given(st.binary(max_size=200), st.lists(st.binary(max_size=8), max_size=3))
def test_garbage_is_refused_and_never_anything_worse(garbage: bytes, attachments: list[bytes]) -> None:
    for head in (garbage, bytes((VERSION, len(attachments))) + garbage):
        with suppress(WireError):
            assert isinstance(unpack(head, attachments), list)
