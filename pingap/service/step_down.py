"""How a start by root ends as `[basic] user`: what root has made is given to that user, then the processes become it.

In this order: logs and the pid file are opened, the addresses are bound, the run dir is given away, the spawner changes, this
process changes. Only then are there sockets of ZeroMQ and other processes, which so are the user's from the start.

Whatever root opens here may lie in a directory of that user, who could have put a link there. So the user's own rights come
first; root helps where they do not suffice, that is where the user cannot put anything, and then makes or gives away no link.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pingap.config.accounts import Account, account_of
from pingap.config.model import Basic
from pingap.config.paths import LOG_MODE, why_not_opened
from pingap.config.storage.replacing import make_root
from pingap.service import privileges
from pingap.service.pid_file import PidFile, PidFileError

ACME_MODE: Final = 0o700

if TYPE_CHECKING:
    from pingap.listeners import Listeners
    from pingap.rundir import RunDir
    from pingap.spawning import SpawnerHandle


def account_for(basic: Basic) -> Account | None:
    """Whom this process is to become; None when nobody else, or when it may not. Raises UnknownAccount."""
    if os.geteuid() != 0 or not (basic.user or basic.group):
        return None
    return account_of(basic.user, basic.group)


def why_no_log_for(account: Account, path: str) -> str:
    """As `why_not_opened`, for a log that the account will write: made for it where only root may."""
    with privileges.acting_as(account):
        reason = why_not_opened(path)
    if not reason:
        return ""
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, LOG_MODE)
        os.fchown(fd, account.uid, account.gid)
        os.close(fd)
        with privileges.acting_as(account):
            return why_not_opened(path)
    return reason


def pid_file_for(account: Account, path: str) -> PidFile:
    """The pid file, the account's. Raises PidFileError."""
    with suppress(PidFileError), privileges.acting_as(account):
        return PidFile(path)
    return PidFile(path, account)


def acme_directory_for(account: Account, path: str) -> None:
    """The directory in which the account keeps its certificates, made for it where only root may. Raises OSError and PrivilegesError.

    For one that systemd gives root (StateDirectory=) in a unit without User=.
    """
    with suppress(OSError), privileges.acting_as(account):
        make_root(Path(path), ACME_MODE)
        return
    os.mkdir(path, ACME_MODE)
    os.chown(path, account.uid, account.gid, follow_symlinks=False)


def step_down(account: Account, run_dir: RunDir, listeners: Listeners, spawner: SpawnerHandle) -> None:
    """Gives away the run dir and the sockets, and becomes the account, here and in the spawner. Raises PrivilegesError and OSError."""
    run_dir.give(account.uid, account.gid)
    for listener in listeners.all():  # with SO_REUSEPORT only its own user may bind another beside a socket
        os.fchown(listener.sock.fileno(), account.uid, account.gid)
    with privileges.acting_as(account):
        if not os.access(run_dir.path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise privileges.PrivilegesError(
                f"basic.user: {account.name} cannot use the run dir {run_dir.path}: a directory above it is closed to that user"
                "\n    give another with --run-dir"
            )
    spawner.become(account)
    privileges.become(account, keeps_ports=True)
