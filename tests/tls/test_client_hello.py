"""The name in a ClientHello: as OpenSSL writes one, in pieces, over several records, and garbled."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.client_hello import RECORDS, Hello, HelloReader


def hello_of(*pieces: bytes) -> Hello | None:
    """What is said of the pieces, of which each is read to its end before the next comes."""
    reader = HelloReader()
    found = None
    for piece in pieces:
        reader.data += piece
        found = found or reader.read()
        while found is None and reader.has_more:
            found = reader.read()
    return found


def server_name(data: bytes) -> bytes | None:
    found = hello_of(data)
    return None if found is None else found.name


def hello(name: str | None = "site.example", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, protocols: Sequence[str] = ()) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, False, name).do_handshake()
    return outgoing.read()


def renamed(name: bytes) -> bytes:
    """A ClientHello that asks for any bytes of the length of `site.example`."""
    whole = hello()
    assert len(name) == len(b"site.example") and whole.count(b"site.example") == 1
    return whole.replace(b"site.example", name)


def fragmented(whole: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    message = whole[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(whole[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["site.example", "a.b.c.example", None])
def test_the_name_is_what_openssl_asked_for(name: str | None, newest: ssl.TLSVersion) -> None:
    assert server_name(hello(name, newest)) == (name or "").encode()


def test_it_is_waited_for_byte_by_byte() -> None:
    whole = hello()
    assert [server_name(whole[:length]) for length in range(len(whole))] == [None] * len(whole)
    assert server_name(whole + b"what follows") == b"site.example"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_message_over_several_records_is_one(size: int) -> None:
    assert server_name(fragmented(hello(), size)) == b"site.example"
    assert server_name(fragmented(hello(), size)[:-1]) is None


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_in_pieces_it_is_what_it_is_as_a_whole(size: int) -> None:
    data = fragmented(hello(), 1)
    assert hello_of(*(data[at : at + size] for at in range(0, len(data), size))) == hello_of(data)


def test_no_record_is_read_twice_and_few_at_once() -> None:
    """64 KB in records of one byte took 17 ms, for each segment that came, of the time of all others."""
    reader = HelloReader()
    reader.data += b"".join(b"\x16\3\1\0\1%c" % byte for byte in (1, 0, 0xF0, 0, *([0] * 10_000)))
    begun = time.thread_time()
    turns = 1
    while reader.read() is None and reader.has_more:
        turns += 1
    assert turns == 10_004 // RECORDS + 1
    whole = time.thread_time() - begun
    begun = time.thread_time()
    for _ in range(100):
        reader.data += b"\x16"
        assert reader.read() is None
    assert time.thread_time() - begun < max(whole, 0.01)


@given(st.binary(min_size=12, max_size=12))
def test_any_bytes_may_be_asked_for(name: bytes) -> None:
    assert server_name(renamed(name)) == name


@given(st.binary(max_size=400), st.integers(0, 300))
def test_what_is_no_hello_names_nobody_and_breaks_nothing(noise: bytes, at: int) -> None:
    server_name(noise)
    whole = hello()
    found = server_name(whole[:5] + (whole[5 : 5 + at] + noise + whole[5 + at + len(noise) :])[: len(whole) - 5])
    assert found is None or isinstance(found, bytes)


@pytest.mark.parametrize(
    ("protocols", "is_acme"),
    [
        (["acme-tls/1"], True),
        (["acme-tls/1", "h2"], False),
        (["h2", "acme-tls/1"], False),
        (["http/1.1"], False),
        (["acme-tls/2"], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_offers_nothing_but_the_proof_is_an_authority(protocols: list[str], is_acme: bool, newest: ssl.TLSVersion) -> None:
    found = hello_of(hello(newest=newest, protocols=protocols))
    assert found is not None and (found.name, found.is_acme) == (b"site.example", is_acme)
