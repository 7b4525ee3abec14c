"""`[basic] user` and `group`: which account of this system they name, and whether this process can become it.

Only asks the system's data base of users (NSS); nothing is changed here.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from pingap.config.model import Basic
from pingap.config.problems import Note, Problem
from pingap.config.quantities import shown, whole_number

_LARGEST_ID: Final = 2**32 - 2
"""Of a user or a group; the number behind it means that none is."""


class Account(NamedTuple):
    """Who pingap's processes are, once the addresses are bound."""

    name: str
    """Of the user; the number where the system has no name for it."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All of them, gid included."""


class UnknownAccount(Exception):
    """There is no such user or group. `problem` says which key."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def account_of(user: str, group: str) -> Account | None:
    """The account that two names, or numbers, stand for; None when both are empty. Raises UnknownAccount.

    Without a group it is the user's own, with all others that he is in; a group without a user leaves the user as it is.
    """
    if not user and not group:
        return None
    known = _user(user) if user else _by_number(os.geteuid())
    name, uid = (known.pw_name, known.pw_uid) if known is not None else (user, int(user or os.geteuid()))
    if not group and known is None:
        raise UnknownAccount(Problem("basic.user", f"user id {user} has no entry here, and so no group", "name one with basic.group"))
    gid = _group(group) if group else known.pw_gid if known is not None else 0
    if not user or known is None:
        return Account(name, uid, gid, (gid,))
    return Account(name, uid, gid, tuple(dict.fromkeys((gid, *os.getgrouplist(name, gid)))))


def _user(name: str) -> pwd.struct_passwd | None:
    with suppress(KeyError, ValueError):  # ValueError: a NUL character
        return pwd.getpwnam(name)
    number = whole_number(name, _LARGEST_ID)
    if number is None:
        hint = "create it (useradd --system --no-create-home NAME), or name another"
        raise UnknownAccount(Problem("basic.user", f"there is no user {shown(name)} on this system", hint))
    return _by_number(number)


def _by_number(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _group(name: str) -> int:
    with suppress(KeyError, ValueError):
        return grp.getgrnam(name).gr_gid
    number = whole_number(name, _LARGEST_ID)
    if number is None:
        hint = "create it (groupadd --system NAME), or name another"
        raise UnknownAccount(Problem("basic.group", f"there is no group {shown(name)} on this system", hint))
    return number


def check_account(basic: Basic) -> Iterator[Problem]:
    """A problem when the system does not have them, for root; for others they are without effect, and a note."""
    if os.geteuid() == 0:
        try:
            account_of(basic.user, basic.group)
        except UnknownAccount as unknown:
            yield unknown.problem


def notes_on_account(basic: Basic) -> Iterator[Note]:
    """A note when they have no effect, because this process may not become another."""
    if os.geteuid() == 0:
        return
    try:
        account = account_of(basic.user, basic.group)
    except UnknownAccount as unknown:
        yield Note(unknown.problem.path, f"without effect: this is user id {os.geteuid()} and not root; {unknown.problem.message}")
        return
    if account is not None and account.uid != os.geteuid():
        yield Note("basic.user", f"without effect: this is user id {os.geteuid()}, and only root can become {account.name}")
    elif account is not None and basic.group and account.gid != os.getegid():
        yield Note("basic.group", f"without effect: this is group id {os.getegid()}, and only root can change it")
