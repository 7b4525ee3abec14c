"""Values of ASN.1 in DER (X.690): which kind each is, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Value(NamedTuple):
    """One value."""

    tag: int
    """The first byte: class, whether other values are in it, and number."""
    content: bytes
    whole: bytes
    """With tag and length."""

    def parts(self) -> list[Value]:
        """The values in it, one after the other. Raises ValueError."""
        return list(values(self.content))


def value(data: bytes) -> Value:
    """The first value in `data`. Raises ValueError when it is not whole, or not in DER."""
    found = next(values(data), None)
    if found is None:
        raise ValueError("no value")
    return found


def values(data: bytes) -> Iterator[Value]:
    """Raises ValueError at the first that is not whole. Tags of several bytes, which certificates have not, are refused."""
    at, size = 0, len(data)
    while at < size:
        if size < at + 2 or data[at] & 0x1F == 0x1F:
            raise ValueError("no value in DER")
        length, start = data[at + 1], at + 2
        if length >= 0x80:
            width = length & 0x7F
            if not 1 <= width <= 4 or size < start + width:
                raise ValueError("no length in DER")
            length, start = int.from_bytes(data[start : start + width], "big"), start + width
        end = start + length
        if end > size:
            raise ValueError("a value that is cut off")
        yield Value(data[at], data[start:end], data[at:end])
        at = end


def oid(content: bytes) -> str:
    """The content of an OBJECT IDENTIFIER with its numbers and dots. Raises ValueError."""
    numbers: list[int] = []
    number, is_open = 0, False
    for byte in content:
        number, is_open = number << 7 | byte & 0x7F, byte >= 0x80
        if not is_open:
            numbers.append(number)
            number = 0
    if is_open or not numbers:
        raise ValueError("no object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
