"""A real etcd on free ports of loopback: plain, with auth, over TLS with certificates of clients, of three members."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.kit.peer_process import PeerProcess
from tests.kit.peers import needs
from tests.kit.waiting import free_port


def need_etcd() -> None:
    """Skips without etcd and its client."""
    needs("etcd", "etcd-server")
    needs("etcdctl", "etcd-client")


class Etcd(PeerProcess):
    """One member, by default a cluster of itself; it skips as `need_etcd` does.

    tls: (authority, certificate, key) files, which clients must have one of, too. cluster: of all members, as etcd takes it.
    """

    program = "etcd"
    patience = 20.0

    def __init__(
        self, root: Path, tls: tuple[Path, Path, Path] | None = None, name: str = "one", peer: int = 0, cluster: str = "", *options: str
    ) -> None:
        self.root = root
        self.port = free_port()
        self.tls = tls
        self.name = name
        self._peer = peer or free_port()
        self._cluster = cluster or f"{name}=http://127.0.0.1:{self._peer}"
        self._options = options
        super().__init__(root / f"{name}.log")

    def need(self) -> None:
        need_etcd()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        scheme = "https" if self.tls else "http"
        clients = f"{scheme}://127.0.0.1:{self.port}"
        peers = f"http://127.0.0.1:{self._peer}"
        words = ["etcd", "--name", self.name, "--data-dir", str(self.root / self.name), "--unsafe-no-fsync", "--log-level", "warn"]
        words += ["--listen-client-urls", clients, "--advertise-client-urls", clients, "--logger", "zap"]
        words += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", self._cluster]
        words += ["--heartbeat-interval", "50", "--election-timeout", "500", *self._options]
        if self.tls:
            authority, certificate, key = map(str, self.tls)
            words += ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", authority, "--client-cert-auth"]
        return words

    def answers(self) -> bool:
        """Healthy."""
        if self.tls:
            return self._ctl("endpoint", "health").returncode == 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return b"true" in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # -- what other clients do --------------------------------------------------------

    def _ctl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        scheme = "https" if self.tls else "http"
        command = ["etcdctl", f"--endpoints={scheme}://{self.endpoint}"]
        if self.tls:
            authority, certificate, key = self.tls
            command += [f"--cacert={authority}", f"--cert={certificate}", f"--key={key}"]
        environment = os.environ | {"ETCDCTL_API": "3"}
        return subprocess.run([*command, *words], input=text, capture_output=True, text=True, timeout=20, check=False, env=environment)

    def ctl(self, *words: str, text: str | None = None) -> str:
        """What `etcdctl` says. text: its stdin, such as the value of `put KEY`."""
        done = self._ctl(*words, text=text)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """By the JSON gateway: for what is done often, as a process takes a while."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", f"/v3/{method}", json.dumps(body))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert "error" not in answer, answer
        return answer

    def put(self, key: str, value: str | bytes) -> int:
        """As somebody writes who knows nothing of us, such as the reference; the revision."""
        answer = self.call("kv/put", {"key": coded(key), "value": coded(value)})
        return int(answer["header"]["revision"])

    def delete(self, key: str) -> None:
        self.call("kv/deleterange", {"key": coded(key)})

    def get(self, key: str) -> str | None:
        kvs = self.call("kv/range", {"key": coded(key)}).get("kvs")
        return None if not kvs else uncoded(kvs[0].get("value", ""))

    def keys(self, prefix: str) -> list[str]:
        return self.ctl("get", "--prefix", "--keys-only", prefix).split()


def coded(value: str | bytes) -> str:
    return b64encode(value.encode() if isinstance(value, str) else value).decode()


def uncoded(value: str) -> str:
    from base64 import b64decode

    return b64decode(value).decode()
