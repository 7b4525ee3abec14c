"""What a path of a URL stands for on the disk. Runs in threads; keeps nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from time import time_ns
from typing import Final, NamedTuple

from pingap.stages.plugins.builtin.files.listing import Entries
from pingap.stages.plugins.builtin.files.served_file import ServedFile, Style
from pingap.stages.plugins.builtin.files.tree import NOTHING, Check, DiskPlace, Outside, Tree, identity_of, is_current, is_local
from pingap.stages.plugins.builtin.files.web_paths import WebPath, is_hidden

ENDINGS: Final = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}
"""Coding → what a file that is coded so has behind the name of the plain one."""

MOST_CHECKS: Final = 8
"""Looks at the disk that a route may cost each time that it is taken again; beyond it is found anew."""


class Route(NamedTuple):
    """A path leads to a file, as long as the checks hold."""

    checks: tuple[Check, ...]
    file: ServedFile
    is_settled: bool
    """It may be remembered."""
    is_local: bool
    """The checks never wait for a disk."""


class Listed(NamedTuple):
    entries: Entries
    names: tuple[bytes, ...]


class Denied(NamedTuple):
    status: int


class AddSlash(NamedTuple):
    """It is a directory."""


class Respell(NamedTuple):
    """What is meant has another spelling, which may belong to another location."""


class PassOn(NamedTuple):
    """The plugin has nothing to say."""


Outcome = Route | Listed | Denied | AddSlash | Respell | PassOn

MISSING: Final = Denied(404)
FORBIDDEN: Final = Denied(403)


class NoDescriptors(Exception):
    """There are no descriptors left."""


class TryEntry(NamedTuple):
    """An entry of `try`."""

    before: bytes
    after: bytes
    uses_path: bool
    is_folder: bool
    status: int = 0
    """Not 0: this is the answer."""
    passes: bool = False

    def names(self, asked: WebPath) -> tuple[bytes, ...] | None:
        """None where it cannot be meant for this path."""
        if not self.uses_path:
            return tuple(name for name in self.before.split(b"/") if name)
        if not self.is_folder and (asked.is_folder or not asked.names):
            return None
        whole = self.before + b"/" + b"/".join(asked.names) + self.after
        return tuple(name for name in whole.split(b"/") if name)


class Finder:
    def __init__(
        self,
        tree: Tree,
        index: Sequence[bytes],
        attempts: Sequence[TryEntry],
        shows_hidden: bool,
        lists: bool,
        style: Style,
    ) -> None:
        self.tree = tree
        self.index = tuple(tuple(name for name in one.split(b"/") if name) for one in index)
        self.attempts = tuple(attempts)
        self.shows_hidden = shows_hidden
        self.lists = lists
        self.style = style

    def find(self, asked: WebPath, has_slash: bool, codings: Sequence[str], known: Route | None) -> Outcome:
        """has_slash: what the client asked for ends with one, whatever a rewrite made of it. codings: that it takes, the best first.
        known: how it was before. Raises OSError for what is no answer to a client, NoDescriptors."""
        if known is not None and is_current(known.checks):
            return known
        try:
            return _Look(self, has_slash, codings).run(asked)
        except Outside:
            return FORBIDDEN
        except PermissionError:
            return FORBIDDEN
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise NoDescriptors(str(error)) from error
            raise


class _Look:
    """One request's."""

    def __init__(self, finder: Finder, has_slash: bool, codings: Sequence[str]) -> None:
        self._finder = finder
        self._has_slash = has_slash
        self._codings = codings
        self._checks: list[Check] = []
        self._is_unsure = False
        """Something was passed over that no check can tell from what it may become."""

    def run(self, asked: WebPath) -> Outcome:
        finder = self._finder
        is_secret = not finder.shows_hidden and is_hidden(asked.names)
        if not finder.attempts:
            if not asked.is_canonical and not is_secret:
                return Respell()
            found = None if is_secret else self._as_it_is(asked.names, asked.is_folder, asked.is_folder or self._has_slash)
            return MISSING if found is None else found
        for attempt in finder.attempts:
            if attempt.status:
                return Denied(attempt.status) if asked.is_canonical or is_secret else Respell()
            if attempt.passes:
                return PassOn()
            names = attempt.names(asked)
            if names is None or (attempt.uses_path and (is_secret or not asked.is_canonical)):
                continue
            has_slash = not attempt.uses_path or asked.is_folder or self._has_slash
            if (found := self._attempted(attempt, names, has_slash)) is not None:
                return found
        return MISSING if asked.is_canonical or is_secret else Respell()

    def _attempted(self, attempt: TryEntry, names: tuple[bytes, ...], has_slash: bool) -> Outcome | None:
        if attempt.is_folder:
            return self._as_it_is(names, True, has_slash)
        place = self._look(names)
        return self._file(place, names) if place is not None and place.descriptor >= 0 else None

    def _as_it_is(self, names: tuple[bytes, ...], is_folder: bool, has_slash: bool) -> Outcome | None:
        """The file, or the directory. is_folder: nothing but a directory is meant."""
        place = self._look(names)
        if place is None:
            return None
        if place.descriptor >= 0:
            if not is_folder:
                return self._file(place, names)
            self._passed_over(place)
            return None
        if not stat.S_ISDIR(place.status.st_mode):
            return None  # a device, a FIFO or a socket
        if not has_slash:
            return AddSlash()
        for index in self._finder.index:
            found = self._look((*names, *index))
            if found is not None and found.descriptor >= 0:
                return self._file(found, (*names, *index))
        if self._finder.lists:
            return Listed(self._finder.tree.entries(names, self._finder.shows_hidden), names)
        return None

    def _look(self, names: Sequence[bytes]) -> DiskPlace | None:
        """None when there is nothing."""
        tree = self._finder.tree
        try:
            place = tree.at(names)
        except OSError as error:
            if error.errno not in NOTHING:
                raise
            self._checks.append((tree.path_of(names), False))
            return None
        if stat.S_ISDIR(place.status.st_mode):
            self._checks.append((place.path, True))
        elif place.descriptor < 0:
            self._checks.append((place.path, identity_of(place.status)))
        return place

    def _passed_over(self, place: DiskPlace) -> None:
        """A file, open, that is not meant."""
        os.close(place.descriptor)
        self._checks.append((place.path, identity_of(place.status)))

    def _file(self, place: DiskPlace, names: Sequence[bytes]) -> Route:
        """place: a regular file, open. It, or what is beside it in a coding that the client takes."""
        best, coding = place, ""
        for one in self._codings:
            try:
                coded = self._look((*names[:-1], names[-1] + ENDINGS[one]))
            except (OSError, Outside):
                self._is_unsure = True  # the plain one is there
                continue
            if coded is not None and coded.descriptor >= 0:
                self._passed_over(place)
                best, coding = coded, one
                break
        finder = self._finder
        file = ServedFile(best, names[-1], coding, finder.style, time_ns())
        checks = (*self._checks, (best.path, file.identity))
        is_settled = file.is_settled and not self._is_unsure and len(checks) <= MOST_CHECKS
        return Route(checks, file, is_settled, is_settled and all(is_local(path) for path, _ in checks))
