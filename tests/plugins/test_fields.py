"""The types of plugins' settings: what users write, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import BadValue
from pingap.plugin import Addresses, Url, compile_regex, parse_url
from pingap.stages.plugins import checking
from tests.plugins.test_python_plugins import plugin, section


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://auth.test", ("", "auth.test", "/")),
        ("HTTPS://Auth.Test:443/a?b=c", ("", "auth.test", "/a?b=c")),
        ("http://auth.test:80", ("", "auth.test", "/")),
        ("http://10.0.0.1:8080/x", ("", "10.0.0.1:8080", "/x")),
        ("https://[::1]:8443?q", ("", "[::1]:8443", "/?q")),
        ("https://bücher.test/ä b", ("", "xn--bcher-kva.test", "/%C3%A4%20b")),
        ("upstream://auth/verify?x=1", ("auth", "", "/verify?x=1")),
        ("upstream://Auth%20Service", ("Auth Service", "", "/")),
    ],
)
def test_a_url_is_taken_apart(text: str, parts: tuple[str, str, str]) -> None:
    url = parse_url(text)
    assert (url.upstream, url.authority, url.target) == parts
    assert url.text == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("HTTPS://Auth.test:8443/a/b?api_key=hunter2", "https://auth.test:8443/a/b"),
        ("upstream://auth/verify?hunter2", "upstream://auth/verify"),
        ("http://[::1]", "http://[::1]/"),
    ],
)
def test_a_url_is_told_without_its_query_for_that_may_be_secret(text: str, said: str) -> None:
    url = parse_url(text)
    assert (str(url), f"{url}", repr(url)) == (said, said, f"Url({said!r})")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("auth.test/x", "is not a URL"),
        ("", "is not a URL"),
        ("ftp://auth.test", "begins with ftp:"),
        ("https://", "names no host"),
        ("https://:443/", "names no host"),
        ("upstream:///verify", "names no upstream"),
        ("https://auth.test:0/", "has port 0"),
        ("https://auth.test:99999/", "is not a URL"),
        ("https://a b/", "is not a host name"),
        ("https://[::g]/", "is not a"),
        ("https://user:hunter2@auth.test/", "no user and no password"),
        ("ftp://user:hunter2@auth.test/", "no user and no password"),
        ("user:hunter2@auth.test/", "this begins with user:"),
        ("https://[user:hunter2@auth.test/", "this is not a URL"),
        ("https://auth.test/#hunter2", "has a fragment"),
        ("https://auth.test/?hunter2#top", "has a fragment"),
        ("https://auth.test:0/?hunter2", "has port 0"),
        ("auth.test/?hunter2", "'auth.test/' is not a URL"),
        ("https://[fe80::1%eth0]/", "has a zone"),
        ("https://[fe80::1%25eth0]/", "has a zone"),
        (7, "a URL"),
    ],
)
def test_what_is_no_url_is_refused(value: Any, said: str) -> None:
    with pytest.raises(BadValue, match=said) as refused:
        parse_url(value)
    assert "hunter2" not in refused.value.message + refused.value.hint


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    for scheme in ("https://", "upstream://"):
        try:
            url = parse_url(scheme + text)
        except BadValue:
            continue
        assert isinstance(url, Url)
        line = url.authority + url.target
        assert line.isascii()
        assert line.isprintable()
        assert " " not in line


def test_addresses_have_what_is_in_their_networks() -> None:
    listed = Addresses(["10.0.0.0/8", "192.168.1.1/24", "::1"])
    assert [ip for ip in ("10.9.9.9", "192.168.1.77", "::ffff:10.1.1.1", "11.0.0.1", "::2", "junk", "") if listed.has(ip)] == [
        "10.9.9.9",
        "192.168.1.77",
        "::ffff:10.1.1.1",
    ]


def test_a_regex_for_paths_has_no_letters_that_no_path_has() -> None:
    assert compile_regex("ä") and compile_regex("^/a", is_for_paths=True)
    with pytest.raises(BadValue, match="can never match"):
        compile_regex("ä", is_for_paths=True)
    with pytest.raises(BadValue, match="the regex is refused"):
        compile_regex("(")


# -- upstreams that settings name -----------------------------------------------------------------------

CODE = "def request(self, exchange): return None\n"
NAMING = "class Named(Settings):\n    where: Url\n\n" + plugin(CODE, "model = Named")


def test_an_upstream_that_settings_name_has_to_be_there(tmp_path: Path) -> None:
    made = section(tmp_path, NAMING, where="upstream://auht/x")
    [problem] = checking.Checker()("p", dict(made), frozenset({"auth", "shop"}))
    assert str(problem) == "plugins.p.where: upstream 'auht' does not exist\n    did you mean 'auth'?"
    assert checking.Checker()("p", dict(made), None) == [], "nothing is known of them"
    assert checking.Checker()("p", made | {"where": "upstream://auth"}, frozenset({"auth"})) == []
    assert checking.Checker()("p", made | {"where": "https://auth.test"}, frozenset()) == []


def test_a_plugin_may_name_upstreams_itself(tmp_path: Path) -> None:
    code = plugin(CODE + "def upstreams(self): return [('greeting', 'gone')]\n")
    for _ in range(2):  # what has passed, too, is asked
        [problem] = checking.Checker()("p", section(tmp_path, code), frozenset())
        assert problem.path == "plugins.p.greeting"
    assert checking.Checker()("p", section(tmp_path, code), frozenset({"gone"})) == []
    broken = plugin(CODE + "def upstreams(self): return 1 / 0\n")
    [problem] = checking.Checker()("p", section(tmp_path, broken), frozenset())
    assert "ZeroDivisionError" in str(problem)
