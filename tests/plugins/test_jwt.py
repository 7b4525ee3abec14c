"""`jwt` with a secret or a public key: who is let in, and what a backend gets. Tokens are PyJWT's."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from pingap.config.problems import Note, Problem
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin import jwt as plugin
from pingap.stages.plugins.builtin.tokens import keys as jwt_keys
from pingap.stages.plugins.builtin.tokens import token as jwt_token
from pingap.stages.plugins.builtin.tokens import verified as verified_tokens
from tests.plugins.script import SID, Stage, lines

Section = dict[str, Any]
SECRET = "it takes thirty-two bytes, or more" * 2
NOW = 1_800_000_000
CLAIMS = {"sub": "ada", "iat": NOW - 10, "exp": NOW + 600}
PLAIN: Section = {"category": "jwt", "header": "Authorization", "secret": SECRET}

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugin, "time", lambda: float(NOW))
    yield


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def public(algorithm: str, **more: Any) -> Section:
    return {"category": "jwt", "header": "Authorization", "algorithm": algorithm, "public_key": pem(KEYS[algorithm]), **more}


def token(claims: Any = CLAIMS, key: Any = SECRET, alg: str = "HS256", **headers: Any) -> str:
    return pyjwt.encode(claims, key, alg, headers=headers)


def b64(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: Any, payload: Any = CLAIMS, secret: str = SECRET, alg: str = "HS256") -> str:
    """One that PyJWT would not make, signed all the same."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(jwt_keys.mac(secret.encode(), alg, signed.encode()))}"


async def asked(section: Section, headers: str = "", target: str = "/") -> Response | Routed:
    async with Stage({"p": section}) as stage:
        envelope = await stage.one(stage.request(target, headers))
        assert isinstance(envelope, Response | Routed)
        return envelope


async def outcome(section: Section, given: str) -> str:
    """ "in", or the body of the answer, to a token in the Authorization header."""
    answer = await asked(section, f"authorization: Bearer {given}")
    if isinstance(answer, Routed):
        return "in"
    assert answer.status == 401
    return answer.body.decode()


def header(answered: Response | Routed, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines(answered.headers) if line.startswith(f"{name}: ")]


INVALID, EXPIRED = "Jwt authorization is invalid", "Jwt authorization is expired"

# -- where the token is ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "target", "headers"),
    [
        ({"header": "Authorization"}, "/", "authorization: Bearer TOKEN"),
        ({"header": "Authorization"}, "/", "authorization: bearer  TOKEN"),
        ({"header": "Authorization"}, "/", "authorization: TOKEN"),
        ({"header": "X-Token"}, "/", "x-token: TOKEN"),
        ({"cookie": "session"}, "/", "cookie: a=b; session=TOKEN; c=d"),
        ({"cookie": "session"}, "/", "cookie: a=b\ncookie: session=TOKEN"),
        ({"cookie": "session", "query": "t"}, "/?t=nonsense", "cookie: session=TOKEN; session=TOKEN"),
        ({"query": "t"}, "/?a=b&t=TOKEN", ""),
        ({"header": "Authorization", "cookie": "s", "query": "t"}, "/?t=nonsense", "authorization: TOKEN\ncookie: s=nonsense"),
    ],
)
async def test_the_token_is_found_where_it_is_said_to_be(place: Section, target: str, headers: str) -> None:
    section = {"category": "jwt", "secret": SECRET, **place}
    good = token()
    assert isinstance(await asked(section, headers.replace("TOKEN", good), target.replace("TOKEN", good)), Routed)
    refused = await asked(section, headers.replace("TOKEN", good + "x"), target.replace("TOKEN", good + "x"))
    assert isinstance(refused, Response) and refused.body == INVALID.encode()


@pytest.mark.parametrize("headers", ["", "authorization: ", "cookie: authorization=TOKEN", "x-authorization: TOKEN"])
async def test_without_a_token_nobody_is_let_in(headers: str) -> None:
    refused = await asked(PLAIN, headers.replace("TOKEN", token()))
    assert isinstance(refused, Response)
    assert (refused.status, refused.body) == (401, b"Jwt authorization is missing")
    assert header(refused, "www-authenticate") == ["Bearer"]


