"""What a connection to a backend needs of the part that looks after all of them, which is in pools.py and knows connections."""

from __future__ import annotations

from typing import Protocol

from pingap.stages.bulk import Bulk
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.tracer import Traced


class Keeper(Protocol):
    bulk: Bulk
    """For all that backends answer."""

    def lost(self, backend: BackendState, connection: Traced, error: Exception | None) -> None:
        """It is closed, and not to be used for anything new: whoever waits may open another. error: of the connection, if any."""

    def serve_line(self, backend: BackendState) -> None:
        """There may be room: those who wait are let in as far as it goes."""
