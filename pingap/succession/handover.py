"""One instance hands over to the next: the side of the one that runs (the other: takeover.py).

It listens on `<run dir>/upgrade`, a SOCK_SEQPACKET socket that only its own user can reach. One JSON object a packet:

    next      take_over {"version"}                  who wants to take over; `pingap up -u` says it
    this one  run_dir {} + descriptors               what holds the run dir
              pid_file {"path"} + descriptor         where there is one
              scaled {"roles"}                       replicas at the start and now, where an operator has changed them
              listeners {"rows"} + descriptors       listening sockets: server, host and port as configured, owner
              all {}                                 that was all; or no {"reason"}
    next      ready {}                               it serves; or failed {"reason"}; or it closes, which is as good
    this one  yours {}                               the run dir is the next one's; this one finishes what it holds

Until `ready` nothing is given up: both accept connections from the same sockets then, and when the next one ends, or takes
too long, this one goes on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pingap import limits
from pingap.flags import CHILD, OVER
from pingap.peers import peer_at
from pingap.polling import WRITABLE, ready
from pingap.service.daemon import back_to

VERSION: Final = 1

DEADLINE: Final = 90.0
"""Seconds from the start of the next instance until it must serve."""

LAST_WORD: Final = 1.0
"""Seconds that one who is turned away has to read why."""

ROOM: Final = 1.0
"""Seconds that it may take for a packet to find room."""

PACKET: Final = 64 * 1024

MOST_ROWS: Final = 200
"""Listening sockets in one packet; the kernel allows 253 descriptors."""

Packet = tuple[dict[str, Any], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Successor:
    """Who serves from now on."""

    pid: int
    child: subprocess.Popen[bytes] | None
    """If it was started by this instance, which so hears of its end."""


class Handover:
    """At most one at a time. `start` begins one; another process that connects by itself begins one, too."""

    def __init__(
        self, path: str, inventory: Callable[[], list[Packet]], handed: Callable[[Successor], None], failed: Callable[[str], None]
    ) -> None:
        """inventory: what there is to hand over; empty when it is too late for that.

        handed: has been called when nothing of it is ours any more. failed: is told why not.
        """
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._inventory = inventory
        self._handed = handed
        self._failed = failed
        self._socket: socket.socket | None = None
        self._listens = False
        """Others are to be able to take over."""
        self._peer: socket.socket | None = None
        self._peer_pid = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._handle = -1
        """The child's pidfd."""
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""
        """What the next one said of its failure."""
        self._turned_away: list[socket.socket] = []

    def listen(self) -> None:
        """From now on others can take over. Raises OSError."""
        self._listens = True
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.bind(self._path)
        self._socket.listen(4)
        self._loop.add_reader(self._socket, self._knocked)

    def restore(self) -> bool:
        """Makes the socket anew if somebody has removed it, and says so. Raises OSError."""
        if not self._listens or (self._socket is not None and os.path.lexists(self._path)):
            return False
        self._stop_listening()
        self.listen()
        return True

    @property
    def is_under_way(self) -> bool:
        return self._child is not None or self._peer is not None

    @property
    def child(self) -> int:
        """Process id of the next instance, while it starts; 0 when there is none, or somebody else has started it."""
        return self._child.pid if self._child is not None else 0

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Starts the next instance, which will connect; its process id. Raises OSError."""
        # A group of its own: a terminal's Ctrl-C is for us, and we pass it on.
        given = {**env, OVER: CHILD}
        self._child = subprocess.Popen(argv, env=given, stdin=subprocess.DEVNULL, process_group=0, cwd=back_to(env))
        try:
            self._handle = os.pidfd_open(self._child.pid)
        except OSError:
            self._child.kill()
            self._child.wait()
            self._child = None
            raise
        self._loop.add_reader(self._handle, self._child_ended)
        self._reason = ""
        self._timer = self._loop.call_later(DEADLINE, self._took_too_long)
        return self._child.pid

    def close(self) -> None:
        """Nobody can take over any more: who stops this instance means the next one, too."""
        self._listens = False
        self._stop_listening()
        for peer in self._turned_away:
            peer.close()
        self._turned_away.clear()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._let_go()

    # -- the next one speaks ------------------------------------------------------------

    def _knocked(self) -> None:
        assert self._socket is not None
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        peer.setblocking(False)
        pid, user = peer_at(peer)
        if user not in (os.getuid(), 0):
            peer.close()
            return
        other = self._peer_pid or (self._child.pid if self._child is not None else pid)
        if other != pid or self._peer is not None:
            _say(peer, {"say": "no", "reason": f"another upgrade is under way, to pid {other}"})
            self._turned_away.append(peer)  # closed with its question unread, it would hear nothing
            self._loop.call_later(LAST_WORD, self._show_out, peer)
            return
        self._peer, self._peer_pid, self._reason = peer, pid, ""
        if self._timer is None:
            self._timer = self._loop.call_later(DEADLINE, self._took_too_long)
        self._loop.add_reader(peer, self._heard)

    def _show_out(self, peer: socket.socket) -> None:
        if peer in self._turned_away:
            self._turned_away.remove(peer)
            peer.close()

    def _heard(self) -> None:
        assert self._peer is not None
        try:
            packet = self._peer.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        said = parsed(packet)
        match said.get("say"):
            case "take_over":
                self._give(said.get("version"))
            case "ready":
                self._hand_over()
            case "failed":
                self._reason = str(said.get("reason"))
            case _:
                self._lost("ended before it was ready")

    def _give(self, version: object) -> None:
        assert self._peer is not None
        inventory = self._inventory()
        if version != VERSION:
            self._reason = f"this pingap hands over by version {VERSION} of the protocol, not {version}"
        elif not inventory:
            self._reason = "it is stopping"
        if self._reason:
            _say(self._peer, {"say": "no", "reason": self._reason})
            return
        for said, descriptors in (*inventory, ({"say": "all"}, ())):
            if not _say(self._peer, said, descriptors):
                self._lost("cannot be handed the sockets")
                return

    def _hand_over(self) -> None:
        assert self._peer is not None
        self._stop_listening()  # the next one wants that name
        if not _say(self._peer, {"say": "yours"}):
            self.listen()
            self._lost("ended as it was ready")
            return
        self._listens = False
        successor, self._child = Successor(self._peer_pid, self._child), None
        self._let_go()
        self._handed(successor)

    # -- it comes to nothing --------------------------------------------------------------

    def _child_ended(self) -> None:
        child, self._child = self._child, None
        self._loop.remove_reader(self._handle)
        status = child.wait() if child is not None else 0
        self._lost(f"ended with status {status}" if status >= 0 else f"was killed by signal {-status}")

    def _took_too_long(self) -> None:
        self._reason = self._reason or f"it was not ready within {DEADLINE:g} s"
        if self._child is not None:
            self._child.kill()  # its end is what comes next
        else:
            self._lost("")

    def _lost(self, what: str) -> None:
        if self._child is not None and self._peer is not None:
            self._part()
            return  # it says no more, and how it ends comes next
        reason = self._reason or what
        self._let_go()
        self._failed(f"the next instance failed to start: {reason}" if self._reason else f"the next instance {reason}")

    def _let_go(self) -> None:
        self._part()
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
        if self._timer is not None:
            self._timer.cancel()
        self._peer_pid, self._handle, self._timer, self._child = 0, -1, None, None

    def _part(self) -> None:
        if self._peer is not None:
            self._loop.remove_reader(self._peer)
            self._peer.close()
            self._peer = None

    def _stop_listening(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            with suppress(OSError):
                os.unlink(self._path)


def _say(peer: socket.socket, said: dict[str, Any], descriptors: Sequence[int] = ()) -> bool:
    """False when the other end is gone, or does not read."""
    ready((peer.fileno(),), ROOM, WRITABLE)  # a packet of hundreds of descriptors takes room, and the other one is reading
    try:
        if descriptors:
            socket.send_fds(peer, [json.dumps(said).encode()], list(descriptors))
        else:
            peer.send(json.dumps(said).encode())
    except OSError:
        return False
    return True


def parsed(packet: bytes) -> dict[str, Any]:
    """What a packet says; {} for nonsense, and for the end."""
    try:
        said = json.loads(packet)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def explained(error: OSError) -> str:
    """Why the next instance cannot be started."""
    return f"the next instance cannot be started: {limits.explained(error)}"
