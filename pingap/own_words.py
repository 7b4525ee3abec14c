"""What the supervisor has to say: for the application log and for consumers, by way of the logging stage once there is one."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

from pingap.bus.kinds import LOG, NOTICE
from pingap.bus.link import Link
from pingap.observability.notices import NoticeRecord
from pingap.plan import Fleet

UNSAID: Final = 100
"""Words that are kept for the logging stage while it is dead; beyond them the oldest are forgotten."""

SUPERVISOR: Final = "supervisor"


class OwnWords:
    """Kept for a logging stage that has died and will be back; where none will be, stderr gets what the log would."""

    def __init__(self, link: Link, fleet: Fleet) -> None:
        self._link = link
        self._fleet = fleet
        self._unsaid: deque[tuple[Any, ...]] = deque(maxlen=UNSAID)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """A record of the application log."""
        self._unsaid.append((LOG, time.time(), level, SUPERVISOR, 0, message, fields))
        self.say()

    def notice(self, level: str, category: str, message: str, **fields: Any) -> None:
        """What an operator may want to hear at once. category: of observability/notices.py."""
        self._unsaid.append(NoticeRecord(NOTICE, time.time(), level, SUPERVISOR, 0, category, message, fields))
        self.say()

    def say(self) -> None:
        """Hands on what can be."""
        logger = next((one for one in self._link.members.ready("logging") if self._fleet.of_actor(one.id)), None)
        if logger is None and self._fleet.is_up and not self._fleet.is_stopping:
            return
        while self._unsaid:
            record = self._unsaid.popleft()
            if logger is not None:
                self._link.offer(logger.id, record)
            elif record[0] == LOG:
                _, _, level, _, _, message, fields = record
                extra = "".join(f" {key}={value}" for key, value in fields.items())
                with suppress(OSError):
                    print(f"{level}: supervisor: {message}{extra}", file=sys.stderr, flush=True)
