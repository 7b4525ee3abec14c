"""`jwt` through the whole of the proxy: keys that an issuer publishes, and tokens made of a backend's answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

SECRET = "it takes thirty-two bytes, or more" * 2
KEYS = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("k1", "k2")}
LOGIN = b'{"sub":"ada"}'


class PublishingOrigin:
    """An issuer: publishes some of the keys at /certs, and logs whoever comes in at /login."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.published = ["k1"]
        origin.on["/certs"] = self._certs
        origin.on["/login"] = self._login

    def _login(self, exchange: Exchange) -> None:
        exchange.read_body()
        exchange.reply(LOGIN, headers="Content-Type: application/json\r\n")

    def _certs(self, exchange: Exchange) -> None:
        keys = [pyjwt.algorithms.ECAlgorithm.to_jwk(KEYS[kid].public_key(), as_dict=True) | {"kid": kid} for kid in self.published]
        exchange.reply(json.dumps({"keys": keys}).encode())


@pytest.fixture(scope="module")
def issuer(shared_origin: Origin) -> PublishingOrigin:
    return PublishingOrigin(shared_origin)


@pytest.fixture(scope="module")
def proxy(placement: str, issuer: PublishingOrigin) -> Iterator[Pingap]:
    issuer.published = ["k1"]
    port = issuer.origin.port
    more = f"""
[plugins.sso]
category = "jwt"
header = "Authorization"
jwks_url = "http://127.0.0.1:{port}/certs"
jwks_cooldown = "200ms"
claims_to_headers = ["X-User: sub"]
claims_to_context = ["user: sub"]
[plugins.inner]
category = "jwt"
header = "Authorization"
jwks_url = "upstream://origin/certs"
hide_credentials = true
[plugins.session]
category = "jwt"
cookie = "session"
secret = "{SECRET}"
auth_path = "/login"
token_ttl = "1h"
hide_credentials = true
[locations.sso]
upstream = "origin"
path = "/sso"
plugins = ["sso"]
[locations.inner]
upstream = "origin"
path = "/inner"
plugins = ["inner"]
[locations.session]
upstream = "origin"
path = "~ ^/(login|session)"
plugins = ["session", "pingap:compression"]
"""
    log = 'access_log = "{dir}/access.log {uri} {status} {:user} {~session}"'
    with Pingap(site([port], server=log, more=more, locations='["sso", "inner", "session"]'), placement) as instance:
        yield instance


def logged(proxy: Pingap) -> str:
    return (proxy.dir / "access.log").read_text()


def bearer(kid: str, **claims: Any) -> dict[str, str]:
    token = pyjwt.encode({"sub": "ada", "exp": time.time() + 600, **claims}, KEYS[kid], "ES256", headers={"kid": kid})
    return {"Authorization": f"Bearer {token}", "X-User": "root"}


def test_who_has_a_token_of_the_issuer_is_let_in_and_named(proxy: Pingap, issuer: PublishingOrigin) -> None:
    for path in ("/sso", "/inner"):
        assert proxy.get(path).status == 401
        assert proxy.get(path, headers=bearer("k1")).status == 200
    assert issuer.origin.seen("/sso")[-1].all("x-user") == ["ada"]
    assert issuer.origin.seen("/inner")[-1].all("authorization") == []
    assert proxy.get("/sso", headers=bearer("k1", exp=1)).status == 401
    until(lambda: re.search(r"/sso 200 ada ", logged(proxy)), 5, "the line of the request")


def test_a_key_that_is_published_later_is_found(proxy: Pingap, issuer: PublishingOrigin) -> None:
    assert proxy.get("/sso", headers=bearer("k1")).status == 200
    issuer.published = ["k1", "k2"]
    until(lambda: proxy.get("/sso", headers=bearer("k2")).status == 200, 5, "the cool-down is over")


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_backend_that_lets_somebody_in_makes_a_token_that_lets_him_in(proxy: Pingap, issuer: PublishingOrigin, version: str) -> None:
    with proxy.client() as client:
        client.send(
            f"POST /login {version}\r\nHost: a\r\nAccept-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
        )
        answer = client.response("POST")
    assert (answer.status, answer.get("content-type")) == (200, "application/json; charset=utf-8")
    assert answer.get("content-length") == str(len(answer.body))
    token = json.loads(answer.body)["token"]
    claims = pyjwt.decode(token, SECRET, ["HS256"])
    assert claims["sub"] == "ada" and claims["exp"] == claims["iat"] + 3600
    assert proxy.get("/session").status == 401
    assert proxy.get("/session", headers={"Cookie": f"a=b; session={token}"}).status == 200
    assert issuer.origin.seen("/session")[-1].all("cookie") == ["a=b"]
    until(lambda: "/session 200  ***" in logged(proxy), 5, "the line of the request, without the token")
    assert token not in logged(proxy)


def test_head_and_a_login_without_a_body_make_no_token(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.request("/login", "HEAD")
        answer = client.response("HEAD")
    assert (answer.status, answer.body, answer.get("content-length")) == (200, b"", None)
