"""`pingap logs` and `pingap tap`: what a running pingap does, on the terminal."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from pingap import events, terminal
from pingap.bus.kinds import ACCESS, LOG
from pingap.observability import timings
from pingap.observability.access_format import compile_format, when_utc
from pingap.observability.app_format import as_json as json_line
from pingap.observability.app_format import as_text, level_number
from pingap.observability.escape import plain, text
from pingap.observability.records import Access

if TYPE_CHECKING:
    from rich.console import Console

DEADLINE: Final = 2.0
"""Seconds that the recent records may take to come."""

REMEMBERED: Final = 2000
"""Records by which a repetition is known: a restarted logging stage sends its recent ones again."""

_ACCESS_LINE: Final = compile_format('{when} ACCESS {host} {remote} "{method} {uri} {proto}" {status} {size_human} {latency_human}')
_LEVELS: Final = {"error": "bold red", "warn": "yellow", "debug": "dim"}
_STATUS_FIELD: Final = Access._fields.index("status")
_TIME_FIELD: Final = Access._fields.index("time")
_STATUS: Final = re.compile(r"[1-5](?:xx|[0-9][0-9])", re.IGNORECASE)
_COLOURS: Final = {2: "green", 3: "cyan", 4: "yellow", 5: "bold red"}


class Screen:
    """Lines for people: coloured by rich on a terminal, plain anywhere else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._console: Console | None = None
        if out.isatty():
            from rich.console import Console

            self._console = Console(file=out, soft_wrap=True, highlight=False, markup=False, emoji=False)

    def write(self, *parts: tuple[str, str]) -> None:
        """One line of (text, style) parts."""
        if self._console is None:
            self._out.write("".join(part for part, _ in parts) + "\n")
        else:
            from rich.text import Text

            self._console.print(Text.assemble(*parts))

    def flush(self) -> None:
        self._out.flush()


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records `pingap logs` shows."""

    level: str = "info"
    """The least one; requests count as info."""
    stages: frozenset[str] = frozenset()
    """`upstream` or `upstream.0`; empty is all. Requests are accept's."""
    since: float = 0.0
    """Unix time before which nothing is shown."""
    most: int | None = None
    """Of those that are there already, the newest so many; None is all."""

    def has(self, envelope: Sequence[Any]) -> bool:
        """Whether a record, or a request, is among them."""
        if envelope[0] == ACCESS:
            level, when, stage, replica = "info", envelope[_TIME_FIELD], "accept", None
        elif envelope[0] == LOG:
            _, when, level, stage, replica = envelope[:5]
        else:
            return False
        if level_number(level) < level_number(self.level) or when < self.since:
            return False
        return not self.stages or stage in self.stages or f"{stage}.{replica}" in self.stages

    def newest(self, records: Sequence[Any]) -> list[Any]:
        """Those of records in hand."""
        found = [record for record in records if self.has(record)]
        return found if self.most is None else found[max(0, len(found) - self.most) :]