@pytest.mark.parametrize(
    ("place", "target", "headers"),
    [
        ({"header": "Authorization"}, "/", "authorization: Bearer TOKEN\nauthorization: Bearer OTHER"),
        ({"cookie": "session"}, "/", "cookie: session=TOKEN; session=OTHER"),
        ({"cookie": "session"}, "/", "cookie: session=TOKEN\ncookie: session=OTHER"),
        ({"query": "t"}, "/?t=TOKEN&t=OTHER", ""),
        ({"header": "X-Token"}, "/", "x-token: Bearer TOKEN\nx_token: Bearer OTHER"),
        ({"header": "X-Token"}, "/", "x.token: Bearer OTHER\nx-token: Bearer TOKEN"),
        ({"cookie": "__Host-t"}, "/", "cookie: __Host-t=TOKEN; ..Host-t=OTHER"),
        ({"cookie": "s"}, "/", "cookie: s[]=OTHER; s=TOKEN"),
        ({"query": "token"}, "/?token=TOKEN&%74oken=OTHER", ""),
        ({"query": "token"}, "/?%74oken=OTHER&token=TOKEN", ""),
        ({"query": "token"}, "/?x=1;token=OTHER&token=TOKEN", ""),
        ({"query": "token"}, "/?Token=OTHER&token=TOKEN", ""),
        ({"query": "token"}, "/?+token=OTHER&token=TOKEN", ""),
        ({"query": "token"}, "/?token[]=OTHER&token=TOKEN", ""),
        ({"query": "token"}, "/?token%00x=OTHER&token=TOKEN", ""),
        ({"query": "my.token"}, "/?my_token=OTHER&my.token=TOKEN", ""),
    ],
)
async def test_a_second_token_is_not_left_to_the_backend(place: Section, target: str, headers: str) -> None:
    """It might read that one, which nobody has verified."""
    for other in ("nonsense", "", token({**CLAIMS, "sub": "eve"})):
        given = [text.replace("TOKEN", token()).replace("OTHER", other) for text in (headers, target)]
        refused = await asked({"category": "jwt", "secret": SECRET, **place}, *given)
        assert isinstance(refused, Response) and refused.body == INVALID.encode()


async def test_the_token_stays_in_the_request_unless_it_is_to_be_hidden() -> None:
    good = token()
    for place, target, headers, left in (
        ({"header": "Authorization"}, "/a", f"authorization: Bearer {good}", ("/a", [])),
        ({"cookie": "s"}, "/a", f"cookie: a=b; s={good}; c=d", ("/a", ["cookie: a=b; c=d"])),
        ({"cookie": "s"}, "/a", f"cookie: s={good}", ("/a", [])),
        ({"cookie": "s"}, "/a", f"cookie: s={good}\ncookie: c=d", ("/a", ["cookie: c=d"])),
        ({"query": "t"}, f"/a?x=1&t={good}&y=2", "", ("/a?x=1&y=2", [])),
        ({"query": "t"}, f"/a?x=1;%74={good}&t={good}&T={good}&y=2", "", ("/a?x=1&y=2", [])),
        ({"header": "X-Token"}, "/a", f"x-token: {good}\nx_token: {good}", ("/a", [])),
        ({"cookie": "s"}, "/a", f"cookie: s={good}; c=d; S={good}", ("/a", ["cookie: c=d"])),
    ):
        section = {"category": "jwt", "secret": SECRET, **place}
        routed = await asked(section, headers, target)
        assert isinstance(routed, Routed)
        assert (routed.target.decode(), lines(routed.headers)[1:]) == (target, headers.split("\n") if headers else [])
        routed = await asked({**section, "hide_credentials": True}, headers, target)
        assert isinstance(routed, Routed)
        assert (routed.target.decode(), lines(routed.headers)[1:]) == left


# -- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["HS256", "HS512"])
async def test_with_a_secret_two_algorithms_are_taken(alg: str) -> None:
    assert await outcome(PLAIN, token(alg=alg)) == "in"
    assert await outcome(PLAIN, token(key=SECRET + "x", alg=alg)) == INVALID


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_the_algorithm_that_is_named_is_the_only_one(alg: str) -> None:
    section = {**PLAIN, "algorithm": alg}
    for other in ("HS256", "HS384", "HS512"):
        assert await outcome(section, token(alg=other)) == ("in" if other == alg else INVALID)
    assert await outcome({**PLAIN, "algorithm": ["HS384", "HS512"]}, token(alg="HS512")) == "in"


