"""WebSocket and other upgrades over HTTP/1.1, ws and wss, with the `websockets` client and server and with bare sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from tests.e2e.certificate import section
from tests.e2e.client import TRUSTING, Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.e2e.test_flow import MB, Peak
from tests.e2e.tls_site import HalvesOfTls
from tests.e2e.ws_origin import WsOrigin
from tests.kit.waiting import free_port, until

KERNELS = 64
"""MiB that socket buffers on the way may swallow at most (tcp_rmem and tcp_wmem); the proxy's own memory is watched besides."""

BIG = random.Random(5).randbytes(5 * MB + 13)
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Place:
    """One instance with a plain listener and one with TLS, in front of a WebSocket origin and a bare one."""

    def __init__(self, ws: WsOrigin, raw: Origin) -> None:
        self.ws, self.raw = ws, raw
        self.tls = free_port()

    pingap: Pingap

    def config(self, basic: str = "", remark: str = "") -> str:
        account = base64.b64encode(b"ann:pw").decode()
        names = json.dumps(["all", "basic", "key", "altered", "idle", "raw"])
        log = 'access_log = "{dir}/access.log {path} {status} {size} {payload_size}"'
        more = f"""
[plugins.basic]
category = "basic_auth"
authorizations = ["{account}"]
[plugins.key]
category = "key_auth"
header = "X-Key"
keys = ["sesame"]
hide_credentials = true
[plugins.sub]
category = "sub_filter"
filters = ["sub_filter 'Jack' 'Jill' g"]
[locations.basic]
upstream = "origin"
path = "/basic"
plugins = ["basic"]
[locations.key]
upstream = "origin"
path = "/key"
plugins = ["key"]
[locations.altered]
upstream = "origin"
path = "/altered"
plugins = ["pingap:compression", "sub", "pingap:requestId"]
[locations.idle]
upstream = "idle"
path = "/idle"
[locations.raw]
upstream = "raw"
path = "/raw"
[upstreams.idle]
addrs = ["127.0.0.1:{self.ws.port}"]
read_timeout = "1s"
[upstreams.raw]
addrs = ["127.0.0.1:{self.raw.port}"]
[servers.secure]
addr = "127.0.0.1:{self.tls}"
global_certificates = true
locations = {names}
{log}
{section("a", "a.example")}
"""
        return site([self.ws.port], more=more, locations=names, server=log, basic=basic, location=f'remark = "{remark}"')

    def url(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.pingap.port if scheme == 'ws' else self.tls}{path}"

    def open(self, path: str, scheme: str = "ws", **more: Any) -> connect:
        """The client's end of a WebSocket."""
        if scheme == "wss":
            more |= {"ssl": TRUSTING, "server_hostname": "a.example"}
        return connect(self.url(path, scheme), proxy=None, max_size=None, ping_interval=None, **more)

    def client(self, scheme: str = "ws", **more: Any) -> Client:
        """A bare connection."""
        return Client(self.pingap.port, **more) if scheme == "ws" else Client(self.tls, tls=True, **more)


@pytest.fixture(scope="module")
def ws_origin() -> Iterator[WsOrigin]:
    server = WsOrigin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def place(placement: str, ws_origin: WsOrigin, shared_origin: Origin) -> Iterator[Place]:
    made = Place(ws_origin, shared_origin)
    with Pingap(made.config(), placement) as made.pingap:
        yield made


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def echoes(socket: ClientConnection, message: str | bytes = "still there?") -> bool:
    await socket.send(message)
    return await asyncio.wait_for(socket.recv(), 20) == message


# -- what passes ------------------------------------------------------------------------------


async def test_messages_of_all_kinds_and_sizes_pass_both_ways(place: Place, scheme: str) -> None:
    async with place.open("/echo", scheme) as socket:
        for message in ("hello", "grüße 🙂", "", b"", bytes(range(256)), b"x" * 125, b"x" * 126, b"x" * 65536, "x" * 70_000):
            assert await echoes(socket, message)
        assert place.ws.extensions["/echo"] == 1, "permessage-deflate is agreed on end to end"


