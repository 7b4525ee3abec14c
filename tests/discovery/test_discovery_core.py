"""Verdicts on backends, as scripts: results in, what is published out."""

from __future__ import annotations

from config.model import Snapshot, Upstream
from config.parts import Backend, HealthCheck
from stages.discovery.core import (
    Checked,
    Command,
    Configured,
    Core,
    Event,
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
    def __init__(self, before: dict[str, dict[str, bool]] | None = None, **plans: Plan) -> None:
        self.core = Core(before)
        self.first = self.on(Configured(plans))

    def on(self, *events: Event) -> list[Command]:
        return [command for event in events for command in self.core.handle(event)]

    @property
    def value(self) -> dict[str, dict[str, bool]]:
        return self.core.value()


def test_a_backend_without_a_verdict_is_not_named() -> None:
    script = Script(api=plan("a:1", "b:1"), web=plan("c:1"))
    assert script.value == {}
    script.on(down("a:1"), down("a:1"))
    assert script.value == {}
    assert not script.core.is_judged("api", "a:1")
    assert script.on(up("b:1")) == [Publish()]
    assert script.value == {"api": {"b:1": True}}
    assert script.core.is_judged("api", "b:1")


def test_every_new_configuration_starts_its_checks_and_is_published_though_there_is_nothing_to_check() -> None:
    assert Script().first == [Publish()]
    assert Script(api=plan("a:1"), none=plan()).first == [Start("api", plan("a:1")), Publish()]


def test_a_healthy_backend_needs_the_configured_failures_in_a_row_to_become_unhealthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(up("a:1"))
    assert script.on(down("a:1"), down("a:1"), up("a:1"), down("a:1"), down("a:1")) == []
    assert script.on(down("a:1")) == [Turned("api", "a:1", False, "refused"), Publish()]
    assert script.value == {"api": {"a:1": False}}
    assert script.core.unhealthy == 1


def test_an_unhealthy_backend_needs_the_configured_successes_in_a_row_to_become_healthy() -> None:
    script = Script(api=plan("a:1"))
    script.on(down("a:1"), down("a:1"), down("a:1"))
    assert script.value == {"api": {"a:1": False}}
    assert script.on(up("a:1"), down("a:1"), up("a:1")) == []
    assert script.on(up("a:1")) == [Turned("api", "a:1", True), Publish()]
    assert script.value == {"api": {"a:1": True}}


def test_what_stays_as_it_was_is_not_published_again() -> None:
    script = Script(api=plan("a:1"))
    assert script.on(*[up("a:1")] * 5) == [Publish()]
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
    assert script.on(Configured({"api": changed, "web": plan("w:1")})) == [Stop("api"), Start("api", changed)]
    assert script.value == {"api": {"a:1": True}, "web": {"w:1": False}}, "what was known stays, what is new is not named yet"
    script.on(*[down("b:1")] * 3)
    assert script.value == {"api": {"a:1": True, "b:1": False}, "web": {"w:1": False}}


def test_an_upstream_that_is_gone_is_checked_and_named_no_longer() -> None:
    script = Script(api=plan("a:1"), web=plan("w:1"))
    script.on(up("a:1"), up("w:1", "web"))
    assert script.on(Configured({"api": plan("a:1")})) == [Stop("web"), Publish()]
    assert script.value == {"api": {"a:1": True}}
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
