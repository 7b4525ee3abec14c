"""The run dir: who holds it, and how others find out.

pid       the supervisor's process id, under an exclusive flock for as long as it lives
current   a link to the directory of the instance that serves (pingap/instance_dir.py): `current/control`, `current/events.pub`
*.last    what the acme stage goes on with after a restart or an upgrade (stages/acme/run_dir_file.py)
cache     what the cache keeps in memory, where the run dir is in memory (stages/plugins/cache/store/memory_place.py)
upgrade   the socket at which that instance hands over to the next one (pingap/succession/handover.py)

The directory itself is locked as well, and an abstract socket named by its path, so that who removes files, or all of
it, lets no second instance in. Once a second the supervisor makes anew what is missing, and each process its own sockets.
A lock belongs to an open file, not to a process: an instance that takes over gets the descriptors, and the locks with them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from pingap.instance_dir import InstanceDir, end_leftovers, instance_dirs, living_supervisor
from pingap.peers import peer_at
from pingap.stages.plugins.cache.store.memory_place import NAME as CACHE
from pingap.stages.plugins.cache.store.memory_place import claimed, remove_memory, remove_unused

SOCKET_PATH: Final = 107
"""Bytes that the path of a unix socket may have (sun_path, without its final NUL)."""

LONGEST_NAME: Final = len("/999/discovery.1023.9999999")
"""The longest socket name that the bus makes in the run dir, with its slash."""

VARIABLE: Final = "PINGAP_RUN_DIR"
"""The environment variable that names it."""

CURRENT: Final = "current"
UPGRADE: Final = "upgrade"

FILES: Final = ("pid", CURRENT, UPGRADE)
"""What an instance leaves there besides its own directory."""

KEPT: Final = ("tickets.last", "staples.last")
"""What a restart finds again."""

LOCK_PATIENCE: Final = 0.5
"""Seconds for which a held lock is tried again: a command that only looks holds it for a moment."""


class RunDirError(Exception):
    """The run dir cannot be used; the text says why."""


def default(env: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """PINGAP_RUN_DIR, else /run/pingap as root, the user's runtime directory, or one in /tmp."""
    if named := env.get(VARIABLE):
        return named
    user = os.getuid()
    if user == 0 and os.access("/run", os.W_OK):
        return "/run/pingap"  # also with a session: who starts it by a service and asks from a shell means the same one
    runtime = env.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        if runtime and os.stat(runtime).st_uid == user:  # sudo may leave another user's
            return os.path.join(runtime, "pingap")
    return "/run/pingap" if user == 0 else f"/tmp/pingap-{user}"


def check_length(path: str) -> None:
    """Raises RunDirError when the sockets in it would have longer paths than the system allows."""
    length = len(os.fsencode(path))
    if length + LONGEST_NAME > SOCKET_PATH:
        raise RunDirError(
            f"the run dir {path} is {length} bytes long; unix sockets allow {SOCKET_PATH - LONGEST_NAME}: give a shorter one with --run-dir"
        )


def control_of(path: str) -> str:
    """The control socket of the instance that serves. path: the run dir, absolute."""
    return os.path.join(path, CURRENT, "control")


def instance_of(path: str) -> str:
    """Which instance serves there: the name of its directory, "" when none has begun to. path: the run dir."""
    with suppress(OSError):
        return os.readlink(os.path.join(path, CURRENT))
    return ""


def supervisor_of(path: str) -> int | None:
    """Process id of the supervisor that holds this run dir, None when there is none. Raises PermissionError when one may not look.

    0 when the id is not known here, say because the supervisor is in a pid namespace of which this one sees nothing.
    """
    path = os.path.abspath(path)
    written = 0
    try:
        with open(os.path.join(path, "pid"), "rb") as file:
            is_held = _is_locked(file.fileno())
            text = file.read().strip()
            written = int(text) if is_held and text.isdigit() and _has_open(int(text), file.fileno()) else 0
    except PermissionError:
        raise
    except OSError:
        is_held = False
    is_held = is_held or _is_directory_held(path)
    # The id as this namespace has it: what a container has written into the file is another one's here.
    told = peer_of(control_of(path)) if is_held else None
    if told is None:
        told = peer_of(_word(path), os.getuid())
    if told is not None:
        return told
    return written if is_held else None


def _is_directory_held(path: str) -> bool:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return False
    try:
        return _is_locked(directory)
    finally:
        os.close(directory)


def _has_open(pid: int, fd: int) -> bool:
    """Whether the process that is called pid here has the file of fd open: in another pid namespace that number is somebody else's."""
    with suppress(OSError):
        wanted = os.fstat(fd)
        for name in os.listdir(f"/proc/{pid}/fd"):
            if pid != os.getpid() or int(name) != fd:
                with suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), wanted):
                        return True
    return False


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _word(path: str) -> str:
    """Name of the abstract socket that says that a run dir is held, whatever becomes of its files. As the path of a socket."""
    return f"\0pingap {os.getuid()} {hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}"


