"""Input that nobody writes by intent is a problem at its place, and no exception."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import pytest

from pingap import loading
from pingap.config.addresses import parse_backend
from pingap.config.problems import BadValue, ConfigRefused
from pingap.config.references import files_named, of_environment
from pingap.config.storage.memory import MemoryStorage
from pingap.stages.config.actor import _load
from pingap.stages.plugins.checking import plans

DIGITS = "9" * 5000
SITE = '[servers.a]\naddr = "127.0.0.1:7000"\n'


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[basic]\nname = "$ENV:ODD"\n', "basic.name"),
        ('[plugins.k]\ncategory = "key_auth"\nkeys = ["$ENV:ODD"]\n', "plugins.k.keys[0]"),
        ('[storages.s]\ncategory = "x"\nvalue = "abc"\nsecret = "$ENV:ODD"\n', "storages.s.secret"),
        ('[storages.s]\ncategory = "x"\nvalue = "$FILE:~a\\u0000b"\n', "storages.s.value"),
        ('[storages.s]\ncategory = "x"\nvalue = "$FILE:/a\\u0000b"\n', "storages.s.value"),
        ('[certificates.c]\ntls_cert = "~a\\u0000b"\ntls_key = "/a\\u0000b"\n', "certificates.c.tls_cert"),
        ('[basic]\nerror_log = "~a\\u0000b"\n', "basic.error_log"),
        (SITE + 'access_log = "~a\\u0000 combined"\n', "servers.a.access_log"),
        ('[plugins.p]\ncategory = "python"\npath = "~a\\u0000b"\n', "plugins.p.path"),
        ('[plugins.p]\ncategory = "python"\npath = "/a\\u0000b"\n', "plugins.p.path"),
        (f'[upstreams.u]\naddrs = ["a:{DIGITS}"]\n', "upstreams.u.addrs[0]"),
        (f'[upstreams.u]\naddrs = ["a:80 {DIGITS}"]\n', "upstreams.u.addrs[0]"),
        (f'[upstreams.u]\naddrs = ["a"]\nhealth_check = "http://a/?failure={DIGITS}"\n', "upstreams.u.health_check"),
        (f'[servers.a]\naddr = "{DIGITS}"\n', "servers.a.addr"),
        (f"[locations.l]\nweight = 0x{'f' * 5000}\n", "pingap.toml"),
        ("[locations.l]\nweight = 9223372036854775808\n", "pingap.toml"),
        (f'[plugins.p]\ncategory = "python"\npath = "x"\nmine = [{{ a = 0x{"f" * 5000} }}]\n', "pingap.toml"),
    ],
)
def test_it_is_a_problem_at_its_place(text: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ODD", "caf\udce9")
    with pytest.raises(ConfigRefused) as refused:
        loading.load(MemoryStorage(text))
    assert path in [problem.path for problem in refused.value.problems]
    str(refused.value).encode()
    assert len(str(refused.value)) < 3000, "it is not told at length"
    found, *_ = _load(loading.load, plans, MemoryStorage(text))
    assert isinstance(found, tuple) and any(problem.startswith(path) for problem in found)


@pytest.mark.parametrize("key", ["user", "group"])
def test_a_user_of_thousands_of_digits_is_nobody(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in (DIGITS, "٣"):
        with pytest.raises(ConfigRefused) as refused:
            loading.load_for_check(MemoryStorage(f'[basic]\n{key} = "{name}"\n'))
        assert f"basic.{key}" in [problem.path for problem in refused.value.problems]


def test_numbers_may_begin_with_zeros() -> None:
    backend = parse_backend("a:0000000000080 01")
    assert (backend.port, backend.weight) == (80, 1)


def test_files_that_nobody_can_have_are_not_followed() -> None:
    assert files_named({"value": "$FILE:~a\0b", "secret": "$FILE:/a"}) == ["/a"]


def test_what_is_not_utf_8_is_not_quoted() -> None:
    with pytest.raises(BadValue, match="the environment variable ODD is not UTF-8") as refused:
        of_environment({"ODD": "pass\udce9"})("ODD")
    assert "pass" not in str(refused.value)


def test_a_file_whose_name_is_in_no_encoding_is_named_all_the_same(tmp_path: Path) -> None:
    """What is said of it goes to other processes."""
    for name in (b"\xff.toml", b"a.toml"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("[basic]\nnaem = 'é'\n")
    plain = loading.to_plain(str(tmp_path), None)
    paths = [(path, message) for path, message, *_ in plain["problems"]]
    assert ("basic", "is in two files: a.toml and \\udcff.toml") in paths
    assert msgpack.packb(plain)
