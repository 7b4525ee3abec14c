"""Sizes and durations for people, as the reference writes them: one decimal, cut off, without `.0`."""

from __future__ import annotations


def size_human(count: int) -> str:
    """Bytes in powers of 1000: 999B, 1KB, 1.2MB, 3GB."""
    if count < 1000:
        return f"{count}B"
    for limit, unit in ((1_000_000, "KB"), (1_000_000_000, "MB")):
        if count < limit:
            return _one_decimal(count, limit // 1000, unit)
    return _one_decimal(count, 1_000_000_000, "GB")


def duration_human(ms: int) -> str:
    """Milliseconds: 12ms, 1.2s, 3m, 4.5h."""
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return _one_decimal(ms, 1000, "s")
    if ms < 3_600_000:
        return _one_decimal(ms, 60_000, "m")
    return _one_decimal(ms, 3_600_000, "h")


def _one_decimal(value: int, divisor: int, unit: str) -> str:
    whole, rest = divmod(value, divisor)
    tenth = rest * 10 // divisor
    return f"{whole}.{tenth}{unit}" if tenth else f"{whole}{unit}"
