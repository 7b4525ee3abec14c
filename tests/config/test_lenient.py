"""What is taken otherwise is taken whatever stands there, and what is not recognised stays as it is."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pingap.config.lenient import RULES, take
from pingap.config.problems import BadValue
from pingap.config.values import parse_levels

WORDS = st.sampled_from(
    ["", "*", "tls1.1", "TLSv1.3", "1.2", "off", "pingap=TRACE,info", "Connection: upgrade", "Upgrade:"]
    + ["localhost:80", "static", "query", "x", "10 %"]
)
PLAIN = WORDS | st.text(max_size=20) | st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6)
KEYS = {section: sorted({*rules, "discovery", "addrs", "key", "is_default"}) for section, rules in RULES.items()}


@given(st.data())
def test_no_value_breaks_it_and_a_second_time_changes_nothing(data: st.DataObject) -> None:
    section = data.draw(st.sampled_from(sorted(RULES)))
    table: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(KEYS[section]), VALUES))
    kind = "plugins" if section.startswith("plugins.") else section
    if kind == "plugins":
        table["category"] = section.partition(".")[2]
    notes = list(take(kind, f"{section}.x", table))
    assert all(note.message and note.path.startswith(f"{section}.x.") for note in notes)
    again = deepcopy(table)
    silent = {note.path for note in take(kind, f"{section}.x", again)} - {note.path for note in notes}
    assert not silent
    assert repr(again) == repr(table)


@given(st.text(alphabet="infodebugwartcpl=,: ", max_size=30))
def test_directives_come_to_the_same_when_they_are_read_again(text: str) -> None:
    try:
        once = parse_levels(text)
    except BadValue:
        return
    assert once and parse_levels(once) == once
