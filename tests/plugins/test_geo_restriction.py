"""`geo_restriction`: who is let in by the country of its address."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pingap.config.problems import Note, Problem
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking, making
from pingap.stages.plugins.builtin import country_database, geo_restriction
from pingap.stages.plugins.builtin.country_database import CountryDatabase, DatabaseBroken
from tests.kit.mmdb import mmdb
from tests.plugins.script import Stage

Section = dict[str, Any]
US, AU, NOBODY, LOCAL = "8.8.8.8", "1.1.1.1", "192.0.2.1", "10.1.2.3"


def geo(kind: str = "allow", codes: Any = ("US",), **more: Any) -> Section:
    return {"category": "geo_restriction", "type": kind, "country_codes": list(codes) if isinstance(codes, tuple) else codes, **more}


def mine(**countries: str) -> bytes:
    """A database: country → network."""
    return mmdb({network: {"country": {"iso_code": code}} for code, network in countries.items()})


async def decided(stage: Stage, ip: str) -> tuple[int, str]:
    """(403, or 0 for a request that goes on, country in the context)."""
    answered = await stage.one(stage.request(client_ip=ip))
    if isinstance(answered, Routed):
        return 0, answered.variables.get("geo_country", "")
    assert isinstance(answered, Response) and answered.report is not None
    return answered.status, answered.report.context.get("geo_country", "")


@pytest.mark.parametrize(
    ("ip", "country"),
    [
        (US, "US"), (AU, "AU"), ("2001:4860:4860::8888", "US"), (f"::ffff:{US}", "US"), (NOBODY, "??"), (LOCAL, "??"), ("::1", "??"),
        ("fe80::1%eth0", "??"), ("junk", "??"), ("", "??"), ("8.8.8.8 ", "??"), ("8.8.8.8:80", "??"), ("٨.٨.٨.٨", "??"),
    ],
)  # fmt: skip
async def test_a_client_is_judged_by_the_country_of_its_address(ip: str, country: str) -> None:
    for codes in (("US",), ("AU", "us"), ("DE",), ("??",)):
        is_listed = country in [code.upper() for code in codes]
        for kind in ("allow", "deny", "DENY"):
            async with Stage({"p": geo(kind, codes)}) as stage:
                expected = 0 if is_listed == (kind == "allow") else 403
                for _ in range(2):  # the second one is remembered
                    assert await decided(stage, ip) == (expected, country)


async def test_who_is_kept_out_is_told_so() -> None:
    for message, body in (("Not from there", b"Not from there"), ("", b"Access from your country is not allowed")):
        async with Stage({"p": geo(message=message)}) as stage:
            refused = await stage.one(stage.request(client_ip=AU))
            assert (refused.status, refused.body) == (403, body)
            assert [*stage.context.counted] == ["geo_restriction_requests"]
            assert (await stage.one(stage.request(client_ip=AU, upgrade=b"websocket"))).status == 403


@pytest.mark.parametrize("codes", ["US, AU", ["US AU"], ["us,au"], ["US", "AU"]])
async def test_codes_may_be_written_in_one_text(codes: Any) -> None:
    async with Stage({"p": geo("deny", codes)}) as stage:
        assert [(await decided(stage, ip))[0] for ip in (US, AU, NOBODY)] == [403, 403, 0]


@pytest.mark.parametrize(
    ("kind", "private", "expected"), [("allow", "allow", 0), ("allow", "deny", 403), ("deny", "deny", 403), ("deny", "allow", 0)]
)
async def test_who_is_not_of_the_public_internet_can_be_named(kind: str, private: str, expected: int) -> None:
    async with Stage({"p": geo(kind, private=private)}) as stage:
        for ip in (LOCAL, "127.0.0.1", "::1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1", "169.254.1.1"):
            assert await decided(stage, ip) == (expected, "??")
        assert await decided(stage, US) == ((0 if kind == "allow" else 403), "US")
        assert await decided(stage, "junk") == ((403 if kind == "allow" else 0), "??")


async def test_reporting_keeps_nobody_out_and_tells_of_everybody() -> None:
    async with Stage({"p": {"category": "geo_restriction", "type": "reporting"}}) as stage:
        for ip, country in ((US, "US"), (NOBODY, "??"), ("junk", "??"), (US, "US")):
            assert await decided(stage, ip) == (0, country)
        told = [fields for level, message, fields in stage.context.logged if (level, message) == ("info", "country of a client")]
        assert [(fields["ip"], fields["country"]) for fields in told] == [(US, "US"), (NOBODY, "??"), ("junk", "??"), (US, "US")]
        assert stage.context.counted["geo_restriction_requests"] == 4


async def test_addresses_that_clients_make_up_are_not_all_kept() -> None:
    plugin: Any = making.make("p", geo(), checking.load_guard).plugin
    plugin._country_of = lambda address: "US"
    for number in range(10_000):
        plugin._verdicts.setdefault(f"{number}", plugin._judge(f"10.0.{number >> 8}.{number & 255}"))
        plugin.request(_Asks(f"10.1.{number >> 8}.{number & 255}"))
        assert len(plugin._verdicts) <= 4097
        plugin._verdicts.pop(f"{number}", None)


class _Asks:
    def __init__(self, ip: str) -> None:
        self.client_ip, self.context = ip, dict[str, Any]()


# -- a database of the user's own ------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"country": {"iso_code": "DE", "names": {"en": "Germany"}}, "registered_country": {"iso_code": "FR"}},
        {"registered_country": {"iso_code": "DE"}},
        {"country": "DE"},
        {"country_code": "de", "country": "Germany", "asn": 12345678901},
    ],
)
async def test_a_database_is_asked_instead(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.mmdb"
    file.write_bytes(
        mmdb({"8.8.8.0/24": record, "2001:db8::/32": record, "9.0.0.0/8": {"country": {"iso_code": 5}}, "11.0.0.0/8": ["odd"]})
    )
    async with Stage({"p": geo("allow", ("DE",), database=str(file))}) as stage:
        await opened(stage)
        for ip in (US, f"::ffff:{US}", "2001:db8::7"):
            assert await decided(stage, ip) == (0, "DE")
        for ip in (AU, "9.1.1.1", "11.1.1.1", "2001:db9::1", "junk"):
            assert await decided(stage, ip) == (403, "??")


async def opened(stage: Stage, times: int = 1) -> None:
    """Waits until so many databases have been opened."""
    for _ in range(500):
        if sum("is open" in message for _, message, _ in stage.context.logged) >= times and stage.actor._compiler.alive:
            for _ in range(3):  # and the generation is taken up
                await asyncio.sleep(0)
            return
        await asyncio.sleep(0.01)
    raise AssertionError(stage.context.logged)


async def told(stage: Stage, what: str) -> None:
    for _ in range(500):
        if any(what in message for _, message, _ in stage.context.logged) and stage.actor._compiler.alive:
            for _ in range(3):
                await asyncio.sleep(0)
            return
        await asyncio.sleep(0.01)
    raise AssertionError(stage.context.logged)


async def test_a_database_for_ipv4_knows_no_ipv6(tmp_path: Path) -> None:
    file = tmp_path / "c.mmdb"
    file.write_bytes(mmdb({"8.0.0.0/8": {"country": {"iso_code": "US"}}}, version=4))
    async with Stage({"p": geo(database=str(file))}) as stage:
        await opened(stage)
        assert await decided(stage, US) == (0, "US")
        assert await decided(stage, "2001:4860:4860::8888") == (403, "??")


async def test_a_database_that_is_replaced_is_opened_again_and_a_broken_one_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geo_restriction, "LOOK", 0.01)
    file = tmp_path / "c.mmdb"
    file.write_bytes(mine(US="8.0.0.0/8"))
    async with Stage({"p": geo(database=str(file))}) as stage:
        await opened(stage)
        assert [await decided(stage, ip) for ip in (US, AU)] == [(0, "US"), (403, "??")]
        (tmp_path / "new").write_bytes(mine(US="1.0.0.0/8", DE="8.0.0.0/8"))
        os.replace(tmp_path / "new", file)
        await opened(stage, 2)
        assert [await decided(stage, ip) for ip in (US, AU)] == [(403, "DE"), (0, "US")]
        file.write_bytes(b"no database")  # written over: what is in use is not the file's
        await told(stage, "cannot be opened: the one before stays in use")
        assert [await decided(stage, ip) for ip in (US, AU)] == [(403, "DE"), (0, "US")]
        file.unlink()
        (tmp_path / "new").write_bytes(mine(US="8.0.0.0/8"))
        os.replace(tmp_path / "new", file)
        await opened(stage, 3)
        assert [await decided(stage, ip) for ip in (US, AU)] == [(0, "US"), (403, "??")]


@pytest.mark.parametrize("kind", ["allow", "deny", "reporting"])
async def test_without_its_database_nobody_is_let_in_and_all_else_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart: the configuration was accepted when the file was there."""
    monkeypatch.setattr(geo_restriction, "LOOK", 0.01)
    file = tmp_path / "c.mmdb"
    codes: tuple[str, ...] = () if kind == "reporting" else ("US",)
    async with Stage({"p": geo(kind, codes, database=str(file), private="allow" if kind == "allow" else "")}) as stage:
        await told(stage, "cannot be opened")
        for ip in (US, LOCAL, "junk"):
            assert (await decided(stage, ip))[0] == (0 if kind == "reporting" else 503)
        file.write_bytes(mine(US="8.0.0.0/8"))
        await opened(stage)
        assert await decided(stage, US) == ((403 if kind == "deny" else 0), "US")


