"""A try that hangs is left to itself: another one begins, and nothing is heard of it any more."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pingap.stages.acme.authority.failures import IssueFailed
from pingap.stages.acme.store.files import FileShelf
from pingap.stages.acme.tries import Tries
from pingap.stages.acme.words import Event, Stepped, TryFailed, TryWasAnothers
from tests.acme.authority.desk import NotingPresenter
from tests.acme.playbook import want
from tests.kit.waiting import until


class HangingAuthority:
    """For the first who comes."""

    def __init__(self) -> None:
        self.asked = 0
        self.goes_on = threading.Event()

    def issue(self, *_: object) -> Any:
        self.asked += 1
        if self.asked == 1:
            self.goes_on.wait(20)
        raise IssueFailed(f"no {self.asked}")


def test_a_try_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    told: list[Event] = []
    authority: Any = HangingAuthority()
    made = Tries(FileShelf(str(tmp_path)), lambda: authority, lambda *_: NotingPresenter(), told.append)
    wanted = want("a")

    try:
        made.begin(wanted, "")
        until(lambda: authority.asked == 1, 5, "it is asked")
        made.leave(wanted.id)

        def is_tried_again() -> bool:
            told.clear()
            made.begin(wanted, "")
            until(lambda: bool(told), 5, "it is told")
            return not isinstance(told[0], TryWasAnothers)

        until(is_tried_again, 5, "its lease is given up")
        assert [str(one.reason) for one in told if isinstance(one, TryFailed)] == ["no 2"]
        told.clear()
    finally:
        authority.goes_on.set()
    until(lambda: not [one for one in threading.enumerate() if one.name == "acme a"], 5, "all have ended")
    assert [one for one in told if not isinstance(one, Stepped)] == []
