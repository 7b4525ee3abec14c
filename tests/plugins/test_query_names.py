"""Query parameters in the spellings that some backends take for one name."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.plugin import loosely, query_alike, query_values, without_query, without_query_alike

NAMES = st.sampled_from(["token", "TOKEN", "%74oken", "+token", "token[]", "token[a][b]", "token%00b", "tok", "tokens", "x", "[token", ""])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (b"app_id", b"app_id"),
        (b"App.ID", b"app_id"),
        (b"app%20id", b"app_id"),
        (b"++app+id", b"app_id"),
        (b"app_id[]", b"app_id"),
        (b"app_id%5bx%5D[y]", b"app_id"),
        (b"app[id", b"app_id"),
        (b"[app", b"_app"),
        (b"app_id%00.x", b"app_id"),
        (b"app-id", b"app-id"),
        (b"%zz", b"%zz"),
        (b"\xc3\xbc", b"\xc3\xbc"),
        (b"", b""),
    ],
)
def test_names_that_a_backend_may_take_for_the_same(name: bytes, plain: bytes) -> None:
    assert loosely(name) == plain


@given(st.lists(st.tuples(NAMES, st.sampled_from("&;"), st.sampled_from(["", "=", "=1", "=2=3"]))))
def test_what_is_found_is_what_is_taken_out(parts: list[tuple[str, str, str]]) -> None:
    target = b"/a?" + "".join(name + value + sign for name, sign, value in parts).encode()
    found = query_alike(target, b"token")
    left = without_query_alike(target, b"token")
    assert set(query_values(target, b"token")) <= set(found)
    assert query_alike(left, b"token") == []
    assert left == target or found
    assert without_query(left, b"token") == left


@given(st.text(min_size=1))
def test_a_name_is_its_own_spelling_however_it_is_escaped(name: str) -> None:
    assert loosely(quote(name, safe="").encode()) == loosely("".join(f"%{byte:02x}" for byte in name.encode()).encode())
