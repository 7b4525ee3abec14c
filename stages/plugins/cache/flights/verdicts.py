"""What the owner of a key says to who asks for it."""

from __future__ import annotations

from typing import Final

FETCH: Final = 1
"""It is the one that fetches. First look in the store once more if `is_late`; then take the store's mark."""

LOOK: Final = 2
"""It has been stored: look again. Who finds nothing there (it was purged, there was no room) asks again, with what is left of `lock`."""

JOIN: Final = 3
"""Somebody fetches it, and the body is growing."""

ALONE: Final = 4
"""Ask the backend as if there were no others; what comes may be stored."""

FAILED: Final = 5
"""The fetch has failed and is not to be tried yet, or too many wait: a stale answer, or the error. Not the backend."""

HELD: Final = 6
"""Only from owner to asker: wait on, I know of you."""

NAMES: Final = ("", "fetch", "look", "join", "alone", "failed", "held")
