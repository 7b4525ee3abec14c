"""What logging decides: who wants which events, what is kept for latecomers, when trouble is told."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from pingap.observability.app_format import is_level, level_number

TOPICS: Final = ("access", "log", "count")
"""Of the events socket; one for each kind of event."""

RECENT: Final = "recent."
"""Who subscribes to a topic that begins so is sent the newest log records on it, once."""

KEPT: Final = 1000
"""Log records kept for those who ask."""

AGAIN: Final = 60.0
"""Seconds until the same trouble is told again."""


class Audience:
    """Who wants what: subscriptions and the configuration in, kinds to publish and WANTED out."""

    def __init__(self) -> None:
        self._topics: frozenset[str] = frozenset()
        self._has_metrics = False
        self.published: frozenset[str] = frozenset()
        """Those of TOPICS that somebody subscribes to."""

    def subscribed(self, topics: frozenset[str]) -> list[str]:
        """Takes all topics subscribed to now; returns the new ones that ask for recent records."""
        new = topics - self._topics
        self._topics = topics
        # ZeroMQ matches topics by prefix: a subscription to "" is one to everything.
        self.published = frozenset(name for name in TOPICS if any(name.startswith(topic) for topic in topics))
        return sorted(topic for topic in new if topic.startswith(RECENT))

    def configured(self, has_metrics: bool) -> None:
        """Takes what the configuration asks for. An access log asks for no events: accept makes its lines."""
        self._has_metrics = has_metrics

    def wanted(self) -> list[str]:
        """The topics of WANTED, sorted."""
        wanted = {"log", *self.published}
        if self._has_metrics:
            wanted |= {"access", "count"}
        return sorted(wanted)


class Threshold:
    """Which levels the application log shows.

    given: what the command line or the environment says, else None: a level, or as RUST_LOG has it a
    comma separated list of levels and `stage=level`. It wins over the configuration.
    """

    def __init__(self, given: str | None) -> None:
        self._given: int | None = None
        self._stages: dict[str, int] = {}
        self._configured = level_number("info")
        self.not_understood: list[str] = []
        for word in filter(None, (part.strip() for part in (given or "").split(","))):
            name, equals, level = word.rpartition("=")
            if not is_level(level) or (equals and not name):
                self.not_understood.append(word)
            elif equals:
                self._stages[name.removeprefix("pingap::")] = level_number(level)
            else:
                self._given = level_number(level)

    def configure(self, level: str) -> None:
        """`basic.log_level`."""
        self._configured = level_number(level)

    def is_shown(self, level: str, stage: str) -> bool:
        """Whether a record is written."""
        least = self._stages.get(stage)
        if least is None:
            least = self._configured if self._given is None else self._given
        return level_number(level) >= least


class Recent:
    """The newest log records."""

    def __init__(self, kept: int = KEPT) -> None:
        self._records: deque[Any] = deque(maxlen=kept)
        self.add = self._records.append

    def all(self) -> list[Any]:
        """Oldest first."""
        return list(self._records)


class Trouble:
    """Tells of a lasting failure once a minute, and of its end."""

    def __init__(self) -> None:
        self._reason = ""
        self._told = -AGAIN
        self._lost = 0

    @property
    def is_on(self) -> bool:
        return bool(self._reason)

    def failed(self, reason: str, now: float) -> str:
        """What to tell now; nothing if it was told within the last minute. now: monotonic seconds."""
        fresh = now - self._told >= AGAIN
        self._reason = reason
        if not fresh:
            return ""
        self._told = now
        return reason + self._losses()

    def lost(self, lines: int) -> None:
        """Lines that had to be thrown away."""
        self._lost += lines

    def ended(self) -> str:
        """What to tell when it works again; nothing if nothing was wrong."""
        if not self._reason:
            return ""
        self._reason = ""
        losses, self._lost = self._losses(), 0
        return "writes again" + losses

    def _losses(self) -> str:
        return f", {self._lost} line{'s' if self._lost > 1 else ''} lost" if self._lost else ""
