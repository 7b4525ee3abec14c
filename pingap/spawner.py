"""The spawner: imports every stage once and forks the processes, so that one starts in milliseconds and shares memory.

It has one thread, no event loop and never a ZeroMQ context: a fork copies nothing
that a child could not use. The supervisor talks to it over a SOCK_SEQPACKET
socket, one JSON object a packet:

    listen  {"keys": […]} + descriptors        keep these listening sockets for the children to come
    forget  {"keys": […]}                      close them
    print   {"path"}                           stdout and stderr, of the children to come too, are that file
    become  {"account"}                        from now on it is that user, and so are the children to come
    fork    {"process", "title", "run_dir", "seats", "cpus", "curve"}  → forked {"process", "pid"}
    load    {"loader", "source", "text"} + a pipe's end                a child writes the loaded configuration there
    work    {"job", "at"}                      a child does what `job` names, of `at`, until nobody wants it
    ping    {}                                 → pong {}: it is not stopped, nor does it hang

and it says `unforked {"process", "reason"}` when there is no room for one, and
`exited {"pid", "status", "words"}` of each child, `words` being the exception
that ended it. When the supervisor is gone (EOF) it waits for its children, who
notice too and finish what they hold, kills the rest at a deadline and ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pingap import limits
from pingap.bus import output
from pingap.polling import ready
from pingap.signals import SIGNALS

PACKET: Final = 256 * 1024
"""Bytes of the longest packet."""

MOST_FDS: Final = 250
"""Descriptors in one packet (the kernel allows 253)."""

ORPHANS: Final = 9.0
"""Seconds that children get when the supervisor is gone: 4 to finish, 2 to close, and as many again where there is not enough CPU."""

WORDS: Final = 2000
"""Characters of an exception that are passed on."""

Job = Callable[[], int]


class Spawner:
    """Serves one supervisor. `serve` returns None at its end; in a child it returns the child's job."""

    def __init__(self, control: socket.socket, supervisor: int) -> None:
        """supervisor: its pidfd, for the children to watch."""
        self._control = control
        self._supervisor = supervisor
        self._listeners: dict[int, int] = {}
        self._children: dict[int, int] = {}
        """Pid → the end of the pipe on which it says its last words."""
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._woken = wake

    def serve(self) -> Job | None:
        """Forks and reaps until the supervisor is gone."""
        while True:
            readable = ready((self._control.fileno(), self._wake))
            if self._wake in readable:
                self._reap()
            if self._control.fileno() in readable:
                packet, fds, flags, _ = socket.recv_fds(self._control, PACKET, MOST_FDS)
                if not packet:
                    self._outlive()
                    return None
                if flags & socket.MSG_CTRUNC:
                    self._say({"said": "broken", "reason": f"it cannot take more descriptors: {limits.descriptors()}"})
                    os._exit(1)
                job = self._obey(json.loads(packet), fds)
                if job is not None:
                    return job

    def _obey(self, order: dict[str, Any], fds: list[int]) -> Job | None:
        what = order["do"]
        if what == "listen":
            self._listeners.update(zip(order["keys"], fds, strict=True))
        elif what == "forget":
            for key in order["keys"]:
                if key in self._listeners:
                    os.close(self._listeners.pop(key))
        elif what == "fork":
            return self._fork(order)
        elif what == "load":
            return self._load(order, fds[0])
        elif what == "work":
            return self._work(order)
        elif what == "print":
            output.go_to(order["path"])
        elif what == "become":
            self._become(order["account"])
        elif what == "ping":
            self._say({"said": "pong"})
        return None

    def _become(self, who: list[Any]) -> None:
        from pingap.config.accounts import Account
        from pingap.service import privileges

        try:
            privileges.become(Account(who[0], who[1], who[2], tuple(who[3])), keeps_ports=False)
        except privileges.PrivilegesError as error:  # nothing is ever forked as root that should be another's
            self._say({"said": "broken", "reason": str(error)})
            os._exit(1)

    def _fork(self, order: dict[str, Any]) -> Job | None:
        here = there = -1
        try:
            here, there = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            pid = os.fork()
        except OSError as error:
            for end in (here, there):
                if end >= 0:
                    os.close(end)
            self._say({"said": "unforked", "process": order["process"], "reason": f"cannot be forked: {limits.explained(error)}"})
            return None
        if pid == 0:
            keep = {entry["key"] for seat in order["seats"] for entry in seat["settings"].get("listeners", ())}
            self._leave(keep)
            os.close(here)
            return lambda: _with_last_words(there, lambda: host(order, self._listeners, self._supervisor))
        os.close(there)
        self._children[pid] = here
        self._say({"said": "forked", "process": order["process"], "pid": pid})
        return None

    def _load(self, order: dict[str, Any], pipe: int) -> Job | None:
        try:
            pid = os.fork()
        except OSError as error:
            with os.fdopen(pipe, "wb") as file:
                file.write(_failed(f"the process that loads the configuration cannot be forked: {limits.explained(error)}"))
            return None
        if pid == 0:
            self._leave(set())
            return lambda: load_into(pipe, order)
        os.close(pipe)
        return None

    def _work(self, order: dict[str, Any]) -> Job | None:
        with suppress(OSError):  # no room for it: whoever waits for it asks again
            if os.fork() == 0:
                self._leave(set())
                return lambda: work(order["job"], order["at"])
        return None

    def _leave(self, keep: set[int]) -> None:
        """In a child: lets go of all that is the spawner's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self._wake, self._woken, *self._children.values()):
            os.close(fd)
        self._control.close()
        for key in [key for key in self._listeners if key not in keep]:
            os.close(self._listeners.pop(key))

    def _reap(self) -> None:
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            pipe = self._children.pop(pid, None)
            if pipe is not None:  # else it was a loader or a worker
                words = _read_all(pipe)
                self._say({"said": "exited", "pid": pid, "status": os.waitstatus_to_exitcode(status), "words": words})

    def _say(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # the supervisor is gone: the next receive says so
            self._control.send(json.dumps(what).encode())

    def _outlive(self) -> None:
        until = time.monotonic() + ORPHANS
        for fd in self._listeners.values():
            os.close(fd)
        while self._children and (left := until - time.monotonic()) > 0:
            ready((self._wake,), left)
            self._reap()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)


def host(order: dict[str, Any], listeners: dict[int, int], supervisor: int) -> int:
    """In a child: hosts the actors of the order until they end; the exit code."""
    from pingap.bus.link import Curve
    from pingap.bus.process import run
    from pingap.bus.seat import Seat

    _title(order["title"])
    limits.try_threads()
    if order["cpus"]:
        os.sched_setaffinity(0, order["cpus"])
    seats = []
    for seat in order["seats"]:
        settings = dict(seat["settings"])
        if "listeners" in settings:
            settings["listeners"] = [
                {"fd": listeners[entry["key"]], "server": entry["server"], "addr": entry["addr"]} for entry in settings["listeners"]
            ]
        seats.append(Seat(seat["id"], seat["stage"], seat["replica"], seat["endpoint"], attribute(seat["actor"]), settings))
    curve = order["curve"]
    return run(order["run_dir"], seats, Curve(curve[0].encode(), curve[1].encode()) if curve else None, supervisor)


def work(job: str, at: str) -> int:
    """In a child: what plugins want done in another process; the exit code."""
    _title("pingap: worker of plugins")
    code: int = attribute(job)(at)
    return code


def load_into(pipe: int, order: dict[str, Any]) -> int:
    """In a child: loads the configuration and writes it down the pipe; what fails otherwise is written too."""
    import msgpack

    try:
        packed = msgpack.packb(attribute(order["loader"])(order["source"], order["text"]), use_bin_type=True)
    except Exception as error:
        if not limits.is_one(error):
            traceback.print_exc()
        packed = _failed(limits.explained(error))
    with os.fdopen(pipe, "wb") as file:
        file.write(packed)
    return 0


def _failed(reason: str) -> bytes:
    """{"failed": reason} as MessagePack, made by hand: there may be no memory for the library's buffer."""
    text = reason.encode(errors="replace")[:WORDS]
    return b"\x81\xa6failed\xda" + len(text).to_bytes(2, "big") + text


