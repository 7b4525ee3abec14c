"""Every configuration under examples/ is one that pingap takes."""

from __future__ import annotations

import json
import runpy
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pingap.config.storage.places import storage_of
from pingap.loading import load
from tests.e2e.certificate import authority, self_signed

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.toml"))


@pytest.fixture(scope="module")
def started_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificates that examples have made beforehand, by the commands that they tell."""
    folder = tmp_path_factory.mktemp("started")
    for name, (cert, key) in {"server": self_signed("localhost"), "clients": authority("Our clients")}.items():
        (folder / f"{name}.pem").write_text(cert)
        (folder / f"{name}.key").write_text(key)
    return folder


@pytest.fixture(autouse=True)
def _in_it(started_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(started_in)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_loads_without_problems(file: Path) -> None:
    assert load(storage_of(file)).servers


def test_there_are_examples() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_no_example_listens_beyond_this_machine(file: Path) -> None:
    hosts = {listen.host for server in load(storage_of(file)).servers.values() for listen in server.addr}
    assert hosts == {"127.0.0.1"}


def test_the_stand_in_backend_takes_what_the_examples_send(capfd: pytest.CaptureFixture[str]) -> None:
    backend = runpy.run_path(str(EXAMPLES / "backend.py"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), backend["Echo"])
    serving = Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    client = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        for method, body in (("POST", b"one"), ("PUT", iter([b"o", b"ne"])), ("GET", None), ("HEAD", None), ("DELETE", None)):
            client.request(method, "/x", body)
            answer = client.getresponse()
            text = answer.read()
            assert answer.status == 200
            if method != "HEAD":
                told = json.loads(text)
                assert (told["method"], told["path"], told.get("body")) == (method, "/x", "one" if body else None)
        assert capfd.readouterr().out == "".join(f"{server.server_port} {method} /x one\n" for method in ("POST", "PUT"))
    finally:
        client.close()
        server.shutdown()
        serving.join()
        server.server_close()