async def test_big_messages_pass_byte_for_byte(place: Place, scheme: str) -> None:
    async with place.open("/big", scheme, compression=None) as socket:
        assert await echoes(socket, BIG)
        # A message in many pieces, one of them short, is one message at the other end.
        await socket.send([BIG[at : at + 700_000] for at in range(0, len(BIG), 700_000)])
        assert await asyncio.wait_for(socket.recv(), 20) == BIG


async def test_a_subprotocol_is_chosen_by_the_backend(place: Place, scheme: str) -> None:
    async with place.open("/echo", scheme, subprotocols=["other", "superchat"]) as socket:
        assert socket.subprotocol == "superchat"


async def test_pings_are_answered_by_the_other_end(place: Place, scheme: str) -> None:
    async with place.open("/pings", scheme) as socket:
        assert await asyncio.wait_for(socket.recv(), 10) == "there", "the client has answered the backend's"
        await asyncio.wait_for(await socket.ping(b"and you"), 10)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4321])
async def test_close_codes_pass_in_both_directions(place: Place, scheme: str, code: int) -> None:
    async with place.open(f"/closes-{code}", scheme) as socket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
        assert (socket.close_code, socket.close_reason) == (code, "as asked")
    path = f"/{scheme}/told-{code}"
    async with place.open(path, scheme) as socket:
        await socket.close(code, "bye")
    assert place.ws.wait_closed(path) == (code, "bye")


async def test_the_backend_sees_whom_it_is_asked_for_and_no_hop_of_ours(place: Place) -> None:
    async with place.open("/headers", additional_headers={"X-Mine": "1", "Keep-Alive": "9", "Via": "1.1 other"}) as socket:
        headers = [(name.lower(), value) for name, value in json.loads(await socket.recv())]
    assert ("x-mine", "1") in headers and ("upgrade", "websocket") in headers
    assert [value.lower() for name, value in headers if name == "connection"] == ["upgrade"]
    assert "keep-alive" not in dict(headers)


async def test_two_hundred_sockets_at_once(place: Place, scheme: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sockets = await asyncio.gather(*(stack.enter_async_context(place.open(f"/many/{n}/echo", scheme)) for n in range(200)))
        for turn in range(2):
            answers = await asyncio.gather(*(echoes(socket, f"{turn} of {number}") for number, socket in enumerate(sockets)))
            assert all(answers)


def test_the_log_has_the_switch_and_the_bytes_of_the_tunnel(place: Place, scheme: str) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCHED)
        got = b""
        while len(got) < 1000:
            got += exchange.receive()
        exchange.send(b"y" * 70_001)
        exchange.close()

    path = f"/raw/logged/{scheme}"
    place.raw.on[path] = answer
    with place.client(scheme) as client:
        client.request(path, headers=UPGRADE)
        assert client.head().status == 101
        client.send(b"x" * 1000)
        assert client.exactly(70_001) == b"y" * 70_001
        client.rest()
    log = place.pingap.dir / "access.log"
    until(lambda: f"{path} 101 70001 1000" in log.read_text(), 5, "the tunnel is logged with its bytes")


# -- who is let through -------------------------------------------------------------------------


async def test_request_plugins_refuse_before_there_is_a_tunnel(place: Place, scheme: str) -> None:
    before = len(place.ws.seen)
    wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}
    for path, headers in (("/basic/echo", {}), ("/basic/echo", wrong), ("/key/echo", {}), ("/key/echo", {"X-Key": "simsim"})):
        with pytest.raises(InvalidStatus) as refused:
            async with place.open(path, scheme, additional_headers=headers):
                pass
        assert refused.value.response.status_code == 401
    assert place.ws.seen[before:] == [], "the backend has heard of none of them"
    right = {"Authorization": "Basic " + base64.b64encode(b"ann:pw").decode()}
    for path, headers in (("/basic/echo", right), ("/key/echo", {"X-Key": "sesame"})):
        async with place.open(path, scheme, additional_headers=headers) as socket:
            assert await echoes(socket)