@pytest.mark.parametrize("alg", KEYS)
async def test_tokens_of_another_implementation_are_taken(alg: str) -> None:
    section = public(alg)
    good = token(key=KEYS[alg], alg=alg)
    assert await outcome(section, good) == "in"
    head, payload, signature = good.split(".")
    forged = b64({**CLAIMS, "sub": "eve"})
    for bad in (
        f"{head}.{forged}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}",
        f"{head}.{payload}.{'A' * 342}",
    ):
        assert await outcome(section, bad) == INVALID
    strangers = {"RS": rsa.generate_private_key(65537, 2048), "ES": ec.generate_private_key(getattr(KEYS[alg], "curve", ec.SECP256R1()))}
    stranger = strangers["RS" if alg[1] == "S" and alg[0] in "RP" else "ES"] if alg != "EdDSA" else ed25519.Ed25519PrivateKey.generate()
    assert await outcome(section, token(key=stranger, alg=alg)) == INVALID


async def test_ed448_is_an_eddsa_too_and_both_have_names_of_their_own() -> None:
    for key, name in ((ed448.Ed448PrivateKey.generate(), "Ed448"), (KEYS["EdDSA"], "Ed25519")):
        section = {"category": "jwt", "header": "Authorization", "public_key": pem(key)}
        assert await outcome({**section, "algorithm": "EdDSA"}, token(key=key, alg="EdDSA")) == "in"
        signed = f"{b64({'alg': name})}.{b64(CLAIMS)}"
        good = f"{signed}.{b64(key.sign(signed.encode()))}"
        assert await outcome({**section, "algorithm": name}, good) == "in"
        assert await outcome({**section, "algorithm": "EdDSA"}, good) == INVALID


async def test_a_public_key_is_the_only_one_for_its_algorithm() -> None:
    for alg, other in (("RS256", "RS512"), ("RS256", "PS256"), ("PS384", "RS384")):
        assert await outcome(public(alg), token(key=RSA, alg=other)) == INVALID


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "none\u0000", "HS257", None, 0, True, [], ["HS256"], {}]
)
async def test_a_token_does_not_choose_how_it_is_verified(name: Any) -> None:
    for section in (PLAIN, public("RS256")):
        for signature in ("", "AAAA", by_hand({"alg": "HS256"}).split(".")[2]):
            assert await outcome(section, f"{b64({'alg': name, 'typ': 'JWT'})}.{b64(CLAIMS)}.{signature}") == INVALID


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
async def test_the_text_of_a_public_key_is_no_secret(alg: str) -> None:
    key = pem(KEYS[alg])
    for secret in (key, key.strip(), key.replace("\n", ""), base64.b64decode("".join(key.split("\n")[1:-2])).decode("latin-1")):
        for hmac in ("HS256", "HS384", "HS512"):
            assert await outcome(public(alg), by_hand({"alg": hmac}, secret=secret, alg=hmac)) == INVALID


async def test_keys_that_a_token_brings_along_are_not_looked_at() -> None:
    mine = rsa.generate_private_key(65537, 2048)
    jwk = json.loads(pyjwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key()))
    for more in (
        {"jwk": jwk},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"x5c": [b64(b"x")]},
        {"kid": "/dev/null"},
    ):
        assert await outcome(public("RS256"), token(key=mine, alg="RS256", **more)) == INVALID
        assert await outcome(public("RS256"), token(key=RSA, alg="RS256", **more)) == "in"


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "b64", 1])
async def test_an_extension_that_has_to_be_understood_is_not(crit: Any) -> None:
    assert await outcome(PLAIN, by_hand({"alg": "HS256", "crit": crit, "b64": True})) == INVALID


@pytest.mark.parametrize("header_", [{"alg": "HS256"}, {"alg": "HS256", "typ": "at+jwt"}, {"typ": None, "alg": "HS256", "kid": "a\r\nb"}])
async def test_a_header_needs_nothing_but_the_algorithm(header_: Any) -> None:
    assert await outcome(PLAIN, by_hand(header_)) == "in"


