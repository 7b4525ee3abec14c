"""Consumers attached to a running instance: a publisher stands in for its logging stage."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap import events, tail
from pingap.bus.kinds import COUNT, NOTICE
from pingap.bus.link import Link
from pingap.bus.sockets import Publisher
from pingap.observability.notices import CATEGORIES
from pingap.rundir import RunDir
from tests.observability.samples import access, log

ROOT = Path(__file__).parents[2]


class Instance:
    """A run dir that is held, and an events socket that publishes what it is told to when a topic is subscribed to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.held = RunDir(path)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.replies: list[tuple[str, list[tuple[str, list[Any]]]]] = []
        self.link: Link | None = None
        self.call(self._open)

    def call(self, function: Callable[[], None]) -> None:
        async def within() -> None:
            function()

        asyncio.run_coroutine_threadsafe(within(), self.loop).result(5)

    def on(self, topic: str, *messages: tuple[str, list[Any]]) -> None:
        """What happens when a topic that begins so is subscribed to: messages, each a topic ("" is the one subscribed to)
        and its envelopes; "END" is the end of the instance."""
        self.replies.append((topic, list(messages)))

    def _open(self) -> None:
        self.link = Link(self.loop)
        publisher: list[Publisher] = []

        def subscribed(message: bytes) -> None:
            topic = message[1:].decode()
            for beginning, messages in self.replies:
                if message[0] and topic.startswith(beginning):
                    for name, envelopes in messages:
                        if name == "END":
                            self.end()
                        else:
                            publisher[0].send((name or topic).encode(), *envelopes)

        publisher.append(self.link.publisher(f"ipc://{self.path}/current/events.pub", subscribed))

    def _close(self) -> None:
        if self.link is not None:
            self.link.close()

    def restart_logging(self) -> None:
        self.call(self._close)
        self.call(self._open)

    def end(self) -> None:
        self.held.release()

    def close(self) -> None:
        self.call(self._close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    path = f"/tmp/pingap-test-{os.getpid()}-{tmp_path.name[-20:]}"
    made = Instance(path)
    yield made
    made.close()
    made.end() if os.path.exists(os.path.join(path, "pid")) else None
    os.rmdir(path)


# -- streams -------------------------------------------------------------------


def test_a_consumer_gets_typed_events(instance: Instance) -> None:
    count = (COUNT, "accept", 0, [["refused", {"why": "cap"}, 2]], {"in_flight": 1})
    instance.on("count", ("access", [access()]), ("log", [log(addr="x")]), ("count", [count]))
    stream = events.stream(instance.path, ("access", "log", "count"))
    request, record, counted = next(stream), next(stream), next(stream)
    stream.close()
    assert isinstance(request, events.AccessEvent)
    assert (request.method, request.host, request.path, request.query) == ("GET", "example.com:6188", "/users", "id=3&x=%20y")
    assert (request.status, request.remote, request.version, round(request.duration, 4)) == (200, "192.0.2.7:50123", "1.1", 0.0255)
    assert request.timings["backend"] == pytest.approx(0.010)
    assert ("user-agent", "curl/8.0") in request.request_headers
    assert record == events.LogEvent(1_782_900_000.5, "info", "accept", 0, "listening", {"addr": "x"})
    assert counted == events.CountEvent("accept", 0, (("refused", {"why": "cap"}, 2),), {"in_flight": 1})


def test_the_address_of_an_ipv6_client_is_in_brackets(instance: Instance) -> None:
    peer = ("2001:db8::7", 50123, "::1", 6188, "http", 12)
    instance.on("access", ("access", [access(peer=peer, addr="[fe80::1%eth0]:80")]))
    stream = events.stream(instance.path)
    request = next(stream)
    stream.close()
    assert isinstance(request, events.AccessEvent) and request.remote == "[2001:db8::7]:50123"


async def test_the_same_stream_can_be_had_in_asynchronous_code(instance: Instance) -> None:
    instance.on("access", ("access", [access(status=404), access()]))
    stream = events.astream(instance.path)
    first, second = await anext(stream), await anext(stream)
    assert isinstance(first, events.AccessEvent) and isinstance(second, events.AccessEvent)
    assert (first.status, second.status) == (404, 200)
    await stream.aclose()


async def test_the_blocking_stream_refuses_to_block_a_loop(instance: Instance) -> None:
    with pytest.raises(TypeError, match="astream"):
        events.stream(instance.path)


def test_a_stream_goes_on_when_the_logging_stage_is_restarted(instance: Instance) -> None:
    instance.on("access", ("access", [access()]))
    stream = events.stream(instance.path)
    next(stream)
    instance.restart_logging()
    assert isinstance(next(stream), events.AccessEvent)
    stream.close()


def test_a_stream_ends_when_pingap_stops(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK", 0.05)
    instance.on("access", ("access", [access()]))
    stream = events.stream(instance.path)
    next(stream)
    instance.end()
    assert list(stream) == []


def test_without_a_running_instance_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(events.NotRunning, match="no pingap is running in"):
        events.stream(str(tmp_path))


def test_an_unknown_topic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown topic 'acces'; one of: access, log, count"):
        events.stream(str(tmp_path), ("acces",))


@pytest.mark.processes
def test_the_example_prints_slow_requests(instance: Instance) -> None:
    instance.on("access", ("access", [access(), access(ended=1002.0, target=b"/slow")]))
    with _run([str(ROOT / "examples/events/slow.py")], instance) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    assert line.startswith("200 GET example.com:6188/slow accept=1ms ")
    assert "total=2000ms" in line


def _run(arguments: list[str], instance: Instance) -> subprocess.Popen[str]:
    env = os.environ | {"PINGAP_RUN_DIR": instance.path, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
    return subprocess.Popen([sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# -- pingap logs -----------------------------------------------------------------


def test_logs_prints_the_recent_records_and_ends(instance: Instance) -> None:
    instance.on("recent.", ("", [log("one"), log("hidden", "debug"), log("two", "error")]))
    out = io.StringIO()
    assert tail.logs(instance.path, follow=False, as_json=False, out=out) == 0
    assert [line.split(" ", 1)[1] for line in out.getvalue().splitlines()] == ["INFO  accept.0 one", "ERROR accept.0 two"]


def test_logs_can_be_json(instance: Instance) -> None:
    instance.on("recent.", ("", [log("one")]))
    out = io.StringIO()
    tail.logs(instance.path, follow=False, as_json=True, out=out)
    assert '"message": "one"' in out.getvalue()


def test_logs_says_when_the_logging_stage_does_not_answer(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tail, "DEADLINE", 0.1)
    assert tail.logs(instance.path, follow=False, as_json=False) == 1
    assert "did not answer" in capsys.readouterr().err


def test_following_logs_shows_each_record_once(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK", 0.05)
    recent = ("", [log("one", at=1.0), log("two", at=2.0)])
    instance.on("recent.", ("log", [log("two", at=2.0)]), recent, ("log", [log("three", at=3.0)]), recent, ("log", [log("end", at=4.0)]))
    out = _Ending(instance, "end")
    assert tail.logs(instance.path, follow=True, as_json=False, out=out) == 0
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == ["one", "two", "three", "end"]


@pytest.mark.parametrize("as_json", [False, True])
def test_following_logs_shows_requests_too(instance: Instance, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setattr(events, "LOOK", 0.05)
    instance.on("recent.", ("", []), ("access", [access(), access(target=b"/end")]))
    out = _Ending(instance, "/end")
    tail.logs(instance.path, follow=True, as_json=as_json, out=out)
    line = out.getvalue().splitlines()[0]
    if as_json:
        shown = json.loads(line)
        assert (shown["uri"], shown["status"], shown["timings"]["total"]) == ("/users?id=3&x=%20y", 200, 0.0255)
    else:
        assert line.endswith(' ACCESS example.com 192.0.2.7 "GET /users?id=3&x=%20y HTTP/1.1" 200 2.5KB 25ms')


class _Ending(io.StringIO):
    """Stops the instance when a word is written."""

    def __init__(self, instance: Instance, word: str) -> None:
        super().__init__()
        self._instance, self._word = instance, word

    def write(self, text: str) -> int:
        if self._word in text:
            self._instance.end()
        return super().write(text)


# -- pingap tap --------------------------------------------------------------------


def wanted(status: str | None = None, **filters: Any) -> tail.Requests:
    return tail.Requests(has_status=tail.status_filter(status), **filters)


def tapped(instance: Instance, monkeypatch: pytest.MonkeyPatch, *requests: Any, **filters: str) -> list[str]:
    monkeypatch.setattr(events, "LOOK", 0.05)
    last = access(host=b"example.com", target=b"/last", status=500)
    instance.on("access", ("access", [*requests, last]))
    out = _Ending(instance, "/last")
    assert tail.tap(instance.path, wanted(**filters), out=out) == 0
    return out.getvalue().splitlines()[:-1]


def test_tap_shows_where_the_time_of_a_request_went(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    [line] = tapped(instance, monkeypatch, access())
    assert line == (
        "10:00:00.250 200 GET     example.com:6188/users?id=3&x=%20y  25.5ms  accept 1.0  routing 1.0  plugins 2.0"
        "  upstream 2.0  backend 10.0  bus 2.0  respond 2.0  body 5.5  → 10.0.0.1:8080"
    )


def test_tap_tells_retries_and_errors_and_lets_no_client_draw_on_the_terminal(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = tapped(instance, monkeypatch, access(tries=2, error="gateway_timeout", target=b"/\x1b[2J", status=504))
    assert line.endswith("→ 10.0.0.1:8080 (2 tries)  gateway_timeout")
    assert line.isprintable()


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ({}, "abc"),
        ({"host": "EXAMPLE.com"}, "ab"),
        ({"host": "*.example.com"}, "c"),
        ({"path": "/a"}, "a"),
        ({"status": "404"}, "b"),
        ({"status": "2xx,5XX"}, "ac"),
    ],
)
def test_tap_filters_by_host_path_and_status(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, filters: dict[str, str], shown: str
) -> None:
    monkeypatch.setattr(tail, "request_line", lambda access: [(access.target.decode(), "")])
    requests = [access(target=b"/a"), access(target=b"/b", status=404), access(target=b"/c", host=b"www.example.com")]
    monkeypatch.setattr(events, "LOOK", 0.3)
    instance.on("access", ("access", requests), ("END", []))
    out = io.StringIO()
    assert tail.tap(instance.path, wanted(**filters), out=out) == 0
    assert out.getvalue().split() == [f"/{letter}" for letter in shown]


def test_a_status_that_is_none_is_refused_before_anything_else() -> None:
    with pytest.raises(ValueError, match="'6xx' is no status"):
        tail.status_filter("404,6xx")


@pytest.mark.processes
def test_ctrl_c_ends_tap_with_0(instance: Instance) -> None:
    instance.on("access", ("access", [access()]))
    with _run(["-c", "import sys; from pingap import tail; sys.exit(tail.tap(None))"], instance) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "example.com" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        assert process.stderr.read() == ""


def test_ctrl_c_in_the_middle_of_a_wait_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.wait_for(interrupted(), 5)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        for item in events.blocking(source()):
            seen.append(item)
    gc.collect()
    assert seen == [1]
    assert [record.getMessage() for record in caplog.records] == []


def test_a_terminal_gets_colours(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    instance.on("recent.", ("", [log("bad", "error")]))
    out = Terminal()
    tail.logs(instance.path, follow=False, as_json=False, out=out)
    assert "\x1b[1;31m" in out.getvalue()


def test_a_notice_is_an_event() -> None:
    record = (NOTICE, 1_782_900_000.5, "info", "config", 0, "reload_config", "taken", {"generation": 5})
    event = events.event_of(record)
    assert event == events.NoticeEvent(1_782_900_000.5, "info", "config", 0, "reload_config", "taken", {"generation": 5})


def test_the_manual_lists_every_category_of_notices() -> None:
    manual = (Path(__file__).parents[2] / "docs/observability.md").read_text()
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", manual.partition("### Notices")[2])) == set(CATEGORIES)
