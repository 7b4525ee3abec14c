"""Names of figures (`Actor.figures`) that metrics understands besides `in_flight` and `requests`."""

from __future__ import annotations

from typing import Final

CONNECTIONS: Final = "connections:"
"""upstream: open connections to backends of the upstream whose name follows."""

IN_USE: Final = "in_use:"
"""upstream: requests at its backends now, each on a connection of its own over HTTP/1.1."""

NOTES: Final = "notes"
"""config: what is noted of the configuration in use."""
