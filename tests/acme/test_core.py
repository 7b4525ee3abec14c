"""The course of certificates, as scripts: what is told in, what is to be done out."""

from __future__ import annotations

from dataclasses import replace
from time import process_time
from typing import Any

import pytest
from msgspec import structs

from pingap.stages.acme.core import (
    ANOTHERS,
    AT_ONCE,
    BY_HAND_AT_ONCE,
    HOLD,
    LONGEST_BY_HAND,
    LONGEST_TRY,
    LONGEST_WORD,
    SWITCHED_OFF,
)
from pingap.stages.acme.due import APART
from pingap.stages.acme.records import TryRecord
from pingap.stages.acme.wanted import DnsAccess
from pingap.stages.acme.ways import LOOKS, TAKING
from pingap.stages.acme.words import (
    AskWindow,
    BeginTry,
    EndTry,
    HandshakeMade,
    KeepRecord,
    LeaveTry,
    MakeHandshake,
    PublishCertificates,
    PutBack,
    RenewAsked,
    RevocationsHeard,
    SayLine,
    ShelfAway,
    ShelfRead,
    Stepped,
    TakenByAll,
    TryWasAnothers,
    WindowTold,
    WishesChanged,
)
from tests.acme.playbook import DAY, DIRECTORY, HOUR, NOW, Script, held, noticed, of, settled, spoken, tried, want

A = want("a")
B = want("b")


# -- the way of one ---------------------------------------------------------------------


def test_one_that_is_missing_is_got_published_looked_at_and_then_declared() -> None:
    script = Script(A)
    assert tried(script.begin()) == ["a"]
    assert script.core.step("a") == "begun"
    script.on(Stepped(A.id, "challenge a.example"))
    assert script.core.step("a") == "challenge a.example"
    got = script.got(A)
    assert of(got, PublishCertificates) and not of(got, MakeHandshake), "not looked at before accept has it"
    assert not noticed(got), "nothing is said of it before clients are shown it"
    assert script.core.step("a") == "being handed out"
    taken = script.taken()
    assert of(taken, MakeHandshake) == [MakeHandshake("a", ("a.example",), script.shelf[A.id].fingerprint)]
    shown = script.shown(taken)
    assert spoken(shown) == ["certificate was got, and is served"] and noticed(shown) == ['Domains: ["a.example"]']
    assert script.core.step("a") == "" and script.later() == []
    assert script.core.published == {"a": script.shelf[A.id].issued}


def test_nothing_is_tried_or_published_before_it_is_known_what_there_is() -> None:
    script = Script(A)
    assert script.on(WishesChanged({"a": A}, {})) == [] and script.core.next_moment(NOW) is None
    script.on(ShelfAway("gone"))
    assert script.later(HOUR) == [] and script.core.next_moment(script.now) is None
    assert tried(script.read()) == ["a"]


def test_what_is_on_the_shelf_is_published_after_a_restart_and_not_got_again() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example")
    commands = script.begin()
    assert not tried(commands) and of(commands, PublishCertificates)
    assert script.core.published == {"a": script.shelf[A.id].issued}


def test_one_that_the_configuration_begins_to_want_waits_for_what_the_shelf_has_of_it() -> None:
    script = Script(A)
    script.shelf = {A.id: held("a.example"), B.id: held("b.example")}
    script.begin()
    assert script.on(WishesChanged({"a": A, "b": B}, {})) == [PublishCertificates()], "it is on the shelf: seen when that was read for a"
    script = Script(A)
    script.shelf[A.id] = held("a.example")
    script.records[B.id] = TryRecord(NOW - 1, 3, NOW - 1, "no", NOW + HOUR)
    script.begin()
    assert not tried(script.on(WishesChanged({"a": A, "b": B}, {}))), "its record was not read yet"
    script.wanted["b"] = B
    assert not tried(script.read()) and script.core.record("b").attempts == 3
    assert tried(script.later(HOUR)) == ["b"]


def test_it_is_renewed_when_a_third_of_its_life_is_left_and_the_old_one_serves_until_then() -> None:
    script = Script(A)
    old = script.shelf[A.id] = held("a.example")
    script.begin()
    assert not tried(script.later(58 * DAY))
    commands = script.later(2 * DAY)
    assert of(commands, BeginTry) == [BeginTry(A, old.fingerprint)]
    assert script.core.published == {"a": old.issued} and not of(commands, PublishCertificates)
    script.served(A, held("a.example", number=2, at=script.now))
    assert not tried(script.later(58 * DAY)) and tried(script.later(2 * DAY)) == ["a"]


def test_many_are_got_a_few_at_once_those_that_end_first_before_the_others() -> None:
    wanted = [want(f"s{n}") for n in range(9)]
    script = Script(*wanted)
    for n, one in enumerate(wanted[1:]):
        script.shelf[one.id] = held(*one.domains, at=NOW - 89 * DAY - n * 60)
    commands = script.begin()
    assert tried(commands) == ["s0", "s8", "s7", "s6"] and len(tried(commands)) == AT_ONCE
    assert script.later(HOUR) == []
    assert tried(script.fail(wanted[0])) == ["s5"]
    assert tried(script.got(wanted[8])) == ["s4"], "while accept takes one, the next is got"


