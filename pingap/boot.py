"""From the command line to a running supervisor: the configuration, the roles, the listening sockets."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from pingap import limits, rundir, terminal, topology
from pingap.bus import output
from pingap.face import RESTARTED
from pingap.launch import Face, Launch, Prepared
from pingap.rundir import RunDir
from pingap.service.daemon import back_to, pid_file_by_default
from pingap.signals import STOPS, ignore_wishes
from pingap.spawning import SpawnerFailed, SpawnerHandle

if TYPE_CHECKING:
    from pingap.config.model import Server
    from pingap.plan_words import Role
    from pingap.succession.takeover import Predecessor

STOPPED: Final = 0
FAILED: Final = 1
BAD_CONFIGURATION: Final = 2
AGAIN: Final = -1
"""No exit code: it is to be started again."""
UNAWAITED: Final = "_PINGAP_UNAWAITED"
"""Environment variable with the id of a process that nobody waits for: it is so after a restart, too."""
SUCCEEDED: Final = -2
"""Nor is this: another instance serves, and this process is to stand in for it."""

Result = TypeVar("Result")


def up(launch: Launch, run_dir: RunDir, spawner: SpawnerHandle, face: Face) -> int:
    """Runs pingap until it is stopped; the exit code. Releases the run dir and ends the spawner in any case."""
    import asyncio

    from setproctitle import setproctitle

    setproctitle("pingap: supervisor")
    ignore_wishes()
    code = FAILED
    try:
        limits.try_threads()
        with asyncio.Runner() as runner:
            code = runner.run(_up(launch, run_dir, spawner, face))
    except RuntimeError as error:
        if not limits.is_one(error):
            raise
        face.failed(limits.explained(error))
        return FAILED
    finally:
        spawner.close()
        run_dir.release(is_restart=code == AGAIN)
    if code == AGAIN:
        os.environ.update(launch.service.environment())
        os.environ[rundir.VARIABLE] = run_dir.path  # as another user it would choose another one
        if launch.activation is not None:
            launch.activation.hand_on(os.environ)
        if not launch.is_awaited:
            os.environ[UNAWAITED] = str(os.getpid())
        _again()
    return _stand_in(run_dir.path) if code == SUCCEEDED else code


async def _up(launch: Launch, run_dir: RunDir, spawner: SpawnerHandle, face: Face) -> int:
    from pingap.config.problems import ConfigRefused
    from pingap.config.storage.base import OutOfReach
    from pingap.listeners import BindFailed
    from pingap.service.pid_file import PidFileError
    from pingap.service.privileges import PrivilegesError

    try:
        prepared = await _unless_stopped(_prepare(launch, run_dir, spawner, face))
        if prepared is None:
            return STOPPED
        from pingap.supervisor import Supervisor

        supervisor = Supervisor(prepared, run_dir, spawner, face)
        finish = await supervisor.serve()
    except (ConfigRefused, topology.BadOptions) as refused:
        _failed(launch, face, str(refused))
        return FAILED if isinstance(refused, OutOfReach) else BAD_CONFIGURATION
    except (BindFailed, PidFileError, PrivilegesError, SpawnerFailed, OSError) as error:
        _failed(launch, face, str(error))
        return FAILED
    if finish.code:
        _failed(launch, face, finish.reason)
    elif supervisor.starts_again:
        return AGAIN
    elif supervisor.stands_in:
        return SUCCEEDED
    return finish.code


def _failed(launch: Launch, face: Face, reason: str) -> None:
    face.failed(reason)
    if launch.predecessor is not None:
        launch.predecessor.failed(reason)


def _stand_in(run_dir: str) -> int:
    from pingap.succession import stand_in

    terminal.flush()
    output.retry()
    try:
        stand_in.become(run_dir)
    except OSError:
        return STOPPED


def _again() -> NoReturn:
    """Runs the same command line anew as the same process: who watches over it by its pid, or in a terminal, sees no end."""
    ignore_wishes()
    os.environ[RESTARTED] = str(time.clock_gettime(time.CLOCK_BOOTTIME))
    if directory := back_to(os.environ):
        os.chdir(directory)
    terminal.flush()
    output.retry()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


async def _unless_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """The work's result, or None when a signal says that it is no longer wanted."""
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in STOPS:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None


def _succeeding(role: Role, before: Predecessor) -> Role:
    """A role as it is run beside an instance that serves. What an operator has scaled stays so, unless another number is asked for now."""
    role = dataclasses.replace(role, is_last="accept" in role.stages)
    then, now = before.estate.scaled.get(role.name, (0, 0))
    return dataclasses.replace(role, replicas=now, before=then) if then == role.replicas else role


