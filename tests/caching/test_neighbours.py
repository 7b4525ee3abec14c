"""What is said of caches that share a place and do not agree on it."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.config.problems import Note
from pingap.stages.plugins.checking import Checker

ONE_GB = {"directory": "/c?max_size=1gb"}
BOUND = {"namespace": "n", "namespace_max_size": "5mb"}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (ONE_GB, {"directory": "/c/?max_size=2gb"}, ["directory: has another max_size than plugins.a"]),
        (ONE_GB, {"directory": "/c?max_size=0"}, ["directory: has another max_size than plugins.a", "directory: without a max_size"]),
        ({"directory": "memory://?max_size=20"}, {"directory": "?max_size=5mb"}, ["directory: has another max_size than plugins.a"]),
        (ONE_GB, {"directory": "/c?max_size=1gb&inactive=1d", **BOUND}, ["directory: has another inactive than plugins.a"]),
        (BOUND, {"namespace": "n"}, ["namespace_max_size: is another one than in plugins.a"]),
        (ONE_GB, {"directory": "/c/d?max_size=1gb"}, ["directory: lies within that of plugins.a"]),
        ({"directory": "/c/d?max_size=1gb"}, ONE_GB, ["directory: has within it that of plugins.a"]),
        (ONE_GB, {"directory": "/cd?max_size=2gb"}, []),
        ({"directory": "memory://a?max_size=1gb"}, {"directory": "memory://b?max_size=2gb"}, []),
        ({}, {"directory": "memory://?max_size=5mb"}, []),
        ({}, {}, []),
    ],
)
def test_what_two_sections_say_differently_of_one_store_is_a_note(first: dict[str, Any], second: dict[str, Any], said: list[str]) -> None:
    check = Checker()
    assert not check("a", {"category": "cache", **first})
    told = check("b", {"category": "cache", **second})
    assert all(isinstance(one, Note) and one.hint for one in told)
    for one, (key, begins) in zip(told, [words.split(": ") for words in said], strict=True):
        assert (one.path, one.message.startswith(begins)) == (f"plugins.b.{key}", True)


def test_of_many_caches_one_note_is_enough() -> None:
    check = Checker()
    for number in range(1, 9):
        told = check(f"c{number}", {"category": "cache", "directory": f"/c?max_size={number}gb"})
        assert len(told) == (number > 1)
