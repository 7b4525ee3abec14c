"""A small ACME authority of our own, over plain HTTP on loopback: what pebble cannot do, and answers that no authority should give.

It looks at each signature, nonce and URL as RFC 8555 section 6 has it, and believes every name unless told otherwise.
"""

from __future__ import annotations

import json
import secrets
import threading
from base64 import urlsafe_b64decode
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from acme import jws
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.jwk import JWK, JWKOct

JSON = "application/json"


class Said(NamedTuple):
    """An answer."""

    status: int
    body: Any = None
    """An object is sent as JSON, text as it is."""
    headers: Mapping[str, str] = {}


def problem(kind: str, detail: str = "", status: int = 400, headers: Mapping[str, str] | None = None, **more: object) -> Said:
    table = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status, **more}
    return Said(status, table, {"Content-Type": "application/problem+json", **(headers or {})})


@dataclass
class SignedRequest:
    """One that was signed as it should be."""

    path: str
    payload: Any
    """None is POST-as-GET."""
    account: str
    """URL; "" when signed by a key alone."""
    key: Any = field(repr=False, default=None)


class _Refusal(Exception):
    def __init__(self, said: Said) -> None:
        self.said = said


def plain(value: str) -> bytes:
    return urlsafe_b64decode(value + "=" * (-len(value) % 4))


