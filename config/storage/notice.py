"""Being told by the kernel that files may have changed. It may say nothing (network file systems, bind mounts): who must know looks, too.

Directories are watched, not files: an editor puts another file in the place of the old one, Kubernetes another link in
the place of `..data`, and a link anywhere on the way to a file may come to lead elsewhere. One inotify descriptor a
notice, and one watch a directory; a thread of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

STEP: Final = 100
"""Milliseconds between two looks at what the kernel has said."""

GROUP: Final = 300
"""Milliseconds in which what it says is one event."""

ANEW: Final = 10.0
"""Seconds after which it is looked whether the directories are still the same ones."""

AGAIN: Final = 60.0
"""Seconds until the next attempt where the kernel has no more watches to give."""

SHARE: Final = 0.02
"""Of the time goes to looking at files and directories at the most: with thousands of them a look takes a while."""

MOST: Final = 4096
"""Directories; of more none is watched: the watches of a system are for all of its programs."""

Directories = Mapping[str, frozenset[str] | None]
"""Directory → the names in it that count; None: all."""


def directories_of(files: Iterable[str | Path], folders: Iterable[str | Path] = ()) -> dict[str, frozenset[str] | None]:
    """Where something happens when one of the files becomes another one, by whatever way, or anything in the folders."""
    named: dict[str, set[str]] = {}
    whole: set[str] = set()
    for path in files:
        _follow(os.path.abspath(path), named)
    for path in folders:
        whole.add(_follow(os.path.abspath(path), named))
    return {folder: frozenset(names) for folder, names in named.items() if folder not in whole} | dict.fromkeys(whole)


def _follow(path: str, named: dict[str, set[str]]) -> str:
    """Notes each link on the way and what is at its end, which it gives."""
    for _ in range(40):  # as the kernel has it
        parts = path.split(os.sep)
        for depth in range(2, len(parts) + 1):
            way = os.sep.join(parts[:depth])
            target = ""
            with suppress(OSError):
                target = os.readlink(way)
            folder, name = os.path.split(way)
            if target:
                named.setdefault(folder, set()).add(name)
                path = os.path.normpath(os.path.join(folder, target, *parts[depth:]))
                break
        else:
            folder, name = os.path.split(path)
            named.setdefault(folder, set()).add(name)
            return path
    return path


class Notice:
    """directories: asked again and again, in the thread, where to listen. moved: called in the thread."""

    def __init__(self, directories: Callable[[], Directories], moved: Callable[[], None]) -> None:
        self._directories = directories
        self._moved = moved
        self._is_over = threading.Event()
        threading.Thread(target=self._run, name="config notice", daemon=True).start()

    def end(self) -> None:
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.is_set():
            wait = 0.0
            try:
                self._listen()
            except Exception:  # of the library's own kind: no watch left, no descriptor left, a directory that is gone again
                wait = AGAIN
            self._is_over.wait(wait)

    def _listen(self) -> None:
        """Until the directories are others. Raises what the library raises."""
        from watchfiles._rust_notify import RustNotify  # documented; watchfiles.watch() wants the main thread's signals

        directories, before, rest = self._seen()
        if not before or len(before) > MOST:
            self._is_over.wait(ANEW)
            return
        with RustNotify(list(before), False, False, 0, False, True) as kernel:
            self._moved()  # for what has happened before
            again, wait = monotonic() + rest, ANEW
            while True:
                found = kernel.watch(GROUP, STEP, max(1, int(wait * 1000)), self._is_over)
                if found in ("stop", "signal"):
                    return
                if isinstance(found, set) and any(_counts(path, directories) for _, path in found):
                    self._moved()
                wait = again - monotonic()
                if wait > 0:
                    continue
                known, (directories, now, rest) = directories, self._seen()
                if directories != known or now != before:
                    return
                again, wait = monotonic() + rest, ANEW

    def _seen(self) -> tuple[Directories, dict[str, int], float]:
        """The directories, the inodes of those that are there, and the seconds until it is time to look again."""
        began = monotonic()
        directories = self._directories()
        return directories, _identities(directories), (monotonic() - began) / SHARE


def _counts(path: str, directories: Directories) -> bool:
    folder, name = os.path.split(path)
    names = directories.get(folder, frozenset())
    return names is None or name in names or path in directories


def _identities(directories: Directories) -> dict[str, int]:
    """The inodes of the directories that are there."""
    found = {}
    for folder in directories:
        with suppress(OSError):
            found[folder] = os.stat(folder).st_ino
    return found
