"""The logging actor: events in, lines and publications out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Final

from pingap.bus.actor import Actor, Context
from pingap.bus.kinds import ACCESS, COUNT, LINES, LOG, NOTICE
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.messages import Wanted
from pingap.observability.app_format import as_json, as_text
from pingap.observability.records import Access
from pingap.stages.generations import Generations
from pingap.stages.logging.compiled import Compiled, compile_generation
from pingap.stages.logging.core import Audience, Recent, Threshold, Trouble
from pingap.stages.logging.sink import Sink

TOPICS: Final = {ACCESS: "access", LOG: "log", COUNT: "count", NOTICE: "notice"}

FLUSH: Final = 0.02
"""Seconds that lines wait for others to leave with them."""

MANY: Final = 1024
"""Lines that leave at once rather than wait."""

TICK: Final = 1.0
REPRIEVE: Final = 2.0
"""Seconds without a configuration after which records go to stderr: who looks there must learn why there is none."""

EARLY: Final = 4096
"""Events kept until the configuration says where they go."""

SECTIONS: Final = ("basic", "servers")
"""Of a configuration, what this stage needs."""


class LoggingActor(Actor):
    """settings: "log", the path of the application log, None for what [basic] says; "level", None for the same."""

    stage: ClassVar[str] = "logging"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._generations: Generations[Compiled] = Generations(context, SECTIONS, compile_generation, self._committed)
        self._audience = Audience()
        self._threshold = Threshold(context.settings.get("level"))
        self._recent = Recent()
        self._told: dict[int, list[str]] = {}
        self._sinks: dict[str, Sink] = {}
        self._access: dict[str, list[str]] = {}
        self._paths: dict[str, str | None] = {}
        self._app: Sink | None = None
        self._app_line: Callable[[Any], str] = as_text
        self._is_configured = False
        self._early: list[Any] = []
        self._bad_events = Trouble()
        self._flusher: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._reprieve: asyncio.TimerHandle | None = None
        self._forward: Callable[[str, bytes], None] | None = None
        self._written = 0
        self._lost = 0
        self._is_busy = False

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        """Raises ValueError for a target that asks for what is not there yet."""
        path = self.context.settings.get("log")
        if path and "?" in path:
            raise ValueError(f"--log {path}: rolling log files are not supported yet; USR1 reopens the file after logrotate")
        if path and path.startswith("syslog:"):
            raise ValueError(f"--log {path}: writing to syslog is not supported yet")
        self._forward = self.context.publish_events(self._subscribed)
        self._generations.start()
        loop = self.context.loop
        self._ticker = loop.call_later(TICK, self._tick)
        self._reprieve = loop.call_later(REPRIEVE, self._no_configuration)
        for word in self._threshold.not_understood:
            self.context.log("warn", "a log level was not understood", word=word)

    async def stop(self) -> None:
        for timer in (self._flusher, self._ticker, self._reprieve):
            if timer is not None:
                timer.cancel()
        if not self._is_configured:
            self._use_app_log("", False)
        now = monotonic()
        for path in [*filter(None, self._sinks), ""]:  # stderr last: the others tell their trouble there
            if path in self._sinks:
                self._sinks[path].close(now)

    def begin_drain(self, reprieve: float) -> None:
        self._is_busy = True

    def held(self) -> int:
        """Events may still be under way for as long as some came since the last time of asking."""
        was_busy, self._is_busy = self._is_busy, False
        return int(was_busy)

    def figures(self) -> dict[str, float]:
        return {"lines": self._written, "lost": self._lost + sum(sink.lost for sink in self._sinks.values())}

    def told(self, word: str, args: Any) -> None:
        if word == "reopen":
            now = monotonic()
            for sink in list(self._sinks.values()):
                sink.reopen(now)

    # -- configuration ---------------------------------------------------------

    def _committed(self, generation: int, compiled: Compiled) -> None:
        self._threshold.configure(compiled.level)
        if self._app is None:  # first, for it hears of trouble with the others; only a restart changes it
            self._use_app_log(self.context.settings.get("log") or compiled.error_log, compiled.is_json)
        # A server that the file no longer names goes on until the restart that its removal needs.
        self._paths |= compiled.access
        paths = {path for path in self._paths.values() if path is not None}
        self._access = {name: self._sink(path).lines for name, path in self._paths.items() if path is not None}
        now = monotonic()
        for path, sink in list(self._sinks.items()):
            if path not in paths and sink is not self._app:
                sink.close(now)
                del self._sinks[path]
        self._audience.configured(compiled.has_metrics)
        if not self._is_configured:
            self._is_configured = True
            early, self._early = self._early, []
            self._write(early)
            self.context.ready()
        self._announce()

    def _no_configuration(self) -> None:
        if not self._is_configured:
            self._use_app_log(self.context.settings.get("log") or "", False)

    def _use_app_log(self, path: str, is_json: bool) -> None:
        if self._app is None:
            self._app = self._sinks.get(path) or self._new_sink(path)
            self._app.open(monotonic())  # after it counts as the application log: a failure is then told on stderr
            self._app_line = as_json if is_json else as_text
            self._write([event for event in self._early if event[0] == LOG])
            self._early = [event for event in self._early if event[0] != LOG]

    def _sink(self, path: str) -> Sink:
        sink = self._sinks.get(path)
        if sink is None:
            sink = self._new_sink(path)
            sink.open(monotonic())
        return sink

    def _new_sink(self, path: str) -> Sink:
        sink = self._sinks[path] = Sink(path, partial(self._tell, path))
        return sink

    def _tell(self, path: str, level: str, text: str) -> None:
        """Trouble with a target is told in the application log, and on stderr when that is the one."""
        self.context.log(level, text)
        if self._app is not None and path and path == self._app.path:
            self._sink("").lines.append(as_text((LOG, time.time(), level, self.stage, self.context.replica, text, {})))
            self._flush_soon()

    # -- who wants what ----------------------------------------------------------

    def _subscribed(self, topics: frozenset[str]) -> None:
        for topic in self._audience.subscribed(topics):
            self.context.publish_event(topic, self._recent.all())
        self._announce()

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        for actor in gone:
            self._told.pop(actor, None)
        self._announce()

    def _announce(self) -> None:
        # Before the configuration is here nobody is told anything: they keep what my predecessor said.
        if self._is_configured:
            wanted = self._audience.wanted()
            for actor in self.context.members.by_id:
                if self._told.get(actor) != wanted:
                    self._told[actor] = wanted
                    self.context.send(actor, Wanted(wanted))

    # -- events --------------------------------------------------------------------

    def receivers(self) -> Receivers:
        """For events of actors of this process."""
        return {tuple: self._one, Access: self._one}

    def receive_batch(self) -> Callable[[bytes, list[Any]], None]:
        return self._batch

    def _one(self, envelope: Any) -> None:
        self._write([envelope])
        topic = TOPICS.get(envelope[0], "")
        if topic in self._audience.published:
            self.context.publish_event(topic, [envelope])

    def _batch(self, raw: bytes, envelopes: list[Any]) -> None:
        self._write(envelopes)
        published = self._audience.published
        if published and self._forward is not None:
            topics = {TOPICS.get(envelope[0], "") for envelope in envelopes}
            if len(topics) == 1:
                if topics <= published:
                    self._forward(topics.pop(), raw)
                return
            for topic in topics & published:
                self.context.publish_event(topic, [envelope for envelope in envelopes if TOPICS.get(envelope[0]) == topic])

    def _write(self, envelopes: list[Any]) -> None:
        """Lines of a batch."""
        self._is_busy = True
        if not self._is_configured:
            envelopes = self._wait_for_configuration(envelopes)
        access = self._access
        count = 0
        for envelope in envelopes:
            kind = envelope[0]
            try:
                if kind == LINES:
                    lines = access.get(envelope[1])
                    if lines is not None:
                        lines.append(envelope[3])
                        count += envelope[2]
                elif kind == LOG:
                    self._record(envelope)
                    count += 1
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self._cannot_write(error)
        if count:
            self._written += count
            if self._flusher is None:
                self._flush_soon()
            elif count >= MANY:
                self._flusher.cancel()
                self._flush()

    def _wait_for_configuration(self, envelopes: list[Any]) -> list[Any]:
        """Keeps what cannot be written yet; returns what can."""
        waits = [event for event in envelopes if event[0] == LINES or (event[0] == LOG and self._app is None)]
        room = EARLY - len(self._early)
        self._early += waits[:room]
        self._lost += len(waits[room:])
        return [event for event in envelopes if event[0] == LOG] if self._app is not None else []

    def _record(self, record: Any) -> None:
        if self._app is not None and self._threshold.is_shown(record[2], record[3]):
            self._recent.add(record)
            self._app.lines.append(self._app_line(record))

    def _cannot_write(self, error: Exception) -> None:
        self._lost += 1
        if text := self._bad_events.failed(f"an event could not be written: {error!r}", monotonic()):
            self.context.log("error", text)

    def _flush_soon(self) -> None:
        if self._flusher is None:
            self._flusher = self.context.loop.call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        self._flusher = None
        now = monotonic()
        for sink in list(self._sinks.values()):  # one that fails may open another to tell it
            if sink.lines:
                sink.flush(now)

    def _tick(self) -> None:
        self._ticker = self.context.loop.call_later(TICK, self._tick)
        now = monotonic()
        for sink in list(self._sinks.values()):
            sink.tick(now)
