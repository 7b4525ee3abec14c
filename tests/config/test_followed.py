"""Files that a configuration names: all of them are followed, those that are away too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pingap.config.encryption import encrypt
from pingap.config.followed import followed
from pingap.config.storage.base import Document
from pingap.config.storage.file import prints_of
from tests.config.test_certificates import pair

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def files(text: str, **env: str) -> list[str]:
    return list(followed([Document("a.toml", text)], env).files)


def certificate(value: str) -> str:
    return f"[certificates.a]\ntls_cert = '''{value}'''\n"


def test_a_file_that_is_away_is_awaited() -> None:
    assert files(certificate("/nowhere/at/all.pem")) == ["/nowhere/at/all.pem"]
    long = "/etc/letsencrypt/live/aHostWhoseNameIsLong/andAnotherDirectoryBelow/fullchain/pem00"
    assert files(certificate(long)) == [long], "every letter is one of base64"
    assert files(certificate("~/a.pem")) == [os.path.expanduser("~/a.pem")]


def test_pem_is_no_path() -> None:
    import base64

    cert, _ = pair("a.test")
    assert files(certificate(cert) + f"tls_key = '{base64.b64encode(cert.encode()).decode()}'") == []


def test_a_path_that_stands_elsewhere_is_followed(tmp_path: Path) -> None:
    text = certificate("$SECRET:plain") + 'tls_key = "$ENV:KEY"\n[storages.plain]\ncategory = "x"\nvalue = "/run/a.pem"\n'
    assert files(text, KEY="/run/a.key") == ["/run/a.key", "/run/a.pem"]
    (tmp_path / "path").write_text("/run/b.pem\n")
    text = certificate("$SECRET:file") + f'[storages.file]\ncategory = "x"\nvalue = "$FILE:{tmp_path}/path"\n'
    assert files(text) == ["/run/b.pem", f"{tmp_path}/path"]
    sealed = encrypt("/run/c.pem", "phrase")
    text = certificate("$SECRET:sealed") + f'[storages.sealed]\ncategory = "x"\nvalue = "{sealed}"\nsecret = "$ENV:PHRASE"\n'
    assert (files(text, PHRASE="phrase"), files(text, PHRASE="other"), files(text)) == (["/run/c.pem"], [], [])
    plugins = followed([Document("a.toml", '[plugins.a]\npath = "$ENV:CODE"\n')], {"CODE": "/run/a.py"}).plugins
    assert plugins == {"a": {"path": "/run/a.py"}}


@pytest.mark.parametrize(
    "text",
    [
        certificate("~a\\u0000b").replace("'''", '"'),
        'certificates = 1\nstorages = [2]\nplugins = "x"',
        'certificates.a = 1\nstorages.b = ["x"]\nplugins.c = 2',
        "[certificates.a]\ntls_cert = 1\ntls_key = ['x']",
        certificate("$SECRET:a") + "[storages.a]\nvalue = 1\nsecret = 2",
        certificate("$SECRET:a") + "[storages]\na = 1",
        "= broken",
    ],
)
def test_what_is_wrong_names_nothing(text: str) -> None:
    assert files(text) == []


def test_a_path_that_none_can_have_can_be_looked_at() -> None:
    assert prints_of(["/a\0b", "/a\ud800b"]) == (("/a\0b", 0, 0, 0, 0), ("/a\ud800b", 0, 0, 0, 0))
