"""`pingap down`."""

from __future__ import annotations

from typing import Final

import click

from pingap import rundir, terminal
from pingap.commands import options
from pingap.commands.options import fail

MORE_THAN_ASKED: Final = 8.0
"""Seconds beyond the drain that a stop may take before `pingap down` says that it has not ended."""


@options.command()
@click.option("--graceful", is_flag=True, help="Give requests in flight the grace_period, as QUIT does.")
@options.run_dir
def down(graceful: bool, run_dir: str | None) -> None:
    """Stop the instance, and wait until it has stopped."""
    from pingap import client

    path = run_dir or rundir.default()
    try:
        pid = client.find(path)
        seconds = client.ask(path, "down", graceful)
    except (client.NotRunning, client.Refused) as error:
        fail(str(error))
    if pid and not client.await_end(pid, seconds + MORE_THAN_ASKED):
        fail(f"pingap (pid {pid}) is still stopping after {seconds + MORE_THAN_ASKED:g} s")
    terminal.say("stopped")
