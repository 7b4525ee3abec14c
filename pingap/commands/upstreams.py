"""`pingap upstreams`, and `pingap upstream drain` and `enable`."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from pingap import rundir, terminal
from pingap.commands import options
from pingap.commands.options import FAILED, Span, ask, fail

LOOK: Final = 0.2
"""Seconds between two looks of `--wait`."""

SETTLED: Final = 0.6
"""Seconds that a backend must have had no request in flight: what was sent to it in the moment of the drain is told so late at most."""


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return [row["upstream"] for row in (options.known(context, "upstreams") or ()) if row["upstream"].startswith(begun)]


def _addresses(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    rows = [row for row in (options.known(context, "upstreams") or ()) if row["upstream"] == context.params.get("name")]
    return [backend["address"] for row in rows for backend in row["backends"] if backend["address"].startswith(begun)]


@options.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_names)
@options.as_json
@options.health("each upstream has a usable backend")
@options.watch
@options.run_dir
def upstreams(names: tuple[str, ...], as_json: bool, health: bool, watch: float | None, run_dir: str | None) -> None:
    """List the backends: health, circuit, connections, requests, failures, checks.

    On a terminal that is too narrow the columns that matter least are left out. CHECKED
    is how long ago, and how long the check took; FAILED is of the last
    backend_stats_interval.
    """
    if health:
        _tell_health(ask(run_dir, "upstreams", *names))
    options.show_told(run_dir, "upstreams", *names, text=_text, every=watch, as_json=as_json)


def _text(rows: list[dict[str, Any]]) -> str:
    from pingap import upstreams_table

    if not rows:
        return "the configuration has no upstreams"
    return options.table(lambda width: upstreams_table.lines(rows, time.time(), width), upstreams_table.colour_of)


def _tell_health(rows: list[dict[str, Any]]) -> None:
    from pingap import upstreams_table

    options.tell_health(upstreams_table.unserved(rows), "no usable backend", f"{options.each(rows, 'upstream')} has a usable backend")


@click.group("upstream")
def upstream() -> None:
    """Take backends out for maintenance, and put them back.

    `pingap upstreams` lists them. A drain is remembered until the backend is enabled or
    leaves its upstream: over reloads and upgrades, but not over a restart of pingap.
    """


@upstream.command("drain", cls=options.Command)
@click.argument("name", shell_complete=_names)
@click.argument("address", shell_complete=_addresses)
@click.option("--wait", type=Span(), metavar="TIME", help="Wait until nothing is in flight there; exit code 1 when that takes longer.")
@click.option("--force", is_flag=True, help="The last usable backend of an upstream, too.")
@options.run_dir
def drain(name: str, address: str, wait: float | None, force: bool, run_dir: str | None) -> None:
    """Send a backend no new requests.

    Those in flight go on, and idle connections are closed. ADDRESS is as
    `pingap upstreams` shows it.
    """
    answer = ask(run_dir, "upstream-drain", name, address, force)
    what = "is drained" if answer["changed"] else "was drained already"
    left = f"{answer['usable']} of {answer['backends']} backends of {name} left" if answer["usable"] else f"{name} has no usable backend"
    terminal.say(f"{address} {what}: {_in_flight(answer['in_flight'])}; {left}")
    if wait is not None:
        _await_end(name, address, wait, run_dir)


def _await_end(name: str, address: str, seconds: float, run_dir: str | None) -> None:
    from pingap import client

    idle_since: float | None = None
    until = time.monotonic() + seconds
    held, trouble = 1, ""
    while True:
        try:
            held, trouble = _held(client.ask(run_dir or rundir.default(), "upstreams", name), address), ""
        except client.NotRunning as error:
            fail(str(error))
        except client.AskRefused as error:  # of a discovery stage that starts anew
            trouble, idle_since = str(error), None
        now = time.monotonic()
        if trouble or held:
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since >= SETTLED:
            terminal.say(f"{address} has nothing in flight")
            return
        if now >= until:
            fail(f"{address}: {trouble or _in_flight(held)} after {seconds:g} s", FAILED)
        time.sleep(min(LOOK, max(0.01, until - now)))


def _held(rows: list[dict[str, Any]], address: str) -> int:
    return sum(backend["in_flight"] for row in rows for backend in row["backends"] if backend["address"] == address)


def _in_flight(count: int) -> str:
    return f"{count or 'no'} request{'s' * (count != 1)} in flight"


@upstream.command("enable", cls=options.Command)
@click.argument("name", shell_complete=_names)
@click.argument("address", shell_complete=_addresses)
@options.run_dir
def enable(name: str, address: str, run_dir: str | None) -> None:
    """Put a drained backend back."""
    answer = ask(run_dir, "upstream-enable", name, address)
    if not answer["changed"]:
        terminal.say(f"{address} was not drained")
    elif answer["health"] == "unhealthy":
        terminal.say(f"{address} is enabled, but unhealthy: it gets requests when it passes its checks")
    else:
        terminal.say(f"{address} is enabled")
