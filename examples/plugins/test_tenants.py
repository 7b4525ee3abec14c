"""Tests of tenants.py: `pingap plugin test examples/plugins/tenants.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio


def stage(upstream: str = "", **keys: Any) -> PluginStage:
    section = {"category": "python", "path": str(Path(__file__).with_name("tenants.py")), "tenants": {"acme": "blue", "globex": "green"}}
    return PluginStage({"tenants": section | keys}, upstream=upstream, upstreams=["blue", "green"])


async def test_each_tenant_has_its_upstream() -> None:
    async with stage() as proxy:
        for tenant, upstream in (("acme", "blue"), ("globex", "green")):
            answer = await proxy.get("/", headers={"x-tenant": tenant})
            assert answer.status == 200 and answer.context["tenant"] == tenant
            assert len(proxy.backends[upstream].requests) == 1


@pytest.mark.parametrize(
    ("headers", "status"), [([], 400), ([("x-tenant", "acme"), ("x-tenant", "globex")], 400), ([("x-tenant", "?")], 404)]
)
async def test_who_is_not_one_tenant_reaches_nobody(headers: list[tuple[str, str]], status: int) -> None:
    async with stage("blue") as proxy:
        assert (await proxy.get("/", headers=headers)).status == status
        assert not proxy.backend.requests


async def test_the_backend_hears_of_no_other_tenant_by_another_spelling_of_the_header() -> None:
    async with stage() as proxy:
        headers = [("X_Tenant", "globex"), ("X-Tenant", "acme"), ("x.tenant", "globex")]
        assert (await proxy.get("/", headers=headers)).status == 200
        [request] = proxy.backends["blue"].requests
        assert [(name, value) for name, value in request.headers.items() if "tenant" in name] == [("x-tenant", "acme")]
        assert (await proxy.get("/", headers={"X_Tenant": "acme"})).status == 400


async def test_others_have_theirs_and_the_header_another_name() -> None:
    async with stage(others="green", header="X-Customer") as proxy:
        assert (await proxy.get("/", headers={"x-customer": "new"})).status == 200
        assert len(proxy.backends["green"].requests) == 1


async def test_a_section_that_names_nobody_or_an_upstream_that_is_not_there_is_refused() -> None:
    with pytest.raises(PluginRefused, match=r"tenants.acme: upstream 'gren' does not exist"):
        async with stage(tenants={"acme": "gren"}):
            pass
    with pytest.raises(PluginRefused, match="names nobody"):
        async with stage(tenants={}):
            pass
