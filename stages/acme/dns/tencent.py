"""DNSPod of Tencent Cloud, version 2021-03-23, with signatures TC3-HMAC-SHA256."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from pingap.config.dns_service import DnsService
from pingap.stages.acme.dns.calls import CallAnswer, Calls, SignedCall, TooManyCalls
from pingap.stages.acme.dns.provider import ProviderRefused, ProviderZone, as_written, host_in, tables, zone_among

_VERSION: Final = "2021-03-23"
_SERVICE: Final = "dnspod"
_TYPE: Final = "application/json; charset=utf-8"
_TTL: Final = 600
"""Seconds: the least that zones which cost nothing may have."""
_LINE: Final = {"RecordLine": "默认", "RecordLineId": "0"}
"""The default of who gets the answer: its name differs with the language of the account, its number does not."""
_IS_THERE: Final = "InvalidParameter.DomainRecordExist"
_IS_GONE: Final = ("InvalidParameter.RecordIdInvalid", "ResourceNotFound.NoDataOfRecord")
_NOTHING: Final = ("ResourceNotFound.NoDataOfDomain", "ResourceNotFound.NoDataOfRecord")


class Tencent:
    """An account, by an access key."""

    name = "tencent"

    def __init__(self, service: DnsService, halted: threading.Event) -> None:
        self._endpoint = service.endpoint
        self._host = urlsplit(service.endpoint).netloc
        self._id = service.keys["access_key_id"]
        self._secret = service.keys["access_key_secret"]
        self._calls = Calls([self._id, self._secret], halted)

    def zone(self, name: str) -> ProviderZone | None:
        found = self._listed("DescribeDomainList", {"Keyword": as_written(name), "Limit": 3000}, "DomainList")
        return zone_among(found, name, "Name", "Name")

    def add(self, zone: ProviderZone, record: str, value: str) -> str:
        if found := self._found(zone, record, value):
            return str(found[0])
        wanted = {"Domain": zone.id, "SubDomain": host_in(zone, record), "RecordType": "TXT", **_LINE, "Value": value, "TTL": _TTL}
        try:
            made = self._ask("CreateRecord", wanted)
        except ProviderRefused as refused:
            if refused.code != _IS_THERE:
                raise
            return next((str(one) for one in self._found(zone, record, value)), "")
        return str(made.get("RecordId", ""))

    def remove(self, zone: ProviderZone, record: str, value: str, known: str) -> None:
        for one in [int(known)] if known.isdigit() else self._found(zone, record, value):
            try:
                self._ask("DeleteRecord", {"Domain": zone.id, "RecordId": one})
            except ProviderRefused as refused:
                if refused.code not in _IS_GONE:
                    raise

    def close(self) -> None:
        self._calls.close()

    def _found(self, zone: ProviderZone, record: str, value: str) -> list[int]:
        host = host_in(zone, record)
        asked = {"Domain": zone.id, "Subdomain": host, "RecordType": "TXT", "Limit": 3000}
        entries = self._listed("DescribeRecordList", asked, "RecordList")
        mine = [one for one in entries if (one.get("Name"), one.get("Type"), one.get("Value")) == (host, "TXT", value)]
        return [one["RecordId"] for one in mine if isinstance(one.get("RecordId"), int)]

    def _listed(self, action: str, table: Mapping[str, object], key: str) -> list[dict[str, Any]]:
        try:
            return tables(self._ask(action, table).get(key))
        except ProviderRefused as refused:
            if refused.code not in _NOTHING:
                raise
            return []

    def _ask(self, action: str, table: Mapping[str, object]) -> dict[str, Any]:
        body = json.dumps(table).encode()
        answer = self._calls.ask(lambda: self._signed(action, body), self._judge).get("Response")
        return answer if isinstance(answer, dict) else {}

    def _signed(self, action: str, body: bytes) -> SignedCall:
        now = datetime.now(UTC)
        scope = f"{now:%Y-%m-%d}/{_SERVICE}/tc3_request"
        names = "content-type;host"
        canonical = f"POST\n/\n\ncontent-type:{_TYPE}\nhost:{self._host}\n\n{names}\n{sha256(body).hexdigest()}"
        seconds = str(int(now.timestamp()))
        told = f"TC3-HMAC-SHA256\n{seconds}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = f"TC3{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, told.encode(), "sha256").hex()
        headers = {
            "Host": self._host,
            "Content-Type": _TYPE,
            "X-TC-Action": action,
            "X-TC-Version": _VERSION,
            "X-TC-Timestamp": seconds,
            "Authorization": f"TC3-HMAC-SHA256 Credential={self._id}/{scope}, SignedHeaders={names}, Signature={signature}",
        }
        return SignedCall("POST", f"{self._endpoint}/", headers, body)

    def _judge(self, answer: CallAnswer) -> ProviderRefused | None:
        response = (answer.table or {}).get("Response")
        error = response.get("Error") if isinstance(response, dict) else None
        if answer.status < 300 and isinstance(response, dict) and error is None:
            return None
        said = error if isinstance(error, dict) else {}
        code = str(said.get("Code") or answer.status)
        if code.startswith("RequestLimitExceeded"):
            return TooManyCalls(code, "too many calls")
        hint = ""
        if code == "AuthFailure.SignatureExpire":
            hint = "is the clock of this machine right?"
        elif code.startswith(("AuthFailure", "UnauthorizedOperation")):
            hint = "is the access key right, and may it edit DNS?"
        return ProviderRefused(code, self._calls.masked(str(said.get("Message") or "refused")), hint)
