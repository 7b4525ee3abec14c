"""What a PURGE request asks for, by its target and its header lines."""

from __future__ import annotations

import pytest

from pingap.stages.caching.purging import (
    NotAPurge,
    PurgeAsked,
    PurgeScope,
    asked_for,
)
from pingap.stages.caching.tags import LONGEST, MOST


def asked(target: str, headers: str = "", rewritten: str | None = None) -> PurgeAsked:
    lines = "".join(f"{line}\r\n" for line in ("host: a.example", *headers.split("\n")) if line)
    return asked_for(target.encode(), (target if rewritten is None else rewritten).encode(), lines.encode())


@pytest.mark.parametrize("target", ["/", "/a?b=/*", "/*?x", "/a*", "/a%2F*b", "/a/*/b"])
def test_what_does_not_end_in_a_star_of_its_own_is_one_url(target: str) -> None:
    assert asked(target) == PurgeAsked(PurgeScope.URL, target.encode(), (), False)


def test_a_star_at_the_end_is_a_prefix_and_alone_it_is_all() -> None:
    assert asked("/images/*") == PurgeAsked(PurgeScope.PREFIX, b"/images/", (), False)
    assert asked("/*") == PurgeAsked(PurgeScope.ALL, b"", (), False)


@pytest.mark.parametrize(
    ("target", "rewritten", "scope", "found"),
    [
        ("/v1/a", "/a", PurgeScope.URL, "/a"),
        ("/v1/*", "/*", PurgeScope.PREFIX, "/"),  # all under /v1, and not all there is
        ("/*", "/app/*", PurgeScope.ALL, ""),
        ("/images/*", "/fetch?path=images/*", PurgeScope.PREFIX, "/fetch"),
        ("/any/*", "/index.html", PurgeScope.URL, "/index.html"),
    ],
)
def test_the_rewrite_says_where_and_the_client_how_much(target: str, rewritten: str, scope: PurgeScope, found: str) -> None:
    assert asked(target, rewritten=rewritten) == PurgeAsked(scope, found.encode(), (), False)


@pytest.mark.parametrize(
    ("headers", "is_soft"),
    [
        ("pingap-purge: soft", True),
        ("pingap-purge: SOFT", True),
        ("pingap-purge: hard", False),
        ("fastly-soft-purge: 1", True),
        ("fastly-soft-purge: 0", False),
        ("pingap-purge: hard\nfastly-soft-purge: 1", False),
    ],
)
def test_soft_is_said_in_one_of_two_ways(headers: str, is_soft: bool) -> None:
    assert asked("/a", headers).is_soft is is_soft


def test_tags_of_all_lines_are_meant_once_each_and_the_url_is_not() -> None:
    found = asked("/*", "cache-tag: a, b b,,c\ncache-tag: a\nsurrogate-key: d  e\nsurrogate-key: d f\npingap-purge: soft")
    assert found == PurgeAsked(PurgeScope.TAGS, b"", (b"a", b"b b", b"c", b"d", b"e", b"f"), True)


@pytest.mark.parametrize(
    "headers",
    [
        "pingap-purge: sotf",
        "pingap-purge: ",
        "cache-tag: , ,",
        "surrogate-key: ",
        "surrogate-key: " + " ".join(map(str, range(MOST + 1))),
        "cache-tag: " + "x" * (LONGEST + 1),
    ],
    ids=["a typing error", "nothing", "no tag", "no key", "too many", "too long"],
)
def test_what_says_nothing_clear_purges_nothing(headers: str) -> None:
    with pytest.raises(NotAPurge):
        asked("/a", headers)
