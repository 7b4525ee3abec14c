"""The supervisor's end of the spawner (see spawner.py for the packets): starts it, and starts it again when it dies.

The spawner is started before anything else is imported, so this file imports little.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from pingap import limits
from pingap.bus.liveness import SILENCE
from pingap.polling import WRITABLE, ready
from pingap.signals import SIGNALS
from pingap.spawner import MOST_FDS, PACKET

if TYPE_CHECKING:
    import asyncio

    from pingap.listeners import Listener

_CODE: Final = "import sys; sys.path[:] = {path!r}; from pingap.spawner import main; main({fd}, {modules!r})"
"""Run as code, for `-m` would put the working directory, and any `logging.py` in it, before everything else."""

ENDING: Final = 1.0
STEADY: Final = 5.0
AGAIN: Final = 1.0
"""Seconds until a spawner that did not live for STEADY is started again."""

LOADING: Final = 30.0
"""Seconds that loading the configuration may take."""


ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "8388608", "MALLOC_TRIM_THRESHOLD_": "33554432", "MALLOC_TOP_PAD_": "1048576"}
"""For glibc in every process: chunks of bodies stay in the heap rather than being fetched from and given back to the
kernel one by one, which cost two fifths of a download (docs/decisions/0001). The user's environment wins."""


class SpawnerFailed(Exception):
    """The spawner cannot do its work; the text says why."""


