"""Accounts at authorities: kept, found again, registered anew."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest

from pingap.stages.acme.authority.authority import Authority
from pingap.stages.acme.authority.patience import AuthorityTime
from tests.acme.authority.desk import Desk, Killed
from tests.kit.small_authority import Said, SmallAuthority, problem


def test_an_account_is_registered_once_and_used_from_then_on(desk: Desk, other: Desk, small: SmallAuthority) -> None:
    desk.issue(desk.wanted("a.test"))
    other.issue(other.wanted("b.test"))
    assert len(small.accounts) == 1 == len(small.paths("new-account"))
    (request,) = small.paths("new-account")
    assert request.payload == {"termsOfServiceAgreed": True}
    assert desk.account_urls() == list(small.accounts)
    assert small.agents == {"pingap/1.2 acme-python"}


def test_an_account_belongs_to_a_directory_and_an_address(desk: Desk, small: SmallAuthority) -> None:
    desk.issue(desk.wanted("a.test", email="a@example.com"))
    desk.issue(desk.wanted("b.test", email="b@example.com"))
    desk.issue(desk.wanted("c.test", email="a@example.com"))
    assert [one["contact"] for one in small.accounts.values()] == [["mailto:a@example.com"], ["mailto:b@example.com"]]
    with SmallAuthority() as second:
        desk.issue(desk.wanted("a.test", email="a@example.com", directory=second.directory))
        assert len(second.accounts) == 1


def test_another_address_of_an_external_account_is_told_to_the_authority(desk: Desk, small: SmallAuthority) -> None:
    """Some hand out keys that work once, so it has to stay the same account."""
    secret = b"0123456789abcdef0123456789abcdef"
    small.eab = {"kid-1": secret}
    more = {"eab_kid": "kid-1", "eab_hmac_key": urlsafe_b64encode(secret).decode()}
    desk.issue(desk.wanted("a.test", email="a@example.com", **more))
    desk.issue(desk.wanted("b.test", email="b@example.com", **more))
    desk.issue(desk.wanted("c.test", email="b@example.com", **more))
    assert [one["contact"] for one in small.accounts.values()] == [["mailto:b@example.com"]]
    assert len(small.paths("account/")) == 1


def test_a_key_id_that_is_missing_is_asked_for_by_name(desk: Desk, small: SmallAuthority) -> None:
    small.meta = {"externalAccountRequired": True}
    error = desk.fails()
    assert "acme_eab_kid" in str(error) and error.is_final and error.problem_type == "externalAccountRequired"
    assert not small.asked


@pytest.mark.parametrize(("key", "text"), [("?!", "acme_eab_hmac_key is not base64url"), ("c2VjcmV0", "the binding does not hold")])
def test_a_wrong_key_of_an_external_account_is_told_and_not_shown(desk: Desk, small: SmallAuthority, key: str, text: str) -> None:
    small.eab = {"kid-1": b"0123456789abcdef0123456789abcdef"}
    error = desk.fails(desk.wanted(eab_kid="kid-1", eab_hmac_key=key))
    assert text in str(error) and "acme_eab_hmac_key" in str(error) and key not in str(error) and error.is_final


def test_an_account_that_the_authority_has_lost_is_registered_anew_with_its_key(desk: Desk, small: SmallAuthority) -> None:
    desk.issue(desk.wanted("a.test"))
    (old,) = small.accounts.values()
    small.accounts.clear()
    desk.issue(desk.wanted("b.test"))
    (new,) = small.accounts.values()
    assert new["key"] == old["key"]
    assert desk.account_urls() == list(small.accounts)


@pytest.mark.parametrize("status", ["deactivated", "revoked"])
def test_an_account_that_was_closed_is_left_for_another_key(desk: Desk, small: SmallAuthority, status: str) -> None:
    desk.issue(desk.wanted("a.test"))
    (old,) = small.accounts.values()
    old["status"] = status
    desk.issue(desk.wanted("b.test"))
    assert len({one["key"] for one in small.accounts.values()}) == 2
    desk.issue(desk.wanted("c.test"))
    assert len(small.accounts) == 2


def test_an_account_that_is_lost_while_its_address_changes_is_registered_anew(desk: Desk, small: SmallAuthority) -> None:
    small.eab = {"kid": b"0123456789abcdef0123456789abcdef"}
    more = {"eab_kid": "kid", "eab_hmac_key": urlsafe_b64encode(small.eab["kid"]).decode()}
    desk.issue(desk.wanted("a.test", **more))
    small.accounts.clear()
    desk.issue(desk.wanted("a.test", email="a@example.com", **more))
    assert [one["contact"] for one in small.accounts.values()] == [["mailto:a@example.com"]]


def test_a_crash_while_an_account_is_registered_leaves_no_second_one(desk: Desk, other: Desk, small: SmallAuthority) -> None:
    real = small._new_account

    def dying(request: object) -> Said:
        real(request)  # type: ignore[arg-type]
        small.__dict__.pop("_new_account")
        return Said(500, "gone")

    small.__dict__["_new_account"] = dying
    desk.fails()
    assert desk.account_urls() == [""]
    other.issue()
    assert len(small.accounts) == 1


def test_instances_that_begin_at_once_end_with_one_account(desk: Desk, small: SmallAuthority) -> None:
    desks = [Desk(desk.root, small) for _ in range(6)]
    for one in desks:  # six threads wait for one lease: a clock that jumps, as desks have, would be out of patience before it is free
        one.authority = Authority(one.shelf, "1.2", AuthorityTime(wait=lambda seconds: time.sleep(seconds / 10)))
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda pair: pair[1].issue(pair[1].wanted(f"n{pair[0]}.test")), enumerate(desks)))
    assert len(done) == 6 and len(small.accounts) == 1


def test_what_is_on_the_shelf_and_no_account_is_replaced(desk: Desk, small: SmallAuthority) -> None:
    desk.issue(desk.wanted("a.test"))
    (name,) = desk.shelf.names("accounts")
    desk.shelf.put("accounts", name, b"\xc1 half of it")
    desk.issue(desk.wanted("b.test"))
    assert len(small.accounts) == 2


def test_terms_that_have_changed_are_for_a_person(desk: Desk, small: SmallAuthority) -> None:
    small.wrong["new-order"] = [problem("userActionRequired", "Terms of service have changed", 403, instance="https://ca.example/agree")]
    error = desk.fails()
    assert "https://ca.example/agree" in str(error) and error.is_final


def test_a_kill_before_the_account_changes_nothing(desk: Desk, other: Desk) -> None:
    desk.dies_at = "account"
    with pytest.raises(Killed):
        desk.issue()
    assert other.issue()
