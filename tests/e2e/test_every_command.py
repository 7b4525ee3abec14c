"""Each command, whatever becomes of its streams and whatever it finds: a sentence, an exit code and never a traceback."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pingap import cli
from tests.e2e.harness import COMMAND, Pingap, site
from tests.kit.waiting import free_port, until

FOLLOWING: Final = ("logs -f", "tap", "ps --watch 0.2", "upstreams --watch 0.2")
"""They end when their output does, or when they are told to."""

COMMANDS: Final = (
    "up",
    "check -c {config}",
    "ps",
    "ps --json",
    "ps --health",
    "ps --watch 0.2",
    "upstreams",
    "upstreams origin --json",
    "upstreams --watch 0.2",
    "upstream drain origin {backend} --force --wait 5s",
    "upstream enable origin {backend}",
    "certs",
    "certs --json",
    "certs --health",
    "certs renew site",
    "certs probe 127.0.0.1:{closed}",
    "cache stats",
    "cache explain http://127.0.0.1/",
    "cache purge --all",
    "scale upstream=1 routing=1",
    "kill upstream.99",
    "reload",
    "reload --json",
    "reload --dry-run",
    "rollback",
    "logs",
    "logs --json",
    "logs -n 1 --since 10m --stage config",
    "logs -f",
    "tap",
    "tap --json",
    "version",
    "help",
    "completion zsh",
    "schema",
    "plugins",
    "plugins ping --json -c {config}",
    "ca --dir {fresh}",
    "plugin new tea --dir {fresh}",
    "plugin test {tests} -q",
    "config migrate -c {config} --dry-run",
    "config sync {config} {config}",
    "secret rotate -c {config} --new-env HOME",
    "restart",
    "upgrade",
    "down",
    "down --timeout 5",
)
FAILING: Final = ("up", "rollback", "kill upstream.99", "cache purge --all", "certs renew site", "certs probe 127.0.0.1:{closed}")
"""Of what they ask for there is nothing: another instance, a generation before, such a process, a cache, a certificate, a listener."""

ENDING: Final = ("restart", "upgrade", "down", "down --timeout 5")
"""They would cost the others their instance."""

ALONE: Final = 60_000 + os.getpid() % 5_000
"""A user whom no process is of: the limit counts all of a user's, and web servers beside this run as nobody."""


ELSEWHERE: Final = (
    "up",
    "check -c {config}",
    "config migrate -c {config} --dry-run",
    "config sync {config} {config}",
    "version",
    "help",
    "schema",
    "plugins",
    "plugins ping --json -c {config}",
    "certs probe 127.0.0.1:{closed}",
    "ca --dir {fresh}",
    "plugin new tea --dir {fresh}",
    "plugin test {tests} -q",
    "completion zsh",
    "secret rotate -c {config} --new-env HOME",
)
"""They ask no instance."""

STREAMS: Final = {
    "closed stdout": ">&-",
    "full stdout": ">/dev/full",
    "stdout that nobody reads": "| true",
    "closed stderr": "2>&-",
    "full stderr": "2>/dev/full",
    "all closed": "<&- >&- 2>&-",
}


@pytest.fixture(scope="module")
def instance() -> Iterator[Pingap]:
    with Pingap(site([BACKEND])) as one:
        yield one


BACKEND: Final = free_port()
"""Nobody listens there."""


def words_of(command: str, instance: Pingap, run_dir: str) -> list[str]:
    """`up` is tried where an instance runs already: it says so and ends."""
    tests = instance.dir / "test_nothing.py"
    tests.write_text("def test_nothing() -> None: ...\n")
    fresh = tempfile.mkdtemp(dir=instance.dir)
    words = shlex.split(command.format(config=instance.config, backend=f"127.0.0.1:{BACKEND}", closed=BACKEND, fresh=fresh, tests=tests))
    return words if words[0] not in ("up", "check") and command in ELSEWHERE else [*words, "--run-dir", run_dir]


