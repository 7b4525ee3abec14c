"""`pingap plugins`: which there are, and their manual."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, fail

if TYPE_CHECKING:
    from pingap.workshop.catalogue import PluginEntry


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from pingap.workshop.catalogue import entries

    return [entry.name for entry in entries() if entry.name.startswith(begun)]


@options.command()
@click.argument("name", required=False, shell_complete=_names)
@click.option("-c", "--conf", metavar="PATH", callback=options.unseen, help="List the plugins of your own in this configuration, too.")
@options.as_json
def plugins(name: str | None, conf: str | None, as_json: bool) -> None:
    """List the plugins, those of installed packages too, or show the manual of one: steps, keys, defaults.

    NAME is that of a plugin, or of an instance that needs no section. Of a plugin
    of your own it is the name of its section in the configuration that -c names.
    """
    from pingap.workshop import listing
    from pingap.workshop.catalogue import as_json as plain_of
    from pingap.workshop.catalogue import entries

    found = [*entries(), *_installed(), *(_of_configuration(conf) if conf is not None else ())]
    shown = found if name is None else [_named(found, name)]
    if as_json:
        terminal.say(json.dumps([plain_of(entry) for entry in shown], indent=2))
        return
    width = terminal.width() if terminal.is_terminal() else 0
    terminal.say("\n".join(listing.table(shown, width) if name is None else listing.page(shown[0], width or 80)))


def _named(found: list[PluginEntry], name: str) -> PluginEntry:
    from pingap.config.problems import nearest

    entry = next((entry for entry in found if name == entry.name or name in entry.instances), None)
    if entry is None:
        hint = nearest(name, [entry.name for entry in found])
        fail(f"there is no plugin {name!r}" + (f": {hint}" if hint else "; `pingap plugins` lists them"), BAD_USAGE)
    return entry


def _installed() -> list[PluginEntry]:
    from pingap.stages.plugins.user_code import BrokenCode
    from pingap.workshop.catalogue import entries_installed

    try:
        return entries_installed()
    except BrokenCode as error:
        terminal.warn(str(error))
        return []


def _of_configuration(conf: str) -> list[PluginEntry]:
    from pingap.config.problems import ConfigRefused
    from pingap.config.storage.places import storage_of
    from pingap.workshop.catalogue import entries_in

    try:
        return entries_in(storage_of(options.source_of(conf), None))
    except ConfigRefused as refused:
        fail(terminal.fitted(str(refused)), BAD_USAGE)
