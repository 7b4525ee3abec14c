"""What an operator should know of a configuration that is taken all the same. It is told at a check, a start and a reload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pingap.config.certificates import out_of_time
from pingap.config.model import Snapshot
from pingap.config.problems import path_of

_NAMED = 5
"""Items that one note names; of more it gives the number."""


def notes_on(snapshot: Snapshot, now: datetime | None = None) -> tuple[str, ...]:
    """One line for each thing that has no effect, and for each certificate that has expired. now: with a time zone; None is now."""
    return (*_certificates(snapshot), *out_of_time(snapshot.certificates, now or datetime.now(UTC)))


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
