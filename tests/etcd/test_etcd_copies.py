"""A configuration copied from files to etcd and back, by the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner

from pingap import cli
from pingap.config.storage.base import Document
from pingap.config.storage.etcd.storage import EtcdStorage
from tests.kit.etcd import Etcd

pytestmark = pytest.mark.processes

SERVER = '# the door\n[servers.web]\naddr = "127.0.0.1:6188"\nlocations = ["a"]\n'
LOCATION = '[locations.a]\nupstream = "u"\nincludes = ["common"]\n'
REST = '[upstreams.u]\naddrs = ["127.0.0.1:1"]\n\n[storages.common]\ncategory = "config"\nvalue = "weight = 7"\n'


def run(*args: str) -> str:
    done = CliRunner().invoke(cli.commands, args)
    assert done.exit_code == 0, done.output
    return done.output


def test_from_files_to_etcd_and_back_it_is_the_same_text(etcd: Etcd, prefix: str, storage: EtcdStorage, tmp_path: Path) -> None:
    source, place = tmp_path / "pingap.toml", f"etcd://{etcd.endpoint}{prefix}?enable_history=true"
    source.write_text("\n".join((SERVER, LOCATION, REST)))
    assert "4 documents written" in run("config", "sync", str(source), place)
    texts = {document.name: document.text for document in storage.read().documents}
    assert (texts["servers/web.toml"], texts["locations/a.toml"]) == (SERVER, LOCATION)
    storage.write(Document("upstreams/mine.toml", '[upstreams.mine]\naddrs = ["127.0.0.1:2"]\n'), storage.read().version)
    source.write_text(source.read_text().replace("weight = 7", "weight = 8"))
    told = run("up", "-c", str(source), "--sync", place)
    assert "changed: storages.common" in told and "not in the source, and left: upstreams.mine" in told
    assert "weight = 7" in run("config", "history", "-c", place, "storages", "common", "-n", "1")
    run("config", "restore", "-c", place, "storages", "common")
    run("config", "sync", place, f"{tmp_path}/back?separation=true")
    assert (tmp_path / "back" / "servers" / "web.toml").read_text() == SERVER
    assert tomli.loads((tmp_path / "back" / "storages" / "common.toml").read_text())["storages"]["common"]["value"] == "weight = 7"
    assert "removed: upstreams.mine" in run("config", "sync", str(source), place, "--delete")
    assert "nothing to do" in run("config", "sync", str(source), place)
