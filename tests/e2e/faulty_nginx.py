"""A real nginx as a backend that is killed, stopped, made slow or made to fail, and that knows which requests have reached it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.kit.waiting import free_port, until

SLOW: int = 2
"""Seconds that an answer takes while `slow` is set."""

CONFIG = """{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 8192; }}
http {{
  log_format ids '$arg_id $status'; access_log {root}/requests.log ids;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  keepalive_requests 1000000; keepalive_timeout 600s; default_type text/plain; add_header X-Backend {name} always;
  server {{
    listen {host}:{port} backlog=4096;
    location / {{
      if (-f {root}/fails) {{ return 500 'fails'; }}
      if (-f {root}/closes) {{ return 444; }}
      if (-f {root}/slow) {{ rewrite ^ /late last; }}
      return 200 '$request_uri';
    }}
    location = /health {{
      access_log off;
      if (-f {root}/slow) {{ rewrite ^ /late last; }}
      return 200 'well';
    }}
    # Nobody takes a connection there: each wait ends after {slow} s, and the answer is then made here.
    location = /late {{
      internal; proxy_pass http://127.0.0.1:{nobody}; proxy_connect_timeout {slow}s; proxy_read_timeout {slow}s;
      proxy_intercept_errors on; error_page 502 504 =200 @late;
    }}
    location @late {{ return 200 '$request_uri'; }}
  }}
}}
"""


class FaultyNginx:
    """Answers every path with the target that was asked for, and with its name in X-Backend; `/health` is for health checks.

    Requests carry `id=NUMBER` in their query, by which `ids` tells them.
    """

    def __init__(self, root: Path, name: str, host: str = "127.0.0.1", port: int = 0, inside: Sequence[str] | None = ()) -> None:
        """root: a directory of its own, made here.

        inside: a command that runs another, as `ip netns exec NAME`; None: somebody else runs `command`, as a container does.
        """
        self.root, self.name, self.host, self.port = root, name, host, port or free_port()
        root.mkdir(parents=True)
        for directory in [root, *root.parents]:
            if directory.stat().st_uid == os.getuid() and directory != Path("/tmp"):
                directory.chmod(0o755)
        self._nobody = socket.create_server(("127.0.0.1", 0), backlog=0)
        user = "user root;" if os.getuid() == 0 else ""
        nobody = self._nobody.getsockname()[1]
        self.config = root / "nginx.conf"
        self.config.write_text(CONFIG.format(user=user, root=root, name=name, host=host, port=self.port, slow=SLOW, nobody=nobody))
        self.command = ["nginx", "-c", str(self.config), "-e", str(root / "error.log")]
        self._process: subprocess.Popen[bytes] | None = None
        if inside is not None:
            self.command = [*inside, *self.command]
            self.start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def ids(self) -> list[int]:
        """The numbers of the requests so far, in the order in which they ended here. One that still waits is not among them."""
        log = self.root / "requests.log"
        words = [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
        return [int(word) for word in words if word.isdigit()]

    def is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def start(self) -> None:
        self._process = subprocess.Popen(self.command)
        until(self.is_up, 10, f"nginx {self.name} accepts connections")

    def kill(self) -> None:
        """SIGKILL for all of it: its connections are reset, new ones refused."""
        self._signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Ends it as an operator does: what is under way is answered, idle connections are closed."""
        self._signal(signal.SIGCONT)
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SLOW + 3)
        self.kill()

    def freeze(self) -> None:
        """SIGSTOP: the kernel still takes connections and requests, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def set(self, fault: str, is_so: bool = True) -> None:
        """fault: `slow`, every answer takes 2 s, also those to health checks; `fails`, every answer is a 500 but those; `closes`, it
        reads requests and closes, but for those."""
        if is_so:
            (self.root / fault).touch()
        else:
            (self.root / fault).unlink(missing_ok=True)

    def close(self) -> None:
        self.thaw()
        self.kill()
        self._nobody.close()

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """The master first."""
        if self._process is None or self._process.poll() is not None:
            return []
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(10)
            self._process = None
