"""What is written in one language says the same in the others, and again after the way back.

conversions/full.hcl and full.kdl are what full.toml becomes; `UPDATE_CASES=1 pytest tests/config` writes them anew.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.convert import WRITERS, converted
from pingap.config.edit import put
from pingap.config.gathering import section_in
from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, NotWritten
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of
from pingap.config.text.formats import tables_of
from pingap.config.text.lists import list_keys
from pingap.stages.plugins import checking, registry
from tests.kit.config import load, load_text
from tests.kit.peers import required

FULL = Path(__file__).parent / "conversions/full.toml"
TABLES = tomllib.loads(FULL.read_text())


def exactly(value: Any) -> Any:
    """True is not 1, and 1 is not 1.0."""
    if isinstance(value, dict):
        return {key: exactly(inner) for key, inner in value.items()}
    return [exactly(inner) for inner in value] if isinstance(value, list) else repr(value)


def read(language: str, text: str) -> Any:
    return tables_of(Document(f"x.{language}", text))


# -- there and back -------------------------------------------------------------------------------

SIGNS = st.text(st.sampled_from('ab """\'\\\n\r\t${}%#EOT/*-=.é\u2028\ufeff\0'), max_size=20)
TEXTS = st.one_of(
    st.text(max_size=20),
    SIGNS,
    st.sampled_from(
        ["a\nb\n", "a\n\nb\n", "  a\n b\n", " \n", "EOT\n", "true", "${x}", "$${x}", "%%{", "-", "item", "a\n  \nb", "\n", "1.5"]
    ),
)
WORDS = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)
KEYS = st.one_of(WORDS, TEXTS, st.sampled_from(["item", "-", "true", "null", "headers", "ip_list", "list"]))
LEAVES = st.one_of(TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8)
BLOCKS = ("upstream", "location", "plugin", "certificate")
OWN_KEYS = st.one_of(WORDS, st.sampled_from(["addrs", "match_headers", "remark"])).filter(lambda key: key.removesuffix("s") not in BLOCKS)
ITEMS = st.dictionaries(OWN_KEYS, VALUES, max_size=4)
PLUGINS = st.builds(
    lambda item, category: {"category": category} | item,
    st.dictionaries(WORDS.filter(lambda key: key != "category"), VALUES, max_size=4),
    st.sampled_from(["mock", "ip_restriction", "combined_auth", "own"]),
)


def named(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(TEXTS, items, min_size=1, max_size=3)


CONFIGURATIONS = st.fixed_dictionaries(
    {},
    optional={
        "basic": ITEMS,
        "servers": named(ITEMS),
        "locations": named(ITEMS),
        "upstreams": named(ITEMS),
        "certificates": named(ITEMS),
        "plugins": named(PLUGINS),
        "storages": named(ITEMS),
        "stages": named(ITEMS),
        "bus": ITEMS,
    },
)


@given(CONFIGURATIONS)
@settings(max_examples=150, deadline=None)
def test_toml_to_hcl_to_kdl_to_toml_is_where_it_began(tables: Mapping[str, Any]) -> None:
    found: Any = tables
    for language in ("toml", "hcl", "kdl", "toml"):
        text = WRITERS[language](found)
        found = read(language, text)
        assert exactly(found) == exactly(tables), text


@pytest.mark.parametrize("language", ["hcl", "kdl"])
def test_a_full_example_becomes_what_is_expected(language: str) -> None:
    text = converted(storage_of(FULL), language)
    expected = FULL.with_suffix(f".{language}")
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(text)
    assert text == expected.read_text()
    assert exactly(read(language, text)) == exactly(TABLES)
    assert exactly(tomllib.loads(converted(MemoryStorage(text, f"x.{language}"), "toml"))) == exactly(TABLES)


def test_numbers_that_only_kdl_can_write() -> None:
    storage = MemoryStorage("[plugins.p]\ncategory = 'own'\na = [nan, -inf]\n")
    assert "a #nan #-inf\n" in converted(storage, "kdl")
    with pytest.raises(ConfigRefused, match=r"plugins.p.a\[0\]: HCL has no form for the number nan"):
        converted(storage, "hcl")


@pytest.mark.parametrize("language", ["hcl", "kdl"])
def test_what_a_language_has_no_form_for_is_refused(language: str) -> None:
    with pytest.raises(ConfigRefused, match=r"basic.a.b: .* has no form for a date or time"):
        converted(MemoryStorage("[basic]\na = { b = 2026-01-01 }"), language)


def test_a_key_that_hcl_cannot_write_is_refused() -> None:
    with pytest.raises(ConfigRefused, match=r'servers\.a\."b c": HCL has no form for such a key'):
        converted(MemoryStorage('[servers.a]\n"b c" = 1'), "hcl")


@pytest.mark.parametrize(("key", "value"), [("plugin", "'x'"), ("upstreams", "'x'"), ("plugins", "[{}]"), ("upstream", "{}")])
def test_a_key_that_would_be_a_block_in_kdl_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigRefused, match=f"locations.a.{key}: in KDL this key would be a block"):
        converted(MemoryStorage(f"[locations.a]\n{key} = {value}"), "kdl")


