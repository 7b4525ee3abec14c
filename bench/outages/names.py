"""A real dnsmasq whose records change."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.peer_files import CannotDo
from tests.kit.waiting import free_port, until

TTL = 2
"""Seconds that an answer may be kept."""


class Names:
    """One name and its addresses."""

    def __init__(self, root: Path, name: str, addresses: Sequence[str]) -> None:
        if os.geteuid() != 0 or not shutil.which("dnsmasq"):
            raise CannotDo("dnsmasq and root are needed")
        self.name, self.port = name, free_port()
        self._hosts = root / "hosts"
        self._write(addresses)
        argv = ["dnsmasq", "-k", "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", f"--port={self.port}"]
        argv += [f"--addn-hosts={self._hosts}", f"--local-ttl={TTL}", "--conf-file=/dev/null", "--pid-file=", "--user=root"]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, 5, "dnsmasq listens")

    def set(self, addresses: Sequence[str]) -> None:
        self._write(addresses)
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(5)

    def _write(self, addresses: Sequence[str]) -> None:
        self._hosts.write_text("".join(f"{address} {self.name}\n" for address in addresses))

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False
