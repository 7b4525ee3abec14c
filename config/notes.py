"""What a configuration says in vain. Nothing breaks on it, so it is no problem: it is told at a check, a start and a reload, and taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from config.model import Snapshot
from config.problems import path_of

_NAMED = 5
"""Items that one note names; of more it gives the number."""


def in_vain(snapshot: Snapshot) -> tuple[str, ...]:
    """One line for each thing that has no effect."""
    return tuple(_certificates(snapshot))


def _certificates(snapshot: Snapshot) -> Iterator[str]:
    certificates = snapshot.certificates
    if not any(server.global_certificates for server in snapshot.servers.values()):
        if certificates:
            yield f"{_listed(certificates)} without effect: no server has global_certificates = true"
    elif len(certificates) > 1:
        nameless = [name for name, one in certificates.items() if not one.domains and not one.is_default]
        if nameless:
            yield f"{_listed(nameless)} without effect: for no name, and not the default"


def _listed(names: Iterable[str]) -> str:
    paths = [path_of("certificates", name) for name in names]
    rest = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {rest} more are" if rest > 0 else " are" if len(paths) > 1 else " is")
