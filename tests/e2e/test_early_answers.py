"""An upload over HTTP/2 that is answered before it has ended: real clients get the answer, whatever they make of a reset.

Node, Go and Java's HttpClient were tried by hand: curl is the one that hangs at full CPU when there is no room for the rest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.peers import needs

SIZE = 20_000_000


def early(exchange: Exchange) -> None:
    """Answers without having read more than came with the head."""
    status = exchange.get("x-answer") or "200 OK"
    exchange.reply(b"early", status, "Connection: close\r\n")
    exchange.close()
    while exchange.receive():  # closing with unread bytes would be a reset, which might overtake the answer
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin(early)
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module", params=["h2", "ngh2"])
def proxy(request: pytest.FixtureRequest, origin: Origin) -> Iterator[Pingap]:
    pytest.importorskip(request.param)
    with Pingap(site([origin.port], server=f'enabled_h2 = true\nhttp2_engine = "{request.param}"')) as instance:
        yield instance


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upload") / "big"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.mark.parametrize("how", ["with its length", "without", "slower than the reset"])
@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
def test_curl_gets_an_answer_that_comes_before_its_upload_has_ended(proxy: Pingap, upload: Path, how: str, status: str) -> None:
    needs("curl")
    argv = ["curl", "-s", "--http2-prior-knowledge", "-m", "20", "-w", " %{http_code}", "-H", f"X-Answer: {status}", "-T"]
    argv += ["-" if how == "without" else str(upload), f"http://127.0.0.1:{proxy.port}/up"]
    if how == "slower than the reset":
        argv += ["--limit-rate", "20M"]
    with upload.open("rb") as source:
        done = subprocess.run(argv, stdin=source, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, f"early {status[:3]}"), done.stderr
    assert proxy.get("/", headers={"X-Answer": "200 OK"}).status == 200
