"""One item changed in the text that people wrote: theirs stays theirs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import assume, given
from hypothesis import strategies as st

from pingap.config.edit import put
from pingap.config.storage.base import Document, NotWritten, Outdated, Storage, reading_of
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of
from pingap.config.text.items import items_of
from pingap.config.text.toml import edited

TEXT = """\
# the edge
[basic]
name = "edge" # as in DNS

[servers.web]
addr = "127.0.0.1:80"   # behind the balancer
locations = [
    "a", # first
    "b",
]

# what is left
[locations.a]
path = '''/a
[locations.b]'''
upstream = "u"

[upstreams]
u = { addrs = ["127.0.0.1:1"] }
"""


def now(storage: Storage, section: str, name: str, item: dict[str, Any] | None) -> str:
    return put(storage, section, name, item, storage.read().version)


def text_after(section: str, name: str, item: dict[str, Any] | None) -> str:
    storage = MemoryStorage(TEXT)
    now(storage, section, name, item)
    return storage.read().documents[0].text


@pytest.mark.parametrize(("section", "name"), [("basic", ""), ("servers", "web"), ("locations", "a"), ("upstreams", "u")])
def test_a_save_that_changes_nothing_changes_no_byte(section: str, name: str) -> None:
    table = tomllib.loads(TEXT)[section]
    assert text_after(section, name, table[name] if name else table) == TEXT


def test_a_key_is_changed_where_it_is_and_comments_stay() -> None:
    table = tomllib.loads(TEXT)["servers"]["web"] | {"addr": "127.0.0.1:81"}
    assert text_after("servers", "web", table) == TEXT.replace("127.0.0.1:80", "127.0.0.1:81")


def test_keys_come_and_go_and_all_else_stays() -> None:
    text = text_after("basic", "", {"threads": 2})
    assert text.startswith("# the edge\n[basic]\nthreads = 2\n")
    assert text.endswith(TEXT[TEXT.index("[servers.web]") :])


def test_an_item_is_added_and_taken_out() -> None:
    storage = MemoryStorage(TEXT)
    now(storage, "locations", "b.c", {"path": "/b", "proxy_set_headers": ["x:1"]})
    text = storage.read().documents[0].text
    assert text.startswith(TEXT[: TEXT.index("[upstreams]")])
    assert tomllib.loads(text)["locations"]["b.c"] == {"path": "/b", "proxy_set_headers": ["x:1"]}
    now(storage, "locations", "b.c", None)
    now(storage, "upstreams", "u", None)
    now(storage, "servers", "web", None)
    left = tomllib.loads(TEXT)
    del left["servers"], left["upstreams"]
    assert tomllib.loads(storage.read().documents[0].text) == left


def test_the_document_of_an_item_is_the_one_that_has_it_else_the_one_of_its_section(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text('[servers.web]\naddr = "127.0.0.1:80"\n')
    (tmp_path / "locations.toml").write_text('[locations.a]\npath = "/a"\n')
    storage = storage_of(tmp_path)
    now(storage, "servers", "web", {"addr": "127.0.0.1:81"})
    now(storage, "locations", "b", {"path": "/b"})
    now(storage, "upstreams", "u", {"addrs": ["127.0.0.1:1"]})
    assert (tmp_path / "all.toml").read_text() == '[servers.web]\naddr = "127.0.0.1:81"\n'
    assert list(tomllib.loads((tmp_path / "locations.toml").read_text())["locations"]) == ["a", "b"]
    assert (tmp_path / "upstreams.toml").read_text() == '[upstreams.u]\naddrs = ["127.0.0.1:1"]\n'
    now(storage_of(f"{tmp_path}?separation"), "upstreams", "v", {"addrs": []})
    assert (tmp_path / "upstreams" / "v.toml").read_text() == "[upstreams.v]\naddrs = []\n"


def test_the_file_of_an_item_goes_with_it_unless_there_is_something_else_in_it(tmp_path: Path) -> None:
    for source, names in ((f"{tmp_path}/item?separation", ["b.toml"]), (f"{tmp_path}/type", ["servers.toml"])):
        storage = storage_of(source)
        for name in ("a", "b"):
            put(storage, "servers", name, {"addr": "1"}, reading_of(storage).version)
        now(storage, "servers", "a", None)
        assert [Path(document.name).name for document in storage.read().documents] == names
    (tmp_path / "item" / "servers" / "b.toml").write_text("# kept\n\n# about it\n[servers.b]\n")
    now(storage_of(f"{tmp_path}/item?separation"), "servers", "b", None)
    assert (tmp_path / "item" / "servers" / "b.toml").read_text() == "# kept\n\n"
    now(storage_of(tmp_path / "type"), "servers", "b", None)
    assert (tmp_path / "type" / "servers.toml").read_text() == ""


def test_a_comment_above_an_item_goes_with_it_and_one_that_stands_apart_stays() -> None:
    text = "# licence\n\n# a\n[servers.a]\nx = 1\n# y = 2\n\n# ---- b ----\n\n# b\n[servers.b]\n\n# the end\n"
    storage = MemoryStorage(text)
    now(storage, "servers", "a", None)
    assert storage.read().documents[0].text == "# licence\n\n# ---- b ----\n\n# b\n[servers.b]\n\n# the end\n"
    now(storage, "servers", "b", None)
    assert storage.read().documents[0].text == "# licence\n\n# ---- b ----\n\n# the end\n"


def test_who_has_not_seen_the_last_change_changes_nothing() -> None:
    storage = MemoryStorage(TEXT)
    old = storage.read().version
    put(storage, "basic", "", {"name": "a"}, old)
    with pytest.raises(Outdated):
        put(storage, "basic", "", {"name": "b"}, old)
    assert 'name = "a"' in storage.read().documents[0].text


@pytest.mark.parametrize(
    ("section", "name", "item", "why"),
    [
        ("basic", "x", {}, r"\[basic\] has no items"),
        ("servers", "", {}, r"\[servers\] has items: name one"),
        ("servers", "gone", None, "servers.gone is not there"),
        ("servers", "web", {"addr": None}, "servers.web in pingap.toml: it cannot be written as TOML"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(section: str, name: str, item: dict[str, Any] | None, why: str) -> None:
    storage = MemoryStorage(TEXT)
    with pytest.raises(NotWritten, match=why):
        now(storage, section, name, item)
    assert storage.read().documents[0].text == TEXT


def test_an_item_in_two_files_is_not_guessed_at(tmp_path: Path) -> None:
    for file in ("a", "b"):
        (tmp_path / f"{file}.toml").write_text('[servers.web]\naddr = "1"\n')
    with pytest.raises(NotWritten, match=r"servers.web is in two files: a.toml and b.toml"):
        now(storage_of(tmp_path), "servers", "web", {})


keys = st.text("ab.\"'ü #[", min_size=1, max_size=4)
values: Any = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab\n\"'\\#ü", max_size=5) | st.floats(-1e3, 1e3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
items = st.dictionaries(keys, values, max_size=4)


comments = st.lists(st.sampled_from(["", "# about it", "# [servers.web]", "# unknown = 1"]), max_size=2)
documents = st.lists(
    st.tuples(
        st.sampled_from(["servers", "plugins", "odd"]), keys, comments, st.dictionaries(keys, st.integers(0, 3), max_size=3), comments
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda piece: piece[:2],
)


@given(documents, st.integers(0, 4), items)
def test_what_else_is_in_a_document_stays_as_it_is_written(pieces: list[Any], which: int, item: dict[str, Any]) -> None:
    """Comments, unknown keys and unknown sections, to the byte; in an item that is changed, its other keys' comments as well."""
    text = ""
    for section, name, above, table, within in pieces:
        text += "".join(f"{line}\n" for line in above) + f"[{section}.{json.dumps(name)}] # {section}\n"
        text += "".join(f"{json.dumps(key)} = {value} # {key}\n" for key, value in table.items()) + "".join(f"{line}\n" for line in within)
    section, name, *_ = pieces[which % len(pieces)]
    assume(section != "odd")
    storage = MemoryStorage(text)
    try:
        now(storage, section, name, item)
    except NotWritten as error:
        assert "by hand" in str(error)
        return
    [document] = storage.read().documents
    before = [one for one in items_of(Document("a.toml", text)) if one.place != (section, name)]
    after = [one for one in items_of(document) if one.place != (section, name)]
    assert [one.text.strip() for one in after] == [one.text.strip() for one in before]
    assert tomli.loads(document.text)[section][name] == item


@given(name=keys, first=items, second=items)
def test_whatever_is_written_is_read_again(name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Or it is refused, and nothing is written: rarely, for a form that is not understood well enough."""
    text = edited(TEXT, "plugins", name, first)
    for item in (second, None):
        try:
            text = edited(text, "plugins", name, item)
        except ValueError as error:
            assert "by hand" in str(error) or "cannot be written" in str(error)
        else:
            assert tomllib.loads(text).get("plugins", {}).get(name) == item
        left = tomllib.loads(text)
        left.pop("plugins", None)
        assert left == tomllib.loads(TEXT)
