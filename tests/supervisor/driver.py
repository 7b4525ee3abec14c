"""`pingap up` with actors of the tests: `python -m tests.supervisor.driver JSON`."""

from __future__ import annotations

import json
import os
import sys

from pingap import boot, rundir, topology
from pingap.bus import output
from pingap.face import ConsoleFace
from pingap.launch import Launch
from pingap.service.systemd import Service
from pingap.spawning import SpawnerHandle

HERE = "tests.supervisor.actors"
ROWS = (
    topology.StageRow("logging", f"{HERE}:Logging", 2, True),
    topology.StageRow("config", f"{HERE}:Config", 1),
    topology.StageRow("accept", f"{HERE}:Accept", 0, True),
    topology.StageRow("routing", f"{HERE}:Plain", 1, True),
    topology.StageRow("plugins", f"{HERE}:Plain", 1, True),
    topology.StageRow("upstream", f"{HERE}:Plain", 1, True),
)


def main() -> None:
    output.never_wait()
    service = Service(os.environ)
    asked = json.loads(sys.argv[1])
    actors = asked.get("actors", {})
    rows = tuple(topology.StageRow(row.name, actors.get(row.name, row.actor), row.leaves, row.is_drained) for row in ROWS)
    loader = asked.get("loader", f"{HERE}:load_plain")
    try:
        run_dir = rundir.RunDir(asked["run_dir"])
    except rundir.RunDirError as error:
        print(f"pingap: {error}", file=sys.stderr)
        sys.exit(1)
    spawner = SpawnerHandle(topology.modules(rows, loader))
    options = topology.Options(
        source=asked["config"],
        placement=asked.get("placement", "split"),
        workers=asked.get("workers"),
        scale=asked.get("scale"),
        log=asked["log"],
    )
    launch = Launch(options, rows=rows, loader=loader, service=service)
    sys.exit(boot.up(launch, run_dir, spawner, ConsoleFace(run_dir.path, False)))


if __name__ == "__main__":
    main()
