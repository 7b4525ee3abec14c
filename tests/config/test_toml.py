"""TOML: errors have their place, and no text is too much for the parser."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest

from pingap.config.edit import put
from pingap.config.storage.base import NotWritten
from pingap.config.storage.memory import MemoryStorage
from tests.kit import config

problem_of = partial(config.problem_of, "toml")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[a]\nb = 1\nc =\n", "x.toml:3:4", "not TOML: Invalid value"),
        ("[a]\r\nb = 1\r\n c\r\n", "x.toml:3:3", "not TOML: Expected '=' after a key in a key/value pair"),
        ("a = 1\nb = [", "x.toml:2:6", "not TOML: Invalid value at the end of the file"),
        ("a = 'ü' x", "x.toml:1:9", "not TOML: Expected newline or end of document after a statement"),
        ("a = 1\n\nb = " + "1" * 5000, "x.toml:3:5", "not taken: a number with thousands of digits"),
        ("x = 1\n[" + "a." * 100_000 + "a]", "x.toml:2:3", "not taken: a key of more than 64 parts"),
        ('"a" . b.' * 1000 + "c = 1", "x.toml:1:5", "not taken: a key of more than 64 parts"),
        ("a = " + "[" * 100_000, "x.toml:1:5", "not taken: tables or lists nested more than 64 deep"),
        ("a = 1\nb = " + "{a = " * 100_000, "x.toml:2:5", "not taken: tables or lists nested more than 64 deep"),
        ("a = " + "[" * 70 + "]" * 70, "x.toml:1:5", "not taken: tables or lists nested more than 64 deep"),
    ],
)
def test_a_text_that_is_not_taken_says_where(text: str, place: str, message: str) -> None:
    found = problem_of(text)
    assert (found.path, found.message) == (place, message)


def test_long_texts_and_many_dots_are_no_long_keys() -> None:
    text = 'x = "' + "x.y " * 1000 + '"\nb = "' + "x" * 1_000_000 + '"\n[' + "a." * 40 + "c]\n"
    config.read_text("toml", text)


def test_tables_over_several_lines_are_read_and_edited_or_refused() -> None:
    """TOML 1.1, which tomlkit does not know yet."""
    text = '[upstreams]\na = {\n  addrs = ["127.0.0.1"],\n}\n'
    storage = MemoryStorage(text)
    assert config.read_text("toml", storage.read().documents[0].text) == {"upstreams": {"a": {"addrs": ["127.0.0.1"]}}}
    with suppress(NotWritten):
        put(storage, "upstreams", "b", {"addrs": []}, storage.read().version)
        text = storage.read().documents[0].text
    assert "a" in config.read_text("toml", text)["upstreams"]
