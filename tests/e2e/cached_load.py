"""Clients of a cache, in threads: each body that they are given carries its own checksum, so that a wrong or half one is noticed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.e2e.client import Client, Closed, Response
from tests.e2e.origins import Exchange


def sealed(seed: str, size: int) -> bytes:
    """A body of so many bytes, which says of which target it is and what its bytes come to."""
    text = seed.encode() + b"\n"
    content = (text * (size // len(text) + 1))[: size - 65]
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def is_sealed(body: bytes, seed: str) -> bool:
    seal, _, content = body.partition(b"\n")
    return hashlib.sha256(content).hexdigest().encode() == seal and content.startswith(seed.encode() + b"\n")


def slowly(size: int, seconds: float, chunked: bool = False, fields: str = "Cache-Control: max-age=600\r\n") -> Callable[[Exchange], None]:
    """What an origin does that takes so long over a body."""

    def answer(exchange: Exchange) -> None:
        body, pieces = sealed(exchange.target, size), 20
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        exchange.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n{fields}\r\n".encode())
        step = size // pieces + 1
        for at in range(0, size, step):
            piece = body[at : at + step]
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            time.sleep(seconds / pieces)
        if chunked:
            exchange.send(b"0\r\n\r\n")

    return answer


class _Asking(Client):
    """Knows whether an answer has begun."""

    has_head = False

    def head(self, until: float | None = None) -> Response:
        found = super().head(until)
        self.has_head = True
        return found


class CachedLoad:
    """Keep-alive connections that ask for targets again and again. Use as a context manager."""

    def __init__(self, port: int, targets: Sequence[str], clients: int = 12, rounds: int = 0, pause: float = 0.01) -> None:
        """rounds: requests of each client; 0: until `stop`."""
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        """Whole answers whose body is not what the origin made of it."""
        self.cut = 0
        """Answers that broke off, and whose client noticed."""
        self.lost = 0
        """Requests whose connection ended without any answer."""
        self.hung = 0
        self._port, self._targets, self._rounds, self._pause = port, targets, rounds, pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> CachedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"{dict(self.statuses)}, {len(self.wrong)} wrong {self.wrong[:3]}, {self.cut} cut, {self.lost} lost, {self.hung} hung"

    def join(self) -> CachedLoad:
        """Until each has done its rounds."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"a client does not end: {self}"
        return self

    def stop(self) -> CachedLoad:
        self._over.set()
        return self.join()

    @property
    def good(self) -> int:
        return self.statuses[200]

    def _client(self, number: int) -> None:
        done = 0
        while not self._over.is_set() and not (self._rounds and done >= self._rounds):
            try:
                client = _Asking(self._port, timeout=20)
            except OSError:
                time.sleep(0.05)
                continue
            with client:
                while not self._over.is_set() and not (self._rounds and done >= self._rounds):
                    done += 1
                    if not self._ask(client, self._targets[(number + done) % len(self._targets)]):
                        break
                    time.sleep(self._pause)

    def _ask(self, client: _Asking, target: str) -> bool:
        """Whether the connection can be used again."""
        client.has_head = False
        try:
            client.request(target)
            answer = client.response()
        except TimeoutError:
            self.hung += 1
            return False
        except (Closed, OSError):
            if client.has_head or client.buffer:
                self.cut += 1
            else:
                self.lost += 1
            return False
        self.statuses[answer.status] += 1
        if answer.status == 200 and not is_sealed(answer.body, target):
            self.wrong.append(f"{target}: {len(answer.body)} bytes, {answer.body[:80]!r}")
        return "close" not in (answer.get("connection") or "")
