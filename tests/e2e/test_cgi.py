"""Scripts behind small web servers, which pass on what a script prints: lines that end with LF alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

SCRIPT = """#!/bin/sh
echo "Content-Type: text/x-shell"
echo "X-Asked: $REQUEST_METHOD $QUERY_STRING"
echo
echo "hello"
"""


def busybox(port: int, root: Path) -> list[str]:
    return ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", str(root)]


def mini_httpd(port: int, root: Path) -> list[str]:
    return ["mini_httpd", "-D", "-h", "127.0.0.1", "-p", str(port), "-d", str(root), "-c", "cgi-bin/*"]


def python(port: int, root: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "http.server", "--cgi", "--bind", "127.0.0.1", "-d", str(root), str(port)]


SERVERS: dict[str, tuple[str, Callable[[int, Path], list[str]]]] = {
    "busybox": ("busybox", busybox),
    "mini_httpd": ("mini_httpd", mini_httpd),
    "python": (sys.executable, python),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with a script at /cgi-bin/script."""
    program, argv = SERVERS[request.param]
    needs(program)
    if request.param == "python" and sys.version_info >= (3, 15):
        pytest.skip("http.server serves no CGI any more")
    root = tmp_path_factory.mktemp("cgi")
    for directory in [root, *root.parents]:  # root becomes nobody to run a script
        if directory.name.startswith(("cgi", "pytest-", "popen-")):
            directory.chmod(0o755)
    (root / "cgi-bin").mkdir()
    script = root / "cgi-bin" / "script"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    port = free_port()
    process = subprocess.Popen(argv(port, root), cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port), 5, "the server accepts")
        yield port
    finally:
        process.terminate()
        process.wait(5)


def accepts(port: int) -> bool:
    try:
        Client(port, timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def proxy(server: int) -> Iterator[Pingap]:
    with Pingap(site([server]), "colocated") as instance:
        yield instance


def test_what_a_shell_script_prints_is_an_answer(proxy: Pingap) -> None:
    with Client(proxy.port) as client:
        for number in range(5):
            answer = client.get(f"/cgi-bin/script?{number}")
            assert (answer.status, answer.body) == (200, b"hello\n")
            assert answer.get("content-type") == "text/x-shell"
            assert answer.get("x-asked") == f"GET {number}"
