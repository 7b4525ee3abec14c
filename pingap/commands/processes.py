"""`pingap ps`, `pingap scale` and `pingap kill`."""

from __future__ import annotations

import time
from typing import Any

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import FAILED, ask, fail


@options.command()
@options.as_json
@options.health("all is ready")
@options.watch
@options.run_dir
def ps(as_json: bool, health: bool, watch: float | None, run_dir: str | None) -> None:
    """List the processes: state, uptime, restarts, memory, requests.

    On a terminal that is too narrow the columns that matter least are left out. Below
    the table: the version, and what became of the last configuration.
    """
    if health:
        _tell_health(ask(run_dir, "ps"))
    options.show_told(run_dir, "ps", text=_text, every=watch, as_json=as_json)


def _text(rows: list[dict[str, Any]]) -> str:
    from pingap import ps_table

    shown = options.table(lambda width: ps_table.lines(rows, width), ps_table.colour_of)
    return "\n".join([shown, "", *ps_table.summary(rows, time.time())]).rstrip("\n")


def _tell_health(rows: list[dict[str, Any]]) -> None:
    from pingap import ps_table

    options.tell_health(ps_table.ailing(rows), "not ready", ps_table.summary(rows, time.time())[0])


@options.command()
@click.argument("what", metavar="STAGE=N...", nargs=-1, required=True)
@options.run_dir
def scale(what: tuple[str, ...], run_dir: str | None) -> None:
    """Change how many replicas stages have: accept, routing, plugins, upstream, or worker when colocated."""
    wanted = [options.scale_of(one) for one in what]
    if len({stage for stage, _ in wanted}) < len(wanted):
        raise click.UsageError("a stage is named twice")
    unfinished = False
    for stage, count in wanted:
        value = ask(run_dir, "scale", stage, count)
        line = f"{stage}: {value['before']} → {value['replicas']}"
        if value["draining"]:
            ending = "finishes what it holds and leaves" if value["draining"] == 1 else "finish what they hold and leave"
            line += f", {value['draining']} {ending}"
        if value["starting"]:
            terminal.warn(f"pingap: {line}, {value['starting']} not ready yet: see `pingap ps` and the log")
            unfinished = True
        else:
            terminal.say(line)
    if unfinished:
        raise SystemExit(FAILED)


@options.command()
@click.argument("which", metavar="STAGE.N")
@options.run_dir
def kill(which: str, run_dir: str | None) -> None:
    """Kill a process, which is started anew: for one that misbehaves, or to see what that costs.

    Requests that it holds are sent once more or answered with 502, as when it crashes.
    `spawner` is one too; to end all of pingap there is `pingap down`.
    """
    stage, _, number = which.partition(".")
    replica = options.number_of(number) if number else 0
    if stage == "supervisor":
        raise click.UsageError("without its supervisor pingap ends: `pingap down` stops it")
    if not stage or replica is None:
        raise click.UsageError(f"{which!r} is not STAGE.N, such as upstream.0")
    answer = ask(run_dir, "kill", stage, replica)
    if "refused" in answer:
        fail(answer["refused"])
    also = f", with {', '.join(answer['stages'])}" if len(answer["stages"]) > 1 else ""
    terminal.say(f"{answer['process']} (pid {answer['pid']}{also}) is killed: the next one is started")
