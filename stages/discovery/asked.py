"""Decides what the operator is answered: `pingap upstreams`, `pingap upstream drain` and `enable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap.config.problems import choices, nearest
from pingap.stages.discovery.drains import Drains
from pingap.stages.discovery.table import NO_FIGURES, Figures, KnownUpstream, stands_for, statuses
from pingap.stages.statuses import TRANSPARENT, BackendStatus, UpstreamStatus, plain

UPSTREAMS: Final = "upstreams"
DRAIN: Final = "upstream-drain"
ENABLE: Final = "upstream-enable"
WORDS: Final = (UPSTREAMS, DRAIN, ENABLE)
"""Of TELL (bus/PROTOCOL.md section 4)."""

NAMED: Final = 8
"""Names that a refusal lists."""


class NotSo(Exception):
    """What was asked for cannot be; the text is the reason."""


class Known(NamedTuple):
    """What an answer is made of."""

    upstreams: Mapping[str, KnownUpstream]
    drains: Drains
    figures: Figures = NO_FIGURES


def answer(word: str, args: Sequence[Any], known: Known) -> Any:
    """One of WORDS, done and answered. Raises NotSo; ValueError and TypeError for arguments of another kind."""
    if word == UPSTREAMS:
        return [plain(status) for status in chosen(args, known)]
    if word == DRAIN:
        upstream, address, is_forced = args
        return drain(str(upstream), str(address), bool(is_forced), known)
    upstream, address = args
    return enable(str(upstream), str(address), known)


def chosen(names: Sequence[Any], known: Known) -> tuple[UpstreamStatus, ...]:
    """Those with these names, without names all. Raises NotSo for a name that none has."""
    for name in names:
        _upstream(str(name), known)
    return statuses({name: one for name, one in known.upstreams.items() if not names or name in names}, known.drains, known.figures)


def drain(name: str, address: str, is_forced: bool, known: Known) -> dict[str, Any]:
    """Takes a backend out. Raises NotSo when it is not there, or is the last one."""
    status, backend = _backend(name, address, known)
    left = status.usable - backend.is_usable
    if not backend.is_drained:
        if backend.is_usable and not left and not is_forced:
            what = "the only backend" if len(status.backends) == 1 else "the only usable backend"
            raise NotSo(f"{address} is {what} of upstream {name!r}: without it every request there fails (--force does it all the same)")
        if not known.drains.add(name, address):
            raise NotSo("too many backends are drained: enable some first")
    return {
        "upstream": name,
        "address": address,
        "changed": not backend.is_drained,
        "in_flight": backend.in_flight,
        "usable": left,
        "backends": len(status.backends),
    }


def enable(name: str, address: str, known: Known) -> dict[str, Any]:
    """Puts it back. Raises NotSo when it is not there."""
    _, backend = _backend(name, address, known)
    known.drains.remove(name, address)
    return {"upstream": name, "address": address, "changed": backend.is_drained, "health": backend.health, "circuit": backend.circuit}


def _upstream(name: str, known: Known) -> KnownUpstream:
    if name not in known.upstreams:
        raise NotSo(f"there is no upstream {name!r}: {_hint(name, known.upstreams) or 'the configuration has none'}")
    return known.upstreams[name]


def _backend(name: str, address: str, known: Known) -> tuple[UpstreamStatus, BackendStatus]:
    upstream = _upstream(name, known)
    (status,) = statuses({name: upstream}, known.drains, known.figures)
    for backend in status.backends:
        if backend.address == address:
            return status, backend
    if those := stands_for(upstream, address):
        raise NotSo(f"{address} stands for several backends, which are drained one by one: {_few(those)}")
    if status.discovery == TRANSPARENT:
        raise NotSo(f"upstream {name!r} is transparent: it has no backends of its own")
    hint = _hint(address, [backend.address for backend in status.backends]) or "it has none at the moment"
    raise NotSo(f"upstream {name!r} has no backend {address!r}: {hint}")


def _hint(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return nearest(word, known) or (choices(known) if 0 < len(known) <= NAMED else f"it is one of {len(known)}" if known else "")


def _few(words: Sequence[str]) -> str:
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")
