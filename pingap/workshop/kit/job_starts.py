"""The processes of `host.in_process` in a test: started here, where the spawner of a running pingap would fork them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any, Final

from pingap.stages.plugins.processes import WANTED

_CODE: Final = "import sys; from pingap.stages.plugins.work import work; sys.exit(work(sys.argv[1]))"


class JobStarts:
    """Takes what a stage reports to its supervisor."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def report(self, word: str, value: Any) -> None:
        """Starts a process, if this asks for one."""
        if word == WANTED:
            self._started.append(subprocess.Popen([sys.executable, "-c", _CODE, value], stdin=subprocess.DEVNULL))

    async def end(self) -> None:
        """The stage has ended, and they with it."""
        for process in self._started:
            process.kill()  # one that has not come yet would find nobody
            await asyncio.to_thread(process.wait)
        self._started.clear()
