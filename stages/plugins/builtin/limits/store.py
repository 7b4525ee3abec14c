"""A Redis or Valkey server that counts for `limit`, shared by all who name it: what is asked of it, and what when it is away.

Questions of one turn of the loop, and those that came while others were on their way, go together in one write. There is one
connection, so that what is asked first is done first. The library (redis) is imported when that is made, before the first request.

Nobody waits for the server for longer than the time that the settings give it, from the asking on. When it has had that time for
what was sent and has not answered it is away: nobody asks it any more until it has answered to a PING, which is tried in the
background. Who could not be sent in time, for it is slow and there are many, goes without it alone.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from pingap.plugin import Host
from pingap.stages.plugins.builtin.limits.scripts import SCRIPTS, Script
from pingap.stages.plugins.builtin.limits.store_url import StoreUrl

TOGETHER: Final = 256
"""Most questions in one write."""

MOST: Final = 8192
"""Questions that may wait to be sent."""

FIRST: Final = 0.05
LONGEST: Final = 1.0
"""Seconds before the first PING to a server that is away, and between later ones."""

CONNECTING: Final = 1.0
"""Seconds for a new connection, while nobody waits for it."""

STEADY: Final = 10.0
"""Seconds after which a server that came back has not come and gone."""


SLACK: Final = 0.01
"""Seconds that somebody waits longer, so that of a server that is away that is known first."""


class StoreAway(Exception):
    """The store has no answer."""


class _StoreQuestion(NamedTuple):
    future: asyncio.Future[Sequence[int]] | None
    """None: nobody waits for the answer."""
    script: Script
    key: str
    args: tuple[Any, ...]
    until: float
    """By the loop's clock: until then it is of use."""


