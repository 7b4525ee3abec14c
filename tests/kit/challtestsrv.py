"""pebble-challtestsrv as a DNS server whose records tests set."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from tests.kit.peers import needs
from tests.kit.waiting import free_port, until


class ChallTestSrv:
    """A context manager: it runs in there, or skips without it. Names without records have the address 127.0.0.1."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self._management = free_port()
        self._log = root / "challtestsrv.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ChallTestSrv:
        needs("pebble-challtestsrv", "pebble")
        words = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{self.port}"]
        words += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{self._management}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(self._answers, 10, "challtestsrv answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, values: list[str]) -> None:
        """The TXT records of a name are these from now on."""
        self._ask("clear-txt", {"host": f"{name}."})
        for value in values:
            self._ask("set-txt", {"host": f"{name}.", "value": value})

    def point(self, name: str, target: str) -> None:
        """A CNAME."""
        self._ask("set-cname", {"host": f"{name}.", "target": f"{target}."})

    def _ask(self, what: str, table: dict[str, str]) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self._management}/{what}", json.dumps(table).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            dns.query.udp(dns.message.make_query("ready.test", "A"), "127.0.0.1", timeout=0.2, port=self.port)
            self._ask("clear-txt", {"host": "ready.test."})
        except (dns.exception.Timeout, OSError):
            return False
        return True
