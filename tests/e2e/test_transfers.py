"""Large transfers each way, byte for byte, while no process of the proxy grows with them.

A gibibyte each; PINGAP_TRANSFER names another number of MiB.

The stream is a MiB of random bytes over and over, each time with its number at the front, so that what is lost, repeated
or out of order shows; comparing it with what is expected at that place costs next to nothing.
"""

from __future__ import annotations

import fcntl
import importlib.util
import io
import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

import pytest

from tests.e2e.certificate import section
from tests.e2e.harness import Pingap, site
from tests.e2e.test_flow import MB
from tests.kit.peers import lacks, needs
from tests.kit.waiting import free_port, pss

pytestmark = pytest.mark.alone

SIZE = int(os.environ.get("PINGAP_TRANSFER", "1024"))
"""MiB each way."""

NAMES = ("h1", "tls", "h2", "h2-ngh2")

BOUND = 16
"""How many MiB more than when it was idle a process may use. The windows of a stream are a few hundred KiB."""

BLOCK = random.Random(9).randbytes(MB)
PIPE = 1024 * 1024
HAS_NGH2 = importlib.util.find_spec("ngh2") is not None


def block(number: int) -> bytes:
    return number.to_bytes(8, "big") + BLOCK[8:]


class Stream:
    """Compares pieces of any size with what is due at their place."""

    def __init__(self) -> None:
        self.size = 0
        self.wrong = -1
        """Place of the first piece that is not as it should be."""
        self._block = block(0)

    def feed(self, piece: bytes) -> None:
        at = 0
        while at < len(piece):
            offset = self.size % MB
            if not offset:
                self._block = block(self.size // MB)
            size = min(len(piece) - at, MB - offset)
            if piece[at : at + size] != self._block[offset : offset + size] and self.wrong < 0:
                self.wrong = self.size
            self.size += size
            at += size

    def __str__(self) -> str:
        return f"{self.size} bytes" if self.wrong < 0 else f"{self.size} bytes, wrong in the piece at {self.wrong}"


class Source:
    """GET /N: N MiB of the stream. POST: what came of it, in words."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, cast(io.BufferedReader, sock.makefile("rb", MB)) as file, suppress(OSError):
            while line := file.readline():
                method, target, _ = line.split()
                length = None
                while (field := file.readline().lower()) not in (b"\r\n", b""):
                    name, _, value = field.partition(b":")
                    if name == b"content-length":
                        length = int(value)
                if method == b"GET":
                    count = int(target[1:] or 0)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * MB))
                    for number in range(count):
                        sock.sendall(block(number))
                    continue
                stream = Stream()
                if length is not None:
                    while stream.size < length and (piece := file.read1(min(MB, length - stream.size))):
                        stream.feed(piece)
                else:
                    while size := int(file.readline() or b"0", 16):
                        stream.feed(file.read(size))
                        file.read(2)
                    file.readline()
                said = str(stream).encode()
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


class Peaks:
    """The most memory that each process used while the block ran, over what it used before."""

    def __init__(self, proxy: Pingap) -> None:
        self._before = {pid: pss([pid]) for pid in proxy.processes()}
        self._names = {row.pid: row.name for row in proxy.ps()}
        self._peaks = dict(self._before)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            for pid in self._peaks:
                self._peaks[pid] = max(self._peaks[pid], pss([pid]))

    @property
    def grown(self) -> dict[str, float]:
        """MiB by process; those that grew by less than one are left out."""
        grown = {self._names.get(pid, str(pid)): (peak - self._before[pid]) / MB for pid, peak in self._peaks.items()}
        return {name: round(size, 1) for name, size in grown.items() if size >= 1}


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    needs("curl")
    made = Source()
    yield made
    made.stop()


class Way:
    """How a transfer goes: which server, which arguments of curl."""

    def __init__(self, port: int, *args: str, scheme: str = "https") -> None:
        self.args, self.url = args, f"{scheme}://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def ways(placement: str, source: Source) -> Iterator[tuple[Pingap, dict[str, Way]]]:
    tls, h2, fast = (free_port() for _ in range(3))
    secure = 'locations = ["all"]\nglobal_certificates = true\n'
    more = f"""
[servers.tls]
addr = "127.0.0.1:{tls}"
{secure}
[servers.h2]
addr = "127.0.0.1:{h2}"
enabled_h2 = true
{secure}
{section("a", "a.example")}
"""
    if HAS_NGH2:
        more += f'[servers.fast]\naddr = "127.0.0.1:{fast}"\nenabled_h2 = true\nhttp2_engine = "ngh2"\n{secure}'
    with Pingap(site([source.port], more=more), placement) as proxy:
        made = {
            "h1": Way(proxy.port, scheme="http"),
            "tls": Way(tls),
            "h2": Way(h2, "--http2"),
            "h2-ngh2": Way(fast, "--http2"),
        }
        for way in list(made.values())[: 3 + HAS_NGH2]:
            download(way, 8)  # buffers that stay are no growth
            upload(way, 8)
        yield proxy, made


def curl(way: Way, *args: str) -> subprocess.Popen[bytes]:
    argv = ["curl", "-sS", "-k", "--no-buffer", *way.args, *args]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def download(way: Way, mebibytes: int) -> str:
    stream = Stream()
    with curl(way, f"{way.url}/{mebibytes}") as process:
        assert process.stdout is not None and process.stderr is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE)
        while piece := process.stdout.read(PIPE):
            stream.feed(piece)
        said = process.stderr.read().decode()
    assert process.returncode == 0, said
    return str(stream)


def upload(way: Way, mebibytes: int) -> str:
    with curl(way, "-T", "-", "-X", "POST", f"{way.url}/up") as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE)
        with suppress(BrokenPipeError):
            for number in range(mebibytes):
                rest = memoryview(block(number))
                while rest:
                    rest = rest[process.stdin.write(rest) :]
        process.stdin.close()
        answer, said = process.stdout.read().decode(), process.stderr.read().decode()
    assert process.returncode == 0, said
    return answer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("transfer", [download, upload], ids=["down", "up"])
def test_a_large_transfer_is_exact_and_costs_no_memory(
    ways: tuple[Pingap, dict[str, Way]], name: str, transfer: Callable[[Way, int], str]
) -> None:
    proxy, made = ways
    if name == "h2-ngh2" and not HAS_NGH2:
        lacks("ngh2 is not installed", "pyproject.toml, fast")
    with Peaks(proxy) as memory:
        result = transfer(made[name], SIZE)
    assert result == f"{SIZE * MB} bytes"
    assert all(grown < BOUND for grown in memory.grown.values()), f"MiB by process: {memory.grown}"
