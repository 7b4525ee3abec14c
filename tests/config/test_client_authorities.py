"""`client_ca` and `client_auth` of [servers.X]."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pingap.config.diff import diff
from pingap.config.difference import difference
from pingap.config.followed import followed
from pingap.config.notes import notes_on
from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document
from tests.config.test_certificates import SITE, pair, section
from tests.kit.config import load_text
from tests.kit.identities import root

ONE, TWO = root("One"), root("Two")
PLAIN = '[servers.web]\naddr = "127.0.0.1:80"\n'
PAIR = section("a", *pair("a.example"))


def keys(ca: str, more: str = "") -> str:
    return f"client_ca = '''{ca}'''\n{more}\n"


def refusals(text: str) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        load_text(text)
    return [f"{problem.path}: {problem.message}" for problem in refused.value.problems]


def notes(text: str) -> list[str]:
    return [str(note).split("\n")[0] for note in notes_on(load_text(text))]


def test_authorities_come_as_pem_or_in_a_file_and_several_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("# ours\n" + ONE.pem + TWO.pem)
    by_path, as_text = (load_text(SITE + keys(ca) + PAIR).servers["web"] for ca in (f"{tmp_path}/ca.pem", ONE.pem + TWO.pem))
    assert by_path == as_text and as_text.client_ca == ONE.pem + TWO.pem
    assert notes(SITE + keys(ONE.pem, 'client_auth = "optional"') + PAIR) == []


def test_what_would_leave_a_server_open_is_a_problem() -> None:
    assert refusals(PLAIN + keys(ONE.pem)) == ["servers.web.client_ca: this server does not speak TLS"]
    assert refusals(SITE + 'client_auth = "required"\n' + PAIR) == [
        "servers.web.client_auth: there is no client_ca to know certificates by"
    ]
    assert notes(SITE + 'client_auth = "optional"\n' + PAIR) == ["servers.web.client_auth: without effect: there is no client_ca"]


def test_a_file_that_cannot_be_read_is_the_only_thing_that_is_said(tmp_path: Path) -> None:
    [one] = refusals(SITE + keys(f"{tmp_path}/away.pem", 'client_auth = "required"') + PAIR)
    assert one == f"servers.web.client_ca: '{tmp_path}/away.pem' cannot be read: no such file or directory"


def test_only_certificates_are_taken_and_a_key_is_not_shown() -> None:
    [one] = refusals(SITE + keys(ONE.pem + ONE.key_pem) + PAIR)
    assert one == "servers.web.client_ca: holds PRIVATE KEY"
    [garbled] = refusals(SITE + keys("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----") + PAIR)
    assert garbled.startswith("servers.web.client_ca: is not taken by the TLS library: ")


def test_an_authority_out_of_its_time_is_noted() -> None:
    old = root("Old", since=timedelta(-9), until=timedelta(-1))
    young = root("Young", since=timedelta(1))
    expired, early = notes(SITE + keys(ONE.pem + old.pem + young.pem) + PAIR)
    assert expired.startswith("servers.web.client_ca: 'CN=Old' expired on ")
    assert early.startswith("servers.web.client_ca: 'CN=Young' is not valid before ")


def test_its_file_is_followed(tmp_path: Path) -> None:
    text = f'[servers.web]\nclient_ca = "{tmp_path}/ca.pem"\n'
    assert followed([Document("a.toml", text)], {}).files == (f"{tmp_path}/ca.pem",)


def test_a_change_is_shown_by_its_digest_whichever_of_them_has_changed() -> None:
    before, after = (load_text(SITE + keys(ONE.pem + ca) + PAIR) for ca in ("", TWO.pem))
    lines = [line for line in difference(before, after, diff(before, after)) if "client_ca" in line]
    assert [line[:23] for line in lines] == ['- client_ca = "SHA-256 ', '+ client_ca = "SHA-256 '] and lines[0][2:] != lines[1][2:]
