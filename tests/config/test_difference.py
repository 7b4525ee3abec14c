from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.diff import diff
from pingap.config.difference import LONGEST_SHOWN, MOST_LINES, difference
from pingap.config.encryption import encrypt
from pingap.config.model import Basic, Bus, Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.config.quantities import format_duration
from pingap.config.secrecy import _PLUGIN_KEYS, MASK
from pingap.config.unsupported import PLUGIN_CATEGORIES
from pingap.config.values import PARSERS
from pingap.config.written import WRITERS, as_written
from pingap.stages.plugins.registry import CATEGORIES
from tests.kit.config import load_text

BASE = """
[basic]
name = "edge"
[servers.web]
addr = "127.0.0.1:80"
locations = ["home"]
[locations.home]
upstream = "app"
{location}
[upstreams.app]
addrs = ["127.0.0.1:5000"]
{upstream}
[plugins.auth]
category = "{category}"
{plugin}
"""
MARKER = "hunter2"


def snapshot(location: str = "", upstream: str = "", plugin: str = "", more: str = "", category: str = "key_auth") -> Snapshot:
    text = BASE.replace("{location}", location).replace("{upstream}", upstream).replace("{plugin}", plugin)
    return load_text(text.replace("{category}", category) + more)


def lines(old: Snapshot, new: Snapshot) -> list[str]:
    return list(difference(old, new, diff(old, new)))


def test_long_lists_are_compared_in_linear_time() -> None:
    """It is done on the loop of the config stage, whose heartbeats wait meanwhile."""
    count = 30_000
    servers = [{"web": Server(addr=(), locations=tuple(f"{prefix}{number}" for number in range(count)))} for prefix in ("old", "new")]
    began = time.process_time()
    _, gone, come = lines(*(Snapshot(servers=one) for one in servers))
    assert time.process_time() - began < 2
    assert gone.startswith('- locations = ["old0", "old1"') and come.endswith(f"of {count}")


def test_entries_of_long_lists_are_told_apart_by_type() -> None:
    old, new = ([1, "1", {"a": 1, "b": []}, *range(10, 20), last] for last in ({"b": 2}, "{}"))
    told = lines(*(Snapshot(plugins={"mine": {"category": "python", "list": entries}}) for entries in (old, new)))
    assert told == ["[MODIFIED] plugins.mine", '- list = [{"b": 2}] of 14', '+ list = ["{}"] of 14']


def test_what_was_and_what_is_stand_below_each_other() -> None:
    old = snapshot('weight = 1\nproxy_set_headers = ["X-A:1"]', 'read_timeout = "90s"')
    new = snapshot(
        'weight = 2\nhost = "a.example, *.b.example"\nclient_max_body_size = "1mb"',
        'read_timeout = "2m"\nhealth_check = "http://x/y?failure=3"',
    )
    assert lines(old, new) == [
        "[MODIFIED] locations.home",
        '- proxy_set_headers = ["X-A:1"]',
        "- weight = 1",
        "+ weight = 2",
        '+ host = "a.example, *.b.example"',
        '+ client_max_body_size = "1MB"',
        "[MODIFIED] upstreams.app",
        '- read_timeout = "1m 30s"',
        '+ read_timeout = "2m"',
        '+ health_check = "http://x/y?failure=3"',
    ]
    assert lines(old, old) == []


def test_items_that_come_and_go_are_named() -> None:
    old = snapshot()
    app = old.upstreams["app"]
    new = replace(old, upstreams={"app": app, "my.new": app}, plugins={})
    assert lines(old, new) == ['++ [ADDED] upstreams."my.new"', "-- [REMOVED] plugins.auth"]


def test_of_a_plugin_each_key_is_compared_and_tables_inside_are_opened() -> None:
    old = snapshot(plugin='a = 1\nremark = "x"\n[plugins.auth.deep]\nx = [1, 2]\ny = "z"', category="limit")
    new = snapshot(plugin='a = 1\nremark = "y"\n[plugins.auth.deep]\nx = [1]\ny = "z"', category="limit")
    assert lines(old, new) == ["[MODIFIED] plugins.auth", "- deep.x = [1, 2]", "+ deep.x = [1]"]


