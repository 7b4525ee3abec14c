"""The configuration of `pingap up` without a file: a working proxy in front of a demo origin."""

from __future__ import annotations

import json
from collections.abc import Sequence

_TEXT = """\
# The configuration that pingap uses when it is given none.

[servers.demo]
addr = "{addr}"
access_log = "combined"
locations = ["demo"]

[locations.demo]
upstream = "demo"
plugins = ["pingap:requestId"]

[upstreams.demo]
addrs = {origins}
"""


def embedded(origins: Sequence[str], addr: str = "127.0.0.1:6188") -> str:
    """The TOML text, with `origins` (`host:port` each) as the backends and `addr` to listen on."""
    return _TEXT.format(addr=addr, origins=json.dumps(list(origins)))
