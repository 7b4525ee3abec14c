"""`pingap cache`: what its URL means, and what it shows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click.testing import CliRunner

from pingap import cli
from pingap.asked_url import AskedUrl, BadUrl, entrance_for, parse_asked
from pingap.cache_tables import explain_lines, size_of, stats_lines, summed
from pingap.stages.caching.words import MEANINGS

TWO = [{"server": "web", "addr": "0.0.0.0:80", "scheme": "http"}, {"server": "tls", "addr": "[::]:443", "scheme": "https"}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://a.example", AskedUrl("http", "a.example", 80, "/")),
        ("https://a.example:8443/x?", AskedUrl("https", "a.example:8443", 8443, "/x?")),
        ("https://[::1]/x#top", AskedUrl("https", "[::1]", 443, "/x")),
        ("https://a.example/ä b?c=d&e=%20", AskedUrl("https", "a.example", 443, "/%C3%A4%20b?c=d&e=%20")),
        ("https://bücher.example/", AskedUrl("https", "xn--bcher-kva.example", 443, "/")),
    ],
)
def test_a_url_becomes_what_a_client_would_ask(text: str, found: AskedUrl) -> None:
    assert parse_asked(text) == found


@pytest.mark.parametrize(
    "text", ["/a", "a.example/a", "ftp://a.example/", "https:///a", "https://a:b", "https://u:p@a.example/", "https://[::1/"]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        parse_asked(text)


@pytest.mark.parametrize(
    ("url", "server", "found"),
    [
        ("http://a.example/", None, ("web", "http")),
        ("https://a.example/", None, ("tls", "https")),
        ("http://a.example:443/", None, ("tls", "https")),
        ("http://a.example:8080/", None, ("web", "http")),
        ("https://a.example/", "web", ("web", "http")),
    ],
)
def test_the_port_says_which_server_is_meant_and_then_the_scheme(url: str, server: str | None, found: tuple[str, str]) -> None:
    assert entrance_for(parse_asked(url), TWO, server)[:2] == found


def test_a_server_that_is_not_clear_is_asked_for() -> None:
    several = [{"server": name, "addr": f"127.0.0.{number}:80", "scheme": "http"} for number, name in enumerate("ab", 1)]
    with pytest.raises(BadUrl, match="--server a or b"):
        entrance_for(parse_asked("http://a.example/"), several, None)
    assert entrance_for(parse_asked("http://a.example/"), several, "b").ip == "127.0.0.2"
    with pytest.raises(BadUrl, match="no server 'c'"):
        entrance_for(parse_asked("http://a.example/"), several, "c")
    with pytest.raises(BadUrl, match="listens nowhere"):
        entrance_for(parse_asked("http://a.example/"), [], None)


def answer(**requests: int) -> dict[str, Any]:
    counts = {"puts": 2, "evicted": 1, "purged": 0}
    store = {"store": "memory", "objects": 10, "bytes": 2_500_000, "cap": 256_000_000, "counts": counts, "refused": {"too_large": 1}}
    cache = {"cache": "pages", "namespace": "shop", "store": "memory", "objects": 9, "bytes": 2_400_000, "cap": 0, "requests": requests}
    return {"stores": [store], "caches": [cache], "fetching": 1, "waiting": 2}


def test_what_processes_count_is_added_up_and_what_they_share_is_not() -> None:
    stats = summed([answer(hit=3, miss=1), answer(hit=5, expired=1)], 1)
    assert stats["caches"][0]["requests"] == {"hit": 8, "miss": 1, "expired": 1}
    assert stats["stores"][0]["objects"] == 10
    assert stats["stores"][0]["counts"]["puts"] == 4
    assert (stats["fetching"], stats["waiting"], stats["processes"], stats["silent"]) == (2, 4, 2, 1)
    text = "\n".join(stats_lines(stats))
    assert "80.0%" in text and "2.5 MB" in text and "not stored: 2 too_large" in text and "1 more did not answer" in text


def test_the_columns_of_a_cache_add_up_and_show_how_full_its_part_is() -> None:
    stats = summed([answer(**dict.fromkeys(MEANINGS, 1))], 0)
    stats["caches"][0]["cap"] = 4_000_000
    header, row = [line for line in stats_lines(stats) if line.startswith(("CACHE", "pages"))]
    assert "2.4 MB of 4.0 MB" in row
    shown = dict(zip(re.split("  +", header), re.split("  +", row), strict=True))
    counts = [int(shown[name]) for name in ("HITS", "MISSES", "UNCACHEABLE", "BYPASS", "FAILED")]
    assert sum(counts) == int(shown["REQUESTS"]) == len(MEANINGS)
    assert shown["RATE"] == f"{100 * counts[0] / (len(MEANINGS) - 1):.1f}%", "what goes past the cache says nothing of it"


def test_the_tables_have_room_on_eighty_columns() -> None:
    stats = summed([answer(hit=123_456_789, miss=98_765_432, expired=4_567_890, bypass=123_456)], 0)
    stats["stores"][0]["store"] = "/var/cache/pingap/" + "x" * 100
    assert max(map(len, stats_lines(stats, 80))) <= 80
    assert stats_lines(summed([], 0)) == ["no location has a cache"]


def test_sizes_are_short() -> None:
    assert [size_of(count) for count in (0, 999, 1500, 2_000_000, 3 * 10**9, 4 * 10**12)] == [
        "0 B", "999 B", "1.5 kB", "2.0 MB", "3.0 GB", "4.0 TB"
    ]  # fmt: skip


def test_explain_names_the_rule_first_and_shows_nothing_raw() -> None:
    stored = {
        "status": 200, "size": 5, "age": 12.0, "ttl": -3.0, "lifetime": 9.0, "lifetime_rule": "max-age", "stale_while_revalidate": 30.0,
        "stale_if_error": 0.0, "etag": '"\x1b[2J"', "last_modified": "", "tags": ["a", "b"], "flags": ["heuristic"], "stored": 12.0,
        "number": 7, "where": "/x/1",
    }  # fmt: skip
    found = {
        "outcome": "stale", "rule": "stale-while-revalidate", "source": "RFC 5861 section 3", "stored": stored, "key": "ns\0https://a/b\0/l",
        "variant": {"accept-encoding": "=gzip", "cookie": "-"}, "location": "l", "server": "web", "upstream": "",
    }  # fmt: skip
    lines = explain_lines("https://a/b", found)
    assert lines[0] == "https://a/b: stale"
    assert lines[1].split() == ["because", "stale-while-revalidate", "(RFC", "5861", "section", "3)"]
    text = "\n".join(lines)
    assert explain_lines("https://a/", {**found, "stored": {**stored, "etag": '"v1"'}})[6].endswith('etag "v1"')
    assert explain_lines("https://a/", {**found, "key": "\0https://a/b\0/l"})[-3].split(maxsplit=1) == ["key", "https://a/b · /l"]
    assert "\x1b" not in text and "ns · https://a/b · /l" in text and "until 3.0s ago" in text and "cookie (not there)" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["purge"], "say what is to be purged"),
        (["purge", "https://a/", "--all"], "say what is to be purged"),
        (["purge", "https://a/", "--namespace", "x"], "--namespace goes with"),
        (["purge", "--all", "--server", "x"], "--server goes with a URL"),
        (["purge", "a/b"], "no URL"),
        (["explain", "https://a/", "-H", "nothing"], "no header line"),
        (["explain", "https://a/", "--client", "here"], "no IP address"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(words: list[str], said: str, tmp_path: Any) -> None:
    done = CliRunner().invoke(cli.commands, ["cache", *words, "--run-dir", str(tmp_path)])
    assert done.exit_code == 2 and said in done.output


@pytest.mark.parametrize("words", [["stats"], ["explain", "https://a/"], ["purge", "https://a/"], ["purge", "--all"]])
def test_where_nothing_runs_each_says_so(words: list[str], tmp_path: Any) -> None:
    done = CliRunner().invoke(cli.commands, ["cache", *words, "--run-dir", str(tmp_path)])
    assert done.exit_code == 1 and "no pingap is running" in done.output
