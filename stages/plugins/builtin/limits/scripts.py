"""How a Redis or Valkey server counts for `limit`: a script for each algorithm, which runs as one step, by the server's clock.

They give numbers, of which the functions that judge here make verdicts too. A key is forgotten when it says nothing any more. A
value that is none of theirs counts as none; one of another type is an error for that key alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from pingap.plugin import BUCKET, RATE, Verdict, bucket_verdict, rate_verdict

_NOW: Final = """local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""


class Script:
    """A script, and the name by which the server has it."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


WINDOW: Final = Script(
    _NOW
    + """local interval = tonumber(ARGV[1])
local window = math.floor(now / interval)
local before, current = 0, 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local w, b, c = string.match(kept, '^(%d+) (%d+) (%d+)$')
  w, b, c = tonumber(w), tonumber(b), tonumber(c)
  if w and w >= window then
    before, current = b, c
    -- The server's clock was set back: the later window goes on. From one that is far away what was counted comes here.
    if w <= window + 2 then window = w end
  elseif w and w == window - 1 then
    before = c
  end
end
current = current + 1
redis.call('SET', KEYS[1], string.format('%d %d %d', window, before, current), 'PX', 2 * interval)
return {before, current, math.max(0, now - window * interval)}
"""
)
"""Key; ms of a window. Requests in the window before, in this one, ms into it."""

FILL: Final = Script(
    _NOW
    + """local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local excess = 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local e, last = string.match(kept, '^(%d+) (%d+)$')
  e, last = tonumber(e), tonumber(last)
  if e and e <= burst then
    local ms = now - last
    if ms < -60000 then ms = 1 elseif ms < 0 then ms = 0 end
    excess = math.max(0, e - math.floor(rate * ms / 1000) + 1000)
    if excess > burst then return {excess} end
    if ms == 0 then now = last end
  end
end
redis.call('SET', KEYS[1], string.format('%d %d', excess, now), 'PX', math.ceil((excess + 1000) * 1000 / rate) + 1)
return {excess}
"""
)
"""Key; rate and burst of a bucket, in thousandths. The thousandths that it comes to; more than burst: it stays as it was."""

TAKE: Final = Script(
    _NOW
    + """redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local most, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
-- The server's clock was set back: no place is held for longer than a lease from now.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%d', now + lease), '+inf')) do
  redis.call('ZADD', KEYS[1], now + lease, id)
end
local count = redis.call('ZCARD', KEYS[1])
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then return {1, count} end
if count >= most then return {0, count + 1} end
redis.call('ZADD', KEYS[1], now + lease, ARGV[3])
redis.call('PEXPIRE', KEYS[1], lease)
return {1, count + 1}
"""
)
"""Key; most places, ms of a lease, id. Whether there was one, and what the count came to. Who has a place keeps it: a question whose
answer was lost is asked again."""

RENEW: Final = Script(
    _NOW
    + """local lease = tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + lease, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], lease)
return {}
"""
)
"""Key; ms of a lease, ids of places that were given and not given back. A server that has forgotten them, for it was restarted or
its clock was set ahead, has them again: those requests are in flight."""

GIVE_BACK: Final = Script("redis.call('ZREM', KEYS[1], ARGV[1])\nreturn {}\n")
"""Key; id."""

SCRIPTS: Final = (WINDOW, FILL, TAKE, RENEW, GIVE_BACK)

LEASE: Final = 15.0
"""Seconds that a place is held for a request whose proxy says nothing more of it."""


def question(args: tuple[Any, ...], lease: str = "") -> tuple[Script, tuple[Any, ...]]:
    """What to ask the server for arguments of a claim. lease: the id of the place that is asked for."""
    if args[0] == RATE:
        return WINDOW, (max(1, round(args[2] * 1000)),)
    if args[0] == BUCKET:
        return FILL, (args[1], args[2])
    return TAKE, (args[1], int(LEASE * 1000), lease)


def verdict_of(args: tuple[Any, ...], said: Sequence[int]) -> Verdict:
    """What its answer means."""
    if args[0] == RATE:
        _, most, interval, weight = args
        before, current, into = said
        return rate_verdict(before, current, min(into / 1000, interval), most, interval, weight)
    if args[0] == BUCKET:
        return bucket_verdict(said[0], *args[1:])
    allowed, count = said
    return Verdict(bool(allowed), count, 0.0, max(0, args[1] - count))