@pytest.mark.parametrize("kind", ["allow", "deny", "reporting"])
async def test_a_record_that_is_damaged_lets_nobody_in_and_is_told_once(kind: str, tmp_path: Path) -> None:
    whole = mine(US="8.0.0.0/8", AU="1.0.0.0/8")
    at = whole.index(b"AU") - 1
    file = tmp_path / "c.mmdb"
    file.write_bytes(whole[:at] + b"\x3f" + whole[at + 1 :])  # text that goes on behind the end
    codes: tuple[str, ...] = () if kind == "reporting" else ("US",)
    async with Stage({"p": geo(kind, codes, database=str(file), private="" if kind == "reporting" else "allow")}) as stage:
        await opened(stage)
        for ip in (AU, AU, "1.2.3.4"):
            assert await decided(stage, ip) == ((0 if kind == "reporting" else 503), "??")
        assert await decided(stage, US) == ((403 if kind == "deny" else 0), "US")
        assert (await decided(stage, LOCAL))[0] == 0
        assert [level for level, message, _ in stage.context.logged if "cannot be told" in message] == ["error"]


async def test_whatever_a_library_makes_of_a_file_the_watch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geo_restriction, "LOOK", 0.01)
    file = tmp_path / "c.mmdb"
    file.write_bytes(mine(US="8.0.0.0/8"))

    def fails(*args: Any) -> str:
        raise KeyError("a surprise")

    async with Stage({"p": geo("deny", database=str(file))}) as stage:
        await opened(stage)
        with monkeypatch.context() as patched:
            patched.setattr(country_database, "_code_of", fails)
            assert (await decided(stage, AU))[0] == 503
            patched.setattr(geo_restriction, "CountryDatabase", fails)
            (tmp_path / "new").write_bytes(mine(AU="1.0.0.0/8"))
            os.replace(tmp_path / "new", file)
            await told(stage, "cannot be opened: the one before stays in use")
        await opened(stage, 2)
        assert await decided(stage, AU) == (0, "AU")


