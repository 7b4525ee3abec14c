"""`directory` beside nginx on the same files, and what needs sockets: long files over TLS and HTTP/2, files that shrink, many clients."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.e2e.certificate import section
from tests.e2e.client import Client, Response
from tests.e2e.harness import Pingap
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

WHEN = 1_000_000_000
DATE, BEFORE, AFTER = "Sun, 09 Sep 2001 01:46:40 GMT", "Sat, 08 Sep 2001 01:46:40 GMT", "Mon, 10 Sep 2001 01:46:40 GMT"
SIZE = 20_000_000
BIG = random.Random(9).randbytes(SIZE)

PINGAP = """
[servers.plain]
addr = "127.0.0.1:{port}"
locations = ["app", "old", "all"]
enabled_h2 = true
[servers.tls]
addr = "127.0.0.1:TLS"
locations = ["all"]
global_certificates = true
enabled_h2 = true
[locations.all]
plugins = ["files"]
[locations.app]
path = "/app"
plugins = ["app"]
[locations.old]
path = "/old"
rewrite = "^/old/(.*)$ /$1"
plugins = ["files"]
[plugins.files]
category = "directory"
path = "ROOT"
precompressed = ["gzip"]
[plugins.app]
category = "directory"
path = "ROOT"
strip_prefix = "/app"
try = ["$path", "$path/", "/index.html"]
"""

NGINX = """{user} worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s; sendfile on; absolute_redirect off; if_modified_since before;
  types {{ text/html html; text/plain txt; text/css css; image/svg+xml svg; text/javascript js; application/json json;
    application/gzip gz; }}
  default_type application/octet-stream;
  server {{ listen 127.0.0.1:{port}; root {root}; index index.html; gzip_static on; gzip_vary on;
    location /app {{ alias {root}; try_files $uri $uri/ /index.html; }} }} }}"""


class Sites:
    """The same files, served by both."""

    def __init__(self, placement: str, folder: Path) -> None:
        root = self.root = folder / "www"
        for name, content in {
            "index.html": b"<p>home",
            "a.txt": bytes(range(256)) * 4,
            "empty.txt": b"",
            "style.css": b"body{}",
            "sub/index.html": b"<p>sub",
            "bare/x.json": b"{}",
            "name with ü.svg": b"<svg/>",
            "script.js": b"plain",
            "script.js.gz": b"coded",
            "big": BIG,
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            os.utime(root / name, (WHEN, WHEN))
        self.tls = free_port()
        text = PINGAP.replace("TLS", str(self.tls)).replace("ROOT", str(root)) + section("own", "test.local")
        self.pingap = Pingap(text, placement)
        self.nginx_port = free_port()
        user = "user root;" if os.getuid() == 0 else ""
        conf = folder / "nginx.conf"
        conf.write_text(NGINX.format(user=user, dir=folder, port=self.nginx_port, root=root))
        self.nginx = subprocess.Popen(["nginx", "-c", conf, "-e", folder / "error.log"])

    def big(self, name: str) -> Path:
        path = self.root / name
        path.write_bytes(BIG)
        return path


@pytest.fixture(scope="module")
def sites(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    needs("nginx")
    sites = Sites(placement, tmp_path_factory.mktemp("directory"))
    try:
        with sites.pingap:
            until(lambda: etag(sites.nginx_port).startswith('"'), 10, "nginx answers")
            until(lambda: etag(sites.pingap.port).startswith('"'), 10, "the files are no more such as were changed just now")
            yield sites
    finally:
        sites.nginx.terminate()
        sites.nginx.wait()


def etag(port: int) -> str:
    try:
        with Client(port) as client:
            return client.get("/a.txt").get("etag") or ""
    except OSError:
        return ""


# Where both do the same. Not in here, for nginx does otherwise: broken ranges (416 there; RFC 9110 section 14.2 has them ignored),
# ranges of coded files (200 there), HEAD with a range (206 there), If-None-Match beside If-Modified-Since (both must fit there),
# dot segments (taken away there), escapes that are not needed (they are the same there).
REQUESTS: list[tuple[str, dict[str, str]]] = [
    *((target, {}) for target in ["/", "/a.txt", "/empty.txt", "/style.css", "/sub/", "/sub", "/sub?x=1", "/bare/x.json", "/script.js.gz"]),
    *((target, {}) for target in ["/nothing", "/a.txt/", "/a.txt/b", "/sub/nothing", "/name%20with%20%C3%BC.svg"]),
    *((target, {}) for target in ["/" + "a" * 255, "/" + "a" * 256, "/%FF", "/a.txt?range=1", "/app/a.txt", "/app/nothing", "/app/sub/"]),
    *(
        ("/a.txt", {"Range": f"bytes={text}"})
        for text in [
            "0-0",
            "0-",
            "-1",
            "5-9",
            "1000-",
            "1000-5000",
            "-5000",
            "0-0,5-9",
            "1-2, 1000-",
            "5-9,0-1,-3",
            "1024-",
            "2000-3000",
            "-0",
        ]
    ),
    *(("/a.txt", {"Range": f"bytes={text}"}) for text in ["-0", "0-0,2000-", "1024-,2000-", "0-,0-", "0-800,100-900"]),
    ("/a.txt", {"Range": "lines=0-1"}),
    ("/empty.txt", {"Range": "bytes=0-"}),
    *(("/a.txt", {"If-Modified-Since": date}) for date in [DATE, BEFORE, AFTER, "junk"]),
    *(("/a.txt", {"If-Unmodified-Since": date}) for date in [DATE, BEFORE, AFTER]),
    *(("/a.txt", {name: tag}) for name in ["If-Match", "If-None-Match"] for tag in ["ETAG", '"no", ETAG', "W/ETAG", "*", '"no"']),
    ("/nothing", {"If-None-Match": "*"}),
    ("/nothing", {"If-Match": "*"}),
    *(("/a.txt", {"Range": "bytes=0-1", "If-Range": value}) for value in ["ETAG", "W/ETAG", '"no"', DATE, BEFORE, AFTER]),
    ("/a.txt", {"Range": "bytes=0-1", "If-Match": '"no"'}),
    ("/a.txt", {"Range": "bytes=0-1", "If-None-Match": "ETAG"}),
    ("/a.txt", {"Range": "bytes=5000-", "If-None-Match": "ETAG"}),
    *(("/script.js", {"Accept-Encoding": coding}) for coding in ["gzip", "br", "gzip;q=0", "deflate, gzip;q=0.5", "identity"]),
    ("/script.js", {}),
]
METHODS = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"]


def seen(answer: Response, port: int, target: str) -> dict[str, Any]:
    """What must be the same."""
    found: dict[str, Any] = {"status": answer.status}
    if answer.status == 301:
        found["location"] = urlsplit(urljoin(f"http://127.0.0.1:{port}{target}", answer.get("location") or "")).path
    if answer.status in (200, 206, 304):
        for name in ("content-length", "content-range", "last-modified", "content-encoding"):
            found[name] = (answer.get(name) or "").lower()
        if target.endswith(".js"):  # nginx says it only where there is a coded file
            found["vary"] = (answer.get("vary") or "").lower()
        mark = (answer.get("content-type") or "").partition("boundary=")[2]
        kind = answer.get("content-type") or ""
        found["content-type"] = kind.partition(";")[0]
        body = answer.body
        if mark:
            body = body.replace(mark.encode(), b"MARK").strip(b"\r\n")
            del found["content-length"]
        found["body"] = body
        if answer.status == 304:
            del found["content-type"]
    if answer.status == 416:
        found["content-range"] = answer.get("content-range")
    return found


@pytest.mark.parametrize("method", METHODS)
def test_nginx_says_the_same(sites: Sites, method: str) -> None:
    requests = REQUESTS if method in ("GET", "HEAD") else [("/a.txt", {})]
    ports = (sites.pingap.port, sites.nginx_port)
    tags = {port: etag(port) for port in ports}
    differences = []
    for target, headers in requests:
        if method == "HEAD" and "Range" in headers:
            continue
        found = []
        for port in ports:
            with Client(port) as client:  # nginx closes after some of these
                own = {name: value.replace("ETAG", tags[port]) for name, value in headers.items()}
                found.append(seen(client.get(target, method, own), port, target))
        ours, theirs = ({key: value for key, value in one.items() if other.get(key) != value} for one, other in (found, found[::-1]))
        if ours or theirs:
            differences.append(f"{method} {target} {headers}: {ours}, nginx {theirs}")
    assert not differences, "\n".join(differences)


def test_tags_are_of_the_bytes_that_are_sent(sites: Sites) -> None:
    with sites.pingap.client() as client:
        plain = client.get("/script.js").get("etag")
        coded = client.get("/script.js", headers={"Accept-Encoding": "gzip"}).get("etag")
        assert plain and coded and plain != coded and not plain.startswith("W/")


def test_a_rewrite_and_a_prefix_lead_to_the_same_files(sites: Sites) -> None:
    with sites.pingap.client() as client:
        assert client.get("/old/style.css").body == b"body{}"
        assert client.get("/old/sub").get("location") == "./sub/"
        assert client.get("/app/some/route").body == b"<p>home"
        assert client.get("/app/sub").get("location") == "./sub/"


@pytest.mark.parametrize("how", ["--http1.1", "--http2"])
@pytest.mark.parametrize("part", ["", "5-15000004"])
def test_a_long_file_comes_whole_over_tls(sites: Sites, how: str, part: str) -> None:
    needs("curl")
    more = ["-r", part] if part else []
    done = subprocess.run(["curl", "-sSk", how, *more, f"https://127.0.0.1:{sites.tls}/big"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(BIG[5:15000005] if part else BIG).digest()


def test_several_long_parts_come_with_their_length(sites: Sites) -> None:
    with sites.pingap.client() as client:
        answer = client.get("/big", headers={"Range": "bytes=0-9999999,12000000-19999999"})
        assert answer.status == 206 and answer.get("transfer-encoding") is None
        mark = (answer.get("content-type") or "").partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in answer.body.split(b"--" + mark)[1:-1]]
        assert parts == [BIG[:10000000], BIG[12000000:]]
        assert client.get("/style.css").body == b"body{}"  # on the same connection: the length was right


@pytest.mark.parametrize("how", ["--http1.1", "--http2"])
def test_a_file_that_shrinks_is_cut_off_over_tls(sites: Sites, how: str) -> None:
    needs("curl")
    path = sites.big(f"shrinks{how}")
    argv = ["curl", "-sSk", how, "--limit-rate", "3M", f"https://127.0.0.1:{sites.tls}/shrinks{how}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        curl.stdout.read(100_000)
        os.truncate(path, 8_000_000)
        curl.communicate(timeout=60)
    assert curl.returncode in (18, 56, 92), curl.returncode  # partial file; receive error; stream error


def test_a_change_is_seen_by_the_next_request_on_every_connection(sites: Sites) -> None:
    path = sites.root / "changes"
    path.write_bytes(b"0")
    with sites.pingap.client() as one, sites.pingap.client() as other:
        for number in range(50):
            path.write_bytes(b"%d" % number)
            assert one.get("/changes").body == other.get("/changes").body == b"%d" % number


def test_what_leads_out_by_a_raw_path_is_not_found(sites: Sites) -> None:
    (sites.root.parent / "secret").write_bytes(b"SECRET")
    for target in (
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/sub/../../secret",
        "//../secret",
        "/..\\secret",
        "/app/../secret",
        "/app../secret",
    ):
        with sites.pingap.client() as client:
            answer = client.get(target)
            assert answer.status in (400, 403, 404) or answer.body == b"<p>home", target
            assert b"SECRET" not in answer.body


def test_h2load_gets_all_that_it_asks_for(sites: Sites) -> None:
    needs("h2load", "nghttp2-client")
    url = f"https://127.0.0.1:{sites.tls}/a.txt"
    done = subprocess.run(["h2load", "-n400", "-c4", "-m10", url], capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"400 succeeded, 0 failed", done.stdout), done.stdout
