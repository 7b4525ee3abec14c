"""Attach a consumer to a running pingap: every request, log record, count and notice, as it happens.

    from pingap import events

    for event in events.stream(topics=("access",)):
        print(event.status, event.path, event.duration)

A consumer is a process of its own that only reads: it cannot slow pingap. If it is
too slow for what it gets, it loses events. It finds the instance through the run
dir, goes on by itself when the logging stage is restarted, and its stream ends when
pingap stops. Whoever may attach is whoever may enter the run dir: the user that
runs pingap.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pingap import client, rundir
from pingap.bus.kinds import ACCESS, COUNT, LOG, NOTICE
from pingap.bus.link import Link
from pingap.client import NotRunning
from pingap.config.parts import host_and_port
from pingap.observability import timings
from pingap.observability.records import Access

__all__ = ["TOPICS", "AccessEvent", "CountEvent", "Event", "LogEvent", "NotRunning", "NoticeEvent", "astream", "stream"]

TOPICS: Final = ("access", "log", "count", "notice")

WAITING: Final = 10_000
"""Batches kept for a consumer that is busy; the newest beyond are lost."""

LOOK: Final = 1.0
"""Seconds without an event after which the stream looks whether pingap still runs."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """One request whose answer is complete. Times are seconds, sizes bytes."""

    time: float
    """Unix time at which it began."""
    server: str
    client_ip: str
    """As trusted_proxies let pingap believe it."""
    remote: str
    """Address of the peer, `ip:port`."""
    scheme: str
    version: str
    """1.0, 1.1 or 2.0; of a refused request as its client wrote it, "" when that could not be read."""
    method: str
    host: str
    path: str
    """As the client sent it, without the query."""
    query: str
    status: int
    duration: float
    """From the first byte of the request to the last of the answer."""
    received: int
    sent: int
    location: str
    upstream: str
    addr: str
    """The backend that answered, "" if none did."""
    upstream_status: int
    tries: int
    error: str
    """Why the answer was pingap's own (a name of stages/errors.py), else ""."""
    reason: str
    """What that comes of, in words; "" when nothing more is known."""
    timings: dict[str, float]
    """Seconds by stage (observability/timings.py), and `total`."""
    context: dict[str, Any]
    """What plugins and captures set."""
    request_headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    response_headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, record: Access) -> AccessEvent:
        """From what came over the wire."""
        target = record.target.decode("utf-8", "replace")
        path, _, query = target.partition("?")
        return cls(
            time=record.time,
            server=record.server,
            client_ip=record.client_ip,
            remote=host_and_port(record.peer[0], record.peer[1]),
            scheme=record.peer[4],
            version=f"{record.version // 10}.{record.version % 10}" if record.version else "",
            method=record.method.decode("utf-8", "replace"),
            host=record.host.decode("utf-8", "replace"),
            path=path,
            query=query,
            status=record.status,
            duration=timings.total(record),
            received=record.received,
            sent=record.sent,
            location=record.location,
            upstream=record.upstream,
            addr=record.addr,
            upstream_status=record.upstream_status,
            tries=record.tries,
            error=record.error,
            reason=record.reason,
            timings=timings.stages(record),
            context=record.context,
            request_headers=_headers(record.request_headers),
            response_headers=_headers(record.response_headers),
        )


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One record of the application log, whatever its level."""

    time: float
    level: str
    """error, warn, info or debug."""
    stage: str
    replica: int
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CountEvent:
    """What an actor counted since its last one; comes with every heartbeat."""

    stage: str
    replica: int
    counts: tuple[tuple[str, dict[str, str], float], ...]
    """Name, labels, and how many more."""
    figures: dict[str, float]
    """in_flight, requests and so on, as they are now."""


@dataclass(frozen=True, slots=True)
class NoticeEvent:
    """Something that an operator may want to hear at once."""

    time: float
    level: str
    """error, warn or info."""
    stage: str
    replica: int
    category: str
    """A word of observability/notices.py, such as `reload_config_fail`."""
    message: str
    """In words, perhaps several lines; secrets are `***`."""
    fields: dict[str, Any]


Event = AccessEvent | LogEvent | CountEvent | NoticeEvent


def stream(run_dir: str | None = None, topics: Sequence[str] = ("access",)) -> Generator[Event, None, None]:
    """Events until pingap stops. Raises NotRunning if none runs, ValueError for an unknown topic.

    run_dir: as --run-dir; None is the usual place. topics: those of TOPICS.
    For code without an event loop; inside one use `astream`.
    """
    return _flat(blocking(batches(*_checked(run_dir, topics))))


def astream(run_dir: str | None = None, topics: Sequence[str] = ("access",)) -> AsyncGenerator[Event, None]:
    """The same for `async for`."""
    return _aflat(batches(*_checked(run_dir, topics)))


def find(run_dir: str | None) -> str:
    """The run dir of the running instance. Raises NotRunning."""
    path = os.path.abspath(run_dir or rundir.default())
    client.find(path)
    return path


async def batches(path: str, topics: Sequence[str]) -> AsyncIterator[tuple[str, list[Any]]]:
    """Topic and envelopes of each message, until pingap stops. path: its run dir."""
    waiting: deque[tuple[str, list[Any]]] = deque()
    arrived = asyncio.Event()

    def take(topic: bytes, envelopes: list[Any]) -> None:
        if len(waiting) < WAITING:
            waiting.append((topic.decode(errors="replace"), envelopes))
            arrived.set()

    link = Link(asyncio.get_running_loop())
    try:
        link.subscriber(f"ipc://{path}/{rundir.CURRENT}/events.pub", [topic.encode() for topic in topics], take)
        while True:
            while waiting:
                yield waiting.popleft()
            arrived.clear()
            try:
                await asyncio.wait_for(arrived.wait(), LOOK)
            except TimeoutError:
                if rundir.supervisor_of(path) is None:
                    return
    finally:
        link.close()


def blocking(source: AsyncIterator[T]) -> Iterator[T]:
    """An asynchronous stream for code without an event loop: it runs one of its own while it waits."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise TypeError("stream() would block the running event loop: use `async for event in events.astream()`")
    return _blocking(source)


