"""Renewals by a real authority: they come by themselves, and nobody is without a certificate when something is in their way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.acme_site import AcmeTown, Talker, certs
from tests.e2e.origins import Origin
from tests.kit.peers import lacks
from tests.kit.waiting import until

LIFE = 24
"""Seconds for which a certificate is valid: it is renewed at half of that."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcmeTown]:
    with AcmeTown(tmp_path_factory.mktemp("town"), seconds=LIFE) as made:
        yield made


@pytest.mark.parametrize(("challenge", "times"), [("http-01", 2), ("tls-alpn-01", 1)])
def test_it_is_renewed_in_time_again_and_again_and_connections_stay(
    town: AcmeTown, shared_origin: Origin, challenge: str, times: int
) -> None:
    name = f"renewed-{challenge}.test"
    with town.site(shared_origin.port, town.certificate("site", [name], challenge=challenge)) as proxy:
        seen = [town.wait_shown(name)]
        talker = Talker(town.pebble.tls_port, name)
        for _ in range(times):
            found = town.wait_shown(name, LIFE, other_than=seen[-1])
            assert found.not_valid_before_utc < seen[-1].not_valid_after_utc, "the old one was good until then"
            assert town.is_believed(name)
            seen.append(found)
        proxy.wait_output("(?s)" + ".*".join(["certificate was got, and is served"] * (times + 1)), 5)
        assert talker.stop() > 100


def test_an_edit_that_is_refused_does_not_hold_up_a_renewal(town: AcmeTown, shared_origin: Origin) -> None:
    name = "broken-edit.test"
    config = town.config(shared_origin.port, town.certificate("site", [name]))
    with town.site(shared_origin.port, town.certificate("site", [name])) as proxy:
        first = town.wait_shown(name)
        proxy.write_config(config + "[locations.broken\n")
        proxy.wait_output("configuration refused", 10)
        assert town.wait_shown(name, LIFE, other_than=first) != first
        proxy.write_config(config)
        proxy.wait_output("certificate was got, and is served", 10)


def test_a_restart_without_the_authority_serves_at_once_what_there_is(town: AcmeTown, shared_origin: Origin) -> None:
    """Until its very end; it is loud; and when the authority is back, so is the certificate."""
    name = "alone.test"
    with town.site(shared_origin.port, town.certificate("site", [name])) as proxy:
        first = town.wait_shown(name)
        town.pebble.stop()
        assert proxy.stop() == 0
        proxy.output_file.unlink()
        proxy.start()
        assert town.shown(name) == first, "with the first connection"
        assert proxy.output().count("certificate is being got") <= 1
        proxy.wait_output(r"(WARN|ERROR).*certificate could not be got.*certificate=site.*next_try=", LIFE + 10)
        told = certs(proxy)
        assert told["acme"]["last_error"] and told["acme"]["next_try"] > time.time()
        assert town.shown(name) == first
        until(lambda: datetime.now(UTC) > first.not_valid_after_utc, LIFE + 5, "it is over", every=0.2)
        assert town.shown(name) == first, "an expired one says more than none"
        assert certs(proxy)["state"] == "expired"
        town.pebble.start()
        done = proxy.command("certs", "renew", "site", timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert town.shown(name) not in (first, None)
        assert certs(proxy)["acme"]["last_error"] is None


def test_an_authority_that_is_down_at_the_start_is_asked_again(town: AcmeTown, shared_origin: Origin) -> None:
    town.pebble.stop()
    try:
        with town.site(shared_origin.port, town.certificate("site", ["late.test"])) as proxy:
            proxy.wait_output(r"ERROR.*certificate could not be got.*certificate=site", 30)
            assert certs(proxy)["state"] == "waiting"
            town.pebble.start()
            assert proxy.command("certs", "renew", "site", timeout=60).returncode == 0
            assert town.is_believed("late.test")
    finally:
        town.pebble.stop()
        town.pebble.start()


@pytest.mark.parametrize(("days", "state"), [(70, "valid"), (89.9, "expires soon"), (100, "expired")])
def test_a_clock_that_was_moved_renews_and_tells(tmp_path: Path, shared_origin: Origin, days: float, state: str) -> None:
    """A host that slept, or was restored: the authority is away, so that what there is stays."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        lacks("libfaketime is not installed (Debian: faketime)")
    with AcmeTown(tmp_path) as town, town.site(shared_origin.port, town.certificate("site", ["slept.test"])) as proxy:
        first = town.wait_shown("slept.test")
        proxy.wait_output("certificate was got, and is served", 10)
        assert proxy.stop() == 0
        town.pebble.stop()
        moved = {"LD_PRELOAD": str(library), "FAKETIME": f"+{days}d", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        proxy.env |= moved
        proxy.output_file.unlink()
        proxy.start()
        for variable in moved:
            del proxy.env[variable]  # commands need none of it
        assert town.shown("slept.test") == first
        proxy.wait_output("certificate could not be got.*days_left=", 20)
        assert certs(proxy)["state"] == state
        assert proxy.command("certs", "--health").returncode == (0 if state == "valid" else 3)
        proxy.kill_all()  # libfaketime makes an error of the waits of an orderly end
        until(lambda: not proxy.processes(), 10, "all are gone")
