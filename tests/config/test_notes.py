"""What a configuration says in vain is told, and taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.config.model import Certificate, Location, Server, Snapshot, Upstream
from pingap.config.notes import grouped, notes_on
from pingap.config.parts import Backend
from pingap.config.problems import ConfigRefused, Note
from tests.kit.config import load, load_text

PLAIN, SECURE = Server(addr=()), Server(addr=(), global_certificates=True)


def certificate(*domains: str, is_default: bool = False) -> Certificate:
    return Certificate(tls_cert="", tls_key="", domains=domains, is_default=is_default)


def told(server: Server, **certificates: Certificate) -> tuple[str, ...]:
    return tuple(map(str, notes_on(Snapshot(servers={"other": PLAIN, "web": server}, certificates=certificates))))


def test_a_certificate_that_no_server_uses_is_named() -> None:
    assert told(PLAIN, site=certificate("a.example")) == ("certificates.site: without effect: no server has global_certificates = true",)
    assert told(SECURE, site=certificate("a.example")) == ()
    assert told(PLAIN) == told(SECURE) == ()


def test_of_many_some_are_named_and_all_counted() -> None:
    (note,) = told(PLAIN, **{f"c{number}": certificate("a.example") for number in range(7)})
    assert note.startswith("certificates.c0, certificates.c1, certificates.c2, certificates.c3, certificates.c4 and 2 more: without")


@pytest.mark.parametrize(
    ("certificates", "notes"),
    [
        pytest.param({"a": certificate(), "b": certificate("b.example")}, ("certificates.a",), id="nobody can ask for it"),
        pytest.param({"a": certificate()}, (), id="the only one is the default"),
        pytest.param({"a": certificate(is_default=True), "b": certificate("b.example")}, (), id="the default"),
        pytest.param({"a": certificate("a.example"), "b": certificate("*.b.example")}, (), id="both have names"),
    ],
)
def test_a_certificate_for_no_name_is_named(certificates: dict[str, Certificate], notes: tuple[str, ...]) -> None:
    assert tuple(note.partition(":")[0] for note in told(SECURE, **certificates)) == notes


@pytest.mark.parametrize(
    ("location", "upstream", "note"),
    [
        ({}, {}, ""),
        ({"max_retries": 0}, {}, "max_retries = 0 forbids every retry"),
        ({}, {"retry_budget": 0}, "retry_budget = 0 of upstreams.api forbids it"),
        ({}, {"addrs": (Backend("10.0.0.1", 80),)}, "upstreams.api has no other backend"),
        ({}, {"addrs": (Backend("many.test", 80),)}, ""),
        ({}, {"addrs": (Backend("10.0.0.1", 80),), "discovery": "docker"}, ""),
        ({}, {"addrs": (), "discovery": "transparent"}, "upstreams.api is transparent: nobody else can be asked"),
        ({"upstream": "$tenant"}, {}, ""),
        ({"retry_status_code": (), "max_retries": 0}, {}, ""),
    ],
)
def test_statuses_after_which_nothing_is_tried_again_are_named(location: dict[str, Any], upstream: dict[str, Any], note: str) -> None:
    site = Location(**{"upstream": "api", "retry_status_code": (503,), **location})
    api = Upstream(**{"addrs": (Backend("10.0.0.1", 80), Backend("10.0.0.2", 80)), **upstream})
    notes = notes_on(Snapshot(locations={"site": site}, upstreams={"api": api}))
    assert tuple(map(str, notes)) == ((f"locations.site.retry_status_code: without effect: {note}",) if note else ())


def test_what_is_said_of_many_items_is_one_note() -> None:
    notes = [Note(f"locations.l{number}.x", "without effect") for number in range(20_000)]
    assert grouped([*notes, Note("basic.y", "without effect", "a hint")]) == (
        Note(", ".join(f"locations.l{number}.x" for number in range(5)) + " and 19995 more", "without effect"),
        Note("basic.y", "without effect", "a hint"),
    )


DEAD = "[basic]\nwork_stealing = true\n"


def test_what_is_noted_while_reading_is_told_with_the_rest() -> None:
    snapshot = load_text(f'{DEAD}[servers.web]\naddr = "127.0.0.1:80"\n')
    assert notes_on(snapshot) == (Note("basic.work_stealing", "without effect: processes share no tasks", "leave it out"),)


def test_notes_are_told_beside_problems_too() -> None:
    with pytest.raises(ConfigRefused) as refused:
        load_text(DEAD)
    assert [note.path for note in refused.value.notes] == ["basic.work_stealing"]


def test_of_several_files_a_note_names_the_one(tmp_path: Path) -> None:
    (tmp_path / "basic.toml").write_text(DEAD)
    (tmp_path / "servers.toml").write_text('[servers."a.b[1]"]\naddr = "127.0.0.1:80"\n')
    assert [note.source for note in load(tmp_path).notes] == ["basic.toml"]