def test_no_broken_file_does_more_than_to_be_refused(tmp_path: Path) -> None:
    whole = mine(US="8.0.0.0/8", DE="9.0.0.0/8")
    dice = random.Random(12)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        file = tmp_path / "c.mmdb"
        file.write_bytes(bytes(broken[: dice.choice((len(broken), dice.randrange(len(broken))))]))
        try:
            database = CountryDatabase(str(file))
        except DatabaseBroken:
            continue
        for ip in (US, AU, "9.9.9.9", "2001:db8::1"):
            try:
                assert len(database.country_of(ipaddress.ip_address(ip))) == 2
            except Exception as error:
                assert "Database" in type(error).__name__ or isinstance(error, ValueError | UnicodeDecodeError), error
        database.close()


# -- settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"type": "block"}, "type"),
        ({"country_codes": ["USA"]}, "country_codes"),
        ({"country_codes": ["U1"]}, "country_codes"),
        ({"country_codes": ["ÄÖ"]}, "country_codes"),
        ({"country_codes": [1]}, "country_codes[0]"),
        ({"private": "maybe"}, "private"),
        ({"database": "countries.mmdb"}, "database"),
        ({"database": "/nonexistent/c.mmdb"}, "database"),
        ({"database": __file__}, "database"),
        ({"database": "/proc"}, "database"),
        ({"step": "response"}, "step"),
    ],
)
def test_mistakes_are_refused(wrong: Section, key: str) -> None:
    assert [problem.path for problem in checking.check("p", geo() | wrong)] == [f"plugins.p.{key}"]


def test_a_relative_path_starts_at_the_directory_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.mmdb").write_bytes(mine(US="8.0.0.0/8"))
    section = geo(database="./c.mmdb")
    assert not checking.Checker(str(tmp_path))("p", section)
    assert section["database"] == str(tmp_path / "c.mmdb")


def test_the_type_has_to_be_said() -> None:
    assert [problem.path for problem in checking.check("p", {"category": "geo_restriction"})] == ["plugins.p.type"]


@pytest.mark.parametrize("package", ["iptocc", "maxminddb"])
def test_a_package_that_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    section = geo(database="/nonexistent/c.mmdb") if package == "maxminddb" else geo()
    [problem] = [one for one in checking.check("p", section) if "installed" in one.message]
    assert (problem.message, problem.hint) == (f"the package {package} is not installed", "pip install 'pingap[geo]'")


@pytest.mark.parametrize(
    ("taken", "noted"),
    [
        ({}, []),
        ({"country_codes": []}, ["no country is named: nobody is let in"]),
        ({"country_codes": ["UK"]}, ["no country has the code UK"]),
        ({"type": "reporting"}, ["without effect"]),
    ],
)
def test_what_should_be_known_is_noted(taken: Section, noted: list[str]) -> None:
    said = checking.Checker()("p", geo() | taken)
    assert not [one for one in said if isinstance(one, Problem)]
    notes = [one.message for one in said if isinstance(one, Note)]
    assert len(notes) == len(noted) and all(map(str.startswith, notes, noted))


@pytest.mark.processes
def test_who_has_no_such_plugin_does_not_load_the_lists() -> None:
    code = "import sys, pingap.stages.plugins.actor; print('iptocc' in sys.modules, 'maxminddb' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert run.stdout.split() == ["False", "False"]
