"""Chromium as a client, driven with chromedriver's HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kit.peers import needs
from tests.kit.waiting import free_port, session_members, until

TRUSTING_ALL = "--ignore-certificate-errors"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
    *(TRUSTING_ALL, "--no-proxy-server"),
)


class Browser:
    """One Chromium with one page."""

    def __init__(self, root: Path, home: Path | None = None) -> None:
        """home: of a user in whose NSS database is whom the browser trusts; without one it trusts any certificate."""
        self._port = free_port()
        with open(root / "chromedriver.log", "wb") as log:
            self._driver = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "chromedriver", f"--port={self._port}"],  # not left behind by a test that is killed
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=root,
                start_new_session=True,
                env=os.environ | ({"HOME": str(home)} if home else {}),
            )
        try:
            until(self._listens, 20, "chromedriver listens")
            options = {"args": [*(flag for flag in FLAGS if home is None or flag != TRUSTING_ALL), f"--user-data-dir={root}/profile"]}
            wanted = {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": home is None, "goog:chromeOptions": options}}}
            self._session = f"/session/{self._call('POST', '/session', wanted)['sessionId']}"
            self._call("POST", f"{self._session}/timeouts", {"script": 25_000, "pageLoad": 25_000})
        except BaseException:
            self.kill()
            raise

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=45)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        assert not (isinstance(value, dict) and "error" in value), f"{value['error']}: {value['message'][:500]}"
        return value

    def visit(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *args: Any) -> Any:
        """What an async function with this body returns. `args[0]` … are its arguments."""
        done = "const args = arguments, done = args[args.length - 1];"
        whole = f"{done} (async () => {{ {script} }})().then(done, e => done('failed: ' + e));"
        return self._call("POST", f"{self._session}/execute/async", {"script": whole, "args": list(args)})

    def kill(self) -> None:
        """Ends whatever is left."""
        for pid in session_members(self._driver.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._driver.wait(10)

    def stop(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._call("DELETE", self._session)
        self.kill()


@contextlib.contextmanager
def chromium(root: Path, home: Path | None = None) -> Iterator[Browser]:
    """A browser with its files in `root`. Skips where there is none. home: as of `Browser`."""
    needs("chromium")
    needs("chromedriver")
    made = Browser(root, home)
    try:
        yield made
    finally:
        made.stop()