def peer_of(address: str, whose: int | None = None) -> int | None:
    """Process id, in this pid namespace, of who listens on a unix socket; 0 when it is not in this namespace. None when nobody does.

    whose: the user that it has to be: anybody may take an abstract name.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address)
            peer = peer_at(sock)
        except OSError:
            return None
        return peer.pid if whose in (None, peer.uid) else None


def owner_of(path: str) -> str:
    """Name of the user that a directory, or the nearest above it that can be seen, belongs to; "" when nobody is to be told."""
    path = os.path.abspath(path)
    while True:
        try:
            user = os.stat(path).st_uid
        except PermissionError:
            path = os.path.dirname(path)
        except OSError:
            return ""
        else:
            with suppress(KeyError):
                return pwd.getpwuid(user).pw_name
            return f"user id {user}"


def others() -> list[str]:
    """Run dirs in the usual places that belong to other users."""
    found = []
    with suppress(OSError):
        for path in ("/run/pingap", *(entry.path for entry in os.scandir("/tmp") if entry.name.startswith("pingap-"))):
            with suppress(OSError):
                if os.path.isdir(path) and os.stat(path).st_uid != os.getuid():
                    found.append(path)
    return sorted(found)


class RunDir:
    """A run dir held by this process. Nobody else's until `release`, `give_away`, or until this process ends."""

    def __init__(self, path: str, inherited: Sequence[int] = ()) -> None:
        """Takes the lock. Raises RunDirError when another instance has it or the directory is not usable.

        inherited: `descriptors` of the instance that hands over: then nobody is told of this one until `take_office`.
        """
        self.path = os.path.abspath(path)
        check_length(self.path)
        self._directory = self._lock = -1
        self._word: socket.socket | None = None
        self._is_ours = not inherited
        """It is ours to write into, and to clear at the end."""
        self._patience = LOCK_PATIENCE
        try:
            if inherited:
                self._directory, self._lock, *word = inherited
                self._word = socket.socket(fileno=word[0]) if word else None
                self._verify()
            else:
                self._word = self._spoken()
                self._take()
                if (other := living_supervisor(os.path.join(self.path, CURRENT))) is not None:
                    raise self._held_by(other)
            self.own = InstanceDir(self.path, os.path.realpath(os.path.join(self.path, CURRENT)) if inherited else "")
            if self._is_ours:
                self._link()
        except OSError as error:
            self._let_go()
            raise RunDirError(f"the run dir {self.path} cannot be used: {error.strerror or error}") from error
        except RunDirError:
            self._let_go()
            raise
        self._patience = 0.0

    # -- from one instance to the next --------------------------------------------------

    def descriptors(self) -> list[int]:
        """What holds the locks, for the instance that takes over."""
        return [self._directory, self._lock, *([] if self._word is None else [self._word.fileno()])]

    def give_away(self) -> None:
        """From now on it belongs to whoever has copies of the descriptors; only our own directory is left to us.

        Ours are closed: a lock lasts as long as anybody has the file open, and the next one's shall be free when it lets go.
        """
        self._is_ours = False
        self._let_go()

    def _verify(self) -> None:
        """What was handed over is this run dir, and its owner's own: root is about to write into it, and to give it away.

        Raises RunDirError and OSError.
        """
        owner = os.lstat(self.path)
        lock = os.fstat(self._lock)
        is_usable = (
            stat.S_ISDIR(owner.st_mode)
            and not owner.st_mode & 0o077
            and (owner.st_uid == os.getuid() or os.getuid() == 0)
            and _is_same(self.path, self._directory)
            and stat.S_ISREG(lock.st_mode)
            and lock.st_uid == owner.st_uid
            and lock.st_nlink <= 1
        )
        if not is_usable:
            raise RunDirError(f"the run dir {self.path} is not what was handed over: stop the instance there, and start anew")

    def take_office(self) -> None:
        """It was given away to us: whoever asks finds us from now on. Raises OSError and RunDirError."""
        self._is_ours = True
        if self._word is not None:
            self._word.listen(128)  # with it the kernel tells our process id
        self._write_pid()
        self._link()

    def give(self, uid: int, gid: int) -> None:
        """Makes all of it a user's, before this process becomes that user. Raises OSError."""
        self.own.give(uid, gid)
        for fd in (self._lock, self._directory):
            os.fchown(fd, uid, gid)
        os.chown(os.path.join(self.path, CURRENT), uid, gid, follow_symlinks=False)

    # -- holding ----------------------------------------------------------------------

    def _held_by(self, pid: object) -> RunDirError:
        return RunDirError(
            f"pingap is already running in {self.path} (pid {pid or 'unknown'}): stop it with `pingap down`, or give another --run-dir"
        )

    def _spoken(self) -> socket.socket | None:
        """The abstract socket. It lasts as long as this process; None where it cannot be had, and the locks must do."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.bind(_word(self.path))
            sock.listen(128)
        except OSError:
            sock.close()
            if (other := peer_of(_word(self.path), os.getuid())) is not None:
                raise self._held_by(other) from None
            return None
        return sock

    def _take(self) -> None:
        """The directory and what is locked in it. Raises OSError and RunDirError."""
        _make_private(self.path)
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._await_lock(directory)
        except BaseException:
            os.close(directory)
            raise
        if os.getuid() == 0:
            os.fchown(directory, 0, 0)  # it was given to a user (`[basic] user`) by an instance that is no more
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = directory
        self._write_pid()

    def _await_lock(self, directory: int) -> None:
        """The directory's own lock outlives the removal of everything in it."""
        until = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise self._held_by(supervisor_of(self.path)) from None
                time.sleep(0.02)
            except OSError:
                return  # a file system that locks no directories: the pid file must do

    def _write_pid(self) -> None:
        path = os.path.join(self.path, "pid")
        if self._lock < 0 or not _is_same(path, self._lock):
            lock = self._locked(path)
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = lock
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _link(self) -> None:
        new = os.path.join(self.path, f".{CURRENT}")
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(str(self.own.number), new)
        os.replace(new, os.path.join(self.path, CURRENT))

    def restore(self) -> list[str]:
        """Makes anew what somebody has removed of it, sockets aside; names of that. Raises OSError and RunDirError where it cannot be."""
        if not self._is_ours:
            return self.own.restore()
        if self._word is not None:
            with suppress(BlockingIOError):
                while True:  # those who asked who is here
                    self._word.accept()[0].close()
        restored = []
        if not _is_same(self.path, self._directory):
            self._take()
            restored.append("the directory")
        elif not _is_same(os.path.join(self.path, "pid"), self._lock):
            self._write_pid()
            restored.append("pid")
        restored += self.own.restore()
        if not os.path.lexists(os.path.join(self.path, CURRENT)):
            self._link()
            restored.append(CURRENT)
        return restored

    def _locked(self, path: str) -> int:
        until = time.monotonic() + self._patience
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.stat(path).st_ino == os.fstat(lock).st_ino:
                        return lock
                # The one who held it removed the file between our open and our lock: another file counts now.
            except BlockingIOError:
                if time.monotonic() >= until:
                    other = os.pread(lock, 32, 0).decode(errors="replace").strip()
                    os.close(lock)
                    raise self._held_by(other) from None
                time.sleep(0.02)
            os.close(lock)

    def clear(self) -> int:
        """Ends the processes of instances that were killed, and removes what they left; how many processes there were.

        They would finish their requests and go by themselves, but meanwhile they hold the addresses to listen on. An
        instance that has handed over and still finishes its requests is left alone. What a cache had in memory goes as well,
        unless it is handed over, or somebody may still use it; and what this user's instances elsewhere have left there.
        """
        ended = 0
        for directory in instance_dirs(self.path):
            if directory != self.own.path and living_supervisor(directory) is None:
                ended += end_leftovers(directory)
                shutil.rmtree(directory, ignore_errors=True)
        if self._is_ours and not self.predecessors():
            remove_memory(self.path)
        if self._is_ours:
            self._remove_forgotten()
        return ended

    def _remove_forgotten(self) -> None:
        """What caches of instances had in memory that were killed, and in whose run dirs none has begun since."""
        for place, run_dir in claimed():
            with suppress(PermissionError):  # who may not look does not know whether it is used
                if run_dir != self.path and supervisor_of(run_dir) is None and not living(run_dir):
                    remove_unused(place)

    def predecessors(self) -> list[int]:
        """Process ids of instances that have handed over and have requests to finish."""
        return living(self.path, self.own.path)

    def record(self, pids: Iterable[int]) -> None:
        """Writes down which processes belong to this instance."""
        self.own.record(pids)

    def release(self, is_restart: bool = False) -> None:
        """Leaves nothing behind but the empty directory, and what a restart goes on with."""
        self.own.release()
        if self._is_ours:
            self.clear()  # an upgrade that was under way
            remove_memory(self.path)
        with suppress(OSError):
            if self._is_ours and _is_same(self.path, self._directory):  # else it is not ours any more
                for name in FILES if is_restart else FILES + KEPT:
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(self.path, name))
        self._let_go()

    def _let_go(self) -> None:
        for fd in {self._lock, self._directory} - {-1}:
            os.close(fd)
        if self._word is not None:
            self._word.close()
        self._lock, self._directory, self._word = -1, -1, None


def living(path: str, but: str = "") -> list[int]:
    """Process ids of the supervisors in a run dir, those that finish their requests too. but: a directory of one that does not count."""
    found = (living_supervisor(directory) for directory in instance_dirs(path) if directory != but)
    return [pid for pid in found if pid is not None]


def _make_private(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    is_ours = status.st_uid == os.getuid() or (os.getuid() == 0 and _is_one(path))
    if not stat.S_ISDIR(status.st_mode) or not is_ours:
        raise PermissionError(f"it is not a directory of user {os.getuid()}")
    if status.st_mode & 0o077:
        if os.listdir(path):  # it may be anybody's: to close it could lock others out
            raise PermissionError("it is open to other users and not empty: chmod 700, or give another --run-dir")
        os.chmod(path, 0o700)


def _is_one(path: str) -> bool:
    """Whether there is nothing in a directory but what pingap leaves in its run dir: root takes no other from a user."""
    return all(name in (*FILES, f".{CURRENT}", CACHE) or name.isdigit() for name in os.listdir(path))


def _is_same(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
