"""Paths as a configuration may write them, `~` being a home directory; and where things are kept when it names no path."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from pingap.config.problems import BadValue


def expanded(path: str) -> str:
    """The path with its `~` or `~name` filled in. Raises BadValue for what can be no path."""
    if "\0" in path:
        raise BadValue("a path cannot hold a NUL character")
    return os.path.expanduser(path)


def default_directory(env: Mapping[str, str] = os.environ) -> str:
    """Where certificates by ACME are kept when `basic.acme_directory` says nothing: `acme` in the state directory that systemd gives.

    Else `~/.pingap/acme`, of the user that this process is now: HOME is still root's in a process that was root's.
    """
    state = next(filter(None, env.get("STATE_DIRECTORY", "").split(":")), "")  # several are separated by colons (systemd.exec(5))
    return os.path.join(state, "acme") if state else os.path.join(_home(env), ".pingap", "acme")


def _home(env: Mapping[str, str]) -> str:
    told, user = env.get("HOME", ""), os.geteuid()
    try:
        if told and os.stat(told).st_uid == user:
            return told
    except OSError:
        pass
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:  # a number without a name, as in containers
        return told or "/"
