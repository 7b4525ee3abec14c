"""Decides what is told of sources that fail: what turned within the same moment is told together, and what turned back not at all."""

from __future__ import annotations

from typing import NamedTuple


class SourceNews(NamedTuple):
    """Of one entry of `addrs`."""

    upstream: str
    entry: str
    reason: str
    """Why its backends cannot be found out; "" when they can be again."""


class GatheredNews:
    """Since the last time that it was told."""

    def __init__(self) -> None:
        self._news: dict[tuple[str, str], SourceNews] = {}

    def add(self, news: SourceNews) -> None:
        key = (news.upstream, news.entry)
        before = self._news.pop(key, None)
        if before is None or bool(before.reason) == bool(news.reason):
            self._news[key] = news

    def take(self) -> tuple[list[SourceNews], list[SourceNews]]:
        """(those that fail, those that do so no longer), in the order in which that was found."""
        news, self._news = list(self._news.values()), {}
        return [one for one in news if one.reason], [one for one in news if not one.reason]


def in_words(news: list[SourceNews], most: int) -> str:
    """`api: web.example:80: SERVFAIL from 10.0.0.53; shop: …`, of so many; of the others how many they are."""
    more = len(news) - most
    told = "; ".join(": ".join(filter(None, one)) for one in news[:most])
    return told + (f" and {more} more" if more > 0 else "")