def attribute(path: str) -> Any:
    """What `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _with_last_words(pipe: int, job: Job) -> int:
    try:
        return job()
    except BaseException as error:
        if not limits.is_one(error):
            traceback.print_exc()
        os.write(pipe, limits.explained(error)[:WORDS].encode(errors="replace"))
        return 1


def _read_all(pipe: int) -> str:
    try:
        return os.read(pipe, WORDS * 4).decode(errors="replace")  # the child is gone: all that it said is there
    except BlockingIOError:  # it left a process of its own behind, which has the other end open
        return ""
    finally:
        os.close(pipe)


def _nothing() -> None:
    pass


def _shed() -> None:
    """No process of a stage needs a capability: what the supervisor may, as binding low ports, is not passed on."""
    if os.geteuid() != 0:
        from pingap.service import privileges

        privileges.shed()


def _title(title: str) -> None:
    from setproctitle import setproctitle

    setproctitle(title)


def main(fd: int, modules: list[str]) -> None:
    """Runs the spawner on the supervisor's socket `fd`, with `modules` imported for its children."""
    for number in SIGNALS:  # the supervisor's business; a terminal's Ctrl-C reaches the whole group
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    output.never_wait()
    _title("pingap: spawner")
    _shed()
    parent = os.getppid()
    supervisor = os.pidfd_open(parent)
    if os.getppid() != parent:  # it died before, and what we have is a handle on another's
        os._exit(1)
    try:
        with suppress(ImportError):  # bus.process uses it where there is one
            importlib.import_module("uvloop")
        for module in modules:
            # What a stage may have to find out once for all of its processes is in a function of this name.
            getattr(importlib.import_module(module), "before_forks", _nothing)()
    except BaseException as error:
        if not limits.is_one(error):
            traceback.print_exc()
        control.send(json.dumps({"said": "broken", "reason": f"{module}: {limits.explained(error)}"[:WORDS]}).encode())
        os._exit(1)
    gc.collect()
    gc.freeze()  # what is imported stays where it is, so that collections in the children touch, and copy, none of it
    job = Spawner(control, supervisor).serve()
    code = 0
    if job is not None:
        code = job()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a child of a fork has no business running the parent's exit handlers
