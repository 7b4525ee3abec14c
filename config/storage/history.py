"""Earlier texts of documents, in a directory beside the configuration, named as pingap 0.13.9 names them.

`servers/web.toml` is kept as `servers-web.toml-1700000000`: the time at which it was replaced, in Unix seconds. Of two
in one second the later one gets the next second. A document that is not `SECTION/ITEM` may have dashes in its
directories; those and the slashes are escaped, so that no two documents have one name here.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pingap.config.storage.base import LISTED, SECTIONS, SINGLE, Earlier, NotWritten
from pingap.config.storage.regular import content_of
from pingap.config.storage.replacing import beside, clear, flush, give, make_root

KEPT: Final = 100
"""Earlier texts of one document; beyond that the oldest go."""

_DIGITS: Final = 11
"""Of a time, which is then before the year 5138."""

_ITEM: Final = re.compile(rf"({'|'.join(section for section in SECTIONS if section not in SINGLE)})/([^/]+)")


class History:
    """folder: made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, document: str, text: str, owner: Path) -> None:
        """Puts a text by that is about to be replaced or removed. Raises OSError.

        owner: a file whose owner has the history, too: one that is root's could not be gone on with by him.
        """
        is_new = not self.folder.exists()
        make_root(self.folder, 0o700)
        if is_new:
            _give(self.folder, owner)
        there = self._of(document)
        if there and content_of(there[0][1]) == text.encode():
            return  # of a change that then could not be made
        now = max(int(time.time()), there[0][0] + 1 if there else 0)
        clear(self.folder)
        path = self.folder / f"{_name(document)}-{now}"
        new = beside(path, text.encode())
        _give(new, owner)
        os.replace(new, path)
        flush(self.folder)
        for _, old in there[KEPT - 1 :]:
            old.unlink(missing_ok=True)

    def earlier(self, document: str) -> tuple[Earlier, ...]:
        """The newest first, LISTED at most. Raises NotWritten."""
        try:
            return tuple(Earlier(until, content_of(path).decode()) for until, path in self._of(document)[:LISTED])
        except (OSError, UnicodeDecodeError) as error:
            raise NotWritten(f"the history in {self.folder} cannot be read: {error}") from error

    def _of(self, document: str) -> list[tuple[int, Path]]:
        """What is kept of a document, the newest first. Raises OSError."""
        form = re.compile(re.escape(_name(document)) + rf"-([0-9]{{1,{_DIGITS}}})")
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(((int(found[1]), self.folder / name) for name in names if (found := form.fullmatch(name))), reverse=True)


def _give(path: str | Path, owner: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        give(fd, owner.stat())
    finally:
        os.close(fd)


def _name(document: str) -> str:
    item = _ITEM.fullmatch(document)
    return f"{item[1]}-{item[2]}" if item else quote(document, safe="").replace("-", "%2D")