def test_what_follows_a_refused_upgrade_is_an_ordinary_request_with_its_own_refusal(place: Place, scheme: str) -> None:
    before = len(place.ws.seen)
    with place.client(scheme) as client:
        client.request("/key/echo", headers=UPGRADE)
        client.request("/key/echo", headers=UPGRADE)
        assert client.response().status == 401
        assert client.response().status == 401
    assert place.ws.seen[before:] == []


async def test_response_plugins_leave_tunnels_alone(place: Place, scheme: str) -> None:
    async with place.open("/altered/echo", scheme, compression=None) as socket:
        assert socket.response is not None and "content-encoding" not in socket.response.headers
        assert await echoes(socket, "Jack " * 5000)


@pytest.mark.parametrize("status", [200, 403, 404, 503])
async def test_a_backend_may_decline(place: Place, scheme: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with place.open(f"/declined/{status}", scheme):
            pass
    assert refused.value.response.status_code == status
    assert refused.value.response.body == b"no"


def test_after_a_refusal_the_connection_serves_on(place: Place, scheme: str) -> None:
    place.raw.on["/raw/declines"] = lambda exchange: exchange.reply(b"not here", "404 Not Found")
    with place.client(scheme) as client:
        for _ in range(3):
            client.request("/raw/declines", headers=UPGRADE)
            response = client.response()
            assert (response.status, response.body) == (404, b"not here")
        client.request("/raw/other")
        assert client.response().body == b"/raw/other"


@pytest.mark.parametrize("status", [101, 403])
def test_what_the_client_sends_before_the_switch_waits_for_it(place: Place, scheme: str, status: int) -> None:
    early: list[bytes] = []
    after: list[bytes] = []

    def answer(exchange: Exchange) -> None:
        exchange.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            early.append(exchange.receive())
        exchange.sock.settimeout(10)
        if status == 101:
            exchange.send(SWITCHED)
            after.append(exchange.receive())
        else:
            exchange.reply(b"no", "403 Forbidden")
        exchange.close()

    path = f"/raw/early/{scheme}/{status}"
    place.raw.on[path] = answer
    with place.client(scheme) as client:
        head = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode() + b"\x81\x05early\r\n\r\n")
        assert client.head().status == status
        until(lambda: after or status != 101, 5, "the tunnel has what was sent before")
    assert early == [], "nothing came before the switch"
    assert after == ([b"\x81\x05early\r\n\r\n"] if status == 101 else [])
    assert place.raw.strays == []


# -- how tunnels end ------------------------------------------------------------------------------


def test_either_side_may_end_its_half_first(place: Place, scheme: str) -> None:
    told: list[bytes] = []

    def backend_first(exchange: Exchange) -> None:
        exchange.send(SWITCHED + b"last words")
        exchange.sock.shutdown(socket.SHUT_WR)
        while part := exchange.receive():
            told.append(part)
        told.append(b"end")
        exchange.close()

    place.raw.on["/raw/backend-first"] = backend_first
    with place.client(scheme) as client:
        client.request("/raw/backend-first", headers=UPGRADE)
        assert client.head().status == 101
        assert client.rest() == b"last words"
        client.send(b"and mine")
        until(lambda: b"".join(told) == b"and mine", 5, "the other half still works")
    until(lambda: b"".join(told) == b"and mineend", 5, "its end comes too")


def test_the_client_may_end_its_half_first(place: Place, scheme: str) -> None:
    def client_first(exchange: Exchange) -> None:
        exchange.send(SWITCHED)
        got = b""
        while part := exchange.receive():
            got += part
        exchange.send(b"you said: " + got)
        exchange.close()

    place.raw.on["/raw/client-first"] = client_first
    with place.client() if scheme == "ws" else HalvesOfTls(place.tls) as client:
        client.request("/raw/client-first", headers=UPGRADE)
        assert client.head().status == 101
        client.send(b"all I have")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b"you said: all I have"


