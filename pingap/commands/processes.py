"""`pingap ps` and `pingap scale`."""

from __future__ import annotations

import json

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import ask, fail


@options.command()
@options.as_json
@options.run_dir
def ps(as_json: bool, run_dir: str | None) -> None:
    """List the processes: state, restarts, memory, requests."""
    from pingap.rows import PS_HEAD, PS_RIGHT, columns, ps_cells

    rows = ask(run_dir, "ps")
    if as_json:
        terminal.say(json.dumps(rows, indent=2))
        return
    cells = [ps_cells(row) for row in rows]
    terminal.say("\n".join(columns(PS_HEAD, cells, PS_RIGHT)))


@options.command()
@click.argument("what", metavar="STAGE=N")
@options.run_dir
def scale(what: str, run_dir: str | None) -> None:
    """Change how many replicas a stage has: accept, routing, plugins, upstream, or worker when colocated."""
    stage, count = options.scale_of(what)
    value = ask(run_dir, "scale", stage, count)
    line = f"{stage}: {value['before']} → {value['replicas']}"
    if value["draining"]:
        ending = "finishes what it holds and leaves" if value["draining"] == 1 else "finish what they hold and leave"
        line += f", {value['draining']} {ending}"
    if value["starting"]:
        fail(f"{line}, {value['starting']} not ready yet: see `pingap ps` and the log")
    terminal.say(line)
