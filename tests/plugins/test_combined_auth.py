"""combined_auth: who proves that it knows an app's secret, and who tries to."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import Note
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from pingap.stages.plugins.builtin import combined_auth
from pingap.stages.plugins.exchange import Reply
from tests.kit.peers import needs
from tests.plugins.script import Stage, lines

NOW = 1_764_000_000
SHOP = {"app_id": "shop", "secret": "thread", "deviation": 60}
SIGNED = {**SHOP, "signs": "request"}
HEADERS = {"app_id_header": "X-App-Id", "ts_header": "X-Ts", "digest_header": "X-Digest"}


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combined_auth, "time", lambda: NOW + 0.7)


def section(*apps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"category": "combined_auth", "authorizations": list(apps or (SHOP,)), **more}


def digest(ts: object = NOW, secret: str = "thread") -> str:
    """As the reference's clients make it."""
    return hashlib.sha256(f"{secret}:{ts}".encode()).hexdigest()


def signature(target: str, method: str = "GET", ts: object = NOW, secret: str = "thread") -> str:
    return hmac.new(secret.encode(), f"{method}\n{target}\n{ts}".encode(), "sha256").hexdigest()


def query(app_id: str = "shop", ts: object = NOW, made: str | None = None) -> str:
    return f"app_id={app_id}&ts={ts}&digest={digest(ts) if made is None else made}"


async def answer(plugin: dict[str, Any], target: str = "/", headers: str = "", **more: Any) -> Response | Routed:
    async with Stage({"p": plugin}) as stage:
        envelope = await stage.one(stage.request(target, headers, **more))
        assert isinstance(envelope, Response | Routed)
        return envelope


async def refusal(plugin: dict[str, Any], target: str = "/", headers: str = "", **more: Any) -> str:
    """What a refusal gives as its reason."""
    refused = await answer(plugin, target, headers, **more)
    assert isinstance(refused, Response)
    assert refused.status == 401
    assert b"cache-control: private, no-store\r\n" in refused.headers
    before, found, message = refused.body.decode().partition("Plugin combined_auth invalid, message: ")
    assert found and not before
    return message


# -- the reference's digest ----------------------------------------------------------------------


@pytest.mark.parametrize("ts", [NOW, NOW - 60, NOW + 60, f"+{NOW}", f"0{NOW}"])
async def test_a_digest_of_secret_and_time_lets_an_app_pass(ts: object) -> None:
    routed = await answer(section(), f"/a?{query(ts=ts)}&x=1")
    assert isinstance(routed, Routed)
    assert routed.target == f"/a?{query(ts=ts)}&x=1".encode()
    assert routed.variables["app_id"] == "shop"
    assert isinstance(await answer(section(), f"/a?{query(ts=ts, made=digest(ts).upper())}"), Routed)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "app id is empty"),
        ("ts=1&digest=2", "app id is empty"),
        ("app_id=&ts=1", "app id is invalid"),
        (query("shopp"), "app id is invalid"),
        (query("SHOP"), "app id is invalid"),
        ("app_id=shop", "timestamp is empty"),
        ("app_id=shop&ts=", "timestamp is empty"),
        (query(ts="now"), "invalid digit found in string"),
        (query(ts="-"), "invalid digit found in string"),
        (query(ts=f"{NOW}.0"), "invalid digit found in string"),
        (query(ts=f"%20{NOW}"), "invalid digit found in string"),
        (query(ts=f"{NOW:_}"), "invalid digit found in string"),
        (query(ts="1e9"), "invalid digit found in string"),
        (query(ts="%D9%A1%D9%A2"), "invalid digit found in string"),
        (query(ts="9" * 21), "number too large to fit in target type"),
        (query(ts="9" * 20_000), "number too large to fit in target type"),
        (query(ts=9223372036854775807), "timestamp deviation is invalid"),
        (query(ts=-9223372036854775808), "timestamp deviation is invalid"),
        (query(ts=-NOW), "timestamp deviation is invalid"),
        (query(ts=0), "timestamp deviation is invalid"),
        (query(ts=NOW - 61), "timestamp deviation is invalid"),
        (query(ts=NOW + 61), "timestamp deviation is invalid"),
        (f"app_id=shop&ts={NOW}", "digest is empty"),
        (query(made=""), "digest is empty"),
        (query(made="0" * 64), "digest is invalid"),
        (query(made=digest()[:-1]), "digest is invalid"),
        (query(made=digest() + "0"), "digest is invalid"),
        (query(made="a" * 100_000), "digest is invalid"),
        (query(made="%C5%BF" * 64), "digest is invalid"),
        (query(made=digest(NOW - 1)), "digest is invalid"),
        (query(made=digest(secret="")), "digest is invalid"),
        (query(made=hashlib.md5(f"thread:{NOW}".encode()).hexdigest()), "digest is invalid"),
    ],
)
async def test_what_is_no_proof_is_refused_with_the_reason(given: str, reason: str) -> None:
    assert await refusal(section(), f"/a?{given}") == reason


