"""Scripts for the fleet: `play.at(3) >> event << commands`, each command a short line of text."""

from __future__ import annotations

from collections.abc import Callable

from pingap.plan import Fleet
from pingap.plan_words import (
    Announce,
    Answer,
    BecameReady,
    Began,
    CloseListeners,
    Command,
    Drain,
    Event,
    Finish,
    Fork,
    Forked,
    Kill,
    KillSpawner,
    Retire,
    Role,
    Say,
    Stop,
    TellReady,
    TimePassed,
    Timings,
)

ACCEPT = Role("accept", ("accept",), 1, True, ("accept",), 0)
UPSTREAM = Role("upstream", ("upstream",), 1, True, ("upstream",), 1)
CONFIG = Role("config", ("config",))
LOGGING = Role("logging", ("logging",), drained=("logging",), leaves=2)
WORKER = Role("worker", ("accept", "routing", "plugins", "upstream"), 1, True, ("accept",), 0)


class Play:
    """A fleet with its clock. Announcements and log lines count only where a script expects some of their kind."""

    def __init__(self, *roles: Role, fast: float = 5, graceful: float = 300, too_many: Callable[[int], str] = lambda actors: "") -> None:
        timings = Timings(fast, graceful)
        self.fleet = Fleet(roles, lambda stage, replica, actor: f"{stage}.{replica}.{actor}", timings, too_many)
        self.now = 1000.0
        self.lines: list[str] = []

    def at(self, seconds: float) -> Play:
        """Moves the clock to so many seconds after the beginning."""
        self.now = 1000.0 + seconds
        return self

    def __rshift__(self, event: Event) -> Play:
        self.lines = [line(command) for command in self.fleet.handle(event, self.now)]
        return self

    def __lshift__(self, wanted: list[str]) -> Play:
        for kind in ("announce", "say"):
            if not any(text.startswith(kind) for text in wanted):
                self.lines = [text for text in self.lines if not text.startswith(kind)]
        assert self.lines == wanted
        return self

    def up(self) -> Play:
        """Everything is forked and ready: the process with key k has pid 100 + k."""
        self >> Began()
        for key, process in list(self.fleet.processes.items()):
            self >> Forked(key, 100 + key) >> BecameReady(process.ids)
        assert self.fleet.is_up
        return self

    def quiet(self, until: float, step: float = 0.5) -> list[str]:
        """Lets time pass, everybody alive; what was done meanwhile."""
        done: list[str] = []
        while self.now < 1000 + until:
            self.now = min(self.now + step, 1000 + until)
            for process in self.fleet.processes.values():
                process.heard = self.now
            self >> TimePassed()
            done += self.lines
        return done


def line(command: Command) -> str:
    match command:
        case Fork(key, role, replica, ids):
            return f"fork {role.name}.{replica} as {key}" + (f"-{ids[-1]}" if len(ids) > 1 else "")
        case Announce(rows=rows):
            return "announce " + " ".join(f"{stage}.{replica}#{actor}={state}" for actor, stage, replica, _, state in rows)
        case Drain(key, ids, seconds, _):
            return f"drain {key} ({', '.join(map(str, ids))}) for {seconds:g}"
        case Retire(role, replica):
            return f"retire {role}.{replica}"
        case Stop(key):
            return f"stop {key}"
        case Kill(key):
            return f"kill {key}"
        case Say(level, message):
            return f"say {level}: {message}"
        case Answer(ticket, ok, value):
            return f"answer {ticket} {'yes' if ok else 'no'}: {value}"
        case Finish(code, reason):
            return f"finish {code}" + (f": {reason}" if reason else "")
        case TellReady():
            return "ready"
        case CloseListeners():
            return "close listeners"
        case KillSpawner():
            return "kill spawner"
