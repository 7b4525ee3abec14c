"""Huawei Cloud DNS, version 2, with signatures SDK-HMAC-SHA256.

It keeps record *sets*: all values of a name and a type are one thing, with one id. So a value is added by writing the set with it,
and taken out by writing the set without it. Two that do so at once would undo each other's: within a process they take turns,
and what another has overwritten is written again.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from pingap.config.dns_service import DnsService
from pingap.stages.acme.dns.calls import CallAnswer, Calls, SignedCall
from pingap.stages.acme.dns.provider import ProviderRefused, ProviderZone, plain, tables, zone_among

_TTL: Final = 300
_ROUNDS: Final = 4
"""How often a set is written anew when it is found to be another than it was."""
_AGAIN: Final = ("DNS.0016", "DNS.0312", "DNS.0335", "409")
"""There is such a set by now, or it is being changed: look again."""
_IS_GONE: Final = ("DNS.0004", "DNS.0313", "404")
_TURN: Final = threading.Lock()


class _RecordSet(NamedTuple):
    id: str
    records: list[str]
    """Each with its quotation marks."""


class Huawei:
    """An account, by an access key."""

    name = "huawei"

    def __init__(self, service: DnsService, halted: threading.Event) -> None:
        self._endpoint = service.endpoint
        self._host = urlsplit(service.endpoint).netloc
        self._id = service.keys["access_key_id"]
        self._secret = service.keys["access_key_secret"]
        self._calls = Calls([self._id, self._secret], halted)
        self._halted = halted

    def zone(self, name: str) -> ProviderZone | None:
        found = self._ask("GET", "/v2/zones", {"type": "public", "name": name, "search_mode": "equal"})
        return zone_among(found.get("zones"), name, "name", "id")

    def add(self, zone: ProviderZone, record: str, value: str) -> str:
        mine = f'"{value}"'
        with _TURN:
            refused: ProviderRefused | None = None
            for attempt in range(_ROUNDS):
                sets = self._sets(zone, record)
                if there := next((one for one in sets if mine in one.records), None):
                    return there.id
                if attempt and self._halted.wait(0.5 * attempt):
                    break
                refused = self._write(zone, record, sets[0] if sets else _RecordSet("", []), mine)
            if there := next((one for one in self._sets(zone, record) if mine in one.records), None):
                return there.id
        raise refused or ProviderRefused("", "the record set is changed by others again and again")

    def remove(self, zone: ProviderZone, record: str, value: str, known: str) -> None:
        mine = f'"{value}"'
        with _TURN:
            refused: ProviderRefused | None = None
            for attempt in range(_ROUNDS):
                sets = [one for one in self._sets(zone, record) if mine in one.records]
                if not sets:
                    return
                if attempt and self._halted.wait(0.5 * attempt):
                    break
                refused = self._take_out(zone, record, sets[0], mine)
        if refused:
            raise refused

    def close(self) -> None:
        self._calls.close()

    def _write(self, zone: ProviderZone, record: str, there: _RecordSet, mine: str) -> ProviderRefused | None:
        """Returns what looking again may mend. Raises ProviderRefused."""
        table = {"name": f"{record}.", "type": "TXT", "ttl": _TTL, "records": [*there.records, mine]}
        return self._tried("PUT" if there.id else "POST", _path(zone, there.id), table)

    def _take_out(self, zone: ProviderZone, record: str, there: _RecordSet, mine: str) -> ProviderRefused | None:
        others = [one for one in there.records if one != mine]
        if not others:
            return self._tried("DELETE", _path(zone, there.id), None)
        return self._tried("PUT", _path(zone, there.id), {"name": f"{record}.", "type": "TXT", "ttl": _TTL, "records": others})

    def _tried(self, method: str, path: str, table: Mapping[str, object] | None) -> ProviderRefused | None:
        try:
            self._ask(method, path, {}, table)
        except ProviderRefused as refused:
            if refused.code not in (*_AGAIN, *_IS_GONE):
                raise
            return refused
        return None

    def _sets(self, zone: ProviderZone, record: str) -> list[_RecordSet]:
        found = self._ask("GET", _path(zone, ""), {"type": "TXT", "name": f"{record}.", "search_mode": "equal"})
        sets = []
        for one in tables(found.get("recordsets")):
            records = one.get("records")
            if one.get("status") == "PENDING_DELETE":
                continue
            if plain(one.get("name")) == record and one.get("type") == "TXT" and isinstance(records, list):
                sets.append(_RecordSet(str(one.get("id")), [text for text in records if isinstance(text, str)]))
        return sets

    def _ask(self, method: str, path: str, query: Mapping[str, str], table: Mapping[str, object] | None = None) -> dict[str, Any]:
        body = json.dumps(table).encode() if table is not None else b""
        return self._calls.ask(lambda: self._signed(method, path, query, body), self._judge)

    def _signed(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> SignedCall:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        told = "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))
        signed = {"content-type": "application/json", "host": self._host, "x-sdk-date": moment}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        # What is signed has a slash at its end, whether what is sent has one or not.
        canonical = f"{method}\n{path.rstrip('/')}/\n{told}\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        text = f"SDK-HMAC-SHA256\n{moment}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._secret.encode(), text.encode(), "sha256").hex()
        headers = {
            "Host": self._host,
            "Content-Type": "application/json",
            "X-Sdk-Date": moment,
            "Authorization": f"SDK-HMAC-SHA256 Access={self._id}, SignedHeaders={names}, Signature={signature}",
        }
        return SignedCall(method, f"{self._endpoint}{path}" + (f"?{told}" if told else ""), headers, body)

    def _judge(self, answer: CallAnswer) -> ProviderRefused | None:
        if answer.status < 300:
            return None
        table = answer.table or {}
        # Its gateway answers in other words than the service behind it.
        code = str(table.get("code") or table.get("error_code") or answer.status)
        message = str(table.get("message") or table.get("error_msg") or "refused")
        hint = ""
        if "expired" in message:
            hint = "is the clock of this machine right?"
        elif answer.status in (401, 403):
            hint = "is the access key right, and may it edit DNS?"
        return ProviderRefused(code, self._calls.masked(message), hint)


def _path(zone: ProviderZone, record_set: str) -> str:
    return f"/v2/zones/{quote(zone.id, safe='')}/recordsets" + (f"/{quote(record_set, safe='')}" if record_set else "")
