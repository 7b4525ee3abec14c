"""Tables: what is left out, and what is cut, where there is no room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pingap import tables
from pingap.tables import Column

Pair = tuple[str, str]

COLUMNS: tuple[Column[Pair], ...] = (
    Column("NAME", lambda pair: pair[0], False, 0, least=8),
    Column("STATE", lambda pair: pair[1], False, 0),
    Column("NOTE", lambda pair: "none", False, 1, usual="none"),
    Column("SIZE", lambda pair: str(len(pair[0])), True, 2),
)

TEXT = st.text("abcxyz.:-", min_size=1, max_size=100)
PAIRS = st.lists(st.tuples(TEXT, st.sampled_from(["up", "down"])), max_size=5)


@given(PAIRS, st.integers(20, 200))
def test_a_table_with_a_column_that_may_be_cut_always_fits(pairs: list[Pair], width: int) -> None:
    found = tables.fitted(COLUMNS, pairs, width)
    assert len(found) == len(pairs) + 1
    assert all(len(line) <= width for line in found)
    for line, (name, state) in zip(found[1:], pairs, strict=True):
        shown = line.split()
        assert shown[1] == state, "what may not be cut is whole"
        assert shown[0] == name or (shown[0].endswith(tables.CUT) and name.startswith(shown[0][:-1]))


@given(PAIRS)
def test_of_any_width_it_is_whole(pairs: list[Pair]) -> None:
    found = tables.fitted(COLUMNS, pairs)
    assert found[0].split() == ["NAME", "STATE", "NOTE", "SIZE"]
    assert [line.split() for line in found[1:]] == [[name, state, "none", str(len(name))] for name, state in pairs]


def test_what_says_nothing_goes_before_what_matters_least() -> None:
    assert tables.fitted(COLUMNS, [("a" * 20, "up")], 35)[0].split() == ["NAME", "STATE", "SIZE"]


def test_numbers_stand_at_the_right() -> None:
    assert tables.plain(("A", "N"), [("x", "1"), ("yy", "23")], right=(1,)) == ["A    N", "x    1", "yy  23"]
