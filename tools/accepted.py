"""How much of the reference's own configuration is accepted here: its files, and the snippets in its documents.

    python tools/accepted.py CLONE [-v]

CLONE is a clone of vicanso/pingap at 0.13.9. A snippet is a fragment, so what it leaves open is put in: a server, a
location or an upstream that it names, a certificate for a file that is on its author's machine only. Only what it says
itself is judged. The files in conf/ show most keys in comments: each of those is judged by itself, in its section.
Prints a table by reason; -v names each that is refused or noted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
LANGUAGES = ("toml", "hcl", "kdl")
NO_CONFIGURATION = ("Cargo.toml", ".rustfmt.toml", "audit.toml", "bacon.toml", "cliff.toml", "clippy.toml", "typos.toml")
ENV = dict(os.environ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("-v", "--verbose", action="store_true")
    asked = parser.parse_args()
    pair = certificate()
    groups = {"files": files, "snippets": snippets, "keys in comments of conf/": comments}
    for title, list_of in groups.items():
        found = list_of(asked.clone)
        reasons: Counter[str] = Counter()
        for name, language, text in found:
            problems, notes = judged(language, text, pair)
            # One that is refused for what is no longer to come as well is counted there.
            kind = kind_of(problems) if problems else "accepted"
            reasons["accepted, with a note" if kind == "accepted" and notes else kind] += 1
            if asked.verbose and (problems or notes):
                print(f"--- {name}: {kind}")
                print("\n".join([*map(str, problems), *(f"note: {note}" for note in notes)]))
        total = sum(reasons.values())
        print(f"\n{total} {title}")
        for kind, count in sorted(reasons.items(), key=lambda pair: (not pair[0].startswith("accepted"), -pair[1], pair[0])):
            print(f"  {count:4} {kind}")


def files(clone: Path) -> Iterator[tuple[str, str, str]]:
    listed = subprocess.run(["git", "-C", clone, "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in listed:
        path = Path(name)
        if path.suffix[1:] in LANGUAGES and path.name not in NO_CONFIGURATION:
            yield name, path.suffix[1:], (clone / name).read_text()


def snippets(clone: Path) -> Iterator[tuple[str, str, str]]:
    listed = subprocess.run(["git", "-C", clone, "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, listed):
        text = (clone / name).read_text()
        for match in FENCE.finditer(text):
            if match[1] in LANGUAGES:
                yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2]


def comments(clone: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted((clone / "conf").glob("*.toml")):
        header, own = "", ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            plain = line.removeprefix("# ")
            if match := re.match(r"\[(.+)\]$", plain):
                header, own = match[1], ""
            elif not line.startswith("#"):
                own += f"{line}\n"
            elif re.match(r"# [a-z_0-9]+ = ", line) and header:
                key = plain.partition(" ")[0]
                kept = "\n".join(one for one in own.splitlines() if not one.startswith(f"{key} "))
                yield f"conf/{path.name}:{number} {plain}", "toml", f"[{header}]\n{kept}\n{plain}\n"


def kind_of(problems: list[Any]) -> str:
    """The kind of refusal; what an item that is not supported yet has wrong besides is a matter for then."""
    later = {_item_of(one.path) for one in problems if one.message.startswith("not supported yet")}
    first = next((one for one in problems if _item_of(one.path) not in later), problems[0])
    return reason_of(first)


def _item_of(path: str) -> str:
    return ".".join(path.split(".")[:2])


def judged(language: str, text: str, pair: tuple[str, str]) -> tuple[list[Any], list[Any]]:
    """(problems, notes)"""
    from pingap import loading
    from pingap.config.problems import ConfigRefused, Problem
    from pingap.config.storage.base import Document
    from pingap.config.storage.memory import MemoryStorage
    from pingap.config.text import formats

    if f".{language}" not in formats.FORMATS:
        return [Problem("", f"not supported yet: {language.upper()}")], []
    tables = formats.tables_of(Document(f"snippet.{language}", text))
    if "[dependencies]" in text or (isinstance(tables, Problem) and tables.message.startswith("not TOML: Cannot overwrite")):
        return [Problem("", "no configuration: Cargo's, or a list of alternatives")], []
    if isinstance(tables, Problem):
        return [tables], []
    for key in [key for key, value in tables.items() if not isinstance(value, dict)]:
        tables.setdefault("basic", {})[key] = tables.pop(key)  # a line alone
    formats.FORMATS[".json"] = lambda name, text: json.loads(text)
    complete(tables, pair)
    for name in re.findall(r"\$ENV:(\w+)", text):
        os.environ[name] = "127.0.0.1:5000"
    with suppress(ConfigRefused):
        snapshot = loading.load(MemoryStorage(json.dumps(tables, default=str), "snippet.json"))
        return [], list(getattr(snapshot, "notes", ()))
    try:
        loading.load(MemoryStorage(json.dumps(tables, default=str), "snippet.json"))
    except ConfigRefused as refused:
        return list(refused.problems), list(getattr(refused, "notes", ()))
    raise AssertionError("accepted the second time")


def complete(tables: dict[str, Any], pair: tuple[str, str]) -> None:
    """Puts in what a fragment leaves open."""

    def items(section: str) -> dict[str, Any]:
        found = tables.get(section, {})
        return {name: item for name, item in found.items() if isinstance(item, dict)} if isinstance(found, dict) else {}

    def add(section: str, name: str, item: dict[str, Any]) -> None:
        tables.setdefault(section, {}).setdefault(name, item)

    ours = __import__("pingap.config.unsupported", fromlist=["x"])
    builtin = ours.BUILTIN_PLUGINS | getattr(ours, "LATER_BUILTIN_PLUGINS", frozenset())
    if not items("servers"):
        add("servers", "completed", {"addr": "127.0.0.1:6188"})
    for number, server in enumerate(items("servers").values()):
        server.setdefault("addr", f"127.0.0.1:{7000 + number}")
        for name in server.get("locations", ()):
            add("locations", name, {})
        if server.get("global_certificates") and not items("certificates"):
            add("certificates", "completed", {"tls_cert": pair[0], "tls_key": pair[1]})
    for location in items("locations").values():
        for name in location.get("plugins", ()):
            if name not in builtin:
                add("plugins", name, {"category": "ping", "path": "/completed"})
        if not location.get("upstream") and not location.get("plugins"):
            location["upstream"] = "completed"
        upstream = location.get("upstream")
        if isinstance(upstream, str) and upstream and not upstream.startswith("$"):
            add("upstreams", upstream, {"addrs": ["127.0.0.1:5000"]})
    for upstream in items("upstreams").values():
        upstream.setdefault("addrs", ["127.0.0.1:5000"])
    for one in items("certificates").values():
        absent = [key for key in ("tls_cert", "tls_key") if _is_absent_file(one.get(key))]
        if absent or not (one.get("acme") or "tls_cert" in one):
            one["tls_cert"], one["tls_key"] = pair
            one.pop("domains", None)  # those of its author


def _is_absent_file(value: Any) -> bool:
    return isinstance(value, str) and "\n" not in value and len(value) < 200 and not os.path.exists(os.path.expanduser(value))


def reason_of(problem: Any) -> str:
    """The kind of refusal."""
    if later := re.match(r"not supported yet: ([^(,;]*)", problem.message):
        return f"later: {later[1].strip()}"
    if problem.message.startswith("no configuration"):
        return str(problem.message)
    key = re.sub(r"^(\w+)\.(\"[^\"]*\"|[^.\[]+)", r"\1.X", problem.path)
    key = re.sub(r"\[\d+\]", "", key) if not key.startswith("snippet") else "syntax"
    message = re.sub(r"'[^']*'", "…", problem.message.split("\n")[0])
    return f"refused: {key}: {message[:90]}"


def certificate() -> tuple[str, str]:
    """(certificate, key) in PEM."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "completed.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(9))
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signed.public_bytes(Encoding.PEM).decode(), private.decode()


if __name__ == "__main__":
    sys.exit(main())
