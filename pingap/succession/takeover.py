"""One instance takes over from another: the side of the newcomer (the packets: handover.py)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.parts import Listen
from pingap.instance_dir import start_time
from pingap.listeners import Inherited
from pingap.peers import peer_at
from pingap.polling import ready
from pingap.rundir import UPGRADE
from pingap.succession.handover import MOST_ROWS, PACKET, VERSION, parsed

ANSWER: Final = 10.0
"""Seconds within which what is handed over must have come."""


LAST_BREATH: Final = 0.2
"""Seconds between the end of a killed process's socket and of the process itself."""


class TakeoverFailed(Exception):
    """The instance that runs does not hand over; the text says why."""


@dataclass(slots=True)
class Estate:
    """What was handed over."""

    run_dir: list[int] = field(default_factory=list)
    """Descriptors for RunDir."""
    pid_file: tuple[str, int] | None = None
    """Path and locked descriptor."""
    listeners: list[Inherited] = field(default_factory=list)
    scaled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By role, replicas that it was started with and that it has."""

    def pid_file_at(self, path: str) -> int | None:
        """The locked descriptor, if that is the file."""
        return self.pid_file[1] if self.pid_file is not None and self.pid_file[0] == os.path.abspath(path) else None


class Predecessor:
    """The instance that runs in a run dir, on the point of being replaced by this process."""

    def __init__(self, run_dir: str) -> None:
        """Asks for all that it has. Raises FileNotFoundError and ConnectionRefusedError when nobody is there, TakeoverFailed."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER)
        self.estate = Estate()
        self._handle = -1
        """Of the other one's process."""
        path = os.path.abspath(run_dir)
        try:
            self._socket.connect(os.path.join(path, UPGRADE))
            self.pid, user = peer_at(self._socket)
            if user != os.getuid() and (os.getuid() != 0 or user != os.lstat(path).st_uid):
                raise TakeoverFailed(f"whoever waits in the run dir {path} is another user's process (user id {user})")
            with suppress(OSError):
                self._handle = os.pidfd_open(self.pid)
            self._say({"say": "take_over", "version": VERSION})
            while self._take():
                pass
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError | ValueError | LookupError | TypeError):
                raise TakeoverFailed(f"the running pingap hands over what is not understood: {error!r}") from error
            raise

    def close(self) -> None:
        """Lets go of the other one."""
        self._socket.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self) -> bool:
        """One packet of what is handed over; False after the last."""
        if not ready((self._socket.fileno(),), ANSWER):
            raise TakeoverFailed(f"the running pingap (pid {self.pid}) did not hand over within {ANSWER:g} s")
        packet, descriptors, _, _ = socket.recv_fds(self._socket, PACKET, MOST_ROWS)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not packet:
            raise TakeoverFailed(f"the running pingap (pid {self.pid}) ended while it handed over")
        said: dict[str, Any] = json.loads(packet)
        match said["say"]:
            case "run_dir":
                self.estate.run_dir = descriptors
            case "pid_file":
                self.estate.pid_file = (said["path"], descriptors[0])
            case "scaled":
                self.estate.scaled = {name: (int(then), int(now)) for name, (then, now) in said["roles"].items()}
            case "listeners":
                for row, descriptor in zip(said["rows"], descriptors, strict=True):
                    owner = (row["owner"][0], row["owner"][1]) if row["owner"] else None
                    sock = socket.socket(fileno=descriptor)
                    self.estate.listeners.append(Inherited(Listen(row["host"], row["port"]), row["server"], owner, sock))
            case "no":
                raise TakeoverFailed(f"the running pingap (pid {self.pid}) does not hand over: {said['reason']}")
        return bool(said["say"] != "all")

    def failed(self, reason: str) -> None:
        """This process will not serve: the other one goes on."""
        self._say({"say": "failed", "reason": reason})
        self.close()

    def relieve(self, relieved: Callable[[], None], kept: Callable[[], None]) -> None:
        """This process serves. `relieved` is called when all is its own, as it is, too, when the other one has died.

        `kept`: the other one has given this one up, and goes on.
        """

        def heard() -> None:
            packet = b""
            with suppress(OSError):
                packet = self._socket.recv(PACKET)
            loop.remove_reader(self._socket)
            is_ours = parsed(packet).get("say") == "yours" or self._is_dead()
            self.close()
            (relieved if is_ours else kept)()

        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, heard)
        self._say({"say": "ready"})

    def _is_dead(self) -> bool:
        """It may have been killed: then what we hold is ours. One that lives has given us up."""
        return bool(ready((self._handle,), LAST_BREATH)) if self._handle >= 0 else not start_time(self.pid)

    def _say(self, said: dict[str, Any]) -> None:
        with suppress(OSError):  # it has died: reading says so
            self._socket.send(json.dumps(said).encode())
