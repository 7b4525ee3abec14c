"""`preserve_header_case` where backends are: how a request's names are written, and what is told of an answer's."""

from __future__ import annotations

import pytest

from pingap.config.model import Server
from pingap.stages.messages import UNKNOWN, Data, Interim
from tests.upstream.playbook import OK, Link, Play

KEEPS = {"web": Server(addr=(), preserve_header_case=True)}
BLOCK = b"host: example\r\nx-lower: 1\r\nx-upper: 2\r\nx-added: 3\r\n"
SPELLED = (b"HOST", b"x-lower", b"X-UPPER", b"X-Removed", b"CONTENT-LENGTH")


async def asked(play: Play, **more: object) -> tuple[int, Link]:
    sid = play.asks(**more)  # type: ignore[arg-type]
    await play.turn()
    return sid, play.backend().link


async def heard(play: Play, **more: object) -> bytes:
    """What the backend hears of a request, which it then answers."""
    sid, link = await asked(play, **more)
    request = link.hears()
    link.says(OK)
    assert play.hears_response(sid).spelled == ()
    return request


async def test_a_request_is_written_as_its_client_wrote_it_and_the_rest_as_usual(play: Play) -> None:
    play.serves(preserve_header_case=True)
    request = await heard(play, headers=BLOCK, spelled=SPELLED, method=b"POST", body=b"x-upper: b")
    assert request == (
        b"POST / HTTP/1.1\r\nHOST: example\r\nx-lower: 1\r\nX-UPPER: 2\r\nX-Added: 3\r\nCONTENT-LENGTH: 10\r\n\r\nx-upper: b"
    )


async def test_a_request_without_spellings_is_written_as_usual(play: Play) -> None:
    play.serves(preserve_header_case=True)
    assert (
        await heard(play, headers=BLOCK, version=20) == b"GET / HTTP/1.1\r\nHost: example\r\nX-Lower: 1\r\nX-Upper: 2\r\nX-Added: 3\r\n\r\n"
    )


async def test_where_it_is_off_spellings_are_nothing(play: Play) -> None:
    play.serves(location={"proxy_set_headers": (("X-FOO", "b"),)})
    assert await heard(play, headers=BLOCK, spelled=SPELLED) == b"GET / HTTP/1.1\r\n" + BLOCK + b"x-foo: b\r\n\r\n"


async def test_rules_keep_the_spelling_of_the_configuration(play: Play) -> None:
    rules = {
        "proxy_set_headers": (("X-UPPER", "set"), ("x-Lower", "set"), ("X-API-key", "set"), ("HoSt", "other"), ("X-Gone", "$http_none")),
        "proxy_add_headers": (("x-ADDED", "4"),),
    }
    play.serves(preserve_header_case=True, location=rules)
    assert await heard(play, headers=BLOCK, spelled=(b"x-upper", b"X-LOWER", b"X-Gone")) == (
        b"GET / HTTP/1.1\r\nx-ADDED: 3\r\nHoSt: other\r\nX-UPPER: set\r\nx-Lower: set\r\nX-API-key: set\r\nx-ADDED: 4\r\n\r\n"
    )


async def test_what_pingap_adds_is_written_as_usual(play: Play) -> None:
    play.serves(preserve_header_case=True, location={"enable_reverse_proxy_headers": True})
    request = await heard(play, headers=BLOCK, spelled=SPELLED, upgrade=b"websocket", version=20)
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in request and b"\r\nX-Real-IP: 192.0.2.7\r\n" in request
    assert b"\r\nSec-WebSocket-Key: " in request and b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in request


async def test_trailers_of_a_request_are_written_so_too(play: Play) -> None:
    play.serves(preserve_header_case=True)
    sid = play.uploads(headers=b"host: example\r\n", length=UNKNOWN, spelled=(b"HOST", b"x-SUM"))
    await play.turn()
    play.tell(Data(sid, b"ok", False, "", True))
    play.tell(Data(sid, b"", True, "", True, None, b"x-sum: 1\r\nx-more: 2\r\n"))
    assert play.backend().link.hears() == (
        b"POST / HTTP/1.1\r\nHOST: example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-SUM: 1\r\nX-More: 2\r\n\r\n"
    )
    play.cancels(sid)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("version", "servers", "spelled"), [(11, KEEPS, (b"X-UPPER", b"x-lower", b"Content-Length")), (20, KEEPS, ()), (11, {}, ())]
)
async def test_an_answer_s_names_are_told_to_servers_that_keep_them(
    play: Play, version: int, servers: dict[str, Server], spelled: tuple[bytes, ...], end: bytes
) -> None:
    play.serves(servers=servers)
    sid, link = await asked(play, version=version)
    answer = b"HTTP/1.1 103 Soon\r\nLINK: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-UPPER: 1\r\nx-lower: 2\r\nContent-Length: 2\r\n\r\n"
    link.says(answer.replace(b"\r\n", end) + b"ok")
    response = play.hears_response(sid)
    assert (response.headers, response.spelled) == (b"x-upper: 1\r\nx-lower: 2\r\n", spelled)
    (interim,) = play.interims
    assert isinstance(interim, Interim)
    assert interim.spelled == ((b"LINK",) if spelled else ())
