"""What the operating system says of some processes and of the machine they run on. Reads files: not for a loop."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

MIB: Final = 1024 * 1024


class MachineFigures(NamedTuple):
    """Sizes in bytes. Numbers of processes are sums over all of them."""

    started: float
    """When the first of the processes began, in Unix seconds."""
    memory: int
    """What they have, memory that several share counted once."""
    total_memory: int
    used_memory: int
    """Of the machine: what is not to be had any more."""
    cpus: int
    physical_cpus: int
    threads: int
    descriptors: int
    tcp: int
    """Connections and listeners of the network namespace, over IPv4."""
    tcp6: int


def machine_figures(pids: Sequence[int]) -> MachineFigures:
    """pids: processes of one owner, the first of which began first. One that has ended meanwhile counts for nothing."""
    import psutil  # costs 2 MB, which a process without this plugin does not need

    started, memory, threads, descriptors = 0.0, 0, 0, 0
    for pid in pids:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            with process.oneshot():
                memory += _proportional(pid) or process.memory_info().rss
                threads += process.num_threads()
                started = started or process.create_time()
                descriptors += process.num_fds()
    machine = psutil.virtual_memory()
    cpus = psutil.cpu_count() or 1
    return MachineFigures(
        started or time.time(),
        memory,
        machine.total,
        machine.total - machine.available,
        cpus,
        psutil.cpu_count(logical=False) or cpus,
        threads,
        descriptors,
        _lines("/proc/self/net/tcp"),
        _lines("/proc/self/net/tcp6"),
    )


def _proportional(pid: int) -> int:
    """The part that is the process's own of what it shares with others, and all else; 0 when it cannot be read."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _lines(path: str) -> int:
    """Of a table in /proc, without its head."""
    try:
        with open(path, "rb") as file:
            return max(0, sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 16), b"")) - 1)
    except OSError:  # no IPv6 on this machine
        return 0


def architecture() -> str:
    """As the kernel calls it: x86_64, aarch64."""
    return platform.machine()


def hostname() -> str:
    return os.uname().nodename


def size_text(size: int) -> str:
    """Bytes as the Rust crate bytesize writes them: `999 B`, `2.7 GiB`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, 6)
    return f"{size / 1024**power:.1f} {'KMGTPE'[power - 1]}iB"


_UNITS: Final = (("year", 31_557_600), ("month", 2_630_016), ("day", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def uptime_text(seconds: int) -> str:
    """A duration as the Rust crate humantime writes it: `2days 1h 5s`."""
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}{'s' if len(unit) > 1 and count > 1 else ''}")
    return " ".join(parts) or "0s"