SECRET = [
    ("", "", 'keys = ["{}"]', "", "key_auth"),
    ("", "", 'authorizations = ["{}"]', "", "basic_auth"),
    ("", "", 'my_password = "{}"', "", "python"),
    ("", "", 'token = "{}"', "", "python"),
    ("", "", '[plugins.auth.redis]\nauth_token = "{}"', "", "python"),
    ("", "", 'peers = [{ name = "a", secret = "{}" }]', "", "python"),
    ("", "", 'url = "redis://user:{}@127.0.0.1/1"', "", "python"),
    ("", "", 'url = "https://127.0.0.1/x?api_key={}&a=b"', "", "python"),
    ("", "", 'add_headers = ["X-Api-Key: {}"]', "", "response_headers"),
    ('proxy_set_headers = ["Authorization:Bearer {}"]', "", "", "", "ping"),
    ('proxy_add_headers = ["X-Plain:1", "Cookie:{}"]', "", "", "", "ping"),
    ('match_query = ["token:{}"]', "", "", "", "ping"),
    ('rewrite = "^/x$ /y?access_token={}"', "", "", "", "ping"),
    ('remark = "{}"', "", "", "", "ping"),
]


@pytest.mark.parametrize(("location", "upstream", "plugin", "more", "category"), SECRET)
def test_a_secret_is_known_by_its_place_and_only_that_it_changed_is_told(
    location: str, upstream: str, plugin: str, more: str, category: str
) -> None:
    old, new = (
        snapshot(location.replace("{}", word), upstream, plugin.replace("{}", word), more, category) for word in (MARKER, "other-1")
    )
    told = "\n".join(lines(old, new))
    assert MARKER not in told and "other-1" not in told
    if "remark" not in location:
        assert told.count(MASK) >= 2
        assert told.count("\n") == 2


def test_whatever_came_out_of_a_storage_is_secret_wherever_it_is() -> None:
    def at(path: str, value: str) -> Snapshot:
        sealed = encrypt(f'sni = "{value}.example"\nmax_pending = {len(value)}', "pass", b"one salt for all"[:16])
        more = f'[storages.a]\ncategory = "x"\nvalue = "{path}"\n[storages.b]\ncategory = "x"\nvalue = "{sealed}"\nsecret = "pass"\n'
        return snapshot('path = "$SECRET:a"', 'includes = ["b"]\nalgo = "hash"', "", more)

    assert lines(at("/h", "hunter2"), at("/other", "other")) == [
        "[MODIFIED] locations.home",
        "- path = ***",
        "+ path = ***",
        "[MODIFIED] upstreams.app",
        "- sni = ***",
        "+ sni = ***",
        "- max_pending = ***",
        "+ max_pending = ***",
    ]


def test_keys_of_the_bus_and_of_certificates_are_secret() -> None:
    old, new = (Snapshot(bus=Bus(public_key="p", secret_key=MARKER + sign)) for sign in "ab")
    assert lines(old, new) == ["[MODIFIED] bus", "- secret_key = ***", "+ secret_key = ***"]


def test_what_a_terminal_would_act_on_is_written_out() -> None:
    old, new = (Snapshot(basic=Basic(error_template=f"\x1b[2J\u202e\x9b{sign}\n")) for sign in "ab")
    told = "\n".join(lines(old, new)).replace("\n", "")
    assert told.isprintable()


def test_thousands_of_changes_are_told_in_a_few_lines() -> None:
    def many(port: int) -> Snapshot:
        return Snapshot(upstreams={f"u{n}": Upstream(addrs=(Backend("127.0.0.1", port),)) for n in range(5000)})

    told = lines(many(1), many(2))
    assert len(told) <= MOST_LINES + 1
    assert told[-1] == f"… and {5000 - (len(told) - 1) // 3} more"


