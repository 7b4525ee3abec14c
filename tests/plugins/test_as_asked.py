"""Whole answers of a plugin, as their requests want them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pingap.stages.messages import Response
from pingap.stages.plugins.as_asked import parts_reply
from tests.plugins.script import Stage, bodies
from tests.plugins.test_python_plugins import plugin, section

CODE = """
def request(self, exchange):
    lines = {"etag": '"a"', "last-modified": "Sun, 09 Sep 2001 01:46:40 GMT", "content-type": "text/x", "content-encoding": "x", "x-a": "1"}
    return as_asked(exchange, reply(int(exchange.query or 200), b"0123456789", lines))
"""


@pytest.mark.parametrize(
    ("lines", "status", "body"),
    [
        ([], 200, b"0123456789"),
        (['if-none-match: "a"'], 304, b""),
        (["if-modified-since: Sun, 09 Sep 2001 01:46:40 GMT"], 304, b""),
        (['if-match: "b"'], 412, b"Precondition Failed"),
        (['if-match: "a"', "range: bytes=2-3"], 206, b"23"),
        (["range: bytes=-1"], 206, b"9"),
        (["range: bytes=0-"], 206, b"0123456789"),
        (["range: bytes=10-"], 416, b"Range Not Satisfiable"),
        (["range: bytes=2-3", "range: bytes=4-5"], 200, b"0123456789"),
        (["range: bytes=2-3", 'if-range: "a"'], 206, b"23"),
        (["range: bytes=2-3", 'if-range: "b"'], 200, b"0123456789"),
        (["range: bytes=2-3", "if-range: Sun, 09 Sep 2001 01:46:40 GMT"], 200, b"0123456789"),  # nobody says that this date is strong
        (["range: bytes=2-3", 'if-none-match: "a"'], 304, b""),
        (["x-note: if-none-match: *, range: bytes=1-2"], 200, b"0123456789"),
    ],
)
async def test_a_whole_answer_as_it_is_asked_for(tmp_path: Path, lines: list[str], status: int, body: bytes) -> None:
    async with Stage({"p": section(tmp_path, plugin(CODE))}) as stage:
        out = await stage.run(stage.request(headers="\n".join(lines)))
        head = next(one for one in out if isinstance(one, Response))
        assert (head.status, bodies(out)) == (status, body)
        is_ours = status in (412, 416)
        assert (b"x-a: 1\r\n" in head.headers) is not is_ours and (b'etag: "a"\r\n' in head.headers) is not is_ours
        assert (b"content-encoding: " in head.headers) is (status in (200, 206))
        assert (b"content-range: " in head.headers) is (status in (206, 416))


async def test_what_is_no_200_is_left_alone(tmp_path: Path) -> None:
    async with Stage({"p": section(tmp_path, plugin(CODE))}) as stage:
        out = await stage.run(stage.request(target="/?404", headers='if-none-match: "a"\nrange: bytes=0-1'))
        assert (out[0].status, bodies(out)) == (404, b"0123456789")


def test_several_parts_say_their_type_within() -> None:
    reply = parts_reply(b'content-type: text/x\r\netag: "a"\r\n', b"0123456789", [(8, 10), (0, 1)])
    assert isinstance(reply.body, bytes)
    head, _, boundary = reply.headers.partition(b"content-type: multipart/byteranges; boundary=")
    mark = b"--" + boundary[:-2]
    assert head == b'etag: "a"\r\n' and len(mark) == 34
    assert reply.body.split(mark) == [
        b"",
        b"\r\nContent-Type: text/x\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n",
        b"\r\nContent-Type: text/x\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n",
        b"--\r\n",
    ]
