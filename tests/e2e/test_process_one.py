"""pingap as process 1 of a pid namespace, started by the entrypoint of the image: as in a container, without one.

docker/try does the same and more with the image itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.peers import lacks
from tests.kit.waiting import is_alive, title, until

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
HEALTHCHECK = re.compile(r"(?m)^HEALTHCHECK .* CMD (\[.*\])$")

LOG = 'access_log = "combined"'


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    """Skips where none can be made."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        lacks("no pid namespace can be made here: that takes root")


class Contained(Pingap):
    """It has a configuration and a run dir by environment, as the image says them; `process` is unshare, its parent."""

    def __init__(self, config: str, *args: str, env: dict[str, str] | None = None) -> None:
        super().__init__(config, env=env)
        path = os.pathsep.join((str(Path(sys.executable).parent), self.env["PATH"]))
        self.env |= {"PINGAP_CONF": str(self.config), "PINGAP_RUN_DIR": str(self.run_dir), "PATH": path}
        self.argv = [*NAMESPACE, str(ROOT / "docker/entrypoint"), *args]

    @property
    def one(self) -> int:
        """Process 1, by its number out here."""
        assert self.process is not None
        return int(until(lambda: children(self.process.pid), 5, "unshare has forked")[0])  # type: ignore[union-attr]

    def stop(self, number: int = signal.SIGTERM) -> int:
        os.kill(self.one, number)
        return self.wait_stopped()

    def inside(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the namespace, as `docker exec` does."""
        enter = ["nsenter", "--target", str(self.one), "--pid", "--mount"]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=50, env=self.env, cwd=self.dir, check=False)

    def zombies(self) -> list[int]:
        return [pid for pid in children(self.one) if not is_alive(pid)]


def health_check() -> list[str]:
    found = HEALTHCHECK.search((ROOT / "docker/Dockerfile").read_text())
    assert found
    argv: list[str] = json.loads(found[1])
    return argv


def children(pid: int) -> list[int]:
    done = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def contained(shared_origin: Origin) -> Iterator[Contained]:
    with Contained(site([shared_origin.port], server=LOG), env={"PINGAP_AUTORELOAD": "true"}) as instance:
        yield instance


def test_it_is_process_one_and_says_in_its_output_what_it_serves(contained: Contained) -> None:
    assert next(row.pid for row in contained.ps() if row.stage == "supervisor") == 1
    assert contained.get("/hello").status == 200
    contained.wait_output(r'"GET /hello HTTP/1.1" 200')


def test_orphans_of_others_are_buried(contained: Contained) -> None:
    """What `docker exec` and health checks leave behind; many at a time too."""
    end = contained.dir / "end"
    lasting = f"while [ ! -e {end} ]; do sleep 0.1; done"
    done = contained.inside("sh", "-c", f"for i in 1 2 3 4 5 6 7 8 9 10; do ({lasting}) >/dev/null 2>&1 & done")
    assert done.returncode == 0, done.stderr
    until(lambda: len(children(contained.one)) == 11, 5, "process 1 has inherited them, beside the spawner")
    end.touch()
    until(lambda: len(children(contained.one)) == 1, 10, "none but the spawner is left")


def test_its_own_orphans_are_buried_and_replaced(contained: Contained) -> None:
    """Stages outlive their spawner, as children of process 1."""
    assert contained.command("kill", "spawner").returncode == 0
    until(lambda: len(children(contained.one)) > 5, 5, "process 1 has inherited the stages")
    until(lambda: contained.command("ps", "--health").returncode == 0, 5, "there is a spawner again")
    for stage in ("routing", "accept"):
        old = contained.pid(stage)
        assert contained.command("kill", stage).returncode == 0
        contained.wait_restarted(stage, old)
        assert contained.get().status == 200
    until(lambda: not contained.zombies(), 3, "none is left a zombie")


def test_the_health_check_of_the_image_tells_ready_from_not(contained: Contained) -> None:
    check = health_check()
    until(lambda: contained.inside(*check).returncode == 0, 5, "it is healthy")
    contained.inside("kill", "-STOP", str(contained.pid("spawner")))  # for some seconds nobody starts a stage anew
    assert contained.command("kill", "routing").returncode == 0
    assert until(lambda: contained.inside(*check).returncode, 8, "it is not") == 3
    until(lambda: contained.inside(*check).returncode == 0, 15, "it is healthy again")


def test_an_upgrade_leaves_process_one_in_its_place(shared_origin: Origin) -> None:
    """A container ends with its process 1: that stands in for the next instance, buries orphans and passes signals on."""
    with Contained(site([shared_origin.port], server=LOG)) as proxy:
        assert proxy.inside("pingap", "upgrade").returncode == 0
        until(lambda: title(proxy.one) == "pingap: stand-in", 15, "the instance before has gone")
        assert proxy.get().status == 200 and proxy.inside(*health_check()).returncode == 0
        assert proxy.inside("sh", "-c", "for i in 1 2 3; do (sleep 0.2 &); done").returncode == 0
        until(lambda: len(children(proxy.one)) == 1, 10, "none but the next instance is left")
        assert proxy.stop() == 0


def test_an_upgrade_that_fails_says_why_and_changes_nothing(contained: Contained) -> None:
    good = contained.config.read_text()
    contained.config.write_text("nothing = 1")
    try:
        done = contained.command("upgrade", timeout=50)
    finally:
        contained.config.write_text(good)
    assert done.returncode == 1 and "nothing" in done.stderr
    assert contained.get().status == 200 and next(row.pid for row in contained.ps() if row.stage == "supervisor") == 1


def test_a_restart_keeps_process_one(contained: Contained) -> None:
    done = contained.inside("pingap", "restart")
    assert done.returncode == 0 and "ready again" in done.stdout, done
    assert contained.get().status == 200 and next(row.pid for row in contained.ps() if row.stage == "supervisor") == 1


def test_hup_and_usr1_end_nothing(contained: Contained) -> None:
    before = len(contained.output())
    os.kill(contained.one, signal.SIGHUP)
    contained.wait_output("nothing changed", after=before)
    os.kill(contained.one, signal.SIGUSR1)
    assert contained.get().status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_stop_lets_a_request_finish(number: signal.Signals) -> None:
    def late(exchange: Exchange) -> None:
        until(is_asked.exists, 10, "the stop was asked for")
        exchange.reply(b"late")

    origin = Origin(late)
    proxy = Contained(site([origin.port], server=LOG))
    is_asked = proxy.dir / "asked"
    try:
        with proxy, proxy.client() as client:
            client.request("/slow")
            origin.wait("/slow")
            os.kill(proxy.one, number)
            proxy.wait_output("stopping: requests in flight have")
            is_asked.touch()
            assert client.response().body == b"late"
            assert proxy.wait_stopped() == 0
    finally:
        origin.stop()


def test_a_stop_that_comes_while_it_starts_is_heard() -> None:
    proxy = Contained(site([1]))
    process = proxy.launch()
    try:
        one = proxy.one
        until(lambda: catches(one, signal.SIGTERM) or children(one), 10, "Python has come to our code", every=0)
        assert catches(one, signal.SIGTERM), "it has started the spawner, and would not hear TERM yet"
        os.kill(one, signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        proxy.discard()


def catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_arguments_are_pingap_s_unless_they_name_a_program(origin: Origin) -> None:
    done = run(["version"])
    assert done.stdout.startswith("pingap ")
    assert "no problems" in run(["-t", f"--upstream=127.0.0.1:{origin.port}"]).stdout
    assert run(["echo", "as it is"]).stdout == "as it is\n"
    assert run(["pingap", "--version"]).stdout.startswith("pingap ")


def run(args: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    entry = str(ROOT / "docker/entrypoint")
    return subprocess.run([entry, *args], capture_output=True, text=True, timeout=20, env=os.environ | {"PATH": path}, check=False)
