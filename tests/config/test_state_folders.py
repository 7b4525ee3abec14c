"""Where certificates are kept when nothing is said, and whether they could be: looked at before a start, without touching it."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest

from pingap.config.accounts import Account
from pingap.config.home import default_directory
from pingap.config.paths import why_no_folder
from pingap.service.privileges import acting_as
from pingap.service.step_down import acme_directory_for

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user: without it, not shown whose the directories are")
NOBODY = Account("nobody", 65534, 65534, (65534,))


def open_to_all(path: Path) -> None:
    """Others can get there: pytest's own directories are closed to them."""
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)


def test_systemds_state_directory_comes_first(tmp_path: Path) -> None:
    assert default_directory({"STATE_DIRECTORY": "/var/lib/pingap", "HOME": str(tmp_path)}) == "/var/lib/pingap/acme"
    assert default_directory({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == "/var/lib/a/acme"


@pytest.mark.parametrize("state", [{}, {"STATE_DIRECTORY": ""}])
def test_else_it_is_in_the_home_directory(tmp_path: Path, state: dict[str, str]) -> None:
    assert default_directory({**state, "HOME": str(tmp_path)}) == f"{tmp_path}/.pingap/acme"
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert default_directory(state) == default_directory({**state, "HOME": "/nowhere"}) == f"{home}/.pingap/acme"


@ONLY_ROOT
def test_who_was_root_does_not_use_roots_home(tmp_path: Path) -> None:
    home = pwd.getpwuid(NOBODY.uid).pw_dir
    with acting_as(NOBODY):
        assert default_directory({"HOME": str(tmp_path)}) == f"{home}/.pingap/acme"


def test_a_directory_that_can_be_made_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    assert why_no_folder(str(tmp_path)) is None
    assert why_no_folder(str(tmp_path / "a/b/c")) is None
    assert os.listdir(tmp_path) == []
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert why_no_folder(str(tmp_path / "link")) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file", "cannot be written: .*file is no directory"),
        ("file/a/b", "cannot be created: .*file is no directory"),
        ("loop/a", "cannot be"),
        ("a\0b", "NUL"),
    ],
)
def test_what_can_be_no_directory_is_told(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = why_no_folder(os.path.join(tmp_path, path))
    assert found is not None
    assert re.search(words, found[0])


@ONLY_ROOT
def test_another_users_directory_is_told_and_what_root_makes_is_not(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    path = str(state / "acme")
    with acting_as(NOBODY):
        found = why_no_folder(path)
        assert found is not None and found[0] == f"{path} cannot be created: no permission in {state}"
        assert why_no_folder(path, root_makes=True) is None
        assert why_no_folder(f"{path}/deeper", root_makes=True) is not None
        found = why_no_folder(str(state), root_makes=True)
        assert found is not None and "chown" in found[1] and "basic.user" in found[1]
    acme_directory_for(NOBODY, path)
    status = os.stat(path)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (NOBODY.uid, NOBODY.gid, 0o700)
    acme_directory_for(NOBODY, path)  # once more, as at the next start
    with acting_as(NOBODY):
        assert why_no_folder(path) is None


@ONLY_ROOT
def test_root_gives_away_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "roots").mkdir(mode=0o700)
    (tmp_path / "acme").symlink_to(tmp_path / "roots")
    acme_directory_for(NOBODY, str(tmp_path / "acme"))
    assert os.stat(tmp_path / "roots").st_uid == 0
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="File exists"):
        acme_directory_for(NOBODY, str(tmp_path / "dangling"))
