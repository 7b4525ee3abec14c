"""The config actor with real files: what it publishes, reports and keeps."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import watchfiles._rust_notify

from pingap.bus.members import Members
from pingap.config import notes
from pingap.config.load import load
from pingap.config.model import Basic, Code, Snapshot
from pingap.config.problems import Note
from pingap.config.storage.base import Fingerprint, Readable
from pingap.config.storage.notice import SHARE
from pingap.config.storage.places import storage_of
from pingap.loading import load as load_all
from pingap.stages.bundles import unpacked
from pingap.stages.config import actor as module
from pingap.stages.config import last, watch
from pingap.stages.config.actor import ConfigActor
from pingap.stages.messages import Accepted, InUse, Refused
from pingap.stages.steps import finished
from tests.config.test_certificates import pair
from tests.kit.context import FakeContext
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow

GOOD = """
[servers.web]
addr = "127.0.0.1:6188"
locations = ["all"]
[locations.all]
upstream = "api"
[upstreams.api]
addrs = ["127.0.0.1:{port}"]
"""

PLUGIN = """
from pingap.plugin import Plugin, reply

class Mine(Plugin):
    def request(self, exchange): return reply(200, "{word}")
"""

STAGES = ("accept", "routing", "upstream")


class Run:
    """A config actor among stages that the test plays."""

    def __init__(self, path: Path, run_dir: Path, load: Callable[[Readable], Snapshot] = load, **more: Any) -> None:
        self.path = path
        self.context = FakeContext("config", 2)
        self.context.run_dir = str(run_dir)
        self.context.members = Members.of(1, 9, [(10 + i, stage, 0, "", "ready") for i, stage in enumerate(STAGES)])
        storage = more.pop("storage", None) or storage_of(path)
        self.actor = ConfigActor(self.context, storage, load=load, plans=lambda snapshot: dict.fromkeys(snapshot.locations, 0), **more)
        self.starting: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        """As careful editors do it: at once."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)

    @property
    def value(self) -> dict[str, Any]:
        """What was published last."""
        values = self.context.published.get("config") or [{"committed": 0, "candidate": 0}]
        return dict(values[-1])

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return [value for word, value in self.context.reported if word == "generation"]

    @property
    def snapshot(self) -> Snapshot:
        """The running generation, as a stage that uses all of it gets it."""
        snapshot, _ = finished(unpacked(self.value["current"], self.context.blobs))
        return snapshot

    @property
    def port(self) -> int:
        """What the running generation says."""
        return int(self.snapshot.upstreams["api"].addrs[0].port)

    async def until(self, is_so: Callable[[], object], seconds: float = 5) -> None:
        await eventually(is_so, seconds, said=lambda: self.context.logged)

    def accept(self, *actors: int) -> None:
        for actor in actors or range(10, 10 + len(STAGES)):
            self.actor.receivers()[Accepted](Accepted(actor, self.value["candidate"]))

    async def take(self, changes: Callable[[], object] | None = None) -> None:
        """Lets every stage accept the next candidate; afterwards it runs."""
        before = self.value["candidate"] or self.value["committed"]
        if changes:
            changes()
        await self.until(lambda: self.value["candidate"] > before)
        self.accept()
        assert self.value["candidate"] == 0


Start = Callable[..., Awaitable[Run]]


