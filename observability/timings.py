"""Where the time of a request went: the one place that computes it, from the stamps of an ACCESS record.

Times are seconds. `access` is a record or the plain tuple that came over the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from pingap.observability.records import Access

STAGES: Final = ("accept", "routing", "plugins", "upstream", "backend", "bus", "respond", "body")
"""In the order of a request's way; their sum is `total`.

    accept   from the head's first byte until routing has it: reading, parsing, the bus
    routing  in routing
    plugins  request hooks; the whole of it when a plugin answered
    upstream choosing a backend and getting a connection to it
    backend  sending the request and waiting for the response head
    bus      between routing, plugins and upstream
    respond  from the response head (or from where the answer was made) to the client's socket, response hooks included
    body     until the last byte of the answer was handed over
"""

_FIELDS: Final = Access._fields
_STARTED: Final = _FIELDS.index("started")
_RESPONDED: Final = _FIELDS.index("responded")
_ENDED: Final = _FIELDS.index("ended")
_STAMPS: Final = _FIELDS.index("stamps")
_CONNECT: Final = _FIELDS.index("connect")
_CONNECTED: Final = _FIELDS.index("connected")
_OPENED: Final = _FIELDS.index("upstream_opened")

PLUGIN_SECONDS: Final = "plugin_seconds"
"""The context key under which the plugins stage tells of hooks that took long: a table, plugin → seconds."""

_CONTEXT: Final = _FIELDS.index("context")
_REACHED_UPSTREAM: Final = 4
_READY: Final = 5
_HEAD: Final = 7
_AFTER: Final = ("routing", "bus", "plugins", "bus", "upstream", "backend", "backend", "respond")
"""What a stream is doing after each stamp. A stage that it did not leave is where it was answered."""


def stages(access: Sequence[Any]) -> dict[str, float]:
    """Stage → seconds, for the stages that the request visited, and `total`, which is their sum."""
    times: dict[str, float] = {}
    doing, since = "accept", access[_STARTED]
    for after, stamp in zip(_AFTER, access[_STAMPS], strict=False):
        # A stamp that is out of order comes from another host's clock, or from an earlier try: no time is made of it.
        if stamp >= since:
            times[doing] = times.get(doing, 0.0) + stamp - since
            doing, since = after, stamp
    ended = access[_ENDED]
    responded = access[_RESPONDED]
    if responded >= since:
        doing = "respond" if doing == "bus" else doing
        times[doing] = times.get(doing, 0.0) + responded - since
        doing, since = "body", responded
    times[doing] = times.get(doing, 0.0) + max(0.0, ended - since)
    times["total"] = max(0.0, ended - access[_STARTED])
    return times


def total(access: Sequence[Any]) -> float:
    """From the first byte of the head to the last of the answer."""
    seconds: float = access[_ENDED] - access[_STARTED]
    return seconds


def plugins(access: Sequence[Any]) -> dict[str, float]:
    """Plugin → seconds that its hooks took with this request, of those that took a millisecond and more."""
    return plugins_of(access[_CONTEXT])


def plugins_of(context: Mapping[str, Any]) -> dict[str, float]:
    """The same of a context. What others have put there under that name is none of it."""
    told = context.get(PLUGIN_SECONDS)
    if not isinstance(told, dict):
        return {}
    return {str(name): seconds for name, seconds in told.items() if isinstance(seconds, float) and isfinite(seconds)}


def upstream_connect(access: Sequence[Any]) -> float | None:
    """Until a connection to a backend was ready, also when that was a kept-alive one; None when none was."""
    stamps = access[_STAMPS]
    return _between(stamps, _REACHED_UPSTREAM, _READY)


def upstream_processing(access: Sequence[Any]) -> float | None:
    """From the ready connection to the response head; None without one."""
    return _between(access[_STAMPS], _READY, _HEAD)


def upstream_response(access: Sequence[Any]) -> float | None:
    """From the response head to the end of the answer, as far as the client took it; None without a head."""
    stamps = access[_STAMPS]
    return access[_ENDED] - stamps[_HEAD] if len(stamps) > _HEAD and stamps[_HEAD] else None


def upstream_tcp_connect(access: Sequence[Any]) -> float | None:
    """Of a backend connection that was opened for this request; else None."""
    connect = access[_CONNECT]
    return connect[0] if connect and connect[0] > 0 else None


def upstream_tls_handshake(access: Sequence[Any]) -> float | None:
    """The same for its TLS handshake."""
    connect = access[_CONNECT]
    return connect[1] if len(connect) > 1 and connect[1] > 0 else None


def connection_age(access: Sequence[Any]) -> float | None:
    """Age of the client's connection when the request began; None if accept did not say."""
    connected = access[_CONNECTED] if len(access) > _CONNECTED else 0.0
    return access[_STARTED] - connected if connected else None


def upstream_connection_age(access: Sequence[Any]) -> float | None:
    """Age of the backend connection when this request got it; None if upstream did not say."""
    stamps = access[_STAMPS]
    opened = access[_OPENED] if len(access) > _OPENED else 0.0
    return stamps[_READY] - opened if opened and len(stamps) > _READY and stamps[_READY] else None


def _between(stamps: Sequence[float], start: int, end: int) -> float | None:
    if len(stamps) > end and stamps[start] and stamps[end]:
        return stamps[end] - stamps[start]
    return None
