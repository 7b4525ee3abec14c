"""The `Server-Timing` line of an answer (`enable_server_timing`): where its time went, for the developer tools of a browser.

The names are the reference's (pingap-proxy/src/server.rs), in whole milliseconds as there,
but for a cache's looking, which takes some microseconds; a name that a plugin's section has and no
token may have (W3C Server Timing section 2) has `_` in the place of what does not belong there.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

from msgspec.structs import replace

from pingap.observability.timings import plugins_of
from pingap.stages.messages import Report, Response

_READY: Final = 5
"""Among the stamps of a Report: reached upstream is the one before, the response head came two after."""

_LOOKUP: Final = "cache_lookup_time"
_LOCK: Final = "cache_lock_time"

_NO_TOKEN: Final = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")


def timed(response: Response, started: float, now: float) -> Response:
    """The answer with its times; as it is when neither a backend nor a cache gave it.

    started, now: monotonic seconds of the request's first byte, of now.
    """
    report = response.report
    if report is None or not (report.addr or _LOOKUP in report.context):
        return response
    value = ", ".join(_parts(report, started, now))
    return replace(response, headers=b"%bserver-timing: %b\r\n" % (response.headers, value.encode()))


def _parts(report: Report, started: float, now: float) -> list[str]:
    # Text at once: compiled, a number that may be either would always be shown as one with a point.
    parts: list[str] = []
    stamps = report.stamps
    if len(stamps) > _READY + 2 and stamps[_READY - 1]:
        connect, processing = _whole(stamps[_READY] - stamps[_READY - 1]), _whole(stamps[_READY + 2] - stamps[_READY])
        parts = [f"upstream.connect;dur={connect}", f"upstream.processing;dur={processing}"]
        if connect + processing:
            parts.append(f"upstream;dur={connect + processing}")
    context = report.context
    lookup, lock = context.get(_LOOKUP), context.get(_LOCK)
    if isinstance(lookup, float) and isfinite(lookup):
        parts.append(f"cache.lookup;dur={_fine(lookup)}")
    if isinstance(lock, float) and isfinite(lock):
        parts.append(f"cache.lock;dur={_whole(lock)}")
    times = [(f"plugin.{_NO_TOKEN.sub('_', name)}", _whole(seconds)) for name, seconds in plugins_of(context).items()]
    parts += [f"{name};dur={milliseconds}" for name, milliseconds in times if milliseconds]
    if total := sum(milliseconds for _, milliseconds in times):
        parts.append(f"plugin;dur={total}")
    return [*parts, f"total;dur={_whole(now - started)}"]


def _fine(seconds: float) -> float:
    return max(0.0, round(seconds * 1000, 3))


def _whole(seconds: float) -> int:
    return max(0, int(seconds * 1000))
