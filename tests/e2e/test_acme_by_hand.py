"""Certificates whose names are proved by DNS records that people set: what they are told, and when."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from pingap import events
from tests.e2e.acme_site import AcmeTown, certs, names_of
from tests.e2e.harness import Pingap
from tests.e2e.origins import Origin
from tests.kit.waiting import until

RECORD = re.compile(r"(_acme-challenge\.\S+) IN TXT ([\w-]{43})(?![\w-])")


def by_hand(town: AcmeTown, *names: str, more: str = "", section: str = "site") -> str:
    return town.certificate(section, names, f'dns_server = "{town.dns.dns}"\n{more}', challenge="dns-01")


def asked_for(proxy: Pingap, count: int, name: str = "site") -> list[tuple[str, str]]:
    """The records that `pingap certs` shows, once it is that many."""

    def found() -> list[tuple[str, str]]:
        return RECORD.findall((certs(proxy, name).get("acme") or {}).get("step") or "")

    return until(lambda: records if len(records := found()) == count else None, 15, f"{count} records are asked for", every=0.2)


def heard_of(proxy: Pingap) -> list[events.NoticeEvent]:
    """Notices from now on."""
    heard: list[events.NoticeEvent] = []

    def listen() -> None:
        heard.extend(event for event in events.stream(str(proxy.run_dir), topics=("notice",)) if isinstance(event, events.NoticeEvent))

    threading.Thread(target=listen, daemon=True).start()
    return heard


def set_all(town: AcmeTown, records: list[tuple[str, str]]) -> None:
    for name, value in records:
        town.dns.add_txt(name, value)


@pytest.mark.timeout(120)
def test_both_records_of_a_wildcard_are_asked_for_at_once_and_who_asks_may_leave(town: AcmeTown, shared_origin: Origin) -> None:
    with town.site(shared_origin.port, by_hand(town, "by-hand.test", "*.by-hand.test")) as proxy:
        records = asked_for(proxy, 2)
        assert {name for name, _ in records} == {"_acme-challenge.by-hand.test"} and records[0] != records[1]
        log = proxy.output()
        for name, value in records:
            assert re.search(rf"WARN.*set the DNS record {name} IN TXT {value} ", log), log[-2000:]
        with proxy.follow("certs", "renew", "site") as renewing:
            line = renewing.wait_line(r"^site: set the DNS records ")
            assert RECORD.findall(line) == records
            renewing.wait_line("Ctrl-C")
            renewing.process.send_signal(signal.SIGINT)
            assert renewing.process.wait(5) == 130
        assert asked_for(proxy, 2) == records, "the try goes on"
        set_all(town, records)
        found = town.wait_shown("by-hand.test", 45)
        assert sorted(names_of(found)) == ["*.by-hand.test", "by-hand.test"] and town.is_believed("www.by-hand.test")
        log = proxy.output()
        for _, value in records:
            assert re.search(rf"INFO.*{value}.*has arrived", log) and re.search(rf"INFO.*{value}.*may be removed", log)


@pytest.mark.timeout(120)
def test_a_restart_asks_for_the_same_records(town: AcmeTown, shared_origin: Origin) -> None:
    with town.site(shared_origin.port, by_hand(town, "again-by-hand.test")) as proxy:
        records = asked_for(proxy, 1)
        assert proxy.stop() == 0
        proxy.output_file.unlink()
        proxy.start()
        assert asked_for(proxy, 1) == records
        heard = heard_of(proxy)
        other = by_hand(town, "other-by-hand.test", "*.other-by-hand.test", section="other")

        def is_called() -> bool:
            """Who listens may have come too late for the first."""
            return any(value in event.message for event in heard for _, value in asked_for(proxy, 2, "other"))

        proxy.write_config(town.config(shared_origin.port, by_hand(town, "again-by-hand.test") + other))
        until(is_called, 15, "a notice names the records", every=0.2)
        (notice,) = [event for event in heard if event.category == "lets_encrypt"]
        assert notice.level == "warn" and notice.fields["certificate"] == "other" and len(notice.fields["records"]) == 2
        assert asked_for(proxy, 1) == records, "what is added beside it breaks nothing off"
        set_all(town, records)
        assert town.wait_shown("again-by-hand.test", 45)
