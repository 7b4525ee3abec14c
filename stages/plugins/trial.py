"""Runs the code of a plugin in a process of its own, so that nobody who checks a configuration runs it.

Checking a plugin means importing it, and what is imported may do anything: leave the process, crash it, or never
end, now or only the second time. Here it costs a child with a deadline, and is a problem of the configuration like any
other. What the child found out is all that is known of the plugin until the plugins stage starts it.

A process with one thread (`pingap check`, the loader of `pingap up`) forks itself, which takes some milliseconds. One
with several (the config stage, which is ZeroMQ's too) must not: it starts a Python, about 0.3 s. What has passed once
is not tried again, by the processes that the loader has told of it either.
"""

from __future__ import annotations

import faulthandler
import hashlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pingap.config.model import Code, CodeModule
from pingap.config.problems import Note, Problem, path_of

PATIENCE: Final = 10.0
"""Seconds until a trial is killed. Code that signals reach is stopped sooner, and with its line (guard.py)."""

REMEMBERED: Final = 1024

_START: Final = "import sys; sys.path[:] = {path!r}; from pingap.stages.plugins.trial import child; child({order}, {answer})"

Said = dict[str, Any]
"""A `Tried` as it travels: each problem and note a list of path, message, hint and source."""

_passed: Final[dict[str, Said]] = {}
"""What was tried → what was said of it."""


class Tried(NamedTuple):
    """What a trial has shown."""

    problems: list[Problem]
    plan: int
    """Itinerary flags that the plugin asks for; 0 when it has problems."""
    notes: tuple[Note, ...] = ()
    upstreams: tuple[tuple[str, str], ...] = ()
    """(key, name) of those that its settings name."""


def passed() -> dict[str, Said]:
    """What has passed here, for `know` in another process of the same pingap."""
    return dict(_passed)


def know(passed: dict[str, Said]) -> None:
    """Takes another process's word for what has passed there."""
    _passed.update(passed)


def try_out(judge: str, name: str, section: dict[str, Any], code: Code) -> Tried:
    """Tries the plugin `name` in a child.

    judge: `module:function`, what the child asks, of (name, section, code): a Tried. section: [plugins.NAME].
    """
    path = code.path
    asked = {"judge": judge, "name": name, "section": section, "code": _plain(code), "patience": PATIENCE}
    order = json.dumps(asked)
    key = hashlib.sha256(order.encode()).hexdigest()
    if (known := _passed.get(key)) is not None:
        return _tried(known)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        start = _forked if threading.active_count() == 1 else _started
        pid, reap = start(order, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    said, status = _await(pid, reading, reap)
    if said is None:
        how = f"takes longer than {PATIENCE:g} s" if status is None else f"ends the process that does it ({_how(status)})"
        hint = "a plugin is loaded into processes of pingap and must leave them alive"
        return Tried([Problem(_key_path(name, section), f"{path}: importing it {how}", hint)], 0)
    if not said["problems"]:
        _passed[key] = said
        while len(_passed) > REMEMBERED:
            del _passed[next(iter(_passed))]
    return _tried(said)


def _tried(said: Said) -> Tried:
    problems, notes = [Problem(*row) for row in said["problems"]], tuple(Note(*row) for row in said["notes"])
    return Tried(problems, said["plan"], notes, tuple((key, name) for key, name in said["upstreams"]))


def _plain(code: Code) -> list[Any]:
    """As JSON has it: bytes are text of as many characters."""
    modules = [[one.name, one.path, one.text.decode("latin-1")] for one in code.modules]
    return [code.path, code.text.decode("latin-1"), code.name, code.root, modules]


def _revived(plain: list[Any]) -> Code:
    path, text, name, root, modules = plain
    own = tuple(CodeModule(name, path, text.encode("latin-1")) for name, path, text in modules)
    return Code(path, text.encode("latin-1"), name, root, own)


def _key_path(name: str, section: dict[str, Any]) -> str:
    return path_of(
        "plugins", name, next((key for key in ("path", "module") if key in section and section.get("category") == "python"), "category")
    )


def _forked(order: str, answer: int) -> tuple[int, Callable[[], int]]:
    pid = os.fork()
    if pid == 0:
        try:
            _judge(order, answer)
        finally:
            os._exit(1)
    return pid, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _started(order: str, answer: int) -> tuple[int, Callable[[], int]]:
    given = os.memfd_create("plugin")
    try:
        os.write(given, order.encode())
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START.format(path=sys.path, order=given, answer=answer)],
            pass_fds=(given, answer),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        os.close(given)
    return process.pid, process.wait


def child(given: int, answer: int) -> None:
    """In the Python that `_started` starts: reads the order and answers."""
    with os.fdopen(given, "rb") as file:
        file.seek(0)
        order = file.read().decode()
    os.set_inheritable(answer, False)
    try:
        _judge(order, answer)
    finally:
        os._exit(1)


def _judge(order: str, answer: int) -> None:
    """Imports and makes the plugin, tells what is wrong with it, and ends the process."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    asked = json.loads(order)
    # Whoever waits kills it sooner. But should they die, nobody would.
    faulthandler.dump_traceback_later(asked["patience"] + 1, exit=True, file=nowhere)
    name, section = asked["name"], asked["section"]
    code = _revived(asked["code"])
    try:
        module, _, function = asked["judge"].partition(":")
        tried: Tried = getattr(importlib.import_module(module), function)(name, section, code)
    except BaseException as error:  # what is no Exception passes through all that catches
        text = f"{code.path}: importing it raises {type(error).__name__}" + (f": {error}" if str(error) else "")
        tried = Tried([Problem(_key_path(name, section), text)], 0)
    fields: Said = {"problems": _rows(tried.problems), "plan": tried.plan, "notes": _rows(tried.notes), "upstreams": tried.upstreams}
    said = json.dumps(fields).encode() + b"\n"
    while said:
        said = said[os.write(answer, said) :]
    os._exit(0)


def _rows(found: Iterable[Problem | Note]) -> list[list[str]]:
    return [[one.path, one.message, one.hint, one.source] for one in found]


def _await(pid: int, reading: int, reap: Callable[[], int]) -> tuple[Said | None, int | None]:
    """(what the child said, its exit status); None for the first when it said nothing, for the second when its time was up."""
    handle = os.pidfd_open(pid)
    poll = select.poll()  # select.select takes no descriptor above 1023
    poll.register(reading, select.POLLIN)
    poll.register(handle, select.POLLIN)
    said = b""
    until = time.monotonic() + PATIENCE
    is_late = False
    try:
        os.set_blocking(reading, False)
        while not said.endswith(b"\n"):
            ready = {fd for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000)}
            if not ready:
                is_late = True
                break
            with suppress(BlockingIOError):
                while piece := os.read(reading, 65536):
                    said += piece
            if handle in ready:  # whoever else holds the pipe: all that it said is there
                break
    finally:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # and what it has started
        with suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        status = reap()
        os.close(handle)
        os.close(reading)
    if said.endswith(b"\n"):
        return json.loads(said), status
    return None, None if is_late else status


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
