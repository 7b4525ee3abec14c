"""The states of a backend's circuit, which discovery moves (discovery/circuit.py) and upstream obeys."""

from __future__ import annotations

import enum
from typing import Final


class CircuitState(enum.IntEnum):
    """The numbers are those of topic `circuits`, and of the reference's metric."""

    CLOSED = 0
    """It gets requests as any other."""
    OPEN = 1
    """It gets none."""
    HALF_OPEN = 2
    """It gets a few, which show how it is."""


CLOSED: Final = CircuitState.CLOSED
OPEN: Final = CircuitState.OPEN
HALF_OPEN: Final = CircuitState.HALF_OPEN
