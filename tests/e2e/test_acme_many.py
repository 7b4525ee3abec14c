"""Two hundred certificates from one authority: how long it takes, and what it costs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.acme_site import AcmeTown, Talker
from tests.e2e.certificate import section
from tests.e2e.origins import Origin
from tests.kit.waiting import pss, until

MANY = 200


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_two_hundred_certificates_come_and_nobody_waits_for_them(tmp_path: Path, shared_origin: Origin) -> None:
    with AcmeTown(tmp_path) as town:
        names = [f"n{number}.test" for number in range(MANY)]
        sections = "".join(town.certificate(name.partition(".")[0], [name]) for name in names) + section("old", "old.test")
        with town.site(shared_origin.port, sections) as proxy:
            began = time.monotonic()
            talker = Talker(town.pebble.tls_port, "old.test")
            until(lambda: proxy.output().count("certificate was got, and is served") >= MANY, 240, "all are served", every=0.5)
            took = time.monotonic() - began
            answers = talker.stop()
            costs = {stage: proxy.pid(stage) for stage in ("acme", "accept")}
            told = ", ".join(f"{stage} {_cpu(pid):.1f} s of CPU and {pss([pid]) >> 20} MB" for stage, pid in costs.items())
            print(f"\n{MANY} certificates in {took:.0f} s: {told}; {answers} answers meanwhile on one connection")
            for name in (names[0], names[-1]):
                assert town.is_believed(name)
            assert "could not be got" not in proxy.output()
            assert proxy.stop() == 0
            proxy.output_file.unlink()
            proxy.start()
            assert all(town.is_believed(name) for name in names), "at once after a restart"
            assert "is being got" not in proxy.output()
