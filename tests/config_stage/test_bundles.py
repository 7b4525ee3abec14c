"""Generations in bundles: what goes in comes out, and an edit changes few of them."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pingap.config.diff import diff
from pingap.config.model import Code, Location, Server, Snapshot
from pingap.config.parts import Listen
from pingap.stages.bundles import SECTIONS, OnTheWay, apart, digests, packed, unpacked
from pingap.stages.steps import finished
from tests.kit.config import load_text

TEXT = """
[basic]
name = "x"
trusted_proxies = ["10.0.0.0/8"]
[servers.web]
addr = "127.0.0.1:6188"
locations = ["all"]
access_log = "/tmp/log combined"
[locations.all]
path = "~^/(?<id>\\\\d+)"
host = "a.example, *.b.example"
upstream = "api"
match_headers = ["x-a:1", "x-b"]
proxy_set_headers = ["x:y"]
rewrite = "^/a /b"
max_retry_window = "3s"
plugins = ["mine"]
[upstreams.api]
addrs = ["127.0.0.1:9 5", "[::1]:80"]
algo = "hash:header:x"
health_check = "http://name/path?check_frequency=3s"
read_timeout = "5s"
[plugins.mine]
category = "mine"
rows = [["a", "b"], {c = [1, 2]}]
"""


def everything() -> Snapshot:
    snapshot = load_text(TEXT)
    assert snapshot.locations["all"].rewrite
    return replace(snapshot, code={"mine": Code("/mine.py", b"\xff\x00")}, ends={"site": 1.5e9})


def many(*without: int) -> Snapshot:
    numbers = (number for number in range(5000) if number not in without)
    return Snapshot(locations={f"l{number}": Location(upstream=f"u{number}") for number in numbers})


def test_what_is_packed_comes_out_as_it_was() -> None:
    snapshot, plans = everything(), {"all": 3}
    whole = packed(snapshot, plans)
    assert finished(unpacked(whole.contents, whole.blobs)) == (snapshot, plans)


def test_plugins_see_arrays_as_the_lists_that_the_file_has() -> None:
    whole = packed(everything(), {})
    snapshot, _ = finished(unpacked(whole.contents, whole.blobs, ("plugins",)))
    assert snapshot.plugins["mine"]["rows"] == [["a", "b"], {"c": [1, 2]}]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_stage_needs_the_bundles_of_its_sections_only(section: str) -> None:
    snapshot, plans = everything(), {"all": 3}
    whole = packed(snapshot, plans)
    needed = digests(whole.contents, (section,))
    found = finished(unpacked(whole.contents, {digest: whole.blobs[digest] for digest in needed}, (section,)))
    expected: Any = Snapshot() if section == "plans" else replace(Snapshot(), **{section: getattr(snapshot, section)})
    assert found == (expected, plans if section == "plans" else {})


@pytest.mark.parametrize("without", [(), (0,), (2500,), (4999,)])
def test_an_edit_makes_few_new_bundles(without: tuple[int, ...]) -> None:
    before, after = packed(many(1234), {}), packed(many(*without), {})
    assert len(before.blobs) > 20
    assert len(after.blobs.keys() - before.blobs.keys()) <= 4
    assert list(finished(unpacked(after.contents, after.blobs))[0].locations) == list(many(*without).locations)


def test_a_name_that_comes_twice_in_a_bundles_life_is_cut_after_so_many_items_at_the_latest() -> None:
    whole = packed(Snapshot(locations={f"l{number}": Location() for number in range(20_000)}), {})
    sizes = [len(blob) for blob in whole.blobs.values()]
    assert max(sizes) < 16 * 1024


def test_what_cannot_travel_is_an_error_where_it_is_packed() -> None:
    with pytest.raises(OverflowError):
        packed(Snapshot(plugins={"mine": {"n": 2**70}}), {})


@pytest.mark.parametrize("stage", ["accept", "routing", "plugins", "upstream", "discovery", "logging", "metrics", "acme"])
def test_what_a_stage_reads_of_a_snapshot_is_what_it_fetches(stage: str) -> None:
    """A section that is not fetched is empty there, which nobody would notice at once."""
    module = import_module(f"pingap.stages.{stage}.actor")
    texts = [path.read_text() for path in Path(module.__file__ or "").parent.rglob("*.py")]
    read = {name for text in texts for name in re.findall(r"\bsnapshot\.(\w+)", text)} & SECTIONS.keys()
    assert read - {"plans"} == set(module.SECTIONS) - {"plans"}
    assert ("certificates" in module.SECTIONS) == (stage in ("accept", "acme")), "private keys go to these alone"


def test_items_on_the_way_are_those_of_the_bundles() -> None:
    whole = packed(many(), {})
    snapshot, _ = finished(unpacked(whole.contents, whole.blobs, keeps=False))
    assert isinstance(snapshot.locations, OnTheWay)
    assert snapshot == many()
    assert (list(snapshot.locations), len(snapshot.locations)) == (list(many().locations), 5000)
    assert snapshot.locations["l4000"] == many().locations["l4000"]
    with pytest.raises(KeyError):
        snapshot.locations["other"]


def test_two_generations_are_compared_by_the_bundles_in_which_they_differ() -> None:
    before = many()
    after = replace(before, locations={**many(7).locations, "l4000": Location(upstream="other"), "new": Location(upstream="u")})
    old, new = apart(packed(before, {}), packed(after, {}))
    assert max(len(old), len(new)) < 2000
    assert diff(replace(before, locations=dict(old.items())), replace(after, locations=dict(new.items()))) == diff(before, after)
    assert [len(one) for one in apart(packed(before, {}), packed(many(), {}))] == [0, 0]


def test_a_stage_may_know_which_upstreams_a_server_uses_without_its_locations() -> None:
    named = {"a": "api", "b": "web", "c": "api", "d": "", "e": "$tenant"}
    server = Server(addr=(Listen("127.0.0.1", 80),), locations=tuple(named))
    snapshot = Snapshot(servers={"web": server}, locations={name: Location(upstream=upstream) for name, upstream in named.items()})
    whole = packed(snapshot, {})
    assert finished(unpacked(whole.contents, whole.blobs, ("uses",)))[0].uses == {"web": ("api", "web")}
