"""Runs a command in as much of a systemd unit's sandbox as can be had without systemd. As root, in a mount namespace of its own:

    unshare --mount python -m tests.examples.sandbox UNIT USER -- COMMAND…

What the unit asks for and this knows is done; `DONE` names it. Environment variables pass.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path

from pingap.config.accounts import account_of
from pingap.service import privileges

DONE = frozenset(
    ("ProtectSystem", "PrivateTmp", "PrivateMounts", "ProtectProc", "ProcSubset", "ProtectKernelTunables", "RuntimeDirectory", "UMask")
    + ("DynamicUser", "AmbientCapabilities", "CapabilityBoundingSet", "NoNewPrivileges", "SystemCallFilter", "LimitNOFILE")
    + ("MemoryDenyWriteExecute",)
)
LIBC = ctypes.CDLL(None, use_errno=True)
CAPABILITIES = {"CAP_NET_BIND_SERVICE": 10}


def settings(unit: str) -> dict[str, list[str]]:
    """Key → its values, in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in Path(unit).read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def call(what: str, result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def prctl(*words: int) -> None:
    call(f"prctl {words}", LIBC.prctl(*(ctypes.c_ulong(word) for word in (*words, *(0,) * (5 - len(words))))))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def close_the_file_system(user: int, group: int) -> None:
    """All of it read only, but a /tmp and a /run of its own."""
    mount("--make-rprivate", "/")
    attributes = struct.pack("QQQQ", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    call("mount_setattr", LIBC.syscall(442, -100, b"/", 0x8000, attributes, len(attributes)))  # AT_FDCWD, AT_RECURSIVE
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    os.mkdir("/run/pingap", 0o700)
    os.chown("/run/pingap", user, group)
    mount("-t", "proc", "-o", "hidepid=invisible,subset=pid", "proc", "/proc")


def allowed(filters: list[str]) -> set[str]:
    """System calls of `SystemCallFilter=` lines, with systemd's own groups."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("@"):
            members = groups.setdefault(words[0], [])
        elif line.startswith(" ") and words and words[0] != "#":
            members.append(words[0])

    def calls(name: str) -> set[str]:
        return set().union(*map(calls, groups[name])) if name in groups else {name}

    found = calls("@default")
    for line in filters:
        named = set().union(*(calls(word) for word in line.removeprefix("~").split()))
        found = found - named if line.startswith("~") else found | named
    return found


def filter_calls(filters: list[str]) -> bool:
    """A seccomp filter that fails all others with EPERM; False where this does not know the machine's numbers."""
    header = next(Path("/usr/include").rglob("asm/unistd_64.h"), None)
    if platform.machine() != "x86_64" or header is None:
        return False
    numbers = {match[1]: int(match[2]) for match in re.finditer(r"#define __NR_(\w+) (\d+)", header.read_text())}
    wanted = sorted(numbers[name] for name in allowed(filters) if name in numbers)

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, answer = 0x20, 0x15, 0x06
    program = [statement(load, 0)]
    for number in wanted:
        program += [statement(equal, number, 0, 1), statement(answer, 0x7FFF0000)]
    program.append(statement(answer, 0x00050000 | 1))
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    prctl(22, 2, ctypes.addressof(head))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return True


def main() -> None:
    unit, user, _, *command = sys.argv[1:]
    asked = settings(unit)
    account = account_of(user, "")
    assert account is not None
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    close_the_file_system(account.uid, account.gid)
    os.umask(int(asked["UMask"][-1], 8))
    limit = min(int(asked["LimitNOFILE"][-1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # root of a container may not raise it
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    kept = {CAPABILITIES[name] for line in asked["CapabilityBoundingSet"] for name in line.split()}
    for number in range(last + 1):
        if number not in kept:
            prctl(24, number)  # PR_CAPBSET_DROP
    os.chdir("/")
    privileges.become(account, keeps_ports=bool(asked.get("AmbientCapabilities")))
    if asked["MemoryDenyWriteExecute"] == ["yes"]:
        prctl(65, 1)  # PR_SET_MDWE, since Linux 6.3
    print("filtered" if filter_calls(asked["SystemCallFilter"]) else "not filtered", flush=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
