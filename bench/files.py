"""What a file costs on its way to a client: ms of CPU per GB, of all processes.

    python bench/files.py [DOWNLOADS]

Files of 50 MB, one client: a plugin's by sendfile and as DATA, one of `directory`, and hits of `cache`, in memory
(whose tmpfs costs sendfile half as much again) and on a disk. DATA comes of a file that was
touched after the plugin opened it: accept does not take that one.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import perf_counter

from tests.e2e.harness import Pingap, site

SIZE = 50_000_000
PLUGIN = """
from pingap.plugin import FileBody, Plugin, reply

touched = FileBody("TOUCHED")

class Files(Plugin):
    def request(self, exchange):
        return reply(200, FileBody("FILE") if exchange.path == "/sendfile" else touched)
"""

MORE = """
[plugins.files]
category = "python"
path = "FOLDER/files.py"
[plugins.folder]
category = "directory"
path = "FOLDER"
[plugins.cache]
category = "cache"
directory = "memory://files?max_size=200mb"
max_file_size = "100mb"
[plugins.disk]
category = "cache"
directory = "FOLDER/store?max_size=200mb"
max_file_size = "100mb"
[locations.folder]
path = "/file"
plugins = ["folder"]
upstream = "origin"
[locations.cached]
path = "/cached"
plugins = ["cache"]
upstream = "origin"
[locations.kept]
path = "/kept"
plugins = ["disk"]
upstream = "origin"
"""
LOCATIONS = '["all", "folder", "cached", "kept"]'


class Origin(BaseHTTPRequestHandler):
    """What is cached."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(self.body)))
        self.send_header("cache-control", "max-age=3600")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


def cpu(pids: list[int]) -> float:
    """Seconds that these have used so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def download(port: int, target: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {target} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        room, size = bytearray(1 << 20), 0
        while count := sock.recv_into(room):
            size += count
    assert size > SIZE, size


def main(downloads: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root)
        for name in ("file", "touched"):
            (path / name).write_bytes(os.urandom(SIZE))
        (path / "files.py").write_text(PLUGIN.replace("FILE", str(path / "file")).replace("TOUCHED", str(path / "touched")))
        Origin.body = (path / "file").read_bytes()
        origin = ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        Thread(target=origin.serve_forever, daemon=True).start()
        more = MORE.replace("FOLDER", root)
        for placement in ("split", "colocated"):
            with Pingap(site([origin.server_port], location='plugins = ["files"]', more=more, locations=LOCATIONS), placement) as proxy:
                for target in ("/sendfile", "/file", "/cached", "/kept"):
                    download(proxy.port, target)
                os.utime(path / "touched", (1, 1 + os.stat(path / "touched").st_mtime))
                for target in ("/sendfile", "/data", "/file", "/cached", "/kept"):
                    pids, began = proxy.processes(), perf_counter()
                    before = cpu(pids)
                    for _ in range(downloads):
                        download(proxy.port, target)
                    took, gigabytes = perf_counter() - began, downloads * SIZE / 1e9
                    spent = 1000 * (cpu(pids) - before) / gigabytes
                    print(f"{placement:10} {target[1:]:9} {spent:6.0f} ms CPU per GB  {gigabytes / took:5.2f} GB/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
