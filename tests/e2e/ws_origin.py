"""A WebSocket backend, made with the `websockets` library."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.kit.waiting import free_port, until


class WsOrigin:
    """A `websockets` server in a thread of its own. The last part of a path says what it does; it records what it saw."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: list[str] = []
        """Paths of all requests."""
        self.closed: dict[str, tuple[int | None, str]] = {}
        """Path → code and reason with which the client closed."""
        self.extensions: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server: Server = self._loop.run_until_complete(self._serve())
        self._started.set()
        self._loop.run_forever()
        self._loop.close()

    async def _serve(self) -> Server:
        def choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            return next((one for one in offered if one == "superchat"), None)

        return await serve(
            self._handle, "127.0.0.1", self.port, process_request=self._asked, select_subprotocol=choose, max_size=None, ping_interval=None
        )

    def _asked(self, connection: ServerConnection, request: Request) -> Response | None:
        self.seen.append(request.path)
        last = request.path.rpartition("/")[2]
        if last.isdigit() and len(last) == 3:
            status = HTTPStatus(int(last))
            body = b"no"
            return Response(status, status.phrase, Headers([("Content-Length", str(len(body)))]), body)
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        self.extensions[path] = len(connection.protocol.extensions)
        kind, _, argument = path.rpartition("/")[2].partition("-")
        try:
            if kind == "closes":
                await connection.close(int(argument), "as asked")
            elif kind == "pings":
                await (await connection.ping(b"are you there"))
                await connection.send("there")
            elif kind == "headers":
                await connection.send(json.dumps(list(connection.request.headers.raw_items())))
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.closed[path] = (connection.close_code, connection.close_reason or "")

    def wait_closed(self, path: str) -> tuple[int | None, str]:
        return until(lambda: self.closed.get(path), 10, f"the origin's side of {path} is closed")

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            await self._server.wait_closed()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(10)
