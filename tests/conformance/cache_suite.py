"""The npm package http-cache-tests (cache-tests.fyi) against any cache: its origin, its client, and its verdicts counted as its site does.

By hand, to see how somebody else fares: `python -m tests.conformance.cache_suite nginx|varnish`; with ids of tests behind it, only those,
with every message shown. `… origin` starts the origin and waits for return; `… PORT` tests what listens there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.peers import lacks, needs
from tests.kit.waiting import free_port, until

VERSION = "0.4.5"
PLACE = Path(__file__).parents[2] / "build" / f"http-cache-tests-{VERSION}"
"""Where it is installed, and stays."""

CLIENT = Path(__file__).with_name("cache_tests.mjs")
AT_ONCE = 60
"""Tests under way at the same time. Most wait 3 s between two requests, and a few hold that less than 2 s pass between two others."""

MOST_AGAIN = 10
"""Failed tests that are run once more; where more fail it is not the machine that is late."""

COUNTS = {"required": 157, "optimal": 86}
"""How many there are, but for those that only browsers can pass."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One test, judged. fault: what was wrong; empty when nothing was. failed_needs: tests it depends on that have failed."""

    id: str
    suite: str
    name: str
    kind: str
    fault: str
    failed_needs: tuple[str, ...]

    @property
    def has_passed(self) -> bool:
        return not self.fault and not self.failed_needs


class Verdicts:
    """All tests of one run, in the order of the suite."""

    def __init__(self, told: Sequence[Mapping[str, object]]) -> None:
        """told: what cache_tests.mjs prints."""
        self._told = {str(one["id"]): one for one in told}
        self.all = [self._judged(one) for one in self._told.values()]

    def _judged(self, one: Mapping[str, object]) -> Verdict:
        failed = tuple(need for need in self._needs(one) if not self._passes(need))
        return Verdict(str(one["id"]), str(one["suite"]), str(one["name"]), str(one["kind"]), str(one["fault"]), failed)

    def _needs(self, one: Mapping[str, object]) -> list[str]:
        needs = one["needs"]
        assert isinstance(needs, list)
        return needs

    def _passes(self, id: str) -> bool:
        """With all it depends on. A test that was not run counts as passed: some were chosen by hand."""
        one = self._told.get(id)
        return one is None or (not one["fault"] and all(map(self._passes, self._needs(one))))

    def passed(self, kind: str) -> int:
        return sum(verdict.kind == kind and verdict.has_passed for verdict in self.all)

    def count(self, kind: str) -> int:
        return sum(verdict.kind == kind for verdict in self.all)

    def misses(self, kind: str) -> list[Verdict]:
        return [verdict for verdict in self.all if verdict.kind == kind and not verdict.has_passed]

    def needed(self) -> set[str]:
        """Ids of the tests that others depend on."""
        return {need for one in self._told.values() for need in self._needs(one)}

    def with_later(self, told: Sequence[Mapping[str, object]]) -> Verdicts:
        """The same with results of a later run in place of what they were."""
        return Verdicts(list((self._told | {str(one["id"]): one for one in told}).values()))

    def table(self) -> str:
        """How many of each kind have passed, and each miss with its reason."""
        lines = [f"{kind:9}{self.passed(kind):4} of {self.count(kind)}" for kind in ("required", "optimal", "check")]
        for kind in ("required", "optimal"):
            lines += [f"{kind}: {miss.id}: {miss.fault or 'depends on ' + ', '.join(miss.failed_needs)}" for miss in self.misses(kind)]
        return "\n".join(lines)


def installed() -> Path:
    """The folder of the package, installed by npm when it is not there yet; skips where that cannot be."""
    needs("node", "nodejs")
    root = PLACE / "node_modules" / "http-cache-tests"
    if not root.is_dir():
        needs("npm", "npm")
        PLACE.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="http-cache-tests-", dir=PLACE.parent))
        (fresh / "package.json").write_text("{}")
        argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", f"http-cache-tests@{VERSION}"]
        try:
            done = subprocess.run(argv, cwd=fresh, capture_output=True, text=True, timeout=90, check=False)
            reason = "" if done.returncode == 0 else (done.stderr or done.stdout)[-500:]
        except subprocess.TimeoutExpired:
            reason = "npm install took too long"
        if reason or root.is_dir():
            shutil.rmtree(fresh)
        else:
            fresh.rename(PLACE)
        if reason and not root.is_dir():
            lacks(f"npm could not install http-cache-tests: {reason}")
    return root


