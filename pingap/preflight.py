"""What a start would meet on this machine, now: addresses, names, the run dir, the pid file, processors, descriptors.

It changes nothing: addresses are bound and not listened on, so that an instance that has them does not notice; locks
are looked at; no file is made. What the configuration itself has wrong is for config/load.py.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

from pingap import limits, rundir, topology
from pingap.bus import descriptors
from pingap.config.addresses import is_host_name
from pingap.config.levels import is_ignored, levels_of
from pingap.config.model import Snapshot
from pingap.config.parts import DOCKER_SOCKET, Listen
from pingap.config.paths import why_no_log
from pingap.config.problems import Note, Problem, path_of
from pingap.listeners import Listeners
from pingap.plan_words import Role
from pingap.port_holders import holder_of
from pingap.service import pid_file

NAMES: Final = 5.0
"""Seconds that all names together have to be found."""

ENGINE: Final = 1.0
"""Seconds for a connect to Docker's socket."""

LOOKUPS: Final = 16
"""Names that are looked up at a time."""

_ANOTHER: Final = "give another with --run-dir"
_WHICH: Final = "if that is the instance that this is for, name its run dir with --run-dir"
_UNSEEN: Final = "by another user's process, or in a container: if it is pingap, check as the user that runs it, with its --run-dir"
_UNPRIVILEGED: Final = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

Found = Iterator[Problem | Note]


def preflight(snapshot: Snapshot, options: topology.Options, run_dir: str) -> Found:
    """All of it. snapshot: also the sound part of one that was refused."""
    try:
        running = rundir.supervisor_of(run_dir)
    except PermissionError:
        yield Problem("", f"the run dir {run_dir} belongs to {rundir.owner_of(run_dir) or 'another user'}", _ANOTHER)
        running = None
    else:
        yield from _run_dir(os.path.abspath(run_dir), running)
    yield from _processes(snapshot, options)
    if options.log and (reason := why_no_log(options.log)):
        yield Problem("--log", *reason)
    if ignored := levels_of(options.level or "").ignored:
        yield Note("", f"the log level in the environment: {is_ignored(ignored)}")
    yield from _addresses(snapshot, running)
    yield from _pid_file(snapshot.basic.pid_file, running)
    yield from _names(snapshot)
    yield from _engines(snapshot)


def _run_dir(path: str, running: int | None) -> Found:
    try:
        rundir.check_length(path)
    except rundir.RunDirError as error:
        yield Problem("", str(error))
        return
    if running is not None:
        pid = f" (pid {running})" if running else ""
        yield Note("", f"pingap runs in {path}{pid}: what it has is not counted as taken", f"for another start {_ANOTHER}")
        return
    folder = path
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    reason = ""
    if not os.path.isdir(folder):
        reason = f"{folder} is no directory"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"no permission in {folder}"
    elif folder == path and os.stat(path).st_uid != os.geteuid() and os.geteuid():
        reason = f"it belongs to {rundir.owner_of(path)}"
    elif folder == path and os.stat(path).st_mode & 0o077 and os.listdir(path):
        reason = "it is open to other users and not empty"
    if reason:
        yield Problem("", f"the run dir {path} cannot be used: {reason}", _ANOTHER)


def _processes(snapshot: Snapshot, options: topology.Options) -> Found:
    try:
        roles = topology.roles(snapshot, options)
    except topology.BadOptions as bad:
        where, colon, message = str(bad).partition(": ")
        yield Problem(where, message) if colon else Problem("", where)
        return
    for note in topology.without_effect(snapshot, options):
        yield Note("", note)
    yield from limits_for(roles, sum(len(server.addr) for server in snapshot.servers.values()))


