"""The counters behind the plugin `limit`, as the one replica that owns a key keeps them.

A rate is the reference's: two windows of `interval` seconds, the current one and the
one before it, blended by `weight` (0 to 1, the share of the current one), every
request counted whether it was let pass or not. `weight` 0 goes by the window before alone.

Requests in flight are leases (stages/leases.py).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim

RATE: Final = "rate"
INFLIGHT: Final = "inflight"

KEYS: Final = 65536
"""Most rates remembered; the one that was asked for least recently is forgotten first."""


class LimitCounters:
    """The judge of this stage's claims."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._rates: OrderedDict[str, list[int]] = OrderedDict()
        """[number of the current window, requests in it, requests in the one before]."""

    def __len__(self) -> int:
        """Rates remembered."""
        return len(self._rates)

    def judge(self, leases: Leases, claim: Claim, now: float) -> Verdict:
        """claim.args: (RATE, requests a second, interval, weight) or (INFLIGHT, most)."""
        args = claim.args
        if args[0] == RATE:
            value = self._rate(claim.key, args[2], args[3], now)
            return Verdict(value <= args[1], value)
        return leases.take(claim, args[1])

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
