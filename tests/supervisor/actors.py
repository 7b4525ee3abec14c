"""Actors that stand in for the stages: just enough behaviour for a supervisor to have something to supervise."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pingap.bus.actor import Actor
from pingap.bus.kinds import LOG
from pingap.config.model import Snapshot
from pingap.config.problems import ConfigRefused
from tests.kit.config import load, load_text


def load_plain(source: str | None, text: str | None) -> dict[str, Any]:
    """The configuration without plugins."""
    try:
        return {"snapshot": (load(source) if source is not None else load_text(text or "")).to_wire()}
    except ConfigRefused as refused:
        return {"problems": [[p.path, p.message, p.hint, p.source] for p in refused.problems], "is_out_of_reach": False}


class Plain(Actor):
    """Is ready, and that is all."""

    def begin_drain(self, reprieve: float) -> None:
        self.context.log("info", f"{self.context.stage}.{self.context.replica} drains")


class CannotBoot(Actor):
    async def start(self) -> None:
        raise OSError("no such disk")


class CannotBeMade(Actor):
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        raise ValueError("made of nothing")


class NeverReady(Actor):
    async def start(self) -> None:
        pass


class Accept(Actor):
    """A line in, a line out: `who` its pid, `hold` nothing until `done`, `crew` the actors of its worker."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._servers: list[asyncio.Server] = []
        self._held = 0
        self._lines = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        for listener in self.context.settings["listeners"]:
            sock = socket.socket(fileno=listener["fd"])
            self._servers.append(await asyncio.start_server(self._serve, sock=sock))
        self.context.ready()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        held = False
        while line := (await reader.readline()).decode().strip():
            self._lines += 1
            if line == "hold":
                self._held, held = self._held + 1, True
            elif line == "done":
                self._held, held = self._held - 1, False
                writer.write(b"done\n")
            elif line == "crew":
                writer.write(f"{sorted(self.context.settings['crew'])}\n".encode())
            else:
                writer.write(f"{os.getpid()}\n".encode())
        self._held -= held
        self._writers.discard(writer)
        writer.close()

    def figures(self) -> dict[str, float]:
        return {"in_flight": self._held, "requests": self._lines}

    def begin_drain(self, reprieve: float) -> None:
        for server in self._servers:
            server.close()

    def held(self) -> int:
        return self._held

    async def stop(self) -> None:
        for writer in list(self._writers):
            writer.close()


class Logging(Actor):
    """Writes the messages of the log to a file, and hears of `reopen`."""

    def receivers(self) -> dict[type, Callable[[Any], None]]:
        return {tuple: self._log}

    def receive_batch(self) -> Callable[[bytes, list[Any]], None]:
        def came(raw: bytes, envelopes: list[Any]) -> None:
            for envelope in envelopes:
                if envelope[0] == LOG:
                    self._log(envelope)

        return came

    def _log(self, record: Any) -> None:
        self._write(f"{record[3]}: {record[5]}")

    def _write(self, text: str) -> None:
        with open(self.context.settings["log"], "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def told(self, word: str, args: Any) -> None:
        self._write(f"told {word}")


class Config(Actor):
    """Reads the file again when told, and reports it as config does, without asking anybody."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._number = 0

    async def start(self) -> None:
        self._report(0)
        self.context.ready()

    def _report(self, asked: int) -> None:
        plain = load_plain(self.context.settings["source"], self.context.settings["text"])
        problems = [f"{path}: {message}" for path, message, *_ in plain.get("problems", ())]
        basic = Snapshot.from_wire(plain.get("snapshot", {})).basic
        timings = basic.graceful_shutdown_timeout, basic.grace_period
        self._number += not problems
        outcome = {"number": self._number, "problems": problems, "notes": [], "asked": asked, "timings": timings}
        self.context.report("generation", outcome)

    def told(self, word: str, args: Any) -> None:
        if word == "reload":
            self._report(args[0])


def never_loads(source: str | None, text: str | None) -> dict[str, Any]:
    Path("/nonexistent/file").read_text()
    return {}