def logs(run_dir: str | None, follow: bool, as_json: bool, wanted: RecordFilter = RecordFilter(), out: TextIO | None = None) -> int:
    """Prints the newest records of the application log (at most 1000); with `follow` also those to come, and each request.

    The records are those that the running logging stage has written: older ones are in the log file. Returns the exit
    code. Raises NotRunning.
    """
    path = events.find(run_dir)
    screen = Screen(out or sys.stdout)

    def show(envelope: Sequence[Any]) -> None:
        if not wanted.has(envelope):
            return
        if envelope[0] == ACCESS:
            status = envelope[_STATUS_FIELD]
            screen.write((access_json(envelope), "") if as_json else (_ACCESS_LINE(envelope), _COLOURS.get(status // 100, "")))
        else:
            screen.write((json_line(envelope), "") if as_json else (as_text(envelope), _LEVELS.get(envelope[2], "")))

    recent = f"recent.{secrets.token_hex(8)}"
    if follow:
        return _until_stopped(screen, _followed(path, recent, wanted), show)
    found = asyncio.run(_recent(path, recent))
    if found is None:
        terminal.warn(f"pingap: the logging stage did not answer within {DEADLINE:g} s: is it being restarted? (`pingap ps`)")
        return 1
    return _until_stopped(screen, iter([wanted.newest(found)]), show)


def access_json(envelope: Sequence[Any]) -> str:
    """One request as a JSON object; `time` is when it began, times are seconds."""
    event = events.event_of(envelope)
    assert isinstance(event, events.AccessEvent)
    shown = {
        "time": when_utc(event.time),
        "level": "info",
        "message": "access",
        "server": event.server,
        "remote": event.remote,
        "client_ip": event.client_ip,
        "method": event.method,
        "host": event.host,
        "uri": f"{event.path}?{event.query}" if event.query else event.path,
        "status": event.status,
        "received": event.received,
        "sent": event.sent,
        "duration": round(event.duration, 6),
        "location": event.location,
        "upstream": event.upstream,
        "upstream_addr": event.addr,
        "cache": _cached(Access(*envelope[: len(Access._fields)])),
        "error": event.error,
        "reason": event.reason,
        "timings": {stage: round(seconds, 6) for stage, seconds in event.timings.items()},
        "plugins": {name: round(seconds, 6) for name, seconds in timings.plugins(envelope).items()},
    }
    return json.dumps(shown)


@dataclass(frozen=True, slots=True)
class Requests:
    """Which requests `pingap tap` shows; what is not given lets all through."""

    host: str | None = None
    """As the client names it, without port; `*.example.com` for its subdomains."""
    path: str = ""
    """Its beginning."""
    has_status: Callable[[int], bool] | None = None
    """Of `status_filter`."""
    location: str | None = None
    upstream: str | None = None
    """By name, or the address of the backend."""
    slower_than: float = 0.0
    """Seconds from the first byte of the request to the last of the answer."""

    def has(self, access: Access) -> bool:
        """Whether a request is among them."""
        return (
            (self.has_status is None or self.has_status(access.status))
            and access.target.startswith(self.path.encode())
            and _is_host(access.host, self.host)
            and (self.location is None or access.location == self.location)
            and (self.upstream is None or self.upstream in (access.upstream, access.addr))
            and (not self.slower_than or timings.total(access) >= self.slower_than)
        )


def tap(run_dir: str | None, wanted: Requests = Requests(), as_json: bool = False, out: TextIO | None = None) -> int:
    """Prints each request as it ends, with the time that each stage took, until Ctrl-C or until pingap stops.

    Returns the exit code. Raises NotRunning.
    """
    found = events.find(run_dir)
    screen = Screen(out or sys.stdout)

    def show(envelope: Sequence[Any]) -> None:
        if envelope[0] != ACCESS:
            return
        access = Access(*envelope[: len(Access._fields)])
        if wanted.has(access):
            screen.write(*([(access_json(envelope), "")] if as_json else request_line(access)))

    return _until_stopped(screen, (batch for _, batch in events.blocking(events.batches(found, ("access",)))), show)


def status_filter(status: str | None) -> Callable[[int], bool]:
    """What `--status` lets through. Raises ValueError."""
    if not status:
        return lambda code: True
    words = [word.strip().lower() for word in status.split(",")]
    for word in words:
        if not _STATUS.fullmatch(word):
            raise ValueError(f"{word!r} is no status: write 404, 5xx, or several with commas")
    classes = frozenset(int(word[0]) for word in words if word.endswith("xx"))
    codes = frozenset(int(word) for word in words if not word.endswith("xx"))
    return lambda code: code in codes or code // 100 in classes


def request_line(access: Access) -> list[tuple[str, str]]:
    """One request as (text, style) parts: when, what, how long, and where the time went in milliseconds."""
    moment = time.strftime("%H:%M:%S", time.localtime(access.time))
    times = timings.stages(access)
    total = times.pop("total")
    parts = [
        (f"{moment}.{int(access.time % 1 * 1000):03d} ", "dim"),
        (f"{access.status} ", _COLOURS.get(access.status // 100, "")),
        (f"{text(access.method) or '-':7} ", "bold"),
        (f"{text(access.host)}{text(access.target) or '-'}", ""),
        (f"  {total * 1000:.1f}ms", "bold"),
    ]
    # The longest share stands out: it is what one looks for.
    longest = max(times.values())
    for stage in timings.STAGES:
        if stage in times:
            parts.append((f"  {stage} {times[stage] * 1000:.1f}", "magenta" if times[stage] == longest else "dim"))
        if stage == "plugins" and (slow := timings.plugins(access)):
            shares = ", ".join(f"{plain(name)} {seconds * 1000:.1f}" for name, seconds in slow.items())
            parts.append((f" ({shares})", "dim"))
    if word := _cached(access):
        parts.append((f"  cache {word}", "dim"))
    if access.addr:
        parts.append((f"  → {plain(access.addr)}" + (f" ({access.tries} tries)" if access.tries > 1 else ""), "dim"))
    if access.error:
        parts.append((f"  {plain(f'{access.error}: {access.reason}' if access.reason else access.error)}", "red"))
    return parts


def _cached(access: Access) -> str:
    """What became of it in a cache (stages/caching/words.py); empty if it came to none."""
    word = access.context.get("cache_status")
    return plain(word) if isinstance(word, str) else ""


def _is_host(name: bytes, wanted: str | None) -> bool:
    if not wanted:
        return True
    host = name.decode("utf-8", "replace").lower()
    bare = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    wanted = wanted.lower()
    if wanted.startswith("*."):
        return bare.endswith(wanted[1:])
    return wanted in (bare, host)


def _until_stopped(screen: Screen, batches: Iterator[list[Any]], show: Callable[[Sequence[Any]], None]) -> int:
    """Shows everything; Ctrl-C is the usual way to end it, and a stdout that takes nothing more (`| head`) another."""
    try:
        for batch in batches:
            for envelope in batch:
                show(envelope)
            screen.flush()
            if terminal.lost():
                break
    except KeyboardInterrupt:
        pass
    return 0


def _followed(path: str, recent: str, wanted: RecordFilter) -> Iterator[list[Any]]:
    """The recent records, and then each new one, none twice; and each request."""
    seen: dict[tuple[Any, ...], None] = {}
    has_recent = False
    for topic, batch in events.blocking(events.batches(path, ("log", "access", recent))):
        if topic == "access":
            yield batch
            continue
        # What came on `log` before the recent ones is among them (bus/PROTOCOL.md section 9).
        has_recent = has_recent or topic == recent
        if has_recent:
            new = []
            for record in batch:
                key = (*record[1:5], str(record[5:]))
                if key not in seen:
                    seen[key] = None
                    new.append(record)
            while len(seen) > REMEMBERED:
                del seen[next(iter(seen))]
            yield wanted.newest(new) if topic == recent else new


async def _recent(path: str, topic: str) -> list[Any] | None:
    with suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE):
            async for _, batch in events.batches(path, (topic,)):
                return batch
    return None
