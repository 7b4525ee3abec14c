"""What became of a request in a cache, in one word: in X-Cache-Status, logs (`{:cache_status}`), metrics, `pingap cache stats` and
`explain`. Those that the reference has are its words."""

from __future__ import annotations

from typing import Final

HIT: Final = "hit"
STALE: Final = "stale"
STALE_UPDATING: Final = "stale-updating"
REVALIDATED: Final = "revalidated"
REVALIDATED_NOCACHE: Final = "revalidated-nocache"
MISS: Final = "miss"
EXPIRED: Final = "expired"
UNCACHEABLE: Final = "uncacheable"
BYPASS: Final = "bypass"
FAILED: Final = "failed"
UNAVAILABLE: Final = "unavailable"

MEANINGS: Final = {
    HIT: "from what is stored, or from what another's request is bringing",
    STALE: "from what is stored, past its time: the backend failed",
    STALE_UPDATING: "from what is stored, past its time: the backend is asked meanwhile",
    REVALIDATED: "from what is stored: the backend said that it is as good as new",
    REVALIDATED_NOCACHE: "the same, and it may not be stored any more",
    MISS: "from the backend: there was nothing stored",
    EXPIRED: "from the backend: what was stored was past its time, and there is another one now",
    UNCACHEABLE: "from the backend, and may not be stored",
    BYPASS: "past the cache: nothing was looked up, and nothing is stored",
    FAILED: "an error page: the backend failed, and there was nothing to use in its place",
    UNAVAILABLE: "504: the client wants what is stored only, and there is nothing",
}
"""All of them."""

GROUPS: Final = {
    "hits": (HIT, STALE, STALE_UPDATING, REVALIDATED, REVALIDATED_NOCACHE),
    "misses": (MISS, EXPIRED),
    "uncacheable": (UNCACHEABLE,),
    "bypass": (BYPASS,),
    "failed": (FAILED, UNAVAILABLE),
}
"""Each word in one of them: hits are answered with a stored body."""
