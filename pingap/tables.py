"""Tables in plain text: as wide as there is room, and on a narrow terminal without what matters least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pingap.observability import escape

Item = TypeVar("Item")

CUT: Final = "…"
"""In the place of what a cell has no room for."""


class Column(NamedTuple, Generic[Item]):
    """One column."""

    head: str
    cell: Callable[[Item], str]
    is_number: bool
    rank: int
    """Order in which columns are left out when there is no room, the highest first; those of rank 0 never."""
    usual: str | None = None
    """Where each cell says this the column says nothing: it goes before blanks do."""
    least: int = 0
    """Signs to which a cell may be cut when nothing else helps; 0 is never."""


def fitted(columns: Sequence[Column[Item]], items: Sequence[Item], width: int = 0) -> list[str]:
    """The head and a line for each item, at most `width` columns wide as far as that goes; 0 is any width."""
    shown = list(columns)
    cells = _cells(items, shown)
    if width and _width(cells, 2) > width:
        shown = [column for column in shown if column.usual is None or any(column.cell(item) != column.usual for item in items)]
        cells = _cells(items, shown)
    while width and _width(cells, 1) > width and (rank := max(column.rank for column in shown)):
        shown = [column for column in shown if column.rank != rank]
        cells = _cells(items, shown)
    if width and (over := _width(cells, 1) - width) > 0:
        cells = _cut(cells, shown, over)
    gap = 1 if width and _width(cells, 2) > width else 2
    return _lines(cells, [column.is_number for column in shown], gap)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """A table of any width, two blanks between columns; `right` are the numbers' columns."""
    return _lines([head, *rows], [index in right for index in range(len(head))], 2)


def safe(text: str) -> str:
    """What a server, a container, an authority or a peer has said may be meant for the terminal rather than for who reads it."""
    return text if text.isprintable() else escape.plain(text)


def _lines(cells: Sequence[Sequence[str]], is_number: Sequence[bool], gap: int) -> list[str]:
    widths = _widths(cells)
    found = []
    for row in cells:
        parts = [cell.rjust(size) if number else cell.ljust(size) for cell, size, number in zip(row, widths, is_number, strict=True)]
        found.append((" " * gap).join(parts).rstrip())
    return found


def _cells(items: Sequence[Item], shown: Sequence[Column[Any]]) -> list[list[str]]:
    return [[column.head for column in shown], *([column.cell(item) for column in shown] for item in items)]


def _cut(cells: list[list[str]], shown: Sequence[Column[Any]], over: int) -> list[list[str]]:
    """The widest of the columns that may be cut loses first. over: signs that are too many."""
    widths = _widths(cells)
    for _ in range(over):
        at = max(range(len(shown)), key=lambda index: (widths[index] > shown[index].least > 0, widths[index]))
        if not widths[at] > shown[at].least > 0:
            break
        widths[at] -= 1
    return [[cell if len(cell) <= size else cell[: size - 1] + CUT for cell, size in zip(row, widths, strict=True)] for row in cells]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]


def _width(cells: Sequence[Sequence[str]], gap: int) -> int:
    return sum(_widths(cells)) + gap * (len(cells[0]) - 1)
