"""Cookies that lead around a cache."""

from __future__ import annotations

import pytest

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.names import NamePatterns
from pingap.stages.caching.place import read_place

RULES = CacheRules(read_place("").place, bypass_cookies=NamePatterns(["sid", "wordpress_logged_in_*"]))


@pytest.mark.parametrize(
    ("block", "is_there"),
    [
        (b"", False),
        (b"host: a\r\n", False),
        (b"cookie: sid=1\r\n", True),
        (b"host: a\r\ncookie: a=1; wordpress_logged_in_0af=x\r\n", True),
        (b"host: a\r\ncookie: a=sid; ssid=1\r\n", False),
        (b"cookie: a=1\r\ncookie: b=2\r\nhost: a\r\ncookie: sid\r\n", True),
        (b"set-cookie: sid=1\r\nx-cookie: sid=1\r\n", False),
    ],
)
def test_a_cookie_leads_around_the_cache(block: bytes, is_there: bool) -> None:
    assert RULES.has_bypass_cookie(block) is is_there
    assert not CacheRules(RULES.place).has_bypass_cookie(block)
