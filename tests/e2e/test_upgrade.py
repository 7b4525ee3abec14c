"""One instance takes over from another, and no client notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pingap.rundir import supervisor_of
from tests.e2e.client import get
from tests.e2e.harness import COMMAND, Pingap, site
from tests.e2e.http2_load import Http2Load
from tests.e2e.load import Load
from tests.e2e.origins import Nginx
from tests.e2e.ws_origin import WsOrigin
from tests.kit.waiting import free_port, is_alive, until

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def ws_origin() -> Iterator[WsOrigin]:
    server = WsOrigin()
    yield server
    server.stop()


def configuration(nginx: Nginx, ws: WsOrigin, basic: str = "", server: str = "") -> str:
    more = f"""
[locations.ws]
path = "/ws"
upstream = "ws"
[upstreams.ws]
addrs = ["127.0.0.1:{ws.port}"]
"""
    return site([nginx.port], basic=basic, server=f"enabled_h2 = true\n{server}", locations='["all", "ws"]', more=more)


def serving(proxy: Pingap) -> int:
    """Process id of the supervisor that serves."""
    return supervisor_of(str(proxy.run_dir)) or 0


def launched(proxy: Pingap) -> None:
    """Starts it anew."""
    said = len(proxy.output())
    proxy.launch()
    proxy.wait_output(r"(?m)^ready in .*$", 15, after=said)


def upgraded(proxy: Pingap) -> int:
    """Upgrades; the process id of the new supervisor."""
    before = serving(proxy)
    done = proxy.command("upgrade", timeout=60)
    assert done.returncode == 0, done.stderr
    now = serving(proxy)
    assert now != before and f"pid {now} serves" in done.stdout
    return now


async def echoes(socket: ClientConnection) -> bool:
    await socket.send("still there?")
    return await asyncio.wait_for(socket.recv(), 10) == "still there?"


@pytest.mark.parametrize(("placement", "server"), [("split", ""), ("colocated", "reuse_port = true")])
async def test_ten_upgrades_under_load_lose_nothing(nginx: Nginx, ws_origin: WsOrigin, placement: str, server: str) -> None:
    with Pingap(configuration(nginx, ws_origin, server=server), placement) as proxy:
        async with AsyncExitStack() as stack:
            sockets = []
            kept, fresh = Load(proxy.port, connections=10), Load(proxy.port, connections=4, fields="Connection: close\r\n")
            streams = Http2Load(proxy.port)
            with kept, fresh, streams:
                for turn in range(10):
                    url = f"ws://127.0.0.1:{proxy.port}/ws/{turn}/echo"
                    sockets.append(await stack.enter_async_context(connect(url, proxy=None, ping_interval=None)))
                    await asyncio.to_thread(upgraded, proxy)
                    await asyncio.to_thread(kept.advance, 100)
                    await asyncio.to_thread(fresh.advance, 40)
            for tally in (kept.tally, fresh.tally):
                assert set(tally.statuses) == {200}, tally
                assert tally.dropped == tally.refused == tally.hung == 0 and not tally.mixed_up, tally
            assert not streams.wrong and set(streams.statuses) == {200} and streams.moved >= 10
            print(f"keep-alive {kept.tally}\nnew connections {fresh.tally}\nHTTP/2 {dict(streams.statuses)}, {streams.moved} moved")
            for socket in sockets:
                assert await echoes(socket), "a tunnel lives on in the instance that began it"
        assert proxy.process is not None and proxy.process.poll() is None, "who waits for the process is not left alone"
        until(lambda: stand_ins(proxy) == [proxy.process.pid], 10, "the others have ended")  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def proxy(nginx: Nginx, ws_origin: WsOrigin) -> Iterator[Pingap]:
    with Pingap(configuration(nginx, ws_origin, basic='pid_file = "{dir}/pingap.pid"'), up=["--log", "app.log"]) as instance:
        yield instance


def test_all_that_names_the_instance_changes_hands_and_what_was_scaled_stays_so(proxy: Pingap) -> None:
    assert proxy.command("scale", "routing=2").returncode == 0
    upgraded(proxy)
    now = upgraded(proxy)
    assert len(proxy.replicas("routing")) == 2, "whatever the number of upgrades"
    assert proxy.command("scale", "routing=1").returncode == 0
    assert (proxy.run_dir / "pid").read_text() == (proxy.dir / "pingap.pid").read_text() == f"{now}\n"
    until(lambda: {row.state for row in proxy.ps()} == {"ready"}, 5, "all serve")
    second = proxy.command("up", "-c", str(proxy.config))
    assert second.returncode == 1 and f"already running in {proxy.run_dir} (pid {now})" in second.stderr
    assert proxy.command("reload").returncode == 0


def test_a_broken_configuration_leaves_the_old_one_serving(proxy: Pingap) -> None:
    before, text = serving(proxy), proxy.config.read_text()
    proxy.write_config(text + "\n[locations.all.nonsense]\n")
    done = proxy.command("upgrade", timeout=60)
    assert done.returncode == 1 and "locations.all.nonsense: unknown key" in done.stderr
    assert serving(proxy) == before and proxy.get("/echo/1").status == 200
    proxy.write_config(text)
    until(lambda: {row.state for row in proxy.ps()} == {"ready"}, 5, "nothing has happened")
    assert sorted(entry.name for entry in proxy.run_dir.iterdir() if entry.name.isdigit()) == [os.readlink(proxy.run_dir / "current")]
    upgraded(proxy)


def test_a_pid_file_moves(proxy: Pingap) -> None:
    text = proxy.config.read_text()
    proxy.write_config(text.replace("pingap.pid", "other.pid"))
    now = upgraded(proxy)
    assert (proxy.dir / "other.pid").read_text() == f"{now}\n" and not (proxy.dir / "pingap.pid").exists()
    proxy.write_config(text)
    now = upgraded(proxy)
    assert (proxy.dir / "pingap.pid").read_text() == f"{now}\n" and not (proxy.dir / "other.pid").exists()


async def test_who_drains_is_in_nobodys_way(proxy: Pingap) -> None:
    """A restart, and a stop and a new start, while an instance before still holds a tunnel."""
    async with connect(f"ws://127.0.0.1:{proxy.port}/ws/drains/echo", proxy=None, ping_interval=None) as socket:
        await asyncio.to_thread(upgraded, proxy)
        done = await asyncio.to_thread(proxy.command, "restart")
        assert done.returncode == 0, done.stderr
        assert proxy.get("/echo/1").status == 200
        assert await echoes(socket)
        with open(proxy.output_file, "ab") as output:
            os.kill(serving(proxy), signal.SIGKILL)
            await asyncio.to_thread(until, lambda: not serving(proxy), 5, "nobody holds the run dir")
            other = subprocess.Popen([COMMAND, *proxy.argv[1:]], env=proxy.env, cwd=proxy.dir, stdout=output, stderr=output)
        await asyncio.to_thread(until, lambda: proxy.command("ps", "--health").returncode == 0, 15, "a new one serves")
        assert serving(proxy) == other.pid
        other.terminate()
        assert await asyncio.to_thread(other.wait, 15) == 0
    await asyncio.to_thread(proxy.wait_stopped)
    launched(proxy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
async def test_a_stop_during_an_upgrade_stops_both(proxy: Pingap, number: signal.Signals) -> None:
    before, log = serving(proxy), proxy.dir / "app.log"
    seen = len(log.read_text())
    async with connect(f"ws://127.0.0.1:{proxy.port}/ws/{number}/echo", proxy=None, ping_interval=None) as socket:
        asked = subprocess.Popen(
            [COMMAND, "upgrade", "--run-dir", str(proxy.run_dir)], env=proxy.env, cwd=proxy.dir, stderr=subprocess.DEVNULL
        )
        started = "is started and will take over"
        await asyncio.to_thread(until, lambda: started in log.read_text()[seen:], 10, "the next one starts")
        os.kill(before, number)
        assert await asyncio.to_thread(asked.wait, 20) == 1
        again = await asyncio.to_thread(proxy.command, "upgrade")
        assert again.returncode == 1 and serving(proxy) in (0, before)
        await socket.close()
    assert await asyncio.to_thread(proxy.wait_stopped) == 0
    assert "handed over" not in log.read_text()[seen:]
    launched(proxy)


def test_an_instance_that_dies_while_it_starts_leaves_the_old_one_serving(proxy: Pingap) -> None:
    before = serving(proxy)
    asked = subprocess.Popen(
        [COMMAND, "upgrade", "--run-dir", str(proxy.run_dir)], env=proxy.env, cwd=proxy.dir, stderr=subprocess.PIPE, text=True
    )
    log = proxy.dir / "app.log"
    seen = len(log.read_text())
    line = until(lambda: [one for one in log.read_text()[seen:].splitlines() if "is started and will take over" in one], 10, "it starts")
    pid = int(line[0].partition("upgrade: pid ")[2].split()[0])
    os.kill(pid, signal.SIGKILL)
    assert "was killed by signal 9" in asked.communicate(timeout=20)[1] and asked.returncode == 1
    assert serving(proxy) == before and proxy.get("/echo/1").status == 200


def test_addresses_come_and_go(proxy: Pingap) -> None:
    text, other = proxy.config.read_text(), free_port()
    proxy.write_config(text.replace(f"127.0.0.1:{proxy.port}", f"127.0.0.1:{proxy.port}, 127.0.0.1:{other}"))
    upgraded(proxy)
    assert get(other, "/echo/1").status == proxy.get("/echo/1").status == 200
    proxy.write_config(text)
    upgraded(proxy)
    assert proxy.get("/echo/1").status == 200
    with pytest.raises(OSError):
        get(other, "/echo/1")


def test_by_hand_from_another_terminal(proxy: Pingap) -> None:
    """As after an installation beside the old one: `pingap -u` is itself what goes on."""
    before = serving(proxy)
    environment = {**proxy.env, "PINGAP_RUN_DIR": str(proxy.run_dir)}
    with open(proxy.output_file, "ab") as output:
        next_one = subprocess.Popen([COMMAND, "-u", "-c", str(proxy.config)], env=environment, cwd=proxy.dir, stdout=output, stderr=output)
    try:
        until(lambda: serving(proxy) == next_one.pid, 15, "it serves")
        until(lambda: not is_alive(before), 10, "the one before ends")
        assert proxy.get("/echo/1").status == 200
        upgraded(proxy)
        assert next_one.poll() is None
    finally:
        next_one.terminate()
        assert next_one.wait(15) == 0
    until(lambda: not serving(proxy), 10, "TERM was for the instance that served")
    assert proxy.process is not None and proxy.process.wait(10) == 0
    launched(proxy)


async def test_a_stop_ends_what_an_earlier_instance_still_holds(proxy: Pingap, ws_origin: WsOrigin) -> None:
    async with connect(f"ws://127.0.0.1:{proxy.port}/ws/held/echo", proxy=None, ping_interval=None) as socket:
        await asyncio.to_thread(upgraded, proxy)
        await asyncio.to_thread(upgraded, proxy)
        assert await echoes(socket)
        assert proxy.process is not None
        os.kill(proxy.process.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 15)
    assert await asyncio.to_thread(proxy.wait_stopped) == 0
    launched(proxy)


def test_a_configuration_that_needs_a_restart_gets_an_upgrade_by_itself(nginx: Nginx, ws_origin: WsOrigin) -> None:
    text, other = configuration(nginx, ws_origin, basic='auto_restart_check_interval = "1s"'), free_port()
    with Pingap(text, up=["--autorestart"]) as proxy:
        before = serving(proxy)
        proxy.write_config(text.replace("{port}", f"{{port}}, 127.0.0.1:{other}"))
        until(lambda: serving(proxy) not in (0, before), 20, "the next one serves")
        assert get(other, "/echo/1").status == proxy.get("/echo/1").status == 200
        assert "upgrades itself" in proxy.output() and "servers.plain.addr" in proxy.output()


def test_usr2_upgrades_and_signals_go_to_who_serves(proxy: Pingap) -> None:
    before = serving(proxy)
    assert proxy.process is not None
    for _ in range(2):
        os.kill(proxy.process.pid, signal.SIGUSR2)
        until(lambda: serving(proxy) not in (0, before), 15, "the next one serves")  # noqa: B023 - called at once
        before = serving(proxy)
        until(lambda: "stand-in" in proc_title(proxy.process.pid), 15, "the first one only stands in")  # type: ignore[union-attr]
    assert proxy.get("/echo/1").status == 200


def stand_ins(proxy: Pingap) -> list[int]:
    return [pid for pid in proxy.processes() if "stand-in" in proc_title(pid)]


def proc_title(pid: int) -> str:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""