def _blocking(source: AsyncIterator[T]) -> Iterator[T]:
    async def following() -> tuple[T, ...]:
        async for item in source:
            return (item,)
        return ()

    loop = asyncio.new_event_loop()
    task: asyncio.Task[tuple[T, ...]] | None = None
    try:
        while True:
            task = loop.create_task(following())
            if not (found := loop.run_until_complete(task)):
                return
            yield found[0]
    finally:  # also when Ctrl-C ended the wait
        if task is not None:
            task.cancel()
            with suppress(KeyboardInterrupt):  # where it struck inside the task, the task tells it a second time
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            if task.done() and not task.cancelled():
                task.exception()  # or the loop would complain that nobody has asked for it
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def event_of(envelope: Sequence[Any]) -> Event | None:
    """The event in an envelope; None for a kind that is none."""
    kind = envelope[0]
    if kind == ACCESS:
        return AccessEvent.of(Access(*envelope[: len(Access._fields)]))
    if kind == LOG:
        return LogEvent(*envelope[1:7])
    if kind == NOTICE:
        return NoticeEvent(*envelope[1:8])
    if kind == COUNT:
        counts = tuple((name, labels, delta) for name, labels, delta in envelope[3])
        return CountEvent(envelope[1], envelope[2], counts, envelope[4] if len(envelope) > 4 else {})
    return None


def _checked(run_dir: str | None, topics: Sequence[str]) -> tuple[str, Sequence[str]]:
    for topic in topics:
        if topic not in TOPICS:
            raise ValueError(f"unknown topic {topic!r}; one of: {', '.join(TOPICS)}")
    return find(run_dir), topics


def _flat(source: Iterator[tuple[str, list[Any]]]) -> Generator[Event, None, None]:
    for _, envelopes in source:
        for envelope in envelopes:
            if (event := event_of(envelope)) is not None:
                yield event


async def _aflat(source: AsyncIterator[tuple[str, list[Any]]]) -> AsyncGenerator[Event, None]:
    async for _, envelopes in source:
        for envelope in envelopes:
            if (event := event_of(envelope)) is not None:
                yield event


def _headers(block: bytes) -> tuple[tuple[str, str], ...]:
    lines = block.decode("utf-8", "replace").split("\r\n")
    return tuple((name, value) for name, _, value in (line.partition(": ") for line in lines if line))
