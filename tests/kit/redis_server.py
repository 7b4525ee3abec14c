"""A real redis-server that is stopped, killed, made slow and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.peers import needs
from tests.kit.waiting import free_port, until


class RedisServer:
    """One server on loopback, and on a socket of its own. A context manager; skips where there is none."""

    def __init__(self, root: Path, *options: str) -> None:
        """options: of its command line, as `--requirepass x`."""
        self.root, self.port = root, free_port()
        self.socket = root / "redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.password = next((options[at + 1] for at, word in enumerate(options) if word == "--requirepass"), None)

    def __enter__(self) -> RedisServer:
        needs("redis-server", "redis-server")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.root)]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen([*words, "--unixsocket", str(self.socket), *self._options], stdout=log, stderr=log)
        until(self._answers, 10, "redis answers")

    def _answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.ConnectionError, OSError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> Any:
        import redis

        return redis.Redis(unix_socket_path=str(self.socket), password=self.password, decode_responses=True)

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)
