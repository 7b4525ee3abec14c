"""Of sources that fail together one word is told, and none of what is over by then."""

from __future__ import annotations

from pingap.stages.discovery.source_news import GatheredNews, SourceNews, in_words


def fails(entry: str, reason: str = "SERVFAIL") -> SourceNews:
    return SourceNews("api", entry, reason)


def test_what_failed_in_the_same_moment_is_told_once() -> None:
    news = GatheredNews()
    for entry in ("a:80", "b:80", "a:80"):
        news.add(fails(entry))
    news.add(fails("c:80", ""))
    failing, back = news.take()
    assert in_words(failing, 9) == "api: b:80: SERVFAIL; api: a:80: SERVFAIL"
    assert in_words(back, 9) == "api: c:80"
    assert news.take() == ([], [])


def test_what_has_turned_back_is_not_told() -> None:
    news = GatheredNews()
    news.add(fails("a:80"))
    news.add(fails("a:80", ""))
    assert news.take() == ([], [])


def test_of_many_the_first_are_named() -> None:
    assert in_words([fails(f"{n}:80") for n in range(5)], 2) == "api: 0:80: SERVFAIL; api: 1:80: SERVFAIL and 3 more"
