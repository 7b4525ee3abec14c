"""Reload after reload under load: answers are of one configuration each, and nothing grows. bench/reload_storm.py is the long one."""

from __future__ import annotations

import pytest

from bench import reload_storm

pytestmark = pytest.mark.alone


def test_a_storm_of_reloads_mixes_no_answer_and_takes_no_memory(placement: str) -> None:
    storm = reload_storm.run(reloads=60, warm_up=60, locations=50, placement=placement)
    assert storm.reloads == 120 and storm.refused == 17
    assert storm.answers > 200
    assert (storm.mixed, dict(storm.failed)) == ([], {}), storm.table()
    before, after = (sum(size.memory for size in sizes.values()) for sizes in (storm.before, storm.after))
    assert after < before * 1.05, storm.table()
    assert all(growth < 0.1 for growth in storm.growth.values()), storm.table()
    assert all(more <= 2 for more in storm.leaks.values()), storm.table()
