"""Keys whose fetch failed, and when the next may be tried: after FIRST seconds, then after twice as long, up to LONGEST.

A *status* of the origin's is another matter than an origin that is not to be reached: it is an answer, and may be that to one request
alone (a header that its backend does not bear). Those that have something stale spare the origin all the same; others are not kept
from asking by it, or whoever knows such a header could keep everybody from a page.

Known to the owner of the key alone. A successor begins anew: one try too many.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

FIRST: Final = 1.0
LONGEST: Final = 32.0
"""Seconds."""

FORGIVEN: Final = 60.0
"""Seconds after the end of a window in which nobody has tried: the next failure is the first again."""

KEPT: Final = 16_384
"""Keys remembered; beyond that the one that failed longest ago is forgotten, and may be tried at once."""


_ANSWERED: Final = "status "


def answered(status: int) -> str:
    """What a fetch has failed with that has such an answer."""
    return f"{_ANSWERED}{status}"


def is_unreachable(kind: str) -> bool:
    """It has failed without an answer. kind: of an error (stages/errors.py), or `answered`; "" for none."""
    return bool(kind) and not kind.startswith(_ANSWERED)


class Failing(NamedTuple):
    """What is known of a key that failed."""

    failures: int
    """In a row."""
    again: float
    """When the next may try that has a stale answer to give meanwhile; monotonic seconds."""
    soon: float
    """The same of one that has none: at once after an answer, and after a first failure, which may have been the fetch's own; then once
    in FIRST seconds, for its client would be told of an error though the origin may be back."""
    kind: str
    """The newest."""

    def end(self, has_stale: bool) -> float:
        """Of the window in which nobody tries."""
        return self.again if has_stale else self.soon


class BackOff:
    """Those of one owner. Times are monotonic seconds."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, Failing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, name: str, now: float) -> Failing | None:
        """None for a key that has not failed lately."""
        failing = self._by_name.get(name)
        if failing is None or now >= failing.again + FORGIVEN:
            return None
        return failing

    def failed(self, name: str, kind: str, now: float) -> Failing:
        """One more. A fetch that began before the window and fails within it does not make it longer."""
        known = self.of(name, now)
        is_again = known is not None and is_unreachable(known.kind) and is_unreachable(kind)
        soon = now + FIRST if is_again else now
        if known is not None and now < known.again:
            known = self._by_name[name] = known._replace(soon=soon, kind=kind)
            return known
        failures = known.failures + 1 if known is not None else 1
        seconds = min(FIRST * 2.0 ** min(failures - 1, 30), LONGEST)
        failing = Failing(failures, now + seconds, soon, kind)
        self._by_name[name] = failing
        self._by_name.move_to_end(name)
        if len(self._by_name) > KEPT:
            self._by_name.popitem(last=False)
        return failing

    def succeeded(self, name: str) -> None:
        """The origin has answered."""
        self._by_name.pop(name, None)
