"""Code of users that does not leave the process that imports it alive: found in a child, as a problem of the configuration."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import msgpack
import pytest

from pingap.config.problems import Note, Problem
from pingap.config.storage.places import storage_of
from pingap.loading import load
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.modules import origin
from pingap.stages.plugins import checking, trial

pytestmark = pytest.mark.slow

GOOD = """
from pingap.plugin import CONTINUE, Action, Exchange, Plugin, Settings

class Mine(Plugin[Settings]):
    def request(self, exchange: Exchange) -> Action:
        return CONTINUE
"""

DEADLY = {
    "exit": "raise SystemExit(0)",
    "sys.exit": "import sys\nsys.exit('bye')",
    "os._exit with 0": "import os\nos._exit(0)",
    "os._exit": "import os\nos._exit(3)",
    "killed": "import os\nos.kill(os.getpid(), 9)",
    "aborted": "import os\nos.abort()",
    "interrupted": "raise KeyboardInterrupt",
    "no Exception": "class Gone(BaseException): pass\nraise Gone('x')",
    "cancelled": "import asyncio\nraise asyncio.CancelledError",
    "loops": "while True: pass",
    "loops, and catches all": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "closes all": "import os\nos.closerange(0, 1024)\nos._exit(0)",
    "leaves a child that holds everything": "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(0)",
    "in the constructor": GOOD + "    def __init__(self, settings: Settings) -> None:\n        import os\n        os._exit(0)\n",
}


@pytest.fixture(params=["one thread", "several"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """With one, a trial forks; with several it starts a Python."""
    over = threading.Event()
    other = threading.Thread(target=over.wait, daemon=True)
    if request.param == "several":
        other.start()
    yield
    over.set()
    if request.param == "several":
        other.join()


def problems(tmp_path: Path, code: str, key: str = "path") -> list[Problem]:
    (tmp_path / "mine.py").write_text(code)
    return checking.check("p", {"category": "python", key: "mine.py" if key == "path" else "mine"}, str(tmp_path))


@pytest.mark.processes
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("code", DEADLY.values(), ids=DEADLY)
def test_code_that_ends_its_process_is_a_problem(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PATIENCE", 4.0)
    before = _children()
    [problem] = problems(tmp_path, code)
    assert problem.path == "plugins.p.path"
    assert str(tmp_path / "mine.py") in problem.message
    assert not _children() - before, "no child is left"


def _children() -> set[str]:
    """Pids of this process's children, others' among them; none where the kernel does not tell."""
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return set(path.read_text().split()) if path.exists() else set()


@pytest.mark.usefixtures("threads")
def test_good_code_passes_and_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert not problems(tmp_path, GOOD)
    assert len(os.listdir("/proc/self/fd")) == before, "no descriptor is left open"
    for name in ("_forked", "_started"):
        monkeypatch.setattr(trial, name, _never)
    assert not problems(tmp_path, GOOD)
    with pytest.raises(AssertionError, match="tried"):
        problems(tmp_path, GOOD + "# changed\n")


def _never(order: str, answer: int) -> tuple[int, Callable[[], int]]:
    raise AssertionError("it is tried again")


@pytest.mark.usefixtures("threads")
def test_other_problems_are_told_as_ever(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "\n\nnonsense")
    assert problem.message.startswith(f"{tmp_path / 'mine.py'}:3: NameError")
    [problem] = problems(tmp_path, "x = 1")
    assert "no subclass of Plugin" in problem.message


@pytest.mark.usefixtures("threads")
def test_a_package_that_exits_is_found_though_only_a_module_of_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / f"deadly_{os.getpid()}"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nos._exit(0)\n")
    (package / "mine.py").write_text(GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    [problem] = checking.check("p", {"category": "python", "module": f"{package.name}.mine"})
    assert problem.path == "plugins.p.module" and "ends the process" in problem.message


def test_a_module_is_found_without_running_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / f"found_{os.getpid()}"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('run')\n")
    (package / "inner" / "mine.py").write_text("raise RuntimeError('run')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert origin(f"{package.name}.inner.mine") == str(package / "inner" / "mine.py")
    assert origin(package.name) == str(package / "__init__.py")
    for missing in (f"{package.name}.nothing", "nothing.at.all", f"{package.name}.inner.mine.deeper", "sys", ""):
        assert origin(missing) is None


SECOND_TIME = """
import os
with open(MARK, "a") as file:
    print(os.getpid(), file=file)