async def test_raw_bytes_beyond_ascii_are_no_digits_and_no_digest() -> None:
    arabic = "\u0661\u0662".encode().decode("latin-1")
    assert await refusal(section(), f"/?{query(ts=NOW)}".replace(str(NOW), arabic, 1)) == "invalid digit found in string"
    assert await refusal(section(), f"/?{query(made='é' * 64)}") == "digest is invalid"


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("&app_id=other", "app id"),
        ("&%61pp_id=other", "app id"),
        ("&app%5fid=other", "app id"),
        ("&app.id=other", "app id"),
        ("&app%20id=other", "app id"),
        ("&+app_id=other", "app id"),
        ("&app_id[]=other", "app id"),
        ("&app_id%00=other", "app id"),
        ("&App_Id=other", "app id"),
        ("&app[id=other", "app id"),
        ("&x=1;app_id=other", "app id"),
        ("&app_id", "app id"),
        (f"&ts={NOW}", "timestamp"),
        ("&t%73=1", "timestamp"),
        (f"&digest={digest()}", "digest"),
    ],
)
async def test_a_parameter_that_a_backend_may_read_otherwise_is_refused(extra: str, what: str) -> None:
    for both in (f"{query()}{extra}", f"{extra[1:]}&{query()}"):
        assert await refusal(section(), f"/?{both}") == f"{what} is invalid"


WORDS = st.sampled_from(["app_id", "ts", "digest", "app%5Fid", "x", "", "=", "&", "&", ";", "%", "+"])


@given(st.lists(WORDS, max_size=12).map("".join))
def test_whatever_the_query_is_it_is_read_as_a_backend_reads_it_or_refused(text: str) -> None:
    found = combined_auth._from_query(text.encode())
    if isinstance(found, Reply):
        return
    for separator in ("&", ";"):
        read = parse_qsl(text, keep_blank_values=True, separator=separator)
        for name, value in zip(("app_id", "ts", "digest"), found, strict=True):
            named = [one for key, one in read if key == name]
            assert len(named) <= 1
            if separator == "&":
                assert named == ([] if value is None else [unquote_plus(value.decode())])


async def test_an_upgrade_and_a_head_are_asked_as_well() -> None:
    assert await refusal(section(), upgrade=b"websocket") == "app id is empty"
    refused = await answer(section(), method=b"HEAD")
    assert isinstance(refused, Response)
    assert (refused.status, refused.body) == (401, b"")


async def test_the_time_it_takes_says_nothing_about_how_much_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(wanted: bytes, given: bytes) -> bool:
        compared.append((wanted, given))
        return real(wanted, given)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    right = digest()
    for made in (right, right[:-1] + "x", "x" + right[1:], right[:5], "x"):
        compared.clear()
        await answer(section(), f"/?{query(made=made)}")
        assert compared == [(right.encode(), made.encode())]


# -- apps -----------------------------------------------------------------------------------------


