"""What checks one backend, made for a test."""

from __future__ import annotations

import asyncio

from pingap.config.parts import HealthCheck
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.discovery.probes.failed import ProbeFailed
from pingap.stages.discovery.probes.prober import KeptTalks, Prober
from pingap.stages.lookups import Lookups, Resolve, ask_system
from tests.discovery.origin import Origin


def prober_of(check: HealthCheck, *, ipv4_only: bool = False, resolve: Resolve = ask_system, most: int = 4, kept: int = 16) -> Prober:
    return Prober(check, ipv4_only, Lookups(asyncio.get_running_loop(), resolve, most), KeptTalks(kept))


def target_of(at: Origin) -> CheckTarget:
    return CheckTarget(at.address, "127.0.0.1", at.port)


async def why_not(prober: Prober, target: CheckTarget) -> str:
    """Why a check fails; "" when it passes."""
    try:
        await prober.probe(target)
    except ProbeFailed as failed:
        return str(failed)
    return ""
