"""Entries of `addrs` with `discovery = "docker"`: labels of containers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.addresses import parse_entry, parse_label
from pingap.config.parts import Backend
from pingap.config.problems import BadValue
from pingap.config.written import WRITERS


@pytest.mark.parametrize(
    ("text", "label", "port", "weight", "address"),
    [
        ("web", "web", 0, 1, "web"),
        ("web:80", "web", 80, 1, "web:80"),
        ("  web:8080   3 ", "web", 8080, 3, "web:8080"),
        ("app=web", "app=web", 0, 1, "app=web"),
        ("app=web:80 0", "app=web", 80, 0, "app=web:80"),
        ("com.docker.compose.service=api 5", "com.docker.compose.service=api", 0, 5, "com.docker.compose.service=api"),
        ("app=", "app=", 0, 1, "app="),
        ("app=a=b/c@sha:80", "app=a=b/c@sha", 80, 1, "app=a=b/c@sha:80"),
        ("App=Web", "App=Web", 0, 1, "App=Web"),
    ],
)
def test_a_label_with_or_without_value_port_and_weight(text: str, label: str, port: int, weight: int, address: str) -> None:
    entry = parse_label(text)
    assert entry == Backend(label, port, weight)
    assert entry.address == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not a label of containers"),
        ("app web 3", "is not a label of containers"),
        ("app=web:http", "'http' is not a port"),
        ("app:", "is not a port"),
        ("app:0", "'0' is not a port"),
        ("app:65536", "'65536' is not a port"),
        ("app=a:b:80", "'app=a:b' is not a label of containers"),
        ("=web:80", "'=web' is not a label of containers"),
        (":80", "'' is not a label of containers"),
        ('"app":80', "is not a label of containers"),
        ("http://app:80", "'http://app:80' is a URL"),
        ("unix:/run/app", "'/run/app' is not a port"),
        ("[::1]:80", "'[::1]' is not a label of containers"),
        ("app=web x", "weight 'x' is not a whole number"),
        (5, "a label of containers"),
    ],
)
def test_what_is_no_label_is_refused(text: Any, says: str) -> None:
    with pytest.raises(BadValue) as refused:
        parse_label(text)
    assert says in f"{refused.value.message} {refused.value.hint}"


def test_without_a_word_on_discovery_an_entry_is_whatever_it_can_be() -> None:
    assert parse_entry("app=web:80", None) == Backend("app=web", 80)
    assert parse_entry("10.0.0.1", None) == Backend("10.0.0.1", 80)
    assert parse_entry("app", "docker") == Backend("app", 0)
    assert parse_entry("app", "static") == Backend("app", 80)
    with pytest.raises(BadValue):
        parse_entry("app=web:80", "static")


LABELS = st.from_regex(r"[^\s:=\"'/0-9][^\s:=\"']*(=[^\s:]*)?", fullmatch=True)


@given(LABELS, st.integers(0, 65535), st.integers(0, 65535))
def test_what_is_written_reads_as_what_it_was(label: str, port: int, weight: int) -> None:
    entry = Backend(label, port, weight)
    assert parse_label(WRITERS["backend"](entry)) == entry


@given(st.text(max_size=20))
def test_any_text_is_a_label_or_refused(text: str) -> None:
    try:
        entry = parse_label(text)
    except BadValue:
        return
    assert 0 <= entry.port <= 65535 and entry.host
