"""A few examples of each target; `python -m tests.fuzz` goes on for longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
@settings(max_examples=150)
def test_whatever_comes_the_answer_is_one_of_those_written_down(name: str, data: st.DataObject) -> None:
    TARGETS[name].check(data.draw(TARGETS[name].drawn))
