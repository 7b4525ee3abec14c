"""A host of its own: a network namespace at the other end of a virtual cable, whose packets can be lost on the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.kit.peers import lacks

NOBODY = "02:00:00:00:00:99"
"""A hardware address that no card has: what is sent there is taken by nobody, and nobody says so."""


class Namespace:
    """`10.201.N.2` as seen from here, which is `10.201.N.1` from there."""

    def __init__(self, number: int) -> None:
        self.name, self._link = f"pg{os.getpid()}-{number}", f"pg{os.getpid() % 100000}v{number}"
        net = f"10.{201 + number}.{os.getpid() // 254 % 254}.{{}}"
        here, self.address = net.format(1), net.format(2)
        self.inside = ["ip", "netns", "exec", self.name]
        peer = f"{self._link}p"
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", peer, "netns", self.name)
        _ip("addr", "add", f"{here}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        for words in (("addr", "add", f"{self.address}/30", "dev", peer), ("link", "set", peer, "up"), ("link", "set", "lo", "up")):
            _ip("-n", self.name, *words)
        self._card = _ip("-n", self.name, "-br", "link", "show", peer).split()[2]

    def lose(self) -> None:
        """Every packet to it is dropped from now on: connects hang, and what is sent on open connections is never acknowledged."""
        self._send_to(NOBODY)

    def find(self) -> None:
        self._send_to(self._card)

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._link)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)

    def _send_to(self, card: str) -> None:
        _ip("neigh", "replace", self.address, "lladdr", card, "dev", self._link, "nud", "permanent")


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10).stdout


@contextlib.contextmanager
def namespace(number: int) -> Iterator[Namespace]:
    """Skips where there can be none, with the reason; root under CI must be able to."""
    reason = "" if os.geteuid() == 0 else "only root makes network namespaces"
    made: Namespace | None = None
    if not reason and shutil.which("ip") is None:
        reason = "ip (iproute2) is not installed"
    if not reason:
        try:
            made = Namespace(number)
        except subprocess.CalledProcessError as error:
            reason = f"no network namespace can be made: {error.stderr.strip()}"
    if made is None:
        if os.geteuid() != 0:
            pytest.skip(reason)  # under CI, too: it may run as a user
        lacks(reason)
    try:
        yield made
    finally:
        made.close()