@asynccontextmanager
async def started(run: Run) -> AsyncIterator[Run]:
    run.starting = asyncio.create_task(run.actor.start())
    try:
        yield run
    finally:
        run.starting.cancel()
        await asyncio.gather(run.starting, return_exceptions=True)
        await run.actor.stop()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Only the test of how soon an edit is taken over needs the real pace."""
    if "within" not in request.node.name:
        monkeypatch.setattr(watch, "LOOK", 0.02)
        monkeypatch.setattr(watch, "SETTLE", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pingap.toml"
    path.write_text(GOOD.format(port=1))
    return path


@asynccontextmanager
async def running(path: Path, **more: Any) -> AsyncIterator[Run]:
    async with started(Run(path, path.parent, **more)) as run:
        await run.take()
        await run.until(lambda: run.context.is_ready)
        yield run


async def test_it_is_ready_when_the_first_generation_was_accepted(path: Path) -> None:
    async with started(Run(path, path.parent)) as run:
        await run.until(lambda: run.value["candidate"])
        assert not run.context.is_ready
        run.accept()
        await run.until(lambda: run.context.is_ready)
        assert run.port == 1
        (outcome,) = run.outcomes
        assert outcome == {"number": run.value["committed"], "problems": (), "notes": (), "changed": "", "word": "reload", "asked": 0} | {
            "timings": (Basic().graceful_shutdown_timeout, Basic().grace_period),
            "difference": (),
            "config": outcome["config"],
            "pending": (),
        }
        assert len(outcome["config"]) == 12
        assert run.context.noticed == []


async def test_consumers_hear_of_each_outcome_and_of_what_was_and_is(path: Path) -> None:
    async with running(path) as run:
        before = run.outcomes[-1]["config"]
        path.write_text(GOOD.format(port=2))
        run.actor.told("reload", (1,))
        await run.take()
        await run.until(lambda: len(run.outcomes) == 2)
        outcome = run.outcomes[-1]
        assert outcome["config"] not in ("", before)
        taken, difference = run.context.noticed
        assert taken[:2] == ("info", "reload_config")
        assert taken[3] == {"generation": outcome["number"], "changed": outcome["changed"], "notes": ()}
        assert difference[:2] == ("info", "diff_config")
        assert difference[2].split("\n") == list(outcome["difference"])
        assert "[MODIFIED] upstreams.api" in difference[2]
        path.write_text("[")
        run.actor.told("reload", (2,))
        await run.until(lambda: len(run.context.noticed) == 3)
        level, category, message, fields = run.context.noticed[-1]
        assert (level, category, fields["generation"]) == ("error", "reload_config_fail", outcome["number"])
        assert "not TOML" in message and "not TOML" in fields["problems"][0]
        assert run.outcomes[-1]["config"] == outcome["config"], "the same goes on"
        path.write_text(GOOD.format(port=1))
        run.actor.told("reload", (3,))
        await run.take()
        await run.until(lambda: len(run.outcomes) == 4)
        assert run.outcomes[-1]["config"] == before, "the same configuration has the same hash"


async def test_a_first_configuration_that_a_stage_refuses_is_a_boot_failure_with_the_reason(path: Path) -> None:
    async with started(Run(path, path.parent)) as run:
        await run.until(lambda: run.value["candidate"])
        run.actor.receivers()[Refused](Refused(11, run.value["candidate"], "no such thing"))
        assert run.starting is not None
        with pytest.raises(RuntimeError, match=r"routing\.0: no such thing"):
            await run.starting
        assert not run.context.is_ready


async def test_a_first_configuration_that_is_broken_is_a_boot_failure_with_every_problem(path: Path) -> None:
    path.write_text("[servers.web]\nadr = 1\n[nonsense]\n")
    async with started(Run(path, path.parent)) as run:
        assert run.starting is not None
        with pytest.raises(RuntimeError, match=r"(?s)servers\.web\.ad.*nonsense|nonsense.*servers\.web\.ad"):
            await run.starting


async def test_an_edit_is_taken_over_within_two_seconds_without_being_asked(path: Path) -> None:
    async with running(path) as run:
        began = monotonic()
        await run.take(lambda: run.write(GOOD.format(port=2)))
        assert monotonic() - began < 2
        assert run.port == 2
        assert run.outcomes[-1]["changed"] == "changed upstreams.api.addrs"


async def test_an_edit_of_which_the_kernel_tells_need_not_be_looked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK", 3600.0)
    async with running(path) as run:
        for port in range(2, 5):
            await run.take(lambda: run.write(GOOD.format(port=port)))  # noqa: B023
            assert run.port == port


@pytest.mark.slow
async def test_where_the_kernel_tells_nothing_an_edit_is_taken_over_within_two_seconds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")  # what inotify says when it has no watches left

    monkeypatch.setattr(watchfiles._rust_notify, "RustNotify", full)
    async with running(path) as run:
        for port in (2, 3):
            began = monotonic()
            await run.take(lambda: run.write(GOOD.format(port=port)))  # noqa: B023
            assert (run.port, monotonic() - began < 2) == (port, True)


async def test_a_file_that_is_away_for_a_moment_is_no_problem_within_an_edit(path: Path) -> None:
    async with running(path) as run:
        path.unlink()
        await asyncio.sleep(0.1)
        await run.take(lambda: path.write_text(GOOD.format(port=2)))
        assert run.port == 2
        assert not any(outcome["problems"] for outcome in run.outcomes)


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
async def test_a_checkout_of_git_is_taken_over_as_a_whole_within_a_moment(tmp_path: Path) -> None:
    root = tmp_path / "conf"

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root), *words], check=True, capture_output=True)

    for port in (1, 2):
        root.mkdir(exist_ok=True)
        server, _, rest = GOOD.format(port=port).partition("[locations.all]")
        (root / "servers.toml").write_text(server.replace('"all"', f'"l{port}"'))
        for old in root.glob("rest*"):
            old.unlink()
        (root / f"rest{port}.toml").write_text(f"[locations.l{port}]{rest}")
        if port == 1:
            git("init", "-q")
        git("checkout", "-q", "-b", f"v{port}")
        git("add", "-A")
        git("commit", "-q", "-m", "x")
    async with started(Run(root, tmp_path)) as run:
        await run.take()
        for port in (1, 2, 1):
            await run.take(lambda: git("checkout", "-q", f"v{port}"))  # noqa: B023
            assert run.port == port
        assert not any(outcome["problems"] for outcome in run.outcomes)


async def test_kubernetes_swaps_of_a_whole_directory_are_taken_over_as_one(tmp_path: Path) -> None:
    def version(number: int) -> None:
        folder = tmp_path / "conf" / f"..{number}"
        folder.mkdir(parents=True)
        server, _, rest = GOOD.format(port=number).partition("[locations.all]")
        (folder / "servers.toml").write_text(server)
        (folder / "rest.toml").write_text(f"[locations.all]{rest}")
        (tmp_path / "conf" / "..data_tmp").symlink_to(folder.name)
        os.replace(tmp_path / "conf" / "..data_tmp", tmp_path / "conf" / "..data")

    version(1)
    for name in ("servers", "rest"):
        (tmp_path / "conf" / f"{name}.toml").symlink_to(f"..data/{name}.toml")
    async with started(Run(tmp_path / "conf", tmp_path)) as run:
        await run.take()
        for number in range(2, 6):
            await run.take(lambda: version(number))  # noqa: B023
            assert run.port == number
        assert not any(outcome["problems"] for outcome in run.outcomes)


async def test_without_autoreload_only_a_reload_takes_an_edit(path: Path) -> None:
    async with running(path, follows=False) as run:
        run.write(GOOD.format(port=2))
        reads = run.actor.figures()["reads"]
        await asyncio.sleep(0.3)
        assert (run.port, run.actor.figures()["reads"]) == (1, reads)
        await run.take(lambda: run.actor.told("reload", [7]))
        assert (run.port, run.outcomes[-1]["asked"]) == (2, 7)


class Hangs:
    """A storage of which looking does not return, as on a network file system whose server is gone."""

    def __init__(self, path: Path) -> None:
        self._storage = storage_of(path)
        self.base = self._storage.base
        self.is_gone = threading.Event()
        self.is_back = threading.Event()
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def fingerprint(self) -> Fingerprint:
        if self.is_gone.is_set():
            self.looks += 1
            self.is_back.wait(30)
        return self._storage.fingerprint()


async def test_a_file_system_that_does_not_answer_holds_up_one_thread_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READING", 0.05)
    storage = Hangs(path)
    async with running(path, storage=storage) as run:
        storage.is_gone.set()
        await run.until(lambda: any("has not answered" in message for _, message, _ in run.context.logged))
        await asyncio.sleep(0.3)
        assert storage.looks == 1
        monkeypatch.setattr(module, "READING", 20.0)
        storage.is_gone.clear()
        storage.is_back.set()
        await run.take(lambda: run.write(GOOD.format(port=2)))


async def test_what_is_written_beside_the_configuration_costs_no_more_than_its_share(path: Path) -> None:
    storage = Hangs(path)
    storage.is_back.set()
    async with running(path, storage=storage) as run:
        real, costs = storage.fingerprint, 0.05

        def slow() -> Fingerprint:
            time.sleep(costs)
            return real()

        storage.fingerprint = slow  # type: ignore[method-assign]
        storage.is_gone.set()  # from now on looks are counted
        for _ in range(50):
            run.actor._wake.set()
            await asyncio.sleep(0.01)
        assert storage.looks <= 3
        run.actor.told("reload", [7])
        await run.until(lambda: run.outcomes[-1]["asked"] == 7, costs / SHARE / 2)


async def test_a_broken_edit_says_why_once_and_changes_nothing(path: Path) -> None:
    async with running(path) as run:
        committed = run.value["committed"]
        broken = GOOD.format(port=1).replace("addrs = [", "addrs = 7 # [")
        run.write(broken)
        await run.until(lambda: len(run.outcomes) == 2)
        assert "upstreams.api.addrs" in run.outcomes[-1]["problems"][0]
        assert (run.value["committed"], run.value["candidate"]) == (committed, 0)
        assert any(level == "error" and "upstreams.api.addrs" in fields["problems"] for level, _, fields in run.context.logged)
        reads = run.actor.figures()["reads"]
        run.write(broken)  # saved again as it was
        await run.until(lambda: run.actor.figures()["reads"] > reads)
        assert len(run.outcomes) == 2
        await run.take(lambda: run.write(GOOD.format(port=3)))
        assert run.port == 3


async def test_the_log_has_the_hints_of_problems_in_parentheses(path: Path) -> None:
    async with running(path) as run:
        run.write(GOOD.format(port=1).replace("locations = ", "locatoins = "))
        await run.until(lambda: len(run.outcomes) == 2)
        assert run.context.logged[-1][2]["problems"] == "servers.web.locatoins: unknown key (did you mean 'locations'?)"


async def test_reload_reads_at_once_and_always_has_an_outcome(path: Path) -> None:
    async with running(path) as run:
        run.actor.told("reload", ())
        await run.until(lambda: len(run.outcomes) == 2, 0.4)
        assert run.outcomes[-1]["changed"] == "nothing changed"
        run.write("not toml")
        run.actor.told("reload", ())
        await run.until(lambda: len(run.outcomes) == 3, 0.4)
        assert run.outcomes[-1]["problems"]
        run.actor.told("reload", ())
        await run.until(lambda: len(run.outcomes) == 4, 0.4)


async def test_an_outcome_names_the_newest_question_that_was_asked_before_the_files_were_read(path: Path) -> None:
    async with running(path) as run:
        run.write("not toml")
        await run.until(lambda: len(run.outcomes) == 2)
        run.write(GOOD.format(port=1))
        run.actor.told("reload", (5,))
        run.actor.told("reload", (6,))
        await run.until(lambda: len(run.outcomes) == 3)
        assert [(bool(one["problems"]), one["asked"]) for one in run.outcomes[1:]] == [(True, 0), (False, 6)]
        run.actor.told("dry-run", (7,))
        await run.until(lambda: len(run.outcomes) == 4)
        run.actor.told("rollback", (8,))
        await run.until(lambda: len(run.outcomes) == 5)
        assert [(one["word"], one["asked"]) for one in run.outcomes[3:]] == [("dry-run", 7), ("rollback", 8)]


async def test_a_line_of_the_log_stays_short_when_thousands_of_keys_change(path: Path) -> None:
    many = "".join(f"[locations.l{number}]\nupstream = 'api'\n" for number in range(5000))
    broken = "".join(f"[locations.b{number}]\nupstream = 'none'\n" for number in range(100))
    async with running(path) as run:
        await run.take(lambda: run.write(GOOD.format(port=1) + many))
        level, message, fields = run.context.logged[-1]
        assert (level, message) == ("info", "configuration committed")
        assert fields["changed"].startswith("added locations.l0, locations.l1, ") and fields["changed"].endswith(", 4980 more")
        assert len(fields["changed"]) < 500
        run.write(GOOD.format(port=1) + broken)
        await run.until(lambda: run.outcomes[-1]["problems"])
        assert run.context.logged[-1][2]["problems"].endswith("; 80 more")
        assert len(run.outcomes[-1]["problems"]) == 100, "who asks gets all of them"


async def test_a_file_that_a_storage_stands_for_is_followed(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "value"
    secret.write_text("weight = 1\n")
    more = f'[storages.a]\ncategory = "x"\nvalue = "$FILE:{secret}"\n'
    path.write_text(GOOD.format(port=1).replace('upstream = "api"', 'upstream = "api"\nincludes = ["a"]') + more)
    async with running(path) as run:
        secret.write_text("weight = 2\n")
        await run.take()
        await run.until(lambda: len(run.outcomes) == 2)
        assert run.outcomes[-1]["changed"] == "changed locations.all.weight"


@pytest.mark.parametrize("is_named_by", ["path", "environment"])
async def test_a_certificate_that_is_away_for_a_moment_is_taken_over_when_it_is_back(
    path: Path, tmp_path: Path, is_named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = tmp_path / "a.pem", tmp_path / "a.key"
    monkeypatch.setenv("CERT_PATH", str(cert))
    named = cert if is_named_by == "path" else "$ENV:CERT_PATH"
    path.write_text(GOOD.format(port=1) + f'[certificates.a]\ntls_cert = "{named}"\ntls_key = "{key}"\n')

    pem, private = pair("a.test")
    cert.write_text(pem)
    key.write_text(private)
    async with running(path) as run:
        cert.unlink()
        await run.until(lambda: run.outcomes[-1]["problems"])
        assert "cannot be read" in str(run.outcomes[-1]["problems"])
        reads = run.actor.figures()["reads"]
        cert.write_text(pem)  # the key is as it was: nothing else calls for a reading
        await run.until(lambda: run.actor.figures()["reads"] > reads)
        await run.take(lambda: run.write(path.read_text().replace("127.0.0.1:1", "127.0.0.1:2")))
        await run.until(lambda: not run.outcomes[-1]["problems"])


async def test_a_file_of_a_directory_that_comes_or_goes_is_an_edit(tmp_path: Path) -> None:
    conf, run_dir = tmp_path / "conf", tmp_path / "run"
    conf.mkdir()
    run_dir.mkdir()
    (conf / "a.toml").write_text(GOOD.format(port=1))
    async with started(Run(conf, run_dir)) as run:
        await run.take()
        await run.take(lambda: (conf / "b.toml").write_text("[upstreams.more]\naddrs = ['127.0.0.1:9']\n"))
        assert "added upstreams.more" in run.outcomes[-1]["changed"]
        await run.take((conf / "b.toml").unlink)
        assert "removed upstreams.more" in run.outcomes[-1]["changed"]


async def test_changed_code_of_a_users_plugin_is_an_edit(path: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(word="one"))
    path.write_text(f"{GOOD.format(port=1)}[plugins.mine]\ncategory = 'python'\npath = '{plugin}'\n")
    async with running(path, load=load_all) as run:
        await run.take(lambda: plugin.write_text(PLUGIN.format(word="another")))
        assert run.outcomes[-1]["changed"] == "the code of plugins.mine"


async def test_a_changed_module_beside_a_plugin_is_an_edit_and_a_broken_one_is_refused(path: Path, tmp_path: Path) -> None:
    plugin, words = tmp_path / "mine.py", tmp_path / "words" / "more.py"
    words.parent.mkdir()
    words.write_text("WORD = 1\n")
    plugin.write_text("from words import more\n" + PLUGIN.format(word="one"))
    path.write_text(f"{GOOD.format(port=1)}[plugins.mine]\ncategory = 'python'\npath = 'mine.py'\n")
    async with running(path, load=load_all) as run:
        await run.take(lambda: words.write_text("WORD = 22\n"))
        assert run.outcomes[-1]["changed"] == "the code of plugins.mine"
        [kept] = run.snapshot.code["mine"].modules
        assert (kept.name, kept.path, kept.text) == ("words.more", str(words), b"WORD = 22\n")
        words.write_text("WORD = \n")
        await run.until(lambda: run.outcomes[-1]["problems"])
        assert f"{words}:1: SyntaxError" in str(run.outcomes[-1]["problems"])
        words.unlink()
        await run.until(lambda: "mine.py:1: " in str(run.outcomes[-1]["problems"]))
        await run.take(lambda: words.write_text("WORD = 333\n"))
        assert run.snapshot.code["mine"].modules[0].text == b"WORD = 333\n"


async def test_accepted_code_belongs_to_the_generation_whatever_the_file_says_later(path: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(word="good"))
    path.write_text(f"{GOOD.format(port=1)}[plugins.mine]\ncategory = 'python'\npath = 'mine.py'\n")
    accepted = {"mine": Code(str(plugin), PLUGIN.format(word="good").encode(), "mine", str(tmp_path))}
    async with running(path, load=load_all) as run:
        assert run.snapshot.code == accepted
        plugin.write_text("broken (")
        await run.until(lambda: len(run.outcomes) == 2)
        assert run.outcomes[-1]["problems"]
        number = run.value["committed"]
    async with started(Run(path, path.parent, load=load_all)) as again:
        await again.until(lambda: again.outcomes)
        assert again.value["committed"] == number
        assert again.snapshot.code == accepted


async def test_mending_the_code_of_a_plugin_that_broke_the_configuration_is_enough(path: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("broken")

    def checked(storage: Readable) -> Snapshot:
        snapshot = load(storage)
        if "mine" in snapshot.plugins and plugin.read_text() == "broken":
            raise ValueError("mine.py is broken")
        return snapshot

    async with running(path, load=checked) as run:
        run.write(f"{GOOD.format(port=1)}[plugins.mine]\ncategory = 'python'\npath = 'mine.py'\n")
        await run.until(lambda: len(run.outcomes) == 2)
        assert "mine.py is broken" in run.outcomes[-1]["problems"][0]
        await run.take(lambda: plugin.write_text("x = 1\n"))
        assert run.outcomes[-1]["changed"] == "added plugins.mine"


@pytest.mark.parametrize("is_broken", [True, False])
async def test_code_that_changes_while_it_is_read_for_the_first_time_is_read_again(path: Path, tmp_path: Path, is_broken: bool) -> None:
    """The files of plugins are known only when the configuration has been read."""
    plugin = tmp_path / "mine.py"
    plugin.write_text("old")
    reads: list[str] = []

    def checked(storage: Readable) -> Snapshot:
        snapshot = load(storage)
        reads.append(plugin.read_text())
        if len(reads) == 1:
            plugin.write_text("newer")
            if is_broken:
                raise ValueError("mine.py is broken")
        return snapshot

    async with running(path) as before:  # a life before, so that the first read may fail
        await before.until((path.parent / "config.last").exists)
    path.write_text(f"{GOOD.format(port=1)}[plugins.mine]\ncategory = 'python'\npath = '{plugin}'\n")
    async with started(Run(path, path.parent, load=checked)) as run:
        await run.until(lambda: len(reads) > 1)
    assert reads[:2] == ["old", "newer"]


async def test_a_restarted_actor_goes_on_at_once_though_the_file_is_broken_by_then(path: Path) -> None:
    async with running(path) as run:
        number = run.value["committed"]
    path.write_text("broken")
    async with started(Run(path, path.parent)) as again:
        await again.until(lambda: again.context.is_ready, 0.5)
        assert (again.value["committed"], again.port) == (number, 1)
        await again.until(lambda: again.outcomes)
        assert again.outcomes[0]["problems"]
        assert again.value["committed"] == number
        assert any("came back" in message for _, message, _ in again.context.logged)
        await again.take(lambda: again.write(GOOD.format(port=5)))
        assert again.value["committed"] > number


async def test_a_restarted_actor_that_finds_the_same_file_makes_no_new_generation(path: Path) -> None:
    async with running(path) as run:
        number = run.value["committed"]
    async with started(Run(path, path.parent)) as again:
        await again.until(lambda: again.actor.figures()["reads"] == 1)
        await asyncio.sleep(0)
        assert (again.value["committed"], again.value["candidate"], again.outcomes) == (number, 0, [])


async def test_what_is_kept_is_for_this_user_and_this_run_only(path: Path) -> None:
    async with running(path):
        assert os.stat(path.parent / last.NAME).st_mode & 0o777 == 0o600
    assert last.restore(str(path.parent)) is not None
    (path.parent / "pid").write_text("1\n")
    assert last.restore(str(path.parent)) is None


async def test_a_damaged_keepsake_is_told_and_the_files_are_read(path: Path) -> None:
    (path.parent / last.NAME).write_bytes(b"\xc1garbage")
    async with running(path) as run:
        assert run.port == 1
        assert any(level == "warn" and last.NAME in message for level, message, _ in run.context.logged)


async def test_checks_that_take_long_do_not_hold_up_the_loop(path: Path) -> None:
    import threading

    go_on = threading.Event()

    def slow(storage: Readable) -> Snapshot:
        go_on.wait(5)
        return load(storage)

    async with started(Run(path, path.parent, load=slow)) as run:
        await run.until(lambda: run.actor.figures()["reads"])
        began = monotonic()
        await asyncio.sleep(0.01)
        assert monotonic() - began < 1
        go_on.set()
        await run.take()


@pytest.mark.parametrize("word", ["reload", "dry-run"])
@pytest.mark.parametrize("what", ["followed", "prints_of", "ReadOnce"])
async def test_who_asks_is_answered_whatever_fails(path: Path, monkeypatch: pytest.MonkeyPatch, what: str, word: str) -> None:
    """Of files that a hostile text names, too."""

    def fails(*_: object) -> None:
        raise KeyError("of some library")

    async with running(path) as run:
        with monkeypatch.context() as patched:
            patched.setattr(module, what, fails)
            run.actor.told(word, (7,))
            await run.until(lambda: run.outcomes[-1]["asked"] == 7)
            assert "KeyError: 'of some library'" in run.outcomes[-1]["problems"][0]
        await run.take(lambda: run.write(GOOD.format(port=3)))


async def test_the_data_base_of_users_is_not_asked_on_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be behind a network that does not answer: heartbeats would wait for it."""
    threads: list[threading.Thread] = []

    def asks(basic: Basic) -> list[Note]:
        threads.append(threading.current_thread())
        return [Note("basic.user", "is not here")]

    monkeypatch.setattr(notes, "notes_on_account", asks)
    async with running(path) as run:
        await run.take(lambda: run.write(GOOD.format(port=3)))
        assert run.outcomes[-1]["notes"] == ("basic.user: is not here",)
        async with started(Run(path, path.parent)) as again:
            await again.until(lambda: again.context.is_ready)
            assert again.actor.figures()["notes"] == 1
    assert len(threads) > 1 and threading.main_thread() not in threads


async def test_checks_that_exit_the_process_cost_only_the_edit(path: Path) -> None:
    def exits(storage: Readable) -> Snapshot:
        snapshot = load(storage)
        if snapshot.upstreams["api"].addrs[0].port == 2:
            raise SystemExit(3)
        return snapshot

    async with running(path, load=exits) as run:
        run.write(GOOD.format(port=2))
        await run.until(lambda: len(run.outcomes) == 2)
        assert "SystemExit" in run.outcomes[-1]["problems"][0]
        await run.take(lambda: run.write(GOOD.format(port=3)))


async def test_accept_says_when_an_old_generation_may_go(path: Path) -> None:
    async with running(path) as run:
        first = run.value["committed"]
        run.actor.receivers()[InUse](InUse(10, first))
        await run.take(lambda: run.write(GOOD.format(port=2)))
        assert run.value["oldest"] == first
        run.actor.receivers()[InUse](InUse(10, run.value["committed"]))
        assert run.value["oldest"] == run.value["committed"]
