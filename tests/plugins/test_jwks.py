"""Keys that `jwt` fetches: which of them are used, when they are asked for, and what becomes of requests meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms as pyalgorithms

from pingap.stages.messages import Cancel, Data, Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin import jwt as plugin
from pingap.stages.plugins.builtin.tokens import jwks
from pingap.stages.plugins.builtin.tokens import keys as jwt_keys
from pingap.stages.plugins.builtin.tokens.jwks import KeyAges
from pingap.stages.plugins.builtin.tokens.token import encoded
from pingap.workshop.kit.config_side import say_config
from tests.plugins.script import PLUGINS, SID, Stage, snapshot

NOW = 1_800_000_000
SECTION = {"category": "jwt", "header": "Authorization", "jwks_url": "upstream://u/keys?api_key=hunter2"}
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, OTHER_EC = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
EC384, EC512 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()
INVALID = b"Jwt authorization is invalid"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monotonic = Clock()
    monkeypatch.setattr(plugin, "time", lambda: float(NOW))
    monkeypatch.setattr(plugin, "monotonic", monotonic)
    monkeypatch.setattr(jwks, "monotonic", monotonic)
    yield monotonic


def token(key: Any, alg: str, kid: str | None = "k1", **claims: Any) -> str:
    return pyjwt.encode({"sub": "ada", "exp": NOW + 600, **claims}, key, alg, headers={} if kid is None else {"kid": kid})


def jwk(key: Any, kid: str | None = "k1", **more: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        made = pyalgorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = pyalgorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        made = pyalgorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """A stage that fetches keys, and the upstream that has them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.asked: list[Routed] = []

    async def run(self, *messages: Any) -> list[Any]:
        """What goes out but for fetches, which are waiting in `asked`."""
        out = await self.stage.run(*messages)
        for _ in range(3):
            out += await self.stage.run()
        self.asked += [one for one in out if isinstance(one, Routed) and one.sid >> 32 == PLUGINS]
        return [one for one in out if not (isinstance(one, Routed) and one.sid >> 32 == PLUGINS)]

    async def answer(self, body: bytes, status: int = 200, **more: Any) -> list[Any]:
        """Answers the oldest fetch."""
        return await self.run(self.stage.response("content-type: application/json", body, status=status, sid=self.asked.pop(0).sid, **more))

    async def fail(self) -> list[Any]:
        return await self.answer(b"", 502, error="connect_failed")

    async def ask(self, given: str, sid: int = SID) -> list[Any]:
        return await self.run(self.stage.request("/", f"authorization: Bearer {given}", sid=sid))

    async def lets_in(self, given: str) -> bool:
        """Whether one is let in, at once."""
        [answer] = await self.ask(given)
        assert isinstance(answer, Routed) or (answer.status, answer.body) == (401, INVALID)
        return isinstance(answer, Routed)


@asynccontextmanager
async def issuer(*keys: Any, body: bytes | None = None, **more: Any) -> AsyncIterator[Issuer]:
    """keys: those that the issuer publishes at first; none: nobody has answered yet."""
    async with Stage({"p": {**SECTION, **more}}) as stage:
        made = Issuer(stage)
        assert await made.run() == []
        if keys or body is not None:
            assert await made.answer(body if body is not None else key_set(*keys)) == []
        yield made


# -- which keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "algs"),
    [
        (RSA, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (EC, ("ES256",)),
        (EC384, ("ES384",)),
        (EC512, ("ES512",)),
        (ED, ("EdDSA",)),
    ],
)
async def test_keys_of_all_kinds_verify_tokens_of_another_implementation(key: Any, algs: tuple[str, ...]) -> None:
    async with issuer(jwk(key), jwk(OTHER_RSA, "k2")) as keys:
        for alg in algs:
            assert await keys.lets_in(token(key, alg))
            assert not await keys.lets_in(token(key, alg)[:-4] + "AAAA")
            assert not await keys.lets_in(token(key, alg, "k2"))
            assert not await keys.lets_in(token(key, alg, None)) or alg not in ("RS256", "PS256")


async def test_the_keys_are_asked_for_once_before_the_first_request() -> None:
    async with issuer() as keys:
        [asked] = keys.asked
        assert (asked.method, asked.target, asked.upstream) == (b"GET", b"/keys?api_key=hunter2", "u")
        assert b"accept: application/json" in asked.headers


