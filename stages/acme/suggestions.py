"""When authorities want certificates renewed (RFC 9773), as far as they were asked. Decides only; times are Unix seconds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

USUAL_PAUSE: Final = 6 * 3600.0
"""Seconds until an authority is asked again that has not answered."""

LEAST_PAUSE: Final = 60.0
MOST_PAUSE: Final = 86400.0
"""Seconds between two questions, whatever it says (RFC 9773 section 4.3.2)."""


class Suggestions:
    """By fingerprint of the certificate."""

    def __init__(self) -> None:
        self._spans: dict[str, tuple[float, float]] = {}
        self._ask_at: dict[str, float] = {}

    def span(self, fingerprint: str) -> tuple[float, float] | None:
        """Between which moments it is to be renewed; None when nobody has said."""
        return self._spans.get(fingerprint)

    def ask_at(self, fingerprint: str) -> float:
        """When to ask; 0 when nobody has been asked yet."""
        return self._ask_at.get(fingerprint, 0.0)

    def asked(self, fingerprint: str, now: float) -> None:
        """The question is on its way: whatever becomes of it, the next one is after USUAL_PAUSE."""
        self._ask_at[fingerprint] = now + USUAL_PAUSE

    def told(self, fingerprint: str, span: tuple[float, float] | None, ask_again: float, now: float) -> None:
        """What came of it. Of one that was not asked about, or is forgotten, nothing is noted."""
        if fingerprint not in self._ask_at:
            return
        if span is not None:
            self._spans[fingerprint] = span
        else:
            self._spans.pop(fingerprint, None)
        self._ask_at[fingerprint] = min(max(ask_again, now + LEAST_PAUSE), now + MOST_PAUSE)

    def keep(self, fingerprints: Collection[str]) -> None:
        """Forgets all others."""
        for known in (self._spans, self._ask_at):
            for fingerprint in known.keys() - set(fingerprints):
                del known[fingerprint]

    def clock_set_back(self, now: float) -> None:
        """No question is put off for longer than that."""
        self._ask_at = {fingerprint: min(at, now + USUAL_PAUSE) for fingerprint, at in self._ask_at.items()}
