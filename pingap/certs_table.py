"""The table of `pingap certs`, what stands between its lines, and what `pingap certs probe` shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap import tables
from pingap.ps_table import Line, span
from pingap.stages.certificate_status import DAY, EXPIRED, ISSUING, NOT_YET, SOON, VALID, WAITING
from pingap.tables import Column
from pingap.tls_probe import Probed, TlsTarget

Certificate = Mapping[str, Any]
"""As `pingap certs --json` has it (stages/certificate_status.py)."""

NONE: Final = "-"

FAILING: Final = "failing"
"""Of a line that says why something is not as it should be."""

SHOWN: Final = 2
"""Domains that a cell names."""


class CertRow(NamedTuple):
    """A certificate as of now, in Unix seconds."""

    certificate: Certificate
    now: float


def columns() -> tuple[Column[CertRow], ...]:
    """In order."""
    return (
        Column("NAME", lambda row: tables.safe(row.certificate["certificate"]), False, 0, least=8),
        Column("DOMAINS", lambda row: _few(row.certificate["domains"]), False, 0, least=12),
        Column("ISSUER", lambda row: tables.safe(row.certificate["issuer"] or NONE), False, 3, least=8),
        Column("DAYS", _days, True, 0),
        Column("STATE", lambda row: str(row.certificate["state"]), False, 0),
        Column("SOURCE", lambda row: str(row.certificate["source"]), False, 2),
        Column("RENEWS", _renews, True, 1, usual=NONE),
        Column("USED BY", lambda row: _few(row.certificate["servers"]), False, 4, least=7),
    )


def lines(certificates: Sequence[Certificate], now: float, width: int = 0) -> list[Line]:
    """The table, at most `width` columns wide as far as that goes; 0 is any width. now: Unix seconds."""
    rows = [CertRow(one, now) for one in certificates]
    texts = tables.fitted(columns(), rows, width)
    found = [Line(texts[0], "")]
    for row, text in zip(rows, texts[1:], strict=True):
        found.append(Line(text, _seen(row.certificate)))
        found += [Line(f"  {tables.safe(text)}", state) for text, state in _details(row.certificate, now)]
    return found


def colour_of(state: str) -> str:
    """What stands out is what one looks for."""
    return {EXPIRED: "red", NOT_YET: "red", SOON: "yellow", WAITING: "yellow", ISSUING: "yellow", FAILING: "yellow"}.get(state, "")


def unwell(certificates: Sequence[Certificate]) -> list[str]:
    """Those that clients do not get, do not believe or soon will not, each with why."""
    return [f"{tables.safe(one['certificate'])} ({one['state']})" for one in certificates if one["state"] != VALID]


def _seen(one: Certificate) -> str:
    """One that is awaited in vain is as good as one that has ended."""
    if one["state"] in (WAITING, ISSUING) and _error(one):
        return EXPIRED
    return FAILING if one["state"] == VALID and _error(one) else str(one["state"])


def _error(one: Certificate) -> str:
    return str((one["acme"] or {}).get("last_error") or "")


def _days(row: CertRow) -> str:
    """Whole ones; of few, hours as well."""
    end = row.certificate["not_after"]
    if end is None:
        return NONE
    left = float(end) - row.now
    text = span(abs(left)) if abs(left) < 2 * DAY else str(int(abs(left) // DAY))
    return text if left >= 0 else f"-{text}"


def _renews(row: CertRow) -> str:
    acme = row.certificate["acme"]
    if acme is None:
        return NONE
    planned = acme["next_try"] or acme["next_renewal"]
    if acme["step"] or (planned and planned <= row.now):
        return "now"
    return f"in {span(planned - row.now)}" if planned else NONE


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return tables.safe(", ".join(names[:SHOWN])) + (f" +{more}" if more > 0 else "") or NONE


def _details(one: Certificate, now: float) -> Iterator[tuple[str, str]]:
    """(a line, its state): what is under way, what went wrong, and when it goes on."""
    acme = one["acme"] or {}
    if step := acme.get("step"):
        yield f"{acme['authority']}: {step}", ""
    if error := acme.get("last_error"):
        times = f"{acme['attempts']} times" if acme["attempts"] > 1 else "once"
        ago = f", {span(max(0.0, now - acme['failed_at']))} ago" if acme["failed_at"] else ""
        again = f"; next try in {span(max(0.0, acme['next_try'] - now))}" if acme["next_try"] and not step else ""
        failed = f"failed {times}{ago}: " if acme["attempts"] else ""
        yield f"{acme['authority']}: {failed}{error}{again}", FAILING
    elif one["state"] == WAITING and acme and not step:
        yield f"{acme['authority']}: there is no certificate yet", ""
    for warning in one["warnings"]:
        yield warning, FAILING


# -- probe -----------------------------------------------------------------------------------------


def probe_lines(target: TlsTarget, probed: Probed, held: str, now: float) -> list[str]:
    """What was met, a line for each thing. held: whether the running instance holds that certificate, "" for nothing to say."""
    rows = list(_probed(target, probed, now))
    if held:
        rows.append(("held", held))
    size = max(len(name) for name, _ in rows)
    return [f"{target} at {probed.address}", *(f"  {name.ljust(size)}  {tables.safe(text)}" for name, text in rows)]


def _probed(target: TlsTarget, probed: Probed, now: float) -> Iterator[tuple[str, str]]:
    leaf = probed.chain[0]
    yield "trusted", f"no: {probed.distrust}" if probed.distrust else f"yes, for {target.host}"
    yield "protocol", ", ".join(filter(None, (probed.version, probed.cipher, probed.alpn)))
    yield "names", ", ".join(leaf.names) or NONE
    yield "issuer", leaf.issuer
    yield "valid", f"{date(leaf.not_before)} to {date(leaf.not_after)}: {_left(leaf.not_before, leaf.not_after, now)}"
    yield "key", leaf.key
    yield "serial", leaf.serial
    yield "sha256", leaf.fingerprint
    yield "chain", " < ".join([leaf.subject or NONE, *(one.subject or NONE for one in probed.chain[1:])])


def _left(begin: float, end: float, now: float) -> str:
    if now < begin:
        return f"begins in {span(begin - now)}"
    return f"{span(end - now)} left" if end > now else f"ended {span(now - end)} ago"


def date(seconds: float) -> str:
    """In UTC, as certificates have it."""
    return f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(seconds))} UTC"


def probed_json(target: TlsTarget, probed: Probed, held: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """For programs; docs/certificates.md says what the keys are."""
    leaf = probed.chain[0]
    return {
        "host": target.host,
        "port": target.port,
        "address": str(probed.address),
        "trusted": not probed.distrust,
        "distrust": probed.distrust or None,
        "version": probed.version,
        "cipher": probed.cipher,
        "alpn": probed.alpn or None,
        "names": list(leaf.names),
        "issuer": leaf.issuer,
        "serial": leaf.serial,
        "fingerprint": leaf.fingerprint,
        "key": leaf.key,
        "not_before": leaf.not_before,
        "not_after": leaf.not_after,
        "days": round((leaf.not_after - now) / DAY, 2),
        "chain": [{"subject": one.subject, "issuer": one.issuer, "not_after": one.not_after} for one in probed.chain],
        "held": held,
    }