class SmallAuthority:
    """A context manager. What is public may be set at any time."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {}
        self.has_renewal_info = False
        self.window: Said = Said(404)
        self.eab: dict[str, bytes] = {}
        self.offers = ["http-01", "dns-01", "tls-alpn-01"]
        self.denied: dict[str, dict[str, Any]] = {}
        """Name → problem of its challenge."""
        self.processing = 0
        """Looks at an order that are answered with `processing` after it was finalized."""
        self.waits: str | None = None
        """Retry-After of what is not ready."""
        self.checks = 0
        """Looks at an authorization that are answered with `pending` after it was to be checked."""
        self.lifetime = (timedelta(hours=-1), timedelta(days=90))
        self.chain: Callable[[x509.Certificate, x509.Certificate, x509.Certificate], str] = lambda leaf, issuer, _: pem(leaf) + pem(issuer)
        """What is sent of the leaf, its issuer and the root."""
        self.names: list[x509.GeneralName] | None = None
        """Of certificates; None are those of the request."""
        self.wrong: dict[str, list[Said | None]] = defaultdict(list)
        """By the first part of a path, such as `new-order`: what is said next instead of what is right; None: what is right."""
        self.asked: list[SignedRequest] = []
        self.agents: set[str] = set()
        self.connections = 0
        self.accounts: dict[str, Any] = {}
        """By URL: JWK as text, contact, status."""
        self.orders: dict[str, dict[str, Any]] = {}
        self.authorizations: dict[str, dict[str, Any]] = {}
        self.certificates: dict[str, str] = {}
        self._nonces: set[str] = set()
        self._lock = threading.RLock()
        self.root_key, self.root = _authority_of("root", None)
        self.issuer_key, self.issuer = _authority_of("issuer", (self.root_key, self.root))

    def __enter__(self) -> SmallAuthority:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                outer.agents.add(self.headers.get("User-Agent", ""))
                said = outer.answer(self.command, self.path, body, self.headers.get("Content-Type", ""))
                text = said.body if isinstance(said.body, str) else "" if said.body is None else json.dumps(said.body)
                self.send_response(said.status)
                headers = {"Content-Type": JSON, "Replay-Nonce": outer.nonce(), **said.headers}
                for name, value in headers.items():
                    if value:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_GET = do_POST = do_HEAD = _any

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # peers that left
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    # -- what tests look at -------------------------------------------------------------

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def directory(self) -> str:
        return f"{self.base}/dir"

    def paths(self, start: str) -> list[SignedRequest]:
        """What was asked of a resource, in order."""
        return [one for one in self.asked if one.path.startswith(f"/{start}")]

    def made(self) -> int:
        """Orders."""
        return len(self.paths("new-order"))

    # -- what it does -------------------------------------------------------------------

    def nonce(self) -> str:
        nonce = secrets.token_urlsafe(12)
        self._nonces.add(nonce)
        return nonce

    def answer(self, method: str, path: str, body: bytes, kind: str) -> Said:
        start = path.split("/")[1]
        with self._lock:
            waiting = self.wrong.get(start)
            wrong = waiting.pop(0) if waiting else None
            try:
                if method != "POST":
                    return wrong or self._open(path, start)
                request = self._signed(path, body, kind)
                self.asked.append(request)
                return wrong or getattr(self, "_" + start.replace("-", "_"))(request)
            except _Refusal as refusal:
                return refusal.said

    def _open(self, path: str, start: str) -> Said:
        if start == "dir":
            table: dict[str, Any] = {one: f"{self.base}/{two}" for one, two in RESOURCES.items()}
            if self.has_renewal_info:
                table["renewalInfo"] = f"{self.base}/renewal-info"
            return Said(200, table | {"meta": self.meta})
        if start == "new-nonce":
            return Said(200)
        if start == "renewal-info":
            self.asked.append(SignedRequest(path, None, ""))
            return self.window
        return Said(405)

    def _signed(self, path: str, body: bytes, kind: str) -> SignedRequest:
        if kind != "application/jose+json":
            raise _Refusal(problem("malformed", "not signed", 415))
        message = jws.JWS.from_json(json.loads(body))
        head = json.loads(plain(json.loads(body)["protected"]))
        if head["alg"] != "ES256" or ("jwk" in head) == ("kid" in head) or ("jwk" in head) != (path == "/new-account"):
            raise _Refusal(problem("malformed", "signed in another way than section 6.2 has it"))
        if head["url"] != self.base + path:
            raise _Refusal(problem("unauthorized", "for another URL", 403))
        if head["nonce"] not in self._nonces:
            raise _Refusal(problem("badNonce", "unknown nonce"))
        self._nonces.discard(head["nonce"])
        if "kid" in head:
            known = self.accounts.get(head["kid"])
            if known is None:
                raise _Refusal(problem("accountDoesNotExist", "no such account"))
            if known["status"] != "valid":
                raise _Refusal(problem("unauthorized", f"the account is {known['status']}", 403))
            key = JWK.from_json(json.loads(known["key"]))
        else:
            key = JWK.from_json(head["jwk"])
        if not message.verify(key):
            raise _Refusal(problem("malformed", "the signature does not hold"))
        payload = json.loads(message.payload) if message.payload else None
        return SignedRequest(path, payload, head.get("kid", ""), key)

    def _new_account(self, request: SignedRequest) -> Said:
        key = json.dumps(request.key.to_json(), sort_keys=True)
        for url, known in self.accounts.items():
            if known["key"] == key:
                if known["status"] != "valid":
                    return problem("unauthorized", f"the account is {known['status']}", 403)
                return Said(200, {"status": "valid"}, {"Location": url})
        assert request.payload["termsOfServiceAgreed"] is True
        if self.eab:
            binding = request.payload.get("externalAccountBinding")
            if binding is None:
                return problem("externalAccountRequired", "who are you?", 403)
            head = json.loads(plain(binding["protected"]))
            secret = self.eab.get(head["kid"])
            held = secret is not None and jws.JWS.from_json(binding).verify(JWKOct(key=secret))
            if not held or head["url"] != self.base + request.path or json.loads(plain(binding["payload"])) != request.key.to_json():
                return problem("unauthorized", "the binding does not hold", 403)
        url = f"{self.base}/account/{len(self.accounts) + 1}-{secrets.token_hex(3)}"
        self.accounts[url] = {"key": key, "status": "valid", "contact": request.payload.get("contact", [])}
        return Said(201, {"status": "valid"}, {"Location": url})

    def _account(self, request: SignedRequest) -> Said:
        if request.payload and "contact" in request.payload:
            self.accounts[request.account]["contact"] = request.payload["contact"]
        return Said(200, {"status": "valid", "contact": self.accounts[request.account]["contact"]})

    def _new_order(self, request: SignedRequest) -> Said:
        name = secrets.token_hex(6)
        authorizations = []
        for identifier in request.payload["identifiers"]:
            url = f"{self.base}/authorization/{secrets.token_hex(6)}"
            value = identifier["value"]
            bare = {**identifier, "value": value.removeprefix("*.")}
            is_wild = value.startswith("*.")
            kinds = [kind for kind in self.offers if not is_wild or kind == "dns-01"]
            challenges = [
                {
                    "type": kind,
                    "url": url.replace("/authorization/", "/challenge/") + f"/{kind}",
                    "status": "pending",
                    "token": secrets.token_urlsafe(24),
                }
                for kind in kinds
            ]
            self.authorizations[url] = {"identifier": bare, "status": "pending", "challenges": challenges, "left": 0}
            if is_wild:
                self.authorizations[url]["wildcard"] = True
            authorizations.append(url)
        url = f"{self.base}/order/{name}"
        self.orders[url] = {
            "status": "pending",
            "expires": (datetime.now(UTC) + timedelta(days=7)).isoformat().replace("+00:00", "Z"),
            "identifiers": request.payload["identifiers"],
            "authorizations": authorizations,
            "finalize": f"{self.base}/finalize/{name}",
            "account": request.account,
            "left": 0,
        }
        return Said(201, self._shown(url), {"Location": url})

    def _shown(self, url: str) -> dict[str, Any]:
        order = self.orders[url]
        states = {self.authorizations[one]["status"] for one in order["authorizations"]}
        if order["status"] == "pending":
            order["status"] = "invalid" if "invalid" in states else "ready" if states == {"valid"} else "pending"
        return {name: value for name, value in order.items() if name not in ("account", "left")}

    def _order(self, request: SignedRequest) -> Said:
        url = self.base + request.path
        order = self.orders.get(url)
        if order is None:
            return problem("malformed", "no such order", 404)
        if order["account"] != request.account:
            return problem("unauthorized", "somebody else's order", 403)
        if order["status"] == "processing":
            if order["left"] <= 0:
                order["status"] = "valid"
            order["left"] -= 1
        return Said(200, self._shown(url), {"Retry-After": self.waits or ""})

    def _authorization(self, request: SignedRequest) -> Said:
        authorization = self.authorizations[self.base + request.path]
        if authorization["left"] > 0:
            authorization["left"] -= 1
            table = {**authorization, "status": "pending"}
        else:
            table = authorization
        return Said(200, {name: value for name, value in table.items() if name != "left"}, {"Retry-After": self.waits or ""})

    def _challenge(self, request: SignedRequest) -> Said:
        _, _, name, kind = request.path.split("/")
        url = f"{self.base}/authorization/{name}"
        authorization = self.authorizations[url]
        (challenge,) = (one for one in authorization["challenges"] if one["type"] == kind)
        if request.payload == {} and authorization["status"] == "pending":
            told = self.denied.get(authorization["identifier"]["value"])
            authorization["status"] = challenge["status"] = "invalid" if told else "valid"
            if told:
                challenge["error"] = told
            authorization["left"] = self.checks
        return Said(200, challenge, {"Link": f'<{url}>;rel="up"'})

    def _finalize(self, request: SignedRequest) -> Said:
        url = self.base + request.path.replace("/finalize/", "/order/")
        order = self.orders[url]
        if self._shown(url)["status"] != "ready":
            return problem("orderNotReady", f"it is {order['status']}", 403)
        certificate = f"{self.base}/certificate/{secrets.token_hex(6)}"
        self.certificates[certificate] = self._issued(x509.load_der_x509_csr(plain(request.payload["csr"])))
        order |= {"certificate": certificate, "status": "processing" if self.processing else "valid", "left": self.processing - 1}
        return Said(200, self._shown(url), {"Retry-After": self.waits or "", "Location": url})

    def _certificate(self, request: SignedRequest) -> Said:
        return Said(200, self.certificates[self.base + request.path], {"Content-Type": "application/pem-certificate-chain"})

    def _issued(self, request: x509.CertificateSigningRequest) -> str:
        assert request.is_signature_valid and list(request.subject) == []
        names = self.names or list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        now = datetime.now(UTC)
        key = request.public_key()
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + self.lifetime[0])
            .not_valid_after(now + self.lifetime[1])
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer_key.public_key()), critical=False)
            .sign(self.issuer_key, hashes.SHA256())
        )
        return self.chain(leaf, self.issuer, self.root)


RESOURCES = {"newNonce": "new-nonce", "newAccount": "new-account", "newOrder": "new-order"}


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _authority_of(
    name: str, above: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signer, issuer = (key, subject) if above is None else (above[0], above[1].subject)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return key, certificate