def test_a_directory_becomes_one_text_and_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[basic]\nname = "a"\n[upstreams.x]\naddrs = ["127.0.0.1"]\n')
    (tmp_path / "b.hcl").write_text('upstream "y" {\n  addrs = []\n}\n')
    assert read("kdl", converted(storage_of(tmp_path), "kdl")) == {
        "upstreams": {"x": {"addrs": ["127.0.0.1"]}, "y": {"addrs": []}},
        "basic": {"name": "a"},
    }
    (tmp_path / "c.kdl").write_text("basic\nupstream x {}\n")
    (tmp_path / "d.toml").write_text("servrs = 1\n[servers]\na = 1\n")
    (tmp_path / "e.toml").write_text("x")
    with pytest.raises(ConfigRefused) as caught:
        converted(storage_of(tmp_path), "kdl")
    assert [problem.path for problem in caught.value.problems] == ["basic", "upstreams.x", "servrs", "e.toml:1:2", "servers.a"]


# -- the same meaning ------------------------------------------------------------------------------

SMALL = """
[basic]
name = "$ENV:EDGE"
[servers.web]
addr = "127.0.0.1:80"
locations = ["all"]
[locations.all]
upstream = "app"
match_headers = ["x-a"]
plugins = ["m"]
[upstreams.app]
addrs = ["127.0.0.1:5000"]
[plugins.m]
category = "mock"
headers = ["a:b"]
delay = "1s"
"""


@pytest.mark.parametrize("language", ["hcl", "kdl"])
def test_a_configuration_means_the_same_in_every_language(language: str) -> None:
    options: dict[str, Any] = {"env": {"EDGE": "e1"}, "plugin_checker": checking.Checker()}
    text = converted(MemoryStorage(SMALL), language)
    assert load_text(text, name=f"x.{language}", **options) == load_text(SMALL, **options)


def test_a_directory_is_read_in_all_languages_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[servers.web]\naddr = "127.0.0.1:80"\nlocations = ["all"]\n')
    (tmp_path / "b.hcl").write_text('location "all" {\n  upstream = "app"\n}\n')
    (tmp_path / "c.kdl").write_text('upstream app { addrs "127.0.0.1:5000" }\n')
    assert [*load(tmp_path).upstreams] == ["app"]
    (tmp_path / "d.kdl").write_text("location all {}\n")
    with pytest.raises(ConfigRefused, match=r"locations.all .*: is in two files: b.hcl and d.kdl"):
        load(tmp_path)
    (tmp_path / "d.kdl").write_text("location all {\n  path a\n")
    with pytest.raises(ConfigRefused, match=r"d\.kdl:1:14: not KDL"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.toml", "[plugins]\na = {}"),
        ("x.toml", '["plug\\u0069ns"]\na = {}'),
        ("x.toml", '["plug\\x69ns"]\na = {}'),
        ("x.hcl", 'plugin "a" {}'),
        ("x.kdl", "plugin a"),
        ("x.kdl", '"plug\\u{69}n" a'),
        ("x.kdl", '"plug\\   in" a'),
    ],
)
def test_items_are_found_however_their_section_is_written(name: str, text: str) -> None:
    assert section_in([Document(name, text)], "plugins") == {"a": {}}
    assert section_in([Document(name, text)], "servers") == {}


