"""The request as the backend gets it: written anew, with what is known only now."""

from __future__ import annotations

import pytest

from pingap.stages.messages import UNKNOWN
from tests.upstream.playbook import OK, Play


async def head(play: Play, **request: object) -> bytes:
    """The request's head at the backend."""
    sid = play.asks(**request)  # type: ignore[arg-type]
    await play.turn()
    (link,) = [link for backend in play.backends.values() for link in backend.links if link.connection.exchange is not None]
    said = link.hears()
    link.says(OK)
    assert play.hears_response(sid).status == 200
    return said


async def test_the_request_line_and_the_headers_are_the_routed_ones(play: Play) -> None:
    play.serves()
    assert await head(play, method=b"DELETE", target=b"/a?b=c", headers=b"host: example\r\nx-a: 1\r\nx-a: 2\r\n") == (
        b"DELETE /a?b=c HTTP/1.1\r\nhost: example\r\nx-a: 1\r\nx-a: 2\r\n\r\n"
    )


async def test_a_request_without_a_host_gets_the_backends_address_for_one(play: Play) -> None:
    """HTTP/1.0 may come without; what goes out is 1.1."""
    play.serves()
    assert await head(play, host=b"", headers=b"x: 1\r\n") == b"GET / HTTP/1.1\r\nhost: a:1\r\nx: 1\r\n\r\n"
    assert await head(play, host=b"", headers=b"x: 1\r\nhost: set\r\n") == b"GET / HTTP/1.1\r\nx: 1\r\nhost: set\r\n\r\n"


LATE = {
    "proxy_set_headers": (("x-backend", "$upstream_addr"), ("x-user", ":user"), ("x-location", ":location")),
    "proxy_add_headers": (("x-trace", ":connection_id"),),
}


async def test_headers_whose_values_are_known_only_now_are_filled_in(play: Play) -> None:
    play.serves(location=LATE)
    said = await head(play, headers=b"host: example\r\nx-backend: forged\r\n", variables={"user": "ann"})
    assert said == (b"GET / HTTP/1.1\r\nhost: example\r\nx-backend: a:1\r\nx-user: ann\r\nx-location: site\r\nx-trace: 17\r\n\r\n")


async def test_after_a_retry_they_name_the_backend_that_was_asked(play: Play) -> None:
    play.serves("a:1 b:1", location=LATE)
    for refusing, answering in (("a:1", "b:1"), ("b:1", "a:1")):
        play.backend(refusing).refuses = ConnectionRefusedError("no")
        play.backend(answering).refuses = None
        play.clock.now += 1000
        play._sweep()
        assert b"x-backend: %b\r\n" % answering.encode() in await head(play)


async def test_a_location_that_leaves_requests_alone_has_nothing_to_do(play: Play) -> None:
    play.serves()
    assert not play.actor._current.rules["site"].writes  # type: ignore[union-attr]


async def test_without_the_rules_of_its_location_no_request_leaves(play: Play) -> None:
    """A replica that has just started knows the newest generation only, and there the location may be gone."""
    play.serves()
    sid = play.asks(location="gone", generation=play.generation)
    assert play.hears_response(sid).status == 503
    assert not play.backend().asked
    play.context.logged.clear()


async def test_a_value_cannot_end_its_line(play: Play) -> None:
    play.serves(location=LATE)
    said = await head(play, variables={"user": "ann\r\nx-admin: 1"})
    assert b"x-user: annx-admin: 1\r\n" in said


@pytest.mark.parametrize("body", [b"", b"order"])
async def test_a_whole_body_has_a_length_whatever_was_said_of_it(play: Play, body: bytes) -> None:
    """A stage that hands over a whole body of "unknown" length must not make it the beginning of the next request."""
    play.serves()
    from pingap.stages.messages import Affinity, Peer, Routed

    peer = Peer("192.0.2.7", 5000, "192.0.2.1", 80, "http", 17)
    play.tell(
        Routed(
            (9 << 32) + 1,
            play.generation,
            Affinity(11, 12, 13),
            "web",
            peer,
            b"POST",
            b"/",
            11,
            b"example",
            b"host: example\r\n",
            UNKNOWN,
            body,
            True,
            0.5,
            b"",
            "192.0.2.7",
            "site",
            "api",
            0,
            {},
            (),
            b"",
            (),
        )
    )
    await play.turn()
    assert play.backend().link.hears() == b"POST / HTTP/1.1\r\nhost: example\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    play.backend().link.says(OK)
    assert play.hears_response((9 << 32) + 1).status == 200


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"PROPFIND", b"POST", b"PUT", b"LIST"])
async def test_a_body_of_no_bytes_that_the_client_announced_is_announced_to_the_backend(play: Play, method: bytes) -> None:
    play.serves()
    for is_framed in (True, False):
        play.asks(method, is_framed=is_framed)
        await play.turn()
        link = play.backend().link
        said = link.hears()
        # A method that usually has a body says so in any case (RFC 9110 section 8.6).
        assert said.count(b"content-length: 0\r\n") == (is_framed or method in (b"POST", b"PUT")), said
        link.says(OK)
        await play.turn()
        play.hears()


async def test_a_body_that_has_become_longer_on_its_way_has_one_length(play: Play) -> None:
    play.serves()
    play.asks(b"DELETE", body=b"grown", is_framed=True)
    await play.turn()
    assert play.backend().link.hears() == b"DELETE / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\ngrown"
    play.backend().link.says(OK)
    await play.turn()
    play.hears()