# -- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exp", "expected"),
    [
        (NOW + 1, "in"),
        (NOW + 0.5, "in"),
        (NOW, EXPIRED),
        (NOW - 1, EXPIRED),
        (0, EXPIRED),
        (-1, EXPIRED),
        (10**400, "in"),
        (1e300, "in"),
        ("2147483647", EXPIRED),
        (True, EXPIRED),
        (None, EXPIRED),
        ([NOW + 1], EXPIRED),
    ],
)
async def test_a_token_expires(exp: Any, expected: str) -> None:
    given = (
        token({"sub": "ada", "exp": exp})
        if not isinstance(exp, str | list) and exp is not None
        else by_hand({"alg": "HS256"}, {"exp": exp})
    )
    assert await outcome(PLAIN, given) == expected


async def test_with_public_keys_a_token_has_to_expire_and_a_minute_is_forgiven() -> None:
    def made(claims: Any) -> str:
        return token(claims, KEYS["ES256"], "ES256")

    for exp, expected in ((NOW - 59, "in"), (NOW - 60, INVALID), (None, INVALID)):
        assert await outcome(public("ES256"), made({"sub": "ada"} if exp is None else {"exp": exp})) == expected
    assert await outcome(public("ES256", leeway="0s"), made({"exp": NOW})) == INVALID


async def test_with_a_secret_a_token_may_be_for_ever_unless_exp_is_required() -> None:
    for_ever = token({"sub": "ada"})
    assert await outcome(PLAIN, for_ever) == "in"
    assert await outcome({**PLAIN, "required_claims": ["exp"]}, for_ever) == INVALID
    assert await outcome({**PLAIN, "required_claims": ["sub", "exp"]}, token()) == "in"
    assert await outcome({**PLAIN, "required_claims": ["sub"]}, token({"sub": None})) == INVALID


async def test_clocks_may_differ_by_the_leeway() -> None:
    section = {**PLAIN, "leeway": "30s"}
    for exp, expected in ((NOW - 29, "in"), (NOW - 30, EXPIRED)):
        assert await outcome(section, token({"exp": exp})) == expected
    for nbf, expected in ((NOW + 30, "in"), (NOW + 31, INVALID)):
        assert await outcome(section, token({"nbf": nbf})) == expected


@pytest.mark.parametrize(
    ("nbf", "expected"), [(NOW, "in"), (NOW - 1, "in"), (NOW + 1, INVALID), ("0", INVALID), (None, INVALID), (False, INVALID)]
)
async def test_a_token_is_not_taken_before_its_time(nbf: Any, expected: str) -> None:
    assert await outcome(PLAIN, by_hand({"alg": "HS256"}, {"nbf": nbf})) == expected


@pytest.mark.parametrize(
    ("wanted", "iss", "expected"),
    [
        ("https://a.example", "https://a.example", "in"),
        (["https://b.example", "https://a.example"], "https://a.example", "in"),
        ("https://a.example", "https://a.example/", INVALID),
        ("https://a.example", ["https://a.example"], INVALID),
        ("https://a.example", {"https://a.example": 1}, INVALID),
        ("https://a.example", None, INVALID),
    ],
)
async def test_a_token_is_of_one_of_the_issuers(wanted: Any, iss: Any, expected: str) -> None:
    assert await outcome({**PLAIN, "iss": wanted}, by_hand({"alg": "HS256"}, {"iss": iss})) == expected
    assert await outcome({**PLAIN, "iss": wanted}, token({"sub": "ada"})) == INVALID


@pytest.mark.parametrize(
    ("wanted", "aud", "expected"),
    [
        ("shop", "shop", "in"),
        ("shop", ["other", "shop"], "in"),
        (["till", "shop"], ["other", "shop"], "in"),
        ("shop", "shopkeeper", INVALID),
        ("shop, till", "shop", INVALID),
        ("shop", [], INVALID),
        ("shop", [["shop"]], INVALID),
        ("shop", {"shop": 1}, INVALID),
        ("shop", None, INVALID),
    ],
)
async def test_a_token_is_for_one_of_the_audiences(wanted: Any, aud: Any, expected: str) -> None:
    assert await outcome({**PLAIN, "aud": wanted}, by_hand({"alg": "HS256"}, {"aud": aud})) == expected


async def test_the_challenge_says_what_is_wrong_with_the_token() -> None:
    for given, said in (
        (token({"exp": 1}), "The token has expired"),
        (token(key="x" * 64), "The signature is of no key that is known here"),
        (token({"nbf": NOW + 9}), "The token is not valid yet"),
        (token(key=RSA, alg="RS256"), "The algorithm is not taken here"),
        ("a.b", "The token cannot be read: it has not three parts"),
    ):
        refused = await asked(PLAIN, f"authorization: Bearer {given}")
        assert header(refused, "www-authenticate") == [f'Bearer error="invalid_token", error_description="{said}"']