def outcome(
    argv: list[str], streams: str = "", env: dict[str, str] | None = None, user: int | None = None, before: str = ""
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in a shell that redirects its streams; what follows is told to end after a second."""
    follows = any(" ".join(argv).startswith(one) for one in FOLLOWING)
    line = f"{before}\n{'timeout -s INT 1.5 ' if follows else ''}{shlex.join([COMMAND, *argv])} {streams}\nexit ${{PIPESTATUS[0]}}"
    base = {key: value for key, value in os.environ.items() if not key.startswith("PINGAP_")}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=20, env=base | (env or {}), check=False, user=user, errors="replace"
    )
    for text in (done.stdout, done.stderr):
        assert "Traceback" not in text and "Exception ignored" not in text and "Error: [" not in text, text
    return done.returncode, done.stdout, done.stderr


def test_every_command_is_among_them() -> None:
    assert {command.split()[0] for command in COMMANDS} == set(cli.commands.commands)


@pytest.mark.parametrize("streams", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in ENDING])
def test_streams_that_take_nothing(instance: Pingap, command: str, streams: str) -> None:
    argv = words_of(command, instance, str(instance.run_dir))
    code, _, err = outcome(argv, streams)
    is_lost = streams == ">/dev/full" and not cli.is_acting(command.split())
    if command.startswith(FOLLOWING):
        assert code in (0, 124, int(is_lost)), err  # 124 is timeout's: it had to be told
        return
    assert code == (1 if is_lost or command in FAILING else 0), err
    if is_lost and command not in FAILING:
        assert os.strerror(errno.ENOSPC) in err


@pytest.mark.parametrize("streams", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in ELSEWHERE])
def test_no_instance(instance: Pingap, tmp_path: Path, command: str, streams: str) -> None:
    code, _, err = outcome(words_of(command, instance, str(tmp_path / "none")), streams)
    assert code == 1
    assert "no pingap is running" in err or "2>" in streams


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in ELSEWHERE])
def test_not_allowed_is_not_the_same_as_not_running(instance: Pingap, command: str) -> None:
    probe = subprocess.run(["cat", COMMAND], user=65534, capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("the command is where nobody else may read it")
    code, _, err = outcome(words_of(command, instance, str(instance.run_dir)), user=65534)
    assert code == 1
    assert "not allowed to look into" in err and "belongs to root" in err, err
    assert "pingap up" not in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in ENDING])
def test_a_terminal_of_few_letters(instance: Pingap, command: str, encoding: str) -> None:
    code, out, err = outcome(words_of(command, instance, str(instance.run_dir)), env={"PYTHONIOENCODING": encoding, "LC_ALL": "C"})
    assert code in ((1,) if command in FAILING else (0, 124)), err
    assert out.isascii() or encoding != "ascii"
    if command.startswith("scale"):
        assert "upstream: 1 -> 1" in out or encoding != "ascii"


def test_tap_shows_requests_on_a_terminal_of_few_letters(instance: Pingap) -> None:
    env = instance.env | {"PYTHONIOENCODING": "ascii"}
    argv = [COMMAND, "tap", "--run-dir", str(instance.run_dir)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        seen = b""

        def shown() -> bool:
            nonlocal seen
            instance.get("/caf%C3%A9")
            seen += process.stdout.read() or b""  # type: ignore[union-attr]
            return b"/caf%C3%A9" in seen

        until(shown, 10, "tap shows a request", every=0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0, process.stderr.read() if process.stderr else b""


@pytest.mark.parametrize("argv", [["--help"], ["-V"], *([name, "--help"] for name in cli.commands.commands)], ids=" ".join)
def test_help_goes_anywhere(argv: list[str]) -> None:
    code, out, _ = outcome(argv, env={"COLUMNS": "80"})
    assert code == 0 and out.strip()
    assert all(len(line) <= 80 for line in out.splitlines())
    assert outcome(argv, "| true")[0] == 0
    assert outcome(argv, ">/dev/full")[0] == 1


@pytest.mark.parametrize("value", ["upstream=²", "upstream=٣", "=1", "upstream=1e1", "upstream=99999999999", "upstream=+1"])
def test_a_number_is_made_of_ascii_digits(instance: Pingap, value: str) -> None:
    code, _, err = outcome(["scale", value, "--run-dir", str(instance.run_dir)])
    assert code == 2 and "is not STAGE=N" in err
    code, _, err = outcome(["up", "--workers", value.partition("=")[2], "--run-dir", str(instance.run_dir)])
    assert code == 2 or value == "=1"


def test_nothing_hidden_is_suggested() -> None:
    hidden = [
        name for one in cli.commands.commands.values() for option in one.params if getattr(option, "hidden", False) for name in option.opts
    ]
    assert "--cp" in hidden
    for flag in hidden:
        if flag.startswith("--"):
            _, _, err = outcome(["up", flag + "x"])
            assert not any(f"{other}'" in err or f"{other}?" in err for other in hidden if other.startswith("--")), err
    assert "'--scale'" in outcome(["up", "--scales", "x"])[2]
    assert "did you mean 'reload'" in outcome(["relaod"])[2]


def test_a_closed_descriptor_is_not_taken_by_a_file(instance: Pingap) -> None:
    """What is opened next would be stdout otherwise, and be printed into."""
    code, _, err = outcome(["check", "-c", str(instance.config), "--run-dir", str(instance.run_dir)], ">&-")
    assert code == 0 and err.count("\n") == 2 and err.startswith("note: pingap runs in")
    assert instance.config.read_text().startswith(("\n", "["))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whose processes are counted")
@pytest.mark.parametrize("most", [2, 4, 6])
def test_too_few_processes_are_told_with_the_limit(instance: Pingap, tmp_path: Path, most: int) -> None:
    if subprocess.run(["cat", COMMAND], user=ALONE, capture_output=True, check=False).returncode:
        pytest.skip("the command is where nobody else may read it")
    config = instance.dir / "small.toml"
    config.write_text(f'[servers.a]\naddr = "127.0.0.1:{free_port()}"\n')
    for path in (instance.dir, config):
        path.chmod(0o755)
    run_dir = Path("/tmp", f"pg-few-{os.getpid()}-{most}")
    argv = ["up", "-c", str(config), "--run-dir", str(run_dir)]
    code, _, err = outcome(argv, user=ALONE, before=f"ulimit -u {most}")
    assert code == 1, err
    assert f"{most} processes and threads (ulimit -u)" in err
    shutil.rmtree(run_dir, ignore_errors=True)