class LimitStore:
    """One server, as one plugin knows it."""

    def __init__(self, url: StoreUrl, timeout: float, host: Host) -> None:
        """timeout: seconds that it has for an answer."""
        self._url = url
        self._timeout = timeout
        self._host = host
        self._loop: asyncio.AbstractEventLoop = host.loop
        self._connection: Any = None
        """A redis.asyncio.Connection."""
        self._knows_scripts = False
        self._waiting: deque[_StoreQuestion] = deque()
        self._kept: deque[_StoreQuestion] = deque(maxlen=MOST)
        """What is told to the server when it is back."""
        self._due: deque[tuple[float, asyncio.Future[Sequence[int]]]] = deque()
        """Until when who waits, the first first. Those that have their answer stay for a while."""
        self._timer: asyncio.TimerHandle | None = None
        self._away_at: float | None = None
        """When the server is away, if it has not answered until then to what was sent."""
        self._sender: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        """Alive while the server is away."""
        self._back_since = -STEADY
        self._pause = FIRST
        self._is_stopped = False

    @property
    def is_away(self) -> bool:
        """Nobody asks it."""
        return self._prober is not None

    async def start(self) -> None:
        """Has a connection made, if that is possible now."""
        await self._host.in_thread(importlib.import_module, "redis.asyncio")  # for a tenth of a second
        try:
            await self._greet()
        except Exception as error:
            self._gone(error, ())

    async def ask(self, script: Script, key: str, args: tuple[Any, ...]) -> Sequence[int]:
        """What a script says. Raises StoreAway."""
        if self._prober is not None or self._is_stopped:
            raise StoreAway
        if len(self._waiting) >= MOST:
            self._failed("overloaded")
            raise StoreAway
        future: asyncio.Future[Sequence[int]] = self._loop.create_future()
        until = self._loop.time() + self._timeout
        self._put(_StoreQuestion(future, script, key, args, until))
        self._due.append((until, future))
        if self._timer is None:
            self._timer = self._loop.call_at(until + SLACK, self._end_waits)
        return await future

    def tell(self, script: Script, key: str, args: tuple[Any, ...], keep: float = 0.0) -> None:
        """Runs a script after all that was asked before. Nobody waits for it, and it is lost when the server is away for longer than
        `keep` seconds."""
        question = _StoreQuestion(None, script, key, args, self._loop.time() + keep)
        if self._is_stopped:
            return
        if self._prober is not None:
            self._keep((question,))
        elif len(self._waiting) < MOST:
            self._put(question)

    def _put(self, question: _StoreQuestion) -> None:
        self._waiting.append(question)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send_all())

    async def stop(self) -> None:
        """Nobody asks any more."""
        self._is_stopped = True
        for task in (self._sender, self._prober):
            if task is not None:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiting(())
        await self._disconnect()

    # -- asking ------------------------------------------------------------------------

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                if not batch:
                    return
                try:
                    self._away_at = self._deadline(batch)
                    async with asyncio.timeout_at(self._away_at):
                        answers = await self._answers(batch)
                except Exception as error:
                    self._gone(error, batch)
                    return
                for question, answer in zip(batch, answers, strict=True):
                    self._settle(question, answer)
        finally:
            self._sender = self._away_at = None

    def _deadline(self, batch: Sequence[_StoreQuestion]) -> float:
        """It has the time from the asking on, unless that was long ago."""
        end = self._loop.time() + self._timeout
        first = min((one.until for one in batch if one.future is not None), default=end)
        return first if end - first < self._timeout / 4 else end

    def _next_batch(self) -> list[_StoreQuestion]:
        """The next that somebody waits for, and what is only told."""
        batch: list[_StoreQuestion] = []
        while self._waiting and len(batch) < TOGETHER:
            question = self._waiting.popleft()
            if question.future is None or not question.future.done():
                batch.append(question)
        return batch

    def _end_waits(self) -> None:
        """Those whose time is over have no answer."""
        now, late = self._loop.time(), 0
        if self._away_at is not None and now >= self._away_at:
            self._timer = self._loop.call_later(SLACK, self._end_waits)
            return  # all of them are going to hear that it is away
        while self._due and (self._due[0][1].done() or self._due[0][0] <= now):
            _, future = self._due.popleft()
            if not future.done():
                future.set_exception(StoreAway())
                late += 1
        if late:
            self._failed("late")
        self._timer = self._loop.call_at(self._due[0][0] + SLACK, self._end_waits) if self._due else None

    async def _answers(self, batch: Sequence[_StoreQuestion]) -> list[Any]:
        """What the server says to each. Raises what says that it is of no use now."""
        is_old = self._connection is not None and self._connection.is_connected
        try:
            return await self._said_to(batch)
        except Exception as error:
            if not is_old or kind_of(error) != "connection":
                raise
        await self._disconnect()  # it was closed meanwhile, as servers do with those that are idle
        return await self._said_to(batch)

    async def _said_to(self, batch: Sequence[_StoreQuestion]) -> list[Any]:
        connection = await self._connected()
        commands = [("EVALSHA", one.script.digest, 1, one.key, *one.args) for one in batch]
        if not self._knows_scripts:
            commands = [*(("SCRIPT", "LOAD", script.text) for script in SCRIPTS), *commands]
        answers = await self._run(connection, commands)
        answers = answers[len(commands) - len(batch) :]
        lost = [at for at, answer in enumerate(answers) if _is_error(answer, "NOSCRIPT")]
        if lost:  # it was restarted, or its scripts were flushed
            again = [*(("SCRIPT", "LOAD", script.text) for script in SCRIPTS), *(commands[len(commands) - len(batch) + at] for at in lost)]
            for at, answer in zip(lost, (await self._run(connection, again))[len(SCRIPTS) :], strict=True):
                answers[at] = answer
        self._knows_scripts = True
        for answer in answers:
            if isinstance(answer, Exception) and not _is_error(answer, "WRONGTYPE"):
                raise answer  # it is loading, out of memory, a replica, or does not let us: nothing will work
        return answers

    @staticmethod
    async def _run(connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        from redis.exceptions import ResponseError

        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    async def _connected(self) -> Any:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._new_connection()
        if not connection.is_connected:
            self._knows_scripts = False
            await connection.connect()
        return connection

    def _new_connection(self) -> Any:
        from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

        url = self._url
        more: dict[str, Any] = {"db": url.db, "username": url.username, "password": url.password, "client_name": "pingap", "protocol": 2}
        more |= {"socket_timeout": None, "socket_connect_timeout": None}  # there is one deadline, and it is ours
        if url.kind == "unix":
            return UnixDomainSocketConnection(path=url.path, **more)
        if url.kind == "rediss":
            files: dict[str, Any] = dict(url.tls)
            return SSLConnection(host=url.host, port=url.port, **files, **more)
        return Connection(host=url.host, port=url.port, **more)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            except Exception as error:
                self._host.log("debug", "a connection to a store did not close", error=repr(error))

    def _settle(self, question: _StoreQuestion, answer: Any) -> None:
        future = question.future
        if future is None or future.done():
            return
        if isinstance(answer, Exception):
            self._failed("wrong_type")
            future.set_exception(StoreAway())
        else:
            future.set_result(answer)

    async def _greet(self) -> None:
        """Connects, which may take longer than an answer, and hears how long that takes. Raises what has gone wrong."""
        async with asyncio.timeout(max(CONNECTING, self._timeout)):
            connection = await self._connected()
        async with asyncio.timeout(self._timeout):
            [answer] = await self._run(connection, [("PING",)])
        if isinstance(answer, Exception):
            raise answer

    # -- away ------------------------------------------------------------------------------

    def _gone(self, error: Exception, batch: Sequence[_StoreQuestion]) -> None:
        """It has not answered in time, or said that it cannot."""
        kind = kind_of(error)
        self._host.log("warn", "the store of a limit is away", store=self._url.shown, reason=kind, error=self._said(error))
        self._failed(kind)
        if monotonic() - self._back_since > STEADY:
            self._pause = FIRST
        if not self._is_stopped:
            self._prober = self._loop.create_task(self._probe(monotonic()))
        self._fail_waiting(batch)

    def _failed(self, kind: str) -> None:
        self._host.count("limit_store_failures", plugin=self._host.name, kind=kind)

    def _said(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        return text if not self._url.password else text.replace(self._url.password, "***")

    def _fail_waiting(self, batch: Sequence[_StoreQuestion]) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._keep((*batch, *waiting))
        for question in (*batch, *waiting):
            if question.future is not None and not question.future.done():
                question.future.set_exception(StoreAway())

    def _keep(self, questions: Iterable[_StoreQuestion]) -> None:
        now = self._loop.time()
        self._kept.extend(one for one in questions if one.future is None and one.until > now)

    def _put_kept(self) -> None:
        """What it has missed and is of use yet."""
        now = self._loop.time()
        kept, self._kept = self._kept, deque(maxlen=MOST)
        for question in kept:
            if question.until > now:
                self._put(question)

    async def _probe(self, since: float) -> None:
        while True:
            await self._disconnect()
            await asyncio.sleep(self._pause)
            self._pause = min(LONGEST, 2 * self._pause)
            try:
                await self._greet()
            except Exception as error:
                self._host.log("debug", "the store of a limit is still away", store=self._url.shown, error=self._said(error))
                continue
            self._back_since = monotonic()
            self._prober = None
            self._put_kept()
            self._host.log("info", "the store of a limit is back", store=self._url.shown, seconds=round(monotonic() - since, 1))
            return


def _is_error(answer: Any, code: str) -> bool:
    """Whether an answer is such an error. The library takes the code off where it has a class of its own for it; a server before
    Redis 7 says in a longer text what has gone wrong in a script."""
    if not isinstance(answer, Exception):
        return False
    return code in str(answer) or (code == "NOSCRIPT" and type(answer).__name__ == "NoScriptError")


def kind_of(error: Exception) -> str:
    """In one word, for metrics."""
    name = type(error).__name__
    if isinstance(error, TimeoutError) or name == "TimeoutError":
        return "timeout"
    if name in ("AuthenticationError", "NoPermissionError", "AuthorizationError"):
        return "refused"
    if isinstance(error, OSError) or name == "ConnectionError":
        return "connection"
    return "error"
