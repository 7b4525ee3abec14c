"""What who fetches tells of its flight: the owner of the key (FLIGHT_NEWS), and who reads along (FLIGHT_GREW)."""

from __future__ import annotations

from typing import Final

FlightId = tuple[int, int]
"""Who fetches, or asks whether it may, and the ticket with which it asked."""

BEGUN: Final = 1
"""To an owner that does not know of it: the key has moved."""

GROWS: Final = 2
"""The head is here, and the body comes: others may join."""

WHOLE: Final = 3
"""All of the body is here; it is being put into the store, and who asks now waits for that."""

STORED: Final = 4
NOT_STORABLE: Final = 5
CUT: Final = 6
"""The origin has failed, before the head or in mid-body."""

GIVEN_UP: Final = 7
"""It ends, and that says nothing of the origin: the next may try at once."""

GROWS_ON: Final = 8
"""Only within the process that fetches: NOT_STORABLE has been told, and who reads along gets the rest."""

LIVING: Final = frozenset((BEGUN, GROWS, WHOLE))