def test_those_that_wait_for_people_hold_up_no_others() -> None:
    by_hand = [want(f"m{n}", challenge="dns-01") for n in range(AT_ONCE * 5)]
    script = Script(*by_hand, A)
    assert tried(script.begin()) == [*(f"m{n}" for n in range(BY_HAND_AT_ONCE)), "a"]
    assert tried(script.fail(by_hand[0])) == [f"m{BY_HAND_AT_ONCE}"]


# -- what fails -------------------------------------------------------------------------


def test_what_fails_is_tried_again_later_and_later_and_told_once() -> None:
    script = Script(A)
    old = script.shelf[A.id] = held("a.example", at=NOW - 61 * DAY)
    script.begin()
    pauses = []
    for n in range(8):
        failed = script.fail(A, f"no {n}")
        record = script.core.record("a")
        assert of(failed, KeepRecord) == [KeepRecord(A.id, record)] and record.attempts == n + 1 and record.error == f"no {n}"
        assert len(noticed(failed)) == (not n), "a notice at first, then lines of the log"
        assert script.core.published == {"a": old.issued}
        pauses.append(record.next_try - script.now)
        assert not tried(script.later(pauses[-1] - 1))
        assert tried(script.later(1)) == ["a"]
    assert 240 <= pauses[0] <= 300 and pauses == sorted(pauses) and 4.5 * HOUR < pauses[-1] <= 6 * HOUR
    script.served(A, held("a.example", at=script.now))
    assert script.core.record("a").attempts == 0 and script.core.record("a").error == ""


def test_an_authority_that_is_not_reached_is_asked_again_soon() -> None:
    script = Script(A)
    script.begin()
    pauses = []
    for _ in range(12):
        script.fail(A, "not reached", is_unreachable=True)
        pauses.append(script.core.record("a").next_try - script.now)
        assert tried(script.later(pauses[-1])) == ["a"]
    assert 24 <= pauses[0] <= 30 and pauses[2] <= 120 and pauses[:8] == sorted(pauses[:8]) and 0.8 * HOUR < pauses[-1] <= HOUR
    word = script.now + 900
    script.fail(A, "trouble of its own", retry_at=word, is_unreachable=True)
    assert script.core.record("a").next_try >= word


@pytest.mark.parametrize(
    "change", [{"eab_kid": "x", "eab_hmac_key": "y"}, {"email": "a@b.example"}, {"dns": DnsAccess(service_url="?token=x")}]
)
def test_who_changes_what_may_be_why_it_failed_sees_at_once_whether_it_helped(change: dict[str, Any]) -> None:
    script = Script(A)
    script.begin()
    script.fail(A, is_final=True)
    other = want("a", **change)
    assert tried(script.on(WishesChanged({"a": other}, {}))) == ["a"]
    script.fail(other, is_final=True)
    assert not tried(script.later(HOUR / 2))
    # Two instances that are set up differently, and write down their failures in turns, are not at it all the time.
    record = script.core.record("a")
    script.records[A.id] = structs.replace(record, means=A.means, at=record.at + 1)
    assert not tried(script.read())


def test_who_has_mended_it_after_a_restart_or_goes_back_sees_it_at_once_as_well() -> None:
    script = Script(A)
    script.begin()
    script.fail(A, is_final=True)
    other = want("a", eab_kid="x", eab_hmac_key="y")
    again = Script(other)
    again.records = script.records
    assert tried(again.begin()) == ["a"]
    again.fail(other, is_final=True)
    assert tried(again.on(WishesChanged({"a": A}, {}))) == ["a"]
    again.fail(A, is_final=True)
    assert tried(again.on(WishesChanged({"a": other}, {}))) == ["a"], "what was wrong may have been elsewhere"
    again.fail(other, is_final=True)
    assert not tried(again.on(WishesChanged({"a": other}, {})))


def test_a_change_does_not_go_before_the_authoritys_word() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example", at=NOW - 60 * DAY)
    script.begin()
    script.fail(A, is_final=True, retry_at=NOW + HOUR)
    assert script.core.next_try("a") > NOW + 9 * HOUR
    assert not tried(script.on(WishesChanged({"a": want("a", email="a@b.example")}, {})))
    assert script.core.next_try("a") == NOW + HOUR, "and that is what is shown"
    assert tried(script.later(HOUR)) == ["a"]


def test_failing_is_loud_when_nothing_is_served_or_little_time_is_left() -> None:
    script = Script(A)
    script.begin()
    assert [one.level for one in of(script.fail(A), SayLine)] == ["error"]
    for left, level in ((60, "warn"), (8, "error")):
        script = Script(A)
        script.shelf[A.id] = held("a.example", at=NOW - (90 - left) * DAY)
        script.begin()
        script.on(RenewAsked("a"))
        assert [one.level for one in of(script.fail(A), SayLine)] == [level]


