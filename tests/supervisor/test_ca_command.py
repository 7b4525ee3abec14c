"""`pingap ca`: what it makes, that it overwrites nothing, what it says."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from pingap import cli, dev_authority
from pingap.config.notes import notes_on
from pingap.config.problems import BadValue
from tests.kit.config import load_text
from tests.kit.peers import needs


def run(place: Path, *args: str) -> Result:
    return CliRunner().invoke(cli.commands, ["ca", "--dir", str(place), *args])


def test_it_makes_what_the_configuration_takes(tmp_path: Path) -> None:
    place = tmp_path / "new" / "ca"
    done = run(place)
    assert done.exit_code == 0 and done.output.startswith("made: pingap development CA (")
    assert oct((place / "ca.key").stat().st_mode & 0o777) == "0o600" and oct(place.stat().st_mode & 0o777) == "0o700"
    section = done.output[done.output.index("  [certificates.dev]") : done.output.index("\n\nTo trust")]
    snapshot = load_text('[servers.web]\naddr = "127.0.0.1:443"\nglobal_certificates = true\n' + section)
    assert snapshot.certificates["dev"].is_ca and not notes_on(snapshot)


def test_its_certificate_says_that_it_is_for_little(tmp_path: Path) -> None:
    run(tmp_path)
    made = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    constraints = made.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical and {str(one.value) for one in constraints.value.permitted_subtrees or ()} == set(dev_authority.DOMAINS)
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.ca and basic.path_length == 0
    assert timedelta(3650) < made.not_valid_after_utc - datetime.now(UTC) < timedelta(3653)


def test_what_is_there_is_shown_and_never_overwritten(tmp_path: Path) -> None:
    run(tmp_path, "--name", "Tea House")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = run(tmp_path)
    assert again.exit_code == 0 and again.output.startswith("there is one already: Tea House\n")
    for more in (["--name", "x"], ["--domains", "x.test"]):
        other = run(tmp_path, *more)
        assert other.exit_code == 1 and "has one already, 'Tea House' until 20" in other.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("missing", ["ca.pem", "ca.key"])
def test_half_of_one_is_not_made_whole(tmp_path: Path, missing: str) -> None:
    run(tmp_path)
    (tmp_path / missing).unlink()
    done = run(tmp_path)
    assert done.exit_code == 2 and "not the other file" in done.output
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    ("written", "domains"),
    [
        ("dev.example.com", ("dev.example.com", "127.0.0.0/8", "::1/128")),
        (" *.Dev.example.com, bücher.test, 10.1.2.3/8", ("dev.example.com", "xn--bcher-kva.test", "10.0.0.0/8")),
        ("*", ()),
    ],
)
def test_domains_are_what_was_named(tmp_path: Path, written: str, domains: tuple[str, ...]) -> None:
    done = run(tmp_path, "--domains", written, "--json")
    told = json.loads(done.output)
    assert tuple(told["domains"]) == domains and told["made"] and Path(told["key"]).is_file()
    assert {tuple(one) for one in told["trust"]} == {("system", "trust", "undo")}
    text = run(tmp_path).output
    assert ("ANY NAME" in text) is (not domains)


@pytest.mark.parametrize("written", ["", ",", "a b", "10.0.0.0/8", "*,a.test"])
def test_what_names_nothing_is_refused_and_nothing_is_written(tmp_path: Path, written: str) -> None:
    done = run(tmp_path / "new", "--domains", written)
    assert done.exit_code == 2 and done.output.startswith("pingap: ")
    assert not (tmp_path / "new").exists()


def test_a_long_host_name_is_cut_and_a_long_name_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)
    assert len(dev_authority.usual_name()) == 64
    with pytest.raises(BadValue):
        dev_authority.made("x" * 65, (), dev_authority.now())


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "ca")
    assert done.exit_code == 1 and "file" in done.output


def test_an_authority_that_has_ended_says_so(tmp_path: Path) -> None:
    dev_authority.write(tmp_path, *dev_authority.made("Old", (), datetime.now(UTC) - timedelta(4000)))
    assert "ended on" in run(tmp_path).output


@pytest.mark.processes
def test_the_line_for_chromium_works_in_a_home_without_its_database(tmp_path: Path) -> None:
    needs("certutil")
    run(tmp_path / "ca")
    told = json.loads(run(tmp_path / "ca", "--json").output)["trust"]
    [line] = [one for one in told if one["system"].startswith("Chromium")]
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def shell(command: str) -> str:
        return subprocess.run(["sh", "-c", command], check=True, env=env, stdin=subprocess.DEVNULL, stdout=-1, text=True, timeout=30).stdout

    shell(line["trust"])
    assert "pingap-dev" in shell("certutil -d sql:$HOME/.pki/nssdb -L")
    shell(line["undo"])
    assert "pingap-dev" not in shell("certutil -d sql:$HOME/.pki/nssdb -L")