@pytest.mark.parametrize(("name", "text"), [("x.hcl", 'upstream "app" {\n}\n'), ("x.kdl", "upstream app {}\n")])
def test_an_item_is_never_written_into_hcl_or_kdl(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    for storage, item in ((storage_of(file), "app"), (storage_of(file), "new"), (storage_of(tmp_path), "app")):
        for value in ({"addrs": ["127.0.0.1"]}, None)[: 1 + (item == "app")]:
            with pytest.raises(NotWritten, match=f"upstreams.{item} in .*{name}: items are written in TOML only"):
                put(storage, "upstreams", item, value, storage.read().version)
    assert file.read_text() == text
    put(storage_of(tmp_path), "upstreams", "new", {"addrs": ["127.0.0.1"]}, storage_of(tmp_path).read().version)
    assert file.read_text() == text and "new" in (tmp_path / "upstreams.toml").read_text()


def test_the_examples_of_the_documents_say_the_same() -> None:
    text = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    hcl, kdl = (re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) for language in ("hcl", "kdl"))
    assert len(hcl) == len(kdl) == 1
    assert read("hcl", hcl[0]) == read("kdl", kdl[0])
    assert load_text(hcl[0], name="x.hcl", plugin_checker=checking.Checker()).locations["api"].plugins == ("limits",)


@pytest.mark.parametrize("category", registry.CATEGORIES)
def test_the_lists_of_plugins_are_those_of_their_models(category: str) -> None:
    schema = registry.CATEGORIES[category].model.model_json_schema()
    keys: dict[str, set[str | None]] = {}
    for part in (schema, *schema.get("$defs", {}).values()):
        keys |= {key: {one.get("type") for one in (value, *value.get("anyOf", ()))} for key, value in part.get("properties", {}).items()}
    lists = {key for key, found in keys.items() if "array" in found and "string" not in found}  # what may be text as well says which
    assert list_keys("plugins", category) == lists


def test_the_lists_of_sections_are_those_of_the_model() -> None:
    assert list_keys("servers") == {"locations", "modules", "includes"}
    assert list_keys("upstreams") == {"addrs", "includes", "transparent_networks", "transparent_ports"}
    assert list_keys("certificates") == frozenset()
    assert {"match_headers", "match_query", "match_cookies", "plugins"} < list_keys("locations")
    assert {"trusted_proxies", "webhook_notifications"} <= list_keys("basic")


# -- the libraries that we do not use --------------------------------------------------------------


def test_python_hcl2_reads_the_same() -> None:
    hcl2, utils = required("hcl2"), required("hcl2.utils")

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {plain(key): plain(inner) for key, inner in value.items() if not key.startswith("__")}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        if isinstance(value, str) and value.startswith('"'):
            return value[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
        return value

    text = 'server "web" {\n  addr = "a:1"\n  list = [1, "two", { three = 3.5 }]\n  yes = true\n  text = "q\\"\\n\\\\"\n}\n'
    text += 'basic {\n  name = "e"\n}\n'
    found = plain(hcl2.loads(text, serialization_options=utils.SerializationOptions(with_comments=False)))
    ours = read("hcl", text)
    assert found == {"server": [{"web": ours["servers"]["web"]}], "basic": [ours["basic"]]}
