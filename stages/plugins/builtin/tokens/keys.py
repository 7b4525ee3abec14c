"""Keys that tokens are verified with. A key says which algorithms it is for, and a token only which of those was used.

So a token never chooses what is done with a key: the text of a public key is no secret, `none` is no algorithm, and keys
that a token brings along, or says where to find, are not looked at. joserfc and cryptography are imported where a public
key is really used (10 MB, 60 ms); secrets need the standard library alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from pingap.plugin import BadValue
from pingap.stages.plugins.builtin.tokens.token import BadToken, Token, json_object

HASHES: Final[Mapping[str, str]] = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
PUBLIC: Final = (*_RSA, *_CURVES.values(), "EdDSA", "Ed25519", "Ed448")
"""Algorithms with a public key."""

FEWEST_BITS: Final = 2048
"""RFC 7518 section 3.3."""
MOST_BITS: Final = 8192
"""Of an RSA key: one of 16384 bits takes a millisecond for each token."""
MOST_KEYS: Final = 128
"""Of a set; those after them are passed over."""
_MOST_EXPONENT: Final = 1 << 33
_LONGEST_MEMBER: Final = 2048
"""Characters of a number in a JWK: 8192 bits have 1366."""
_TRIED: Final = 4
"""Keys of one kid that are tried for a token."""

_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""What is read of a JWK; so a private key that somebody has published is not used as one."""


class BadKey(ValueError):
    """A key that no token is verified with."""


Verify = Callable[[str, bytes, bytes], bool]
"""Given an algorithm of the key, what was signed, and the signature."""


class VerificationKey(NamedTuple):
    """One key."""

    kid: str | None
    algorithms: frozenset[str]
    verify: Verify


class KeySet:
    """The keys that there are."""

    def __init__(self, keys: Iterable[VerificationKey], by_kid: bool = False, passed_over: Iterable[str] = ()) -> None:
        """by_kid: a token names its key. passed_over: what was wrong with others."""
        self.keys = tuple(keys)
        self.passed_over = tuple(passed_over)
        self._by_kid = by_kid
        self._named: dict[str, list[VerificationKey]] = {}
        for key in self.keys:
            if key.kid is not None:
                self._named.setdefault(key.kid, []).append(key)

    def has_signed(self, token: Token) -> bool:
        """Whether the signature of a token is that of one of them."""
        return any(_is_signed_with(key, token) for key in self._for(token))

    def _for(self, token: Token) -> list[VerificationKey]:
        alg = token.alg
        if self._by_kid and token.kid is not None:
            return [key for key in self._named.get(token.kid, ()) if alg in key.algorithms][:_TRIED]
        fitting = [key for key in self.keys if alg in key.algorithms]
        return fitting if not self._by_kid or len(fitting) == 1 else []


def _is_signed_with(key: VerificationKey, token: Token) -> bool:
    try:
        return key.verify(token.alg, token.signed, token.signature) is True
    except Exception:  # whatever a library finds in a signature: it is not verified
        return False


# -- secrets -------------------------------------------------------------------------


def of_secret(secret: bytes, algorithms: Iterable[str]) -> KeySet:
    """algorithms: of HASHES."""
    return KeySet(
        [VerificationKey(None, frozenset(algorithms), lambda alg, signed, sig: hmac.compare_digest(mac(secret, alg, signed), sig))]
    )


def mac(secret: bytes, alg: str, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, HASHES[alg])


# -- public keys -----------------------------------------------------------------------


def of_pem(pem: str, algorithms: Iterable[str]) -> KeySet:
    """Raises BadValue for what is no public key, and for one that none of the algorithms is for."""
    return KeySet([_key(None, parse_pem(pem, algorithms), frozenset(algorithms))])


