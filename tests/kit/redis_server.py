"""A real redis-server that is stopped, killed, made slow and started again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tests.kit.peer_process import PeerProcess
from tests.kit.waiting import free_port


class RedisServer(PeerProcess):
    """One server on loopback, and on a socket of its own."""

    program = "redis-server"
    package = "redis-server"

    def __init__(self, root: Path, *options: str) -> None:
        """options: of its command line, as `--requirepass x`."""
        super().__init__(root / "log")
        self.root, self.port = root, free_port()
        self.socket = root / "redis.sock"
        self._options = options
        self.password = next((options[at + 1] for at, word in enumerate(options) if word == "--requirepass"), None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        words = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.root)]
        return [*words, "--unixsocket", str(self.socket), *self._options]

    def answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.ConnectionError, OSError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> Any:
        import redis

        return redis.Redis(unix_socket_path=str(self.socket), password=self.password, decode_responses=True)

    kill = PeerProcess.stop