with open(MARK) as file:
    while len(file.readlines()) > 1:
        pass
"""


@pytest.mark.usefixtures("threads")
def test_who_checks_a_configuration_runs_no_code_of_users(tmp_path: Path) -> None:
    """One that loops only the second time it is imported: in the config stage that would be a thread that nobody can end."""
    mark = tmp_path / "mark"
    (tmp_path / "mine.py").write_text(SECOND_TIME.replace("MARK", repr(str(mark))) + GOOD)
    source = tmp_path / "pingap.toml"
    source.write_text(CONF)
    over: list[dict[str, int]] = []

    def check() -> None:
        snapshot = load(storage_of(source))
        over.append(checking.plans(snapshot))

    thread = threading.Thread(target=check, daemon=True)
    if threading.active_count() > 1:
        thread.start()
        thread.join(20)
    else:
        check()
    assert over == [{"l": REQUEST_PLUGINS}], "it is at work still"
    [pid] = mark.read_text().split()
    assert int(pid) != os.getpid()


CONF = """
[servers.s]
addr = "127.0.0.1:8080"
locations = ["l"]
[locations.l]
plugins = ["p"]
[plugins.p]
category = "python"
path = "mine.py"
"""


@pytest.mark.usefixtures("threads")
def test_what_another_process_has_tried_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_passed", {})
    assert not problems(tmp_path, GOOD)
    told = msgpack.unpackb(msgpack.packb(trial.passed()))
    monkeypatch.setattr(trial, "_passed", {})
    for name in ("_forked", "_started"):
        monkeypatch.setattr(trial, name, _never)
    with pytest.raises(AssertionError, match="tried"):
        problems(tmp_path, GOOD)
    trial.know(told)
    assert not problems(tmp_path, GOOD)


NOTING = (
    GOOD
    + """
    def notes(self):
        yield "size", "without effect beside `all`", "leave it out"
"""
)


@pytest.mark.usefixtures("threads")
def test_what_a_plugin_notes_is_told_by_who_tried_it_and_by_who_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_passed", {})
    (tmp_path / "mine.py").write_text(NOTING)

    def told() -> list[Problem | Note]:
        return checking.Checker(str(tmp_path))("p", {"category": "python", "path": "mine.py"})

    assert told() == [Note("plugins.p.size", "without effect beside `all`", "leave it out")]
    found = msgpack.unpackb(msgpack.packb(trial.passed()))
    monkeypatch.setattr(trial, "_passed", {})
    for name in ("_forked", "_started"):
        monkeypatch.setattr(trial, name, _never)
    trial.know(found)
    assert told() == [Note("plugins.p.size", "without effect beside `all`", "leave it out")]


@pytest.mark.usefixtures("threads")
def test_notes_that_fail_are_a_problem(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, NOTING.replace('"size"', "1 / 0"))
    assert "ZeroDivisionError" in problem.message and "mine.py:9" in problem.message


ORPHANS_IT = """
import os, sys
from pingap.stages.plugins import checking, trial
trial.PATIENCE = 0.5
trial._await = lambda pid, reading, reap: os._exit(0)
checking.check("p", {"category": "python", "path": "mine.py"}, sys.argv[1])
"""


NEVER_ENDS = {
    "catches all": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "hears no signals": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\nwhile True: signal.pause()",
}


@pytest.mark.processes
@pytest.mark.parametrize("loop", NEVER_ENDS.values(), ids=NEVER_ENDS)
def test_a_child_whose_parent_has_died_ends_too(tmp_path: Path, loop: str) -> None:
    (tmp_path / "mine.py").write_text(f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{loop}\n")
    subprocess.run([sys.executable, "-c", ORPHANS_IT, str(tmp_path)], check=True)
    until = monotonic() + 20
    while monotonic() < until:
        with suppress(FileNotFoundError, ValueError):
            child = int((tmp_path / "pid").read_text())
            handle = os.pidfd_open(child)
            break
        sleep(0.01)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    is_over = poll.poll(20_000)
    if not is_over:
        os.kill(child, 9)
    os.close(handle)
    assert is_over, "it goes on for ever"