def test_of_a_long_list_only_what_came_or_went_is_told() -> None:
    def hosts(numbers: range) -> Snapshot:
        return Snapshot(upstreams={"u": Upstream(addrs=tuple(Backend(f"10.0.0.{n}", 8080) for n in numbers))})

    assert lines(hosts(range(100)), hosts(range(1, 101))) == [
        "[MODIFIED] upstreams.u",
        '- addrs = ["10.0.0.0:8080"] of 100',
        '+ addrs = ["10.0.0.100:8080"] of 100',
    ]
    assert lines(hosts(range(50)), hosts(range(49, -1, -1))) == ["[MODIFIED] upstreams.u", "  addrs: the order of its 50 entries"]


def test_a_long_value_is_cut() -> None:
    old, new = (Snapshot(basic=Basic(error_template=sign * 5000)) for sign in "ab")
    assert all(len(line) < LONGEST_SHOWN + 80 for line in lines(old, new))


def test_the_table_of_secrets_knows_every_category_and_only_keys_that_there_are() -> None:
    assert set(_PLUGIN_KEYS) == set(CATEGORIES) | PLUGIN_CATEGORIES
    for category, kind in CATEGORIES.items():
        assert _PLUGIN_KEYS[category] <= set(kind.model.model_fields), category


WRITTEN: dict[str, list[Any]] = {
    "access_log": ["combined", "/var/log/a.log tiny", "{when} {uri}", "/x.log {uri}"],
    "backend": ["127.0.0.1", "127.0.0.1:80", "127.0.0.1:8080 5", "[::1]:80", "[::1]:81 0", "example.com 3"],
    "balance": ["round_robin", "hash", "hash:url", "hash:path", "hash:header:X-User", "hash:cookie:c", "hash:query:q", "least_conn", "p2c"],
    "condition": ["a:b", "a", "a:b:c", "a:"],
    "cpu": [0, 7],
    "port": [1, 65535],
    "dns_servers": ["10.0.0.53, [::1]:5353"],
    "domains": ["a.example, *.b.example"],
    "header": ["X-Name:value", "x:a:b", "X-Empty:"],
    "header_condition": ["X-Name:value", "x"],
    "health_check": [
        "",
        "tcp://a",
        "http://a",
        "http://a/b?c=d",
        "http://a/b?check_frequency=1m30s&failure=3",
        "tcp://a?success=2&parallel",
    ]
    + ["http://a/b?c=d&reuse=true&read_timeout=500ms", "http://[::1]/", "https://a/b?verify_cert", "grpc://a?tls&service=a%26b.C"],
    "host_list": ["a.example", "*.a.example, b.example", r"~^(?<x>\w+)\.a$"],
    "listen_list": ["127.0.0.1:80, [::1]:80", "8080"],
    "path": ["", "/a", "= /a", "~ ^/a"],
    "rewrite": ["^/a /b", "^/a/(.*) /$1", "^/gone", "/$1"],
    "size": ["1kb", "64KiB", "1001", 5],
    "duration": ["1s", "1h 30m", "250ms", "0"],
    "limit": ["90s"],
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in WRITTEN.items() for text in texts])
def test_what_is_written_reads_as_what_it_was(form: str, text: str | int) -> None:
    value = PARSERS[form](text)
    assert PARSERS[form](WRITERS[form](value)) == value


def test_each_writer_is_tried() -> None:
    assert set(WRITERS) == set(WRITTEN)


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_durations_read_as_what_they_were(seconds: float) -> None:
    assert PARSERS["duration"](format_duration(seconds)) == pytest.approx(seconds)


def test_every_key_of_the_model_can_be_written() -> None:
    site = snapshot('host = "a"')
    for item in (site.basic, site.servers["web"], site.locations["home"], site.upstreams["app"]):
        for spec in fields(item):
            as_written(type(item), spec.name, getattr(item, spec.name))
    assert as_written(Server, "keepalive_timeout", 75.0) == "1m 15s"
    assert as_written(Server, "tcp_idle", None) is None
    assert as_written(Upstream, "tcp_recv_buf", 65536) == "64KiB"
    assert as_written(Location, "proxy_set_headers", (("X-A", "1"),)) == ["X-A:1"]
