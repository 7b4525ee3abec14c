"""One of this stage's topics, and what the next life of the stage is to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pingap.bus.actor import Context
from pingap.stages import keepsake


class KeptTopic:
    """Published from its making on, and kept in the run dir whenever it changes."""

    def __init__(self, context: Context, topic: str, keepsake_name: str, value: Callable[[], Any], kept: Callable[[], Any] | None = None):
        """kept: what goes into the keepsake; without it the value does. It changes no more often than that."""
        self._context = context
        self._keepsake = keepsake_name
        self._value = value
        self._kept = kept or value
        self._last = value()
        self._saved: Any = None
        """What the keepsake holds; None when that is not known."""
        self._run: int | None = None
        """In which it was saved; None when it was not."""
        self._publish = context.publish(topic, self._last)

    def publish(self) -> None:
        """Its value, if that has changed."""
        value = self._value()
        if value == self._last:
            return
        self._last = value
        try:
            self._save()
        except OSError as error:
            self._context.log("warn", f"{self._keepsake} cannot be written; a restart of this stage would need it", error=str(error))
        self._publish(value)

    def _save(self) -> None:
        kept = self._kept()
        if self._run is None or kept != self._saved:
            self._run = keepsake.save(self._context.run_dir, self._keepsake, kept)
            self._saved = kept

    def keep(self) -> None:
        """Saves it again when somebody has removed it. Raises OSError."""
        if self._run is not None and keepsake.is_lost(self._context.run_dir, self._keepsake, self._run):
            self._saved = None
            self._save()
