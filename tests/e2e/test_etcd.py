"""A pingap whose configuration is in a real etcd: it starts, follows, outlives etcd, and tells nobody the password."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import COMMAND, Pingap, site
from tests.e2e.origins import Origin
from tests.kit.etcd import Etcd
from tests.kit.waiting import free_port, session_members, title, until

PASSWORD = "s3cr3t-of-etcd"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    with Etcd(tmp_path) as server:
        yield server


def fill(etcd: Etcd, port: int, origin: Origin, word: str) -> None:
    """As the reference keeps it: an item a key."""
    sections: dict[str, list[str]] = {}
    for line in site([origin.port], location=f'proxy_set_headers = ["X-Version:{word}"]').replace("{port}", str(port)).splitlines():
        if line.startswith("["):
            lines = sections.setdefault(line.strip("[]"), [])
        lines.append(line)
    for name, lines in sections.items():
        etcd.put(f"/pingap/{name.replace('.', '/')}.toml", "\n".join(lines))


def version(proxy: Pingap, origin: Origin) -> str | None:
    origin.requests.clear()
    assert proxy.get("/version").status == 200
    return origin.requests[-1].get("x-version")


def change(etcd: Etcd, origin: Origin, word: str) -> None:
    etcd.put("/pingap/locations/all.toml", f'[locations.all]\nupstream = "origin"\nproxy_set_headers = ["X-Version:{word}"]\n')


@pytest.mark.alone
def test_it_serves_what_is_in_etcd_follows_it_and_outlives_it(placement: str, etcd: Etcd, origin: Origin) -> None:
    port = free_port()
    fill(etcd, port, origin, "1")
    source = f"etcd://127.0.0.1:{free_port()},{etcd.endpoint}/pingap?user=me&password={PASSWORD}"
    with Pingap(None, placement, up=("-c", source), port=port) as proxy:
        assert version(proxy, origin) == "1"
        change(etcd, origin, "2")
        until(lambda: version(proxy, origin) == "2", 2.5, "the change is in use")  # a quarter of a second on a quiet machine

        etcd.stop()
        proxy.wait_output(r"changes of the configuration cannot be seen.*connection refused.*last in step at", 10)
        assert version(proxy, origin) == "2"
        refused = proxy.command("reload")
        assert refused.returncode == 1
        assert "no etcd answers" in refused.stderr + refused.stdout

        etcd.start()
        proxy.wait_output(r"changes of the configuration are seen again", 15)
        change(etcd, origin, "3")
        until(lambda: version(proxy, origin) == "3", 5, "the change is in use")
        etcd.put("/pingap/locations/all.toml", "[locations.all\n")
        proxy.wait_output(r"configuration refused.*locations/all\.toml:1:15", 5)
        assert version(proxy, origin) == "3"

        assert proxy.process is not None
        told = [title(pid) for pid in session_members(proxy.process.pid)]
        told += [proxy.command(*words).stdout for words in (("ps", "--json"), ("logs", "-n", "1000"))]
        assert PASSWORD not in "\n".join((*told, proxy.output(), refused.stderr))


def test_a_start_without_etcd_ends_with_the_reason() -> None:
    port = free_port()
    proxy = Pingap(None, up=("-c", f"etcd://127.0.0.1:{port}/pingap?user=me&password={PASSWORD}"))
    try:
        assert proxy.launch().wait(20) == 1, "another try may help: 2 would say that the configuration is wrong"
        assert "the configuration is out of reach:" in proxy.output()
        assert f"no etcd answers: 127.0.0.1:{port}: connection refused" in proxy.output()
        assert PASSWORD not in proxy.output()
    finally:
        proxy.discard()


def test_the_password_is_not_in_the_list_of_processes_while_a_command_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"etcd://127.0.0.1:{silent.getsockname()[1]}/pingap?user=me&password={PASSWORD}"
        with subprocess.Popen([COMMAND, "check", "-c", source], stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            silent.settimeout(10)
            connection, _ = silent.accept()
            assert title(process.pid) == "pingap: check"
            connection.close()
            process.kill()


def test_check_reads_etcd(etcd: Etcd, origin: Origin) -> None:
    proxy = Pingap(None)
    try:
        source = f"etcd://{etcd.endpoint}/pingap?user=me&password={PASSWORD}"
        empty = proxy_check(proxy, source)
        assert empty == (2, f"etcd://{etcd.endpoint}/pingap?user=me&password=***: there is no key that begins with /pingap/")
        fill(etcd, free_port(), origin, "1")
        assert proxy_check(proxy, source)[0] == 0
        etcd.put("/pingap/locations/all.toml", '[locations.all]\nupstream = "nowhere"\n')
        code, said = proxy_check(proxy, source)
        assert code == 2
        assert "locations.all.upstream" in said
    finally:
        proxy.discard()


def proxy_check(proxy: Pingap, source: str) -> tuple[int, str]:
    done = subprocess.run(
        [proxy.argv[0], "check", "-c", source], capture_output=True, text=True, timeout=30, env=proxy.env, cwd=proxy.dir, check=False
    )
    said = done.stdout + done.stderr
    assert PASSWORD not in said
    return done.returncode, "\n".join(line.strip() for line in said.splitlines()[1:2])
