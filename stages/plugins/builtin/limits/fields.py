"""What `limit` tells clients: Retry-After (RFC 9110), and RateLimit and RateLimit-Policy as structured fields.

The latter by draft-ietf-httpapi-ratelimit-headers (as of -10; -11 of May 2026 is the newest): a
policy has a name, `q` requests in `w` seconds (or `q` at the
same time); the field of an answer says that `r` of them are left, and that they have all come back in `t` seconds. No `pk`
(who is counted): it would tell everybody behind an address what the key is.
"""

from __future__ import annotations

from math import ceil
from urllib.parse import quote

from pingap.plugin import Verdict

_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def quoted(name: str) -> str:
    """A name as a String of RFC 9651, which has ASCII only: what is beyond is percent-encoded."""
    text = quote(name, safe=_PLAIN)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class LimitFields:
    """The fields of one limit."""

    def __init__(self, name: str, quota: int, seconds: float) -> None:
        """name: of the plugin's section. quota: requests in so many seconds; 0 seconds are requests at the same time."""
        self._name = quoted(name)
        self._quota = quota
        unit = f"w={max(1, ceil(seconds))}" if seconds else 'qu="concurrent-requests"'
        self.policy = f"{self._name};q={quota};{unit}"
        self._has_end = bool(seconds)

    def left(self, verdict: Verdict) -> str:
        """The value of RateLimit; "" when nobody has counted."""
        if verdict.remaining < 0:
            return ""
        end = f";t={ceil(verdict.reset)}" if self._has_end else ""
        return f"{self._name};r={min(verdict.remaining, self._quota)}{end}"

    def refusal(self, verdict: Verdict) -> list[tuple[str, str]]:
        """The lines of an answer that refuses. A client that waits as long as they say, and nobody else asks, is let pass."""
        lines = [("retry-after", str(max(1, ceil(verdict.wait))))]
        if left := self.left(verdict):
            lines += [("ratelimit-policy", self.policy), ("ratelimit", left)]
        return lines
