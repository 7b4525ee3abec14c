"""Upstreams that every configuration has: any host by its name, for the requests that plugins send themselves.

No location can name them (a `$capture` is compared with the upstreams that are configured), since who may use them reaches
whatever this host reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pingap.config.model import RESERVED, Upstream

BY_SCHEME: Final[Mapping[str, str]] = {"http": f"{RESERVED}http", "https": f"{RESERVED}https"}
"""The scheme of a URL → the upstream that has its host. No upstream of a configuration has such a name (config/check.py)."""

UPSTREAMS: Final[Mapping[str, Upstream]] = {
    BY_SCHEME["http"]: Upstream(discovery="transparent"),
    BY_SCHEME["https"]: Upstream(discovery="transparent", sni="$host"),
}
