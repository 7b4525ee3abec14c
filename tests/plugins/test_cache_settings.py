"""The settings of a cache: each key of the reference, and ours; what is wrong with them is told at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.caching.place import INACTIVE, CachePlace
from pingap.stages.plugins.builtin.cache import Cache, CacheSettings
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.making import make
from pingap.stages.plugins.validation import PluginRefused, validated

REFERENCE: dict[str, Any] = {
    "category": "cache",
    "directory": "/var/cache/reading-room?levels=1:2&inactive=1d&max_size=2gb",
    "namespace": "catalogue",
    "headers": ["Accept-Language"],
    "lock": "2s",
    "max_ttl": "1h",
    "max_file_size": "3mb",
    "eviction": True,
    "predictor": True,
    "check_cache_control": True,
    "purge_ip_list": ["127.0.0.1", "10.20.0.0/16"],
    "skip": "/(lending|desk)",
}


def made(**section: Any) -> Cache:
    return Cache(validated("plugins.c", CacheSettings, section))


def wrongs(**section: Any) -> list[str]:
    """Keys with what is wrong with them."""
    return [f"{key}: {said}" for key, said, *_ in made(**section).check()]


def notes(**section: Any) -> list[str]:
    plugin = made(**section)
    assert not [*plugin.check()]
    return [f"{key}: {said}" for key, said, *_ in plugin.notes()]


def test_every_key_of_the_reference_counts() -> None:
    plugin = made(**REFERENCE)
    assert [*plugin.check()] == []
    assert [(key, said.partition(" ")[0]) for key, said, *_ in plugin.notes()] == [("directory", "levels")]
    rules = plugin.rules()
    assert rules.place == CachePlace("disk", "/var/cache/reading-room", 2_000_000_000, inactive=86400.0)
    assert (rules.namespace, rules.lock, rules.max_file_size) == (b"catalogue", 2.0, 3_000_000)
    assert (rules.policy.max_ttl, rules.policy.check_cache_control, rules.policy.max_file_size) == (3600.0, True, 3_000_000)
    assert [rules.purgers.has(address) for address in ("127.0.0.1", "10.20.3.4", "10.21.0.1", "")] == [True, True, False, False]
    assert rules.skip.search(b"/a?next=/desk") is not None
    block = b"host: a\r\naccept-language: de\r\n"
    assert rules.keys.key_of(b"https", b"a", b"/x", block, (b"files",)) == b"catalogue\0https://a/x\0accept-language: de\0/files"


def test_without_any_key_it_is_in_memory_and_lets_nobody_purge_nor_control() -> None:
    rules = made().rules()
    assert rules.place == CachePlace("memory", "")
    assert (rules.lock, rules.max_file_size, rules.predictor, rules.cache_status) == (1.0, 1_000_000, True, True)
    assert (rules.policy.max_ttl, rules.policy.default_ttl, rules.policy.stale_while, rules.policy.stale_error) == (0.0, 0.0, 0.0, 1.0)
    assert not rules.purgers.has("127.0.0.1")
    assert not rules.trusted.has("127.0.0.1")
    assert rules.skip is None
    assert rules.bypass_cookies is None
    assert notes() == []


def test_our_own_keys_count() -> None:
    rules = made(
        directory="/c?max_size=1gb",
        namespace="shop",
        namespace_max_size="256mb",
        keep_query="id, page",
        ignore_query=["page"],
        sort_query=True,
        bypass_cookies=["sid", "wp_*"],
        control_ip_list=["::1"],
        default_ttl="2s",
        stale_while_revalidate="1m",
        stale_if_error="1d",
        strip_set_cookie=True,
        cache_status=False,
        predictor=False,
    ).rules()
    assert rules.place == CachePlace("disk", "/c", 10**9, inactive=INACTIVE)
    assert rules.namespace_max_size == 256_000_000
    assert rules.keys.target_of(b"/a?x=1&page=2&id=3") == b"/a?id=3"
    assert rules.has_bypass_cookie(b"cookie: wp_x=1\r\n")
    assert rules.trusted.has("::1")
    assert rules.policy[:2] == (0.0, 2.0)
    assert (rules.policy.strip_set_cookie, rules.policy.stale_while, rules.policy.stale_error) == (True, 60.0, 86400.0)
    assert (rules.cache_status, rules.predictor) == (False, False)
    assert not rules.policy.keep_set_cookie
    assert made(keep_set_cookie=True).rules().policy.keep_set_cookie


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert wrongs(
        directory="memory://a/b?max_size=x&levels=1&foo=1",
        namespace="a\nb",
        namespace_max_size=5,
        headers=["Accept", ""],
        keep_query=["a*b"],
        ignore_query=["=", "ok"],
        bypass_cookies=["a;b"],
        lock="1h",
        max_ttl="0s",
        strip_set_cookie=True,
        keep_set_cookie=True,
    ) == [
        "directory: 'a/b' is not the name of a cache in memory",
        "directory: max_size: 'x' is not a size",
        "directory: there is no parameter 'foo'",
        "namespace: must be visible text of at most 64 bytes",
        "namespace_max_size: is less than 1mb",
        "headers[1]: must not be empty",
        "keep_query: 'a*b' has a * that is not at its end",
        "ignore_query: '=' is not the name of a parameter or cookie",
        "bypass_cookies: 'a;b' is not the name of a parameter or cookie",
        "keep_set_cookie: contradicts strip_set_cookie",
        "lock: must be at most 5m",
        "max_ttl: nothing would ever be fresh",
    ]


@pytest.mark.parametrize("kept", ["", [""], [], " , "])
def test_to_keep_no_parameter_is_refused_since_it_would_keep_all(kept: Any) -> None:
    assert wrongs(keep_query=kept) == ["keep_query: names no parameter"]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"skip": "^/(?!api)"}, "plugins.c.skip: the regex is refused"),
        ({"skip": "("}, "plugins.c.skip: the regex is refused"),
        ({"purge_ip_list": ["10.0.0.0/99"]}, "plugins.c.purge_ip_list[0]: "),
        ({"headers": ["Content-Length"]}, "plugins.c.headers[0]: header 'Content-Length' is about one connection"),
        ({"headers": ["a b"]}, "plugins.c.headers[0]: "),
        ({"lock": "soon"}, "plugins.c.lock: 'soon' is not a duration"),
        ({"max_file_size": "3 apples"}, "plugins.c.max_file_size: '3 apples' is not a size"),
        ({"eviction": "yes"}, "plugins.c.eviction: expected true or false"),
        ({"max_tll": "1h"}, "plugins.c.max_tll: unknown key"),
    ],
)
def test_what_no_key_may_be(section: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginRefused) as refused:
        made(**section)
    (problem,) = refused.value.problems
    assert str(problem).startswith(said)
    assert problem.hint or "?!" not in str(section)


def test_one_key_of_another_type_does_not_hide_what_else_is_wrong() -> None:
    section = {
        "category": "cache",
        "lock": "soon",
        "namespace": "a\nb",
        "skip": "(",
        "max_ttl": "0s",
        "keep_query": [""],
        "step": "response",
    }
    with pytest.raises(PluginRefused) as refused:
        make("c", section, HookGuard())
    found = [str(problem).split(": ")[0].removeprefix("plugins.c.") for problem in refused.value.problems]
    assert sorted(found) == ["keep_query", "lock", "max_ttl", "namespace", "skip", "step"]
    assert all(problem.hint for problem in refused.value.problems)


def test_a_look_around_is_refused_with_what_to_do() -> None:
    with pytest.raises(PluginRefused) as refused:
        made(skip="^/(?!api)")
    assert "no look-around" in refused.value.problems[0].hint


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"keep_set_cookie": True}, "keep_set_cookie: whoever is answered from the cache gets the cookies that were somebody else's"),
        ({"eviction": False}, "eviction: has no effect: there is a bound, and what is asked for least goes"),
        ({"predictor": False}, "predictor: is off; pingap 0.13.9 takes false for true"),
        ({"namespace_max_size": "5mb"}, "namespace_max_size: has no effect without a namespace"),
        ({"directory": "memory://?max_size=2mb", "max_file_size": "3mb"}, "max_file_size: is more than the whole cache may have"),
        ({"headers": ["Accept-Encoding"]}, "headers: each way to write accept-encoding has an answer of its own"),
        ({"headers": ["Host"]}, "headers: host is in each key"),
        ({"keep_query": ["a"], "ignore_query": "*"}, 'keep_query: has no effect: ignore_query has "*"'),
        ({"max_ttl": "1m", "default_ttl": "1h"}, "default_ttl: is longer than max_ttl, which holds for it, too"),
        (
            {"check_cache_control": True, "default_ttl": "1s"},
            "default_ttl: has hardly any effect: check_cache_control stores only answers with Cache-Control",
        ),
        ({"directory": "/c"}, "directory: without a max_size it grows until the disk is full"),
    ],
)
def test_what_has_no_effect_or_another_one_is_a_note(section: dict[str, Any], said: str) -> None:
    assert notes(**section) == [said]
    assert notes(eviction=True, predictor=True, cache_status=True) == []


def test_a_directory_that_cannot_be_written_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faults(directory: str) -> list[str]:
        return [said for _, said, *_ in made(directory=directory).check_files()]

    (tmp_path / "file").write_text("")
    assert faults(f"{tmp_path}/file?max_size=1gb") == [f"{tmp_path}/file is no directory"]
    assert faults(f"{tmp_path}/not/there/yet?max_size=1gb") == []
    assert faults("memory://?max_size=5mb") == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert faults(f"{tmp_path}/not/there") == [f"{tmp_path} cannot be written by user id {os.geteuid()}"]
