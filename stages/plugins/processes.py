"""Processes for what would keep a thread from its loop: `host.in_process` (work.py is what happens in one).

An actor never forks: ZeroMQ's threads would not be there in the child. It asks the supervisor, whose spawner forks
one that connects here. One that dies, or is killed because a job has had its time, fails that job and is replaced
when the next one needs it. All plugins of a process of the stage share them.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import secrets
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.stages.plugins.driving import CURRENT
from pingap.stages.plugins.exchange import Overloaded
from pingap.stages.plugins.guard import failure
from pingap.stages.plugins.threads import Job
from pingap.stages.plugins.user_code import is_of_a_plugin
from pingap.stages.plugins.work import HEAD, SIZE, peer_of

WANTED: Final = "workers"
"""Word of the REPORT that asks for one; its value is the socket's name."""

WAITING: Final = 16
"""Jobs that may wait, for each process."""

MOST_SECONDS: Final = 3600.0
ENDING: Final = 0.5
"""Seconds for which the end of the stage waits for those that it has killed."""

COMES_WITHIN: Final = 5.0
"""Seconds after which one that was asked for, and has not come, is asked for again."""


class JobFailed(Exception):
    """Its process died, or it took too long and was killed."""


class ProcessJob(Job):
    """A call in another process. While it waits for one the clock of the hook that asked for it stands still."""

    def __init__(self, loop: asyncio.AbstractEventLoop, order: bytes, seconds: float) -> None:
        super().__init__(loop)
        self.order = order
        self.seconds = seconds


