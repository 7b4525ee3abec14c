"""Cloudflare, API version 4, with a token that may edit DNS of the zone (`Zone.DNS: edit`, and `Zone: read`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from pingap.config.dns_service import DnsService
from pingap.stages.acme.dns.calls import CallAnswer, Calls, SignedCall
from pingap.stages.acme.dns.provider import ProviderRefused, ProviderZone, plain, tables, zone_among

_TTL: Final = 120
_IS_THERE: Final = ("81057", "81058")
"""A record of the same name, type and content."""
_IS_GONE: Final = ("81044",)
_OF_TOKENS: Final = ("6003", "9109", "10000", "10001")


class Cloudflare:
    """An account, by a token."""

    name = "cf"

    def __init__(self, service: DnsService, halted: threading.Event) -> None:
        self._endpoint = service.endpoint
        self._token = service.keys["token"]
        self._calls = Calls([self._token], halted)

    def zone(self, name: str) -> ProviderZone | None:
        return zone_among(self._ask("GET", "/zones", {"name": name}).get("result"), name, "name", "id")

    def add(self, zone: ProviderZone, record: str, value: str) -> str:
        if found := self._found(zone, record, value):
            return found[0]
        content = f'"{value}"'  # as zone files have it (RFC 1035 section 5.1), which it asks for
        try:
            made = self._ask("POST", _records(zone), {}, {"type": "TXT", "name": record, "content": content, "ttl": _TTL})
        except ProviderRefused as refused:
            if refused.code not in _IS_THERE:
                raise
            return next(iter(self._found(zone, record, value)), "")
        result = made.get("result")
        return str(result.get("id", "")) if isinstance(result, dict) else ""

    def remove(self, zone: ProviderZone, record: str, value: str, known: str) -> None:
        for one in [known] if known else self._found(zone, record, value):
            try:
                self._ask("DELETE", f"{_records(zone)}/{quote(one, safe='')}", {})
            except ProviderRefused as refused:
                if refused.code not in (*_IS_GONE, "404"):
                    raise

    def close(self) -> None:
        self._calls.close()

    def _found(self, zone: ProviderZone, record: str, value: str) -> list[str]:
        entries = tables(self._ask("GET", _records(zone), {"type": "TXT", "name": record, "per_page": "100"}).get("result"))
        return [
            str(one.get("id"))
            for one in entries
            if one.get("type") == "TXT" and plain(one.get("name")) == record and str(one.get("content")).strip('"') == value
        ]

    def _ask(self, method: str, path: str, query: Mapping[str, str], table: Mapping[str, object] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"}
        body = b""
        if table is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(table).encode()
        url = f"{self._endpoint}/client/v4{path}" + (f"?{urlencode(query)}" if query else "")
        return self._calls.ask(lambda: SignedCall(method, url, headers, body), self._judge)

    def _judge(self, answer: CallAnswer) -> ProviderRefused | None:
        table = answer.table or {}
        if answer.status < 300 and table.get("success") is True:
            return None
        said = next(iter(tables(table.get("errors"))), {})
        code = str(said.get("code") or answer.status)
        hint = "may the token read the zone and edit its DNS?" if answer.status in (401, 403) or code in _OF_TOKENS else ""
        return ProviderRefused(code, self._calls.masked(str(said.get("message") or "refused")), hint)


def _records(zone: ProviderZone) -> str:
    return f"/zones/{quote(zone.id, safe='')}/dns_records"
