"""`pingap cache stats`, `explain` and `purge`."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, ask, fail

LOCAL: Final = "127.0.0.1"

PURGING: Final = 70.0
"""Seconds that a purge may take."""


def _servers(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return sorted({row["server"] for row in options.known(context, "listeners") or () if row["server"].startswith(begun)})


def _namespaces(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    answers = (options.known(context, "cache-stats") or {"answers": ()})["answers"]
    return sorted({one["namespace"] for answer in answers for one in answer["caches"] if one["namespace"].startswith(begun)})


_server = click.option(
    "--server", metavar="NAME", shell_complete=_servers, help="The server that the request comes to, where the URL leaves that open."
)
_headers = click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header line of the request.")


@click.group("cache")
def cache() -> None:
    """See what the caches hold, what a request would get of them, and purge it.

    PURGE requests do the same over HTTP (docs/caching.md).
    """


@cache.command("stats", cls=options.Command)
@options.as_json
@options.watch
@options.run_dir
def stats(as_json: bool, watch: float | None, run_dir: str | None) -> None:
    """Show what each cache holds, and what its requests got.

    Requests are counted since each process of the plugins stage began, and added up.
    HITS is the part of them that was answered from what is stored.
    """
    from pingap import cache_tables

    def made(told: dict[str, Any]) -> Any:
        return cache_tables.summed(told["answers"], told["silent"])

    def text(found: Any) -> str:
        return "\n".join(cache_tables.stats_lines(found, terminal.width() if terminal.is_terminal() else 0))

    options.show_told(run_dir, "cache-stats", made=made, text=text, every=watch, as_json=as_json)


@cache.command("explain", cls=options.Command)
@click.argument("url")
@_headers
@click.option("--method", default="GET", metavar="WORD", help="Of the request.")
@click.option("--client", "client_ip", default=LOCAL, metavar="ADDRESS", help=f"Where the request comes from. [default: {LOCAL}]")
@_server
@options.as_json
@options.run_dir
def explain(
    url: str, headers: tuple[str, ...], method: str, client_ip: str, server: str | None, as_json: bool, run_dir: str | None
) -> None:
    """Say what a request would get, and which rule says so.

    The request goes through the routing and the plugins of the running instance, and
    to no backend: nothing is fetched, stored or logged. The outcome is a word of
    X-Cache-Status: `hit`, `stale-updating` (used while it is validated), `stale` (the
    backend fails), `expired` (the backend is asked first), `miss`, `uncacheable`,
    `failed`, `bypass`, `unavailable` (only-if-cached); or `uncached` (no cache there),
    or `answered` (by a plugin before the cache, or by routing).
    """
    from pingap import cache_tables

    found = ask(run_dir, "cache-explain", *_asked(url, method, headers, client_ip, server, run_dir))
    if as_json:
        terminal.say(json.dumps({"url": url, **found}, indent=2))
        return
    text = "\n".join(cache_tables.explain_lines(url, found))
    terminal.say(terminal.fitted(text, terminal.width()) if terminal.is_terminal() else text)


@cache.command("purge", cls=options.Command)
@click.argument("url", required=False)
@click.option("--prefix", metavar="URL", help="All URLs that begin so.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="All with this Cache-Tag or Surrogate-Key; may be repeated.")
@click.option("--all", "is_all", is_flag=True, help="All that is stored.")
@click.option("--namespace", metavar="NAME", shell_complete=_namespaces, help="With --tag and --all: of this namespace alone.")
@click.option("--soft", is_flag=True, help="Make it stale rather than remove it: it may be used while it is validated.")
@_server
@options.as_json
@options.run_dir
def purge(
    url: str | None,
    prefix: str | None,
    tags: tuple[str, ...],
    is_all: bool,
    namespace: str | None,
    soft: bool,
    server: str | None,
    as_json: bool,
    run_dir: str | None,
) -> None:
    """Remove what is stored, in all processes.

    A URL goes with all its variants, of http and of https. Whoever asks after this
    command has ended does not get what was purged.
    """
    if sum((url is not None, prefix is not None, bool(tags), is_all)) != 1:
        fail("say what is to be purged: a URL, --prefix URL, --tag TAG or --all", BAD_USAGE)
    if namespace is not None and (url is not None or prefix is not None):
        fail("--namespace goes with --tag and --all: a URL has the namespace of the cache that it comes to", BAD_USAGE)
    if server is not None and url is None and prefix is None:
        fail("--server goes with a URL", BAD_USAGE)
    where = url if url is not None else prefix
    words: tuple[Any, ...]
    if where is not None:
        scope = "url" if url is not None else "prefix"
        words = (scope, soft, *_asked(where, "PURGE", (), LOCAL, server, run_dir))
    else:
        words = ("tags" if tags else "all", soft, namespace, list(tags))
    found = ask(run_dir, "cache-purge", *words, deadline=PURGING)
    if as_json:
        terminal.say(json.dumps(found, indent=2))
        return
    count = found["purged"]
    what = f"{count or 'no'} stored answer{'s' * (count != 1)}"
    terminal.say(f"{what} made stale" if soft else f"{what} purged")


def _asked(url: str, method: str, headers: tuple[str, ...], client_ip: str, server: str | None, run_dir: str | None) -> tuple[Any, ...]:
    """As stages/plugins/cache/probe.py has it: ProbeAsked."""
    import ipaddress

    from pingap.asked_url import BadUrl, entrance_for, parse_asked

    lines = []
    authority = ""
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            fail(f"{line!r} is no header line: -H 'name: value'", BAD_USAGE)
        if name.strip().lower() == "host":
            authority = value.strip()
        else:
            lines.append([name.strip(), value.strip()])
    try:
        ipaddress.ip_address(client_ip)
    except ValueError:
        fail(f"{client_ip!r} is no IP address", BAD_USAGE)
    try:
        asked = parse_asked(url)
    except BadUrl as error:
        fail(str(error), BAD_USAGE)
    listeners = ask(run_dir, "listeners")
    try:
        entrance = entrance_for(asked, listeners, server)
    except BadUrl as error:
        fail(str(error), BAD_USAGE)
    return (
        *(entrance.server, entrance.scheme, entrance.ip, entrance.port, client_ip),
        *(method, asked.target, authority or asked.authority, lines),
    )