async def test_an_expired_token_of_a_public_key_is_called_invalid_as_there() -> None:
    refused = await asked(public("ES256"), f"authorization: Bearer {token({'exp': 1}, KEYS['ES256'], 'ES256')}")
    assert isinstance(refused, Response) and refused.body == INVALID.encode()
    assert "expired" in header(refused, "www-authenticate")[0]


async def test_a_wrong_token_waits_and_others_do_not() -> None:
    section = {**PLAIN, "delay": "20ms"}
    async with Stage({"p": section}) as stage:
        for given, body in (("", "missing"), ("a.b", "format is invalid"), (token({"exp": 1}), "expired")):
            refused = await stage.one(stage.request("/", f"authorization: {given}"))
            assert body in refused.body.decode()
        assert isinstance(await stage.one(stage.request("/", f"authorization: {token()}")), Routed)
        assert await stage.run(stage.request("/", "authorization: a.b.c")) == []
        assert stage.actor.held() == 1
        await stage.actor.streams.by_sid[SID].task  # type: ignore[misc]
        [late] = stage.out()
        assert late.body == INVALID.encode()


# -- what is no token ---------------------------------------------------------------------------


NO_TOKENS = {
    "two parts": "a.b",
    "four parts": token() + ".x",
    "encrypted": "a.b.c.d.e",
    "one": "abc",
    "basic": "Basic dXNlcjpwYXNz",
}


@pytest.mark.parametrize("given", NO_TOKENS.values(), ids=NO_TOKENS)
async def test_what_has_not_three_parts_has_no_format(given: str) -> None:
    assert await outcome(PLAIN, given) == "Jwt authorization format is invalid"
    assert await outcome(public("RS256"), given) == INVALID


