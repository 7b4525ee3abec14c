"""The interfaces of DNS providers, as their documents say that they judge what comes; written without a look at what calls them.

ali       help.aliyun.com: "Request syntax and signature method V2 for RPC APIs", and the pages of alidns 2015-01-09
cf        developers.cloudflare.com/api: zones, DNS records
tencent   cloud.tencent.com: "Signature v3", and the pages of dnspod 2021-03-23
huawei    support.huaweicloud.com: "AK/SK signing and authentication algorithm", and the pages of DNS v2
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY_ID = "AKIDtest0000"
SECRET = "s3cr3t+with/odd=letters~"
TOKEN = "tok-3n_of.cf"


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def table(self) -> Any:
        return json.loads(self.body)


@dataclass
class TxtRecord:
    id: str
    name: str
    values: list[str]
    """Without quotation marks. But for huawei one."""


@dataclass
class ServedZones:
    """What a provider serves. changed: is told name and values of what has changed."""

    names: list[str]
    records: list[TxtRecord] = field(default_factory=list)
    changed: Callable[[str, list[str]], None] = lambda name, values: None

    def values(self, name: str) -> list[str]:
        return sorted(value for one in self.records if one.name == name for value in one.values)

    def tell(self, name: str) -> None:
        self.changed(name, self.values(name))


Reply = tuple[int, Any]
"""Status, and a table or bytes."""


class FakeProvider:
    """One of them, on loopback. A context manager. `upsets`: what the next requests get instead of an answer, in order."""

    kind = ""

    def __init__(self, *zones: str, changed: Callable[[str, list[str]], None] | None = None) -> None:
        self.zones = ServedZones(list(zones))
        if changed:
            self.zones.changed = changed
        self.asked: list[Asked] = []
        self.upsets: list[Callable[[], tuple[int, bytes, Mapping[str, str]] | None]] = []
        self.ahead = 0.0
        """Seconds that its clock is ahead of ours."""
        self.numbers = itertools.count(700)
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, path, query, {name.lower(): value for name, value in self.headers.items()}, body)
                fake.asked.append(asked)
                upset = fake.upsets.pop(0)() if fake.upsets else None
                headers: Mapping[str, str] = {"Content-Type": "application/json"}
                if upset is not None:
                    status, content, headers = upset
                else:
                    with fake._lock:
                        status, said = fake.judge(asked)
                    content = said if isinstance(said, bytes) else json.dumps(said).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # peers that left
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def url(self, **keys: str) -> str:
        """`dns_service_url`; keys: others than the right ones."""
        given = ({"token": TOKEN} if self.kind == "cf" else {"access_key_id": KEY_ID, "access_key_secret": SECRET}) | keys
        return f"http://{self.host}/?{urllib.parse.urlencode(given, quote_via=urllib.parse.quote)}"

    def now(self) -> float:
        return time.time() + self.ahead

    def judge(self, asked: Asked) -> Reply:
        """What the real one would answer."""
        raise AssertionError(asked)


# -- signatures, each from its document ---------------------------------------------------


def percent(text: str) -> str:
    """Byte by byte: all but A-Z a-z 0-9 - _ . ~ is %XY."""
    kept = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
    return "".join(chr(one) if one in kept else f"%{one:02X}" for one in text.encode())


def ali_objection(method: str, query: str, key_id: str, secret: str, now: float) -> str:
    """The code of what the gateway says; "" when it takes it."""
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    signature = given.pop("Signature", "")
    if given.get("AccessKeyId") != key_id:
        return "InvalidAccessKeyId.NotFound"
    if given.get("SignatureMethod") != "HMAC-SHA1" or given.get("SignatureVersion") != "1.0" or not given.get("SignatureNonce"):
        return "IncompleteSignature"
    sent = datetime.strptime(given["Timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    if abs(sent - now) > 900:
        return "InvalidTimeStamp.Expired"
    canonical = "&".join(f"{percent(name)}={percent(value)}" for name, value in sorted(given.items()))
    text = method + "&" + percent("/") + "&" + percent(canonical)
    right = base64.b64encode(hmac.new((secret + "&").encode(), text.encode(), hashlib.sha1).digest()).decode()
    return "" if hmac.compare_digest(right, signature) else "SignatureDoesNotMatch"


def tencent_objection(asked: Asked, key_id: str, secret: str, now: float, service: str) -> str:
    """The same, of Tencent Cloud."""
    said = asked.headers.get("authorization", "")
    algorithm, _, rest = said.partition(" ")
    parts = dict(one.strip().split("=", 1) for one in rest.split(",") if "=" in one)
    credential = parts.get("Credential", "").split("/")
    if algorithm != "TC3-HMAC-SHA256" or len(credential) != 4:
        return "AuthFailure.SignatureFailure"
    if credential[0] != key_id:
        return "AuthFailure.SecretIdNotFound"
    stamp = asked.headers["x-tc-timestamp"]
    day = time.strftime("%Y-%m-%d", time.gmtime(int(stamp)))
    if abs(int(stamp) - now) > 300:
        return "AuthFailure.SignatureExpire"
    signed = parts["SignedHeaders"].split(";")
    if signed != sorted(signed) or not {"content-type", "host"} <= set(signed) or credential[1:] != [day, service, "tc3_request"]:
        return "AuthFailure.SignatureFailure"
    canonical = "\n".join(
        [
            *(asked.method, asked.path, asked.query),
            *(f"{name}:{asked.headers[name].strip().lower()}" for name in signed),
            *("", ";".join(signed), hashlib.sha256(asked.body).hexdigest()),
        ]
    )
    text = "\n".join(["TC3-HMAC-SHA256", stamp, "/".join(credential[1:]), hashlib.sha256(canonical.encode()).hexdigest()])
    of_day = hmac.new(b"TC3" + secret.encode(), day.encode(), hashlib.sha256).digest()
    of_service = hmac.new(of_day, service.encode(), hashlib.sha256).digest()
    signing = hmac.new(of_service, b"tc3_request", hashlib.sha256).digest()
    right = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(right, parts["Signature"]) else "AuthFailure.SignatureFailure"


def huawei_objection(asked: Asked, key_id: str, secret: str, now: float) -> str:
    """What the gateway says, in its words."""
    said = asked.headers.get("authorization", "")
    algorithm, _, rest = said.partition(" ")
    parts = dict(one.strip().split("=", 1) for one in rest.split(",") if "=" in one)
    if algorithm != "SDK-HMAC-SHA256":
        return "Incorrect IAM authentication information: x-auth-token not found"
    if parts.get("Access") != key_id:
        return "Incorrect IAM authentication information: AK access failed to reach the limit"
    moment = asked.headers.get("x-sdk-date", "")
    if abs(datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() - now) > 900:
        return "Incorrect IAM authentication information: signature expired"
    signed = parts["SignedHeaders"].split(";")
    if signed != sorted(signed) or not {"host", "x-sdk-date"} <= set(signed):
        return "Incorrect IAM authentication information: verify aksk signature fail"
    pairs = sorted((percent(name), percent(value)) for name, value in urllib.parse.parse_qsl(asked.query, keep_blank_values=True))
    path = "/".join(percent(urllib.parse.unquote(one)) for one in asked.path.split("/"))
    canonical = asked.method + "\n"
    canonical += (path if path.endswith("/") else path + "/") + "\n"
    canonical += "&".join(f"{name}={value}" for name, value in pairs) + "\n"
    canonical += "".join(f"{name}:{asked.headers[name].strip()}\n" for name in signed) + "\n"
    canonical += ";".join(signed) + "\n" + hashlib.sha256(asked.body).hexdigest()
    text = f"SDK-HMAC-SHA256\n{moment}\n" + hashlib.sha256(canonical.encode()).hexdigest()
    right = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    ok = hmac.compare_digest(right, parts["Signature"])
    return "" if ok else "Incorrect IAM authentication information: verify aksk signature fail"


# -- what they do ---------------------------------------------------------------------


class FakeAli(FakeProvider):
    kind = "ali"

    def __init__(self, *zones: str, changed: Callable[[str, list[str]], None] | None = None) -> None:
        super().__init__(*zones, changed=changed)
        self.nonces: set[str] = set()

    def judge(self, asked: Asked) -> Reply:
        if code := ali_objection(asked.method, asked.query, KEY_ID, SECRET, self.now()):
            # The real one shows what it has signed, the key's id in it.
            return 400, {"Code": code, "Message": f"Specified signature is not matched. server string to sign is:{percent(asked.query)}"}
        given = dict(urllib.parse.parse_qsl(asked.query))
        if given["SignatureNonce"] in self.nonces:
            return 400, {"Code": "SignatureNonceUsed", "Message": "Specified signature nonce was used already."}
        self.nonces.add(given["SignatureNonce"])
        if given.get("Version") != "2015-01-09" or given.get("Format") != "JSON":
            return 400, {"Code": "InvalidVersion", "Message": "Specified parameter Version is not valid."}
        action = given["Action"]
        if action == "DescribeDomains":
            word, is_exact = given.get("KeyWord", ""), given.get("SearchMode") == "EXACT"
            found = [one for one in self.zones.names if (one == word if is_exact else word in one)]
            return 200, {"TotalCount": len(found), "Domains": {"Domain": [{"DomainName": one, "DomainId": f"d-{one}"} for one in found]}}
        if action == "DeleteDomainRecord":
            gone = [one for one in self.zones.records if one.id == given["RecordId"]]
            if not gone:
                return 400, {"Code": "DomainRecordNotBelongToUser", "Message": "The domain record does not belong to this user."}
            self.zones.records.remove(gone[0])
            self.zones.tell(gone[0].name)
            return 200, {"RecordId": gone[0].id}
        zone = given["DomainName"]
        if zone not in self.zones.names:
            return 400, {"Code": "InvalidDomainName.NoExist", "Message": "The specified domain name does not exist."}
        if action == "DescribeSubDomainRecords":
            name = given["SubDomain"]
            rr = "@" if name == zone else name.removesuffix(f".{zone}")
            found_records = [
                {"RR": rr, "Type": "TXT", "Value": value, "RecordId": one.id, "DomainName": zone, "Line": "default"}
                for one in self.zones.records
                if one.name == name
                for value in one.values
            ]
            return 200, {"TotalCount": len(found_records), "DomainRecords": {"Record": found_records}}
        assert action == "AddDomainRecord", action
        name = zone if given["RR"] == "@" else f"{given['RR']}.{zone}"
        if given["Value"] in self.zones.values(name):
            return 400, {"Code": "DomainRecordDuplicate", "Message": "The DNS record already exists."}
        made = TxtRecord(str(next(self.numbers)), name, [given["Value"]])
        self.zones.records.append(made)
        self.zones.tell(name)
        return 200, {"RecordId": made.id, "RequestId": "536E9CAD"}


class FakeCloudflare(FakeProvider):
    kind = "cf"

    def judge(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return 403, self.no(10000, f"Authentication error: {asked.headers.get('authorization', '').removeprefix('Bearer ')}")
        parts = asked.path.strip("/").split("/")
        given = dict(urllib.parse.parse_qsl(asked.query))
        if parts[:3] != ["client", "v4", "zones"]:
            return 404, self.no(7000, "No route for that URI")
        if len(parts) == 3:
            found = [{"id": f"z{index}", "name": one} for index, one in enumerate(self.zones.names) if one == given["name"]]
            return 200, {"success": True, "errors": [], "result": found}
        zone = self.zones.names[int(parts[3].removeprefix("z"))]
        if asked.method == "GET":
            records = [
                {"id": one.id, "type": "TXT", "name": one.name, "content": f'"{value}"', "ttl": 120}
                for one in self.zones.records
                if one.name == given["name"]
                for value in one.values
            ]
            return 200, {"success": True, "errors": [], "result": records}
        if asked.method == "POST":
            table = asked.table
            name, value = table["name"], table["content"].strip('"')
            if table["type"] != "TXT" or not (name == zone or name.endswith(f".{zone}")):
                return 400, self.no(1004, "DNS Validation Error")
            if value in self.zones.values(name):
                return 400, self.no(81058, "An identical record already exists.")
            made = TxtRecord(f"r{next(self.numbers)}", name, [value])
            self.zones.records.append(made)
            self.zones.tell(name)
            return 200, {"success": True, "errors": [], "result": {"id": made.id}}
        gone = [one for one in self.zones.records if one.id == parts[5]]
        if not gone:
            return 404, self.no(81044, "Record does not exist.")
        self.zones.records.remove(gone[0])
        self.zones.tell(gone[0].name)
        return 200, {"success": True, "errors": [], "result": {"id": gone[0].id}}

    @staticmethod
    def no(code: int, message: str) -> dict[str, Any]:
        return {"success": False, "errors": [{"code": code, "message": message}], "result": None}


class FakeTencent(FakeProvider):
    kind = "tencent"

    def judge(self, asked: Asked) -> Reply:
        if code := tencent_objection(asked, KEY_ID, SECRET, self.now(), "dnspod"):
            return self.no(code, f"The provided credentials could not be validated: {KEY_ID}.")
        if asked.headers.get("x-tc-version") != "2021-03-23":
            return self.no("InvalidParameterValue", "The version is not supported.")
        table, action = asked.table, asked.headers["x-tc-action"]
        if action == "DescribeDomainList":
            found = [{"DomainId": 1, "Name": one} for one in self.zones.names if table["Keyword"] in one]
            return self.yes(DomainList=found) if found else self.no("ResourceNotFound.NoDataOfDomain", "No matching domain.")
        zone = table["Domain"]
        if zone not in self.zones.names:
            return self.no("InvalidParameterValue.DomainNotExists", "The domain does not exist.")
        if action == "DescribeRecordList":
            host = table["Subdomain"]
            name = zone if host == "@" else f"{host}.{zone}"
            records = [
                {"RecordId": int(one.id), "Name": host, "Type": "TXT", "Value": value, "Line": "默认"}
                for one in self.zones.records
                if one.name == name
                for value in one.values
            ]
            return self.yes(RecordList=records) if records else self.no("ResourceNotFound.NoDataOfRecord", "The list is empty.")
        if action == "CreateRecord":
            name = zone if table["SubDomain"] == "@" else f"{table['SubDomain']}.{zone}"
            if table["RecordLine"] != "默认" or table["RecordType"] != "TXT" or table["TTL"] < 600:
                return self.no("InvalidParameter.RecordLineInvalid", "The split zone is invalid.")
            if table["Value"] in self.zones.values(name):
                return self.no("InvalidParameter.DomainRecordExist", "The record already exists.")
            made = TxtRecord(str(next(self.numbers)), name, [table["Value"]])
            self.zones.records.append(made)
            self.zones.tell(name)
            return self.yes(RecordId=int(made.id))
        assert action == "DeleteRecord", action
        gone = [one for one in self.zones.records if one.id == str(table["RecordId"])]
        if not gone:
            return self.no("InvalidParameter.RecordIdInvalid", "The record ID is invalid.")
        self.zones.records.remove(gone[0])
        self.zones.tell(gone[0].name)
        return self.yes()

    @staticmethod
    def yes(**keys: Any) -> Reply:
        return 200, {"Response": {**keys, "RequestId": "ab4f1426"}}

    @staticmethod
    def no(code: str, message: str) -> Reply:
        return 200, {"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "ab4f1426"}}


class FakeHuawei(FakeProvider):
    kind = "huawei"
    overwrites = 0
    """How often another client yet writes a set as it was before, just after one was written."""

    def judge(self, asked: Asked) -> Reply:
        if message := huawei_objection(asked, KEY_ID, SECRET, self.now()):
            return 401, {"error_code": "APIGW.0301", "error_msg": message, "request_id": "1"}
        given = dict(urllib.parse.parse_qsl(asked.query))
        parts = asked.path.strip("/").split("/")
        if parts == ["v2", "zones"]:
            is_exact = given.get("search_mode") == "equal"
            found = [
                {"id": f"{index:032}", "name": f"{one}."}
                for index, one in enumerate(self.zones.names)
                if (one == given["name"].rstrip(".") if is_exact else given["name"] in one)
            ]
            return 200, {"zones": found, "metadata": {"total_count": len(found)}}
        zone = self.zones.names[int(parts[2])]
        if len(parts) == 4 and asked.method == "GET":
            return 200, {"recordsets": [self.shown(one) for one in self.zones.records if f"{one.name}." == given["name"]]}
        if asked.method == "DELETE":
            gone = [one for one in self.zones.records if one.id == parts[4]]
            if not gone:
                return 404, {"code": "DNS.0313", "message": "This record set does not exist."}
            self.zones.records.remove(gone[0])
            self.zones.tell(gone[0].name)
            return 202, self.shown(gone[0]) | {"status": "PENDING_DELETE"}
        table = asked.table
        name, values = table["name"].rstrip("."), table["records"]
        if not all(one[:1] == one[-1:] == '"' for one in values) or not (name == zone or name.endswith(f".{zone}")):
            return 400, {"code": "DNS.0308", "message": "The record set value is invalid."}
        there = [one for one in self.zones.records if one.name == name]
        if asked.method == "POST":
            if there:
                return 400, {"code": "DNS.0312", "message": "This record set already exists."}
            there = [TxtRecord(f"s{next(self.numbers)}", name, [])]
            self.zones.records += there
        elif not there or there[0].id != parts[4]:
            return 404, {"code": "DNS.0313", "message": "This record set does not exist."}
        before = list(there[0].values)
        there[0].values = [one.strip('"') for one in values]
        if self.overwrites:
            self.overwrites -= 1
            there[0].values = before
        self.zones.tell(name)
        return 202, self.shown(there[0])

    @staticmethod
    def shown(one: TxtRecord) -> dict[str, Any]:
        records = [f'"{value}"' for value in one.values]
        return {"id": one.id, "name": f"{one.name}.", "type": "TXT", "ttl": 300, "records": records, "status": "ACTIVE"}


FAKES: dict[str, type[FakeProvider]] = {one.kind: one for one in (FakeAli, FakeCloudflare, FakeHuawei, FakeTencent)}


def answered(status: int, content: bytes = b"{}", **headers: str) -> Callable[[], tuple[int, bytes, Mapping[str, str]]]:
    """An upset: another answer than the interface's."""
    return lambda: (status, content, {"Content-Type": "application/json"} | {name.replace("_", "-"): one for name, one in headers.items()})


def hung(released: threading.Event) -> Callable[[], tuple[int, bytes, Mapping[str, str]] | None]:
    """An upset: nothing, for as long as the test takes."""

    def hangs() -> tuple[int, bytes, Mapping[str, str]]:
        released.wait(30)
        return 200, b"{}", {}

    return hangs
