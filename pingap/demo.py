"""The demo origin of `pingap up` without a configuration: two small HTTP/1.1 backends in one process.

They answer JSON that says which of the two it was and what it was asked, and a page
for browsers at `/`. No more than that: what people try is the proxy in front.
"""

from __future__ import annotations

import asyncio
import functools
import html
import json
import socket
from typing import Any, ClassVar, Final, cast

import httptools

from pingap.bus.actor import Actor, Context

MOST_BODY: Final = 1024 * 1024
"""Bytes of a request body that are echoed; what is longer is counted only."""

_PAGE: Final = """\
<!doctype html>
<meta charset="utf-8">
<title>pingap</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}
code{{background:#8882;padding:.1em .3em;border-radius:.2em}}</style>
<h1>pingap works</h1>
<p>This page came from <b>{backend}</b>, one of two demo backends. Load it again and the other one answers.
<p>What to try next:
<ul>
<li><code>curl -i http://{host}/</code> shows the headers that went through the proxy.
<li><code>pingap ps</code> lists the stages, each a process of its own.
<li><code>pingap tap</code> shows requests as they come, with the time that each stage took.
<li><code>pingap scale upstream=2</code> adds a replica while it runs.
<li>Write a <code>pingap.toml</code>, and start <code>pingap up</code> beside it.
</ul>
"""


class DemoActor(Actor):
    """Serves the listening sockets that the supervisor bound, each as a backend of its own."""

    stage: ClassVar[str] = "demo"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._servers: list[asyncio.Server] = []
        self.requests = 0

    async def start(self) -> None:
        for listener in self.context.settings["listeners"]:
            sock = socket.socket(fileno=listener["fd"])
            factory = functools.partial(Connection, self, listener["server"])
            self._servers.append(await self.context.loop.create_server(factory, sock=sock))
        self.context.ready()

    def figures(self) -> dict[str, float]:
        return {"requests": self.requests}

    async def stop(self) -> None:
        for server in self._servers:
            server.close()


class Connection(asyncio.Protocol):
    """One kept-alive connection from the proxy."""

    def __init__(self, actor: DemoActor, backend: str) -> None:
        self._actor = actor
        self._backend = backend
        self._parser = httptools.HttpRequestParser(self)
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.close()

    # -- called by the parser

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._length += len(body)
        if self._length <= MOST_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._actor.requests += 1
        method = self._parser.get_method().decode()
        kind, body = self._answer(method)
        keep = self._parser.should_keep_alive()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nx-backend: {self._backend}\r\n"
        head += "\r\n" if keep else "connection: close\r\n\r\n"
        self._transport.write(head.encode() + (b"" if method == "HEAD" else body))
        self._clear()
        if not keep:
            self._transport.close()

    def _answer(self, method: str) -> tuple[str, bytes]:
        headers = dict(self._headers)
        if method in ("GET", "HEAD") and self._target == b"/" and b"text/html" in headers.get(b"accept", b""):
            host = html.escape(headers.get(b"host", b"127.0.0.1:6188").decode("latin-1"))
            return "text/html; charset=utf-8", _PAGE.format(backend=self._backend, host=host).encode()
        answer: dict[str, Any] = {
            "backend": self._backend,
            "method": method,
            "target": self._target.decode("latin-1"),
            "headers": _as_object(self._headers),
        }
        if self._length:
            answer["body_bytes"] = self._length
            if self._length <= MOST_BODY:
                answer["body"] = b"".join(self._body).decode("utf-8", "replace")
        return "application/json", json.dumps(answer, indent=2).encode() + b"\n"


def _as_object(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Name → value; those of one name are joined, as RFC 9110 section 5.3 allows."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
