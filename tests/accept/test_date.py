"""Date: every final answer has one (RFC 9110 section 6.6.1), and none has two."""

from __future__ import annotations

import pytest

from pingap.stages.date import DateLine
from pingap.stages.messages import UNKNOWN, Interim
from tests.accept.playbook import DATE, Play, get


@pytest.mark.parametrize("status", [200, 204, 304, 404, 502])
async def test_an_answer_without_a_date_gets_one(play: Play, status: int) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), status, headers=b"x-date: soon\r\nx: date: y\r\n")
    assert client.hears_all().count(DATE) == 1


@pytest.mark.parametrize("before", [b"", b"server: x\r\n"], ids=["first line", "second line"])
async def test_the_backends_date_is_kept(play: Play, before: bytes) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), headers=before + b"date: Fri, 02 Jan 1970 00:00:00 GMT\r\n", ended=False, length=UNKNOWN)
    head = client.hears_all()
    assert b"date: Fri, 02 Jan 1970" in head
    assert head.count(b"\r\ndate: ") == 1


async def test_a_refusal_has_one(play: Play) -> None:
    client = play.connects()
    client.says(b"GET / HTTP/1.1\r\n\r\n")
    assert client.hears_all().count(DATE) == 1


async def test_an_interim_answer_has_none(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.tell(Interim(play.hears_request().sid, 103, b"link: </a>\r\n"))
    assert client.hears_all() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


def test_the_line_is_made_once_in_a_second_and_never_late() -> None:
    asked = 0
    seconds = 784111777.25

    def clock() -> float:
        nonlocal asked
        asked += 1
        return seconds

    line = DateLine(clock)
    assert line.at(10.0) == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert line.at(10.7) == line.at(10.0)
    assert asked == 1
    seconds += 0.75  # the next second begins after three quarters of one
    assert line.at(10.75) == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