def limits_for(roles: Iterable[Role], addresses: int) -> Found:
    """What this system's limit of descriptors means. `up` raises the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = descriptors.UNBOUNDED if hard == resource.RLIM_INFINITY else hard
    actors = sum(role.replicas * len(role.stages) for role in roles)
    if reason := limits.too_many(actors, addresses, limit):
        yield Problem("", reason)
        return
    room = limits.room_for_connections(actors, addresses, limit)
    if room < limits.FEW_CONNECTIONS:
        yield Note(
            "", f"a process may have {limit} files and sockets open here (ulimit -Hn): room for {room} connections of clients at a time"
        )


def _addresses(snapshot: Snapshot, running: int | None) -> Found:
    for name, addr, error in Listeners(snapshot.servers).refusals():
        path = path_of("servers", name, "addr")
        why = f"cannot listen on {addr}: {limits.explained(error).lower()}"
        if error.errno == errno.EADDRINUSE:
            holder = holder_of(addr.port, running)
            is_ours = running is not None and (holder is None or holder.pid == running)  # None: in another pid namespace
            if is_ours:
                continue
            if holder is not None and holder.name == "systemd":
                yield Note(path, f"{holder} listens on {addr}", "a start by its socket unit takes that over; any other start would fail")
                continue
            if holder is None:
                yield Problem(path, why, _UNSEEN)
            else:
                is_pingap = holder.name.startswith("pingap")
                yield Problem(path, f"{why} by {holder}", _WHICH if is_pingap else "stop that, or listen elsewhere")
        elif error.errno in (errno.EACCES, errno.EPERM):
            yield Problem(path, why, _privilege(addr))
        else:
            yield Problem(path, why)


def _privilege(addr: Listen) -> str:
    least = 1024
    try:
        with open(_UNPRIVILEGED) as file:
            least = int(file.read())
    except (OSError, ValueError):
        pass
    if addr.port >= least:
        return "a security module or a sandbox forbids it"
    return f"a port below {least} needs root or CAP_NET_BIND_SERVICE (of systemd: AmbientCapabilities=), and this is user id {os.geteuid()}"


def _pid_file(path: str | None, running: int | None) -> Found:
    holder = pid_file.holder_of(path) if path else None
    if holder is not None and holder != running:
        message = f"{path} belongs to another pingap (pid {holder or 'unknown'}) that is running"
        yield Problem("basic.pid_file", message, "stop that one, or give another path")


def _names(snapshot: Snapshot) -> Found:
    """A resolver that is down keeps nobody from starting: a name is looked up again and again."""
    places: dict[str, list[str]] = {}
    for name, upstream in snapshot.upstreams.items():
        is_system = not (upstream.dns_server or upstream.dns_domain or upstream.dns_search)
        for index, backend in enumerate(upstream.addrs if upstream.discovery != "docker" else ()):
            if is_system and is_host_name(backend.host) and not backend.host.startswith("_"):  # those are SRV records
                places.setdefault(backend.host, []).append(path_of("upstreams", name, "addrs", index))
    failed = _unresolved(places)
    for host, reason in failed.items():
        for path in places[host]:
            yield Note(path, f"{host!r} cannot be resolved here: {reason}", "without a backend in health its requests are answered 503")


def _engines(snapshot: Snapshot) -> Found:
    """Whether somebody is behind the sockets of Docker. As with names, that keeps nobody from starting."""
    for name, upstream in snapshot.upstreams.items():
        host = upstream.docker_host or os.environ.get("DOCKER_HOST") or DOCKER_SOCKET
        if upstream.discovery != "docker" or not host.startswith("unix://"):
            continue
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(ENGINE)
            try:
                one.connect(host.removeprefix("unix://"))
            except OSError as error:
                why = f"no Docker engine at {host}: {limits.explained(error).lower()}"
                yield Note(
                    path_of("upstreams", name, "discovery"), why, "it is asked again and again; until it answers, requests are answered 503"
                )


def _unresolved(hosts: Iterable[str]) -> dict[str, str]:
    """Host → why it has no address, for those that have none now."""
    waiting = list(dict.fromkeys(hosts))
    failed = dict.fromkeys(waiting, f"no answer within {NAMES:g} s")
    left = waiting[::-1]

    def work() -> None:
        while left:
            try:
                host = left.pop()
            except IndexError:
                return
            try:
                socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                failed[host] = str(getattr(error, "strerror", None) or error).lower()
            else:
                failed.pop(host, None)

    # Daemons, for a lookup cannot be given up: who checks does not wait for it.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(LOOKUPS, len(waiting)))]
    until = time.monotonic() + NAMES
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return {host: failed[host] for host in waiting if host in failed}
