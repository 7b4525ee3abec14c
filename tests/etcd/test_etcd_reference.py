"""A configuration of the reference in etcd: as it is there for each item, and as our own command copies it there."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pingap import cli
from tests.kit import reference
from tests.kit.etcd import Etcd

pytestmark = pytest.mark.processes

ITEMS = {str(path.relative_to(reference.ROOT / "by-item")): path.read_text() for path in (reference.ROOT / "by-item").rglob("*.toml")}


@pytest.mark.parametrize("is_copied", [False, True], ids=["keys", "copied"])
def test_every_key_says_in_etcd_what_it_says_in_a_file(
    is_copied: bool, etcd: Etcd, prefix: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    env, place = reference.certificates_in(home), f"etcd://{etcd.endpoint}{prefix}"
    if is_copied:
        done = CliRunner().invoke(cli.commands, ["config", "sync", "--no-check", str(reference.ROOT / "pingap.toml"), place])
        assert done.exit_code == 0, done.output
    else:
        for name, text in ITEMS.items():
            etcd.put(f"{prefix}/{name}", text)
    assert {name: etcd.get(f"{prefix}/{name}") for name in ITEMS} == ITEMS
    there = reference.comparable(reference.read(place, env))
    assert there == reference.comparable(reference.read(reference.ROOT / "pingap.toml", env))