class SpawnerHandle:
    """One spawner process after the other."""

    def __init__(self, modules: Sequence[str]) -> None:
        """modules: what it imports for its children. Raises SpawnerFailed."""
        self._modules = list(modules)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said: Callable[[dict[str, Any]], None] = _unheard
        self._lost: Callable[[], None] = _unheard
        self._back: Callable[[], None] = _unheard
        self._closing = False
        self._pinged = 0.0
        self.restarts = 0
        self._prints_to = ""
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> None:
        self._started = self._heard = time.monotonic()
        self._patience = LOADING
        self._socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, there):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET * 4)
        code = _CODE.format(path=sys.path, fd=there.fileno(), modules=self._modules)
        # Blocked until the spawner ignores them: a Ctrl-C meant for us must not end it while Python starts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        argv, env = [sys.executable, "-P", "-c", code], ALLOCATOR | os.environ
        try:
            with _without_capabilities():
                self._process = subprocess.Popen(argv, pass_fds=(there.fileno(),), stdin=subprocess.DEVNULL, env=env)
        except OSError as error:
            self._socket.close()
            raise SpawnerFailed(f"the spawner cannot be started: {limits.explained(error)}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            there.close()
        self._socket.setblocking(False)

    def attach(self, said: Callable[[dict[str, Any]], None], lost: Callable[[], None], back: Callable[[], None]) -> None:
        """From now on `said` hears what it says, `lost` that it died, and `back` that another runs, without listeners."""
        import asyncio

        self._loop, self._said, self._lost, self._back = asyncio.get_running_loop(), said, lost, back
        self._loop.add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        while True:
            try:
                packet = self._socket.recv(PACKET)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet = b""
            if not packet:
                self._gone()
                return
            self._heard, self._patience = time.monotonic(), SILENCE
            said = json.loads(packet)
            if said["said"] != "pong":
                self._said(said)

    def _gone(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._process.kill()
        self._process.wait()
        if not self._closing:
            self._lost()
            # One that dies at once, say because its code is being replaced, is not to be started without end.
            young = time.monotonic() - self._started < STEADY
            self._loop.call_later(AGAIN if young else 0, self._replace)

    def _replace(self) -> None:
        if not self._closing:
            assert self._loop is not None
            self.restarts += 1
            try:
                self._start()
            except SpawnerFailed as error:
                self._said({"said": "broken", "reason": str(error)})
                self._loop.call_later(AGAIN, self._replace)
                return
            self._loop.add_reader(self._socket, self._receive)
            self.print_anew()
            self._back()

    def beat(self, now: float) -> bool:
        """To be called with each heartbeat: asks whether it lives. False when it has not answered for too long, and is killed."""
        if now - self._pinged > SILENCE / 2:
            self._heard += now - self._pinged  # who was stopped itself has heard nobody
        self._pinged = now
        if self._socket.fileno() < 0:
            return True  # it is being replaced
        if now - self._heard > self._patience:
            self._heard = now
            self.kill()
            return False
        self._send({"do": "ping"})
        return True

    def listen(self, listeners: Sequence[Listener]) -> None:
        """Gives it listening sockets for the children to come."""
        for start in range(0, len(listeners), MOST_FDS):
            some = listeners[start : start + MOST_FDS]
            self._send({"do": "listen", "keys": [one.key for one in some]}, [one.sock.fileno() for one in some])

    def become(self, who: Sequence[Any]) -> None:
        """Has it become another user for good (config/accounts.py). One that is started later is what this process is then."""
        self._send({"do": "become", "account": list(who)})

    def print_to(self, path: str) -> None:
        """Has what it and its children print appended to that file."""
        self._prints_to = path
        self._send({"do": "print", "path": path})

    def print_anew(self) -> None:
        """After logrotate: the file of `print_to` anew, where there is one."""
        if self._prints_to:
            self.print_to(self._prints_to)

    def forget(self, keys: list[int]) -> None:
        """Has it close listening sockets."""
        if keys:
            self._send({"do": "forget", "keys": keys})

    def fork(self, order: dict[str, Any]) -> None:
        """Has it fork a process; it will say `forked`."""
        self._send({"do": "fork", **order})

    def work(self, job: str, at: str) -> None:
        """Has it fork a process that does `job` (`module:function`) of `at`."""
        self._send({"do": "work", "job": job, "at": at})

    async def load(self, loader: str, source: str | None, text: str | None) -> dict[str, Any]:
        """Loads the configuration in a child of it, so that neither keeps the memory. Raises SpawnerFailed."""
        import asyncio

        import msgpack

        here, there = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(there, True)
        self._send({"do": "load", "loader": loader, "source": source, "text": text}, [there])
        os.close(there)
        reader = asyncio.StreamReader(limit=1 << 30)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(here, "rb", 0)
        )
        try:
            packed = await asyncio.wait_for(reader.read(), LOADING)
        except TimeoutError:
            raise SpawnerFailed(f"loading the configuration took longer than {LOADING:g} s") from None
        finally:
            transport.close()
        if not packed:
            raise SpawnerFailed(self._why_broken() or "the process that loads the configuration died")
        plain: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False)
        if "failed" in plain:
            raise SpawnerFailed(plain["failed"])
        return plain

    def _why_broken(self) -> str:
        for _ in range(2):  # that it died with our order unread is reported before what it said
            with suppress(OSError, ValueError):
                said = json.loads(self._socket.recv(PACKET))
                return f"a stage cannot be imported: {said['reason']}" if said["said"] == "broken" else ""
        return ""

    def _send(self, order: dict[str, Any], fds: Sequence[int] = ()) -> None:
        packet = json.dumps(order).encode()
        if self._socket.fileno() < 0:
            return  # it died: `back` will be called, and what it should do is asked for again
        with suppress(BrokenPipeError, ConnectionResetError):  # the same
            if not ready((self._socket.fileno(),), ENDING, WRITABLE):
                self.kill()
            elif fds:
                socket.send_fds(self._socket, [packet], list(fds))
            else:
                self._socket.send(packet)

    def kill(self) -> None:
        """Ends a spawner that no longer does its work; another takes its place."""
        self._process.kill()

    def close(self) -> None:
        """Ends it: without a supervisor it goes when its children have gone."""
        self._closing = True
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
        self._socket.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _without_capabilities() -> AbstractContextManager[None]:
    """No stage needs one: what this process may, as binding low ports, is not passed on."""
    if os.geteuid() == 0:
        return nullcontext()
    from pingap.service import privileges

    return privileges.keeping_ambient()


def _unheard(*_: Any) -> None:
    """Before `attach` nobody listens."""
