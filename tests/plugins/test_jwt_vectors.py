"""Tokens of the RFCs, and of whoever tries whatever comes to mind."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any, Final

import jwt as pyjwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pingap.stages.plugins.builtin.jwt import Jwt, JwtSettings
from pingap.stages.plugins.builtin.tokens.claims import ClaimRules, ToldClaims
from pingap.stages.plugins.builtin.tokens.keys import BadKey, KeySet, of_jwks, of_secret
from pingap.stages.plugins.builtin.tokens.token import BadToken, json_object, parse

# RFC 7515, appendix A.1 to A.3: the same payload, that is RFC 7519's of section 3.1.
HMAC_KEY: Final = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
CLAIMS: Final = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
BODY: Final = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
HS256: Final = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{BODY}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
RS256: Final = (
    f"eyJhbGciOiJSUzI1NiJ9.{BODY}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5Y"
    "Kt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQ"
    "jbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC"
    "-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77"
    "Rw"
)
RSA_KEY: Final = {
    "kty": "RSA",
    "n": (
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-"
        "pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47"
        "soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwK"
        "h9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
    ),
    "e": "AQAB",
}
ES256: Final = f"eyJhbGciOiJFUzI1NiJ9.{BODY}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
EC_KEY: Final = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
# RFC 7515, appendix A.4, and RFC 8037, appendix A.4: their payloads are no claims.
ES512: Final = (
    "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34"
    "XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
)
EC512_KEY: Final = {
    "kty": "EC",
    "crv": "P-521",
    "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
    "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
}
EDDSA: Final = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4"
    "ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
ED_KEY: Final = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
VECTORS: Final = {
    "RFC 7515 A.2": (RSA_KEY, RS256, CLAIMS),
    "RFC 7515 A.3": (EC_KEY, ES256, CLAIMS),
    "RFC 7515 A.4": (EC512_KEY, ES512, None),
    "RFC 8037 A.4": (ED_KEY, EDDSA, None),
}


def public_set(*keys: dict[str, Any]) -> KeySet:
    return of_jwks(json.dumps({"keys": keys}).encode(), ("RS256", "ES256", "ES512", "EdDSA"))


@pytest.mark.parametrize(("key", "token", "claims"), VECTORS.values(), ids=VECTORS)
def test_tokens_of_the_rfcs_are_signed_with_their_keys(key: dict[str, Any], token: str, claims: Any) -> None:
    parsed = parse(token.encode())
    assert public_set(key).has_signed(parsed)
    others = [other for other, _, _ in VECTORS.values() if other != key]
    assert not public_set(*others).has_signed(parsed)
    if claims is None:
        with pytest.raises(BadToken):
            json_object(parsed.payload)
    else:
        assert json_object(parsed.payload) == claims


def test_the_token_of_rfc_7519_is_signed_with_its_secret() -> None:
    secret = base64.urlsafe_b64decode(HMAC_KEY + "==")
    parsed = parse(HS256.encode())
    assert of_secret(secret, ["HS256"]).has_signed(parsed) and json_object(parsed.payload) == CLAIMS
    assert not of_secret(secret, ["HS512"]).has_signed(parsed)
    assert not of_secret(secret[:-1], ["HS256"]).has_signed(parsed)


def test_the_unsecured_token_of_rfc_7519_is_signed_with_nothing() -> None:
    parsed = parse(f"eyJhbGciOiJub25lIn0.{BODY}.".encode())
    for keys in (of_secret(b"", ["HS256", "HS384", "HS512"]), public_set(RSA_KEY, EC_KEY, ED_KEY)):
        assert not keys.has_signed(parsed)


@pytest.mark.parametrize(
    "signature", [b"", b"\0", b"\0" * 64, b"\0" * 96, b"\xff" * 64, b"\0" * 31 + b"\1" + b"\0" * 31 + b"\1", b"x" * 256, b"x" * 12000]
)
def test_no_signature_of_nothing_is_good(signature: bytes) -> None:
    """Zeros once were, for ECDSA of Java (CVE-2022-21449)."""
    for key, token, _ in VECTORS.values():
        assert not public_set(key).has_signed(parse(token.encode())._replace(signature=signature))
    assert not of_secret(b"s" * 32, ["HS256"]).has_signed(parse(HS256.encode())._replace(signature=signature))


def test_a_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one == other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = of_secret(base64.urlsafe_b64decode(HMAC_KEY + "=="), ["HS256"])
    assert keys.has_signed(parse(HS256.encode())) and not keys.has_signed(parse(HS256.encode())._replace(signature=b"x"))
    assert compared == [True, False]


# -- whatever comes to mind -----------------------------------------------------------------------

SECRET: Final = "it takes thirty-two bytes, or more" * 2


def gate(**more: Any) -> Jwt:
    made = Jwt(JwtSettings.model_validate({"category": "jwt", "header": "A", "secret": SECRET, **more}))
    assert list(made.check()) == []
    made.start(None)  # type: ignore[arg-type]
    return made


GATE: Final = gate(claims_to_headers=["X-User: sub", "X-All: a.b"], claims_to_context=["user: sub"])
GOOD: Final = pyjwt.encode({"sub": "ada"}, SECRET, "HS256")


def verdict(token: bytes) -> ToldClaims | str:
    assert GATE._keys is not None
    return GATE._judge(GATE._keys, token)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


PARTS: Final = st.binary(max_size=60).map(b64) | st.sampled_from(
    [part.encode() for part in (GOOD + "." + HS256 + ".e30.bnVsbA").split(".")]
)


@given(st.binary(max_size=200) | st.lists(PARTS | st.binary(max_size=20), max_size=5).map(b".".join))
@example(b"..")
@example(b"." * 20000)
@example(b"\xff.\xff.\xff")
@settings(max_examples=200)
def test_what_nobody_signed_is_no_token_and_no_error(text: bytes) -> None:
    if text != GOOD.encode():
        assert isinstance(verdict(text), str)
    else:
        assert isinstance(verdict(text), ToldClaims)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=0, max_size=2))
@settings(max_examples=100)
def test_a_token_with_one_character_changed_is_none(at: int, other: bytes) -> None:
    changed = GOOD.encode()[:at] + other + GOOD.encode()[at + 1 :]
    assert isinstance(verdict(changed), str) or changed == GOOD.encode()


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "sub"]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES: Final = st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "a", "a.b"])


@given(st.dictionaries(NAMES, JSON, max_size=5), st.floats(0, 4e9))
@settings(max_examples=100)
def test_whatever_claims_say_nothing_is_raised_and_what_they_tell_can_be_sent(claims: dict[str, Any], now: float) -> None:
    for rules in (ClaimRules(True, 60.0, frozenset("i"), frozenset("a"), ("sub",)), ClaimRules(False, 0.0, frozenset(), frozenset())):
        assert isinstance(rules.objection(claims, now), str) and isinstance(rules.until(claims), float)
    told = GATE._copies.of(claims)
    for _, value in told.headers:
        assert value and value == value.strip() and not set(value) & {*range(32), 127}
    for text in told.context.values():
        text.encode()


@given(JSON | st.fixed_dictionaries({"keys": st.lists(st.fixed_dictionaries({}, optional={
    "kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]) | JSON, "kid": JSON, "use": JSON, "alg": JSON, "key_ops": JSON,
    "n": st.binary(max_size=20).map(lambda raw: b64(raw).decode()) | JSON, "e": st.just("AQAB") | JSON,
    "crv": st.sampled_from(["P-256", "Ed25519", "X25519"]) | JSON, "x": st.just("AQ") | JSON, "y": st.just("AQ") | JSON,
}), max_size=4)}))  # fmt: skip
@settings(max_examples=100)
def test_no_set_of_keys_raises_anything_but_that_it_is_none(said: Any) -> None:
    try:
        made = of_jwks(json.dumps(said).encode("utf-8", "surrogatepass"), ("RS256", "ES256", "EdDSA"))
    except BadKey:
        return
    assert made.keys == () or all(key.algorithms <= {"RS256", "ES256", "EdDSA"} for key in made.keys)


BY_THE_REFERENCE: Final = {
    "HS256": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJuYW1lIjoiSm9obiIsImFkbWluIjp0cnVlLCJleHAiOjIzNDgwNTUyNjV9."
    "j6sYJ2dCCSxskwPmvHM7WniGCbkT30z2BrjfsuQLFJc",
    "HS512": "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9."
    "eyJuYW1lIjoiSm9obiIsImFkbWluIjp0cnVlLCJleHAiOjIzNDgwNTUyNjV9."
    "HxFVxDd5ZiLsD1dWW1AywWMERhqk0Ck9IsdBHyD_1zap3w-waVOmFq0Yt1fWaYmh8HDtXLN6vlTd0HHYIYEGUw",
}  # fmt: skip
"""Of the secret 123123, from pingap-plugin/src/jwt.rs."""


@pytest.mark.parametrize("alg", BY_THE_REFERENCE)
@pytest.mark.parametrize("algorithm", ["", "HS256", "HS512"])
def test_tokens_of_the_reference_go_on_being_taken(alg: str, algorithm: str) -> None:
    made = gate(secret="123123", algorithm=algorithm)
    assert made._keys is not None
    found = made._judge(made._keys, BY_THE_REFERENCE[alg].encode())
    assert isinstance(found, ToldClaims) is (algorithm in ("", alg))
