"""`pingap down`, `pingap restart` and `pingap upgrade`."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from pingap import rundir, terminal
from pingap.commands import options
from pingap.commands.options import Span, ask, fail

if TYPE_CHECKING:
    from pingap.client import Instance

MORE_THAN_ASKED: Final = 8.0
"""Seconds beyond the drain that a stop may take before `pingap down` says that it has not ended."""

STARTING: Final = 30.0
"""Seconds that a restart may take to be ready, beyond the stop."""

LOOK: Final = 0.05
"""Seconds between two looks."""

_graceful = click.option("--graceful", is_flag=True, help="Give requests in flight the grace_period, as QUIT does.")
_timeout = click.option("--timeout", type=Span(), metavar="TIME", help="Give them so long, as 30s, whatever is configured.")


@options.command()
@_graceful
@_timeout
@options.run_dir
def down(graceful: bool, timeout: float | None, run_dir: str | None) -> None:
    """Stop the instance, and wait until it has stopped."""
    from pingap import client

    path = run_dir or rundir.default()
    try:
        with client.Instance(path) as instance:
            seconds = instance.ask("down", graceful, timeout) + MORE_THAN_ASKED
            if not instance.await_end(seconds):
                fail(f"{instance} is still stopping after {seconds:g} s")
    except client.Ended:
        pass  # somebody else had stopped it already
    except (client.NotRunning, client.AskRefused) as error:
        fail(str(error))
    terminal.say("stopped")


@options.command()
@_graceful
@_timeout
@click.option("--unchecked", is_flag=True, help="Even with a configuration that a start would refuse.")
@options.run_dir
def restart(graceful: bool, timeout: float | None, unchecked: bool, run_dir: str | None) -> None:
    """Stop the instance and start it anew with the same command line, and wait until it serves.

    For what only a restart changes, and for a new version of pingap. The process id
    stays. Connections are closed, and for about a second new ones are refused: to
    replace a single process use `pingap kill`, to take a configuration `pingap reload`.
    """
    path = run_dir or rundir.default()
    if not unchecked and (problems := ask(path, "dry-run").get("problems")):
        head = "it is not restarted, for its configuration would be refused (--unchecked does it all the same):"
        fail("\n".join([head, *(f"  {line}" for problem in problems for line in problem.split("\n"))]))
    from pingap import client

    try:
        with client.Instance(path) as instance:
            before = _run(path)
            seconds = instance.ask("restart", graceful, timeout) + MORE_THAN_ASKED + STARTING
            if took := _await_again(instance, path, before, seconds):
                terminal.say(f"ready again after {took:.1f} s (pid {instance.pid})")
                return
            fail(f"{instance} is not back after {seconds:g} s: see its log")
    except (client.NotRunning, client.AskRefused) as error:
        fail(str(error))


@options.command()
@options.run_dir
def upgrade(run_dir: str | None) -> None:
    """Start the next instance, which takes over without a lost request, and wait until it serves.

    For what only a restart changes, and for a new version of pingap or of Python: the
    next instance is run by the pingap that this command is, with the command line of the
    present one. The present one checks nothing and gives nothing up until the other
    serves; then it finishes what it holds, for grace_period at most.
    """
    from pingap.succession.handover import DEADLINE
    from pingap.succession.succession import command_of

    path, began = run_dir or rundir.default(), time.monotonic()
    before = rundir.instance_of(path)
    done = ask(path, "upgrade", command_of(sys.orig_argv, sys.argv[1:]), deadline=DEADLINE + MORE_THAN_ASKED)
    until = time.monotonic() + STARTING
    while rundir.instance_of(path) in ("", before):  # the other has yet to take what was handed over
        if time.monotonic() >= until:
            fail(f"pid {done['pid']} has not taken over: see its log")
        time.sleep(LOOK)
    terminal.say(f"pid {done['pid']} serves after {time.monotonic() - began:.1f} s; pid {done['before']} finishes what it holds")


def _run(path: str) -> int:
    """What tells the run of the instance that serves from the one before; 0 when it cannot be told."""
    from pingap.stages import keepsake

    return keepsake.run_of(os.path.join(path, rundir.instance_of(path)))


def _await_again(instance: Instance, path: str, before: int, seconds: float) -> float:
    """Seconds until another run than `before` serves; 0 when that has not happened in time. Ends the command if the instance is gone."""
    from pingap import client

    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        try:
            state = instance.ask("ps", deadline=1.0)[0]["state"]
            if state == "ready" and _run(path) not in (0, before):
                return now - began
        except client.Ended:
            fail(f"{instance} ended instead of starting anew: see its output")
        except client.AskRefused:
            pass  # between the two
        time.sleep(LOOK)
    return 0.0
