"""TLS contexts for connections that we open: made once for all that ask alike, as the system's authorities in each are dear."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Final


class SharedContexts:
    """Of one kind. Who has one keeps it; who asks after the authorities have changed gets another.

    With the usual authorities one takes some 20 ms and 900 KB, and there may be hundreds of upstreams.
    """

    def __init__(self, make: Callable[[str, bool], ssl.SSLContext]) -> None:
        """make(alpn, verify), which is called as `get` is. verify: the system's authorities count."""
        self._make: Final = make
        self._known: dict[tuple[str, bool], tuple[object, ssl.SSLContext]] = {}
        """The authorities by which one was made, and that."""

    def get(self, alpn: str, verify: bool) -> ssl.SSLContext:
        """Not to be changed. alpn: what is offered, in the words of `make`; there are few."""
        authorities = _authorities()
        known = self._known.get((alpn, verify))
        if known is None or known[0] != authorities:
            known = self._known[alpn, verify] = (authorities, self._make(alpn, verify))
        return known[1]


def _authorities() -> object:
    """Equal as long as nothing new would be read: where they are (SSL_CERT_FILE and SSL_CERT_DIR may say so), and since when so."""
    paths = ssl.get_default_verify_paths()
    return [_as_it_is(path) for path in (paths.cafile, paths.capath) if path is not None]


def _as_it_is(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return path
    return path, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
