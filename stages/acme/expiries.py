"""Decides which certificates are about to end, which is the worse the less time is left, and when that is told.

The reference tells once a day, of all whose end is less than `buffer_days` off or whose time has not come (pingap-certificate,
the daily check). Here what gets worse, or becomes well again, is told at once as well; and of a certificate by ACME, which is
renewed long before, it is told when that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pingap.config.certificates import BUFFER_DAYS
from pingap.stages.certificate_status import DAY, EXPIRED, NOT_YET, SOON, VALID

INFO: Final = "info"
WARN: Final = "warn"
ERROR: Final = "error"

LATE: Final = 7 * DAY
"""Seconds before its end at which a renewal that fails is told; of a certificate that lives shorter a third of its life."""

URGENT: Final = 2 * DAY
"""The same, from which on it is an error; or a tenth of its life."""

AGAIN: Final = DAY
"""Seconds between two tellings of the same."""

MOST: Final = 100
"""Certificates that one telling names."""

REASONS: Final = 10
"""Failing renewals whose reasons one telling has."""


class WatchedCertificate(NamedTuple):
    """What is to be known of one that clients get. Times are Unix seconds."""

    name: str
    not_before: float
    not_after: float
    """0 while there is no certificate: then there is nothing to end."""
    buffer_days: int | None
    is_acme: bool
    last_error: str = ""
    """Why its renewal failed the last time; "" when it did not."""


class ExpiryTelling(NamedTuple):
    """One notice of the category `tls_validity`, and the lines of the log that go with it."""

    level: str
    """WARN or ERROR; INFO for those that have become well."""
    message: str
    """In lines."""
    names: tuple[str, ...]
    """The first MOST of them."""
    total: int
    lines: tuple[tuple[str, dict[str, Any]], ...]
    """(message, fields) of a line of the log for each of `names`."""


class _Told(NamedTuple):
    level: str
    at: float


class Expiries:
    """Remembers what was told, of as many as there are. To be asked whenever something has changed, and every few minutes."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def due(self, certificates: Iterable[WatchedCertificate], now: float) -> tuple[ExpiryTelling, ...]:
        """What is to be told now, the worst first: one telling for each level. certificates: all there are. now: Unix seconds."""
        levels = {one: trouble_of(one, now) for one in certificates}
        troubled = {one.name for one, level in levels.items() if level}
        well = [one for one, level in levels.items() if one.name in self._told and not level and one.not_after]
        found = []
        for level in (ERROR, WARN):
            alike = [one for one, each in levels.items() if each == level]
            if any(self._is_due(one.name, level, now, AGAIN) for one in alike):
                # Those that are due within half a day go along: so that all of them come to be told together, once a day.
                along = [one for one in alike if self._is_due(one.name, level, now, AGAIN / 2)]
                self._told.update({one.name: _Told(level, now) for one in along})
                found.append(_telling(level, along, now))
        if well:
            found.append(_telling(INFO, well, now))
        self._told = {name: told for name, told in self._told.items() if name in troubled}
        return tuple(found)

    def _is_due(self, name: str, level: str, now: float, seconds: float) -> bool:
        told = self._told.get(name)
        return told is None or told.level != level or not 0 <= now - told.at < seconds  # a clock may be set back


def trouble_of(one: WatchedCertificate, now: float) -> str:
    """WARN or ERROR; "" for one that is well."""
    if not one.not_after:
        return ""
    left = one.not_after - now
    if left <= 0:
        return ERROR
    if now < one.not_before:
        return WARN
    if not one.is_acme:
        return WARN if left < (one.buffer_days or BUFFER_DAYS) * DAY else ""
    life = one.not_after - one.not_before
    urgent = min(URGENT, life / 10)
    if one.last_error:
        return ERROR if left < urgent else WARN if left < min(LATE, life / 3) else ""
    # Its renewal has not begun yet, which is as it should be if `buffer_days` are that few.
    return WARN if left < min(urgent, (one.buffer_days or BUFFER_DAYS) * DAY) else ""


def state_of(one: WatchedCertificate, now: float) -> str:
    """VALID, SOON, EXPIRED or NOT_YET, of one that is there."""
    if one.not_after <= now:
        return EXPIRED
    if now < one.not_before:
        return NOT_YET
    return SOON if trouble_of(one, now) else VALID


def _telling(level: str, certificates: Sequence[WatchedCertificate], now: float) -> ExpiryTelling:
    shown = certificates[:MOST]
    return ExpiryTelling(
        level,
        "\n".join(_well(certificates) if level == INFO else _sentences(certificates, now)),
        tuple(one.name for one in shown),
        len(certificates),
        tuple(_line(level, one, now) for one in shown),
    )


def _well(certificates: Sequence[WatchedCertificate]) -> Iterator[str]:
    yield f"certificate {_names(certificates)} is in order again"


def _sentences(certificates: Sequence[WatchedCertificate], now: float) -> Iterator[str]:
    """The reference's sentence, and one for each other thing that may be wrong."""
    states: dict[str, list[WatchedCertificate]] = {EXPIRED: [], SOON: [], NOT_YET: []}
    for one in certificates:
        states[state_of(one, now)].append(one)
    if expired := states[EXPIRED]:
        yield f"certificate {_names(expired)} is expired: clients refuse it"
    if soon := states[SOON]:
        yield f"certificate {_names(soon)} will be expired"
    if early := states[NOT_YET]:
        yield f"certificate {_names(early)} is not valid yet: clients refuse it"
    failing = [one for one in certificates if one.last_error]
    for one in failing[:REASONS]:
        yield f"{one.name} ends on {_date(one.not_after)}, and its renewal fails: {one.last_error}"
    if failing[REASONS:]:
        yield f"{len(failing) - REASONS} more cannot be renewed"


def _names(certificates: Sequence[WatchedCertificate]) -> str:
    more = len(certificates) - MOST
    return ",".join(one.name for one in certificates[:MOST]) + (f" and {more} more" if more > 0 else "")


def _line(level: str, one: WatchedCertificate, now: float) -> tuple[str, dict[str, Any]]:
    fields: dict[str, Any] = {"certificate": one.name, "ends": _date(one.not_after), "days": round((one.not_after - now) / DAY, 1)}
    if level == INFO:
        return "certificate is in order again", fields
    if now < one.not_before:
        fields["begins"] = _date(one.not_before)
    if one.last_error:
        fields["error"] = one.last_error
    state = state_of(one, now)
    what = {EXPIRED: "is expired: clients refuse it", NOT_YET: "is not valid yet: clients refuse it"}.get(state, "expires soon")
    return f"certificate {what}" + (", and its renewal fails" if one.last_error else ""), fields


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
