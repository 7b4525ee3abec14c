"""Several documents changed in one step: all of it or nothing, whatever comes between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pingap.config.problems import ConfigRefused
from pingap.config.storage import file as module
from pingap.config.storage import journal, regular
from pingap.config.storage.base import Document, NothingThere, NotWritten, Outdated, Storage, reading_of
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of

OLD = {"a.toml": "a = 1\n", "b.toml": "b = 1\n", "sub/c.toml": "c = 1\n"}
NEW = {"a.toml": "a = 2\n", "sub/c.toml": "c = 1\n", "servers/d.toml": "d = 2\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in OLD.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    return tmp_path / "conf"


def texts(storage: Storage) -> dict[str, str]:
    return {document.name: document.text for document in storage.read().documents}


def change(storage: Storage) -> str:
    """From OLD to NEW."""
    written = [Document("a.toml", NEW["a.toml"]), Document("servers/d.toml", NEW["servers/d.toml"])]
    return storage.replace(written, ["b.toml"], reading_of(storage).version)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_some_are_written_some_removed_and_the_others_stay(root: Path) -> None:
    storage = storage_of(root)
    assert change(storage) == storage.read().version
    assert texts(storage) == NEW
    assert files(root) == sorted(NEW), "nothing else is left"


def test_the_journal_is_for_those_who_can_read_what_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows the configuration reads it in the middle of a change, or after the writer was killed."""
    (root / "a.toml").chmod(0o640)
    (root / "b.toml").chmod(0o644)
    modes: list[int] = []
    real = module.FileStorage._do

    def looked(storage: module.FileStorage, *args: Any) -> None:
        modes.append((root / journal.NAME).stat().st_mode & 0o777)
        real(storage, *args)

    monkeypatch.setattr(module.FileStorage, "_do", looked)
    change(storage_of(root))
    assert modes == [0o640]


class Killed(BaseException):
    """Stands for the end of the process: nothing runs after it, so what cleans up must not be needed."""


@pytest.mark.parametrize("which", range(1, 8))
def test_a_writer_that_ends_anywhere_leaves_the_old_or_the_new_and_the_next_one_finishes(
    root: Path, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def ends(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object) -> None:
            nonlocal calls
            calls += 1
            if calls >= which:  # what the dead process would have done to clean up is not done either
                raise Killed
            real(*args)

        monkeypatch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        monkeypatch = patch
        for name in ("replace", "unlink", "rmdir"):
            ends(name)
        try:
            change(storage_of(root))
        except Killed:
            assert calls >= which
    storage = storage_of(root)
    found = texts(storage)
    assert found in (OLD, NEW)
    before = storage.fingerprint()
    version = storage.write(Document("a.toml", "a = 3\n"), storage.read().version)
    assert (storage.fingerprint() != before, storage.read().version) == (True, version)
    assert texts(storage) == found | {"a.toml": "a = 3\n"}
    assert files(root) == sorted(found), "what was left is gone"


def test_what_somebody_edited_after_the_end_of_a_writer_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.FileStorage, "_do", lambda *_: None)
        change(storage_of(root))
    assert texts(storage_of(root)) == NEW
    (root / "b.toml").write_text("b = 5\n")
    storage = storage_of(root)
    assert texts(storage) == NEW | {"b.toml": "b = 5\n"}
    storage.write(Document("a.toml", "a = 3\n"), storage.read().version)
    assert texts(storage) == NEW | {"b.toml": "b = 5\n", "a.toml": "a = 3\n"}
    assert journal.NAME not in files(root)


def test_a_journal_that_is_none_is_told_and_nothing_is_written_over_it(root: Path) -> None:
    storage = storage_of(root)
    version = storage.read().version
    deep, half, half_a_name = b"[" * 100_000, rb'{"a.toml": [null, "\ud800"]}', rb'{"\ud800.toml": [null, ""]}'
    for content in (b"\xff", b"[]", b'{"a.toml": [1, 2]}', b'{"a.toml": "x"}', deep, half, half_a_name):
        (root / journal.NAME).write_bytes(content)
        with pytest.raises(ConfigRefused, match="is no journal of an unfinished change"):
            storage.read()
        with pytest.raises(Outdated):
            storage.write(Document("a.toml", "a = 3\n"), version)


