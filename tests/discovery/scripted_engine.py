"""A Docker engine that does what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pingap.stages.discovery.containers.engine import EngineFailed
from pingap.stages.discovery.containers.listing import Container, DockerHost, Listing


class Host:
    """What runs, how often it was asked for, and how it fails."""

    def __init__(self) -> None:
        self.running: Listing = listing("one")
        self.failure: Exception | None = None
        self.lists = 0
        self.engines: list[ScriptedEngine] = []
        self.has_events = True
        self.gate = threading.Event()
        """Lists wait for it."""
        self.gate.set()
        self.listening: set[ScriptedEngine] = set()

    def make(self, docker_host: str) -> ScriptedEngine:
        self.engines.append(ScriptedEngine(self))
        return self.engines[-1]

    def event(self) -> None:
        for engine in list(self.listening):
            engine.heard()

    def end_events(self) -> None:
        for engine in list(self.listening):
            engine.is_over.set()


class ScriptedEngine:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.is_over = threading.Event()
        self.closed = 0
        self.heard: Callable[[], None] = lambda: None

    def interrupt(self) -> None:
        self.is_over.set()

    def close(self) -> None:
        self.closed += 1

    def listing(self) -> Listing:
        self.host.lists += 1
        self.host.gate.wait(5)
        if self.host.failure is not None:
            raise self.host.failure
        return self.host.running

    def follow(self, heard: Callable[[], None]) -> None:
        if not self.host.has_events:
            raise EngineFailed("no events here")
        self.heard = heard
        self.host.listening.add(self)
        heard()
        self.is_over.wait(10)
        self.host.listening.discard(self)


def listing(*names: str) -> Listing:
    return Listing(tuple(Container(name) for name in names), DockerHost())
