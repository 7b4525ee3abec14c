"""Whom `[basic] user` and `group` name, and what is said where they name nobody, or cannot be had."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from pingap.config.accounts import Account, UnknownAccount, account_of, check_account, notes_on_account
from pingap.config.model import Basic

ROOT = pwd.getpwuid(0)
ROOTS = tuple(dict.fromkeys((ROOT.pw_gid, *os.getgrouplist(ROOT.pw_name, ROOT.pw_gid))))
NO_USER = 2_000_000_000
OTHER = next(entry for entry in pwd.getpwall() if entry.pw_uid)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_nobody_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NO_USER)
    monkeypatch.setattr(os, "getegid", lambda: NO_USER)


def test_a_user_comes_with_all_of_his_groups() -> None:
    assert account_of(ROOT.pw_name, "") == account_of("0", "") == Account(ROOT.pw_name, 0, ROOT.pw_gid, ROOTS)


def test_a_group_takes_the_place_of_his_own() -> None:
    group = grp.getgrgid(OTHER.pw_gid)
    for name in (group.gr_name, str(group.gr_gid)):
        account = account_of(ROOT.pw_name, name)
        assert account is not None and account.gid == group.gr_gid
        assert account.groups[0] == group.gr_gid


def test_a_number_without_an_entry_needs_a_group() -> None:
    with pytest.raises(UnknownAccount, match=rf"basic\.user: user id {NO_USER} has no entry"):
        account_of(str(NO_USER), "")
    assert account_of(str(NO_USER), "12") == Account(str(NO_USER), NO_USER, 12, (12,))


def test_a_group_alone_leaves_the_user(as_nobody_known: None) -> None:
    assert account_of("", "12") == Account("", NO_USER, 12, (12,))


def test_neither_is_nobody_else() -> None:
    assert account_of("", "") is None


@pytest.mark.parametrize(
    ("basic", "path"),
    [
        (Basic(user="no such"), "basic.user"),
        (Basic(user="a\0b"), "basic.user"),
        (Basic(user="-1"), "basic.user"),
        (Basic(user="4294967295"), "basic.user"),
        (Basic(user="99999999999"), "basic.user"),
        (Basic(user="root", group="no such"), "basic.group"),
        (Basic(group="4294967295"), "basic.group"),
    ],
)
def test_what_is_not_there_is_a_problem_for_root(as_root: None, basic: Basic, path: str) -> None:
    (problem,) = check_account(basic)
    assert problem.path == path and problem.message.startswith("there is no ") and problem.hint
    assert not list(notes_on_account(basic))


def test_for_others_it_is_a_note_for_it_would_have_no_effect(as_nobody_known: None) -> None:
    """A configuration for production is checked on another machine."""
    assert not list(check_account(Basic(user="no such")))
    for basic, path in ((Basic(user="no such"), "basic.user"), (Basic(user="root"), "basic.user"), (Basic(group="0"), "basic.group")):
        (note,) = notes_on_account(basic)
        assert note.path == path and note.message.startswith("without effect: ")


def test_who_is_that_user_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: OTHER.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: OTHER.pw_gid)
    assert not list(notes_on_account(Basic(user=OTHER.pw_name)))
    assert not list(notes_on_account(Basic(user=OTHER.pw_name, group=str(OTHER.pw_gid))))
