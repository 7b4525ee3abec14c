from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.default import embedded
from pingap.config.model import Snapshot
from pingap.config.parts import DEFAULT_CHECK, Backend, Listen
from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import SECTIONS
from pingap.stages.plugins import checking
from tests.kit.config import load, load_text

SERVER = '[servers.web]\naddr = "127.0.0.1:80"\n'


def refused(text: str, **options: Any) -> list[Problem]:
    with pytest.raises(ConfigRefused) as caught:
        load_text(text, **options)
    return list(caught.value.problems)


def directory(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def refused_paths(source: Path) -> list[tuple[str, str]]:
    with pytest.raises(ConfigRefused) as caught:
        load(source)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_one_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "pingap.toml"
    file.write_text(SERVER)
    assert load(file).servers["web"].addr == (Listen("127.0.0.1", 80),)
    assert load(str(file)) == load(file)


def test_the_files_of_a_directory_make_one_configuration(tmp_path: Path) -> None:
    root = directory(
        tmp_path,
        basic='[basic]\nname = "edge"',
        servers=SERVER + 'locations = ["all"]',
        deep__below__locations='[locations.all]\nupstream = "app"',
        upstreams='[upstreams.app]\naddrs = ["127.0.0.1:5000"]',
        upstreams2='[upstreams.other]\naddrs = ["127.0.0.1:5001"]',
    )
    (root / "notes.txt").write_text("not TOML")
    (root / ".hidden.toml").write_text("not TOML")
    (root / "..data").mkdir()
    (root / "..data" / "x.toml").write_text("not TOML")
    snapshot = load(root)
    assert snapshot.basic.name == "edge"
    assert list(snapshot.upstreams) == ["app", "other"]
    assert load(f"{root}?separation=true") == snapshot


def test_an_item_in_two_files_is_refused(tmp_path: Path) -> None:
    root = directory(tmp_path, a=SERVER + '[basic]\nname = "a"', b=SERVER + '[basic]\nname = "b"')
    assert refused_paths(root) == [
        ("servers.web", "is in two files: a.toml and b.toml"),
        ("basic", "is in two files: a.toml and b.toml"),
    ]


def test_a_problem_names_its_file_when_there_are_several(tmp_path: Path) -> None:
    root = directory(tmp_path, a=SERVER, b='[upstreams.app]\naddrs = ["127.0.0.1"]\nalgo = "x"', c="[servrs]", d="plugins = 1")
    with pytest.raises(ConfigRefused) as caught:
        load(root)
    assert [problem.source for problem in caught.value.problems] == ["c.toml", "d.toml", "b.toml"]
    assert "upstreams.app.algo (b.toml): 'x' is not a known algorithm" in str(caught.value)


def test_bad_syntax_in_one_file_does_not_blame_the_others(tmp_path: Path) -> None:
    root = directory(tmp_path, a=SERVER + 'locations = ["all"]', b="[locations.all\n", c="[basic]\nthreads = true")
    assert [path for path, _ in refused_paths(root)] == ["b.toml:1:15", "basic.threads"]


@pytest.mark.parametrize("where", ["whole", "document", "journal", "text", "certificate"])
def test_a_pipe_is_a_problem_and_not_waited_for(tmp_path: Path, where: str) -> None:
    names = {"whole": "", "document": "b.toml", "journal": ".pingap-journal", "text": "value", "certificate": "cert"}
    conf = tmp_path / "conf"
    pipe = conf / names[where] if where != "whole" else tmp_path / "pipe.toml"
    conf.mkdir()
    more = f'[storages.a]\ncategory = "x"\nvalue = "$FILE:{pipe}"\n' if where == "text" else ""
    more += f'[certificates.a]\ntls_cert = "{pipe}"\ntls_key = "{pipe}"\n' if where == "certificate" else ""
    (conf / "a.toml").write_text(SERVER + more)
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(load, pipe if where == "whole" else conf)
        try:
            error = reading.exception(10)
        except TimeoutError:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # the thread goes on
            raise
    assert isinstance(error, ConfigRefused)
    assert "cannot be read: it is no file but a pipe or a device" in str(error)
    assert str(pipe) in str(error)


def test_a_source_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    assert refused_paths(tmp_path / "none.toml") == [(str(tmp_path / "none.toml"), "cannot be read: no such file or directory")]
    assert refused_paths(tmp_path) == [(str(tmp_path), "the directory holds no .toml file")]
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    assert refused_paths(tmp_path) == [(str(tmp_path / "bad.toml"), "not UTF-8 at byte 0")]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "pingap.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SERVER.encode())
    assert load(file).servers


def test_the_plugin_checker_sees_each_sound_section_and_its_problems_are_told() -> None:
    seen = {}

    def checker(name: str, section: dict[str, Any], upstreams: frozenset[str] | None) -> list[Problem]:
        seen[name] = section
        return [Problem("plugins.a.max", "too small", "write 1")] if name == "a" else []

    text = SERVER + '[plugins]\na = { category = "limit", max = 0 }\nb = { category = "ping" }\nc = {}'
    problems = refused(text, plugin_checker=checker)
    assert [str(problem) for problem in problems] == [
        "plugins.a.max: too small\n    write 1",
        "plugins.c.category: the key is required\n    the category says which plugin this is",
    ]
    assert seen == {"a": {"category": "limit", "max": 0}, "b": {"category": "ping"}}


def test_the_caller_says_which_plugins_are_built_in() -> None:
    text = SERVER + '[locations.all]\nplugins = ["pingap:ours"]'
    assert [problem.path for problem in refused(text)] == ["locations.all.plugins[0]"]
    assert load_text(text, builtin_plugins=frozenset({"pingap:ours"})).locations


def test_a_variable_of_the_environment_is_filled_in() -> None:
    text = '[servers.web]\naddr = "$ENV:ADDR"\nremark = "$ENV:ADDR and more"'
    server = load_text(text, env={"ADDR": "127.0.0.1:99"}).servers["web"]
    assert (server.addr, server.remark) == ((Listen("127.0.0.1", 99),), "$ENV:ADDR and more")


def test_the_default_configuration_is_sound() -> None:
    snapshot = load_text(embedded(["127.0.0.1:7001", "127.0.0.1:7002"]))
    assert snapshot.servers["demo"].addr == (Listen("127.0.0.1", 6188),)
    assert snapshot.locations["demo"].plugins == ("pingap:requestId",)
    assert snapshot.upstreams["demo"].addrs == (Backend("127.0.0.1", 7001), Backend("127.0.0.1", 7002))
    assert snapshot.upstreams["demo"].health_check == DEFAULT_CHECK


def test_many_problems_are_counted_and_one_is_not_plural() -> None:
    assert str(ConfigRefused([Problem("a", "b")])) == "1 problem in the configuration:\n  a: b"
    assert str(ConfigRefused([Problem("a", "b", "c"), Problem("d", "e")])) == ("2 problems in the configuration:\n  a: b\n      c\n  d: e")


def test_wildcards_on_one_port_may_share_it_with_reuse_port() -> None:
    text = "[servers]\na = {{ addr = '0.0.0.0:80', reuse_port = {0} }}\nb = {{ addr = '127.0.0.1:80', reuse_port = {0} }}"
    assert load_text(text.format("true"))
    assert "overlap" in refused(text.format("false"))[0].message


def test_both_families_may_listen_on_one_port() -> None:
    assert load_text('[servers.web]\naddr = "0.0.0.0:80,[::]:80"').servers


KEYS = ["addr", "addrs", "algo", "host", "path", "rewrite", "upstream", "plugins", "locations", "category", "threads"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["$x", "~(", "a:1", "p"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=3),
    max_leaves=8,
)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
    return "2024-01-01" if value is None else str(value)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(SECTIONS), st.dictionaries(st.sampled_from(["p", *KEYS]), VALUES, max_size=3)))
