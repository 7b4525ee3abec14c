"""`pingap logs` and `pingap tap`."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

import click

from pingap.commands import options
from pingap.commands.options import BAD_USAGE, Number, Span, fail


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> float:
    """Unix time: of `10m` (ago), `14:30` (today) or `2026-07-01 14:30`, the time of this machine unless it says another."""
    if value is None:
        return 0.0
    if value[:1].isdigit() and not set(value) & set(":-"):
        return time.time() - Span().convert(value, parameter, context)
    try:
        if len(value) <= 8:
            value = f"{datetime.now().date()} {value.rjust(5, '0')}"
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time: write 10m, 14:30 or 2026-07-01T14:30") from None


def _stages(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    from pingap.config.model import STAGES
    from pingap.config.problems import choices, nearest

    known = (*STAGES, "config", "supervisor", "worker")
    for value in values:
        name, dot, replica = value.partition(".")
        if name not in known or (dot and options.number_of(replica) is None):
            raise click.BadParameter(f"{value!r} is no stage: {nearest(name, known) or choices(known)}")
    return frozenset(values)


@options.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", "most", type=Number(0, 1000), metavar="N", help="Of what is there, only the newest N records.")
@click.option("--since", metavar="TIME", callback=_since, help="10m (ago), 14:30 or 2026-07-01T14:30.")
@click.option("--stage", "stages", metavar="STAGE", multiple=True, callback=_stages, help="upstream or upstream.0; may be repeated.")
@click.option("--level", type=click.Choice(["debug", "info", "warn", "error"]), default="info", show_default=True, help="The least shown.")
@options.as_json
@options.run_dir
def logs(follow: bool, most: int | None, since: float, stages: frozenset[str], level: str, as_json: bool, run_dir: str | None) -> None:
    """Show the newest records of the application log of the running instance.

    They are at most the 1000 that the running logging stage has written last; older
    ones are in the log file.
    """
    from pingap import client, tail

    try:
        sys.exit(tail.logs(run_dir, follow, as_json, tail.RecordFilter(level, stages, since, most)))
    except client.NotRunning as error:
        fail(str(error))


@options.command()
@click.option("--host", metavar="HOST", help="Requests for this host; *.example.com for its subdomains.")
@click.option("--path", metavar="PREFIX", default="", help="Requests whose path begins so.")
@click.option("--status", metavar="STATUS", help="5xx, 404, or several with commas.")
@click.option("--location", metavar="NAME", help="Requests of this location.")
@click.option("--upstream", metavar="NAME", help="Requests of this upstream, or of the backend with this address.")
@click.option("--slower-than", type=Span(), metavar="TIME", default=0.0, help="Requests that took at least so long, as 200ms.")
@options.as_json
@options.run_dir
def tap(status: str | None, as_json: bool, run_dir: str | None, **wanted: Any) -> None:
    """Show requests as they end, with the time that each stage took."""
    from pingap import client, tail

    try:
        has_status = tail.status_filter(status)
    except ValueError as error:
        fail(str(error), BAD_USAGE)
    try:
        sys.exit(tail.tap(run_dir, tail.Requests(has_status=has_status, **wanted), as_json))
    except client.NotRunning as error:
        fail(str(error))
