"""A configuration with everything checked at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pingap import loading
from pingap.config.default import embedded
from pingap.config.problems import ConfigRefused
from pingap.config.storage.places import storage_of

SERVER = '[servers.a]\naddr = "127.0.0.1:7000"\nlocations = ["x"]\n'
PLUGIN = """
from pingap.plugin import CONTINUE, Action, Exchange, Plugin, Settings

class Mine(Plugin[Settings]):
    def request(self, exchange: Exchange) -> Action:
        return CONTINUE
"""


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        loading.load(storage_of(path))
    return [problem.path for problem in refused.value.problems]


def test_the_embedded_configuration_has_no_problems() -> None:
    snapshot = loading.load(storage_of(None, embedded(["127.0.0.1:1", "127.0.0.1:2"])))
    assert [str(addr) for addr in snapshot.servers["demo"].addr] == ["127.0.0.1:6188"]


def test_problems_of_keys_plugins_and_access_logs_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    more = 'access_log = "{hots}"\n[locations.x]\nplugins = ["p"]\nnonsense = 1\n[plugins.p]\ncategory = "ping"\n'
    path.write_text(SERVER + more)
    assert set(problems_of(path)) == {"servers.a.access_log", "locations.x.nonsense", "plugins.p.path"}


def test_a_wrong_access_log_alone_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(SERVER + 'access_log = "{hots}"\n[locations.x]\nplugins = ["pingap:ping"]\n')
    plain = loading.to_plain(str(path), None)
    assert plain["problems"] == [["servers.a.access_log", "{hots}: unknown tag", "did you mean {host}?", ""]]


def test_files_of_plugins_are_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    path = tmp_path / "good.toml"
    path.write_text(SERVER + '[locations.x]\nplugins = ["mine"]\n[plugins.mine]\ncategory = "python"\npath = "mine.py"\n')
    for source in (path, tmp_path):
        snapshot = loading.load(storage_of(source))
        assert snapshot.plugins["mine"]["path"] == str(tmp_path / "mine.py")


def test_what_came_out_of_a_storage_is_not_quoted_by_later_checks_either(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        SERVER + 'access_log = "$SECRET:log"\n[locations.x]\nplugins = ["pingap:ping"]\n[basic]\nerror_log = "$SECRET:file"\n'
        '[storages.log]\ncategory = "x"\nvalue = "{hunter2}"\n[storages.file]\ncategory = "x"\nvalue = "/nonexistent/hunter2/x"\n'
    )
    with pytest.raises(ConfigRefused) as refused:
        loading.load(storage_of(path))
    assert {problem.path for problem in refused.value.problems} == {"servers.a.access_log", "basic.error_log"}
    assert "hunter2" not in str(refused.value)
