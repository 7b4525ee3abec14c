"""What an operator does to a running instance, besides what has a file of its own."""

from __future__ import annotations

import json
import signal
import threading
import time

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until


def test_a_dry_run_tells_takes_nothing_and_a_rollback_goes_back(origin: Origin) -> None:
    text = site([origin.port])
    with Pingap(text) as proxy:
        # Edits that change the file but not what it says are none; the watch is not waited for, each step asks.
        assert proxy.command("reload", "--dry-run").stdout == "no problems; nothing changed\n"
        done = proxy.command("rollback")
        assert (done.returncode, "no generation before" in done.stderr) == (1, True)
        proxy.write_config(text + '[locations.more]\nupstream = "origin"\npath = "/more"\n')
        done = proxy.command("reload", "--dry-run", "--json")
        shown = json.loads(done.stdout)
        assert (done.returncode, shown["taken"]) == (0, False)
        taken = json.loads(proxy.command("reload", "--json").stdout)
        assert taken["taken"] and taken["generation"] >= shown["generation"]
        done = proxy.command("rollback")
        assert done.returncode == 0 and "removed locations.more" in done.stdout
        proxy.write_config(text + "nonsense")
        done = proxy.command("reload", "--dry-run")
        assert done.returncode == 1 and "would be refused" in done.stderr
        assert proxy.get().status == 200


def test_a_killed_process_is_replaced_and_one_that_is_not_there_is_told(origin: Origin) -> None:
    with Pingap(site([origin.port])) as proxy:
        old = proxy.pid("routing")
        done = proxy.command("kill", "routing.0")
        assert done.returncode == 0 and f"routing.0 (pid {old}) is killed" in done.stdout
        proxy.wait_restarted("routing", old)
        done = proxy.command("kill", "routing.7")
        assert done.returncode == 1 and "there is no routing.7" in done.stderr
        assert proxy.command("kill", "supervisor").returncode == 2
        assert proxy.get().status == 200


def test_a_restart_keeps_the_process_and_takes_what_only_a_restart_takes(origin: Origin) -> None:
    with Pingap(site([origin.port])) as proxy:
        assert proxy.process is not None
        pids = {row.stage: row.pid for row in proxy.ps()}
        proxy.write_config(site([origin.port]) + "nonsense")
        done = proxy.command("restart")
        assert done.returncode == 1 and "would be refused" in done.stderr
        proxy.write_config(site([origin.port]) + "[stages.routing]\nreplicas = 2\n")
        done = proxy.command("restart", timeout=60)
        assert done.returncode == 0, done.stderr
        rows = proxy.ps()
        assert proxy.row("supervisor").pid == pids["supervisor"] == proxy.process.pid
        assert len([row for row in rows if row.stage == "routing"]) == 2
        assert proxy.get().status == 200
        assert proxy.stop() == 0
        assert "pingap restarts" in proxy.output() and "pingap goes down" in proxy.output()


def test_who_stops_it_during_a_restart_has_it_stopped(origin: Origin) -> None:
    over = threading.Event()

    def hold(exchange: Exchange) -> None:
        over.wait(20)

    origin.on["/held"] = hold
    with Pingap(site([origin.port])) as proxy, proxy.client() as client:
        assert proxy.process is not None
        client.sock.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")  # holds the drain up
        origin.wait("/held")
        with proxy.follow("restart", "--timeout", "20s"):
            until(lambda: "pingap restarts" in proxy.output(), 10, "it stops")
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.wait_stopped(10) == 0
        over.set()


def test_down_gives_as_long_as_it_is_told(origin: Origin) -> None:
    with Pingap(site([origin.port])) as proxy:
        began = time.monotonic()
        done = proxy.command("down", "--timeout", "90s")
        assert done.returncode == 0 and time.monotonic() - began < 20, "nothing is in flight: it need not wait"
        assert "requests in flight have 90 s" in proxy.output()
        assert proxy.wait_stopped() == 0


def test_an_instance_that_lacks_something_is_not_healthy(origin: Origin) -> None:
    with Pingap(site([origin.port])) as proxy:
        assert proxy.command("ps", "--health").returncode == 0
        log = proxy.command("logs", "--stage", "supervisor").stdout
        assert "pingap is up version=" in log
        assert proxy.command("logs", "-n", "1").stdout.count("\n") == 1
        pid = proxy.pid("discovery")
        proxy.command("kill", "discovery.0")
        proxy.wait_restarted("discovery", pid)
        assert proxy.command("ps", "--health").returncode == 0
