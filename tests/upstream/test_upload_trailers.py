"""Trailers of a request must not undo what its head says: some backends take them for header lines (uvicorn with httptools)."""

from __future__ import annotations

import pytest

from pingap.stages.headers import without_names_of
from pingap.stages.itinerary import NO_TRAILERS
from pingap.stages.messages import Data
from tests.upstream.playbook import OK, Play

HEAD = b"host: example\r\nx-user: nobody\r\n"
RULES: dict[str, object] = {"proxy_set_headers": (("x-role", "guest"), ("x-admin", "")), "proxy_add_headers": (("x-hop", "1"),)}


@pytest.mark.parametrize(
    ("trailers", "passed"),
    [
        pytest.param(b"x-sum: 1\r\n", b"x-sum: 1\r\n", id="others pass"),
        pytest.param(b"x-user: root\r\n", b"", id="a line of the head"),
        pytest.param(b"x-role: root\r\n", b"", id="a line that the location sets"),
        pytest.param(b"x-admin: 1\r\n", b"", id="a line that the location removes"),
        pytest.param(b"x-hop: 2\r\n", b"", id="a line that the location adds"),
        pytest.param(b"x-user: a\r\nx-sum: 1\r\nx-role: b\r\nx-sum: 2\r\n", b"x-sum: 1\r\nx-sum: 2\r\n", id="between others"),
        pytest.param(b"x-users: a\r\n", b"x-users: a\r\n", id="a longer name"),
    ],
)
async def test_trailers_of_names_that_the_head_or_the_location_decides_are_dropped(play: Play, trailers: bytes, passed: bytes) -> None:
    play.serves(location=RULES)
    sid = play.uploads(headers=HEAD)
    await play.turn()
    play.hears_credit(sid)
    link = play.backend().link
    play.sends(sid, b"hello")
    play.tell(Data(sid, b"", True, "", True, None, trailers))
    assert link.hears().endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n" % passed)
    link.says(OK)
    play.hears_response(sid)


async def test_none_pass_when_plugins_have_removed_lines_that_they_might_bring_back(play: Play) -> None:
    play.serves()
    sid = play.uploads(headers=HEAD, plan=NO_TRAILERS)
    await play.turn()
    play.hears_credit(sid)
    link = play.backend().link
    play.sends(sid, b"hello")
    play.tell(Data(sid, b"", True, "", True, None, b"x-role: root\r\n"))
    assert link.hears().endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    link.says(OK)
    play.hears_response(sid)


def test_names_are_compared_as_a_whole() -> None:
    assert without_names_of(b"a: 1\r\nab: 2\r\nb: 3\r\n", b"ab: x\r\nc: a: b\r\n") == b"a: 1\r\nb: 3\r\n"
    assert without_names_of(b"", b"a: 1\r\n") == b""
