"""Verdicts on backends, as scripts: results in, what is published out."""

from __future__ import annotations

from config.model import Backend, HealthCheck, Snapshot, Upstream
from stages.discovery.core import (
    Checked,
    Command,
    Configured,
    Core,
    Event,
    FirstRoundOver,
    Plan,
    Publish,
    Start,
    Stop,
    Target,
    Turned,
    plans_of,
)

CHECK = HealthCheck(success=2, failure=3)


def plan(*addresses: str, check: HealthCheck = CHECK) -> Plan:
    return Plan(check, tuple(Target(address, "127.0.0.1", 1) for address in addresses))


def up(address: str, upstream: str = "api") -> Checked:
    return Checked(upstream, address)


def down(address: str, upstream: str = "api") -> Checked:
    return Checked(upstream, address, "refused")


class Script:
    def __init__(self, **plans: Plan) -> None:
        self.core = Core()
        self.value: dict[str, dict[str, bool]] | None = None
        self.publications = 0
        self.on(Configured(plans))

    def on(self, *events: Event) -> list[Command]:
        commands = [command for event in events for command in self.core.handle(event)]
        for command in commands:
            if isinstance(command, Publish):
                self.value = command.value
                self.publications += 1
        return commands


def test_nothing_is_published_before_every_backend_was_judged() -> None:
    script = Script(api=plan("a:1", "b:1"), web=plan("c:1"))
    script.on(up("a:1"), up("c:1", "web"), down("b:1"), down("b:1"))
    assert script.value is None
    script.on(down("b:1"))
    assert script.value == {"api": {"a:1": True, "b:1": False}, "web": {"c:1": True}}


def test_with_nothing_to_check_there_is_nothing_to_wait_for() -> None:
    assert Script().value == {}


def test_a_backend_that_is_slow_to_be_judged_holds_the_others_up_for_a_limited_time() -> None:
    script = Script(api=plan("a:1", "slow:1", "never:1"))
    script.on(up("a:1"), down("slow:1"))
    assert script.value is None
    script.on(FirstRoundOver())
    assert script.value == {"api": {"a:1": True, "slow:1": False}}, "failures only: dead; no result: nothing is said"


def test_a_healthy_backend_needs_the_configured_failures_in_a_row_to_become_unhealthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(up("a:1"))
    assert script.on(down("a:1"), down("a:1"), up("a:1"), down("a:1"), down("a:1")) == []
    assert script.on(down("a:1")) == [Turned("api", "a:1", False, "refused"), Publish({"api": {"a:1": False}})]
    assert script.core.unhealthy == 1


def test_an_unhealthy_backend_needs_the_configured_successes_in_a_row_to_become_healthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(down("a:1"), down("a:1"), down("a:1"))
    assert script.value == {"api": {"a:1": False}}
    assert script.on(up("a:1"), down("a:1"), up("a:1")) == []
    assert script.on(up("a:1")) == [Turned("api", "a:1", True), Publish({"api": {"a:1": True}})]


def test_a_backend_is_taken_for_healthy_after_its_first_passed_check() -> None:
    script = Script(api=plan("a:1"))
    assert not script.core.is_judged("api", "a:1")
    script.on(up("a:1"))
    assert script.core.is_judged("api", "a:1")
    assert script.value == {"api": {"a:1": True}}


def test_what_stays_as_it_was_is_not_published_again() -> None:
    script = Script(api=plan("a:1"))
    script.on(*[up("a:1")] * 5)
    assert script.publications == 1


def test_a_new_configuration_touches_only_the_upstreams_that_changed() -> None:
    script = Script(api=plan("a:1"), web=plan("w:1"))
    script.on(up("a:1"), *[down("w:1", "web")] * 3)
    changed = plan("a:1", "b:1")
    assert script.on(Configured({"api": changed, "web": plan("w:1")})) == [Stop("api"), Start("api", changed)]
    assert script.value == {"api": {"a:1": True}, "web": {"w:1": False}}, "what was known stays, what is new is not named yet"
    script.on(*[down("b:1")] * 3)
    assert script.value == {"api": {"a:1": True, "b:1": False}, "web": {"w:1": False}}


def test_an_upstream_that_is_gone_is_checked_and_named_no_longer() -> None:
    script = Script(api=plan("a:1"), web=plan("w:1"))
    script.on(up("a:1"), up("w:1", "web"))
    assert script.on(Configured({"api": plan("a:1")})) == [Stop("web"), Publish({"api": {"a:1": True}})]
    assert script.on(down("w:1", "web")) == []


def test_new_rules_judge_by_results_from_then_on() -> None:
    script = Script(api=plan("a:1"))
    script.on(up("a:1"), down("a:1"), down("a:1"))
    strict = plan("a:1", check=HealthCheck(failure=1))
    assert script.on(Configured({"api": strict})) == [Stop("api"), Start("api", strict)]
    script.on(down("a:1"))
    assert script.value == {"api": {"a:1": False}}


def test_the_configuration_of_an_upstream_says_what_is_checked_each_backend_once() -> None:
    check = HealthCheck("http", "name", "/ping")
    upstream = Upstream(addrs=(Backend("::1", 81, 2), Backend("10.0.0.1"), Backend("10.0.0.1")), health_check=check, ipv4_only=True)
    assert plans_of(Snapshot(upstreams={"api": upstream})) == {
        "api": Plan(check, (Target("[::1]:81", "::1", 81), Target("10.0.0.1:80", "10.0.0.1", 80)), True)
    }
