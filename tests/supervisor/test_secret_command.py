"""`pingap secret` without an instance: what it prints, what it writes, and where it takes pass phrases from."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pingap import cli
from pingap.config.encryption import decrypt, is_encrypted
from tests.config.test_encryption import as_the_reference_does
from tests.kit.config import load

SITE = """\
# a site
[servers.web]
addr = "127.0.0.1:80"
locations = ["all"]

[locations.all] # the only one
upstream = "app"
includes = ["limits", "headers"]

[upstreams.app]
addrs = ["127.0.0.1:5000"]

[storages.limits]
category = "config"
value = "{limits}" # keep it short
secret = "$ENV:OLD" # of the service

[storages.headers]
category = "config"
value = "max_retries = 1"
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINGAP_SECRET", raising=False)
    monkeypatch.setenv("OLD", "old phrase")
    monkeypatch.setenv("NEW", "new phrase")


def run(*args: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(cli.commands, ["secret", *args], input=stdin)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pingap.toml"
    path.write_text(SITE.replace("{limits}", as_the_reference_does("old phrase", "weight = 5")))
    return path


def test_what_encrypt_prints_decrypt_reads(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("new phrase\n")
    done = run("encrypt", "--env", "NEW", stdin="hunter2\n")
    assert done.exit_code == 0 and is_encrypted(done.output)
    assert "hunter2" not in done.output and "new phrase" not in done.output
    again = run("decrypt", "--file", str(tmp_path / "pass"), stdin=done.output)
    assert (again.exit_code, again.output) == (0, "hunter2\n")


def test_the_usual_variable_needs_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGAP_SECRET", "usual")
    assert decrypt(run("encrypt", stdin="a text").output, "usual") == "a text"
    assert run("decrypt", stdin=as_the_reference_does("usual", "of old")).output == "of old\n"


def test_a_wrong_pass_phrase_is_told_and_nothing_else() -> None:
    sealed = run("encrypt", "--env", "NEW", stdin="hunter2").output
    done = run("decrypt", "--env", "OLD", stdin=sealed)
    assert done.exit_code == 1
    assert done.output == "pingap: the text cannot be decrypted: the pass phrase is wrong, or the text was changed\n"


@pytest.mark.parametrize(
    ("args", "stdin", "word"),
    [
        (["encrypt", "--env", "NOT_THERE"], "x", "NOT_THERE is not set"),
        (["encrypt", "--file", "/nonexistent"], "x", "cannot be read"),
        (["encrypt", "--env", "NEW", "--file", "x"], "x", "in a variable or in a file"),
        (["encrypt", "--env", "NEW"], "\n", "stdin holds no text"),
        (["encrypt", "--env", "NEW"], b"\xff", "stdin is not UTF-8"),
        (["rotate", "--new-env", "NEW"], "", "name the configuration with -c"),
    ],
)
def test_bad_usage_says_what_is_missing(args: list[str], stdin: str, word: str) -> None:
    done = run(*args, stdin=stdin)
    assert done.exit_code == 2 and word in done.output


def test_no_option_takes_a_pass_phrase_itself() -> None:
    for command in ("encrypt", "decrypt", "rotate"):
        assert "--pass" not in run(command, "--help").output


def test_rotate_encrypts_anew_and_touches_nothing_else(config: Path) -> None:
    before = config.read_text()
    done = run("rotate", "-c", str(config), "--new-env", "NEW")
    assert (done.exit_code, done.output) == (0, "1 value encrypted anew\n")
    after = config.read_text()
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert [old.split(" = ")[0] for old, _ in changed] == ["value", "secret"]
    assert changed[0][1].endswith('" # keep it short')
    assert changed[1][1] == 'secret = "$ENV:NEW" # of the service'
    assert load(config, env={"NEW": "new phrase"}).locations["all"].weight == 5


def test_rotate_with_a_wrong_pass_phrase_writes_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = config.read_bytes()
    monkeypatch.setenv("OLD", "not it")
    done = run("rotate", "-c", str(config), "--new-env", "NEW")
    assert done.exit_code == 2 and "storages.limits.value: cannot be decrypted" in done.output
    assert config.read_bytes() == before
    monkeypatch.setenv("BEFORE", "old phrase")
    assert run("rotate", "-c", str(config), "--new-env", "NEW", "--old-env", "BEFORE").exit_code == 0


def test_rotate_of_a_directory_writes_all_files_or_none(tmp_path: Path) -> None:
    good, bad = as_the_reference_does("old phrase", "weight = 5"), as_the_reference_does("another", "weight = 6")
    for name, value in (("a", good), ("b", bad)):
        (tmp_path / f"{name}.toml").write_text(f'[storages.{name}]\ncategory = "x"\nvalue = "{value}"\nsecret = "$ENV:OLD"\n')
    before = {path.name: path.read_text() for path in tmp_path.glob("*.toml")}
    assert run("rotate", "-c", str(tmp_path), "--new-env", "NEW").exit_code == 2
    assert {path.name: path.read_text() for path in tmp_path.glob("*.toml")} == before
    (tmp_path / "b.toml").write_text(before["b.toml"].replace(bad, good))
    assert run("rotate", "-c", str(tmp_path), "--new-env", "NEW").output == "2 values encrypted anew\n"
    kept = [path.read_text().split('value = "')[1].split('"')[0] for path in sorted(tmp_path.glob("*.toml"))]
    assert [decrypt(value, "new phrase") for value in kept] == ["weight = 5", "weight = 5"]
    assert kept[0][:30] == kept[1][:30] and kept[0] != kept[1], "they share a salt, and nothing else"


def test_a_value_that_is_in_a_file_is_left_and_told(config: Path) -> None:
    text = config.read_text()
    config.write_text(text + '\n[storages.far]\ncategory = "x"\nvalue = "$FILE:/run/far"\nsecret = "$ENV:OLD"\n')
    done = run("rotate", "-c", str(config), "--new-env", "NEW")
    assert done.exit_code == 0 and "note: storages.far: its value is not in the configuration" in done.output


def test_what_is_not_toml_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "pingap.hcl"
    value = as_the_reference_does("old phrase", "weight = 5")
    path.write_text(f'storage "limits" {{\n  category = "x"\n  value = "{value}"\n  secret = "$ENV:OLD"\n}}\n')
    before = path.read_bytes()
    done = run("rotate", "-c", str(path), "--new-env", "NEW")
    assert done.exit_code == 1 and "is not TOML, and only that can be written" in done.output
    assert path.read_bytes() == before


def test_where_nothing_is_secret_nothing_is_written(config: Path) -> None:
    config.write_text(SITE.replace('secret = "$ENV:OLD"', "").replace("{limits}", "weight = 5"))
    before = config.stat().st_mtime_ns
    assert run("rotate", "-c", str(config), "--new-env", "NEW").output == "nothing there has a secret\n"
    assert config.stat().st_mtime_ns == before