def test_a_restart_begins_no_storm() -> None:
    script = Script(A)
    script.begin()
    script.fail(A)
    again = Script(A)
    again.records = script.records
    assert not tried(again.begin()) and again.core.record("a").error == "no"
    moment = again.core.next_moment(NOW)
    assert moment == script.records[A.id].next_try
    again.now = moment
    assert tried(again.later()) == ["a"]


def test_a_record_that_was_read_before_ours_was_written_changes_nothing() -> None:
    script = Script(A)
    script.begin()
    script.fail(A)
    script.records.clear()
    assert not tried(script.read()) and script.core.record("a").attempts == 1


def test_when_the_authority_says_when_it_is_not_asked_before() -> None:
    script = Script(A)
    script.begin()
    script.fail(A, retry_at=NOW + 5 * HOUR, is_rate_limited=True)
    assert not tried(script.later(5 * HOUR - 1)) and tried(script.later(1)) == ["a"]


@pytest.mark.parametrize(("left", "longest"), [(30 * DAY, DAY), (2 * DAY, DAY / 2), (0.0, HOUR)])
def test_an_authority_in_trouble_puts_a_try_off_by_no_more_than_the_certificate_bears(left: float, longest: float) -> None:
    script = Script(A)
    if left:
        script.shelf[A.id] = held("a.example", at=NOW + left - 90 * DAY)
    script.begin()
    script.on(RenewAsked("a"))
    script.fail(A, "503", retry_at=NOW + 31 * DAY)
    assert not tried(script.later(longest - 1)) and tried(script.later(1)) == ["a"]


def test_a_limit_beyond_the_end_of_the_certificate_is_an_error_and_tried_before_the_end() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example", at=NOW - 86 * DAY)
    script.begin()
    times: list[float] = []
    for _ in range(4):
        script.on(RenewAsked("a")) if not times else None
        (line,) = of(script.fail(A, retry_at=NOW + 7 * DAY, is_rate_limited=True), SayLine)
        assert line.level == "error" and "when the certificate has ended" in line.fields["limit"]
        script.now = script.core.record("a").next_try
        times.append(script.now - NOW)
        assert tried(script.later()) == ["a"]
    assert times == sorted(times) and times[0] == 3 * DAY and times[-1] < 4 * DAY
    script.now = NOW + 4 * DAY
    script.fail(A, retry_at=NOW + 7 * DAY, is_rate_limited=True)
    assert script.core.record("a").next_try == NOW + 7 * DAY, "it has ended: nothing is lost by keeping to the limit"


def test_a_try_that_hangs_is_left_to_itself_and_tried_again() -> None:
    by_hand = want("b", challenge="dns-01")
    script = Script(A, by_hand)
    assert tried(script.begin()) == ["a", "b"]
    script.on(Stepped(A.id, "order"))
    assert script.core.next_moment(NOW) == NOW + LONGEST_TRY
    assert not of(script.later(LONGEST_TRY - 1), LeaveTry)
    left = script.later(1)
    assert of(left, LeaveTry) == [LeaveTry(A.id)] and "'order'" in script.core.record("a").error and noticed(left)
    assert tried(script.later(300)) == ["a"]
    assert script.core.step("b") == "begun"
    assert LeaveTry(by_hand.id) in of(script.later(LONGEST_BY_HAND), LeaveTry)


def test_a_try_that_nobody_wants_any_more_is_left_to_itself_too() -> None:
    script = Script(A)
    script.begin()
    script.wish()
    assert not tried(script.wish(A))
    script.later(LONGEST_TRY)
    assert script.core.step("a") == "begun", "another one is under way"


def test_a_placeholder_that_is_signed_by_itself_holds_nothing_up() -> None:
    own = held("a.example", life=3650 * DAY)
    assert not tried(Script(A, a=own).begin())
    script = Script(A, a=own._replace(is_self_signed=True))
    assert tried(script.begin()) == ["a"] and script.core.published == {}, "it is served until then"
    script.served(A)
    assert script.core.published and not tried(script.later(HOUR))


@pytest.mark.parametrize("odd", [float("inf"), 1e18, NOW + 400 * DAY])
def test_no_authority_puts_a_try_off_for_ever(odd: float) -> None:
    script = Script(A)
    script.begin()
    script.fail(A, retry_at=odd, is_limit=True)
    assert tried(script.later(LONGEST_WORD)) == ["a"]


def test_what_will_hardly_go_better_is_tried_seldom() -> None:
    script = Script(A)
    script.begin()
    script.fail(A, is_final=True)
    assert tried(script.later(HOUR)) == ["a"], "clients get nothing"
    script = Script(A)
    script.shelf[A.id] = held("a.example", at=NOW - 60 * DAY)
    assert tried(script.begin()) == ["a"]
    script.fail(A, is_final=True)
    assert not tried(script.later(9 * HOUR)) and tried(script.later(3 * HOUR)) == ["a"]