async def test_each_app_has_its_own_secret_addresses_and_deviation() -> None:
    other = {"app_id": "ünï", "secret": "geheim ü", "deviation": 5, "ip_list": ["10.0.0.0/8", "192.0.2.7"]}
    both = section(SHOP, other)
    made = digest(secret="geheim ü")
    for spelled in ("%C3%BCn%C3%AF", "%c3%bcn%c3%af"):
        routed = await answer(both, f"/?{query(spelled, made=made)}")
        assert isinstance(routed, Routed)
        assert routed.variables["app_id"] == "ünï"
    assert await refusal(both, f"/?{query('%C3%BCn%C3%AF')}") == "digest is invalid"
    assert await refusal(both, f"/?{query(made=made)}") == "digest is invalid"
    assert await refusal(both, f"/?{query('%C3%BCn%C3%AF', made=made)}", client_ip="192.0.2.8") == "ip is invalid"
    assert await refusal(both, f"/?{query('%C3%BCn%C3%AF', made=made)}", client_ip="") == "ip is invalid"
    assert isinstance(await answer(both, f"/?{query()}", client_ip="192.0.2.8"), Routed)
    late = NOW - 6
    late_digest = digest(late, "geheim ü")
    assert await refusal(both, f"/?{query('%C3%BCn%C3%AF', late, late_digest)}") == "timestamp deviation is invalid"


async def test_the_secret_star_asks_for_nothing_but_the_address() -> None:
    star = section({"app_id": "in", "secret": "*"}, {"app_id": "near", "secret": "*", "ip_list": ["10.0.0.1/32"]})
    assert isinstance(await answer(star, "/?app_id=in"), Routed)
    assert isinstance(await answer(star, "/?app_id=in&ts=x&digest=y"), Routed)
    assert await refusal(star, "/?app_id=near") == "ip is invalid"
    assert isinstance(await answer(star, "/?app_id=near", client_ip="10.0.0.1"), Routed)


# -- a digest of the request -------------------------------------------------------------------------


async def test_a_digest_of_the_request_holds_for_that_alone() -> None:
    signed = section(SIGNED)
    made = signature("/orders?page=2&x=%C3%A9")
    target = f"/orders?page=2&{query(made=made)}&x=%C3%A9"
    assert isinstance(await answer(signed, target), Routed)
    assert await refusal(signed, target, method=b"POST") == "digest is invalid"
    assert await refusal(signed, target.replace("page=2", "page=3")) == "digest is invalid"
    assert await refusal(signed, target.replace("/orders", "/Orders")) == "digest is invalid"
    assert await refusal(signed, target + "&admin=1") == "digest is invalid"
    assert await refusal(signed, f"/orders?page=2&x=%C3%A9&{query()}") == "digest is invalid"
    alone = f"/orders?{query(made=signature('/orders', 'DELETE'))}"
    assert isinstance(await answer(signed, alone, method=b"DELETE"), Routed)
    assert isinstance(await answer(section(), f"/orders?{query()}"), Routed)
    assert await refusal(section(), alone, method=b"DELETE") == "digest is invalid"


async def test_what_is_signed_is_what_the_client_sent_before_a_rewrite() -> None:
    sent = f"/v1/orders?{query(made=signature('/v1/orders'))}"
    assert isinstance(await answer(section(SIGNED), sent.replace("/v1", ""), original=sent.encode()), Routed)
    assert await refusal(section(SIGNED), sent, original=sent.replace("/v1", "/v2").encode()) == "digest is invalid"


@pytest.mark.processes
async def test_the_commands_of_the_manual_make_digests_that_pass() -> None:
    needs("openssl", "openssl")
    code = combined_auth.__doc__.split("```sh\n")[1:]
    for part, plugin, target in ((code[0], section(), "/orders?"), (code[1], section(SIGNED), "/orders?page=2&")):
        [line] = [line for line in part.split("```")[0].splitlines() if line.startswith("DIGEST=")]
        script = f'SECRET=thread TS={NOW}\n{line}\necho "$DIGEST"'
        made = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        assert isinstance(await answer(plugin, f"{target}{query(made=made)}"), Routed)


# -- where they are, and where they stay -----------------------------------------------------------------


def sent(app_id: str = "shop", ts: object = NOW, made: str | None = None) -> str:
    return f"x-app-id: {app_id}\nx-ts: {ts}\nx-digest: {digest(ts) if made is None else made}"


