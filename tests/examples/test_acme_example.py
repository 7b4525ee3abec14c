"""examples/acme gets its certificate, as its README says."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path

import pytest

from tests.e2e.acme_site import AcmeTown, certs
from tests.e2e.harness import Pingap
from tests.e2e.tls_site import connect

FOLDER = Path(__file__).parents[2] / "examples/acme"


def test_its_configuration_is_no_longer_than_ten_lines() -> None:
    text = (FOLDER / "pingap.toml").read_text()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 10


def test_the_readme_starts_what_the_files_name() -> None:
    readme, settings = (FOLDER / "README.md").read_text(), json.loads((FOLDER / "pebble.json").read_text())["pebble"]
    text = (FOLDER / "pingap.toml").read_text()
    assert settings["certificate"] in readme and settings["privateKey"] in readme
    assert f'addr = "127.0.0.1:{settings["tlsPort"]}"' in text and f"https://{settings['listenAddress']}/dir" in text
    assert f"https://{settings['managementListenAddress']}/roots/0" in readme


@pytest.mark.processes
def test_the_certificate_comes_and_the_log_says_so(tmp_path: Path) -> None:
    with AcmeTown(tmp_path, seconds=120) as town:
        text = (FOLDER / "pingap.toml").read_text().replace("127.0.0.1:6188", "127.0.0.1:{port}")
        text = text.replace("https://127.0.0.1:14000/dir", town.pebble.directory)
        env = {"SSL_CERT_FILE": str(town.ca), "STATE_DIRECTORY": str(tmp_path)}
        with Pingap(text, "colocated", port=town.pebble.tls_port, env=env) as proxy:
            for line in re.findall(r"INFO  acme\.0 (certificate [a-z, ]+) certificate=demo", (FOLDER / "README.md").read_text()):
                proxy.wait_output(f"INFO  acme.0 {line} certificate=demo", 20)
            with connect(proxy.port, "www.demo.test", ssl.create_default_context(cadata=town.pebble.root)):
                assert certs(proxy, "demo")["domains"] == ["demo.test", "www.demo.test"]
            assert (tmp_path / "acme" / "certificates").is_dir()