class JobProcesses:
    """Those of one actor; the first is asked for by the first job."""

    def __init__(self, context: Context, most: int | None = None) -> None:
        """most: processes at the same time; None for as many as there are CPUs."""
        self._context = context
        self._most = most or len(os.sched_getaffinity(0))
        self._at = f"pingap-{secrets.token_hex(16)}"
        self._server: asyncio.Task[asyncio.Server] | None = None
        self._jobs: deque[ProcessJob] = deque()
        """Those that wait."""
        self._open = 0
        """Jobs that wait or are at work."""
        self._free: deque[asyncio.Future[ProcessJob]] = deque()
        """A process each that waits for a job."""
        self._handles: set[int] = set()
        """pidfds of those that are here."""
        self._coming: list[asyncio.TimerHandle] = []
        self._is_over = False
        self._all_gone: asyncio.Event | None = None

    def run(self, call: Callable[..., Any], *args: Any, timeout: float) -> ProcessJob:
        """Raises ValueError for what another process cannot import or have, what `pickle` raises otherwise, and Overloaded."""
        if not 0 < timeout <= MOST_SECONDS:
            raise ValueError(f"a timeout is more than 0 and at most {MOST_SECONDS:g} seconds")
        order = _pickled((*_named(call), args))
        if self._open >= self._most * (1 + WAITING):
            raise Overloaded(f"{self._open - self._most} jobs wait for the {self._most} processes")
        loop = self._context.loop
        job = ProcessJob(loop, order, timeout)
        job.timer = loop.call_later(timeout, self._shed, job)
        if (hook := CURRENT.get()) is not None:
            job.pause(hook)
        self._open += 1
        job.add_done_callback(self._over)
        if self._server is None:
            self._server = loop.create_task(self._listen())
        self._jobs.append(job)
        self._give()
        return job

    def _over(self, job: asyncio.Future[Any]) -> None:
        self._open -= 1
        assert isinstance(job, ProcessJob)
        job.begin()

    def _shed(self, job: ProcessJob) -> None:
        if not job.is_begun and not job.done():
            job.set_exception(Overloaded(f"no process was free within {job.seconds:g} s"))
            job.exception()  # whoever has left meanwhile need not hear of it

    def _give(self) -> None:
        """Jobs to processes, as far as there are both; and asks for more processes if that is wanted."""
        while self._jobs and self._free:
            process = self._free.popleft()
            if not process.done():
                job = self._jobs.popleft()
                if job.done():  # nobody wants it any more
                    self._free.appendleft(process)
                else:
                    process.set_result(job)
        for _ in range(min(len(self._jobs), self._most - len(self._handles)) - len(self._coming)):
            self._context.report(WANTED, self._at)
            self._coming.append(self._context.loop.call_later(COMES_WITHIN, self._has_not_come))

    def _has_not_come(self) -> None:
        self._coming.pop(0)
        self._give()

    # -- processes ----------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(f"\0{self._at}")
        return await asyncio.start_unix_server(self._joined, sock=sock)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handle = -1
        try:
            pid, uid = peer_of(writer.get_extra_info("socket"))
            if uid != os.geteuid():
                return
            with suppress(OSError):
                handle = os.pidfd_open(pid)
            if handle < 0:
                return
            self._handles.add(handle)
            if self._coming:
                self._coming.pop(0).cancel()
            await self._serve(reader, writer, handle)
        finally:
            if handle >= 0:
                self._handles.discard(handle)
                with suppress(OSError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)
                if self._all_gone is not None and not self._handles:
                    self._all_gone.set()
            writer.close()
            if self._all_gone is None:
                self._give()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: int) -> None:
        """Until it is gone."""
        loop = self._context.loop
        said = loop.create_task(reader.readexactly(SIZE.size))  # also tells of its end while it waits
        free: asyncio.Future[ProcessJob] | None = None
        try:
            while True:
                free = loop.create_future()
                self._free.append(free)
                self._give()
                await asyncio.wait((free, said), return_when=asyncio.FIRST_COMPLETED)
                if not free.done():
                    return  # it is gone, or talks without being asked
                job, free = free.result(), None
                if _has_ended(handle):  # and its end of the connection has not come up yet: the job was never begun
                    if self._is_over:
                        _fail(job, JobFailed("pingap ends"))
                    else:
                        self._jobs.appendleft(job)
                    return
                if not await self._do(job, reader, writer, said):
                    return
                said = loop.create_task(reader.readexactly(SIZE.size))
        finally:
            if free is not None:
                free.cancel()
            said.cancel()
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
                await said

    async def _do(self, job: ProcessJob, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: asyncio.Task[bytes]) -> bool:
        """One job; False when its process is of no use any more."""
        job.begin()
        try:
            async with asyncio.timeout(job.seconds):
                writer.write(HEAD.pack(len(job.order), job.seconds) + job.order)
                await writer.drain()
                (size,) = SIZE.unpack(await said)
                worked, outcome = pickle.loads(await reader.readexactly(size))
        except TimeoutError:
            _fail(job, JobFailed(f"it took longer than {job.seconds:g} s, and its process was killed"))
            return False
        except (asyncio.IncompleteReadError, OSError):
            _fail(job, JobFailed("its process died"))
            return False
        except asyncio.CancelledError:
            _fail(job, JobFailed("pingap ends"))
            raise
        except Exception as error:  # of `pickle`
            _fail(job, JobFailed(f"its result cannot be read: {error}"))
            return False
        if not worked:
            _fail(job, outcome if isinstance(outcome, Exception) else failure(outcome))
        elif not job.done():
            job.set_result(outcome)
        return True

    async def stop(self) -> None:
        """The stage ends: so do they, whatever they are at."""
        self._is_over = True
        for timer in self._coming:
            timer.cancel()
        self._coming.clear()
        for job in self._jobs:
            _fail(job, JobFailed("pingap ends"))
        self._jobs.clear()
        for handle in self._handles:
            with suppress(OSError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        if self._server is not None:
            (await self._server).close()
        if self._handles:
            self._all_gone = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), ENDING)


def _has_ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _fail(job: ProcessJob, error: Exception) -> None:
    if job.done():
        return
    if isinstance(error, StopIteration):  # no future takes this one
        error = RuntimeError(f"it raised StopIteration: {error}")
    job.set_exception(error)
    job.exception()  # whoever has left meanwhile need not hear of it


def _named(call: Callable[..., Any]) -> tuple[str, str]:
    """Where another process finds a function."""
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "").split("."):
        found = getattr(found, part, None)
    if not isinstance(module, str) or not isinstance(name, str) or found is not call or is_of_a_plugin(module) or module == "__main__":
        which = "a function of an installed module, and not of the plugin's own file or of one beside it"
        raise ValueError(f"another process cannot import {call!r}: it has to be {which}")
    return module, name


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        kind = obj if isinstance(obj, type) or hasattr(obj, "__qualname__") else type(obj)
        if is_of_a_plugin(str(getattr(kind, "__module__", ""))):
            what = (
                f"{kind.__qualname__} of the plugin's own code"
                if kind is obj
                else f"a {kind.__qualname__}, a class of the plugin's own code"
            )
            raise ValueError(f"another process cannot have {what}: give it what is built in, or of an installed module")
        return NotImplemented


def _pickled(order: tuple[Any, ...]) -> bytes:
    written = io.BytesIO()
    _Pickler(written).dump(order)
    return written.getvalue()
