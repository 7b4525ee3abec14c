"""The command line: what a newcomer and an operator type."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e import certificate
from tests.e2e.client import get
from tests.e2e.harness import COMMAND, PLACEMENTS, Pingap, site
from tests.e2e.origins import Nginx, Origin
from tests.kit.waiting import free_port, is_alive, pss, title, until

MB = 1024 * 1024


def run(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    base = {key: value for key, value in os.environ.items() if not key.startswith("PINGAP_")}
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=20, cwd=cwd, env=base | (env or {}), check=False)


def test_without_a_file_a_demo_runs_and_says_what_to_try_next() -> None:
    with Pingap(None) as demo:
        bodies = {get(6188).body for _ in range(8)}
        assert len(bodies) >= 2, "two backends take turns"
        assert get(6188).get("x-request-id") or get(6188).status == 200
        assert "curl -i http://127.0.0.1:6188/" in demo.output()
        demo.wait_output(r'"GET / HTTP/1.1" 200')


def test_a_pingap_toml_in_the_directory_is_taken_without_asking(tmp_path: Path, nginx: Nginx) -> None:
    proxy = Pingap(site([nginx.port]))
    proxy.argv = [COMMAND, "--run-dir", str(proxy.run_dir)]  # a bare `pingap` means up; its directory has pingap.toml
    with proxy:
        assert proxy.get().status == 200


def test_flags_without_a_subcommand_mean_up(nginx: Nginx) -> None:
    proxy = Pingap(site([nginx.port]))
    proxy.argv = [COMMAND, "-c", str(proxy.config), "--run-dir", str(proxy.run_dir)]
    with proxy:
        assert proxy.get().status == 200


def test_a_proxy_without_a_file_serves_and_restarts(tmp_path: Path, nginx: Nginx, origin: Origin) -> None:
    for name, text in zip(("fullchain.pem", "privkey.pem"), certificate.self_signed("pingap.io"), strict=True):
        (tmp_path / name).write_text(text)
    proxy = Pingap(None)
    quick = [f"--upstream=127.0.0.1:{nginx.port},localhost:{origin.port}", f"--cert={tmp_path}", f"--addr=127.0.0.1:{proxy.port}"]
    proxy.argv = [COMMAND, *quick, "--run-dir", str(proxy.run_dir)]
    with proxy:
        for _ in range(2):
            servers = set()
            for _ in range(6):
                with proxy.client(tls=True) as client:
                    servers.add(client.get("/small.txt").get("server"))
            assert len(servers) == 2, f"both backends take turns: {servers}"
            assert proxy.command("restart").returncode == 0
        proxy.wait_output(r'"GET /small.txt HTTP/1.1" 200')
        assert "this is the demo" not in proxy.output()


@pytest.mark.alone
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_it_is_ready_soon_and_small(nginx: Nginx, placement: str) -> None:
    with Pingap(site([nginx.port]), placement) as proxy:
        assert proxy.took < 4, "2 s on a quiet machine; CI's is not quiet"
        assert proxy.memory() < 200 * MB, f"{proxy.memory() / MB:.0f} MB at rest"
        seconds = float(proxy.wait_output(r"ready in ([0-9.]+) s").group(1))
        assert seconds < 4


def test_processes_have_names(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), up=["--scale", "accept=2"]) as proxy:
        titles = {title(pid) for pid in proxy.processes()}
        single = ("routing", "plugins", "upstream", "logging", "config", "discovery", "metrics")
        names = ["supervisor", "accept.0", "accept.1", *(f"{stage}.0" for stage in single)]
        assert {f"pingap: {name}" for name in names} <= titles, titles


def test_ps_shows_every_stage(placement: str, nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), placement) as proxy:
        rows = proxy.ps()
        stages = {row.stage for row in rows}
        assert {"accept", "routing", "plugins", "upstream", "logging", "config", "discovery", "metrics", "supervisor"} <= stages
        assert all(row.state == "ready" and row.restarts == 0 and is_alive(row.pid) for row in rows if row.stage != "spawner"), rows
        request_path = {row.pid for row in rows if row.stage in ("accept", "routing", "plugins", "upstream")}
        assert len(request_path) == (1 if placement == "colocated" else 4)
        text = proxy.command("ps").stdout
        assert "accept" in text
        assert "RESTARTS" in text.upper()
        for row in rows:
            assert row.raw["rss"] > 0
            assert abs(row.raw["pss"] - pss([row.pid])) < 20 * MB


def test_ps_counts_requests(nginx: Nginx) -> None:
    with Pingap(site([nginx.port])) as proxy:
        for _ in range(7):
            proxy.get()
        stages = ("accept", "routing", "upstream")
        until(lambda: [proxy.row(stage).requests for stage in stages] == [7, 7, 7], 5, "seven requests are counted")
        assert proxy.row("accept").in_flight == 0


@pytest.mark.parametrize("args", [["ps"], ["ps", "--json"], ["reload"], ["down"], ["scale", "upstream=2"], ["logs", "-f"], ["tap"]])
def test_without_an_instance_a_command_says_so(tmp_path: Path, args: list[str]) -> None:
    done = run(*args, "--run-dir", str(tmp_path / "none"), cwd=tmp_path)
    assert done.returncode == 1
    assert "no pingap" in done.stderr.lower() or "not running" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_down_stops_it(placement: str, nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), placement) as proxy:
        done = proxy.command("down")
        assert done.returncode == 0, done.stderr
        assert proxy.wait_stopped() == 0


def test_a_second_instance_in_the_same_run_dir_is_refused(nginx: Nginx) -> None:
    with Pingap(site([nginx.port])) as proxy:
        done = proxy.command("up", "-c", str(proxy.config))
        assert done.returncode == 1
        assert "already running" in done.stderr
        assert proxy.get().status == 200


BROKEN = """
[basic]
treads = 2
[servers.a]
addr = "127.0.0.1:{port}"
locations = ["missing"]
[locations.b]
upstream = "nowhere"
path = "~ [unclosed"
[upstreams.c]
addrs = [1]
"""


@pytest.mark.parametrize("args", [["check", "-c"], ["-t", "-c"], ["up", "-t", "-c"], ["up", "-c"]])
def test_a_bad_configuration_is_told_as_a_whole_and_ends_with_2(tmp_path: Path, args: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BROKEN.replace("{port}", str(free_port())))
    run_dir = ["--run-dir", str(tmp_path / "r")] if args[0] != "check" else []
    done = run(*args, str(path), *run_dir, cwd=tmp_path)
    assert done.returncode == 2, done
    for part in ("basic.treads", "servers.a.locations", "missing", "locations.b.upstream", "nowhere", "b.path", "upstreams.c.addrs"):
        assert part in done.stderr, f"{part} is missing from:\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_a_good_configuration_is_told_as_good(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(site([1234]).replace("{port}", "7000"))
    assert run("check", "-c", str(path), cwd=tmp_path).returncode == 0
    assert run("-t", "-c", str(path), cwd=tmp_path).returncode == 0


def test_certificates_that_no_server_uses_are_told_at_check_start_and_reload(origin: Origin) -> None:
    note = "certificates.lonely: without effect"
    text = site([origin.port])
    with Pingap(text + certificate.section("lonely", "a.example"), env={"RUST_LOG": "hyper=debug,info"}) as proxy:
        proxy.wait_output(rf"(?i)warn.*{note}")
        assert f"note: {note}" in proxy.output()
        assert "note: the log level in the environment: hyper=debug: neither a level" in proxy.output()
        done = proxy.command("check", "-c", str(proxy.config))
        assert (done.returncode, note in done.stderr) == (0, True)
        assert f"pingap runs in {proxy.run_dir}" in done.stderr
        assert note in proxy.command("reload").stderr
        proxy.write_config(text)
        assert note not in proxy.command("reload").stderr
        assert proxy.output().count(note) == 3, "at the start on the console and in the log, and once at the reload"


def test_a_check_beside_an_instance_takes_its_addresses_for_its_own_and_another_run_dir_does_not(nginx: Nginx, tmp_path: Path) -> None:
    with Pingap(site([nginx.port])) as proxy:
        done = proxy.command("check", "-c", str(proxy.config), "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["problems"], [note["message"].partition(":")[0] for note in told["notes"]]) == (
            0,
            [],
            [f"pingap runs in {proxy.run_dir} (pid {proxy.pid('supervisor')})"],
        )
        done = run("check", "-c", str(proxy.config), "--run-dir", str(tmp_path / "r"), cwd=tmp_path)
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{proxy.port}: address already in use by pingap" in done.stderr
        assert "name its run dir with --run-dir" in done.stderr
        assert proxy.get().status == 200


@pytest.mark.parametrize(
    "args",
    [["up", "--nonsense"], ["nonsense"], ["up", "--placement", "sideways"], ["up", "--scale", "x"], ["up", "-c", "/no/such/file.toml"]],
)
def test_bad_usage_ends_with_2(tmp_path: Path, args: list[str]) -> None:
    done = run(*args, *(["--run-dir", str(tmp_path / "r")] if args[0] == "up" else []), cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_an_unsupported_key_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "later.toml"
    path.write_text(site([1234], server='otlp_exporter = "http://localhost:4317"').replace("{port}", "7000"))
    done = run("check", "-c", str(path), cwd=tmp_path)
    assert done.returncode == 2
    assert "not supported yet" in done.stderr


def test_the_configuration_may_be_a_directory(nginx: Nginx) -> None:
    proxy = Pingap(site([nginx.port]))
    parts = proxy.dir / "conf"
    parts.mkdir()
    sections = proxy.config.read_text().split("\n[")
    for number, section in enumerate(sections):
        (parts / f"{number}.toml").write_text(section if section.startswith("[") else f"[{section}")
    proxy.argv[proxy.argv.index("-c") + 1] = str(parts)
    with proxy:
        assert proxy.get().status == 200


def test_json_of_ps_is_one_array(nginx: Nginx) -> None:
    with Pingap(site([nginx.port])) as proxy:
        rows = json.loads(proxy.command("ps", "--json").stdout)
        assert isinstance(rows, list)
        keys = {"stage", "replica", "pid", "state", "restarts", "cpus", "rss", "in_flight", "requests"}
        assert all(keys <= set(row) for row in rows)


def test_a_reader_of_its_output_that_goes_away_does_not_stop_it(nginx: Nginx) -> None:
    proxy = Pingap(site([nginx.port], server='access_log = "combined"'))
    reading, writing = os.pipe()
    process = subprocess.Popen(proxy.argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=proxy.env, start_new_session=True)
    proxy.process = process
    os.close(writing)
    try:
        with open(reading, "rb") as output:
            until(lambda: b"ready in" in output.readline(), 15, "it is ready")
        for _ in range(20):
            assert proxy.get().status == 200
        assert proxy.stop() == 0
    finally:
        proxy.discard()