async def _prepare(launch: Launch, run_dir: RunDir, spawner: SpawnerHandle, face: Face) -> Prepared:
    """Raises ConfigRefused, BadOptions, BindFailed, SpawnerFailed."""
    import asyncio

    if ended := run_dir.clear():
        face.note(f"ended {ended} processes that a killed pingap had left behind in {run_dir.path}")
    loading = asyncio.ensure_future(spawner.load(launch.loader, launch.options.source, launch.options.text))
    await asyncio.sleep(0)  # the request is on its way; what follows is imported meanwhile
    import pingap.supervisor  # noqa: F401
    from pingap.config.levels import is_ignored, levels_of
    from pingap.config.model import Snapshot
    from pingap.config.paths import logs_of, why_no_log, why_not_opened
    from pingap.config.problems import ConfigRefused, Problem
    from pingap.config.storage.base import OutOfReach
    from pingap.listeners import BindFailed, Listeners
    from pingap.service.activation import shared
    from pingap.service.step_down import account_for, acme_directory_for, pid_file_for, step_down, why_no_log_for

    plain = await loading
    if "problems" in plain:
        raise (OutOfReach if plain["is_out_of_reach"] else ConfigRefused)(Problem(*row) for row in plain["problems"])
    snapshot = Snapshot.from_wire(plain["snapshot"])
    launch = dataclasses.replace(launch, options=dataclasses.replace(launch.options, passed=plain.get("passed", {})))
    if launch.threads is not None:
        snapshot = dataclasses.replace(snapshot, basic=dataclasses.replace(snapshot.basic, threads=launch.threads))
    if launch.options.log and (reason := why_no_log(launch.options.log)):
        raise topology.BadOptions(f"--log: {reason[0]}")
    if launch.background is not None and snapshot.basic.pid_file is None:
        pid_path = pid_file_by_default(run_dir.path)
        snapshot = dataclasses.replace(snapshot, basic=dataclasses.replace(snapshot.basic, pid_file=pid_path))
    account = account_for(snapshot.basic)
    for key, path in [("--log", launch.options.log), *logs_of(snapshot)[1:]] if launch.options.log else logs_of(snapshot):
        if unopened := why_no_log_for(account, path) if account else why_not_opened(path):
            raise topology.BadOptions(f"{key}: {unopened}")
    roles = topology.roles(snapshot, launch.options, launch.rows)
    actors = sum(role.replicas * len(role.stages) for role in roles)
    if short := limits.too_many(actors, sum(len(server.addr) for server in snapshot.servers.values())):
        raise BindFailed([short])
    if ignored := levels_of(launch.options.level or "").ignored:
        face.note(f"the log level in the environment: {is_ignored(ignored)}")
    for note in (*plain.get("notes", ()), *topology.without_effect(snapshot, launch.options)):
        face.note(note)
    if launch.predecessor is not None:
        roles = [_succeeding(role, launch.predecessor) for role in roles]
    inherited = list(launch.predecessor.estate.listeners) if launch.predecessor is not None else []
    servers: Mapping[str, Server] = snapshot.servers
    if launch.activation is not None:
        given = launch.activation.inherited(servers)
        servers, notes = shared(servers, given)
        for note in notes:
            face.note(note)
        inherited += given
    listeners = Listeners(servers, inherited, is_beside=launch.predecessor is not None)
    listeners.bind([(role.name, replica) for role in roles if "accept" in role.stages for replica in range(role.replicas)])
    for index, sock in enumerate(launch.demo):
        listeners.add(f"backend-{index + 1}", sock, (topology.DEMO, 0))
    named, before = snapshot.basic.pid_file, launch.predecessor
    is_inherited = named is not None and before is not None and before.estate.pid_file_at(named) is not None
    pid_file = pid_file_for(account, named) if account and named and not is_inherited else None
    if account is not None:
        if plain["folder"]:
            acme_directory_for(account, plain["folder"])
        step_down(account, run_dir, listeners, spawner)
    if launch.background is not None:
        printed = launch.background.print_to(launch.options.log or snapshot.basic.error_log)
        if printed == os.devnull:
            face.note("the application log goes nowhere: a daemon has no stderr, give it basic.error_log or --log")
        spawner.print_to(printed)
    return Prepared(launch, snapshot, roles, listeners, pid_file)
