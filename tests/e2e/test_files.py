"""Files that plugins reply: by sendfile on plain connections, as DATA elsewhere; the client cannot tell which it was."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import section
from tests.e2e.harness import Pingap, site
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

SIZE = 50_000_000
PLUGIN = """
from pingap.plugin import FileBody, Plugin, reply

class Files(Plugin):
    def request(self, exchange):
        offset = int(exchange.query_value("from") or 0)
        return reply(200, FileBody("ROOT" + exchange.path, offset), [("content-type", "application/octet-stream")])
"""


class Files:
    """An instance that serves what is in a directory."""

    def __init__(self, placement: str, root: Path) -> None:
        self.root = root
        self.content = random.Random(5).randbytes(SIZE)
        self.digest = hashlib.sha256(self.content).hexdigest()
        (root / "big").write_bytes(self.content)
        (root / "files.py").write_text(PLUGIN.replace("ROOT", str(root)))
        self.tls = free_port()
        more = f"""
[servers.tls]
addr = "127.0.0.1:{self.tls}"
global_certificates = true
enabled_h2 = true
locations = ["all"]
[plugins.files]
category = "python"
path = "{root / "files.py"}"
{section("own", "test.local")}"""
        self.pingap = Pingap(site([1], server="enabled_h2 = true", location='plugins = ["files"]', more=more), placement)

    def copy(self, name: str) -> Path:
        path = self.root / name
        path.write_bytes(self.content)
        return path

    def is_open(self, path: Path) -> bool:
        """In a process of the instance."""
        for pid in self.pingap.processes():
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    if os.readlink(entry) == str(path):
                        return True
                except OSError:
                    pass  # closed meanwhile
        return False

    def read_by_plugins(self) -> int:
        """Bytes so far."""
        lines = Path(f"/proc/{self.pingap.pid('plugins')}/io").read_text().split()
        return int(lines[lines.index("rchar:") + 1])

    def begins(self, target: str) -> socket.socket:
        """A client that has asked and reads nothing yet."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", self.pingap.port))
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        sock.recv(1, socket.MSG_PEEK)
        return sock


@pytest.fixture(scope="module")
def files(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    files = Files(placement, tmp_path_factory.mktemp("files"))
    with files.pingap:
        yield files


def rest_of(sock: socket.socket) -> bytes:
    """The body of all that comes until the end."""
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts).partition(b"\r\n\r\n")[2]


def test_a_big_file_comes_whole_and_plugins_do_not_read_it(files: Files) -> None:
    before = files.read_by_plugins()
    with files.pingap.client() as client:
        for _ in range(2):  # on one connection
            answer = client.get("/big")
            assert (answer.status, answer.get("content-length")) == (200, str(SIZE))
            assert hashlib.sha256(answer.body).hexdigest() == files.digest
        assert client.get("/big?from=49000000").body == files.content[49_000_000:]
        head = client.get("/big", method="HEAD")
        assert (head.get("content-length"), head.body) == (str(SIZE), b"")
    if files.pingap.placement == "split":
        assert files.read_by_plugins() - before < SIZE / 5


@pytest.mark.parametrize("how", ["--http1.1", "--http2"])
def test_over_tls_it_comes_too(files: Files, how: str) -> None:
    needs("curl")
    done = subprocess.run(["curl", "-sSk", how, f"https://127.0.0.1:{files.tls}/big"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, hashlib.sha256(done.stdout).hexdigest()) == (0, files.digest), done.stderr


def test_over_plain_http2_it_comes_too(files: Files) -> None:
    needs("curl")  # not by Upgrade: curl 7.88 fails when its buffer of 32 KiB cannot take all that comes right behind the 101
    url = f"http://127.0.0.1:{files.pingap.port}/big"
    done = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", url], capture_output=True, timeout=60, check=False)
    assert (done.returncode, hashlib.sha256(done.stdout).hexdigest()) == (0, files.digest), done.stderr


def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(files: Files) -> None:
    path = files.copy("left")
    with files.begins("/left"):
        until(lambda: files.is_open(path), 5, "it is sent from the file")
    until(lambda: not files.is_open(path), 5, "the file is closed")


def test_a_file_that_becomes_shorter_is_cut_off(files: Files) -> None:
    path = files.copy("shorter")
    with files.begins("/shorter") as sock:
        os.truncate(path, SIZE // 2)
        body = rest_of(sock)
    assert body == files.content[: len(body)]
    assert len(body) == SIZE // 2
    files.pingap.wait_output("become shorter")


def test_an_answer_goes_on_without_plugins(files: Files) -> None:
    if files.pingap.placement != "split":
        pytest.skip("accept dies with plugins")
    path, plugins = files.copy("alone"), files.pingap.pid("plugins")
    with files.begins("/alone") as sock:
        os.kill(plugins, signal.SIGKILL)
        files.pingap.wait_restarted("plugins", plugins)
        until(lambda: files.is_open(path), 5, "it is sent from the file")
        assert hashlib.sha256(rest_of(sock)).hexdigest() == files.digest
