"""`python -m bench.run [micro] [end] [memory]`: all when nothing is named. `python -m bench.peers` knows more proxies."""

from __future__ import annotations

import argparse
import shutil
import sys

from bench import ends, micro


def show_micro() -> None:
    print("parts, CPU µs each")
    for what, cost in micro.parts():
        print(f"  {what:44s} {cost:8.2f}")
    print("a hop over the bus (pack, send, receive, unpack; both processes)")
    for size, cost, trip in micro.hops():
        print(f"  {size:4d} envelopes on the way   {cost:6.1f} µs CPU a hop   round trip {trip:6.2f} ms")


def show_ends(connections: tuple[int, ...], seconds: float) -> None:
    print("one request (small JSON answer of an nginx origin)")
    for result in ends.compare(connections, seconds):
        line = f"  {result.name:17s} c={result.connections:<4d}{result.rate:9.0f}/s {result.cost:7.1f} µs CPU"
        print(f"{line}   p50 {result.median} p99 {result.slowest}  {result.errors}")
        if result.name.startswith("pingap"):
            shares = sorted(result.stages.items(), key=lambda item: -item[1])
            print("      " + ", ".join(f"{stage} {cost:.1f}" for stage, cost in shares if cost >= 0.05))


def show_memory() -> None:
    print("memory and start")
    for what, figure in ends.memory():
        print(f"  {what:34s} {figure}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="micro|end|memory")
    parser.add_argument("--connections", default="1,64")
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    what = args.what or ["micro", "end", "memory"]
    if unknown := set(what) - {"micro", "end", "memory"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if "micro" in what:
        show_micro()
    missing = [program for program in ("nginx", "wrk") if shutil.which(program) is None]
    if missing and set(what) & {"end", "memory"}:
        print(f"left out: {', '.join(missing)} not installed (Debian: apt-get install {' '.join(missing)})")
        return 1
    if "end" in what:
        show_ends(tuple(int(count) for count in args.connections.split(",")), args.seconds)
    if "memory" in what:
        show_memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
