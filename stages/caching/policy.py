"""What an operator has set for one cache, as far as the rules look at it."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """What an operator has set. Seconds."""

    max_ttl: float = 0.0
    """No answer is fresh for longer after it was received; 0 for no limit."""
    default_ttl: float = 0.0
    """For answers that say nothing of their lifetime; 0: by Last-Modified, if they have that."""
    check_cache_control: bool = False
    """Answers without Cache-Control (or a field that stands for it) are not stored."""
    strip_set_cookie: bool = False
    """Answers with Set-Cookie are stored without it; else they are not stored, unless it is kept."""
    stale_while: float = 0.0
    """Where an answer does not say stale-while-revalidate."""
    stale_error: float = 0.0
    """Where an answer does not say stale-if-error."""
    heuristic_part: float = 0.1
    """Of the time for which an answer had not changed when it was made (section 4.2.2)."""
    heuristic_most: float = 86400.0
    max_file_size: int = 0
    """Bytes of a body; 0 for no limit."""
    keep_set_cookie: bool = False
    """Answers with Set-Cookie are stored with it, and all clients get that cookie (RFC 9111 section 7.3 forbids nothing there)."""
