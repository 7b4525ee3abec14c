"""What an asker is told: may it fetch, or what else is it to do?"""

from __future__ import annotations

from typing import NamedTuple

from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.lease import FlightLease


class FlightAnswer(NamedTuple):
    """The answer to `Flights.ask`."""

    kind: int
    """FETCH to FAILED of verdicts.py."""
    lease: FlightLease | None = None
    """Of FETCH."""
    body: GrowingBody | None = None
    """Of JOIN; `body.entry` is its head."""
    reason: str = ""
    """Of ALONE: no_lock, lock_over, unstorable, owner_silent, cannot_join. Of FAILED: what the fetch failed with, an error kind
    (stages/errors.py) as a rule; "overloaded": too many wait; "client_closed": its stream has ended."""
    seconds: float = 0.0
    """Of FAILED: until the next is tried; of ALONE for `unstorable`: for how long it is remembered."""
    is_late: bool = False
    """What the store said when this was asked may be old news: of FETCH, look once more."""
    waited: float = 0.0
    """Seconds for which it was held while another fetched. What the owner took to say so is none of it."""
