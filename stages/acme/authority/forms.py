"""How ACME writes bytes and moments. Decides only."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime


def base64url(value: bytes) -> str:
    """RFC 7515 section 2: without `=` at the end."""
    return urlsafe_b64encode(value).decode().rstrip("=")


def moment(value: object) -> float:
    """Of RFC 3339, seconds since 1970; UTC where it names no zone. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("a moment is missing")
    when = datetime.fromisoformat(value)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