def parse_pem(pem: str, algorithms: Iterable[str]) -> Any:
    """The public key of cryptography; raises as `of_pem`. It does without joserfc, for those that only look."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    if "PRIVATE KEY" in pem:
        raise BadValue("this is a private key, and here it is the public one that is needed", "openssl pkey -in key.pem -pubout")
    try:
        raw = pem.encode()
        key = load_pem_x509_certificate(raw).public_key() if "BEGIN CERTIFICATE" in pem else load_pem_public_key(raw)
    except Exception as error:  # ValueError and what else there is: UnsupportedAlgorithm, TypeError
        hint = 'write the text of the PEM: "-----BEGIN PUBLIC KEY-----…"'
        raise BadValue(f"is not a public key in PEM: {str(error).partition('.')[0] or type(error).__name__}", hint) from None
    try:
        possible = algorithms_of(key)
    except BadKey as error:
        raise BadValue(str(error)) from None
    if not possible.intersection(algorithms):
        raise BadValue(f"this key is not for {' or '.join(algorithms) or 'secrets'}", f"it is one for {' or '.join(sorted(possible))}")
    return key


def algorithms_of(key: Any) -> frozenset[str]:
    """What a public key of cryptography is for. Raises BadKey for one that is too weak, too slow, or for no signatures of JWTs."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey):
        if not FEWEST_BITS <= key.key_size <= MOST_BITS:
            raise BadKey(f"an RSA key has {FEWEST_BITS} to {MOST_BITS} bits here, and this one has {key.key_size}")
        exponent = key.public_numbers().e
        if not 3 <= exponent < _MOST_EXPONENT or exponent % 2 == 0:
            raise BadKey("the public exponent of this RSA key is none that is safe to use")
        return frozenset(_RSA)
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise BadKey(f"there is no algorithm here for keys of the curve {key.curve.name}")
        return frozenset((_CURVES[key.curve.name],))
    if isinstance(key, Ed25519PublicKey):
        return frozenset(("EdDSA", "Ed25519"))
    if isinstance(key, Ed448PublicKey):
        return frozenset(("EdDSA", "Ed448"))
    raise BadKey("this kind of key is for no algorithm here")


def _key(kid: str | None, key: Any, allowed: frozenset[str]) -> VerificationKey:
    """A key of cryptography, for those of its algorithms that are allowed."""
    from joserfc.jwk import ECKey, OKPKey, RSAKey
    from joserfc.jws import JWSRegistry

    algorithms = algorithms_of(key) & allowed
    if not algorithms:
        raise BadKey("it is for no algorithm that is allowed here")
    wrapped = (RSAKey if algorithms <= set(_RSA) else ECKey if algorithms <= set(_CURVES.values()) else OKPKey).import_key(key)
    models = JWSRegistry.algorithms
    return VerificationKey(kid, algorithms, lambda alg, signed, signature: models[alg].verify(signed, signature, wrapped))


# -- sets of keys ----------------------------------------------------------------------


def of_jwks(text: bytes, algorithms: Iterable[str]) -> KeySet:
    """A JWK Set (RFC 7517 section 5) without those of its keys that cannot be used here. Raises BadKey for what is none."""
    try:
        keys = json_object(text).get("keys")
    except BadToken as error:
        raise BadKey(str(error)) from None
    if not isinstance(keys, list):
        raise BadKey("it has no list of keys")
    allowed = frozenset(algorithms)
    usable, passed_over = [], []
    for index, jwk in enumerate(keys[:MOST_KEYS]):
        try:
            usable.append(_of_jwk(jwk, allowed))
        except BadKey as error:
            passed_over.append(f"keys[{index}]: {error}")
    if len(keys) > MOST_KEYS:
        passed_over.append(f"keys[{MOST_KEYS}] and those after it: there are too many")
    return KeySet(usable, True, passed_over)


def _of_jwk(jwk: Any, allowed: frozenset[str]) -> VerificationKey:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    if not isinstance(jwk, dict):
        raise BadKey("it is no JSON object")
    kty, kid, use, operations, alg = (jwk.get(name) for name in ("kty", "kid", "use", "key_ops", "alg"))
    if not isinstance(kty, str) or kty not in _MEMBERS:
        raise BadKey("a secret has no place among public keys" if kty == "oct" else "its kty is none that is used here")
    if kid is not None and not isinstance(kid, str):
        raise BadKey("its kid is no text")
    if use not in (None, "sig"):
        raise BadKey("its use is not sig")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise BadKey("verify is not among its key_ops")
    if alg is not None:
        allowed = allowed.intersection([alg] if isinstance(alg, str) else ())
    numbers = {name: jwk.get(name) for name in _MEMBERS[kty]}
    if not all(isinstance(value, str) and len(value) <= _LONGEST_MEMBER for value in numbers.values()):
        raise BadKey("a number of it is missing, or too long")
    try:
        kinds: Any = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
        key = kinds[kty].binding.import_public_key(numbers)
    except Exception as error:  # of joserfc, cryptography and Python: a key may be nonsense in many ways
        raise BadKey(f"it is no key: {type(error).__name__}") from None
    return _key(kid, key, allowed)