def test_a_journal_cannot_lead_out_of_the_directory(root: Path) -> None:
    (root / journal.NAME).write_bytes(journal.packed({"../out.toml": journal.Replacement(None, "x")}))
    storage = storage_of(root)
    with pytest.raises((NotWritten, ConfigRefused)):
        storage.write(Document("a.toml", "a = 3\n"), storage.read().version)
    assert not (root.parent / "out.toml").exists()


def test_a_reading_is_of_one_moment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are swapped while they are read, as Kubernetes does."""
    real, is_swapped = regular.content_of, False

    def swaps(path: Path) -> bytes:
        nonlocal is_swapped
        content = real(path)
        if not is_swapped:
            is_swapped = True
            for name in OLD:
                (root / name).write_text(f"new = '{name}'\n")
        return content

    monkeypatch.setattr(module, "content_of", swaps)
    assert set(texts(storage_of(root)).values()) == {f"new = '{name}'\n" for name in OLD}


def test_one_that_is_not_there_cannot_be_removed_and_none_be_named_twice(root: Path) -> None:
    storage = storage_of(root)
    version = storage.read().version
    with pytest.raises(NotWritten, match=r"gone\.toml is not there"):
        storage.replace((), ["gone.toml"], version)
    with pytest.raises(NotWritten, match="named twice"):
        storage.replace([Document("a.toml", "")], ["a.toml"], version)
    with pytest.raises(Outdated):
        storage.replace((), ["a.toml"], "another")
    assert texts(storage) == OLD
    storage.replace((), ["sub/c.toml"], version)
    assert (files(root), (root / "sub").exists()) == (["a.toml", "b.toml"], False)


@pytest.mark.parametrize("name", ["conf", "conf.toml"])
def test_a_place_where_nothing_is_yet_is_written_to(tmp_path: Path, name: str) -> None:
    storage = storage_of(tmp_path / "new" / name)
    with pytest.raises(NothingThere):
        storage.read()
    home = storage.home_of("servers", "web")
    storage.write(Document(home, "x = 1\n"), reading_of(storage).version)
    assert texts(storage) == {home: "x = 1\n"}
    assert (tmp_path / "new" / name).is_dir() == (name == "conf")


def test_memory_has_one_document_that_cannot_be_removed() -> None:
    storage = MemoryStorage("a = 1\n", "m.toml")
    version = storage.read().version
    for written, removed in ([Document("x.toml", "")], []), ([], ["m.toml"]), ([], ["x.toml"]):
        with pytest.raises(NotWritten, match="there is one document here"):
            storage.replace(written, removed, version)
    kept: Storage = storage
    assert kept.history("m.toml") is None


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a\\b", "a\0", "a\nb", "\x7f", "x" * 201, "ü" * 101, "\ud800"])
def test_an_item_whose_name_cannot_be_a_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotWritten):
        storage_of(f"{tmp_path}?separation=true").home_of("servers", name)


def test_the_longest_name_can_be_written_and_kept(tmp_path: Path) -> None:
    storage = storage_of(f"{tmp_path}/conf?separation=true&enable_history=true")
    home = storage.home_of("certificates", "x" * 200)
    for text in ("a = 1\n", "a = 2\n"):
        storage.write(Document(home, text), reading_of(storage).version)
    kept = storage.history(home)
    assert kept is not None and [one.text for one in kept] == ["a = 1\n"]


@pytest.mark.parametrize(("one", "other"), [("Web", "web"), ("stra\u00dfe", "STRASSE"), ("\u00fc", "u\u0308")])
def test_names_that_a_file_system_may_take_for_one_are_refused(tmp_path: Path, one: str, other: str) -> None:
    storage = storage_of(f"{tmp_path}/conf?separation")
    home, second = storage.home_of("servers", one), storage.home_of("servers", other)
    with pytest.raises(NotWritten, match="in nothing but case"):
        storage.replace([Document(home, ""), Document(second, "")], (), reading_of(storage).version)
    storage.write(Document(home, ""), reading_of(storage).version)
    with pytest.raises(NotWritten, match="in nothing but case"):
        storage.write(Document(second, ""), storage.read().version)
    storage.replace([Document(second, "")], [home], storage.read().version)
    assert list(texts(storage)) == [second]


def test_a_new_document_is_not_written_through_a_link_that_leads_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "servers").symlink_to(tmp_path / "elsewhere")
    storage = storage_of(root)
    with pytest.raises(NotWritten, match="would be outside"):
        storage.write(Document("servers/web.toml", "x"), storage.read().version)
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- earlier texts ------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_700_000_000.9]
    monkeypatch.setattr("pingap.config.storage.history.time.time", lambda: now[0])
    return now


def test_what_is_replaced_or_removed_is_kept_where_the_reference_looks_for_it(tmp_path: Path, clock: list[float]) -> None:
    storage = storage_of(f"{tmp_path}/conf?separation=true&enable_history=true")
    version = reading_of(storage).version
    for number in range(4):
        version = storage.write(Document("servers/web.toml", f"x = {number}\n"), version)
    clock[0] += 60
    storage.replace((), ["servers/web.toml"], version)
    folder = tmp_path / "conf-history"
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {
        "servers-web.toml-1700000000": "x = 0\n",
        "servers-web.toml-1700000001": "x = 1\n",
        "servers-web.toml-1700000002": "x = 2\n",
        "servers-web.toml-1700000060": "x = 3\n",
    }, "two of one second are both there"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    kept = storage.history("servers/web.toml")
    assert kept is not None
    assert [(one.until - 1_700_000_000, one.text) for one in kept] == [(60, "x = 3\n"), (2, "x = 2\n"), (1, "x = 1\n"), (0, "x = 0\n")]
    assert storage.history("servers/web.tom") == storage.history("servers-web.toml") == ()


def test_a_save_that_changes_nothing_touches_nothing(tmp_path: Path) -> None:
    storage = storage_of(f"{tmp_path}/conf?enable_history=true")
    version = storage.write(Document("servers.toml", "x = 1\n"), reading_of(storage).version)
    before = storage.fingerprint()
    assert storage.write(Document("servers.toml", "x = 1\n"), version) == version
    assert (storage.fingerprint(), storage.history("servers.toml")) == (before, ())


def test_the_oldest_go_and_ten_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.config.storage.history.KEPT", 12)
    storage = storage_of(f"{tmp_path}/pingap.toml?enable_history=true")
    [name] = {storage.home_of("servers", "a")}
    version = reading_of(storage).version
    for number in range(30):
        version = storage.write(Document(name, f"x = {number}\n"), version)
    kept = storage.history(name)
    assert kept is not None and [one.text for one in kept] == [f"x = {number}\n" for number in range(28, 18, -1)]
    assert len(list((tmp_path / "pingap.toml-history").iterdir())) == 12


def test_what_is_no_time_is_no_earlier_text(tmp_path: Path) -> None:
    storage = storage_of(f"{tmp_path}/conf?enable_history=true")
    version = storage.write(Document("servers.toml", "x = 1\n"), reading_of(storage).version)
    storage.write(Document("servers.toml", "x = 2\n"), version)
    (tmp_path / "conf-history" / "servers.toml-999999999999999999").write_text("x = 3\n")
    kept = storage.history("servers.toml")
    assert kept is not None and [one.text for one in kept] == ["x = 1\n"]


def test_without_history_none_is_kept_and_nothing_is_made(root: Path) -> None:
    storage = storage_of(root)
    change(storage)
    assert (storage.history("a.toml"), os.listdir(root.parent)) == (None, ["conf"])


def test_a_history_that_cannot_be_kept_stops_the_write(root: Path) -> None:
    (root.parent / "conf-history").write_text("a file in the way")
    storage = storage_of(f"{root}?enable_history=true")
    with pytest.raises(NotWritten, match="cannot be written"):
        storage.write(Document("a.toml", "x"), storage.read().version)
    assert texts(storage) == OLD


def test_an_option_that_nobody_knows_is_told_with_what_was_meant(root: Path) -> None:
    with pytest.raises(ConfigRefused, match=r"\?seperation: no such option(.|\n)*did you mean 'separation'"):
        storage_of(f"{root}?seperation=true&enable_history=true")


def test_many_new_documents_are_compared_with_each_other_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = 0
    real = module._folded

    def folded(name: str) -> str:
        nonlocal folds
        folds += 1
        return real(name)

    monkeypatch.setattr(module, "_folded", folded)
    storage = storage_of(root)
    storage.replace([Document(f"servers/{number}.toml", "x = 1\n") for number in range(50)], (), reading_of(storage).version)
    assert folds <= 50 + 2 * len(OLD)
    for names in (["x.toml", "X.toml"], ["servers/É.toml", "servers/e\u0301.toml"], ["A.toml"]):
        with pytest.raises(NotWritten, match="in nothing but case"):
            storage.replace([Document(name, "") for name in names], (), reading_of(storage).version)