HEAD, BODY, SIGN = token().split(".")
BROKEN = {
    "empty parts": "..",
    "padded": f"{HEAD}.{BODY}.{SIGN}=",
    "plain base64": f"{HEAD}.{BODY}.{SIGN[:-2]}+/",
    "another last character": f"{HEAD}.{BODY}.{SIGN[:-1]}{chr(ord(SIGN[-1]) + 1)}",
    "blank within": f"{HEAD}.{BODY}. {SIGN}",
    "one character too many": f"{HEAD}.{BODY}.{SIGN}A",
    "beyond ascii": f"{HEAD}.{BODY}.{SIGN}ü",
    "header is a list": by_hand(["HS256"]),
    "header is a text": by_hand("HS256"),
    "header is no json": by_hand(b"{'alg':'HS256'}"),
    "header is not utf-8": by_hand(b'{"alg":"HS256","x":"\xff"}'),
    "header with a byte order mark": by_hand(b'\xef\xbb\xbf{"alg":"HS256"}'),
    "header with something after it": by_hand(b'{"alg":"HS256"}{}'),
    "kid is a number": by_hand({"alg": "HS256", "kid": 7}),
    "kid is a list": by_hand({"alg": "HS256", "kid": ["a"]}),
    "payload is a text": by_hand({"alg": "HS256"}, "ada"),
    "payload is a list": by_hand({"alg": "HS256"}, [CLAIMS]),
    "payload is no json": by_hand({"alg": "HS256"}, b"Pingap"),
    "payload is empty": by_hand({"alg": "HS256"}, b""),
    "payload has NaN": by_hand({"alg": "HS256"}, b'{"exp":NaN}'),
    "payload has infinity": by_hand({"alg": "HS256"}, b'{"exp":Infinity}'),
    "payload has too much": by_hand({"alg": "HS256"}, b'{"exp":1e999}'),
    "deep header": by_hand(b'{"alg":"HS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "deep payload": by_hand({"alg": "HS256"}, b'{"x":' + b'{"x":' * 2000 + b"1" + b"}" * 2001),
    "huge": by_hand({"alg": "HS256"}, {"x": "y" * jwt_token.LONGEST}),
}


@pytest.mark.parametrize("given", BROKEN.values(), ids=BROKEN)
async def test_a_broken_token_is_refused_though_its_signature_is_good(given: str) -> None:
    assert await outcome(PLAIN, given) == INVALID


async def test_a_token_may_be_as_long_as_it_may() -> None:
    room = jwt_token.LONGEST * 3 // 4 - 100
    assert await outcome(PLAIN, by_hand({"alg": "HS256"}, {"x": "y" * (room - 10)})) == "in"


# -- what the backend and the log are told --------------------------------------------------------


RICH = {
    **CLAIMS,
    "sub": "ada",
    "age": 36,
    "admin": True,
    "roles": ["a", "b,c", 7, "100%"],
    "realm_access": {"roles": ["x", "y"]},
    "https://example.com/tenant": "acme",
    "dotted.name": "flat",
    "dotted": {"name": "deep"},
    "address": {"city": "Zürich"},
    "name": "Zoë",
    "line": "a\r\nx-admin: 1",
    "blank": "ada ",
    "empty": "",
    "nothing": None,
}
COPIES = {
    "x-user: sub": ["ada"],
    "x-age: age": ["36"],
    "x-admin: admin": ["true"],
    "x-roles: roles": ["a,b%2Cc,7,100%25"],
    "x-realm: realm_access.roles": ["x,y"],
    "x-tenant: https://example.com/tenant": ["acme"],
    "x-flat: dotted.name": ["flat"],
    "x-address: address": ['{"city":"Z\\u00fcrich"}'],
    "x-name: name": ["Zoë".encode().decode("latin-1")],
    "x-line: line": [],
    "x-blank: blank": [],
    "x-empty: empty": [],
    "x-nothing: nothing": [],
    "x-missing: missing": [],
    "x-beyond: sub.name": [],
}


@pytest.mark.parametrize(("line", "values"), COPIES.items(), ids=COPIES)
async def test_a_claim_becomes_a_header_and_never_comes_from_the_client(line: str, values: list[str]) -> None:
    name = line.partition(":")[0]
    section = {**PLAIN, "claims_to_headers": [line]}
    spelt = [name.replace("-", sign) for sign in "_.!"]
    forged = "\n".join([f"{name}: eve", *(f"{one}: root" for one in (name, *spelt)), "x-other: stays"])
    routed = await asked(section, f"authorization: {token(RICH)}\n{forged}")
    assert isinstance(routed, Routed)
    assert header(routed, name) == values
    assert [header(routed, one) for one in spelt] == [[], [], []] and header(routed, "x-other") == ["stays"]


async def test_claims_that_were_told_once_are_told_again() -> None:
    section = {**PLAIN, "claims_to_headers": ["X-User: sub"], "claims_to_context": ["User: sub", "tenant: missing"]}
    async with Stage({"p": section}) as stage:
        for user in ("ada", "bob", "ada", "bob"):
            routed = await stage.one(stage.request("/", f"authorization: {token({**CLAIMS, 'sub': user})}"))
            assert (header(routed, "x-user"), routed.variables) == ([user], {"user": user})


# -- tokens that are known ------------------------------------------------------------------------


async def test_a_token_is_verified_once_and_expires_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    mac = jwt_keys.mac

    def counting(*args: Any) -> bytes:
        verified.append("x")
        return mac(*args)

    monkeypatch.setattr(jwt_keys, "mac", counting)
    good = token({"exp": NOW + 10})
    async with Stage({"p": PLAIN}) as stage:
        for _ in range(3):
            assert isinstance(await stage.one(stage.request("/", f"authorization: {good}")), Routed)
        assert len(verified) == 1
        assert isinstance(await stage.one(stage.request("/", f"authorization: {good}x")), Response)
        monkeypatch.setattr(plugin, "time", lambda: NOW + 10.0)
        expired = await stage.one(stage.request("/", f"authorization: {good}"))
        assert expired.body == EXPIRED.encode()


async def test_a_reload_forgets_tokens_that_its_settings_do_not_let_in() -> None:
    good = token()
    async with Stage({"p": PLAIN}) as stage:
        assert isinstance(await stage.one(stage.request("/", f"authorization: {good}")), Routed)
        stage.load({"p": {**PLAIN, "aud": "shop"}})
        assert isinstance(await stage.one(stage.request("/", f"authorization: {good}")), Response)
        stage.load({"p": {**PLAIN, "secret": SECRET[::-1]}})
        assert isinstance(await stage.one(stage.request("/", f"authorization: {good}")), Response)


async def test_no_more_tokens_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_tokens, "MOST", 3)
    async with Stage({"p": PLAIN}) as stage:
        for number in range(10):
            assert isinstance(await stage.one(stage.request("/", f"authorization: {token({'sub': str(number)})}")), Routed)
        long = token({"x": "y" * 4096})
        assert isinstance(await stage.one(stage.request("/", f"authorization: {long}")), Routed)
        [live] = stage.actor._compiler._live.values()
        assert len(live.plugin._verified._known) == 3  # type: ignore[attr-defined]


# -- settings ---------------------------------------------------------------------------------------


def told(**section: Any) -> tuple[list[Problem], list[Note]]:
    found = checking.Checker()("p", {"category": "jwt", **section})
    return [one for one in found if isinstance(one, Problem)], [one for one in found if isinstance(one, Note)]


PRIVATE = RSA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
WEAK = pem(rsa.generate_private_key(65537, 1024))
CURVE = pem(ec.generate_private_key(ec.SECP256K1()))

WRONG: dict[str, tuple[Section, str, str]] = {
    "nowhere": ({"secret": SECRET}, "header", "neither header nor cookie nor query"),
    "no secret": ({"header": "A"}, "secret", "must not be empty"),
    "header": ({"header": "a b", "secret": SECRET}, "header", "is not the name of a header"),
    "cookie": ({"cookie": "a;b", "secret": SECRET}, "cookie", "is not the name of a cookie"),
    "algorithm": ({"header": "A", "secret": SECRET, "algorithm": "HS255"}, "algorithm", "there is no algorithm 'HS255'"),
    "none": ({"header": "A", "secret": SECRET, "algorithm": "none"}, "algorithm", "there is no algorithm 'none'"),
    "of public keys": ({"header": "A", "secret": SECRET, "algorithm": "RS256"}, "algorithm", "RS256 needs a public key"),
    "of secrets": ({"header": "A", "public_key": pem(RSA), "algorithm": "HS256"}, "algorithm", "HS256 is for a secret"),
    "no algorithm": ({"header": "A", "public_key": pem(RSA)}, "algorithm", "a public key needs an algorithm"),
    "another key": ({"header": "A", "public_key": pem(RSA), "algorithm": "ES256"}, "public_key", "this key is not for ES256"),
    "another curve": ({"header": "A", "public_key": pem(KEYS["ES384"]), "algorithm": "ES256"}, "public_key", "this key is not for ES256"),
    "strange curve": ({"header": "A", "public_key": CURVE, "algorithm": "ES256"}, "public_key", "no algorithm here for keys of the curve"),
    "weak key": ({"header": "A", "public_key": WEAK, "algorithm": "RS256"}, "public_key", "this one has 1024"),
    "private key": ({"header": "A", "public_key": PRIVATE, "algorithm": "RS256"}, "public_key", "this is a private key"),
    "no key": ({"header": "A", "public_key": "nonsense", "algorithm": "RS256"}, "public_key", "is not a public key in PEM"),
    "both": ({"header": "A", "public_key": pem(RSA), "algorithm": "RS256", "jwks_url": "https://a.example"}, "public_key", "not clear"),
    "public key as secret": ({"header": "A", "secret": pem(RSA)}, "secret", "a public key is no secret"),
    "url": ({"header": "A", "jwks_url": "ftp://a.example"}, "jwks_url", "begins with ftp:"),
    "ttl": ({"header": "A", "jwks_url": "https://a.example", "jwks_ttl": "0s"}, "jwks_ttl", "must be more than 0"),
    "minting": ({"header": "A", "jwks_url": "https://a.example", "auth_path": "/login"}, "auth_path", "verified with a public key"),
    "minting with a secret beside": (
        {"header": "A", "public_key": pem(RSA), "algorithm": "RS256", "secret": SECRET, "auth_path": "/login"},
        "auth_path",
        "verified with a public key",
    ),
    "delay": ({"header": "A", "secret": SECRET, "delay": "soon"}, "delay", ""),
    "issuer": ({"header": "A", "secret": SECRET, "iss": ["a", ""]}, "iss", "must not be empty"),
    "no issuer": ({"header": "A", "secret": SECRET, "iss": ""}, "iss", "must not be empty"),
    "no audiences": ({"header": "A", "secret": SECRET, "aud": []}, "aud", "must not be empty"),
    "no claims": ({"header": "A", "secret": SECRET, "required_claims": []}, "required_claims", "must not be empty"),
    "issuer of another type": ({"header": "A", "secret": SECRET, "iss": 0}, "iss", "expected a list, got the number 0"),
    "audience of another type": ({"header": "A", "secret": SECRET, "aud": ["a", 5]}, "aud[1]", "expected text"),
    "secret of another type": ({"header": "A", "secret": 123123}, "secret", "expected text"),
    "switch of another type": ({"header": "A", "secret": SECRET, "hide_credentials": "yes"}, "hide_credentials", "expected true or false"),
    "step": ({"header": "A", "secret": SECRET, "step": "response"}, "step", "cannot be put at"),
    "host": (
        {"header": "A", "secret": SECRET, "claims_to_headers": ["Host: sub"]},
        "claims_to_headers[0]",
        "cannot take the place of host",
    ),
    "itself": ({"header": "A", "secret": SECRET, "claims_to_headers": ["a: sub"]}, "claims_to_headers[0]", "cannot take the place of a"),
    "of what": ({"header": "A", "secret": SECRET, "claims_to_context": ["user:"]}, "claims_to_context[0]", ""),
    "unknown": ({"header": "A", "secret": SECRET, "issuer": "x"}, "issuer", "unknown key"),
}


@pytest.mark.parametrize(("section", "key", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_refused(section: Section, key: str, message: str) -> None:
    problems, _ = told(**section)
    assert [problem.path for problem in problems] == [f"plugins.p.{key}"]
    assert message in problems[0].message


def test_all_that_is_wrong_is_told_at_once() -> None:
    problems, _ = told(cookie="a b", secret=pem(RSA), auth_path="/x", iss="", aud=[""], jwks_ttl="0s", claims_to_headers=["host: sub"])
    assert {problem.path.partition(".p.")[2] for problem in problems} == {
        "cookie",
        "secret",
        "iss",
        "aud",
        "jwks_ttl",
        "claims_to_headers[0]",
    }


NOTED: dict[str, tuple[Section, list[str]]] = {
    "nothing": ({"header": "A", "secret": SECRET, "step": "request"}, []),
    "places": ({"header": "A", "cookie": "b", "query": "c", "secret": SECRET}, ["cookie", "query"]),
    "short secret": ({"header": "A", "secret": "123123"}, ["secret"]),
    "secret for HS512": ({"header": "A", "secret": "x" * 63, "algorithm": "HS512"}, ["secret"]),
    "secret beside": ({"header": "A", "secret": SECRET, "public_key": pem(RSA), "algorithm": "RS256"}, ["secret"]),
    "jwks keys": ({"header": "A", "secret": SECRET, "jwks_ttl": "1h", "jwks_url": ""}, ["jwks_ttl"]),
    "token_ttl": ({"header": "A", "secret": SECRET, "token_ttl": "1h"}, ["token_ttl"]),
    "overwritten": ({"header": "A", "secret": SECRET, "claims_to_headers": ["X-A: a", "X-Real-Ip: ip"]}, ["claims_to_headers[1]"]),
    "for ever": ({"header": "A", "secret": SECRET, "auth_path": "/login"}, ["auth_path"]),
    "not for ever": ({"header": "A", "secret": SECRET, "auth_path": "/login", "token_ttl": "1h"}, []),
    "never for ever": ({"header": "A", "secret": SECRET, "auth_path": "/login", "required_claims": ["exp"]}, []),
}


@pytest.mark.parametrize(("section", "keys"), NOTED.values(), ids=NOTED)
def test_what_has_no_effect_or_a_surprising_one_is_noted(section: Section, keys: list[str]) -> None:
    problems, notes = told(**section)
    assert problems == [] and [note.path for note in notes] == [f"plugins.p.{key}" for key in keys]
    assert SECRET not in str(notes) and "123123" not in str(notes)


async def test_a_certificate_will_do_for_its_key() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    key = KEYS["ES256"]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    assert await outcome({**public("ES256"), "public_key": certificate}, token(key=key, alg="ES256")) == "in"


@pytest.mark.processes
def test_who_has_no_public_key_does_not_load_the_library() -> None:
    code = f"""
import sys
from pingap.stages.plugins import checking, making
made = making.make("p", {PLAIN!r}, checking.load_guard)
made.plugin.start(None)
assert "joserfc" not in sys.modules, "loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
