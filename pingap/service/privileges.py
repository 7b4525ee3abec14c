"""Privileges of root, given up for good: user, groups, capabilities; and what is done as another user before that.

Linux's own calls by ctypes, for Python has none of them (capabilities(7), prctl(2)). What is kept and what is not, with the
reasons, is docs/decisions/0022.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from pingap.config.accounts import Account

BIND: Final = 10
"""CAP_NET_BIND_SERVICE: ports below 1024 (net.ipv4.ip_unprivileged_port_start)."""

_KEEP_CAPABILITIES: Final = 8
_DUMPABLE: Final = 4
_NO_NEW_PRIVILEGES: Final = 38
_AMBIENT: Final = 47
_AMBIENT_RAISE: Final = 2
_AMBIENT_CLEAR: Final = 4
_VERSION: Final = 0x20080522


class PrivilegesError(Exception):
    """The privileges cannot be given up; the text says why."""


def become(account: Account, *, keeps_ports: bool) -> None:
    """Makes this process that account's: nothing gives it another back. Raises PrivilegesError.

    To be called by root, before there are other threads (prctl and capabilities are a thread's own). keeps_ports: privileged
    ports may be bound afterwards, also after an exec; nothing else of root is left either way.
    """
    if account.uid == os.geteuid() == 0:
        _set_groups(account)
        return
    keeps = keeps_ports and bool(_permitted() >> BIND & 1)
    libc = _libc()
    _set_groups(account)
    if keeps:
        _prctl(libc, _KEEP_CAPABILITIES, 1)
    try:
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise PrivilegesError(_refused(account, error)) from error
    _set_capabilities(libc, 1 << BIND if keeps else 0)
    if keeps:
        _prctl(libc, _AMBIENT, _AMBIENT_RAISE, BIND)
    _prctl(libc, _NO_NEW_PRIVILEGES, 1)
    _prctl(libc, _DUMPABLE, 1)
    _verify(account)


def _set_groups(account: Account) -> None:
    try:
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
    except OSError as error:
        raise PrivilegesError(_refused(account, error)) from error


def _refused(account: Account, error: OSError) -> str:
    return (
        f"basic.user: this root cannot become {account.name}: {(error.strerror or str(error)).lower()}"
        "\n    it needs CAP_SETUID and CAP_SETGID: start it as that user instead, and leave out basic.user"
    )


def _verify(account: Account) -> None:
    """Asks for root back in every way that there is."""
    left = ["user"] if set(os.getresuid()) != {account.uid} else []
    left += ["group"] if set(os.getresgid()) != {account.gid} else []
    left += [f"group {group}" for group in os.getgroups() if group not in account.groups]
    for what, call, wanted in (("user", os.setuid, account.uid), ("group", os.setgid, account.gid)):
        if wanted:
            with suppress(PermissionError):
                call(0)
                left.append(what)
    if left:
        raise PrivilegesError(f"basic.user: after the change to {account.name} root could be had again ({', '.join(left)})")


def shed() -> None:
    """In a process that is not root's: lets go of capabilities that whoever started it had (the supervisor, or systemd)."""
    if os.geteuid() == 0 or not _permitted():
        return
    libc = _libc()
    _prctl(libc, _AMBIENT, _AMBIENT_CLEAR)
    _set_capabilities(libc, 0)


@contextmanager
def keeping_ambient() -> Iterator[None]:
    """What is executed meanwhile gets no capability, whatever this process has (of this thread: capabilities(7), ambient)."""
    ambient = 0 if os.geteuid() == 0 else _capabilities("CapAmb")
    if not ambient:
        yield
        return
    libc = _libc()
    _prctl(libc, _AMBIENT, _AMBIENT_CLEAR)
    try:
        yield
    finally:
        for number in range(ambient.bit_length()):
            if ambient >> number & 1:
                _prctl(libc, _AMBIENT, _AMBIENT_RAISE, number)


@contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Has root do something with no more rights on files than the account has. Raises PrivilegesError."""
    if os.geteuid() != 0 or account.uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(account.groups)
        os.setegid(account.gid)
        os.seteuid(account.uid)
    except OSError as error:
        _return(groups, gid)
        raise PrivilegesError(_refused(account, error)) from error
    try:
        yield
    finally:
        _return(groups, gid)


def _return(groups: list[int], gid: int) -> None:
    os.seteuid(0)
    os.setegid(gid)
    os.setgroups(groups)


def why_not_run(account: Account) -> tuple[str, str] | None:
    """Why that account cannot run pingap, and a hint; None when it can. A Python in root's home is closed to others."""
    import sys

    import pingap

    code = os.path.dirname(os.path.abspath(pingap.__file__))
    with acting_as(account):
        for path, mode in ((sys.executable, os.X_OK), (code, os.R_OK | os.X_OK), (os.path.join(code, "spawner.py"), os.R_OK)):
            if not os.access(path, mode, effective_ids=True):
                return f"{account.name} may not run {path}", "it, and all directories above it, must be open to that user"
    return None


def _permitted() -> int:
    return _capabilities("CapPrm")


def _capabilities(kind: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 16) for line in file if line.startswith(f"{kind}:")), 0)


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _prctl(libc: Any, *words: int) -> None:
    import ctypes

    if libc.prctl(*(ctypes.c_ulong(word) for word in (*words, *(0,) * (5 - len(words))))) != 0:
        code = ctypes.get_errno()
        raise PrivilegesError(f"basic.user: prctl({words[0]}) failed: {os.strerror(code).lower()}")


def _set_capabilities(libc: Any, wanted: int) -> None:
    """Effective, permitted and inheritable ones."""
    import ctypes

    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    if libc.capset(header, data) != 0:
        code = ctypes.get_errno()
        raise PrivilegesError(f"basic.user: the capabilities cannot be set: {os.strerror(code).lower()}")
