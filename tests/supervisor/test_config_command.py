"""`pingap config` and `--sync`, with real files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result

from pingap import cli
from pingap.config.edit import put
from pingap.config.storage.base import Earlier, Outdated
from pingap.config.storage.file import FileStorage
from pingap.config.storage.places import storage_of

BASIC = '# the edge\n[basic]\nname = "edge"\n'
WEB = '# the door\n[servers.web] # of all\naddr = "127.0.0.1:6188"\nlocations = ["a"]\n'
A = '[locations.a]\nupstream = "u"\nincludes = ["common"]\n'
U = '[upstreams.u]\naddrs = ["127.0.0.1:1"]\n'
COMMON = '[storages.common]\ncategory = "config"\nvalue = """\npath = "/a"\n"""\n'
ALL = BASIC + WEB + A + U + COMMON


def run(*args: str) -> Result:
    return CliRunner().invoke(cli.commands, args)


def said(*args: str) -> str:
    done = run(*args)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """One file in a directory, which is not where it belongs in any layout."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "all.toml").write_text(ALL)
    return tmp_path / "conf"


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def tables(root: Path) -> dict[str, object]:
    found: dict[str, dict[str, object]] = {}
    for text in files(root).values() if root.is_dir() else [root.read_text()]:
        for section, table in tomli.loads(text).items():
            found.setdefault(section, {}).update(table)
    return dict(found)


# -- migrate ------------------------------------------------------------------------------------------


def test_a_directory_is_migrated_where_it_is_and_its_old_files_are_kept(conf: Path) -> None:
    output = said("config", "migrate", "-c", str(conf))
    assert "servers.toml: written" in output and "all.toml: removed" in output
    assert files(conf) == {
        "basic.toml": BASIC,
        "servers.toml": WEB,
        "locations.toml": A,
        "upstreams.toml": U,
        "storages.toml": COMMON,
    }
    [kept] = re.findall(r"as they were are in (.*)\n", output)
    assert files(Path(kept)) == {"all.toml": ALL}
    assert (Path(kept).stat().st_mode & 0o777, Path(kept).parent) == (0o700, conf.parent)
    assert "every item is where it belongs" in said("config", "migrate", "-c", str(conf))
    assert "from now on" in said("config", "migrate", "-c", str(conf), "--to", "item")
    assert files(conf)["servers/web.toml"] == WEB and files(conf)["basic.toml"] == BASIC
    assert tables(conf) == tomli.loads(ALL)
    assert len([name for name in os.listdir(conf.parent) if name.startswith("conf-")]) == 2


@pytest.mark.parametrize("modes", [(0o644, 0o644), (0o640, 0o600)])
@pytest.mark.parametrize("args", [["migrate", "--to", "file"], ["migrate", "--to", "type"], ["sync"]])
def test_what_is_made_can_be_read_by_those_who_could_read_what_it_is_made_of(
    tmp_path: Path, modes: tuple[int, int], args: list[str]
) -> None:
    """Of the strictest, for a key may be in it, whatever the mode of a file is into which it goes."""
    conf, other = tmp_path / "conf", tmp_path / "other"
    conf.mkdir()
    (conf / "all.toml").write_text('[storages.a]\ncategory = "x"\nvalue = "1"\n')
    (conf / "storages.toml").write_text('[storages.b]\ncategory = "x"\nvalue = "1"\n')
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    for name, mode in zip(("storages.toml", "all.toml"), modes, strict=True):
        (conf / name).chmod(mode)
        os.chown(conf / name, owner, -1)
    said("config", *args, *([str(conf), str(other), "--no-check"] if args == ["sync"] else ["-c", str(conf)]))
    made = {"file": tmp_path / "conf.toml", "type": conf / "storages.toml"}.get(args[-1], other / "storages.toml")
    status = made.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (owner, modes[1])


def test_what_the_source_says_is_the_layout_that_is_meant(conf: Path) -> None:
    said("config", "migrate", "-c", f"{conf}?separation=true")
    assert "locations/a.toml" in files(conf)


def test_a_check_changes_nothing_whatever_the_layout(conf: Path) -> None:
    for words in (("check", "-c"), ("up", "-t", "-c")):
        said(*words, f"{conf}?separation=true&enable_history=true")
        assert (files(conf), os.listdir(conf.parent)) == ({"all.toml": ALL}, ["conf"])


def test_a_dry_run_tells_and_does_nothing(conf: Path) -> None:
    output = said("config", "migrate", "-c", str(conf), "--dry-run")
    assert "servers.toml: would be written" in output and "all.toml: would be removed" in output
    assert (files(conf), os.listdir(conf.parent)) == ({"all.toml": ALL}, ["conf"])


