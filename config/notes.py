"""What an operator should know of a configuration that is taken all the same. It is told at a check, a start and a reload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from pingap.config.accounts import notes_on_account
from pingap.config.addresses import is_host_name
from pingap.config.certificates import out_of_time
from pingap.config.client_authorities import expired_authorities
from pingap.config.model import Location, Snapshot, Upstream
from pingap.config.problems import Note, path_of

_NAMED = 5
"""Places that one note names; of more it gives the number."""


def notes_on(snapshot: Snapshot, now: datetime | None = None) -> tuple[Note, ...]:
    """What was found while it was read, and what has no effect or has expired. now: with a time zone; None is now."""
    found = (
        *notes_on_account(snapshot.basic),
        *_certificates(snapshot),
        *_locations(snapshot),
        *_upstreams(snapshot),
        *out_of_time(snapshot.certificates, now or datetime.now(UTC)),
        *_client_authorities(snapshot, now or datetime.now(UTC)),
    )
    return (*snapshot.notes, *grouped(found))


def grouped(notes: Iterable[Note]) -> tuple[Note, ...]:
    """One note for all places of which the same is said, in the order of the first of them: there may be thousands."""
    places: dict[Note, list[str]] = {}
    for note in notes:
        places.setdefault(replace(note, path=""), []).append(note.path)
    return tuple(replace(note, path=_listed(paths)) for note, paths in places.items())


def _listed(paths: list[str]) -> str:
    rest = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _locations(snapshot: Snapshot) -> Iterator[Note]:
    for name, location in snapshot.locations.items():
        if location.retry_status_code:
            why = _no_retry(location, snapshot.upstreams.get(location.upstream))
            if why:
                yield Note(f"{path_of('locations', name)}.retry_status_code", f"without effect: {why}")


def _no_retry(location: Location, upstream: Upstream | None) -> str:
    """Why there never is one because of an answer's status; empty when there may be. upstream: None for one that a capture names."""
    if location.max_retries == 0:
        return "max_retries = 0 forbids every retry"
    if upstream is None:
        return ""
    if upstream.retry_budget == 0:
        return f"retry_budget = 0 of {path_of('upstreams', location.upstream)} forbids it"
    if upstream.discovery == "transparent":
        return f"{path_of('upstreams', location.upstream)} is transparent: nobody else can be asked"
    is_single = upstream.discovery == "static" and len(upstream.addrs) == 1 and not is_host_name(upstream.addrs[0].host)
    return f"{path_of('upstreams', location.upstream)} has no other backend" if is_single else ""


def _upstreams(snapshot: Snapshot) -> Iterator[Note]:
    for name, upstream in snapshot.upstreams.items():
        yield from _discovery(path_of("upstreams", name), upstream)
        if upstream.slow_start and upstream.algo.kind == "hash":
            yield Note(f"{path_of('upstreams', name)}.slow_start", "without effect: with hash the key decides, not the share")


def _discovery(path: str, upstream: Upstream) -> Iterator[Note]:
    if upstream.docker_host and upstream.discovery != "docker":
        yield Note(f"{path}.docker_host", 'without effect: discovery is not "docker"')
    if upstream.discovery != "dns":
        for key in ("dns_server", "dns_domain", "dns_search"):
            if getattr(upstream, key):
                yield Note(f"{path}.{key}", 'without effect: discovery is not "dns"')
        return
    for index, backend in enumerate(upstream.addrs):
        if backend.host.startswith("_") and (backend.port, backend.weight) != (80, 1):
            yield Note(
                f"{path}.addrs[{index}]", "its port and weight are without effect: SRV records bring their own", "write the name alone"
            )


def _client_authorities(snapshot: Snapshot, now: datetime) -> Iterator[Note]:
    for name, server in snapshot.servers.items():
        yield from expired_authorities(path_of("servers", name), server, now)


def _certificates(snapshot: Snapshot) -> Iterator[Note]:
    certificates = snapshot.certificates
    if not any(server.global_certificates for server in snapshot.servers.values()):
        for name in certificates:
            yield Note(path_of("certificates", name), "without effect: no server has global_certificates = true")
    elif len(certificates) > 1:
        for name, one in certificates.items():
            if not one.domains and not one.is_default and not one.is_ca:
                yield Note(path_of("certificates", name), "without effect: for no name, and not the default")
