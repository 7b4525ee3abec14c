"""Verdicts on backends, as scripts: results in, what is published out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pingap.config.addresses import parse_backend
from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend, HealthCheck
from pingap.stages.discovery.core import Discovery
from pingap.stages.discovery.plan import CheckTarget, Plan, plans_of
from pingap.stages.discovery.upstream_state import UpstreamState
from pingap.stages.discovery.words import (
    NO_CHECK,
    Checked,
    CheckNew,
    CheckState,
    Command,
    Configured,
    Event,
    PublishBackends,
    Resolved,
    SourceFailed,
    SourceTurned,
    StartChecks,
    StopChecks,
    Turned,
)

CHECK = HealthCheck(success=2, failure=3)


def plan(*addresses: str, check: HealthCheck = CHECK) -> Plan:
    return Plan(check, tuple(CheckTarget(address, "127.0.0.1", 1) for address in addresses))


def up(address: str, upstream: str = "api") -> Checked:
    return Checked(upstream, address)


def down(address: str, upstream: str = "api") -> Checked:
    return Checked(upstream, address, "refused")


class Script:
    def __init__(self, before: dict[str, dict[str, bool]] | None = None, **plans: Plan) -> None:
        self.core = Discovery(before)
        self.first = self.on(Configured(plans))

    def on(self, *events: Event) -> list[Command]:
        """What each event leads to; after each what is known is told."""
        commands: list[Command] = []
        for event in events:
            commands += self.core.handle(event)
            self.core.settle()
        return commands

    @property
    def value(self) -> dict[str, dict[str, bool]]:
        return self.core.value()


def test_a_backend_without_a_verdict_is_not_named() -> None:
    script = Script(api=plan("a:1", "b:1"), web=plan("c:1"))
    assert script.value == {}
    script.on(down("a:1"), down("a:1"))
    assert script.value == {}
    assert script.core.again("api", "a:1", 1) is not None
    assert script.on(up("b:1")) == [PublishBackends()]
    assert script.value == {"api": {"b:1": True}}
    assert script.core.again("api", "b:1", 1) is None


def test_every_new_configuration_starts_its_checks_and_is_published_though_there_is_nothing_to_check() -> None:
    assert Script().first == [PublishBackends()]
    assert Script(api=plan("a:1"), none=plan()).first == [StartChecks("api", plan("a:1")), PublishBackends()]


def test_a_healthy_backend_needs_the_configured_failures_in_a_row_to_become_unhealthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(up("a:1"))
    assert script.on(down("a:1"), down("a:1"), up("a:1"), down("a:1"), down("a:1")) == []
    assert script.on(down("a:1")) == [Turned("api", "a:1", False, "refused"), PublishBackends()]
    assert script.value == {"api": {"a:1": False}}
    assert script.core.unhealthy == 1


def test_an_unhealthy_backend_needs_the_configured_successes_in_a_row_to_become_healthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(down("a:1"), down("a:1"), down("a:1"))
    assert script.value == {"api": {"a:1": False}}
    assert script.on(up("a:1"), down("a:1"), up("a:1")) == []
    assert script.on(up("a:1")) == [Turned("api", "a:1", True), PublishBackends()]
    assert script.value == {"api": {"a:1": True}}


def test_what_stays_as_it_was_is_not_published_again() -> None:
    script = Script(api=plan("a:1"))
    assert script.on(*[up("a:1")] * 5) == [PublishBackends()]
    assert script.on(Configured({"api": plan("a:1")})) == []


def test_a_restarted_stage_goes_on_with_the_verdicts_from_before() -> None:
    script = Script({"api": {"a:1": False, "gone:1": False}, "web": {"w:1": False}}, api=plan("a:1", "new:1"))
    assert script.value == {"api": {"a:1": False}}
    script.on(down("a:1"), up("a:1"), down("a:1"))
    assert script.value == {"api": {"a:1": False}}, "one passed check is not enough, here as before"
    script.on(Configured({"api": plan("a:1"), "web": plan("w:1")}))
    assert script.value == {"api": {"a:1": False}}, "an upstream that comes later starts without a verdict"


def test_a_new_configuration_touches_only_the_upstreams_that_changed() -> None:
    script = Script(api=plan("a:1"), web=plan("w:1"))
    script.on(up("a:1"), *[down("w:1", "web")] * 3)
    changed = plan("a:1", "b:1")
    assert script.on(Configured({"api": changed, "web": plan("w:1")})) == [StopChecks("api"), StartChecks("api", changed)]
    assert script.value == {"api": {"a:1": True}, "web": {"w:1": False}}, "what was known stays, what is new is not named yet"
    script.on(*[down("b:1")] * 3)
    assert script.value == {"api": {"a:1": True, "b:1": False}, "web": {"w:1": False}}


def test_an_upstream_that_is_gone_is_checked_and_named_no_longer() -> None:
    script = Script(api=plan("a:1"), web=plan("w:1"))
    script.on(up("a:1"), up("w:1", "web"))
    assert script.on(Configured({"api": plan("a:1")})) == [StopChecks("web"), PublishBackends()]
    assert script.value == {"api": {"a:1": True}}
    assert script.on(down("w:1", "web")) == []


def test_new_rules_judge_by_results_from_then_on() -> None:
    script = Script(api=plan("a:1"))
    script.on(up("a:1"), down("a:1"), down("a:1"))
    strict = plan("a:1", check=HealthCheck(failure=1))
    assert script.on(Configured({"api": strict})) == [StopChecks("api"), StartChecks("api", strict)]
    script.on(down("a:1"))
    assert script.value == {"api": {"a:1": False}}


def test_the_configuration_of_an_upstream_says_what_is_checked_each_backend_once() -> None:
    check = HealthCheck("http", "name", "/ping")
    upstream = Upstream(addrs=(Backend("::1", 81, 2), Backend("10.0.0.1"), Backend("10.0.0.1")), health_check=check, ipv4_only=True)
    assert plans_of(Snapshot(upstreams={"api": upstream})) == {
        "api": Plan(check, (CheckTarget("[::1]:81", "::1", 81, weight=2), CheckTarget("10.0.0.1:80", "10.0.0.1", 80, weight=2)), True)
    }


# -- names ------------------------------------------------------------------------------

NAMED = Plan(
    HealthCheck(success=1, failure=1), (CheckTarget("many.example:80", "many.example", 80), CheckTarget("10.0.0.9:80", "10.0.0.9", 80))
)
ENTRY = NAMED.entries[0]


def resolved(*hosts: str) -> Resolved:
    return Resolved("api", "many.example:80", tuple(Backend(host, 80) for host in hosts))


def told(*hosts: str) -> dict[str, dict[str, list[tuple[str, int, int]]]]:
    return {"api": {"many.example:80": [(host, 80, 1) for host in hosts]}}


def test_a_name_is_one_backend_until_one_of_its_addresses_is_known_to_be_healthy() -> None:
    script = Script(api=NAMED)
    assert script.core.targets("api") == NAMED.entries
    script.on(resolved("10.0.0.1", "::1"))
    one, two = CheckTarget("10.0.0.1:80", "10.0.0.1", 80, ENTRY.address), CheckTarget("[::1]:80", "::1", 80, ENTRY.address)
    assert script.core.targets("api") == (one, two, NAMED.entries[1])
    assert script.core.addresses() == {}
    script.on(down("[::1]:80"))
    assert script.core.addresses() == {}
    script.on(up("10.0.0.1:80"))
    assert script.core.addresses() == told("10.0.0.1", "::1")
    assert script.value == {"api": {"10.0.0.1:80": True, "[::1]:80": False}}


def test_new_addresses_are_checked_at_once_and_used_from_their_verdict_on_while_those_that_left_are_gone() -> None:
    script = Script(api=NAMED)
    script.on(resolved("10.0.0.1", "10.0.0.2"), up("10.0.0.1:80"), up("10.0.0.2:80"))
    new = CheckTarget("10.0.0.3:80", "10.0.0.3", 80, ENTRY.address)
    assert script.on(resolved("10.0.0.1", "10.0.0.3")) == [CheckNew("api", (new,)), PublishBackends()]
    assert script.core.addresses() == told("10.0.0.1")
    script.on(up("10.0.0.3:80"))
    assert script.core.addresses() == told("10.0.0.1", "10.0.0.3")


def test_a_set_of_which_nothing_is_known_does_not_take_the_place_of_one_that_serves() -> None:
    script = Script(api=NAMED)
    script.on(resolved("10.0.0.1"), up("10.0.0.1:80"), resolved("10.0.0.2", "10.0.0.3"))
    assert script.core.addresses() == told("10.0.0.1")
    script.on(down("10.0.0.2:80"))
    assert script.core.addresses() == told("10.0.0.1")
    script.on(up("10.0.0.3:80"))
    assert script.core.addresses() == told("10.0.0.2", "10.0.0.3")


def test_a_dead_backend_stays_dead_while_what_takes_its_place_is_not_known_yet() -> None:
    script = Script(api=replace(NAMED, entries=NAMED.entries[:1]))
    script.on(resolved("10.0.0.1"), up("10.0.0.1:80"), down("10.0.0.1:80"), resolved("10.0.0.2"))
    assert script.core.addresses() == told("10.0.0.1")
    assert script.value == {"api": {"10.0.0.1:80": False}}
    script.on(up("10.0.0.2:80"))
    assert (script.core.addresses(), script.value) == (told("10.0.0.2"), {"api": {"10.0.0.2:80": True}})


def test_what_a_source_finds_takes_the_place_of_its_entry_and_may_be_nothing() -> None:
    labelled = replace(NAMED, discovery="docker")
    script = Script(api=labelled)
    assert script.core.targets("api") == ()
    script.on(Resolved("api", "many.example:80", (Backend("10.0.0.1", 8080, 5),)), up("10.0.0.1:8080"))
    assert script.core.addresses() == {"api": {"many.example:80": [("10.0.0.1", 8080, 5)]}}
    assert script.on(Resolved("api", "many.example:80", ())) == [PublishBackends()]
    assert script.core.addresses() == {"api": {"many.example:80": []}}


def test_a_source_that_fails_keeps_what_it_has_found_and_says_so_once() -> None:
    script = Script(api=replace(NAMED, discovery="dns"))
    failed = SourceFailed("api", "many.example:80", "no answer")
    assert script.on(failed, failed) == [SourceTurned("api", "many.example:80", "no answer"), PublishBackends()]
    assert script.core.addresses() == {"api": {"many.example:80": []}}, "nobody need wait for what cannot be found"
    assert script.on(resolved("10.0.0.1"))[0] == SourceTurned("api", "many.example:80")
    script.on(up("10.0.0.1:80"), failed)
    assert script.core.addresses() == told("10.0.0.1")


def test_a_name_that_cannot_be_resolved_is_an_unhealthy_backend_until_it_can() -> None:
    script = Script(api=NAMED)
    script.on(down("many.example:80"))
    assert script.value == {"api": {"many.example:80": False}}
    script.on(resolved("10.0.0.1"), up("10.0.0.1:80"))
    assert script.value == {"api": {"10.0.0.1:80": True}}
    assert script.on(down("many.example:80")) == [], "that the name cannot be resolved later is no word on its addresses"
    assert script.value == {"api": {"10.0.0.1:80": True}}


def test_a_name_is_looked_up_again_when_none_of_its_addresses_is_healthy_and_what_stays_keeps_its_verdict() -> None:
    script = Script(api=NAMED)
    assert script.core.lost("api") == []
    script.on(resolved("10.0.0.1", "10.0.0.2"))
    script.on(down("10.0.0.1:80"))
    assert script.core.lost("api") == []
    script.on(down("10.0.0.2:80"))
    assert script.core.lost("api") == [ENTRY]
    assert script.on(resolved("10.0.0.2", "10.0.0.1")) == [], "the same ones"
    script.on(resolved("10.0.0.2", "10.0.0.3"))
    assert script.value == {"api": {"10.0.0.2:80": False}}
    assert script.core.addresses() == told("10.0.0.2"), "the new one is not judged yet"
    script.on(up("10.0.0.3:80"))
    assert script.core.lost("api") == []
    assert script.core.addresses() == told("10.0.0.2", "10.0.0.3")


def test_a_new_configuration_and_a_new_life_keep_the_addresses() -> None:
    script = Script(api=NAMED)
    script.on(resolved("10.0.0.1"), up("10.0.0.1:80"))
    more = Plan(CHECK, (*NAMED.entries, CheckTarget("x:1", "10.0.0.8", 1)))
    assert script.on(Configured({"api": more})) == [StopChecks("api"), StartChecks("api", more)]
    assert script.core.addresses() == told("10.0.0.1")
    again = Discovery({"api": {"10.0.0.1:80": True}}, script.core.kept())
    again.handle(Configured({"api": NAMED}))
    assert again.addresses() == told("10.0.0.1")
    heavy = Plan(CHECK, (replace(ENTRY, weight=7),))
    script.on(Configured({"api": heavy}))
    assert script.core.addresses() == {"api": {"many.example:80": [("10.0.0.1", 80, 7)]}}
    script.on(Configured({"api": Plan(CHECK, NAMED.entries[1:])}))
    assert script.on(resolved("10.0.0.1")) == [], "it has left"


def test_every_form_of_an_address_is_the_name_of_a_backend_in_the_topics() -> None:
    addresses = ["unix:/run/a.sock", "[::1]:8080", "[fe80::1%eth0]:80", "10.0.0.1:80"]
    plans = plans_of(Snapshot(upstreams={"api": Upstream(addrs=tuple(parse_backend(one) for one in addresses))}))
    assert not any(target.is_name for target in plans["api"].entries), "none is looked up"
    script = Script(api=plans["api"])
    script.on(*(up(address) for address in addresses))
    assert script.value == {"api": dict.fromkeys(addresses, True)}


# -- when a backend is checked again -------------------------------------------------------------


def pauses(script: Script, address: str = "a:1", tries: int = 8) -> list[float | None]:
    return [script.core.again("api", address, number) for number in range(1, tries + 1)]


def test_a_backend_without_a_verdict_is_checked_again_soon_and_then_less_often() -> None:
    script = Script(api=plan("a:1"))
    assert pauses(script) == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert script.core.again("api", "a:1", 100_000) == 10
    script.on(up("a:1"))
    assert pauses(script) == [None] * 8


def test_a_suspected_backend_is_checked_in_quick_succession_until_its_verdict_stands_either_way() -> None:
    script = Script(api=plan("a:1", "b:1"))
    script.on(up("a:1"), up("b:1"))
    assert script.core.again("api", "a:1", 1) is None
    script.on(down("a:1"))
    assert script.core.again("api", "a:1", 1) == 0.25
    assert script.core.again("api", "b:1", 1) is None, "nothing is said of another"
    script.on(down("a:1"))
    assert script.core.again("api", "a:1", 2) == 0.5
    script.on(up("a:1"))
    assert script.core.again("api", "a:1", 3) is None, "it is well after all"
    assert script.on(*[down("a:1")] * 3)[0] == Turned("api", "a:1", False, "refused")
    assert script.core.again("api", "a:1", 1) is None, "the rounds see whether it comes back"
    script.on(up("a:1"))
    assert script.core.again("api", "a:1", 1) is None, "that it is well has time to show"


def test_with_one_failure_for_a_verdict_there_is_no_suspicion() -> None:
    script = Script(api=plan("a:1", check=HealthCheck(failure=1)))
    script.on(up("a:1"), down("a:1"))
    assert script.value == {"api": {"a:1": False}}
    assert script.core.again("api", "a:1", 1) is None


def test_what_has_left_is_not_checked_again() -> None:
    script = Script(api=plan("a:1"))
    assert script.core.again("api", "gone:1", 1) is None
    assert script.core.again("gone", "a:1", 1) is None


def test_a_backend_that_requests_do_not_reach_is_worth_a_check_unless_it_is_known_to_be_ill() -> None:
    script = Script(api=NAMED)
    script.on(resolved("10.0.0.1"))
    found = CheckTarget("10.0.0.1:80", "10.0.0.1", 80, ENTRY.address)
    assert script.core.suspect("api", "10.0.0.1:80") == found
    assert script.core.suspect("api", "10.0.0.9:80") == NAMED.entries[1]
    assert script.core.suspect("api", "10.0.0.2:80") is None
    assert script.core.suspect("web", "10.0.0.1:80") is None
    script.on(up("10.0.0.1:80"))
    assert script.core.suspect("api", "10.0.0.1:80") == found
    script.on(down("10.0.0.1:80"))
    assert script.core.suspect("api", "10.0.0.1:80") is None


def test_the_last_check_of_a_backend_is_known_and_survives_a_reload() -> None:
    script = Script(api=plan("a:1", "b:1"))
    known = script.core.upstreams
    assert known["api"].check("a:1") == known["api"].check("gone:1") == NO_CHECK
    script.on(Checked("api", "a:1", "refused", 1000.5, 0.25))
    assert known["api"].check("a:1") == CheckState(1000.5, 0.25, "refused")
    script.on(Configured({"api": plan("a:1", check=HealthCheck(failure=1))}))
    assert script.core.upstreams["api"].check("a:1") == CheckState(1000.5, 0.25, "refused")
    script.on(Checked("api", "a:1", None, 1001, 0.5))
    assert script.core.upstreams["api"].check("a:1") == CheckState(1001, 0.5)


# -- upstreams that are down ---------------------------------------------------------------------------


def test_an_upstream_is_down_when_every_backend_was_found_ill() -> None:
    script = Script(api=plan("a:1", "b:1"), web=plan("w:1"), empty=plan())
    assert script.core.down() == []
    script.on(*[down("a:1")] * 3, *[down("b:1")] * 2)
    assert script.core.down() == [], "of one there is no verdict yet"
    script.on(down("b:1"))
    assert script.core.down() == ["api"]
    script.on(up("a:1"), up("a:1"))
    assert script.core.down() == []


def test_an_upstream_is_down_when_its_source_knows_that_there_is_no_backend() -> None:
    docker = Plan(CHECK, (CheckTarget("label:80", "label", 80),), discovery="docker")
    script = Script(api=docker)
    assert script.core.down() == [], "nothing is known yet"
    script.on(Resolved("api", "label:80", ()))
    assert script.core.down() == ["api"]
    script.on(Resolved("api", "label:80", (Backend("10.0.0.1"),)))
    assert script.core.down() == []


def test_a_new_life_knows_which_upstreams_were_down() -> None:
    script = Script({"api": {"a:1": False}}, api=plan("a:1"))
    assert script.core.down() == ["api"]


# -- what a review found -----------------------------------------------------------------


def test_ipv4_only_takes_no_more_away_than_it_says() -> None:
    script = Script(api=replace(NAMED, discovery="dns"))
    script.on(resolved("10.0.0.1", "::1"), up("10.0.0.1:80"), up("[::1]:80"))
    script.on(Configured({"api": replace(NAMED, discovery="dns", ipv4_only=True)}))
    assert script.core.addresses() == told("10.0.0.1")
    script.on(SourceFailed("api", "many.example:80", "SERVFAIL"))
    assert script.core.addresses() == told("10.0.0.1"), "a failed answer empties no set"
    script.on(Configured({"api": replace(NAMED, discovery="docker")}))
    assert script.core.addresses() == {}, "it is another question"


def test_another_weight_counts_at_once() -> None:
    script = Script(api=replace(NAMED, discovery="dns"))
    script.on(resolved("10.0.0.1"), up("10.0.0.1:80"))
    script.on(Configured({"api": Plan(CHECK, (replace(ENTRY, weight=9),), discovery="dns")}))
    assert script.core.addresses() == {"api": {"many.example:80": [("10.0.0.1", 80, 9)]}}


@pytest.mark.parametrize(
    "kept", [5, {"api": 5}, {"api": [1]}, {"api": {"many.example:80": [["10.0.0.1", 80, 1]]}}, {"api": {"x": [1.0, "", [[1]]]}}]
)
def test_a_keepsake_of_another_version_is_no_harm(kept: object) -> None:
    core = Discovery({"api": {"10.0.0.1:80": "yes"}, "web": 7}, kept)
    core.handle(Configured({"api": replace(NAMED, discovery="dns")}))
    assert (core.addresses(), core.value()) == ({}, {})


def test_what_was_never_found_is_not_known_to_be_nothing_in_the_next_life() -> None:
    script = Script(api=replace(NAMED, discovery="dns"))
    script.on(SourceFailed("api", "many.example:80", "no answer"))
    again = Discovery(script.value, script.core.kept())
    again.handle(Configured({"api": replace(NAMED, discovery="dns")}))
    assert (again.addresses(), again.down()) == ({}, [])


def test_the_next_life_knows_when_its_sources_last_told_and_which_fail() -> None:
    script = Script(api=replace(NAMED, discovery="dns"))
    script.on(Resolved("api", "many.example:80", (Backend("10.0.0.1", 80),), 1234.5), up("10.0.0.1:80"))
    script.on(SourceFailed("api", "many.example:80", "no answer"))
    again = Discovery(script.value, script.core.kept())
    again.handle(Configured({"api": replace(NAMED, discovery="dns")}))
    assert again.upstreams["api"].synced == {"many.example:80": 1234.5}
    assert again.handle(SourceFailed("api", "many.example:80", "no answer")) == [], "it has been told"


def test_thousands_of_new_backends_are_judged_in_a_moment() -> None:
    """Each verdict costs no look at all the others: by the number of steps, for these machines are noisy."""
    script = Script(api=replace(NAMED, discovery="dns"))
    hosts = [f"10.{n // 250}.{n % 250}.1" for n in range(3000)]
    script.core.handle(resolved(*hosts))
    looks = 0
    verdict = UpstreamState.verdict

    def counts(upstream: UpstreamState, address: str) -> bool | None:
        nonlocal looks
        looks += 1
        return verdict(upstream, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpstreamState, "verdict", counts)
        for host in hosts:
            script.core.handle(up(f"{host}:80"))
        assert looks < len(hosts)
        script.core.settle()
    assert len(script.core.addresses()["api"]["many.example:80"]) == len(hosts)
