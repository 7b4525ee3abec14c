"""Orders: what is asked for, what is done when the process died or the authority says no, and what counts as issued."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import ClassVar

import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pingap.stages.acme.wanted import KeyType
from tests.acme.authority.desk import Desk, Killed, leaf, names
from tests.kit.small_authority import Said, SmallAuthority, pem, problem

STEPS = ["account", "order", "challenge example.test", "finalize", "download"]


def test_names_wildcards_and_addresses_are_in_one_order(desk: Desk, small: SmallAuthority) -> None:
    issued = desk.issue(desk.wanted("example.test", "*.example.test", "192.0.2.1", "2001:db8::1", challenge="dns-01"))
    assert names(issued) == ["*.example.test", "192.0.2.1", "2001:db8::1", "example.test"]
    (request,) = small.paths("new-order")
    assert {"type": "ip", "value": "192.0.2.1"} in request.payload["identifiers"]
    records = {one.record for one in desk.presenter.presented if one.domain == "example.test"}
    assert records == {"_acme-challenge.example.test"}
    assert len({one.value for one in desk.presenter.presented}) == 4
    assert sorted(desk.presenter.removed) == sorted(desk.presenter.presented)


def test_steps_are_told_before_they_are_done(desk: Desk) -> None:
    desk.issue()
    assert desk.steps == STEPS


def test_a_name_in_another_script_is_told(desk: Desk, small: SmallAuthority) -> None:
    error = desk.fails(desk.wanted("bücher.test"))
    assert "bücher.test" in str(error) and "xn--" in str(error) and error.is_final and small.made() == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"])
def test_the_key_is_of_the_wanted_kind(desk: Desk, kind: KeyType) -> None:
    issued = desk.issue(desk.wanted(key_type=kind))
    key = load_pem_private_key(issued.key.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    assert isinstance(key, rsa.RSAPrivateKey) == kind.startswith("rsa")
    assert f"{'rsa-' if isinstance(key, rsa.RSAPrivateKey) else 'ecdsa-p'}{key.key_size}" == kind
    assert leaf(issued).public_key() == key.public_key()


def test_names_that_are_proven_already_are_not_proven_again(desk: Desk, small: SmallAuthority) -> None:
    real = small._new_order

    def reusing(request: object) -> Said:
        said = real(request)  # type: ignore[arg-type]
        for one in small.authorizations.values():
            one["status"] = "valid"
        return said

    small.__dict__["_new_order"] = reusing
    desk.issue()
    assert desk.presenter.presented == [] and desk.steps == ["account", "order", "finalize", "download"]


class TestKilled:
    """By leaving at a step as nobody expects it; tests/acme/authority/test_pebble.py does it with real kills."""

    @pytest.mark.parametrize("step", STEPS)
    def test_the_next_one_goes_on_with_the_same_order(self, desk: Desk, other: Desk, small: SmallAuthority, step: str) -> None:
        desk.dies_at = step
        with pytest.raises(Killed):
            desk.issue()
        issued = other.issue()
        assert names(issued) == ["example.test"]
        assert small.made() == 1 and len(small.certificates) == 1 and len(small.accounts) == 1

    def test_what_was_issued_and_not_stored_is_fetched_again(self, desk: Desk, other: Desk, small: SmallAuthority) -> None:
        assert desk.issue() == other.issue()
        assert small.made() == 1

    def test_what_was_stored_is_not_taken_for_the_new_one(self, desk: Desk, small: SmallAuthority) -> None:
        first = desk.issue()
        desk.keep(desk.wanted(), first)
        second = desk.issue()
        assert leaf(first) != leaf(second) and first.key != second.key and small.made() == 2

    def test_an_order_that_is_settled_is_forgotten(self, desk: Desk, small: SmallAuthority) -> None:
        desk.issue()
        desk.authority.settle(desk.wanted())
        assert desk.shelf.names("orders") == []

    def test_proofs_that_were_left_out_there_are_removed(self, desk: Desk, other: Desk, small: SmallAuthority) -> None:
        """The authority has looked while nobody was there, so nothing is presented again."""
        desk.presenter.dies = True
        with pytest.raises(Killed):
            desk.issue()
        for one in small.authorizations.values():
            one["status"] = "valid"
        other.issue()
        assert [one.domain for one in other.presenter.removed] == ["example.test"] and other.presenter.presented == []

    def test_the_answer_to_finalize_may_be_lost(self, desk: Desk, other: Desk, small: SmallAuthority) -> None:
        real = small._finalize

        def losing(request: object) -> Said:
            real(request)  # type: ignore[arg-type]
            return Said(502, "<html>")

        small.__dict__["_finalize"] = losing
        desk.fails()
        assert names(other.issue()) == ["example.test"]
        assert small.made() == 1 == len(small.paths("finalize"))

    @pytest.mark.parametrize("how", ["gone", "invalid", "expired", "another account", "half a record", "old"])
    def test_an_order_of_no_use_is_made_anew(self, desk: Desk, other: Desk, small: SmallAuthority, how: str) -> None:
        desk.dies_at = "download" if how == "old" else "challenge"
        with pytest.raises(Killed):
            desk.issue()
        (order,) = small.orders.values()
        if how == "gone":
            small.orders.clear()
        elif how == "invalid":
            order["status"] = "invalid"
        elif how == "expired":
            order["expires"] = "2020-01-01T00:00:00Z"
        elif how == "another account":
            order["account"] = "nobody's"
        elif how == "half a record":
            other.shelf.put("orders", other.wanted().id, b"\x81\xa3url")
        else:
            other.time.ahead = 60 * 86400
        assert names(other.issue()) == ["example.test"] and small.made() == 2

    def test_an_order_for_something_else_is_dropped(self, desk: Desk, small: SmallAuthority) -> None:
        desk.dies_at = "challenge"
        with pytest.raises(Killed):
            desk.issue()
        table = msgpack.unpackb(desk.shelf.get("orders", desk.wanted().id) or b"")
        assert abs(table["at"] - time.time()) < 60
        desk.shelf.put("orders", desk.wanted().id, msgpack.packb(table | {"domains": ["else.test"]}))
        desk.issue()
        assert small.made() == 2


class TestWaits:
    def test_retry_after_is_kept(self, desk: Desk, small: SmallAuthority) -> None:
        small.waits, small.checks, small.processing = "7", 2, 2
        desk.issue()
        assert [round(one) for one in desk.time.waits] == [7, 7, 7, 7]

    def test_without_it_the_steps_grow(self, desk: Desk, small: SmallAuthority) -> None:
        small.checks = 7
        desk.issue()
        assert desk.time.waits == [0.25, 0.5, 1, 2, 4, 5, 5]

    @pytest.mark.parametrize(("checks", "processing"), [(10**6, 0), (0, 10**6)])
    def test_an_order_is_waited_for_five_minutes_and_kept(self, desk: Desk, small: SmallAuthority, checks: int, processing: int) -> None:
        small.checks, small.processing = checks, processing
        error = desk.fails()
        assert "within 300 s" in str(error) and "example.test" in str(error) and not error.is_final
        assert 250 < sum(desk.time.waits) <= 300
        assert desk.presenter.presented == desk.presenter.removed
        for one in (*small.orders.values(), *small.authorizations.values()):
            one["left"] = 0
        desk.authority._clocks = desk.time.clocks()
        assert names(desk.issue()) == ["example.test"] and small.made() == 1

    def test_a_wait_that_is_too_long_is_told_with_its_end(self, desk: Desk, small: SmallAuthority) -> None:
        small.checks, small.waits = 1, "3600"
        error = desk.fails()
        assert error.retry_at is not None and abs(error.retry_at - time.time() - 3600) < 60
        assert desk.time.waits == []

    def test_an_authority_that_stumbles_now_and_then_fails_no_order(self, desk: Desk, small: SmallAuthority) -> None:
        small.wrong["authorization"] = [Said(503, "<html>"), None, Said(502), Said(500, "{")]
        small.wrong["certificate"] = [Said(503)]
        assert desk.issue()


class TestDenied:
    DNS: ClassVar = {"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN looking up A for b.test", "status": 400}
    NOT_FOUND: ClassVar = {
        "type": "urn:ietf:params:acme:error:unauthorized",
        "detail": "192.0.2.7: Invalid response from http://a.test/.well-known/acme-challenge/x: 404",
        "status": 403,
    }

    def test_each_name_is_told_with_what_the_authority_saw(self, desk: Desk, small: SmallAuthority) -> None:
        small.denied = {"a.test": self.NOT_FOUND, "b.test": self.DNS}
        error = desk.fails(desk.wanted("a.test", "b.test", "c.test"))
        assert "a.test: the authority says: 192.0.2.7: Invalid response from http://a.test/.well-known/acme-challenge/x: 404" in str(error)
        assert "b.test: the authority says: NXDOMAIN" in str(error) and "c.test" not in str(error)
        assert error.problem_type == "unauthorized" and not error.is_final
        assert "port 80" in str(error) and "A or AAAA" in str(error)
        assert sorted(desk.presenter.removed) == sorted(desk.presenter.presented) and len(desk.presenter.removed) == 3
        small.denied = {}
        assert desk.issue(desk.wanted("a.test", "b.test", "c.test")) and small.made() == 2

    def test_a_challenge_that_is_not_offered_is_told_with_those_that_are(self, desk: Desk, small: SmallAuthority) -> None:
        error = desk.fails(desk.wanted("*.example.test"))
        assert str(error) == ("*.example.test: the authority does not offer http-01 for it, but dns-01; acme_challenge says which is used")
        assert error.is_final and desk.presenter.presented == []

    def test_what_cannot_be_presented_is_told_and_removed(self, desk: Desk, small: SmallAuthority) -> None:
        desk.presenter.fails = "the interface of the provider says: no such zone"
        error = desk.fails()
        assert str(error) == "the interface of the provider says: no such zone"
        assert len(desk.presenter.removed) == 1
        desk.presenter.fails = ""
        assert desk.issue() and small.made() == 1

    @pytest.mark.parametrize("ordered", [("example.test",), ("*.example.test",)])
    @pytest.mark.parametrize("other", [{"identifier": {"type": "dns", "value": "other.test"}}, {"identifier": 7}, {"wildcard": None}])
    def test_a_name_that_was_not_ordered_is_not_proved(
        self, desk: Desk, small: SmallAuthority, ordered: tuple[str, ...], other: dict[str, object]
    ) -> None:
        if "wildcard" in other:
            other = {"wildcard": not ordered[0].startswith("*.")}
        real = small._authorization
        small.__dict__["_authorization"] = lambda request: real(request)._replace(body={**real(request).body, **other})
        error = desk.fails(desk.wanted(*ordered, challenge="dns-01"))
        assert "which was not ordered" in str(error) and not desk.presenter.presented
        small.__dict__.pop("_authorization")
        assert desk.issue(desk.wanted(*ordered, challenge="dns-01")), "with another order"

    def test_more_authorizations_than_names_are_not_looked_at(self, desk: Desk, small: SmallAuthority) -> None:
        real = small._new_order
        small.__dict__["_new_order"] = lambda request: (said := real(request))._replace(
            body={**said.body, "authorizations": said.body["authorizations"] * 3000}
        )
        assert "its order of 1 names has 3000 authorizations" in str(desk.fails())
        assert not small.paths("authorization")

    @pytest.mark.parametrize("token", ["../../etc/passwd", "", "short", "a" * 30 + "/", None])
    def test_a_token_that_is_none_is_not_presented(self, desk: Desk, small: SmallAuthority, token: str | None) -> None:
        real = small._new_order

        def odd(request: object) -> Said:
            said = real(request)  # type: ignore[arg-type]
            for one in small.authorizations.values():
                for challenge in one["challenges"]:
                    challenge["token"] = token
            return said

        small.__dict__["_new_order"] = odd
        assert "has no token" in str(desk.fails()) and desk.presenter.presented == []
        small.__dict__.pop("_new_order")
        assert desk.issue()


class TestRefused:
    def test_a_rate_limit_is_told_with_its_end(self, desk: Desk, small: SmallAuthority) -> None:
        until = int(time.time()) + 5000
        words = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(until))
        detail = f"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after {words} UTC"
        small.wrong["new-order"] = [problem("rateLimited", detail, 429, {"Retry-After": "60"})]
        error = desk.fails()
        assert (error.problem_type, error.retry_at, error.is_final) == ("rateLimited", until, False)
        assert detail in str(error)

    def test_subproblems_say_which_name_it_is(self, desk: Desk, small: SmallAuthority) -> None:
        inner = {
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "policy forbids it",
            "identifier": {"type": "dns", "value": "bad.test"},
        }
        small.wrong["new-order"] = [problem("malformed", "some of the identifiers", 400, subproblems=[inner])]
        error = desk.fails(desk.wanted("bad.test", "good.test"))
        assert str(error) == "bad.test: the authority says: policy forbids it (rejectedIdentifier)" and error.is_final

    @pytest.mark.parametrize("kind", ["rejectedIdentifier", "unsupportedIdentifier", "badCSR"])
    def test_what_will_not_go_better_is_final(self, desk: Desk, small: SmallAuthority, kind: str) -> None:
        small.wrong["finalize" if kind == "badCSR" else "new-order"] = [problem(kind, "no")]
        error = desk.fails()
        assert error.is_final and error.problem_type == kind and "example.test" in str(error)
        assert desk.issue()  # what was wrong with the order is not carried on

    def test_a_profile_that_is_not_offered_is_told_with_those_that_are(self, desk: Desk, small: SmallAuthority) -> None:
        small.meta = {"profiles": {"classic": "…", "shortlived": "…"}}
        error = desk.fails(desk.wanted(profile="shortest"))
        assert "'shortest': it offers classic, shortlived" in str(error) and error.is_final and small.made() == 0
        desk.issue(desk.wanted(profile="shortlived"))
        assert small.paths("new-order")[-1].payload["profile"] == "shortlived"
        desk.issue()
        assert "profile" not in small.paths("new-order")[-1].payload

    def test_bad_nonces_are_tried_again(self, desk: Desk, small: SmallAuthority) -> None:
        for resource in ("new-account", "new-order", "challenge", "finalize", "certificate"):
            small.wrong[resource] = [problem("badNonce")] * 7
        assert desk.issue()

    def test_an_order_that_became_invalid_says_why(self, desk: Desk, small: SmallAuthority) -> None:
        real = small._finalize

        def denying(request: object) -> Said:
            said = real(request)  # type: ignore[arg-type]
            return Said(
                200, said.body | {"status": "invalid", "error": {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids"}}
            )

        small.__dict__["_finalize"] = denying
        error = desk.fails()
        assert "example.test: the authority says: CAA forbids (caa)" in str(error) and desk.shelf.names("orders") == []


class TestWhatComesBack:
    """Before it counts."""

    def refused(self, desk: Desk) -> str:
        error = desk.fails()
        assert desk.shelf.names("orders") == [] and "is not used" in str(error)
        return str(error)

    def test_a_chain_is_put_in_order(self, desk: Desk, small: SmallAuthority) -> None:
        small.chain = lambda leaf, issuer, root: pem(root) + pem(issuer) + pem(leaf)
        chain = x509.load_pem_x509_certificates(desk.issue().cert.encode())
        assert [one.subject.rfc4514_string() for one in chain] == ["", "CN=issuer", "CN=root"]

    def test_another_key(self, desk: Desk, small: SmallAuthority) -> None:
        small.chain = lambda leaf, issuer, root: pem(issuer) + pem(root)
        assert "for another key than ours" in self.refused(desk)

    def test_another_name(self, desk: Desk, small: SmallAuthority) -> None:
        small.names = [x509.DNSName("else.test")]
        assert "not for example.test" in self.refused(desk)

    def test_more_names_are_no_harm(self, desk: Desk, small: SmallAuthority) -> None:
        small.names = [x509.DNSName("EXAMPLE.test"), x509.DNSName("www.example.test")]
        assert desk.issue()

    @pytest.mark.parametrize(("begin", "end", "text"), [(-9, -1, "has ended at"), (3, 9, "begins at")])
    def test_another_time(self, desk: Desk, small: SmallAuthority, begin: int, end: int, text: str) -> None:
        small.lifetime = (timedelta(days=begin), timedelta(days=end))
        said = self.refused(desk)
        assert text in said and "clock" in said

    def test_a_chain_of_strangers(self, desk: Desk, small: SmallAuthority) -> None:
        with SmallAuthority() as second:
            small.chain = lambda leaf, issuer, root: pem(leaf) + pem(second.issuer)
            assert "does not hold" in self.refused(desk)

    def test_no_certificate(self, desk: Desk, small: SmallAuthority) -> None:
        small.chain = lambda leaf, issuer, root: "<html>soon</html>"
        assert "no certificate in PEM" in self.refused(desk)
