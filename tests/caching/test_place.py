"""`directory` of a cache: each parameter of the reference has its effect or a note that says why it has none."""

from __future__ import annotations

import os

import pytest

from pingap.stages.caching.place import INACTIVE, LEAST_SIZE, CachePlace, read_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", CachePlace("memory", "")),
        ("memory://", CachePlace("memory", "")),
        ("memory://images?max_size=20", CachePlace("memory", "images", percent=20)),
        ("?max_size=5mb", CachePlace("memory", "", 5_000_000)),
        ("memory://?max_size=256MiB&inactive=1h", CachePlace("memory", "", 256 * 2**20, inactive=3600.0)),
        ("/var/cache/a?max_size=10gb", CachePlace("disk", "/var/cache/a", 10**10, inactive=INACTIVE)),
        ("/var/cache//a/../b/?max_size=1gb&inactive=1d", CachePlace("disk", "/var/cache/b", 10**9, inactive=86400.0)),
        ("~/cache?max_size=1gb&inactive=0", CachePlace("disk", os.path.expanduser("~/cache"), 10**9)),
        ("/c?max_size=1%67b", CachePlace("disk", "/c", 10**9, inactive=INACTIVE)),
    ],
)
def test_a_place(text: str, place: CachePlace) -> None:
    read = read_place(text)
    assert read == (place, (), ())


@pytest.mark.parametrize(
    "key", ["levels=1:2", "reading_max=10", "writing_max=10", "cache_max=5", "cache_file_max_weight=256", "mode=compact"]
)
def test_a_parameter_without_effect_is_a_note(key: str) -> None:
    read = read_place(f"/c?max_size=1gb&{key}")
    assert read.place == CachePlace("disk", "/c", 10**9, inactive=INACTIVE)
    assert not read.wrongs
    assert [said.partition(" ")[0] for said, _ in read.notes] == [key.partition("=")[0]]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("/", "the root directory cannot be a cache"),
        ("memory://a/b", "'a/b' is not the name of a cache in memory"),
        ("memory://..", "'..' is not the name of a cache in memory"),
        ("memory://.a", "'.a' is not the name of a cache in memory"),
        ("file:///c", "'file:///c' is no directory"),
        ("memory://?max_size=0", "max_size: '0' is no percentage from 1 to 100"),
        ("memory://?max_size=101", "max_size: '101' is no percentage from 1 to 100"),
        ("memory://?max_size=5kb", "max_size: '5kb' is less than 1mb, which the index alone may take"),
        ("/c?max_size=20", "max_size: '20' is less than 1mb, which the index alone may take"),
        ("/c?max_size=much", "max_size: 'much' is not a size"),
        ("/c?max_size=", "max_size has no value"),
        ("/c?max_size=1gb&inactive=soon", "inactive: 'soon' is not a duration"),
        ("/c?max_size=1gb&max_size=2gb", "max_size is there twice"),
        ("/c?max_sise=1gb", "there is no parameter 'max_sise'"),
        ("/c\0?max_size=1gb", "a path has no NUL"),
    ],
)
def test_junk_is_refused_with_a_hint(text: str, wrong: str) -> None:
    ((said, hint),) = read_place(text).wrongs
    assert said == wrong
    assert hint or "NUL" in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    read = read_place("/?max_size=x&inactive=y&what=z&levels=1")
    assert [said.partition(" ")[0].rstrip(":") for said, _ in read.wrongs] == ["the", "max_size", "inactive", "there"]
    assert len(read.notes) == 1


def test_a_disk_without_a_bound_is_told_of() -> None:
    assert [said for said, _ in read_place("/c").notes] == ["without a max_size it grows until the disk is full"]
    assert next(said for said, _ in read_place("/c?").notes) == "there is nothing behind its ?"


def test_a_share_of_the_memory_that_there_is() -> None:
    assert read_place("").place.size_within(10**9) == 10**9
    assert read_place("memory://?max_size=20").place.size_within(10**9) == 2 * 10**8
    assert read_place("memory://?max_size=5mb").place.size_within(10**9) == 5_000_000
    assert read_place("memory://?max_size=1").place.size_within(1000) == LEAST_SIZE