def test_a_file_becomes_a_directory_beside_it_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "pingap.toml").write_text(ALL)
    output = said("config", "migrate", "-c", str(tmp_path / "pingap.toml"), "--to", "item")
    assert f"-c '{tmp_path}/pingap?separation=true'" in output
    assert files(tmp_path / "pingap")["servers/web.toml"] == WEB
    assert (tmp_path / "pingap.toml").read_text() == ALL
    assert "is there already" in run("config", "migrate", "-c", str(tmp_path / "pingap"), "--to", "file").output
    said("config", "migrate", "-c", str(tmp_path / "pingap"), "--to", "file", "--into", str(tmp_path / "again.toml"))
    assert tables(tmp_path / "again.toml") == tomli.loads(ALL)
    assert "# the door" in (tmp_path / "again.toml").read_text()


@pytest.mark.parametrize(
    ("source", "into", "args", "place"),
    [
        ("conf", "new?enable_history=true", ["--to", "item"], "new?separation=true&enable_history=true"),
        ("conf?enable_history=true", "new?enable_history=false", ["--to", "item"], "new?separation=true&enable_history=false"),
        ("conf?enable_history=true", "new?separation=true", [], "new?separation=true&enable_history=true"),
        ("conf", "new?separation=true", ["--to", "type"], "new"),
    ],
)
def test_what_the_new_place_says_goes_with_what_is_asked_for(
    conf: Path, monkeypatch: pytest.MonkeyPatch, source: str, into: str, args: list[str], place: str
) -> None:
    monkeypatch.chdir(conf.parent)
    assert f"name the new one with -c '{conf.parent}/{place}'" in said("config", "migrate", "-c", source, "--into", into, *args)
    assert sorted(os.listdir()) == ["conf", "new"]
    assert Path("new/servers").is_dir() == ("separation" in place)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--to", "file", "--into", "there.toml"], "is there already"),
        (["--to", "item", "--into", "x.toml"], "would be a file"),
        (["--to", "file", "--into", "x"], "would be a directory"),
        (["--to", "item", "--into", "etcd://127.0.0.1:1/x"], "config sync"),
        (["--backup", "there.toml"], "copies of the files cannot be put into there.toml: file exists"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_happens(conf: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], why: str) -> None:
    monkeypatch.chdir(conf.parent)
    Path("there.toml").write_text("")
    done = run("config", "migrate", "-c", "conf", *args)
    assert done.exit_code == 1 and why in done.output
    assert (files(conf), sorted(os.listdir())) == ({"all.toml": ALL}, ["conf", "there.toml"])


def test_a_configuration_with_mistakes_in_its_form_is_not_migrated(conf: Path) -> None:
    (conf / "more.toml").write_text("[servers.web]\n")
    (conf / "bad.toml").write_text("[")
    done = run("config", "migrate", "-c", str(conf))
    assert done.exit_code == 2
    assert "servers.web: is in two files: all.toml and more.toml" in done.output and "bad.toml:1:2" in done.output


def test_hcl_becomes_toml_and_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "all.hcl").write_text('# lost\nserver "web" {\n  addr = "127.0.0.1:6188"\n}\n')
    output = said("config", "migrate", "-c", str(tmp_path / "conf"))
    assert "all.hcl is of a form of which comments cannot be kept" in output
    assert files(tmp_path / "conf") == {"servers.toml": '[servers.web]\naddr = "127.0.0.1:6188"\n'}
    done = run("config", "sync", str(tmp_path / "conf"), str(tmp_path / "copy.hcl"))
    assert done.exit_code == 1 and "does not write into" in done.output and not (tmp_path / "copy.hcl").exists()


PLUGIN = "from pingap.plugin import Plugin\n\nclass Mine(Plugin):\n    def request(self, exchange): ...\n"


@pytest.mark.parametrize("args", [["migrate", "--to", "file"], ["sync"]])
def test_a_relative_path_has_to_lead_to_the_same_from_the_new_place(conf: Path, tmp_path: Path, args: list[str]) -> None:
    (conf / "plugins.toml").write_text('[plugins.mine]\ncategory = "python"\npath = "code/mine.py"\n')
    (conf / "code").mkdir()
    (conf / "code" / "mine.py").write_text(PLUGIN)
    args += ["-c", str(conf)] if args[0] == "migrate" else [str(conf), str(tmp_path / "conf.toml")]
    done = run("config", *args)
    assert done.exit_code and "code/mine.py" in done.output and not (tmp_path / "conf.toml").exists()
    (tmp_path / "code").symlink_to(conf / "code")
    said("config", *args)
    assert 'path = "code/mine.py"' in (tmp_path / "conf.toml").read_text()


