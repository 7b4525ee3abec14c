"""What logging decides: who wants which events, what is kept for latecomers, when trouble is told."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from pingap.config.levels import levels_of
from pingap.observability.app_format import level_number

TOPICS: Final = ("access", "log", "count", "notice")
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

    given: what the environment says (config/levels.py), else None. It wins over the configuration, stage by stage.
    """

    def __init__(self, given: str | None) -> None:
        self._given = levels_of(given or "")
        self.not_understood = self._given.ignored
        self.configure("info")

    def configure(self, directives: str) -> None:
        """`basic.log_level`."""
        configured, given = levels_of(directives), self._given
        self._everywhere = level_number(given.everywhere or configured.everywhere or "info")
        stages = given.stages if given.everywhere else {**configured.stages, **given.stages}
        self._stages = {stage: level_number(level) for stage, level in stages.items()}

    def is_shown(self, level: str, stage: str) -> bool:
        """Whether a record is written."""
        return level_number(level) >= self._stages.get(stage, self._everywhere)


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
