"""Headers that a plugin gives to the backend in vain: a part that `forward_auth` and `jwt` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pingap.plugin import OVERWRITTEN_HEADERS, Trouble


def note_overwritten(key: str, names: Iterable[str]) -> Iterator[Trouble]:
    """names: of the entries of `key`, in their order."""
    for index, name in enumerate(names):
        if name.lower() in OVERWRITTEN_HEADERS:
            yield (
                f"{key}[{index}]",
                f"without effect in locations with enable_reverse_proxy_headers: these say {name} themselves",
                "choose another name",
            )
