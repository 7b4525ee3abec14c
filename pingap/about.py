"""What this is, and what it runs on."""

from __future__ import annotations

import functools
import platform
import ssl
import sys
from importlib import metadata
from typing import Final

from pingap.form import form

LIBRARIES: Final = ("uvloop", "pyzmq", "httptools", "h2", "ngh2", "pydantic", "cryptography", "msgpack")
"""Those whose versions one is asked for in a report."""


@functools.cache
def version() -> str:
    """Of pingap, as installed; `unknown` where it was not."""
    return _version("pingap") or "unknown"


def headline() -> str:
    """The version, and which form of the code runs."""
    return f"pingap {version()}, {form()}"


def details() -> list[str]:
    """One line for Python, the system, OpenSSL and each library that is there."""
    libraries = [f"{name} {found}" for name in LIBRARIES if (found := _version(name))]
    return [
        headline(),
        f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        f"{platform.system()} {platform.release()} {platform.machine()}",
        ssl.OPENSSL_VERSION,
        *libraries,
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
