"""Decides when a certificate is renewed, and when it is tried again after that has failed. Times are Unix seconds."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

DAY: Final = 86400.0

BY_ARI: Final = "the authority's suggestion"
"""RFC 9773."""
BY_REVOCATION: Final = "it was revoked"
BY_BUFFER: Final = "buffer_days"
BY_LIFETIME: Final = "a third of its lifetime"
BY_SHORT_LIFETIME: Final = "half of its lifetime"

SHORT: Final = 10 * DAY
"""A certificate that lives no longer is renewed at half of its life: a third would be two days, of which a weekend is all."""

FIRST_DELAY: Final = 300.0
LONGEST_DELAY: Final = 6 * 3600.0
"""Seconds between two tries: doubled each time. Let's Encrypt takes five failed proofs of a name an hour."""

FIRST_UNREACHED: Final = 30.0
"""In place of FIRST_DELAY when the authority was not reached: no limit of its own counts such a try, and it may be back in a moment."""

LONGEST_NEAR_END: Final = 3600.0
"""The same when less than a tenth of its life is left, or nothing is there."""

FINAL_DELAY: Final = 12 * 3600.0
"""The same when an authority has said that it will hardly go better. Near the end it is a quarter of what is left, or an hour."""

LONGEST_TROUBLE: Final = DAY
"""Seconds at most for which an authority in trouble of its own (`503`, `Retry-After`) may put a try off, and no more than a quarter of
what the certificate has left: a limit is a rule for us, trouble is a guess of theirs, and it may be wrong."""

BEFORE_THE_END: Final = 0.75
"""Of what a certificate has left, after which it is tried again even though a limit lasts beyond its end: limits are lifted before,
and what an authority says of them may be read wrongly. Refused tries come closer and closer to the end, then the limit is kept."""

JITTER: Final = 0.2
"""Of a delay that chance takes away, so that many that failed together do not come together again."""

EARLIEST: Final = 0.5
"""Of its life that a certificate has behind it before it is renewed, whatever `buffer_days` says: else it would be for ever."""


LATEST: Final = 0.05
"""Of its life that a certificate has at least before it when it is renewed, but no more than a day, whatever anybody says."""

APART: Final = 0.25
"""Of its life that lies at least between the last but one that was got and the next one, but no more than a day: an authority
that says of each new one that it is to be renewed at once (they may revoke one, and not one after the other) begins no storm."""


class Due(NamedTuple):
    """When, and by what."""

    at: float
    reason: str


def share_of(text: str) -> float:
    """A number in [0, 1) that stays the same for the same text: chance that needs no dice, and outlives a restart."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def renewal_due(not_before: float, not_after: float, window: tuple[float, float] | None, buffer_days: int | None, share: float) -> Due:
    """window: what the authority suggests (RFC 9773 section 4.2). share: chance, in [0, 1)."""
    life = max(not_after - not_before, 1.0)
    latest = not_after - min(life * LATEST, DAY)
    suggested = None if window is None else Due(min(window[0] + (window[1] - window[0]) * share, latest), BY_ARI)
    if buffer_days is not None:
        by_buffer = Due(min(max(not_after - buffer_days * DAY, not_before + life * EARLIEST), latest), BY_BUFFER)
        # Before the time it is about to be revoked.
        return suggested if suggested is not None and suggested.at < by_buffer.at else by_buffer
    if suggested is not None:
        return suggested
    part, reason = (0.5, BY_SHORT_LIFETIME) if life <= SHORT else (1 / 3, BY_LIFETIME)
    return Due(not_after - life * part - life * 0.02 * share, reason)


def not_again_before(got_before: float, life: float) -> float:
    """got_before: when the last but one was got; life: seconds of the one that there is."""
    return got_before + min(max(life, 0.0) * APART, DAY)


def next_try(
    now: float,
    attempts: int,
    left: float,
    life: float,
    retry_at: float | None,
    is_final: bool,
    share: float,
    is_rate_limited: bool = False,
    is_unreachable: bool = False,
) -> float:
    """After a failure. attempts: failed ones, this one counted. left: seconds that the certificate has; life: all of them.

    retry_at: before which the authority does not want to be asked. is_rate_limited: as it has a limit, not as it has trouble of its own.
    is_unreachable: it was not reached, or speaks no ACME. share: chance, in [0, 1).
    """
    if is_final:
        delay = FINAL_DELAY if left >= life / 10 else min(FINAL_DELAY, max(left / 4, LONGEST_NEAR_END))
    else:
        first = FIRST_UNREACHED if is_unreachable else FIRST_DELAY
        delay = min(first * 2 ** min(attempts - 1, 20), LONGEST_NEAR_END if left < life / 10 else LONGEST_DELAY)
    return max(now + delay * (1 - JITTER * share), _not_before(now, left, retry_at, is_rate_limited))


def _not_before(now: float, left: float, retry_at: float | None, is_rate_limited: bool) -> float:
    if retry_at is None:
        return 0.0
    if is_rate_limited:
        return min(retry_at, now + left * BEFORE_THE_END) if 0 < left < retry_at - now else retry_at
    return min(retry_at, now + (min(LONGEST_TROUBLE, left / 4) if left > 0 else LONGEST_NEAR_END))
