"""`pingap logs` and `pingap tap`."""

from __future__ import annotations

import sys

import click

from pingap.commands import options
from pingap.commands.options import BAD_USAGE, fail


@options.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@options.as_json
@click.option("--level", type=click.Choice(["debug", "info", "warn", "error"]), default="info", show_default=True, help="The least shown.")
@options.run_dir
def logs(follow: bool, as_json: bool, level: str, run_dir: str | None) -> None:
    """Show the newest records of the application log of the running instance."""
    from pingap import client, watch

    try:
        sys.exit(watch.logs(run_dir, follow, as_json, level))
    except client.NotRunning as error:
        fail(str(error))


@options.command()
@click.option("--host", metavar="HOST", help="Requests for this host; *.example.com for its subdomains.")
@click.option("--path", metavar="PREFIX", help="Requests whose path begins so.")
@click.option("--status", metavar="STATUS", help="5xx, 404, or several with commas.")
@options.run_dir
def tap(host: str | None, path: str | None, status: str | None, run_dir: str | None) -> None:
    """Show requests as they end, with the time that each stage took."""
    from pingap import client, watch

    try:
        has_status = watch.status_filter(status)
    except ValueError as error:
        fail(str(error), BAD_USAGE)
    try:
        sys.exit(watch.tap(run_dir, host, path, has_status))
    except client.NotRunning as error:
        fail(str(error))
