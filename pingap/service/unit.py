"""What the supervisor says to its service manager, and when: `systemd.Service` has the words, `vitals.Vitals` says what is alive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pingap.plan_words import Role
from pingap.service.systemd import Service
from pingap.service.vitals import PATIENCE, Running, Vitals

RELOAD: Final = 30.0
"""Seconds after which a reload without an outcome counts as ended: the manager would take its unit for hanging."""


class Unit:
    """One `pingap up` as a unit."""

    def __init__(self, service: Service, roles: Iterable[Role], log: Callable[[str, str], None]) -> None:
        """log: level and text, for the application log."""
        self._service = service
        self._vitals = Vitals(roles)
        self._log = log
        self._serves = ""
        self._reload_until: float | None = None
        self._lost: list[str] = []

    def ready(self, urls: list[str]) -> None:
        """Every process serves."""
        self._serves = f"serves {', '.join(urls)}"
        self._service.ready(self._serves)
        if self._service.problem:
            self._log("warn", self._service.problem)

    def reloading(self, now: float) -> None:
        """The manager, or somebody, asked by HUP for a reload."""
        if self._serves:
            self._reload_until = now + RELOAD
            self._service.reloading()

    def reloaded(self, outcome: dict[str, Any]) -> None:
        """What came of reading the configuration: of ours, if somebody had asked."""
        if self._reload_until is not None and outcome.get("word", "reload") == "reload" and outcome.get("asked", 0):
            self._end_reload("; its last configuration was refused, see its log" if outcome.get("problems") else "")

    def _end_reload(self, more: str) -> None:
        self._reload_until = None
        self._service.ready(self._serves + more)

    def over(self) -> None:
        """Another process is the unit from now on."""
        self._serves = ""
        self._service.close()

    def stopping(self, is_restart: bool) -> None:
        """A restart is no stop: the process stays. What leaves on purpose is not missed from now on."""
        self._serves = ""
        if is_restart:
            self._service.status("restarts: finishes what is in flight")
        else:
            self._service.stopping()

    def beat(self, processes: Iterable[Running], now: float) -> None:
        """With each turn of the supervisor's loop."""
        if self._reload_until is not None and now >= self._reload_until:
            self._end_reload(f"; a reload had no outcome within {RELOAD:g} s")
        lost = self._vitals.lost(processes, now) if self._serves else []
        if lost != self._lost:
            self._lost = lost
            if lost and self._service.every:
                names = ", ".join(lost)
                self._log("error", f"the watchdog hears nothing more: no {names} has been ready for {PATIENCE:g} s")
        self._service.beat(now, not lost)
