"""Paths that a configuration names for writing: whether this process could open them, without touching any.

Nothing is created and nothing is written: `pingap check` may run beside an instance, whose files these are. What
depends on the moment (a full disk, a pipe without a reader) is no problem of the configuration.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from pingap.config.model import Snapshot
from pingap.config.problems import Note, Problem, path_of

STREAMS: Final = ("", "/dev/stderr", "/dev/stdout")
"""Log targets that are a stream of the process and no file of their own."""

LOG_MODE: Final = 0o640
"""Of log files that are created."""

_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.ENXIO, errno.EMFILE, errno.ENFILE)
"""A full disk, a named pipe without a reader: that passes, and lines wait for it."""

LONGEST_PID: Final = 20
"""Bytes of a pid file with a line end."""


def check_paths(snapshot: Snapshot, *, root_makes: bool = False) -> Iterator[Problem]:
    """A problem for each path that cannot be written: the application log, the access logs, the pid file.

    root_makes: what is not there yet will be made by root, who gives it to the user that this process is (`[basic] user`).
    """
    basic, logs = snapshot.basic, logs_of(snapshot)
    for key, path in logs:
        if reason := _why_not(path, may_be_device=True, root_makes=root_makes) if path not in STREAMS else None:
            yield Problem(key, *reason)
    if basic.pid_file is not None:
        if reason := why_no_pid_file(basic.pid_file, root_makes=root_makes):
            yield Problem("basic.pid_file", *reason)
        for key, path in logs:
            if path and os.path.realpath(path) == os.path.realpath(basic.pid_file):
                yield Problem("basic.pid_file", f"{basic.pid_file} is also {key}", "give each a file of its own")


def notes_on_rotation(snapshot: Snapshot) -> Iterator[Note]:
    """A note for each log that this user could go on with, but not make anew once it has been renamed."""
    for key, path in logs_of(snapshot):
        folder = os.path.dirname(os.path.realpath(path))
        if path not in STREAMS and os.path.isdir(folder) and not _may(folder, os.W_OK | os.X_OK):
            closed = f"{path} cannot be made anew after it has been renamed: {folder} is closed to user id {os.geteuid()} (basic.user)"
            yield Note(key, closed, "logrotate has to make it: create 0640 USER GROUP")


def logs_of(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(key, path) of each log: the application's, then the servers'."""
    logs = [("basic.error_log", snapshot.basic.error_log or "")]
    servers = snapshot.servers.items()
    return logs + [(path_of("servers", name, "access_log"), server.access_log.path) for name, server in servers if server.access_log]


def why_not_opened(path: str) -> str:
    """Opens a log as the logging stage will, creating it; the reason when that fails, "" when it works or may do so later.

    For a start: what no look at permissions shows (a security module, /proc) is found here.
    """
    if path not in STREAMS:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, LOG_MODE))
        except OSError as error:
            if error.errno not in _PASSING:
                return f"{path} cannot be opened: {(error.strerror or str(error)).lower()}"
    return ""


def why_no_log(path: str) -> tuple[str, str] | None:
    """What is wrong with a path that lines are to be appended to, and a hint; None when nothing is."""
    return None if path in STREAMS else _why_not(path, may_be_device=True)


def why_no_pid_file(path: str, *, root_makes: bool = False) -> tuple[str, str] | None:
    """The same for a file that holds a process id and nothing else: no other file is ever overwritten."""
    if reason := _why_not(path, may_be_device=False, root_makes=root_makes):
        return reason
    with suppress(OSError), open(path, "rb") as file:
        text = file.read(LONGEST_PID + 1).strip()
        if text and not (text.isdigit() and len(text) <= LONGEST_PID):
            return f"{path} holds something other than a process id", "it would be overwritten: give another path, or remove it"
    return None


def why_no_folder(path: str, *, root_makes: bool = False) -> tuple[str, str] | None:
    """The same for a directory in which files are to be written; it is made, with those above it, when it is not there.

    root_makes: as of `check_paths`; root makes no more than the last part, in a directory that is there.
    """
    if "\0" in path:
        return f"{path!r}: a path cannot hold a NUL character", ""
    there = path = os.path.realpath(path)
    while not os.path.lexists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    try:
        is_folder = stat.S_ISDIR(os.stat(there).st_mode)
        is_fixed = os.statvfs(there).f_flag & os.ST_RDONLY
    except OSError as error:
        return f"{path} cannot be used: {(error.strerror or str(error)).lower()}", "give another directory"
    what = f"{path} cannot be written" if there == path else f"{path} cannot be created"
    if not is_folder:
        return f"{what}: {there} is no directory", "give another directory"
    if is_fixed:
        return f"{what}: {there} is on a read-only file system", "give another directory"
    if _may(there, os.R_OK | os.W_OK | os.X_OK) or (root_makes and there == os.path.dirname(path) and _may(there, os.X_OK)):
        return None
    hint = f"make it, and give it to the user of basic.user, id {os.geteuid()}: chown it" if root_makes else _as_whom()
    return f"{what}: no permission in {there}", hint


def _why_not(path: str, may_be_device: bool, root_makes: bool = False) -> tuple[str, str] | None:
    folder = os.path.dirname(os.path.realpath(path)) if "\0" not in path else ""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return _why_not_created(path, folder, root_makes)
    except ValueError:
        return f"{path!r}: a path cannot hold a NUL character", ""
    except OSError as error:
        return f"{path} cannot be opened: {(error.strerror or str(error)).lower()}", ""
    if stat.S_ISDIR(mode):
        return f"{path} is a directory", "name a file in it"
    if stat.S_ISSOCK(mode):
        return f"{path} is a socket", "give a file"
    if not may_be_device and not stat.S_ISREG(mode):
        return f"{path} is no regular file", "give another path"
    if _may(path, os.W_OK):
        return None
    hint = f"it is written by the user of basic.user, id {os.geteuid()}: chown it" if root_makes else _as_whom()
    return f"{path} cannot be written: permission denied", hint


def _why_not_created(path: str, folder: str, root_makes: bool) -> tuple[str, str] | None:
    if not os.path.basename(path):
        return f"{path} names no file", "name a file in that directory"
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return f"{path} cannot be created: there is no directory {folder}", f"mkdir -p {folder}"
        return f"{path} cannot be created: {(error.strerror or str(error)).lower()}", ""
    if not is_folder:
        return f"{path} cannot be created: {folder} is no directory", ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{path} cannot be created: {folder} is on a read-only file system", ""
    return None if root_makes or _may(folder, os.W_OK | os.X_OK) else (f"{path} cannot be created: no permission in {folder}", _as_whom())


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _as_whom() -> str:
    return f"this is user id {os.geteuid()}: check as the user that runs pingap"
