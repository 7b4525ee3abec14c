"""nginx in containers of a real dockerd, on the host's network."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.kit.dockerd import Dockerd

REPOSITORY = "nginx"
TAG = "outages"


class NginxContainers:
    """Runs them by an engine, whose context ends them too."""

    def __init__(self, engine: Dockerd) -> None:
        self._client = engine.client
        self._client.api.import_image_from_data(_image(), repository=REPOSITORY, tag=TAG)

    def run(self, name: str, labels: dict[str, str], root: Path, command: Sequence[str]) -> None:
        """root: a directory that it shares."""
        volumes = {str(root): {"bind": str(root), "mode": "rw"}}
        how = {"name": name, "labels": labels, "volumes": volumes, "network_mode": "host", "stop_signal": "SIGQUIT"}
        self._client.containers.run(f"{REPOSITORY}:{TAG}", list(command), detach=True, **how)

    def stop(self, name: str) -> None:
        """As a deployment does it: SIGQUIT, and nginx ends what it has under way."""
        self._client.containers.get(name).stop(timeout=5)

    def start(self, name: str) -> None:
        self._client.containers.get(name).start()


def _image() -> bytes:
    """A tar of nginx and the libraries it is linked with."""
    nginx = "/usr/sbin/nginx"
    libraries = re.findall(r"(/\S+) \(", subprocess.run(["ldd", nginx], capture_output=True, text=True, check=True).stdout)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in [nginx, *libraries, "/etc/passwd", "/etc/group"]:
            tar.add(path)
    return out.getvalue()
