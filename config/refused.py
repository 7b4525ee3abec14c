"""A configuration that was refused, and what of it is sound all the same."""

from __future__ import annotations

from collections.abc import Iterable

from pingap.config.model import Snapshot
from pingap.config.problems import ConfigRefused, Note, Problem


class SnapshotRefused(ConfigRefused):
    """As ConfigRefused. `sound`: for further checks only: items without the keys that were wrong, and with stand-ins for some."""

    def __init__(self, problems: Iterable[Problem], notes: Iterable[Note], sound: Snapshot) -> None:
        super().__init__(problems, notes)
        self.sound = sound
