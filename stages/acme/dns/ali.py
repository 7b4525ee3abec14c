"""Alibaba Cloud DNS, version 2015-01-09, by RPC calls with signatures of version 1.0 (HMAC-SHA1)."""

from __future__ import annotations

import hmac
import threading
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from pingap.config.dns_service import DnsService
from pingap.stages.acme.dns.calls import CallAnswer, Calls, SignedCall, TooManyCalls
from pingap.stages.acme.dns.provider import ProviderRefused, ProviderZone, as_written, host_in, tables, zone_among

_VERSION: Final = "2015-01-09"
_IS_THERE: Final = "DomainRecordDuplicate"
_IS_GONE: Final = ("DomainRecordNotBelongToUser", "InvalidRecordId.NotFound", "InvalidRR.NoExist")
_MOST: Final = "100"
"""Entries of one page of zones."""


class Aliyun:
    """An account, by an access key."""

    name = "ali"

    def __init__(self, service: DnsService, halted: threading.Event) -> None:
        self._endpoint = service.endpoint
        self._id = service.keys["access_key_id"]
        self._secret = service.keys["access_key_secret"]
        self._calls = Calls([self._id, self._secret], halted)

    def zone(self, name: str) -> ProviderZone | None:
        found = self._ask("DescribeDomains", {"KeyWord": as_written(name), "SearchMode": "EXACT", "PageSize": _MOST})
        return zone_among(_inner(found, "Domains", "Domain"), name, "DomainName", "DomainName")

    def add(self, zone: ProviderZone, record: str, value: str) -> str:
        if found := self._found(zone, record, value):
            return found[0]
        try:
            made = self._ask("AddDomainRecord", {"DomainName": zone.id, "RR": host_in(zone, record), "Type": "TXT", "Value": value})
        except ProviderRefused as refused:
            if refused.code != _IS_THERE:
                raise
            return next(iter(self._found(zone, record, value)), "")
        return str(made.get("RecordId", ""))

    def remove(self, zone: ProviderZone, record: str, value: str, known: str) -> None:
        for one in [known] if known else self._found(zone, record, value):
            try:
                self._ask("DeleteDomainRecord", {"RecordId": one})
            except ProviderRefused as refused:
                if refused.code not in _IS_GONE:
                    raise

    def close(self) -> None:
        self._calls.close()

    def _found(self, zone: ProviderZone, record: str, value: str) -> list[str]:
        host = host_in(zone, record)
        name = zone.id if host == "@" else f"{host}.{zone.id}"
        found = self._ask("DescribeSubDomainRecords", {"DomainName": zone.id, "SubDomain": name, "Type": "TXT", "PageSize": "500"})
        entries = tables(_inner(found, "DomainRecords", "Record"))
        return [str(one.get("RecordId")) for one in entries if (one.get("RR"), one.get("Type"), one.get("Value")) == (host, "TXT", value)]

    def _ask(self, action: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        return self._calls.ask(lambda: self._signed(action, parameters), self._judge)

    def _signed(self, action: str, parameters: Mapping[str, str]) -> SignedCall:
        query = {
            **parameters,
            "AccessKeyId": self._id,
            "Action": action,
            "Format": "JSON",
            "SignatureMethod": "HMAC-SHA1",
            "SignatureNonce": str(uuid4()),
            "SignatureVersion": "1.0",
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Version": _VERSION,
        }
        canonical = "&".join(f"{_encoded(name)}={_encoded(query[name])}" for name in sorted(query))
        signed = hmac.digest(f"{self._secret}&".encode(), f"GET&%2F&{_encoded(canonical)}".encode(), "sha1")
        return SignedCall("GET", f"{self._endpoint}/?{canonical}&Signature={_encoded(b64encode(signed).decode())}", {})

    def _judge(self, answer: CallAnswer) -> ProviderRefused | None:
        table = answer.table or {}
        code = str(table.get("Code") or "")
        if answer.status < 300 and not code:
            return None
        if code.startswith("Throttling"):
            return TooManyCalls(code, "too many calls")
        hint = ""
        if code.startswith(("InvalidTimeStamp", "IllegalTimestamp")):
            hint = "is the clock of this machine right?"
        elif answer.status in (401, 403) or code.startswith(("InvalidAccessKey", "SignatureDoesNotMatch", "IncompleteSignature")):
            hint = "is the access key right, and may it edit DNS?"
        return ProviderRefused(code or str(answer.status), self._calls.masked(str(table.get("Message") or "refused")), hint)


def _encoded(text: str) -> str:
    """As RFC 3986 section 2.3 has it: a blank is %20, and `~` is itself."""
    return quote(text, safe="-_.~")


def _inner(table: Mapping[str, Any], outer: str, inner: str) -> object:
    box = table.get(outer)
    return box.get(inner) if isinstance(box, dict) else None
