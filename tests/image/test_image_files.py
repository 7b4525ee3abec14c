"""docker/: what can be told of the image without building it. docker/try looks at a built one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pingap import cli
from pingap.config.home import default_directory
from pingap.config.storage.places import storage_of
from pingap.loading import load
from tests.kit.peers import lacks

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = sorted(DOCKER.glob("compose*.yml"))


def test_the_wheel_s_parts_are_let_in_and_little_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "what is not named stays outside: keys, .git, environments"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    parts = {link.resolve().name for link in (ROOT / "pingap").iterdir() if link.is_symlink()}
    assert parts | {"pingap", "pyproject.toml", "README.md", "LICENSE", "tools", "constraints.txt", "docker/entrypoint"} == let_in
    assert {"**/*.so", "**/__pycache__"} <= set(lines), "what was built here is not for there"


def test_it_runs_as_a_user_who_is_not_root_and_can_be_seen_to() -> None:
    users = re.findall(r"(?m)^USER (\S+)$", DOCKERFILE)
    assert users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_certificates_by_acme_have_a_place_that_is_the_user_s() -> None:
    [state] = re.findall(r"(?m)^ +STATE_DIRECTORY=(\S+)", DOCKERFILE)
    place = default_directory({"STATE_DIRECTORY": state})
    [owner] = re.findall(rf"install -d -o (\d+) -g \d+ -m 0700 {place}$", DOCKERFILE, re.MULTILINE)
    assert owner == re.findall(r"(?m)^USER (\d+)", DOCKERFILE)[-1]
    assert f"-v pingap-acme:{place}" in (DOCKER / "README.md").read_text()
    kept = {file.name for file in COMPOSE if f"- acme:{place} " in file.read_text()}
    assert kept == {"compose.yml", "compose.autoreload.yml"}, "the other one has no port for TLS"


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"(?m)^ARG VERSION=(.*)$", DOCKERFILE) == [project["version"]]
    [python] = re.findall(r"(?m)^ARG BASE=python:([\d.]+)-slim", DOCKERFILE)
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_entrypoint_can_be_run() -> None:
    assert os.access(DOCKER / "entrypoint", os.X_OK), "COPY keeps the mode"


def test_commands_that_the_entrypoint_knows_are_pingap_s() -> None:
    [line] = re.findall(r"(?m)^([a-z |]+)\) set -- pingap", (DOCKER / "entrypoint").read_text())
    named = set(line.split(" | "))
    assert len(named) > 3 and named <= set(cli.commands.commands)


def test_what_compose_serves_at_first_is_a_configuration() -> None:
    snapshot = load(storage_of(DOCKER / "conf"))
    assert [str(one) for one in snapshot.servers["main"].addr] == ["0.0.0.0:80"]
    containers = load(storage_of(DOCKER / "conf-containers"))
    assert [(one.address, containers.upstreams["web"].discovery) for one in containers.upstreams["web"].addrs] == [("app=web:80", "docker")]


@pytest.mark.processes
@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_a_compose_file_is_one(file: Path) -> None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            break
    else:
        lacks("there is no `docker compose` here (Debian: docker-compose)")
    done = subprocess.run([*command, "-f", str(file), "config"], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "docker/Dockerfile" in done.stdout and "/opt/pingap/conf" in done.stdout
