"""A question of the operator's about one URL (`pingap cache explain`, `pingap cache purge`), on its way through the stage as a request
that no client has sent. The cache that it comes to answers it (explain.py, purge.py) and lets it go no further."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pingap.stages.caching.purging import PurgeAsked
from pingap.stages.plugins.exchange import Exchange, Reply, reply

CACHE: Final = "cache"
"""Category of the plugins that answer."""

_KEY: Final = "pingap:probe"
_DONE: Final = reply(204)


class ProbeRefused(Exception):
    """There is no answer; the text is the reason."""


class ProbeAsked(NamedTuple):
    """What is asked, as the command line sends it."""

    server: str
    scheme: str
    local_ip: str
    local_port: int
    client_ip: str
    method: str
    target: str
    host: str
    """The authority that the client would name; b"" for none."""
    headers: list[list[str]]
    """Names and values; Host aside."""


class Probe:
    """Of one request."""

    __slots__ = ("found", "purge")

    def __init__(self, purge: PurgeAsked | None = None) -> None:
        """purge: what is to be purged, whose target is that of the request; None: it is only to be explained."""
        self.purge = purge
        self.found: dict[str, Any] | None = None
        """Plain data: what a cache has answered."""

    def join(self, exchange: Exchange) -> None:
        exchange.state[_KEY] = self

    def answer(self, found: dict[str, Any]) -> Reply:
        """The cache has it; the result ends the request."""
        self.found = found
        return _DONE


def probe_of(exchange: Exchange) -> Probe | None:
    """The question, if this is one, and no request of a client's."""
    state = exchange._state
    return None if state is None else state.get(_KEY)


def copy_of_state(exchange: Exchange) -> dict[Any, Any] | None:
    """What plugins have left for their later hooks, for a request that takes after this one: without the question."""
    state = exchange._state
    return None if state is None else {key: value for key, value in state.items() if key != _KEY}