async def test_headers_may_have_them_instead_of_the_query() -> None:
    by_header = section(SHOP, {**SIGNED, "app_id": "other"}, **HEADERS)
    assert isinstance(await answer(by_header, headers=sent()), Routed)
    assert await refusal(by_header, f"/?{query()}") == "app id is empty"
    assert await refusal(by_header, headers="x-app-id: shop\nx-ts: 1") == "timestamp deviation is invalid"
    made = signature(f"/a?{query()}")
    assert isinstance(await answer(by_header, f"/a?{query()}", sent("other", made=made)), Routed)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("x-app-id: other", "app id"),
        ("x_app_id: other", "app id"),
        ("x.app-id: other", "app id"),
        ("x_ts: 1", "timestamp"),
        ("x-digest: a", "digest"),
    ],
)
async def test_a_header_that_a_backend_may_read_otherwise_is_refused(extra: str, what: str) -> None:
    for headers in (f"{sent()}\n{extra}", f"{extra}\n{sent()}"):
        assert await refusal(section(**HEADERS), headers=headers) == f"{what} is invalid"


async def test_the_backend_does_not_get_what_is_hidden() -> None:
    hiding = section(hide_credentials=True)
    for target, kept in ((f"/a?x=1&{query()}&y=2", b"/a?x=1&y=2"), (f"/a?{query()}", b"/a")):
        routed = await answer(hiding, target)
        assert isinstance(routed, Routed) and routed.target == kept
    routed = await answer(section(hide_credentials=True, **HEADERS), headers=sent() + "\nx-other: 1")
    assert isinstance(routed, Routed)
    assert lines(routed.headers) == ["host: example.com", "x-other: 1"]
    routed = await answer(section(**HEADERS), headers=sent())
    assert isinstance(routed, Routed) and len(lines(routed.headers)) == 4


# -- what is no configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "path"),
    [
        ({"category": "combined_auth"}, "authorizations"),
        ({"category": "combined_auth", "authorizations": []}, "authorizations"),
        (section({**SHOP, "secret": ""}), "authorizations[0].secret"),
        (section({"app_id": "a", "deviation": 1}), "authorizations[0].secret"),
        (section({"secret": "a", "deviation": 1}), "authorizations[0].app_id"),
        (section({**SHOP, "app_id": ""}), "authorizations[0].app_id"),
        (section(SHOP, {**SHOP, "secret": "b"}), "authorizations[1].app_id"),
        (section({**SHOP, "deviation": 0}), "authorizations[0].deviation"),
        (section({**SHOP, "deviation": -5}), "authorizations[0].deviation"),
        (section({**SHOP, "deviation": "60"}), "authorizations[0].deviation"),
        (section({"app_id": "a", "secret": "b"}), "authorizations[0].deviation"),
        (section({**SHOP, "ip_list": ["10.0.0"]}), "authorizations[0].ip_list[0]"),
        (section({**SHOP, "signs": "path"}), "authorizations[0].signs"),
        (section({**SHOP, "scret": "path"}), "authorizations[0].scret"),
        (section(ts_header="X-Ts", digest_header="X-D"), "app_id_header"),
        (section(**{**HEADERS, "ts_header": "content-length"}), "ts_header"),
        (section(**{**HEADERS, "digest_header": "x-ts"}), "digest_header"),
    ],
)
def test_what_would_keep_nobody_out_is_refused(plugin: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in checking.check("p", plugin)] == [f"plugins.p.{path}"]


def test_no_secret_is_in_what_is_said_of_a_broken_section() -> None:
    said = checking.check("p", section({**SHOP, "deviation": 0, "secret": "hush-hush"}))
    assert said and "hush" not in str(said)


def test_keys_without_effect_are_noted() -> None:
    told = checking.Checker()("p", section({"app_id": "a", "secret": "*", "deviation": 60}, {**SHOP, "signs": "time", "secret": "x" * 16}))
    assert [(type(one), one.path) for one in told] == [(Note, "plugins.p.authorizations[0].deviation")]


def test_what_is_easily_found_out_or_good_for_long_is_noted() -> None:
    told = checking.Checker()("p", section({**SHOP, "secret": "hush-hush-hush!", "deviation": 3600}))
    assert [(type(one), one.path) for one in told] == [(Note, "plugins.p.authorizations[0].secret")]
    assert "hush" not in str(told)
    told = checking.Checker()("p", section({**SHOP, "secret": "x" * 16, "deviation": 3601}))
    assert [(type(one), one.path) for one in told] == [(Note, "plugins.p.authorizations[0].deviation")]
