"""What a plugin's file costs on its way to a client: ms of CPU per GB, of all processes, by sendfile and as DATA.

    python bench/files.py [DOWNLOADS]

Files of 50 MB, one client. DATA comes of a file that was touched after the plugin opened it: accept does not take that one.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
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
        more = f'[plugins.files]\ncategory = "python"\npath = "{path / "files.py"}"'
        for placement in ("split", "colocated"):
            with Pingap(site([1], location='plugins = ["files"]', more=more), placement) as proxy:
                download(proxy.port, "/sendfile")
                os.utime(path / "touched", (1, 1 + os.stat(path / "touched").st_mtime))
                for target in ("/sendfile", "/data"):
                    pids, began = proxy.processes(), perf_counter()
                    before = cpu(pids)
                    for _ in range(downloads):
                        download(proxy.port, target)
                    took, gigabytes = perf_counter() - began, downloads * SIZE / 1e9
                    spent = 1000 * (cpu(pids) - before) / gigabytes
                    print(f"{placement:10} {target[1:]:9} {spent:6.0f} ms CPU per GB  {gigabytes / took:5.2f} GB/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
