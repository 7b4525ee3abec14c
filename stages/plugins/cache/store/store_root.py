"""The directory of a store, with its generations: which one counts, whether what is there may be used, and who is there.

lock     locked while somebody opens or begins a generation
users    locked, shared, for as long as a process has the store open
state    StoreState, as JSON
<n>/     a generation (shelf.py)
gone-*/  one that is being removed
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import lmdb
import msgspec

from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.syncing import sync_file_system

PATIENCE: Final = 3.0
"""Seconds to wait for another process that opens it."""

FORMAT: Final = 1

GONE: Final = "gone-"
"""Beginning of the name of a generation that is being removed: that may take a while."""


class StoreState(msgspec.Struct):
    format: int = FORMAT
    boot: str = ""
    """Boot of the machine in which it was used last."""
    run: int = 0
    """Run of the instance, in memory."""
    room: int = 0
    offset: float = 0.0
    """Of the store's clock in that boot."""
    closed: float = 0.0
    """Time of the store's clock at which the last one closed it, all of it on the disk; 0: somebody has it open, or was killed."""
    closed_wall: float = 0.0


class StoreRoot:
    def __init__(
        self,
        path: str,
        is_on_disk: bool,
        room: int,
        run: int,
        has_own_room: bool = True,
        map_size: int = 0,
        make: Callable[[], None] = lambda: None,
    ) -> None:
        """make: makes the directory, or raises OSError where it is not ours alone.

        room: bytes, 0 for as many as there are. run: of the instance; 0 on a disk.
        has_own_room: the room was asked for; else what the first one has found counts. map_size: for tests."""
        self.path = path
        self.is_on_disk = is_on_disk
        self.room = room
        self.offset = 0.0
        self._run = run
        self.notes: list[tuple[str, str]] = []
        """What is to be logged: level and text. Whoever has it opened takes them, as that may be done in a thread."""
        self._has_own_room = has_own_room
        self._map_size = map_size
        self._make = make
        self._users = -1
        self._is_open = False
        """What is there was believed, or begun, by this process."""

    @property
    def reserve(self) -> int:
        """Bytes of the room that are kept free, for what several processes write at once."""
        return self.room // 32

    def opened(self) -> StoreShelf:
        """The generation that counts; begins one where there is none that can be used. Raises OSError, lmdb.Error, ValueError."""
        self._make()
        lock = self._locked()
        try:
            is_first = self._enter()
            state = self._read()
            if state is not None and state.run > self._run and not self.is_on_disk:
                raise PermissionError("it belongs to an instance that began after this one")
            if state is not None and state.format > FORMAT and not is_first:
                raise PermissionError("a newer version of pingap has it open")
            number = self._newest()
            problem = self._problem(state, number, is_first)
            if state is not None and not problem:
                self._continue(state)
                try:
                    shelf = StoreShelf(self._generation(number), self.room, False, self._map_size)
                    try:
                        shelf.join()
                        self._agree(shelf, is_first)
                    except BaseException:
                        shelf.close()
                        raise
                    self._write(StoreState(FORMAT, boot_id(), self._run, self.room, self.offset))
                    self._is_open = True
                    return shelf
                except (lmdb.Error, ValueError, FileNotFoundError) as error:
                    problem = str(error)
            if problem and number:
                self.notes.append(("warn", f"the cache {self.path} begins empty: {problem}"))
            return self._begun(number)
        finally:
            os.close(lock)

    def leave(self, is_unwanted: bool = False) -> None:
        """This process has closed it. The last one of a store on disk sees that all of it is there after a restart of the machine.
        is_unwanted: no configuration names it any more, so that the last one of a store in memory gives that back."""
        if self._users < 0:
            return
        users, self._users = self._users, -1
        try:
            if self.is_on_disk and self._is_open:
                with suppress(OSError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    state = self._read()
                    if state is not None:
                        sync_file_system(users)
                        state.closed = time.clock_gettime(time.CLOCK_BOOTTIME) + self.offset
                        state.closed_wall = time.time()
                        self._write(state)
            elif is_unwanted and self._is_open and not self.is_on_disk:
                with suppress(OSError):
                    self._clear(users)
        finally:
            os.close(users)

    # -- within -------------------------------------------------------------------------

    def _problem(self, state: StoreState | None, number: int, is_first: bool) -> str:
        """Why what is there cannot be used; "" where it can, or nothing is there."""
        if not number:
            return "there is none"
        if state is None:
            return "nothing tells what it is"
        if state.format != FORMAT:
            return "it is of another version of pingap"
        if state.run != self._run:
            return "it is of another run" if self.is_on_disk else "it is of a run before this one"
        if is_first and state.boot != boot_id() and not state.closed:
            return "the machine was restarted before it was closed"
        return ""

    def _continue(self, state: StoreState) -> None:
        if not self._has_own_room and state.room:
            self.room = state.room
        if state.boot == boot_id():
            self.offset = state.offset
        else:
            away = max(0.0, time.time() - state.closed_wall)
            self.offset = state.closed + away - time.clock_gettime(time.CLOCK_BOOTTIME)

    def _agree(self, shelf: StoreShelf, is_first: bool) -> None:
        """All processes go by one room: what was said last counts."""
        told = shelf.table.room
        if not is_first and told and told != self.room:
            if not self._has_own_room:
                self.room = told
            else:
                now = f"{self.room:,} bytes" if self.room else "what the disk has"
                self.notes.append(
                    ("warn", f"the cache {self.path} may have {now} from now on: another process had it open with {told:,} bytes")
                )
        shelf.table.set_room(self.room)
        shelf.limit_index(self.room)

    def _clear(self, users: int) -> None:
        """Removes all that is stored, unless somebody has it open. Raises OSError."""
        lock = self._locked()
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_all(self._put_aside())
        finally:
            os.close(lock)

    def _put_aside(self) -> list[str]:
        """All generations are over; returns what is to be removed. Raises OSError."""
        for old in self._generations():
            with suppress(OSError, ValueError):
                StoreShelf.end(self._generation(old))
            with suppress(OSError):
                os.rename(self._generation(old), os.path.join(self.path, f"{GONE}{old}.{os.getpid()}.{time.monotonic_ns()}"))
        return [os.path.join(self.path, name) for name in os.listdir(self.path) if name.startswith(GONE)]

    def _begun(self, number: int) -> StoreShelf:
        gone = self._put_aside()
        if gone:
            threading.Thread(target=_remove_all, args=(gone,), name="cache clearing", daemon=True).start()
        path = self._generation(number + 1)
        os.mkdir(path, 0o700)
        try:
            shelf = StoreShelf(path, self.room, True, self._map_size)
            try:
                shelf.join()
                shelf.table.set_room(self.room)
                self._write(StoreState(FORMAT, boot_id(), self._run, self.room, self.offset))
            except BaseException:
                shelf.close()
                raise
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        self._is_open = True
        return shelf

    def _locked(self) -> int:
        fd = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(fd)
                    raise TimeoutError("another process has been opening it for too long") from None
                time.sleep(0.005)
            except BaseException:
                os.close(fd)
                raise

    def _enter(self) -> bool:
        """Whether nobody else has it open."""
        if self._users >= 0:
            return False
        fd = os.open(os.path.join(self.path, "users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        is_first = True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_first = False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)  # at once: who else is there has it shared, or holds `lock`
        except BaseException:
            os.close(fd)
            raise
        self._users = fd
        return is_first

    def _generation(self, number: int) -> str:
        return os.path.join(self.path, str(number))

    def _generations(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.path) if name.isdigit())

    def _newest(self) -> int:
        return max(self._generations(), default=0)

    def _read(self) -> StoreState | None:
        try:
            with open(os.path.join(self.path, "state"), "rb") as file:
                return msgspec.json.decode(file.read(), type=StoreState)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            return None

    def _write(self, state: StoreState) -> None:
        """Raises OSError. On a disk it is there when this returns: it says what may be believed after a restart of the machine."""
        path = os.path.join(self.path, "state")
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            if self.is_on_disk:
                os.fsync(file.fileno())
        os.replace(f"{path}.new", path)


def _remove_all(paths: list[str]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def boot_id() -> str:
    """Names this boot of the machine; "" where the kernel does not tell."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""
