"""A configuration with everything checked at once."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pingap import loading
from pingap.config.default import embedded
from pingap.config.problems import ConfigRefused
from pingap.config.storage.places import storage_of
from tests.e2e.as_user import needs_root

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


TRACE = "import os, pathlib\nwith open({trace!r}, 'a') as file:\n    print(os.getuid(), file=file)\n"
USES = '[locations.x]\nplugins = ["mine"]\n[plugins.mine]\ncategory = "python"\npath = "mine.py"\n'


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Unlike `tmp_path` it can be read by any user."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def users_of_code(base: Path, files: dict[str, str]) -> tuple[list[int], list[str]]:
    """(user ids as which the plugin's code has run, paths of problems) of a check by root."""
    trace = base / "trace"
    (base / "mine.py").write_text(TRACE.format(trace=str(trace)) + PLUGIN)
    (base / "conf").mkdir()
    for name, text in files.items():
        (base / "conf" / name).write_text(text)
    problems = []
    try:
        loading.load_for_check(storage_of(base / "conf"))
    except ConfigRefused as refused:
        problems = [problem.path for problem in refused.problems]
    return [int(line) for line in trace.read_text().split()] if trace.exists() else [], problems


@needs_root
def test_the_user_may_come_out_of_the_environment(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "nobody")
    uses = USES.replace("mine.py", "../mine.py")
    ran, problems = users_of_code(open_dir, {"a.toml": '[basic]\nuser = "$ENV:WHO"\n' + SERVER + uses})
    assert set(ran) == {pwd.getpwnam("nobody").pw_uid} and not problems


@needs_root
@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"b.toml": '[basic]\nuser = "$ENV:NOT_SET_AT_ALL"\n'}, "basic.user"),
        ({"b.toml": '[basic]\nuser = "no-such-one"\n'}, "basic.user"),
        ({"b.toml": '[basic]\nuser = ["nobody"]\n'}, "basic.user"),
        ({"b.toml": '[basic]\nuser = "$SECRET:who"\n[storages.who]\ncategory = "x"\nvalue = "nobody"\n'}, "basic.user"),
        ({"b.toml": '[basic]\nuser = "nobody\n'}, "b.toml:2:15"),
        ({"b.toml": 'basic = [{ user = "nobody" }]\n'}, "basic"),
        ({"b.toml": '[basic]\nuser = "nobody"\n', "c.toml": '[basic]\nuser = ""\n'}, "basic"),
    ],
)
def test_no_code_is_run_while_it_is_not_known_as_whom(open_dir: Path, files: dict[str, str], path: str) -> None:
    """All else that is wrong is told as well."""
    uses = USES.replace("mine.py", "../mine.py")
    ran, problems = users_of_code(open_dir, {"a.toml": SERVER + "nonsense = 1\n" + uses, **files})
    assert not ran
    assert problems.count(path) == 1 and "servers.a.nonsense" in problems


ACME = """
[servers.web]
addr = "127.0.0.1:0"
global_certificates = true
[certificates.site]
domains = "example.com"
acme = "lets_encrypt"
"""


def test_certificates_that_could_not_be_kept_are_no_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "conf.toml").write_text(f'[basic]\nacme_directory = "{tmp_path}/file/acme"\n{ACME}')
    plain = loading.to_plain(str(tmp_path / "conf.toml"), None)
    assert [problem[0] for problem in plain["problems"]] == ["basic.acme_directory"]
    with pytest.raises(ConfigRefused, match=r"basic\.acme_directory"):
        loading.load_for_check(storage_of(tmp_path / "conf.toml"), str(tmp_path / "conf.toml"))


def test_who_starts_as_another_is_told_where_certificates_are_kept(tmp_path: Path) -> None:
    (tmp_path / "conf.toml").write_text(f'[basic]\nacme_directory = "{tmp_path}/acme"\n{ACME}')
    assert loading.to_plain(str(tmp_path / "conf.toml"), None)["folder"] == f"{tmp_path}/acme"
    assert not (tmp_path / "acme").exists(), "it was only looked at"