@pytest.mark.parametrize(("left", "most"), [(2.2 * DAY, 12 * HOUR), (16 * HOUR, 4 * HOUR), (2 * HOUR, HOUR)])
def test_what_will_hardly_go_better_is_tried_more_often_near_the_end(left: float, most: float) -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example", at=NOW + left - 90 * DAY)
    assert tried(script.begin()) == ["a"]
    script.fail(A, is_final=True)
    assert not tried(script.later(0.75 * most)) and tried(script.later(most / 4)) == ["a"]


def test_a_limit_of_an_authority_holds_all_of_that_one_and_no_others() -> None:
    elsewhere = want("c", directory="https://other.example/")
    wanted = [want(f"s{n}") for n in range(AT_ONCE + 1)]
    script = Script(*wanted)
    script.begin()
    assert not tried(script.fail(wanted[0], is_limit=True, retry_at=NOW + 90)), "s4 would have had its place"
    assert tried(script.wish(*wanted, elsewhere)) == ["c"]
    assert tried(script.later(89)) == [] and tried(script.later(1)) == []
    assert tried(script.fail(elsewhere)) == ["s4"]
    script = Script(A, B)
    script.begin()
    script.fail(A, is_limit=True, is_rate_limited=True, retry_at=NOW + 100 * DAY)
    script.fail(B)
    assert tried(script.later(HOLD)) == ["b"], "it is asked again whether the limit still holds"


def test_one_that_another_instance_gets_is_looked_at_soon() -> None:
    script = Script(A)
    script.begin()
    commands = script.on(TryWasAnothers(A, "host:7"))
    assert not of(commands, KeepRecord) and not noticed(commands), "that is no failure"
    assert not tried(script.later(ANOTHERS - 1))
    script.shelf[A.id] = held("a.example")
    commands = script.read()
    assert spoken(commands) == ["certificate was got by another instance, and is served here too"] and of(commands, PublishCertificates)
    assert not tried(script.later(HOUR))


def test_one_that_the_other_did_not_get_is_tried_here() -> None:
    script = Script(A)
    script.begin()
    script.on(TryWasAnothers(A, "host:7"))
    assert tried(script.later(ANOTHERS)) == ["a"]


# -- from the shelf to the client -------------------------------------------------------


def test_it_is_looked_at_although_some_accept_process_says_nothing() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    assert not of(script.later(TAKING - 1), MakeHandshake)
    assert script.core.next_moment(script.now) == NOW + TAKING
    assert len(of(script.later(1), MakeHandshake)) == 1
    assert script.later(HOUR) == [], "one at a time"


def test_that_all_have_taken_it_may_be_heard_before_that_it_was_published() -> None:
    script = Script(A)
    script.begin()
    script.on(TakenByAll(script.version + 1))
    assert of(script.got(A), MakeHandshake)


def test_what_was_taken_before_is_not_this_one() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    assert not of(script.on(TakenByAll(script.version - 1)), MakeHandshake)
    assert of(script.taken(), MakeHandshake)


def test_what_clients_are_not_shown_is_told_and_looked_at_again_and_not_got_again() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    failed = script.shown(script.taken(), "another one")
    assert "not shown it" in spoken(failed)[0] and len(noticed(failed)) == 1
    for pause in LOOKS:
        assert not script.later(pause - 1)
        looked = script.later(1)
        assert of(looked, MakeHandshake) and not tried(looked)
        last = script.shown(looked, "another one")
        assert not noticed(last)
    assert "not shown it" in spoken(last)[0]
    assert script.later(HOUR) == [], "it is there: another one would not be shown either"


def test_what_is_shown_at_the_second_look_is_declared() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    script.shown(script.taken(), "refused")
    assert spoken(script.shown(script.later(LOOKS[0]))) == ["certificate was got, and is served"]


def test_a_handshake_for_an_older_one_says_nothing_of_a_newer() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    looked = script.taken()
    script.shelf[A.id] = held("a.example", number=2)
    script.read()
    assert not spoken(script.shown(looked, "another one"))
    again = script.taken()
    assert of(again, MakeHandshake)[0].fingerprint == script.shelf[A.id].fingerprint
    assert spoken(script.shown(again)) == ["certificate was got, and is served"]


def test_it_is_published_once_a_change() -> None:
    script = Script(A, B)
    script.begin()
    assert script.publications == 1, "that there is none is said too: accept waits for a word"
    script.later(1)
    script.read()
    script.begin()
    assert script.publications == 1
    script.served(A)
    assert script.publications == 2
    script.read()
    script.fail(B)
    assert script.publications == 2
    script.wish(B)
    assert script.publications == 3 and script.core.published == {}


def test_one_that_is_read_from_the_shelf_before_its_try_says_so_is_looked_at_all_the_same() -> None:
    script = Script(A)
    script.begin()
    one = held("a.example")
    script.shelf[A.id] = one
    assert of(script.read(), PublishCertificates)
    script.taken()
    assert of(script.got(A, one), MakeHandshake)
    assert script.core.next_moment(script.now) is None


def test_a_shelf_that_was_read_before_it_was_put_there_takes_nothing_away() -> None:
    script = Script(A)
    script.begin()
    before = ShelfRead({}, {A.id: TryRecord()}, script.core.gains)
    script.served(A)
    assert script.on(before) == [] and script.core.published
    script.shelf.clear()
    assert spoken(script.read()) == [LEFT], "somebody has taken it away since"


