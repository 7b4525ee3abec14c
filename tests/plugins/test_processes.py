"""Jobs in other processes: their outcome comes back, and whatever becomes of a process costs its job alone."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pingap.stages.plugins.exchange import Overloaded
from pingap.stages.plugins.processes import JobFailed, JobProcesses
from pingap.stages.plugins.work import work
from tests.kit.context import FakeContext

pytestmark = pytest.mark.processes


class Forks(FakeContext):
    """Starts a process whenever one is asked for, as the spawner would fork it."""

    def __init__(self) -> None:
        super().__init__("plugins", 3)
        self.started: list[subprocess.Popen[bytes]] = []

    def report(self, word: str, value: Any) -> None:
        assert word == "workers"
        code = "import sys; from pingap.stages.plugins.work import work; sys.exit(work(sys.argv[1]))"
        self.started.append(subprocess.Popen([sys.executable, "-c", code, value]))


@pytest.fixture
async def context() -> AsyncIterator[Forks]:
    made = Forks()
    yield made
    for process in made.started:
        assert process.wait(20) is not None


@pytest.fixture
async def jobs(context: Forks) -> AsyncIterator[JobProcesses]:
    processes = JobProcesses(context, 1)
    yield processes
    await processes.stop()


async def test_a_function_runs_in_another_process_which_stays_for_the_next(context: Forks, jobs: JobProcesses) -> None:
    assert await jobs.run(math.factorial, 20, timeout=20) == math.factorial(20)
    first, second = await asyncio.gather(jobs.run(os.getpid, timeout=20), jobs.run(os.getpid, timeout=20))
    assert first == second == context.started[0].pid != os.getpid()
    assert len(context.started) == 1


async def test_what_it_raises_comes_back(jobs: JobProcesses) -> None:
    with pytest.raises(ValueError, match="factorial"):
        await jobs.run(math.factorial, -1, timeout=20)
    with pytest.raises(Exception, match="SystemExit"):
        await jobs.run(sys.exit, 3, timeout=20)
    with pytest.raises(RuntimeError, match="cannot be sent"):
        await jobs.run(open, os.devnull, timeout=20)
    assert await jobs.run(math.factorial, 3, timeout=20) == 6


async def test_one_that_dies_fails_its_job_and_is_replaced(context: Forks, jobs: JobProcesses) -> None:
    dies, lives = jobs.run(os._exit, 3, timeout=20), jobs.run(math.factorial, 3, timeout=20)
    with pytest.raises(JobFailed, match="died"):
        await dies
    assert await lives == 6
    assert len(context.started) == 2


async def test_one_that_dies_while_it_waits_costs_no_job(context: Forks, jobs: JobProcesses) -> None:
    await jobs.run(os.getpid, timeout=20)
    context.started[0].kill()
    context.started[0].wait()
    assert await jobs.run(math.factorial, 3, timeout=20) == 6


async def test_a_job_that_has_had_its_time_is_killed(context: Forks, jobs: JobProcesses) -> None:
    await jobs.run(os.getpid, timeout=20)
    with pytest.raises(JobFailed, match="longer than"):
        await jobs.run(time.sleep, 3600, timeout=0.05)
    assert context.started[0].wait(20) == -9
    assert await jobs.run(math.factorial, 3, timeout=20) == 6


async def test_no_more_wait_than_there_is_hope_for(jobs: JobProcesses) -> None:
    waiting = [jobs.run(os.getpid, timeout=20) for _ in range(17)]
    with pytest.raises(Overloaded, match="16 jobs wait for the 1"):
        jobs.run(os.getpid, timeout=20)
    await asyncio.gather(*waiting)
    await jobs.run(os.getpid, timeout=20)


async def test_none_waits_longer_than_its_time() -> None:
    context = FakeContext("plugins", 3)
    processes = JobProcesses(context, 1)
    with pytest.raises(Overloaded, match="no process was free"):
        await processes.run(os.getpid, timeout=0.01)
    assert [word for word, _ in context.reported] == ["workers"]
    await processes.stop()


async def test_what_another_process_cannot_import_is_refused(jobs: JobProcesses) -> None:
    def local() -> None: ...

    for call in (local, lambda: None, math.factorial(3), asyncio.Event().set):
        with pytest.raises(ValueError, match="cannot import"):
            jobs.run(call, timeout=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        jobs.run(os.getpid, timeout=0)
    with pytest.raises(Exception, match="pickle"):
        jobs.run(math.factorial, local, timeout=1)


async def test_at_the_end_nobody_is_left(context: Forks) -> None:
    processes = JobProcesses(context, 2)
    await asyncio.gather(processes.run(os.getpid, timeout=20), processes.run(os.getpid, timeout=20))
    at_work = processes.run(time.sleep, 3600, timeout=3600)
    await asyncio.sleep(0)
    await processes.stop()
    with pytest.raises(JobFailed):
        await at_work
    for process in context.started:
        process.wait(20)


def test_without_anybody_who_wants_it_a_process_goes() -> None:
    assert work("pingap-nobody") == 0
