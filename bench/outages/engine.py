"""A real dockerd of its own, and nginx in containers on the host's network."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from bench.peer_files import CannotDo
from tests.kit.waiting import until

IMAGE = "outages-nginx"


class Engine:
    """dockerd in a directory: stopped with all that it runs by `close`."""

    def __init__(self, root: Path) -> None:
        if os.geteuid() != 0 or not shutil.which("dockerd"):
            raise CannotDo("dockerd (docker.io) and root are needed")
        root.mkdir()
        self._root = root
        self.host = f"unix://{root}/docker.sock"
        argv = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
        argv += ["--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "-H", self.host, "--pidfile", f"{root}/pid"]
        with open(root / "log", "wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            until(self._answers, 30, "dockerd answers")
            self._docker("import", "-", IMAGE, data=_image())
        except BaseException:
            self.close()
            raise

    def run(self, name: str, label: str, root: Path, *command: str) -> None:
        """Starts a container that is called and labelled so. root: a directory that it shares."""
        where = ["--network", "host", "--volume", f"{root}:{root}", "--stop-signal", "SIGQUIT"]
        self._docker("run", "--detach", "--name", name, "--label", label, *where, IMAGE, *command)

    def stop(self, name: str) -> None:
        """As a deployment does it: SIGQUIT, and nginx ends what it has under way."""
        self._docker("stop", "--time", "5", name)

    def start(self, name: str) -> None:
        self._docker("start", name)

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            for container in self._docker("ps", "--quiet", "--all").split():
                self._docker("rm", "--force", container)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(f"{self._root}/"):
                subprocess.run(["umount", mounted], check=False)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"dockerd has ended with {self._process.returncode}: it needs root")
        with contextlib.suppress(subprocess.SubprocessError):
            return bool(self._docker("version", "--format", "{{.Server.Version}}"))
        return False

    def _docker(self, *words: str, data: bytes | None = None) -> str:
        done = subprocess.run(["docker", "-H", self.host, *words], input=data, capture_output=True, timeout=60, check=True)
        return done.stdout.decode()


def _image() -> bytes:
    """A tar of nginx and the libraries it is linked with."""
    nginx = "/usr/sbin/nginx"
    libraries = re.findall(r"(/\S+) \(", subprocess.run(["ldd", nginx], capture_output=True, text=True, check=True).stdout)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in [nginx, *libraries, "/etc/passwd", "/etc/group"]:
            tar.add(path)
    return out.getvalue()