def test_whatever_a_file_says_the_answer_is_a_snapshot_or_problems(tables: dict[str, Any]) -> None:
    text = "".join(f"{section} = {as_toml(table)}\n" for section, table in tables.items())
    try:
        snapshot = load_text(text, env={})
    except ConfigRefused as error:
        assert error.problems
        assert all(problem.path and problem.message for problem in error.problems)
        assert "not TOML" not in str(error)
    else:
        assert Snapshot.from_wire(snapshot.to_wire()) == snapshot


def test_of_a_text_that_refers_to_nothing_only_that_is_told() -> None:
    text = (
        SERVER
        + """
includes = ["$ENV:NO"]
downstream_read_timeout = "$ENV:NO"
[plugins.guard]
category = "ip_restriction"
ip_list = ["$ENV:NO", "x"]
[plugins.other]
category = "$ENV:NO"
"""
    )
    found = [(problem.path, problem.message.partition(" ")[0]) for problem in refused(text, env={}, plugin_checker=checking.Checker())]
    assert found == [
        ("servers.web.includes[0]", "the"),
        ("servers.web.downstream_read_timeout", "the"),
        ("plugins.guard.ip_list[0]", "the"),
        ("plugins.guard.ip_list[1]", "'x'"),
        ("plugins.other.category", "the"),
    ]
