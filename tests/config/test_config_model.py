from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config import parts
from pingap.config.fields import EachParsed, Parsed
from pingap.config.lenient import RULES
from pingap.config.levels import NAMES
from pingap.config.model import KINDS, STAGES, Basic, Bus, Location, Server, Snapshot, Stage, Upstream
from pingap.config.quantities import format_duration, format_size
from pingap.config.storage.base import SECTIONS
from pingap.config.unsupported import KEYS
from pingap.config.values import PARSERS
from tests.kit import reference
from tests.kit.config import load_text

ROOT = Path(__file__).parents[2]


@pytest.mark.processes
def test_the_model_is_imported_without_pydantic_and_without_the_regex_engine() -> None:
    code = "import sys, pingap.config.model; print(sorted({'pydantic', 'pydantic_core', 're2', 'tomli'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_every_section_but_that_of_plugins_has_a_model() -> None:
    assert KINDS.keys() == set(SECTIONS) - {"plugins"}


@pytest.mark.parametrize("section", reference.KEYS)
def test_every_key_of_the_reference_is_supported_or_named_as_not_yet(section: str) -> None:
    supported = {spec.name for spec in fields(KINDS[section])}
    theirs = set(reference.KEYS[section].split())
    assert theirs <= supported | set(KEYS.get(section, ())) | set(RULES.get(section, {}))
    assert not supported & set(KEYS.get(section, ()))


def test_a_level_may_be_given_for_whatever_writes_records() -> None:
    assert {*NAMES} == {*STAGES, "config", "supervisor"}


def test_each_marker_has_its_parser() -> None:
    used = set()
    for kind in KINDS.values():
        for hint in get_type_hints(kind, include_extras=True).values():
            used |= set(re.findall(r"(?:Each)?Parsed\(form='(\w+)'", repr(hint)))
    assert used == set(PARSERS)
    assert (Parsed("x").form, EachParsed("x").form) == ("x", "x")


def documented() -> dict[str, dict[str, tuple[bool, str]]]:
    """docs/configuration.md: by section and key, whether it is marked R, and the default."""
    found: dict[str, dict[str, tuple[bool, str]]] = {}
    section = ""
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        if heading := re.match(r"## \[(\w+)", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)`( \*\*R\*\*)? \| [^|]+ \| ([^|]+) \| [^|]+ \|$", line):
            found.setdefault(section, {})[row[1]] = (bool(row[2]), row[3].strip("` "))
    return found


@pytest.mark.parametrize("section", KINDS)
def test_the_manual_has_every_key_with_its_default(section: str) -> None:
    keys = documented()[section]
    specs = {spec.name: spec for spec in fields(KINDS[section])}
    assert {key for key in keys if key in specs} == set(specs)
    for name, spec in specs.items():
        restarts, default = keys[name]
        assert restarts == bool(spec.metadata.get("restart")), name
        assert default in acceptable(spec.default), name


def acceptable(default: Any) -> set[str]:
    if default is MISSING:
        return {"required"}
    if isinstance(default, bool):
        return {str(default).lower()}
    words = {"none", "off", "stderr", "any", "computed", "no limit", "system's", "as [basic]", "upstream's rule", "[]"}
    words |= {"built-in page", "1; accept: as threads", "a tcp check", '"round_robin"'}
    if isinstance(default, float):
        return {f'"{format_duration(default)}"', f'"{default:.0f}s"'}
    if isinstance(default, int):
        return {str(default), f'"{format_size(default)}"'}
    return {f'"{default}"'} | words


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Snapshot().basic = Basic(name="x")  # type: ignore[misc]


def test_the_secret_key_is_not_shown() -> None:
    assert "hidden" not in repr(Snapshot(bus=Bus(public_key="shown", secret_key="hidden")))


def test_addresses_are_written_with_brackets_round_ipv6() -> None:
    assert str(parts.Listen("::1", 80)) == parts.Backend("::1", 80).address == "[::1]:80"
    assert str(parts.Listen("h", 80)) == parts.Backend("h", 80).address == "h:80"


def test_only_what_differs_from_the_defaults_is_sent() -> None:
    assert Snapshot().to_wire() == {}
    assert Snapshot(basic=Basic(threads=2)).to_wire() == {"basic": {"threads": 2}}


def test_the_replicas_of_a_stage_follow_the_threads_unless_given() -> None:
    listen = (parts.Listen("127.0.0.1", 80),)
    threads = Snapshot(basic=Basic(threads=2), servers={"a": Server(addr=listen, threads=3)})
    assert (threads.replicas("accept", 8), threads.replicas("routing", 8)) == (3, 1)
    assert Snapshot(basic=Basic(threads=0)).replicas("accept", 8) == 8
    assert Snapshot(basic=Basic(threads=4), stages={"accept": Stage(replicas=1)}).replicas("accept", 8) == 1
    assert Snapshot().stage("logging") == Stage()


names = st.text(min_size=1, max_size=8)
plain = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
pairs = st.lists(st.tuples(names, names), max_size=3).map(tuple)
locations = st.builds(
    Location,
    upstream=names,
    path=st.builds(parts.PathRule, st.sampled_from(["any", "exact", "prefix", "regex"]), names),
    host=st.lists(st.builds(parts.HostRule, st.sampled_from(["exact", "suffix", "regex"]), names)).map(tuple),
    match_headers=st.lists(st.tuples(names, st.none() | names), max_size=3).map(tuple),
    proxy_set_headers=pairs,
    rewrite=st.none() | st.builds(parts.Rewrite, names, names),
    weight=st.none() | st.integers(0, 65535),
    max_retry_window=st.none() | st.floats(0, 1e9),
)
upstreams = st.builds(
    Upstream,
    addrs=st.lists(st.builds(parts.Backend, names, st.integers(1, 65535), st.integers(0, 9))).map(tuple),
    algo=st.builds(parts.Balance, st.just("hash"), st.just("header"), names),
    health_check=st.builds(parts.HealthCheck, st.just("http"), names, names, reuse=st.booleans()),
    tcp_recv_buf=st.none() | st.integers(0, 2**40),
)
snapshots = st.builds(
    Snapshot,
    locations=st.dictionaries(names, locations, max_size=3),
    upstreams=st.dictionaries(names, upstreams, max_size=3),
    plugins=st.dictionaries(names, st.dictionaries(st.text(), plain, max_size=3), max_size=3),
)


@given(snapshots)
def test_a_snapshot_comes_back_from_the_wire_as_it_was(snapshot: Snapshot) -> None:
    assert Snapshot.from_wire(msgpack.unpackb(msgpack.packb(snapshot.to_wire()))) == snapshot


def test_the_defaults_of_the_model_pass_its_own_checks() -> None:
    text = '[servers.web]\naddr = "127.0.0.1:80"\n[upstreams.app]\naddrs = ["127.0.0.1"]'
    snapshot = load_text(text)
    assert snapshot.servers["web"] == Server(addr=(parts.Listen("127.0.0.1", 80),))
    assert snapshot.upstreams["app"] == Upstream(addrs=(parts.Backend("127.0.0.1"),))
