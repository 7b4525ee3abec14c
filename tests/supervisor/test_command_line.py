"""The command line without an instance: flags, what comes later, and bad usage."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pingap import cli, flags


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PINGAP_CONF", "PINGAP_LOG", *flags.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(cli.commands, list(args))


@pytest.mark.parametrize("flag", ["--cp"])
def test_a_flag_that_comes_later_is_refused_as_such(flag: str) -> None:
    done = run("up", flag)
    assert done.exit_code == 2 and "is not supported yet" in done.output


@pytest.mark.parametrize("flag", ["--admin"])
def test_so_is_one_that_takes_a_value(flag: str) -> None:
    done = run("up", flag, "x")
    assert done.exit_code == 2 and f"{flag} is not supported yet" in done.output


@pytest.mark.parametrize("name", sorted(flags.ENVIRONMENT))
def test_so_is_an_environment_variable_unless_it_is_switched_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "true")
    done = run("up")
    assert done.exit_code == 2 and f"{name} is not supported yet" in done.output
    assert flags.refused({}, {name: "false"}) == []


@pytest.mark.parametrize(
    ("flag", "variable", "wanted"),
    [(None, "", True), (None, "true", True), (None, "false", False), (None, "0", False), (True, "0", True), (False, "1", False)],
)
def test_changes_are_followed_unless_it_is_switched_off(flag: bool | None, variable: str, wanted: bool) -> None:
    assert flags.follows(flag, {"PINGAP_AUTORELOAD": variable}) is wanted
    assert flags.follows(flag, {}) is (flag is not False)


def test_several_are_told_at_once() -> None:
    done = run("up", "--admin=127.0.0.1:1", "--cp")
    assert "--admin" in done.output and "--cp" in done.output


@pytest.mark.parametrize("value", ["upstream", "upstream=", "=2", "upstream=0", "upstream=-1", "upstream=two", "upstream=1025"])
def test_a_scale_that_is_none_is_refused(value: str) -> None:
    done = run("up", "--scale", value)
    assert done.exit_code == 2 and "is not STAGE=N" in done.output


def test_the_reference_writes_the_configuration_with_an_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "a=b.toml").write_text('[servers.web]\naddr = "127.0.0.1:6188"\n')
    for words in (("check", "-c=a=b.toml"), ("up", "-t", f"-c={tmp_path}/a=b.toml"), ("check", "-c", "a=b.toml"), ("check", "-ca=b.toml")):
        done = run(*words)
        assert (done.exit_code, "no problems" in done.output) == (0, True), (words, done.output)


def test_check_without_a_configuration_says_what_to_name() -> None:
    done = run("check")
    assert done.exit_code == 2 and "name a configuration with -c" in done.output


def test_without_a_subcommand_flags_are_those_of_up(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--cp"])
    assert ended.value.code == 2
    assert "--cp is not supported yet" in capsys.readouterr().err
