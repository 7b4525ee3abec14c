"""THE table of processes, actors, sockets, internal destinations and settings of one pingap.

| socket | path in the run dir | bound by |
| --- | --- | --- |
| inbox | `<stage>.<replica>.<id>` | each actor (or the tcp address of its [stages.X] endpoint) |
| control | `control` | the supervisor |
| state | `config.pub`, `discovery.pub`, `acme.pub` | config, discovery, acme |
| events | `events.pub` | logging |

Who sends what to whom is bus/PROTOCOL.md. Actors are named by import path: only the
spawner imports them, and tests put others in their place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pingap.config.model import SCALED_STAGES, Snapshot
from pingap.flags import is_on
from pingap.plan_words import Role
from pingap.stages.itinerary import CHALLENGE, METRICS, OPTIONS

if TYPE_CHECKING:
    from pingap.bus.actor import Actor, Context

SPLIT: Final = "split"
COLOCATED: Final = "colocated"
WORKER: Final = "worker"
DEMO: Final = "demo"


@dataclass(frozen=True, slots=True)
class StageRow:
    """One kind of actor."""

    name: str
    actor: str
    """`module:attribute`, a function of its context that makes the actor."""
    leaves: int
    """As in Role."""
    is_drained: bool = False
    """It has something in flight to finish before it is stopped."""
    answers: tuple[str, ...] = ()
    """Internal destinations (stages/itinerary.py): routing sends it ROUTED, and it answers accept as upstream does."""


ROWS: Final = (
    StageRow("logging", "pingap.stages.logging.actor:LoggingActor", 2, True),
    StageRow("config", "pingap.topology:config_actor", 1),
    StageRow("discovery", "pingap.stages.discovery.actor:DiscoveryActor", 1),
    StageRow("metrics", "pingap.stages.metrics.actor:MetricsActor", 2, True, (METRICS,)),
    StageRow("acme", "pingap.stages.acme.actor:AcmeActor", 1, True, (CHALLENGE,)),
    StageRow("accept", "pingap.stages.accept.actor:AcceptActor", 0, True),
    StageRow("routing", "pingap.stages.routing.actor:RoutingActor", 1, True, (OPTIONS,)),
    StageRow("plugins", "pingap.stages.plugins.actor:PluginsActor", 1, True),
    StageRow("upstream", "pingap.stages.upstream.actor:UpstreamActor", 1, True),
    StageRow(DEMO, "pingap.demo:DemoActor", 1),
)
"""In the order in which they are forked: those that others wait for come first."""

LOADER: Final = "pingap.loading:to_plain"
WORKER_JOB: Final = "pingap.stages.plugins.work:work"
"""What processes do that plugins ask for (`host.in_process`)."""
"""`module:attribute`, a function of a source and a text that gives the configuration in plain data."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to the configuration."""

    source: str | None = None
    """Path of the configuration; None is the embedded one."""
    text: str | None = None
    """The embedded configuration, demo backends filled in."""
    placement: str = SPLIT
    workers: int | None = None
    scale: Mapping[str, int] | None = None
    log: str | None = None
    level: str | None = None
    has_demo: bool = False
    follows: bool = True
    """Changes of the configuration are taken over as they happen."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """Code of plugins that the loader has tried (stages/plugins/trial.py), so that the config stage need not."""


class BadOptions(Exception):
    """The command line and the configuration do not go together; the text says why."""


def roles(snapshot: Snapshot, options: Options, rows: tuple[StageRow, ...] = ROWS) -> list[Role]:
    """The processes to run. Raises BadOptions."""
    asked = dict(options.scale or {})
    known = {row.name: row for row in rows}
    colocated = options.placement == COLOCATED
    if options.workers is not None and not colocated:
        raise BadOptions("--workers goes with --placement colocated; split takes --scale STAGE=N")
    scalable = (WORKER,) if colocated else tuple(name for name in SCALED_STAGES if name in known)
    for name in asked:
        if name not in scalable:
            raise BadOptions(f"--scale {name}: with placement {options.placement} these can be scaled: {', '.join(scalable)}")
    found: list[Role] = []
    for row in rows:
        if row.name == DEMO and not options.has_demo:
            continue
        if colocated and row.name in SCALED_STAGES:
            if row.name == SCALED_STAGES[0]:
                count = asked.get(WORKER) or options.workers or snapshot.replicas(row.name, cpu_count())
                crew = tuple(name for name in SCALED_STAGES if name in known)
                found.append(Role(WORKER, crew, count, True, (row.name,), row.leaves, snapshot.stage(row.name).cpus))
            continue
        count = (asked.get(row.name) or snapshot.replicas(row.name, cpu_count())) if row.name in scalable else 1
        drained = (row.name,) if row.is_drained else ()
        found.append(Role(row.name, (row.name,), count, row.name in scalable, drained, row.leaves, snapshot.stage(row.name).cpus))
    _check_cpus(found)
    return found


def without_effect(snapshot: Snapshot, options: Options) -> list[str]:
    """Settings that this placement cannot honour, to be told rather than ignored."""
    if options.placement != COLOCATED:
        return []
    notes = []
    for name in SCALED_STAGES[1:]:
        for key in ("replicas", "cpus"):
            if getattr(snapshot.stage(name), key):
                notes.append(f"stages.{name}.{key} has no effect with --placement colocated: a worker goes by [stages.accept]")
    for name in SCALED_STAGES:
        if snapshot.stage(name).endpoint:
            notes.append(f"stages.{name}.endpoint has no effect on what workers send within themselves")
    return notes


def endpoint(run_dir: str, snapshot: Snapshot, stage: str, replica: int, actor: int) -> str:
    """Where the inbox of an actor is. Replicas of a stage with a tcp endpoint take the ports from there on."""
    given = snapshot.stage(stage).endpoint
    if given is None:
        return f"ipc://{run_dir}/{stage}.{replica}.{actor}"
    host, _, port = given.rpartition(":")
    return f"{host}:{int(port) + replica}"


def settings(stage: str, role: Role, ids: tuple[int, ...], options: Options, log: str | None) -> dict[str, Any]:
    """What an actor of `stage` in a process of `role` is told at its start, listeners aside (`Seat.settings`)."""
    if stage in ("accept", "plugins") and len(role.stages) > 1:
        return {"crew": {name: actor for name, actor in zip(role.stages, ids, strict=True) if name != "accept"}}
    if stage == "logging":
        return {"log": log, "level": options.level}
    if stage == "routing":
        return {"destinations": destinations()}
    if stage == "acme":
        return {"source": options.source, "is_disabled": is_on(os.environ.get("PINGAP_DISABLE_ACME", ""))}
    if stage == "config":
        return {"source": options.source, "text": options.text, "passed": dict(options.passed), "follows": options.follows}
    return {}


def destinations(rows: tuple[StageRow, ...] = ROWS) -> dict[str, str]:
    """Which stage answers, by the name of each internal destination."""
    return {name: row.name for row in rows for name in row.answers}


def config_actor(context: Context) -> Actor:
    """The config stage with what only this package knows: how plugins are checked and what they plan."""
    from pingap.config.storage.places import storage_of
    from pingap.loading import load
    from pingap.stages.config.actor import ConfigActor
    from pingap.stages.plugins import trial
    from pingap.stages.plugins.checking import plans

    trial.know(context.settings["passed"])
    storage = storage_of(context.settings["source"], context.settings["text"])
    return ConfigActor(context, storage, load=load, plans=plans, follows=context.settings["follows"])


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) or 1


def _check_cpus(found: list[Role]) -> None:
    mine = os.sched_getaffinity(0)
    for role in found:
        if role.cpus:
            got: set[int] = set()
            with suppress(OSError, ValueError, OverflowError):
                os.sched_setaffinity(0, role.cpus)  # the kernel alone knows what this machine and container allow
                got = os.sched_getaffinity(0)
            os.sched_setaffinity(0, mine)
            missing = ", ".join(str(cpu) for cpu in role.cpus if cpu not in got)
            if missing:
                there = ", ".join(map(str, sorted(mine)))
                raise BadOptions(f"stages.{role.stages[0]}.cpus: CPU {missing} cannot be used here; there are {there}")


def modules(rows: tuple[StageRow, ...] = ROWS, loader: str = LOADER) -> list[str]:
    """What the spawner imports, so that no process has to."""
    paths = [row.actor for row in rows] + [loader]
    named = [path.partition(":")[0] for path in paths]
    has_config = any(row.actor.endswith(":config_actor") for row in rows)
    hidden = ["pingap.stages.config.actor", "pingap.stages.plugins.checking"] if has_config else []
    return list(dict.fromkeys(["pingap.bus.process", "setproctitle", *named, *hidden]))