# -- sync ---------------------------------------------------------------------------------------------


def test_a_copy_is_as_it_is_written_and_a_second_one_has_nothing_to_do(conf: Path, tmp_path: Path) -> None:
    target = f"{tmp_path}/copy?separation=true"
    output = said("config", "sync", str(conf), target)
    assert "added: basic, servers.web, locations.a, upstreams.u, storages.common" in output and "5 documents written" in output
    assert files(tmp_path / "copy")["locations/a.toml"] == A, "includes are not resolved"
    assert "nothing to do" in said("config", "sync", str(conf), target)


def test_what_only_the_target_has_stays_unless_it_is_to_go(conf: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_text('# theirs\n[upstreams.mine]\naddrs = ["127.0.0.1:2"]\n[upstreams.u]\naddrs = ["127.0.0.1:3"]\n')
    assert "not in the source, and left: upstreams.mine" in said("config", "sync", str(conf), str(copy))
    assert tables(copy)["upstreams"] == {"mine": {"addrs": ["127.0.0.1:2"]}, "u": {"addrs": ["127.0.0.1:1"]}}
    before = copy.read_text()
    assert "would be removed: upstreams.mine" in said("config", "sync", str(conf), str(copy), "--delete", "--dry-run")
    assert copy.read_text() == before
    said("config", "sync", str(conf), str(copy), "--delete")
    assert tables(copy) == tomli.loads(ALL)


def test_what_has_problems_is_not_copied_unless_it_is_to_be(conf: Path, tmp_path: Path) -> None:
    (conf / "all.toml").write_text(ALL.replace("127.0.0.1:6188", "$ENV:NOT_SET_HERE"))
    done = run("config", "sync", str(conf), str(tmp_path / "copy.toml"))
    assert done.exit_code == 2 and "NOT_SET_HERE" in done.output and not (tmp_path / "copy.toml").exists()
    said("config", "sync", str(conf), str(tmp_path / "copy.toml"), "--no-check")
    assert 'addr = "$ENV:NOT_SET_HERE"' in (tmp_path / "copy.toml").read_text()


def test_nothing_is_written_over_what_somebody_else_has_just_written(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_text("[basic]\n")
    home_of = FileStorage.home_of

    def meanwhile(storage: FileStorage, section: str, name: str) -> str:
        if not os.environ.get("DONE"):
            monkeypatch.setenv("DONE", "1")
            copy.write_text('[basic]\nname = "theirs"\n')
        return home_of(storage, section, name)

    monkeypatch.setattr(FileStorage, "home_of", meanwhile)
    done = run("config", "sync", str(conf), str(copy))
    assert done.exit_code == 1 and "has changed since it was read" in done.output
    assert copy.read_text() == '[basic]\nname = "theirs"\n'


def test_a_copy_of_nothing_empties_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("# nothing\n")
    (tmp_path / "full.toml").write_text(ALL)
    done = run("config", "sync", str(tmp_path / "empty.toml"), str(tmp_path / "full.toml"), "--delete", "--no-check")
    assert done.exit_code == 1 and "no item to copy" in done.output
    assert (tmp_path / "full.toml").read_text() == ALL


def test_the_references_flag_copies_and_ends(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "5 documents written" in said("up", "-c", str(conf), "--sync", f"{tmp_path}/copy?separation=true")
    assert tables(tmp_path / "copy") == tomli.loads(ALL)
    assert "1 document written" in said("up", "--upstream", "127.0.0.1:3000", "--sync", str(tmp_path / "quick.toml"))
    assert "127.0.0.1:3000" in (tmp_path / "quick.toml").read_text()
    monkeypatch.chdir(tmp_path)
    assert run("up", "--sync", "x").exit_code == 2


# -- history ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory with history, in which a server had three addresses and a comment."""
    monkeypatch.setattr("pingap.config.storage.history.time.time", lambda: 1_700_000_000)
    source = f"{tmp_path}/conf?separation=true&enable_history=true"
    (tmp_path / "one.toml").write_text(ALL)
    said("config", "sync", str(tmp_path / "one.toml"), source)
    for port in (6189, 6190):
        put(storage_of(source), "servers", "web", {"addr": f"127.0.0.1:{port}", "locations": ["a"]}, storage_of(source).read().version)
    return source


def test_earlier_texts_are_listed_and_shown(kept: str) -> None:
    listed = said("config", "history", "-c", kept, "servers", "web").splitlines()
    assert [line.split()[0] for line in listed] == ["1", "2"]
    assert all("lines" in line for line in listed)
    assert said("config", "history", "-c", kept, "servers", "web", "-n", "2") == WEB
    assert [one["text"] for one in json.loads(said("config", "history", "-c", kept, "servers", "web", "--json"))][1] == WEB
    assert said("config", "history", "-c", kept, "basic") == "no earlier text is kept\n"


def test_a_time_that_no_calendar_has_is_shown_as_it_is(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileStorage, "history", lambda self, document: (Earlier(10**18, "[servers.web]\n"), Earlier(10**30, "")))
    assert f"until {10**18}" in said("config", "history", "-c", kept, "servers", "web")


def test_an_item_gets_back_what_it_was_comments_too(kept: str) -> None:
    root = Path(kept.partition("?")[0])
    assert said("config", "restore", "-c", kept, "servers", "web", "2", "--dry-run") == WEB
    assert "6190" in files(root)["servers/web.toml"]
    assert "servers/web.toml: written" in said("config", "restore", "-c", kept, "servers", "web", "2")
    assert files(root)["servers/web.toml"] == WEB
    assert "6190" in said("config", "history", "-c", kept, "servers", "web", "-n", "1"), "what it replaced is kept as well"
    said("config", "restore", "-c", kept, "servers", "web")
    assert "6190" in files(root)["servers/web.toml"]


def test_a_removed_item_comes_back(kept: str) -> None:
    root = Path(kept.partition("?")[0])
    storage = storage_of(kept)
    put(storage, "storages", "common", None, storage.read().version)
    assert "storages/common.toml" not in files(root)
    said("config", "restore", "-c", kept, "storages", "common")
    assert files(root)["storages/common.toml"] == COMMON


def test_what_would_break_the_configuration_is_not_restored(kept: str) -> None:
    root = Path(kept.partition("?")[0])
    storage = storage_of(kept)
    put(storage, "servers", "web", {"addr": "127.0.0.1:6188"}, storage.read().version)
    put(storage, "locations", "a", None, storage.read().version)
    before = files(root)
    done = run("config", "restore", "-c", kept, "servers", "web")
    assert done.exit_code == 2 and "location 'a' does not exist" in done.output
    assert files(root) == before


def test_of_a_document_with_many_items_each_has_its_own_history(tmp_path: Path) -> None:
    source = f"{tmp_path}/pingap.toml?enable_history=true"
    (tmp_path / "pingap.toml").write_text(ALL)
    for name in ("one", "two", "three"):
        put(storage_of(source), "basic", "", {"name": name}, storage_of(source).read().version)
    put(storage_of(source), "servers", "web", {"addr": "127.0.0.1:1", "locations": ["a"]}, storage_of(source).read().version)
    assert len(said("config", "history", "-c", source, "basic").splitlines()) == 3
    assert len(said("config", "history", "-c", source, "servers", "web").splitlines()) == 1
    said("config", "restore", "-c", source, "basic", "3")
    text = (tmp_path / "pingap.toml").read_text()
    assert text.startswith(BASIC) and "127.0.0.1:1" in text


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["restore", "servers", "web", "9"], "servers web has 2 earlier texts"),
        (["restore", "servers", "web", "two"], "no number"),
        (["restore", "basic", "1"], "basic has no earlier texts"),
        (["restore", "servers"], "has items: name one"),
        (["history", "basic", "x"], "has no items"),
        (["history", "server", "web"], "there is no section [server]: did you mean 'servers'?"),
        (["restore", "../x", "web"], "there is no section [../x]"),
    ],
)
def test_what_is_not_there_is_told(kept: str, args: list[str], why: str) -> None:
    done = run("config", args[0], "-c", kept, *args[1:])
    assert done.exit_code in (1, 2) and why in done.output


def test_without_history_it_is_said_how_to_keep_one(conf: Path) -> None:
    done = run("config", "history", "-c", str(conf), "servers", "web")
    assert done.exit_code == 2 and "?enable_history=true" in done.output


def test_a_restore_that_somebody_else_overtakes_writes_nothing(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*_: object) -> str:
        raise Outdated("the configuration has changed since it was read")

    monkeypatch.setattr(FileStorage, "write", overtaken)
    done = run("config", "restore", "-c", kept, "servers", "web")
    assert done.exit_code == 1 and "has changed" in done.output
