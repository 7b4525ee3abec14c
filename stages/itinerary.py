"""The itinerary: which stages a request and its response must visit, and what may not pass, as flags in `Routed.plan`.

A stage with nothing to do is not visited: without a flag the request goes from
routing straight to upstream, and the response from upstream straight to accept.

A request for an internal destination visits that one only: an actor of ours answers it. Who does
is in the table of pingap/topology.py.
"""

from __future__ import annotations

from typing import Final

REQUEST_PLUGINS: Final = 1
"""The request visits plugins before upstream."""

REQUEST_BODY: Final = 2
"""The request body passes through plugins too (a hook wants it); else it goes from accept to upstream."""

RESPONSE_PLUGINS: Final = 4
"""The response and its body go from upstream to plugins, and from there to accept."""

RESPONSE_CODING: Final = 16
"""Upstream gives the answer's body a content coding, by the rules of its location (stages/coding/): all that plugins would do with
it. Never together with RESPONSE_PLUGINS."""

NO_TRAILERS: Final = 8
"""Set by plugins: a hook has removed lines from the request's head, which its trailers might bring back. They end here."""

OUTLIVES: Final = 32
"""Set by plugins: the answer may be wanted when its client has left (it fills a cache), so upstream leaves it to plugins to cancel it."""

METRICS: Final = "metrics"
"""Internal destination: the page of metrics of `Routed.server`."""

CHALLENGE: Final = "challenge"
"""Internal destination: what an authority fetches to see that a name is ours (RFC 8555 section 8.3)."""

OPTIONS: Final = "options"
"""Internal destination: OPTIONS for pingap itself; that it is there is the answer."""
