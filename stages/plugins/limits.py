"""The counters behind the plugin `limit`, as the one replica that owns a key keeps them, and what their counts mean.

A rate is the reference's: two windows of `interval` seconds, the current one and the
one before it, blended by `weight` (0 to 1, the share of the current one), every
request counted whether it was let pass or not. `weight` 0 goes by the window before alone.

A bucket is nginx's limit_req: it leaks at a rate, each request that is let pass fills it, and what it cannot hold is refused.
The arithmetic is nginx's too (ngx_http_limit_req_module.c, 1.22): whole milliseconds, thousandths of requests.

Requests in flight are leases (stages/leases.py).
"""

from __future__ import annotations

from collections import OrderedDict
from math import floor
from typing import Any, Final

from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim

RATE: Final = "rate"
BUCKET: Final = "bucket"
INFLIGHT: Final = "inflight"
KINDS: Final = frozenset((RATE, BUCKET, INFLIGHT))

KEYS: Final = 65536
"""Most rates remembered, and most buckets; the one that was asked for least recently is forgotten first."""

ONE: Final = 1000
"""A request, in the thousandths that buckets count in."""

_HAIR: Final = 1e-9
"""Of a request: what floating point may lack."""


def rate_verdict(before: int, current: int, into: float, most: float, interval: float, weight: float) -> Verdict:
    """Of `before` requests in the window before and `current` in this one, the newest among them.

    into: seconds since this window began. most: requests a second. interval: seconds. weight: share of this window, 0 to 1.
    """
    value = (before * (1 - weight) + current * weight) / interval
    left = interval - into
    if value <= most:
        quota = most * interval
        remaining = floor(quota + _HAIR)
        if weight:  # without, all of this window pass
            remaining = min(remaining, max(0, floor((quota - before * (1 - weight)) / weight - current + _HAIR)))
        return Verdict(True, value, 0.0, remaining, left)
    # In this window it only grows. In the next, this one will be the one before; in the one after that nothing is left of it.
    is_next_enough = current * (1 - weight) + weight <= most * interval
    return Verdict(False, value, left if is_next_enough else left + interval, 0, left)


def leaked(excess: int, elapsed: int, rate: int) -> int:
    """What a bucket comes to with one request more. excess: thousandths in it. elapsed: ms since then. rate: thousandths a second."""
    return max(0, excess - rate * elapsed // 1000 + ONE)


def bucket_verdict(excess: int, rate: int, burst: int, delay: int) -> Verdict:
    """Of a bucket that came to `excess` with this request. All in thousandths of requests; rate: of them, a second.

    burst: what it holds besides the one that is served. delay: what of that need not wait.
    """
    if excess > burst:
        return Verdict(False, excess / ONE, -((burst - excess) * 1000 // rate) / 1000, 0, excess / rate)
    wait = (excess - delay) * 1000 // rate / 1000 if excess > delay else 0.0
    return Verdict(True, excess / ONE, wait, (burst - excess) // ONE, excess / rate)


class LimitCounters:
    """The judge of this stage's claims."""

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._rates: OrderedDict[str, list[int]] = OrderedDict()
        """[number of the current window, requests in it, requests in the one before]."""
        self._buckets: OrderedDict[str, list[int]] = OrderedDict()
        """[thousandths in it, when that was, in ms]."""

    def __len__(self) -> int:
        """Rates and buckets remembered."""
        return len(self._rates) + len(self._buckets)

    def judge(self, leases: Leases, claim: Claim, now: float) -> Verdict:
        """claim.args: (RATE, requests a second, interval, weight), (BUCKET, rate, burst, delay) as `bucket_verdict` has them,
        or (INFLIGHT, most)."""
        args = claim.args
        if args[0] == RATE:
            return self._rate(claim.key, args, now)
        if args[0] == BUCKET:
            return self._bucket(claim.key, args, int(now * 1000))
        verdict = leases.take(claim, args[1])
        return Verdict(verdict.allowed, verdict.value, 0.0, max(0, int(args[1] - verdict.value)))

    def _rate(self, key: str, args: tuple[Any, ...], now: float) -> Verdict:
        _, most, interval, weight = args
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
        return rate_verdict(state[2], state[1], now - window * interval, most, interval, weight)

    def _bucket(self, key: str, args: tuple[Any, ...], now: int) -> Verdict:
        _, rate, burst, delay = args
        state = self._buckets.get(key)
        if state is None:
            self._buckets[key] = [0, now]
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
            return bucket_verdict(0, rate, burst, delay)
        self._buckets.move_to_end(key)
        excess = leaked(state[0], now - state[1], rate)
        if excess <= burst:
            state[:] = [excess, now]
        return bucket_verdict(excess, rate, burst, delay)
