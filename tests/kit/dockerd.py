"""A real Docker engine on a socket of its own: without bridge and iptables, so that containers have the host's network or none."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.kit.peers import lacks, needs, required
from tests.kit.waiting import until

IMAGE = "busybox:pingap"
PROGRAMS = ("sh", "httpd", "sleep", "test", "touch", "rm")


def need_dockerd() -> None:
    """Skips where no engine can run."""
    needs("dockerd", "docker.io")
    needs("busybox", "busybox-static")
    if os.geteuid() != 0:
        lacks("dockerd needs root")


class Dockerd:
    """An engine with one image, IMAGE. A context manager: it runs in there, or skips as `need_dockerd` does."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.root = Path(tempfile.mkdtemp(prefix="dkr"))  # short: a socket's path has 107 bytes at most
        self.socket = self.root / "sock"
        self.host = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = None
        """docker.DockerClient."""

    def __enter__(self) -> Dockerd:
        try:
            need_dockerd()
            self.start()
            self._import_image()
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Skips when it cannot come up here."""
        words = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs", "--shutdown-timeout=3"]
        words += ["--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec", "--pidfile", f"{self.root}/pid", "-H", self.host]
        words += self._options
        log = self.root / "log"
        with log.open("ab") as file:
            self._process = process = subprocess.Popen(words, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        if self.client is None:
            self.client = required("docker").DockerClient(base_url=self.host, version="1.41", timeout=30)

        def is_up() -> bool:
            with contextlib.suppress(Exception), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))  # the SDK leaves its socket open when that fails
                return bool(self.client.ping())
            return process.poll() is not None

        until(is_up, 30, "dockerd answers", every=0.05)
        if process.poll() is not None:
            lacks(f"dockerd cannot run here: {log.read_text()[-500:]}")

    def stop(self) -> None:
        """With all its containers, as `systemctl stop docker` does it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def run(self, *words: str, labels: dict[str, str] | None = None, **how: Any) -> Any:
        """A container in the host's network, running; how: as containers.run takes it. Its first process dies of SIGTERM at once."""
        how = {"network_mode": "host", "init": False, "stop_signal": "SIGKILL", **how}
        return self.client.containers.run(IMAGE, list(words) or ["sleep", "1000"], labels=labels or {}, detach=True, **how)

    def clear(self) -> None:
        """No container is left."""
        for container in self.client.containers.list(all=True, ignore_removed=True):
            with contextlib.suppress(Exception):
                container.remove(force=True)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.thaw()
            if self._process is not None and self.client is not None:
                self.clear()
        self.stop()
        if self.client is not None:
            self.client.close()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(f"{self.root}/"):
                subprocess.run(["umount", place], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _import_image(self) -> None:
        busybox = shutil.which("busybox")
        assert busybox is not None
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for directory in ("bin", "www", "tmp"):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
                tar.addfile(entry)
            tar.add(os.path.realpath(busybox), "bin/busybox")
            for name in PROGRAMS:
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        repository, _, tag = IMAGE.partition(":")
        self.client.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
        # A busybox that is not linked statically, or a kernel that lets nobody make namespaces.
        try:
            ended = self.run("test", "-d", "/www", remove=False).wait(timeout=30)
        except Exception as error:
            lacks(f"containers cannot run here: {error}")
        if ended["StatusCode"]:
            lacks(f"containers cannot run here: {busybox} in one ended with {ended['StatusCode']} (Debian: busybox-static)")
        self.clear()