# -- what serves while there is none ----------------------------------------------------


def test_what_stands_in_the_entry_serves_and_counts_until_one_was_got() -> None:
    own = held("a.example", number=7, at=NOW - 59 * DAY)
    script = Script(A, a=own)
    assert not tried(script.begin()) and script.core.published == {}
    assert tried(script.later(2 * DAY)) == ["a"]
    script.served(A)
    assert script.core.published == {"a": script.shelf[A.id].issued}


def test_one_that_was_got_serves_though_the_entry_has_one_that_lasts_longer() -> None:
    script = Script(A, a=held("a.example", number=7, life=900 * DAY))
    assert not tried(script.begin())
    assert tried(script.on(RenewAsked("a"))) == ["a"]
    assert settled(script.served(A)) == [("a", "")]
    assert script.core.published == {"a": script.shelf[A.id].issued}
    assert script.core.next_moment(script.now) is not None


def test_when_the_one_that_was_got_has_ended_the_entrys_serves_if_it_has_not() -> None:
    script = Script(A, a=held("a.example", number=7, life=900 * DAY))
    script.shelf[A.id] = held("a.example", at=NOW - 91 * DAY)
    script.begin()
    assert script.core.published == {}
    script = Script(A, a=held("a.example", number=7, at=NOW - 999 * DAY, life=DAY))
    script.shelf[A.id] = held("a.example", at=NOW - 91 * DAY)
    script.begin()
    assert script.core.published == {"a": script.shelf[A.id].issued}


@pytest.mark.parametrize("change", [{"directory": "https://production.example/"}, {"key_type": "rsa-2048"}, {"profile": "shortlived"}])
def test_another_authority_or_key_is_got_at_once_and_the_old_one_serves_meanwhile(change: dict[str, Any]) -> None:
    script = Script(A)
    old = script.shelf[A.id] = held("a.example")
    script.begin()
    new = replace(A, **change)
    assert tried(script.wish(new)) == ["a"] and script.core.published == {"a": old.issued}
    script.served(new, held("a.example", number=2))
    assert script.core.published == {"a": script.shelf[new.id].issued}


def test_other_names_are_got_at_once_and_the_old_one_serves_meanwhile() -> None:
    script = Script(A)
    old = script.shelf[A.id] = held("a.example")
    script.begin()
    more = want("a", "a.example", "www.a.example")
    assert tried(script.wish(more)) == ["a"] and script.core.published == {"a": old.issued}
    script.served(more)
    assert script.core.published == {"a": script.shelf[more.id].issued}


def test_what_another_section_wants_stands_in_for_nobody() -> None:
    wide = want("wide", "*.example", "x.example")
    script = Script(wide, A)
    script.shelf[wide.id] = held(*wide.domains)
    assert tried(script.begin()) == ["a"] and list(script.core.published) == ["wide"]


def test_a_wildcard_counts_for_no_name_beside_it() -> None:
    script = Script(A, a=held("*.example"))
    assert tried(script.begin()) == ["a"]


def test_one_whose_names_are_written_otherwise_is_not_got_again_and_again() -> None:
    odd = want("a", "2001:db8::1")
    script = Script(odd)
    script.begin()
    assert not tried(script.served(odd, held("2001:DB8:0:0::1")) + script.later(DAY))


# -- two of the same, and changes of the configuration ----------------------------------


def test_two_sections_with_the_same_wish_are_served_by_one() -> None:
    twin = replace(A, name="twin")
    script = Script(A, twin)
    assert tried(script.begin()) == ["a"]
    script.on(RenewAsked("twin"))
    commands = script.served(A)
    assert not tried(commands) and settled(commands) == [("twin", "")]
    assert set(script.core.published) == {"a", "twin"}


def test_what_is_wanted_no_more_is_broken_off_and_its_failure_is_nobodys() -> None:
    script = Script(A)
    script.begin()
    assert of(script.wish(B), EndTry) == [EndTry(A.id)]
    commands = script.fail(A, "broken off")
    assert commands == []
    script.wish(A)
    assert script.core.record("a").attempts == 0


def test_one_that_is_to_be_proved_otherwise_is_begun_anew_when_the_old_try_has_ended() -> None:
    script = Script(A)
    script.begin()
    other = replace(A, challenge="tls-alpn-01")
    commands = script.wish(other)
    assert of(commands, EndTry) == [EndTry(A.id)] and not tried(commands)
    assert of(script.fail(A), BeginTry) == [BeginTry(other, "")]


def test_a_change_that_no_authority_hears_of_breaks_nothing_off() -> None:
    script = Script(A)
    script.begin()
    script.on(RenewAsked("a"))
    later = replace(A, buffer_days=20)
    assert script.wish(later) == []
    assert settled(script.served(A)) == [("a", "")]


