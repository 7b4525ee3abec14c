"""A configuration with everything checked: what `config` knows, the plugins' own models, access log templates.

Used by the config actor, by the process that loads for `pingap up`, and by `pingap check`.
It pulls in pydantic and all plugins, so the supervisor never imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pingap.config.diff import MOST_NAMED, restarted_only
from pingap.config.load import load as load_snapshot
from pingap.config.model import Snapshot
from pingap.config.notes import notes_on
from pingap.config.paths import check_paths
from pingap.config.problems import BadValue, ConfigRefused, Problem, path_of
from pingap.config.storage.base import Readable, ReadOnce
from pingap.config.storage.places import storage_of
from pingap.config.text.formats import as_written
from pingap.config.values import parse_access_log
from pingap.observability.access_format import problems as format_problems


def load(storage: Readable) -> Snapshot:
    """Reads what a storage holds. Raises ConfigRefused with all problems.

    Code of users is run in children only (stages/plugins/trial.py).
    """
    from pingap.stages.plugins import registry

    storage = ReadOnce(storage)
    checker = registry.Checker(storage.base)
    try:
        snapshot = load_snapshot(storage, plugin_checker=checker, builtin_plugins=registry.BUILTIN_INSTANCES)
    except ConfigRefused as refused:
        raise ConfigRefused([*refused.problems, *_access_logs(_written(storage))], refused.notes) from None
    formats = ((name, server.access_log.format) for name, server in snapshot.servers.items() if server.access_log)
    if problems := [*_access_logs(formats), *check_paths(snapshot)]:
        raise ConfigRefused(problems, snapshot.notes)
    return replace(snapshot, code=checker.code)


def _access_logs(formats: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    for server, format in formats:
        for problem in format_problems(format):
            message, _, hint = problem.partition("; ")
            yield Problem(path_of("servers", server, "access_log"), message, hint)


def _written(storage: Readable) -> Iterator[tuple[str, str]]:
    """Access log formats of a configuration that has other problems, so that these are told as well."""
    with suppress(ConfigRefused):
        for name, server in as_written(storage.read().documents, "servers").items():
            written = server.get("access_log") if isinstance(server, dict) else None
            with suppress(BadValue):
                if isinstance(written, str) and (log := parse_access_log(written)):
                    yield name, log.format


def to_plain(source: str | None, text: str | None) -> dict[str, Any]:
    """As `load`, for the supervisor: {"snapshot": wire form, "notes": as text, "passed": of stages/plugins/trial.py}.

    It gets what only a restart changes, and so neither thousands of locations nor private keys.
    Or {"problems": [[path, message, hint, source], …]}.
    """
    from pingap.stages.plugins import trial

    try:
        snapshot = load(storage_of(source, text))
        notes = [str(note) for note in notes_on(snapshot)]
        if len(notes) > MOST_NAMED:
            notes[MOST_NAMED:] = [f"{len(notes) - MOST_NAMED} more, which `pingap check` shows"]
        return {"snapshot": restarted_only(snapshot).to_wire(), "notes": notes, "passed": trial.passed()}
    except ConfigRefused as refused:
        return {"problems": [[p.path, p.message, p.hint, p.source] for p in refused.problems]}