class CacheOrigin:
    """The origin of the tests on a free port. A context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.root = installed()
        self._dir = tempfile.TemporaryDirectory(prefix="pg-origin-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        dir = Path(self._dir.name)
        env = {"npm_config_protocol": "http", "npm_config_port": str(self.port), "npm_config_pidfile": str(dir / "pid")}
        with (dir / "output").open("wb") as output:
            argv = ["node", "--no-warnings", str(self.root / "server" / "server.mjs")]
            self._process = subprocess.Popen(argv, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=dir)
        until(lambda: "Listening" in (dir / "output").read_text(), 10, "the origin of http-cache-tests listens")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._dir.cleanup()

    def judge(self, port: int, ids: Iterable[str] = (), *, shows: bool = False) -> Verdicts:
        """Runs the tests against the cache on a port of loopback, which must pass to this origin.

        ids: only those. shows: each message goes to stderr, too.
        """
        return Verdicts(self._told(port, ids, shows=shows))

    def judge_patiently(self, port: int, known: Container[str]) -> Verdicts:
        """Runs all tests; what fails is run once more, few at a time: on a busy machine the client comes too late for some.

        known: ids of those that fail anyway.
        """
        verdicts = self.judge(port)
        needed = set(COUNTS) | verdicts.needed()
        again = [one.id for one in verdicts.all if one.fault and one.id not in known and not needed.isdisjoint((one.kind, one.id))]
        return verdicts.with_later(self._told(port, again)) if 0 < len(again) <= MOST_AGAIN else verdicts

    def _told(self, port: int, ids: Iterable[str] = (), *, shows: bool = False) -> list[Mapping[str, object]]:
        env = os.environ | {"AT_ONCE": str(AT_ONCE), "DUMP": "1" if shows else "0"}
        argv = ["node", "--no-warnings", str(CLIENT), str(self.root), f"http://127.0.0.1:{port}", *ids]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        *messages, last = done.stdout.splitlines()
        if shows:
            print("\n".join(messages), file=sys.stderr)
        told: list[Mapping[str, object]] = json.loads(last)
        return told


# -- by hand ------------------------------------------------------------------------------------------------

NGINX = """{user} worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; proxy_cache_path {dir}/cache levels=1:2 keys_zone=it:8m max_size=100m inactive=600m; proxy_temp_path {dir}/p;
  client_body_temp_path {dir}/b; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache it; proxy_cache_revalidate on; }}
  }}
}}
"""
"""As the suite's own docker/nginx does it."""


def _peer(name: str, dir: Path, port: int, origin: int) -> list[str]:
    """The command of somebody else's cache."""
    if name == "nginx":
        dir.chmod(0o755)
        user = "user root;" if os.getuid() == 0 else ""
        (dir / "nginx.conf").write_text(NGINX.format(user=user, dir=dir, port=port, origin=origin))
        return ["nginx", "-c", str(dir / "nginx.conf"), "-e", str(dir / "error.log")]
    assert name == "varnish", f"not known here: {name}"
    ports = ["-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}"]
    times = ["-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600"]  # as the suite's own docker/serve.sh
    return ["varnishd", "-F", *ports, *times, "-n", str(dir), "-s", "malloc,64m", "-j", "none"]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _main(name: str, ids: Sequence[str]) -> None:
    with ExitStack() as stack:
        origin = stack.enter_context(CacheOrigin())
        if name == "origin":
            input(f"the origin is on port {origin.port}; return ends it")
            return
        port = int(name) if name.isdigit() else free_port()
        if not name.isdigit():
            dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-peer-"))
            process = subprocess.Popen(_peer(name, Path(dir), port, origin.port), stdin=subprocess.DEVNULL)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            until(lambda: _listens(port), 10, f"{name} listens")
        print(origin.judge(port, ids, shows=bool(ids)).table())


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