def test_one_that_comes_when_nobody_wants_it_any_more_is_kept_for_when_it_is_wanted_again() -> None:
    script = Script(A)
    script.begin()
    script.wish(B)
    assert not of(script.got(A), PublishCertificates)
    commands = script.wish(A, B)
    assert "a" not in tried(commands) and of(commands, PublishCertificates)


# -- who asks ---------------------------------------------------------------------------


def test_who_asks_is_answered_when_it_is_served() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example")
    script.begin()
    assert tried(script.on(RenewAsked("a"))) == ["a"]
    assert settled(script.got(A, held("a.example", number=2))) == []
    assert settled(script.shown(script.taken())) == [("a", "")]
    assert script.later(HOUR) == []


def test_who_asks_joins_the_try_that_is_under_way() -> None:
    script = Script(A)
    script.begin()
    assert script.on(RenewAsked("a"), RenewAsked("a")) == []
    assert settled(script.served(A)) == [("a", "")]


def test_who_asks_is_told_why_not() -> None:
    script = Script(A)
    script.begin()
    script.on(RenewAsked("a"))
    ((name, error),) = settled(script.fail(A, "the proof was not seen"))
    assert name == "a" and error.startswith("the proof was not seen (the next try is at 2027-")
    script.on(RenewAsked("a"))
    assert settled(script.on(TryWasAnothers(A, "host:7"))) == [("a", "another instance, host:7, is getting it")]
    script.on(RenewAsked("a"))
    assert settled(script.wish()) == [("a", "the configuration has changed meanwhile")]
    assert settled(script.on(RenewAsked("a"))) == [("a", "the configuration does not ask for it")]


def test_who_asks_does_not_wait_for_the_next_try() -> None:
    script = Script(A)
    script.begin()
    script.fail(A, retry_at=NOW + DAY, is_limit=True)
    assert tried(script.on(RenewAsked("a"))) == ["a"]


def test_who_asks_for_one_that_is_not_shown_hears_that_at_once_and_once() -> None:
    script = Script(A)
    script.begin()
    script.on(RenewAsked("a"))
    script.got(A)
    assert len(settled(script.shown(script.taken(), "refused"))) == 1
    looked = script.on(RenewAsked("a"))
    assert of(looked, MakeHandshake)
    assert settled(script.shown(looked, "refused")) == [("a", "it was got and stored, but clients are not shown it: refused")]
    assert settled(script.shown(script.later(LOOKS[1]))) == []


def test_who_asks_for_what_cannot_be_read_is_told_why() -> None:
    script = Script(A)
    script.begin()
    script.fail(A)
    script.on(WishesChanged({"a": A, "b": B}, {}), RenewAsked("b"))
    assert settled(script.on(ShelfAway("no etcd answers"))) == [("b", "no etcd answers")]
    assert settled(script.on(RenewAsked("b"))) == [("b", "no etcd answers")]


def test_nothing_is_got_when_that_is_switched_off_and_all_is_served() -> None:
    script = Script(A, is_disabled=True)
    script.shelf[A.id] = held("a.example", at=NOW - 80 * DAY)
    done = script.begin()
    assert not of(done, BeginTry) and script.core.published
    assert spoken(done) == [SWITCHED_OFF]
    assert script.core.next_moment(NOW) is None and script.later(DAY) == []
    assert settled(script.on(RenewAsked("a"))) == [("a", SWITCHED_OFF)]


# -- the store --------------------------------------------------------------------------


def test_a_store_that_is_away_is_told_once_and_what_is_served_stays() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example")
    script.begin()
    assert spoken(script.on(ShelfAway("gone"), ShelfAway("gone"))) == ["the store of certificates is out of reach: what is served stays"]
    assert script.core.published and script.later() == []
    assert spoken(script.read()) == ["the store of certificates can be read again"]


LEFT = "certificates have left the store, or older ones have come there: those that were there are served on, and put back"


def test_what_leaves_the_store_is_served_to_its_end_told_once_and_put_back() -> None:
    script = Script(A)
    one = script.shelf[A.id] = held("a.example")
    script.begin()
    script.shelf.clear()
    lost = script.read()
    assert of(lost, PutBack) == [PutBack(A.id, one)] and not of(lost, PublishCertificates) and not tried(lost)
    assert spoken(lost) == [LEFT] and noticed(lost) == [f"{LEFT}: a"]
    assert script.core.published == {"a": one.issued}
    again = script.read()
    assert spoken(again) == [] and noticed(again) == [] and of(again, PutBack), "not told again"
    script.shelf[A.id] = one
    assert spoken(script.read()) == ["certificates are in the store again"], "it is no other instance's"
    script.shelf.clear()
    script.now = one.not_after + 1
    assert tried(script.read()) == ["a"], "it has ended: another is got"


