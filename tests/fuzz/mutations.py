"""Bytes changed a little: flipped, put in, taken out, repeated, and parts of one seed within another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

BORDERS = tuple(bytes((octet,)) for octet in (0, 1, 9, 10, 13, 32, 0x7F, 0x80, 0xA0, 0xC2, 0xFE, 0xFF))
WIDE = tuple(value.to_bytes(size, "big") for size in (2, 3, 4, 8) for value in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)))
"""Numbers at the borders of their width, as lengths and stream ids are."""

PLACES = st.integers(0, 1 << 20)


def mutants(seeds: Sequence[bytes], shards: Sequence[bytes] = (), most: int = 4) -> st.SearchStrategy[bytes]:
    """A seed after up to `most` changes. shards: what means something where these bytes are read."""
    pieces = st.sampled_from((*shards, *BORDERS, *WIDE)) | st.binary(min_size=1, max_size=8)
    change = st.one_of(
        st.tuples(st.just("insert"), PLACES, st.just(0), pieces),
        st.tuples(st.just("replace"), PLACES, st.integers(1, 8), pieces),
        st.tuples(st.just("flip"), PLACES, st.integers(0, 7), st.just(b"")),
        st.tuples(st.just("drop"), PLACES, st.integers(1, 40), st.just(b"")),
        st.tuples(st.just("repeat"), PLACES, st.integers(1, 40), st.just(b"")),
        st.tuples(st.just("cut"), PLACES, st.just(0), st.just(b"")),
        st.tuples(st.just("splice"), PLACES, st.integers(0, 40), st.sampled_from(seeds)),
    )
    return st.builds(changed, st.sampled_from(seeds), st.lists(change, max_size=most))


def changed(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for what, place, size, piece in changes:
        at = place % (len(data) + 1)
        match what:
            case "insert":
                data = data[:at] + piece + data[at:]
            case "replace":
                data = data[:at] + piece + data[at + size :]
            case "flip" if at < len(data):
                data = data[:at] + bytes((data[at] ^ 1 << size,)) + data[at + 1 :]
            case "drop":
                data = data[:at] + data[at + size :]
            case "repeat":
                data = data[: at + size] + data[at:]
            case "cut":
                data = data[:at]
            case "splice":
                data = data[:at] + piece[min(size, len(piece)) :]
    return data


cuts = st.lists(PLACES, max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in portions that end at these places."""
    edges = sorted({at % (len(data) + 1) for at in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]
