"""Flags and environment variables of the reference that mean nothing here yet: refused by name rather than unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OVER: Final = "PINGAP_UPGRADE"
"""The environment variable that is as good as `--upgrade`."""

CHILD: Final = "child"
"""Its value where the instance that is to be replaced has started this process: nobody else waits for it."""

LATER: Final[Mapping[str, str]] = {
    "admin": "the admin page",
    "cp": "the control panel",
}
"""Flag → what it would do."""

ENVIRONMENT: Final[Mapping[str, str]] = {
    "PINGAP_ADMIN_ADDR": LATER["admin"],
    "PINGAP_ADMIN_USER": LATER["admin"],
    "PINGAP_ADMIN_PASSWORD": LATER["admin"],
    "PINGAP_CP": LATER["cp"],
}

_OFF: Final = ("", "0", "false", "no", "off")


def is_on(text: str) -> bool:
    """Whether an environment variable's value asks for something."""
    return text.strip().lower() not in _OFF


def follows(flag: bool | None, env: Mapping[str, str]) -> bool:
    """Whether changes of the configuration are taken over as they happen. flag: of --autoreload, None when it is not given."""
    return is_on(env.get("PINGAP_AUTORELOAD") or "on") if flag is None else flag


def refused(flags: Mapping[str, object], env: Mapping[str, str]) -> list[str]:
    """A line for each flag and variable in use that is not supported yet."""
    lines = [f"--{name.replace('_', '-')} is not supported yet: {what}" for name, what in LATER.items() if flags.get(name)]
    return lines + [f"{name} is not supported yet: {what}" for name, what in ENVIRONMENT.items() if is_on(env.get(name, ""))]
