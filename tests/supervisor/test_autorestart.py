"""When an instance upgrades itself."""

from __future__ import annotations

from pingap.succession.autorestart import Autorestart


def test_it_waits_until_nothing_has_changed_for_the_interval() -> None:
    one = Autorestart(90)
    one.told(("servers.web.addr",), 0)
    assert one.due(89) == ()
    one.told(("servers.web.addr", "basic.threads"), 89)
    assert one.due(178) == ()
    one.told(("servers.web.addr", "basic.threads"), 178)
    assert one.due(179) == ("servers.web.addr", "basic.threads")


def test_what_was_tried_is_not_tried_again_until_it_changes() -> None:
    one = Autorestart(1)
    one.told(("servers.web.addr",), 0)
    assert one.due(1) and not one.due(2)
    one.told(("servers.web.addr",), 3)
    assert not one.due(10)
    one.told((), 10)
    one.told(("servers.web.addr",), 11)
    assert one.due(12)


def test_a_change_that_is_taken_back_is_forgotten() -> None:
    one = Autorestart(1)
    one.told(("basic.threads",), 0)
    one.told((), 0.5)
    assert one.due(5) == ()
