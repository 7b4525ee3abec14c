"""The counters behind the plugin `limit`, as the one replica that owns a key keeps them.

A rate is the reference's: two windows of `interval` seconds, the current one and the
one before it, blended by `weight` (0 to 1, the share of the current one), every
request counted whether it was let pass or not. `weight` 0 goes by the window before alone.

A place in flight is held by a stream until `release`, or until the replica that asked
for it, or the accept actor that owns the stream, is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

RATE: Final = "rate"
INFLIGHT: Final = "inflight"

KEYS: Final = 65536
"""Most rates remembered; the one that was asked for least recently is forgotten first."""


class Limits:
    """Feed it claims; it says whether each is allowed."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._rates: OrderedDict[str, list[int]] = OrderedDict()
        """[number of the current window, requests in it, requests in the one before]."""
        self._counts: dict[str, int] = {}
        self._held: dict[int, list[tuple[str, int]]] = {}
        """Stream → (key, asker) of each place that it holds."""

    @property
    def size(self) -> int:
        """Entries kept."""
        return len(self._rates) + len(self._counts)

    def claim(self, key: str, args: tuple[Any, ...], sid: int, asker: int, now: float) -> tuple[bool, float]:
        """(allowed, what the count came to). args: (RATE, requests a second, interval, weight) or (INFLIGHT, most)."""
        if args[0] == RATE:
            _, most, interval, weight = args
            value = self._rate(key, interval, weight, now)
            return value <= most, value
        count = self._counts.get(key, 0) + 1
        if count > args[1]:
            return False, count
        self._counts[key] = count
        self._held.setdefault(sid, []).append((key, asker))
        return True, count

    def _rate(self, key: str, interval: float, weight: float, now: float) -> float:
        window = int(now // interval)
        state = self._rates.get(key)
        if state is None:
            state = self._rates[key] = [window, 0, 0]
            if len(self._rates) > self._keys:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(key)
            if state[0] != window:
                state[:] = [window, 0, state[1] if state[0] == window - 1 else 0]
        state[1] += 1
        return (state[2] * (1 - weight) + state[1] * weight) / interval

    def release(self, sid: int) -> None:
        """The stream has ended."""
        for key, _ in self._held.pop(sid, ()):
            self._drop(key)

    def forget(self, is_gone: Callable[[int, int], bool]) -> None:
        """Gives back places for which `is_gone(sid, asker)`."""
        for sid, held in list(self._held.items()):
            kept = [place for place in held if not is_gone(sid, place[1])]
            if len(kept) < len(held):
                for key, asker in held:
                    if is_gone(sid, asker):
                        self._drop(key)
                if kept:
                    self._held[sid] = kept
                else:
                    del self._held[sid]

    def _drop(self, key: str) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
