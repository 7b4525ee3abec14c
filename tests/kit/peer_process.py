"""A program of the system that tests talk to: started until it answers, stopped in the end, and started again as often as one likes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.kit.peers import needs
from tests.kit.waiting import until


class PeerProcess:
    """A context manager: it runs in there, or skips without the program."""

    program = ""
    package = ""
    """Of Debian, that has it."""
    patience = 10.0
    """Seconds until it answers."""

    def __init__(self, log: Path) -> None:
        """log: gets what it prints."""
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Besides ours."""
        return {}

    def answers(self) -> bool:
        """Whether it is to be talked to by now."""
        raise NotImplementedError

    def need(self) -> None:
        """Skips without what it takes."""
        needs(self.program, self.package)

    def __enter__(self) -> Self:
        self.need()
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.environment()}
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def wait(self) -> None:
        until(self._is_up, self.patience, f"{self.program} answers; its log is {self.log}", every=0.01)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """At once, as a kill does, also of one that was stopped by a signal."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)

    def _is_up(self) -> bool:
        assert self._process is None or self._process.poll() is None, self.log.read_text()[-2000:]
        return self.answers()