async def test_a_secret_is_no_public_key() -> None:
    oct_key = {"kty": "oct", "k": "AAAA", "kid": "k1"}
    public = jwk(RSA)
    async with issuer(oct_key, public) as keys:
        assert await keys.lets_in(token(RSA, "RS256"))
        signed = token(RSA, "RS256").split(".")[1]
        head = b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
        for secret in (b"\0\0\0", public["n"].encode(), json.dumps(public).encode(), b""):
            mac = jwt_keys.mac(secret, "HS256", f"{head}.{signed}".encode())
            assert not await keys.lets_in(f"{head}.{signed}.{b64(mac)}")


def b64(data: bytes) -> str:
    return encoded(data).decode()


PASSED_OVER: dict[str, Any] = {
    "use": jwk(RSA, use="enc"),
    "use of another type": jwk(RSA, use=["sig"]),
    "key_ops": jwk(RSA, key_ops=["sign", "encrypt"]),
    "key_ops of another type": jwk(RSA, key_ops="verify"),
    "alg of another kind": jwk(RSA, alg="ES256"),
    "alg of a secret": jwk(RSA, alg="HS256"),
    "alg of encryption": jwk(RSA, alg="RSA-OAEP"),
    "alg of another type": jwk(RSA, alg=["RS256"]),
    "kid of another type": {**jwk(RSA), "kid": 1},
    "kty of another key": {**jwk(RSA), "kty": "EC"},
    "kty of no key": {**jwk(RSA), "kty": "XYZ"},
    "kty of another type": {**jwk(RSA), "kty": {}},
    "no kty": {name: value for name, value in jwk(RSA).items() if name != "kty"},
    "no number": {name: value for name, value in jwk(RSA).items() if name != "n"},
    "a number that is none": {**jwk(RSA), "n": 5},
    "a number that is no base64": {**jwk(RSA), "n": "*"},
    "a number that is empty": {**jwk(RSA), "n": ""},
    "exponent 1": {**jwk(RSA), "e": "AQ"},
    "even exponent": {**jwk(RSA), "e": "Ag"},
    "huge exponent": {**jwk(RSA), "e": "_" * 1000},
    "exponent that is larger than any is": {**jwk(RSA), "e": b64(((1 << 33) + 1).to_bytes(5, "big"))},
    "weak": jwk(rsa.generate_private_key(65537, 1024)),
    "512 bits": {**jwk(RSA), "n": b64(((1 << 511) + 1).to_bytes(64, "big"))},
    "16384 bits": {**jwk(RSA), "n": b64(((1 << 16383) + 1).to_bytes(2048, "big"))},
    "no point": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "k1"},
    "another curve": {**jwk(EC), "crv": "P-384"},
    "no curve": {**jwk(EC), "crv": None},
    "a curve of no name": {**jwk(EC), "crv": "P-257"},
    "key agreement": {**jwk(ED), "crv": "X25519"},
    "Edwards key that is too short": {**jwk(ED), "x": "AQ"},
    "a list": [],
    "a text": "k1",
    "null": None,
}


