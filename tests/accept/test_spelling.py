"""`preserve_header_case` where clients are: whose names travel with a request, and how an answer's are written."""

from __future__ import annotations

import pytest

from pingap.config.model import Basic, Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.stages.accept.compiled import compile_generation
from pingap.stages.messages import UNKNOWN, Data, Interim
from pingap.stages.steps import finished
from tests.accept.playbook import Play, get

ADDRS = (Backend("127.0.0.1", 1),)


@pytest.mark.parametrize("engine", ["httptools", "h11"])
async def test_the_names_of_a_request_travel_beside_its_block_where_somebody_may_want_them(play: Play, engine: str) -> None:
    client = play.connects(engine, keeps_case=True)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nx-lower: 1\r\nX-UPPER: 2\r\nConnection: keep-alive\r\n\r\n"
    for _ in range(3):
        client.says(head)
        request = play.hears_request()
        assert request.headers == b"host: a\r\nx-lower: 1\r\nx-upper: 2\r\n"
        assert request.spelled == (b"Host", b"x-lower", b"X-UPPER", b"Connection")
        play.answers(request)
    other = play.connects(engine)
    other.says(head)
    assert play.hears_request().spelled == ()


def test_only_servers_that_lead_to_such_an_upstream_collect_them() -> None:
    def spelled(kept: bool, *locations: str) -> set[str]:
        upstreams = {"old": Upstream(addrs=ADDRS, preserve_header_case=kept), "new": Upstream(addrs=ADDRS)}
        made = {name: Location(upstream=name) for name in ("old", "new", "$any", "")}
        servers = {"s": Server(addr=(), locations=locations), "other": Server(addr=(), locations=("new",))}
        snapshot = Snapshot(basic=Basic(), servers=servers, locations=made, upstreams=upstreams)
        return set(finished(compile_generation(snapshot, {})).spelled)

    assert spelled(True, "new", "old") == spelled(True, "$any") == {"s"}
    assert spelled(True, "new", "") == spelled(False, "old", "$any") == set()


async def test_a_reload_turns_it_on_for_a_connection_that_is_open(play: Play) -> None:
    old = Upstream(addrs=ADDRS, preserve_header_case=True)
    play.connects()
    door = play.actor._doors._doors["web"] = play.doors[-1]
    server = Server(addr=(), locations=("l",), preserve_header_case=True)
    client = play.connects(door=door)
    play.commits(2, snapshot=Snapshot(servers={"web": server}, locations={"l": Location(upstream="old")}, upstreams={"old": old}))
    client.says(get(b"/", b"X-UPPER: 1"))
    request = play.hears_request()
    assert b"X-UPPER" in request.spelled
    play.answers(request, headers=b"x-a: 1\r\n")
    assert b"\r\nX-A: 1\r\n" in client.hears()


async def test_an_answer_is_written_as_its_backend_wrote_it_and_the_rest_as_usual(play: Play) -> None:
    client = play.connects(preserve_header_case=True)
    client.says(get())
    headers = b"x-lower: 1\r\nx-upper: 2\r\netag: 3\r\n"
    spelled = (b"x-lower", b"X-UPPER", b"X-Removed", b"CONTENT-length")
    play.answers(play.hears_request(), 200, headers, b"ok", spelled=spelled)
    whole = client.hears_all()
    assert whole.startswith(b"HTTP/1.1 200 OK\r\nx-lower: 1\r\nX-UPPER: 2\r\nETag: 3\r\nDate: ")
    assert whole.endswith(b" GMT\r\nCONTENT-length: 2\r\n\r\nok")


async def test_where_it_is_off_spellings_are_nothing(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), 200, b"x-upper: 2\r\n", b"ok", spelled=(b"X-UPPER",))
    assert client.hears() == b"HTTP/1.1 200 OK\r\nx-upper: 2\r\ncontent-length: 2\r\n\r\nok"


async def test_interim_answers_trailers_and_chunks_are_written_so_too(play: Play) -> None:
    client = play.connects(preserve_header_case=True)
    client.says(get(b"/", b"TE: trailers", b"Connection: te"))
    request = play.hears_request()
    play.tell(Interim(request.sid, 103, b"link: </a>\r\n", b"", (b"LINK",)))
    play.answers(request, 200, b"x-a: 1\r\n", b"ok", length=UNKNOWN, ended=False, spelled=(b"x-A",))
    play.tell(Data(request.sid, b"", True, "", False, None, b"x-sum: 1\r\nx-a: 2\r\n"))
    assert client.hears_all().replace(b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", b"") == (
        b"HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nx-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nx-A: 2\r\n\r\n"
    )


async def test_a_switch_of_protocols_is_written_so_too(play: Play) -> None:
    client = play.connects(preserve_header_case=True)
    client.says(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
    headers = b"sec-websocket-accept: x\r\nx-a: 1\r\n"
    play.answers(play.hears_request(), 101, headers, ended=False, spelled=(b"X-a", b"UPGRADE"))
    assert client.hears() == (
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nX-a: 1\r\nConnection: upgrade\r\nUPGRADE: websocket\r\n\r\n"
    )


async def test_a_refusal_is_written_as_usual(play: Play) -> None:
    client = play.connects(preserve_header_case=True)
    client.says(b"GET / HTTP/1.1\r\n\r\n")
    lines = client.hears_all().partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert {b"Date", b"Content-Type", b"Content-Length", b"Connection"} <= {line.partition(b":")[0] for line in lines}
    assert all(line[:1].isupper() for line in lines)
