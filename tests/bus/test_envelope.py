"""The wire form: what is packed comes back, and nothing else is taken for a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.bus.envelope import ATTACH, MAX_ATTACHMENTS, VERSION, Message, Reader, WireError, attachment_count, pack, unpack
from pingap.bus.messages import Echo
from tests.bus.says import Said, say

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
    st.tuples(st.integers(0, 255), st.integers(0, 2**63), st.binary(), PLAIN),
)
SAID = st.builds(Said, st.integers(0, 2**63), PAYLOADS)


def reader(refused: list[WireError] | None = None) -> Reader:
    return Reader([Said, Echo], list[WireError]().append if refused is None else refused.append)


def through(batch: list[Any], unpack: Callable[..., list[Any]] = unpack) -> list[Any]:
    head, *attachments = pack(batch)
    assert attachment_count(head) == len(attachments)
    return unpack(head, attachments)


@given(st.lists(ENVELOPES, max_size=8))
def test_every_batch_of_plain_envelopes_comes_back_as_it_was(batch: list[Any]) -> None:
    assert through(list(batch)) == batch


@given(st.lists(SAID | st.builds(Echo, st.integers(0, 2**63), st.integers(0, 2**63)), max_size=8))
def test_every_batch_of_messages_comes_back_as_it_was(batch: list[Any]) -> None:
    assert through(list(batch), reader().unpack) == batch
    plain = [(36, each.sender, each.sent) if isinstance(each, Echo) else (64, each.sid, each.payload) for each in batch]
    assert through(list(batch)) == plain, "any reader of MessagePack can have them"


@given(st.lists(SAID | ENVELOPES, max_size=8))
def test_payloads_of_64_kib_and_more_travel_beside_the_batch_and_no_others(batch: list[Any]) -> None:
    long = [each.payload for each in batch if isinstance(each, Said) and len(each.payload) >= ATTACH]
    assert pack(list(batch))[1:] == long


def test_an_attachment_is_the_very_object_and_no_copy() -> None:
    payload = bytes(ATTACH)
    assert pack([say(1, payload)])[1] is payload


def test_a_batch_may_have_as_many_attachments_as_one_byte_counts() -> None:
    batch = [say(number, bytes(ATTACH)) for number in range(MAX_ATTACHMENTS)]
    assert through(list(batch), reader().unpack) == batch


STRANGE: list[Any] = [(99, 1), (64,), (64, "1", b""), (64, 1, "text"), (64, 1, None, 7), (36, 1.5, 2), (), 7, "x", None, (None,), ((),), {}]


@given(st.lists(st.sampled_from(STRANGE) | SAID, max_size=8))
def test_an_envelope_that_is_no_message_of_these_costs_the_others_nothing(batch: list[Any]) -> None:
    refused: list[WireError] = []
    if any(isinstance(each, Said) and len(each.payload) >= ATTACH for each in batch):
        batch = [each for each in batch if isinstance(each, Said)]
    assert through(list(batch), reader(refused).unpack) == [each for each in batch if isinstance(each, Said)]
    assert len(refused) == sum(not isinstance(each, Said) for each in batch)


def test_a_message_of_a_newer_sender_is_read_as_far_as_it_is_known() -> None:
    assert through([(64, 1, b"x", "what was appended later")], reader().unpack) == [say(1, b"x")]


NO_TEXT = b"\xa4\xc2\xa0\xc2\xc0"
"""Of four bytes, which are not UTF-8."""


class Noted(Message, frozen=True, tag=65):
    text: str
    more: Any


@pytest.mark.parametrize("garbage", [b"\x91\x93\x41" + NO_TEXT + b"\x00", b"\x91\x93\x41\xa1x" + b"\x91" * 100_000 + b"\x00"])
def test_what_is_no_text_and_what_has_no_end_is_refused_like_other_garbage(garbage: bytes) -> None:
    with pytest.raises(WireError):
        Reader([Noted], list[WireError]().append).unpack(HEAD + garbage)


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
    with pytest.raises(WireError, match=why):
        reader().unpack(head, attachments)


@given(st.binary(max_size=200), st.lists(st.binary(max_size=8), max_size=3))
def test_garbage_is_refused_and_never_anything_worse(garbage: bytes, attachments: list[bytes]) -> None:
    for head in (garbage, bytes((VERSION, len(attachments))) + garbage):
        with suppress(WireError):
            assert isinstance(unpack(head, attachments), list)
            assert isinstance(reader().unpack(head, attachments), list)