@pytest.mark.parametrize("bad", PASSED_OVER.values(), ids=PASSED_OVER)
async def test_a_key_that_cannot_be_used_is_passed_over_and_named(bad: Any) -> None:
    async with issuer(bad, jwk(EC, "k2")) as keys:
        assert await keys.lets_in(token(EC, "ES256", "k2"))
        for key, alg in ((RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")):
            assert not await keys.lets_in(token(key, alg))
        [(level, message, fields)] = keys.stage.context.logged
        assert (level, message) == ("warn", "jwt: some keys are not used") and fields["keys"].startswith("keys[0]: ")


async def test_a_key_is_for_the_algorithm_that_it_names() -> None:
    async with issuer(jwk(RSA, alg="RS512", use="sig", key_ops=["verify"])) as keys:
        assert await keys.lets_in(token(RSA, "RS512"))
        for alg in ("RS256", "PS512"):
            assert not await keys.lets_in(token(RSA, alg))


async def test_the_configuration_may_allow_fewer_algorithms() -> None:
    async with issuer(jwk(RSA), jwk(EC, "k2"), algorithm=["RS256", "PS256"]) as keys:
        for key, alg, kid, expected in (
            (RSA, "RS256", "k1", True),
            (RSA, "PS256", "k1", True),
            (RSA, "RS512", "k1", False),
            (EC, "ES256", "k2", False),
        ):
            assert await keys.lets_in(token(key, alg, kid)) is expected


async def test_of_several_keys_of_one_name_any_will_do() -> None:
    async with issuer(jwk(RSA), jwk(EC), jwk(OTHER_EC)) as keys:
        for key, alg in ((RSA, "RS256"), (EC, "ES256"), (OTHER_EC, "ES256")):
            assert await keys.lets_in(token(key, alg))


async def test_a_token_that_names_no_key_needs_one_that_is_alone_for_it() -> None:
    async with issuer(jwk(RSA), jwk(EC, None), jwk(ED, "e")) as keys:
        for key, alg in ((RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")):
            assert await keys.lets_in(token(key, alg, None))
        assert not await keys.lets_in(token(OTHER_EC, "ES256", None))
        assert not await keys.lets_in(token(EC, "ES256", "k1")), "and one that names a key gets that one"
    async with issuer(jwk(RSA), jwk(OTHER_RSA, "k2")) as keys:
        assert not await keys.lets_in(token(RSA, "RS256", None))


async def test_a_private_key_that_somebody_publishes_is_used_as_a_public_one() -> None:
    both = pyalgorithms.ECAlgorithm.to_jwk(EC, as_dict=True)
    async with issuer({**both, "kid": "k1"}) as keys:
        assert await keys.lets_in(token(EC, "ES256"))


async def test_no_more_keys_are_taken_than_there_is_room_for() -> None:
    many = [jwk(EC, f"n{number}") for number in range(jwt_keys.MOST_KEYS)]
    async with issuer(*many, jwk(ED, "last")) as keys:
        assert await keys.lets_in(token(EC, "ES256", f"n{jwt_keys.MOST_KEYS - 1}"))
        assert not await keys.lets_in(token(ED, "EdDSA", "last"))
        assert "too many" in keys.stage.context.logged[0][2]["keys"]


# -- when -----------------------------------------------------------------------------------------


async def test_requests_wait_for_the_first_keys_and_they_are_fetched_once() -> None:
    async with issuer() as keys:
        for number in range(5):
            assert await keys.ask(token(RSA, "RS256"), SID + number) == []
        assert len(keys.asked) == 1
        assert [type(one) for one in await keys.answer(key_set(jwk(RSA)))] == [Routed] * 5
        assert keys.asked == [] and keys.stage.actor.held() == 0


async def test_a_client_that_leaves_ends_the_fetch_for_nobody_else() -> None:
    async with issuer() as keys:
        for sid in (SID, SID + 1):
            assert await keys.ask(token(RSA, "RS256"), sid) == []
        assert await keys.run(Cancel(SID, "client")) == []
        [routed] = await keys.answer(key_set(jwk(RSA)))
        assert routed.sid == SID + 1


async def test_an_upstream_that_comes_with_the_plugin_is_asked_as_soon_as_there_is_one() -> None:
    """The plugin starts before its generation is committed, and there is no such upstream in the one before."""
    async with Stage({}) as stage:
        made = Issuer(stage)
        plain = snapshot({"p": {**SECTION, "jwks_url": "upstream://idp/keys"}})
        after = replace(plain, upstreams={**plain.upstreams, "idp": plain.upstreams["u"]})
        generation = (2, after, checking.plans(after, trusts=True))
        say_config(stage.context, (1, snapshot({}), {}), generation, oldest=1)
        assert await made.run() == []
        assert made.asked == []
        say_config(stage.context, generation, oldest=1)
        stage.generation, stage.plan = 2, generation[2]["l"]
        assert await made.run() == []
        assert [(one.upstream, one.generation) for one in made.asked] == [("idp", 2)]
        await made.answer(key_set(jwk(RSA)))
        assert await made.lets_in(token(RSA, "RS256"))
        assert stage.context.logged == []


async def test_fresh_keys_are_not_asked_for_again(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwks_ttl="30m") as keys:
        clock.now += 1799.0
        assert await keys.lets_in(token(RSA, "RS256"))
        assert keys.asked == []


async def test_keys_that_are_not_fresh_are_asked_for_and_waited_for(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwks_ttl="30m") as keys:
        clock.now += 1800.0
        assert await keys.ask(token(RSA, "RS256")) == []
        [refused] = await keys.answer(key_set(jwk(OTHER_RSA)))
        assert refused.status == 401, "the issuer has withdrawn it"
        assert await keys.lets_in(token(OTHER_RSA, "RS256"))


async def test_a_key_that_nobody_knows_is_asked_for_at_most_every_cool_down(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwks_cooldown="5s") as keys:
        new = token(OTHER_RSA, "RS256", "k2")
        assert not await keys.lets_in(new), "they are just here"
        clock.now += 5.0
        assert await keys.ask(new) == []
        assert await keys.ask(token(EC, "ES256", "../../etc/passwd"), SID + 1) == [], "one fetch for all"
        assert await keys.lets_in(token(RSA, "RS256")), "and for who needs none, no wait"
        let_in, refused = await keys.answer(key_set(jwk(RSA), jwk(OTHER_RSA, "k2")))
        assert isinstance(let_in, Routed) and refused.status == 401
        for number in range(20):
            assert not await keys.lets_in(token(EC, "ES256", f"n{number}"))
        assert keys.asked == []


async def test_a_key_that_changes_behind_its_name_is_found(clock: Clock) -> None:
    async with issuer(jwk(RSA)) as keys:
        clock.now += 10.0
        assert await keys.ask(token(OTHER_RSA, "RS256")) == []
        [routed] = await keys.answer(key_set(jwk(OTHER_RSA)))
        assert isinstance(routed, Routed)
        assert not await keys.lets_in(token(RSA, "RS256"))


async def test_tokens_that_were_good_are_not_when_their_key_is_gone(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwk(EC, "k2")) as keys:
        assert await keys.lets_in(token(RSA, "RS256")) and await keys.lets_in(token(RSA, "RS256"))
        clock.now += 10.0
        assert await keys.ask(token(ED, "EdDSA", "k3")) == []
        await keys.answer(key_set(jwk(EC, "k2")))
        assert not await keys.lets_in(token(RSA, "RS256"))


async def test_a_token_that_no_key_could_help_does_not_ask_for_any(clock: Clock) -> None:
    async with issuer(jwk(RSA)) as keys:
        clock.now += 100.0
        for given in ("a.b", "a.b.c", token("x" * 64, "HS256"), token(RSA, "RS256", exp=1)):
            assert not await keys.lets_in(given)
        assert keys.asked == []


# -- an issuer that is away, or lies -----------------------------------------------------------------


async def test_without_any_keys_nobody_is_let_in_and_nobody_is_logged_out(clock: Clock) -> None:
    async with issuer() as keys:
        assert await keys.ask(token(RSA, "RS256")) == []
        [refused] = await keys.fail()
        assert (refused.status, refused.body) == (503, b"Jwt keys are not available")
        assert b"retry-after: 1\r\n" in refused.headers
        [refused] = await keys.ask(token(RSA, "RS256"))
        assert refused.status == 503 and keys.asked == [], "there is a pause"
        clock.now += 1.0
        assert await keys.ask(token(RSA, "RS256")) == []
        assert isinstance((await keys.answer(key_set(jwk(RSA))))[0], Routed)
        assert [entry[:2] for entry in keys.stage.context.logged] == [
            ("error", "jwt: keys cannot be fetched"),
            ("info", "jwt: keys are here again"),
        ]
        assert {entry[2]["url"] for entry in keys.stage.context.logged} == {"upstream://u/keys"}, "a query may be secret"


async def test_old_keys_serve_while_the_issuer_is_away_and_then_nobody_is_let_in(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwks_ttl="1h", jwks_stale="2h") as keys:
        good = token(RSA, "RS256")
        clock.now += 3600.0
        assert await keys.ask(good) == []
        assert isinstance((await keys.fail())[0], Routed)
        while clock.now < 1000.0 + 3 * 3600.0 - 600.0:
            clock.now += 600.0
            assert await keys.lets_in(good), "at once: it has failed before"
            assert len(keys.asked) == 1
            await keys.fail()
        clock.now = 1000.0 + 3 * 3600.0
        assert await keys.ask(good) == []
        [refused] = await keys.fail()
        assert refused.status == 503
        clock.now += 10.0
        assert await keys.ask(good) == []
        assert isinstance((await keys.answer(key_set(jwk(RSA))))[0], Routed)


async def test_without_a_stale_limit_keys_are_over_with_their_time(clock: Clock) -> None:
    async with issuer(jwk(RSA), jwks_ttl="1h", jwks_stale="0s") as keys:
        clock.now += 3600.0
        assert await keys.ask(token(RSA, "RS256")) == []
        assert (await keys.fail())[0].status == 503


async def test_an_issuer_that_hangs_holds_nobody_up_who_needs_no_new_key(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "PATIENCE", 0.02)
    async with issuer(jwk(RSA), jwks_ttl="1h") as keys:
        clock.now += 3600.0
        assert await keys.ask(token(RSA, "RS256")) == []
        await asyncio.sleep(0.03)
        assert isinstance((await keys.run())[0], Routed), "the first waits for a moment"
        clock.now += 0.02
        assert await keys.lets_in(token(RSA, "RS256")), "and who comes after that does not"
        await keys.fail()
        clock.now += 10.0
        assert await keys.lets_in(token(RSA, "RS256")), "and the others do not"
        assert len(keys.asked) == 1
        assert await keys.ask(token(RSA, "RS256", "k2")) == []
        await asyncio.sleep(0.03)
        assert (await keys.run())[0].status == 401


LIES = {
    "status": (key_set(jwk(RSA)), 404),
    "redirect": (key_set(jwk(RSA)), 302),
    "no json": (b"<html>", 200),
    "nothing": (b"", 200),
    "a list": (b"[]", 200),
    "no keys": (b"{}", 200),
    "keys that are no list": (b'{"keys": {}}', 200),
    "deep": (b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 200),
    "not utf-8": (b'{"keys": ["\xff"]}', 200),
    "huge": (b" " * jwks.LARGEST + key_set(jwk(RSA)), 200),
}


@pytest.mark.parametrize(("body", "status"), LIES.values(), ids=LIES)
async def test_an_answer_that_is_no_set_of_keys_changes_nothing(body: bytes, status: int, clock: Clock) -> None:
    async with issuer(jwk(EC)) as keys:
        clock.now += 10.0
        assert await keys.ask(token(RSA, "RS256", "k2")) == []
        refused, *rest = [one for one in await keys.answer(body, status) if isinstance(one, Response)]
        assert refused.status == 401 and rest == []
        assert await keys.lets_in(token(EC, "ES256"))
        assert keys.stage.context.logged[0][1] == "jwt: keys cannot be fetched"
        assert keys.stage.actor.held() == 0


async def test_an_answer_without_end_is_cut_off() -> None:
    async with issuer() as keys:
        [asked] = keys.asked
        assert await keys.ask(token(RSA, "RS256")) == []
        out = await keys.run(keys.stage.response("", b"[" * 1000, ended=False, sid=asked.sid))
        while not any(isinstance(one, Cancel) for one in out):
            out = await keys.run(Data(asked.sid, b"[" * 64 * 1024, False, ""))
        [refused] = [one for one in out if isinstance(one, Response)]
        assert refused.status == 503 and keys.stage.actor.held() == 0


async def test_an_issuer_that_withdraws_all_keys_is_believed(clock: Clock) -> None:
    async with issuer(jwk(RSA)) as keys:
        clock.now += 10.0
        assert await keys.ask(token(RSA, "RS256", "k2")) == []
        await keys.answer(key_set())
        assert not await keys.lets_in(token(RSA, "RS256"))


async def test_a_surprise_while_keys_are_read_is_a_failure_with_a_pause(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*args: Any) -> None:
        raise MemoryError("x")

    async with issuer() as keys:
        monkeypatch.setattr(jwks, "of_jwks", explode)
        assert await keys.ask(token(RSA, "RS256")) == []
        [refused] = await keys.answer(key_set(jwk(RSA)))
        assert refused.status == 503 and "MemoryError" in keys.stage.context.logged[0][2]["reason"]
        assert (await keys.ask(token(RSA, "RS256")))[0].status == 503 and keys.asked == []


async def test_the_end_of_the_plugin_ends_its_fetch() -> None:
    async with issuer() as keys:
        [asked] = keys.asked
        stage = keys.stage
        stage.load({"p": {"category": "ping", "path": "/"}})
        made = snapshot({"p": {"category": "ping", "path": "/"}})
        say_config(stage.context, (stage.generation, made, checking.plans(made)), oldest=stage.generation)
        out = await keys.run()
        assert Cancel(asked.sid, "plugins") in out and keys.stage.actor.held() == 0


def test_pauses_grow_up_to_the_cool_down() -> None:
    ages = KeyAges(3600.0, 0.0, 10.0)
    pauses = []
    for _ in range(6):
        ages.failed(0.0)
        pauses.append(ages.pause(0.0))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    for _ in range(2000):
        ages.failed(0.0)
    assert ages.pause(0.0) == 10.0 and not ages.may_be_fetched(9.9) and ages.may_be_fetched(10.0)
    ages.fetched(20.0)
    assert ages.failures == 0 and ages.pause(20.0) == 10.0
    assert KeyAges(4.0, 0.0, 10.0)._cooldown == 4.0, "a cool-down is never longer than keys are fresh"