def test_a_store_that_was_set_back_does_not_take_newer_ones_away() -> None:
    script = Script(A)
    old, new, next = (held("a.example", number=number, at=NOW + days * DAY) for number, days in ((1, -60), (2, 0), (3, 1)))
    script.shelf[A.id] = new
    script.begin()
    script.shelf[A.id] = old
    assert of(script.read(), PutBack) == [PutBack(A.id, new)] and script.core.published == {"a": new.issued}
    script.shelf[A.id] = next
    assert spoken(script.read()) == [
        "certificates are in the store again",
        "certificate was got by another instance, and is served here too",
    ]
    assert script.core.published == {"a": next.issued}
    sooner = script.shelf[A.id] = held("a.example", number=4, at=NOW + 2 * DAY, life=45 * DAY)
    script.read()
    assert script.core.published == {"a": sooner.issued}, "issued later, though it ends sooner: that is a renewal"


def test_of_a_store_that_is_away_at_the_start_what_can_be_read_is_published() -> None:
    script = Script(A, B)
    one = held("a.example")
    away = script.on(WishesChanged({"a": A, "b": B}, {}), ShelfAway("no records", {A.id: one}))
    assert of(away, PublishCertificates) and script.core.published == {"a": one.issued}
    assert noticed(away) == ["the store of certificates is out of reach: what is served stays: no records"]
    assert not tried(away) and not tried(script.later(HOUR)), "nothing is known of tries"
    script.shelf = {A.id: one, B.id: held("b.example")}
    script.read()
    assert set(script.core.published) == {"a", "b"}


# -- what authorities suggest -----------------------------------------------------------


def test_the_authority_is_asked_now_and_then_when_to_renew_and_that_is_done() -> None:
    script = Script(A)
    one = script.shelf[A.id] = held("a.example")
    assert of(script.begin(), AskWindow) == [AskWindow(A, one)]
    assert not of(script.later(HOUR), AskWindow), "one question at a time"
    script.on(WindowTold(one.fingerprint, (NOW + 10 * DAY, NOW + 12 * DAY), script.now + 2 * HOUR))
    assert not of(script.later(2 * HOUR - 1), AskWindow) and of(script.later(1), AskWindow)
    due = script.core.due("a")
    assert due is not None and NOW + 10 * DAY <= due.at <= NOW + 12 * DAY
    script.now = due.at
    assert tried(script.later()) == ["a"]


def test_a_question_that_is_never_answered_is_asked_again() -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example")
    script.begin()
    assert of(script.later(DAY), AskWindow)


@pytest.mark.parametrize("again", [0.0, -1e18, 1e18, float("inf")])
def test_when_to_ask_again_is_believed_within_reason(again: float) -> None:
    script = Script(A)
    one = script.shelf[A.id] = held("a.example")
    script.begin()
    assert not of(script.on(WindowTold(one.fingerprint, None, again)), AskWindow)
    assert script.later(1) == [] and of(script.later(DAY), AskWindow)


@pytest.mark.parametrize("window", [(0.0, 1.0), (-1e15, -1e14), (NOW + 1e12, NOW + 2e12), (0.0, 1e15)])
@pytest.mark.parametrize("buffer_days", [None, 20])
def test_odd_windows_neither_begin_a_storm_nor_let_it_end(window: tuple[float, float], buffer_days: int | None) -> None:
    one = want("a", buffer_days=buffer_days)
    script = Script(one)
    script.shelf[one.id] = held("a.example")
    script.begin()
    tries = 0
    for _ in range(24 * 90 * 2):
        commands = script.later(HOUR / 2)
        for asked in of(commands, AskWindow):
            commands += script.on(WindowTold(asked.held.fingerprint, window, 0.0))
        for _begun in of(commands, BeginTry):
            tries += 1
            script.served(one, held("a.example", number=tries, at=script.now))
        best = script.shelf[one.id]
        assert script.now < best.not_after
    assert 1 <= tries <= 2 * 90 + 2


def test_short_lives_are_renewed_in_time_and_not_all_the_time() -> None:
    script = Script(A)
    script.begin()
    life, tries = 6 * DAY, 0
    for n in range(24 * 60):
        if not n or tried(script.later(HOUR)):
            tries += 1
            script.served(A, held("a.example", number=n, at=script.now, life=life))
        assert script.now < script.shelf[A.id].not_after - life / 3
    assert 19 <= tries <= 22


@pytest.mark.parametrize(("days", "reason"), [(6, "half of its lifetime"), (90, "a third of its lifetime")])
def test_it_is_said_what_part_of_its_life_is_left_when_it_is_renewed(days: int, reason: str) -> None:
    script = Script(A)
    script.shelf[A.id] = held("a.example", life=days * DAY)
    script.begin()
    due = script.core.due("a")
    assert due is not None and due.reason == reason


# -- clocks -----------------------------------------------------------------------------


def test_a_clock_that_is_moved_past_the_end_and_back_leaves_nothing_behind() -> None:
    script = Script(A, B)
    script.shelf = {A.id: held("a.example"), B.id: held("b.example")}
    script.begin()
    assert tried(script.later(400 * DAY)) == ["a", "b"]
    script.fail(A)
    script.on(TryWasAnothers(B, "host:7"))
    script.now = NOW
    assert script.later() == [] or not tried(script.later()), "both are good for months by this clock"
    assert tried(script.later(62 * DAY)) == ["a", "b"], "what was put off by the clock before is not put off for a year"


