"""What a generation is compiled to, and how little of it when an edit left the rest as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pingap.config.model import Basic, Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, PathRule
from pingap.stages.steps import finished
from pingap.stages.upstream.compiled import CompiledUpstreams, UpstreamCompiler

SITE = Location(upstream="u", max_retries=1, proxy_set_headers=(("X-A", "$host"),))


def snapshot(locations: dict[str, Location] | None = None, basic: Basic | None = None, **more: Any) -> Snapshot:
    upstreams = {name: Upstream(addrs=(Backend("a", 1),)) for name in ("u", "v")}
    return Snapshot(**{"basic": basic or Basic(), "locations": locations or {"site": SITE}, "upstreams": upstreams, **more})


def after(before: Snapshot, then: Snapshot) -> tuple[CompiledUpstreams, CompiledUpstreams]:
    """What becomes of both, when the first is the committed one."""
    compiler = UpstreamCompiler()
    first = finished(compiler.compile(before, {}))
    compiler.groups = first.groups
    return first, finished(compiler.compile(then, {}))


def test_locations_that_say_the_same_have_the_same_rules() -> None:
    other = replace(SITE, upstream="v", path=PathRule("prefix", "/other"))
    differs = replace(SITE, max_retries=2)
    rules = finished(UpstreamCompiler().compile(snapshot({"a": SITE, "b": other, "c": differs}), {})).rules
    assert rules["a"] is rules["b"]
    assert rules["c"].retry.max_retries == 2


def test_every_key_that_rules_depend_on_makes_others() -> None:
    changes: list[dict[str, Any]] = [
        {"max_retries": 2},
        {"max_retry_window": 3.0},
        {"client_max_body_size": 4},
        {"proxy_set_headers": (("X-A", "b"),)},
        {"proxy_add_headers": (("X-A", "b"),)},
        {"enable_reverse_proxy_headers": not SITE.enable_reverse_proxy_headers},
        {"grpc_web": not SITE.grpc_web},
    ]
    servers = {"web": Server(addr=(), modules=("grpc-web",))}
    for change in changes:
        rules = finished(UpstreamCompiler().compile(snapshot({"a": SITE, "b": replace(SITE, **change)}, servers=servers), {})).rules
        assert rules["a"] != rules["b"], change


def test_what_an_edit_left_as_it_was_is_not_made_again() -> None:
    edited = {"site": SITE, "new": replace(SITE, max_retries=2)}
    first, then = after(snapshot(), snapshot(edited))
    assert then.rules["site"] is first.rules["site"]
    assert then.groups["u"] is first.groups["u"]


def test_a_change_around_them_makes_all_rules_anew() -> None:
    around: list[dict[str, Any]] = [
        {"basic": Basic(trusted_proxies=("10.0.0.0/8",))},
        {"servers": {"web": Server(addr=(), via="proxy")}},
        {"servers": {"web": Server(addr=(), preserve_header_case=True)}},
        {"servers": {"web": Server(addr=(), modules=("grpc-web",))}},
    ]
    for change in around:
        first, then = after(snapshot(), snapshot(**change))
        assert then.rules["site"] is not first.rules["site"], change


def test_a_thousand_of_them_come_in_a_thousand_steps() -> None:
    """So that no turn of the loop does it all."""
    locations = {f"l{number}": replace(SITE, max_retries=number % 200) for number in range(1000)}
    assert sum(UpstreamCompiler().compile(snapshot(locations), {})) >= 1000
