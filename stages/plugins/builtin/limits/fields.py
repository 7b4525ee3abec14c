"""What `limit` tells clients: Retry-After (RFC 9110), and RateLimit and RateLimit-Policy as structured fields.

The latter by draft-ietf-httpapi-ratelimit-headers-11 (May 2026): a policy has a name, `q` requests in `w` whole seconds (or `q` at
the same time); the field of an answer says that `r` of them are left for the next `t` seconds. Retry-After does not end before `t`
does (section 6). No `pk`
(who is counted): it would tell everybody behind an address what the key is.
"""

from __future__ import annotations

from math import ceil
from urllib.parse import quote

from pingap.plugin import Verdict

_HAIR = 1e-9
"""What floating point may lack."""
_LARGEST = 999_999_999_999_999
"""Integer of RFC 9651."""
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def quoted(name: str) -> str:
    """A name as a String of RFC 9651, which has ASCII only: what is beyond is percent-encoded."""
    text = quote(name, safe=_PLAIN)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class LimitFields:
    """The fields of one limit."""

    def __init__(self, name: str, quota: float, seconds: float, comes_back: bool = True) -> None:
        """name: of the plugin's section. quota: requests in so many seconds; 0 seconds are requests at the same time.
        comes_back: who is refused is let pass later."""
        self._name = quoted(name)
        self._comes_back = comes_back
        unit = 'qu="concurrent-requests"'
        if seconds:
            whole = max(1, ceil(seconds - _HAIR))
            quota = quota * whole / seconds
            unit = f"w={whole}"
        self._quota = min(_LARGEST, int(quota + _HAIR))
        self.policy = f"{self._name};q={self._quota};{unit}"
        self._has_end = bool(seconds)

    def left(self, verdict: Verdict) -> str:
        """The value of RateLimit; "" when nobody has counted."""
        if verdict.remaining < 0:
            return ""
        end = f";t={ceil(verdict.reset if verdict.allowed else min(verdict.reset, verdict.wait))}" if self._has_end else ""
        return f"{self._name};r={min(verdict.remaining, self._quota)}{end}"

    def refusal(self, verdict: Verdict) -> list[tuple[str, str]]:
        """The lines of an answer that refuses. A client that waits as long as they say, and nobody else asks, is let pass. Without
        Retry-After it never is."""
        lines = [("retry-after", str(max(1, ceil(verdict.wait))))] if self._comes_back else []
        if left := self.left(verdict):
            lines += [("ratelimit-policy", self.policy), ("ratelimit", left)]
        return lines