@pytest.mark.parametrize("size", [27, 300_000])
def test_a_body_is_sent_before_the_switch_as_docker_exec_does(place: Place, scheme: str, size: int) -> None:
    def dockerd(exchange: Exchange) -> None:
        body = exchange.read_body()
        exchange.send(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        typed = b""
        while part := exchange.receive():
            typed += part
        exchange.send(b"%d bytes; you typed: %b" % (len(body), typed))
        exchange.close()

    path = f"/raw/exec/{scheme}/{size}"
    place.raw.on[path] = dockerd
    with place.client() if scheme == "ws" else HalvesOfTls(place.tls) as client:
        client.request(path, "POST", headers={"Connection": "Upgrade", "Upgrade": "tcp"}, body=b"x" * size)
        head = client.head()
        assert (head.status, head.get("Upgrade"), head.get("Content-Type")) == (101, "tcp", "application/x")
        client.send(b"ls\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b"%d bytes; you typed: ls\n" % size


@pytest.mark.parametrize("side", ["client", "backend"])
def test_who_is_gone_is_gone_for_the_other_side_too(place: Place, scheme: str, side: str) -> None:
    gone = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(SWITCHED)
        exchange.receive()
        if side == "client" and exchange.is_gone(10):
            gone.set()
        exchange.close()

    path = f"/raw/gone/{scheme}/{side}"
    place.raw.on[path] = answer
    with place.client(scheme) as client:
        client.request(path, headers=UPGRADE)
        assert client.head().status == 101
        client.send(b"x")
        if side == "backend":
            assert client.rest() == b""
            return
    assert gone.wait(5)


async def test_a_tunnel_in_which_nothing_moves_is_closed_and_a_busy_one_is_not(place: Place, scheme: str) -> None:
    async with place.open("/idle/silent", scheme) as silent, place.open("/idle/busy", scheme) as busy:
        assert await echoes(silent)

        async def keep_busy() -> int:
            for number in range(1000):
                if silent.close_code is not None:
                    return number
                assert await echoes(busy)
                await asyncio.sleep(0.2)
            return 0

        working = asyncio.create_task(keep_busy())
        with pytest.raises(ConnectionClosedError):
            await asyncio.wait_for(silent.recv(), 20)
        assert await working >= 3
        assert await echoes(busy)


# -- what they outlive ------------------------------------------------------------------------------


async def test_it_survives_reloads(place: Place, scheme: str) -> None:
    async with place.open("/echo", scheme) as socket:
        for number in range(2):
            place.pingap.write_config(place.config(remark=f"{scheme} {number}"))
            assert place.pingap.command("reload").returncode == 0
            assert await echoes(socket)


@pytest.mark.parametrize("placement", ["split"], indirect=True)
async def test_it_survives_the_death_of_what_it_no_longer_needs_and_not_of_what_carries_it(place: Place) -> None:
    pingap = place.pingap
    async with place.open("/key/echo", additional_headers={"X-Key": "sesame"}) as one, place.open("/altered/echo", "wss") as two:
        for stage in ("routing", "plugins", "logging", "config"):
            pid = pingap.pid(stage)
            os.kill(pid, signal.SIGKILL)
            pingap.wait_restarted(stage, pid, seconds=15)
            assert await echoes(one) and await echoes(two), stage
        for stage, scheme in (("upstream", "ws"), ("accept", "wss")):
            socket = one if scheme == "ws" else await place.open("/echo", scheme)
            pid = pingap.pid(stage)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ConnectionClosedError):
                await asyncio.wait_for(socket.recv(), 10)
            assert socket.close_code == 1006, "cut, not closed"
            pingap.wait_restarted(stage, pid, seconds=15)
    async with place.open("/echo") as socket:
        assert await echoes(socket)


@pytest.mark.parametrize(("placement", "number"), [("split", signal.SIGQUIT), ("colocated", signal.SIGTERM)], indirect=["placement"])
async def test_a_stop_waits_for_tunnels_up_to_its_deadline(placement: str, ws_origin: WsOrigin, shared_origin: Origin, number: int) -> None:
    made = Place(ws_origin, shared_origin)
    text = made.config(basic='grace_period = "1s"\ngraceful_shutdown_timeout = "1s"')
    with Pingap(text, placement) as made.pingap:
        async with made.open("/echo") as plain, made.open("/echo", "wss") as secure:
            assert await echoes(plain) and await echoes(secure)
            assert made.pingap.process is not None
            made.pingap.process.send_signal(number)
            await asyncio.to_thread(until, lambda: not _listens(made.pingap.port), 10, "nobody new is let in")
            assert await echoes(plain) and await echoes(secure)
            for socket in (plain, secure):
                with pytest.raises(ConnectionClosedError):
                    await asyncio.wait_for(socket.recv(), 15)
        assert made.pingap.wait_stopped() == 0


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# -- memory ---------------------------------------------------------------------------------------------


@pytest.mark.alone  # looks at memory
def test_a_client_that_reads_nothing_stops_the_backend(place: Place, scheme: str) -> None:
    sent = [0]
    done = threading.Event()

    def flood(exchange: Exchange) -> None:
        exchange.send(SWITCHED)
        exchange.sock.settimeout(1)
        try:
            while sent[0] < 100 * MB:
                sent[0] += exchange.sock.send(b"x" * 65536)
        except TimeoutError:
            done.set()
        exchange.close()

    path = f"/raw/flood/{scheme}"
    place.raw.on[path] = flood
    with Peak(place.pingap) as memory, place.client(scheme, receive_buffer=65536) as client:
        client.request(path, headers=UPGRADE)
        assert client.head().status == 101
        assert done.wait(20), f"{sent[0] / MB:.0f} MB were taken"
        assert sent[0] < KERNELS * MB, f"{sent[0] / MB:.1f} MB left the backend although nobody read"
        assert place.pingap.get("/raw/other").status == 200
    assert memory.grown < 16 * MB, f"grew by {memory.grown / MB:.1f} MB"


def test_a_backend_that_reads_nothing_stops_the_client(place: Place, scheme: str) -> None:
    release = threading.Event()

    def deaf(exchange: Exchange) -> None:
        exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        exchange.send(SWITCHED)
        release.wait(30)
        exchange.close()

    path = f"/raw/deaf/{scheme}"
    place.raw.on[path] = deaf
    sent = 0
    with Peak(place.pingap) as memory, place.client(scheme) as client:
        client.request(path, headers=UPGRADE)
        assert client.head().status == 101
        client.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            while sent < 100 * MB:
                sent += client.sock.send(b"x" * 65536)
        assert sent < KERNELS * MB, f"{sent / MB:.1f} MB were taken although nobody read"
        assert place.pingap.get("/raw/other").status == 200
    release.set()
    assert memory.grown < 16 * MB, f"grew by {memory.grown / MB:.1f} MB"


def test_a_slow_reader_gets_everything(place: Place, scheme: str) -> None:
    def pour(exchange: Exchange) -> None:
        exchange.send(SWITCHED)
        exchange.send(BIG)
        exchange.close()

    path = f"/raw/pour/{scheme}"
    place.raw.on[path] = pour
    with place.client(scheme, receive_buffer=16384) as client:
        client.request(path, headers=UPGRADE)
        assert client.head().status == 101
        got = bytearray(client.buffer)
        client.buffer = b""
        with contextlib.suppress(Closed):
            while part := client.sock.recv(3000):
                got += part
    assert bytes(got) == BIG
