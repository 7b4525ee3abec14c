"""Time that passes when the test says so."""

from __future__ import annotations

import sys
import time

import pytest


class Clock:
    """Stands in for time.monotonic: seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def rules(self, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
        """Every loaded module of a package that reads time.monotonic reads this clock instead.

        Actors have no argument for it: a call of what is kept in an attribute would be one look-up more in each of the five or
        six that a request makes. No list of modules either, which one that is split or made anew would be missing from.
        """
        for name, module in list(sys.modules.items()):
            if name.startswith(package + ".") and getattr(module, "monotonic", None) is time.monotonic:
                monkeypatch.setattr(module, "monotonic", self)
