"""Why a check fails."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 240
"""Characters of a reason: some of it may be the backend's own words, and it goes into logs, notices and tables."""


class ProbeFailed(Exception):
    """The check failed; the text says why, in one line."""

    def __init__(self, reason: str) -> None:
        line = "".join(letter if letter.isprintable() else " " for letter in reason[: 2 * LONGEST])
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]}…")


class ClosedEarly(ProbeFailed):
    """The backend closed the connection before it answered: one that was kept had been idle, perhaps, for too long."""


class TooMuch(ProbeFailed):
    """The backend has sent more than a check reads."""