def test_a_wait_for_a_handshake_is_none_for_a_year_either() -> None:
    script = Script(A)
    script.begin()
    script.now = NOW + 400 * DAY
    script.got(A)
    script.now = NOW
    script.later()
    assert of(script.later(TAKING), MakeHandshake)


def test_a_limit_and_a_question_of_the_clock_before_are_not_put_off_for_a_year_either() -> None:
    script = Script(A, B)
    script.shelf = {A.id: held("a.example"), B.id: held("b.example", at=NOW + 400 * DAY)}
    script.begin()
    assert tried(script.later(400 * DAY)) == ["a"]
    script.fail(A, is_limit=True)
    script.now = NOW
    script.later()
    assert len(of(script.later(7 * HOUR), AskWindow)) == 2
    assert tried(script.later(61 * DAY)) == ["a"]
    odd = Script(A)
    odd.shelf[A.id] = held("a.example", at=NOW - 80 * DAY)
    odd.records[A.id] = TryRecord(NOW + 400 * DAY, got_at=NOW + 400 * DAY, got_before=NOW + 399 * DAY)
    assert tried(odd.begin()) == ["a"]


def test_what_was_asked_about_one_that_is_gone_is_forgotten() -> None:
    script = Script(A)
    one = script.shelf[A.id] = held("a.example")
    assert of(script.begin(), AskWindow)
    script.shelf[A.id] = held("a.example", number=2)
    script.read()
    script.on(WindowTold(one.fingerprint, (NOW, NOW + 1), NOW))
    script.shelf[A.id] = one
    back = script.read()
    assert of(back, AskWindow) == [AskWindow(A, one)] and not tried(back), "an answer that comes too late is forgotten too"


def test_clocks_of_instances_may_differ_by_a_little() -> None:
    script = Script(A)
    script.records[A.id] = TryRecord(NOW + 60, 1, NOW + 60, "no", NOW + 400)
    assert not tried(script.begin()) and tried(script.later(400)) == ["a"]
    far = Script(A)
    far.records[A.id] = TryRecord(NOW + DAY, 1, NOW + DAY, "no", NOW + DAY + 400)
    assert tried(far.begin()) == ["a"], "noted by a clock that was wrong"


def test_certificates_that_live_for_minutes_are_renewed_too() -> None:
    script = Script(A)
    script.begin()
    life = 600.0
    for number in range(1, 20):
        script.served(A, held("a.example", number=number, at=script.now, life=life))
        begun = script.now
        while not tried(script.later(10)):
            assert script.now < begun + life
        assert script.now >= begun + life * APART


# -- many -------------------------------------------------------------------------------


def test_two_hundred_certificates_cost_little_each_time() -> None:
    wanted = [want(f"s{n}", *(f"s{n}-{m}.example" for m in range(20))) for n in range(200)]
    script = Script(*wanted)
    for one in wanted:
        script.shelf[one.id] = held(*one.domains)
    script.begin()
    begun = process_time()
    for _ in range(20):
        script.later(1)
        script.core.next_moment(script.now)
    assert (process_time() - begun) / 20 < 0.05
    assert DIRECTORY in {one.directory for one in wanted}


def test_a_handshake_that_nobody_asked_for_says_nothing() -> None:
    script = Script(A)
    script.begin()
    script.got(A)
    assert script.on(HandshakeMade("a", script.shelf[A.id].fingerprint), HandshakeMade("x", "y")) == []


# -- revoked --------------------------------------------------------------------------------


def test_one_that_was_revoked_is_got_anew_at_once_and_told_once_and_no_storm_begins() -> None:
    script = Script(A)
    script.begin()
    first = held("a.example")
    script.served(A, first)
    script.later(10 * DAY)
    heard = RevocationsHeard({first.fingerprint: ("a",), "of no entry by ACME": ("filed",)})
    out = script.on(heard)
    assert tried(out) == ["a"] and spoken(out)[:1] == ["certificate was revoked: another one is got"]
    assert [one.split(": ")[-1] for one in noticed(out)] == ["another one is got", "replace it, clients may refuse it"]
    assert not script.on(heard), "it is under way, and was told"
    script.fail(A)
    assert not tried(script.later(60)), "put off as ever"
    assert tried(script.later(HOUR)) == ["a"]
    second = held("a.example", number=2, at=script.now)
    script.served(A, second)
    assert not tried(script.on(heard)), "of the old one"
    tries = tried(script.on(RevocationsHeard({second.fingerprint: ("a",)})))
    assert tries == ["a"], "once it may happen again"
    third = held("a.example", number=3, at=script.now)
    script.served(A, third)
    assert not tried(script.on(RevocationsHeard({third.fingerprint: ("a",)}))), "but not one after the other"
    assert tried(script.later(DAY)) == ["a"]


def test_switched_off_a_revocation_is_only_told() -> None:
    script = Script(A, is_disabled=True)
    script.shelf[A.id] = held("a.example")
    script.begin()
    out = script.on(RevocationsHeard({script.shelf[A.id].fingerprint: ("a",)}))
    assert not tried(out) and "replace it" in noticed(out)[0]
