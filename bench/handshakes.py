"""What TLS handshakes cost: CPU µs of all of pingap's processes for a connection that does nothing else.

    python -m bench.handshakes [--seconds 3] [--keys ecdsa,rsa]

The client is `openssl s_time`, two of them at a time: whole handshakes with TLS 1.2 and 1.3, and resumed ones with TLS 1.2 (it
does not wait for the tickets of 1.3). CPU time is counted, so it does not matter who of the two ends is the slower one. Run it
on two versions one after the other to see what a change costs.
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.processes import cpu_seconds, tree

CLIENTS = 2
START = 30.0
"""Seconds until it must listen."""

ROWS = {"whole, TLS 1.2": ("-new", "-tls1_2"), "whole, TLS 1.3": ("-new", "-tls1_3"), "resumed, TLS 1.2": ("-reuse", "-tls1_2")}

CONFIG = """
[servers.web]
addr = "127.0.0.1:{port}"
global_certificates = true
locations = ["all"]
[locations.all]
upstream = "nobody"
[upstreams.nobody]
addrs = ["127.0.0.1:9"]
[certificates.one]
tls_cert = '''{cert}'''
tls_key = '''{key}'''
is_default = true
"""


def pair(kind: str) -> tuple[str, str]:
    """(certificate, key), PEM."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench.example")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(9))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("bench.example")]), critical=False)
    cert = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return cert.decode(), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def handshakes(port: int, seconds: int, arguments: tuple[str, ...]) -> int:
    """How many were made."""
    argv = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-time", str(seconds), *arguments]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(CLIENTS)]
    said = [client.communicate(timeout=seconds * 10 + 30)[0] for client in clients]
    return sum(int(found) for one in said for found in re.findall(r"(\d+) connections in \d+ real", one))


def listens(port: int) -> bool:
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)  # between two looks whether it listens
        else:
            return True
    return False


def measure(kind: str, seconds: int) -> None:
    """Prints a line for each of ROWS."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    cert, key = pair(kind)
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        (Path(folder) / "pingap.toml").write_text(CONFIG.format(port=port, cert=cert, key=key))
        argv = [str(Path(sys.executable).with_name("pingap")), "up", "-c", f"{folder}/pingap.toml", "--run-dir", f"{folder}/run"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not listens(port):
                print(f"{kind}: pingap does not listen", file=sys.stderr)
                return
            for row, arguments in ROWS.items():
                handshakes(port, 1, arguments)
                pids = tree(process.pid)
                before = cpu_seconds(pids)
                count = handshakes(port, seconds, arguments)
                used = cpu_seconds(pids) - before
                print(f"{kind:6} {row:18} {count / seconds:8.0f} /s {used / count * 1e6 if count else 0:8.0f} µs CPU", flush=True)
        finally:
            process.terminate()
            process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.handshakes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--keys", default="ecdsa,rsa")
    arguments = parser.parse_args()
    for kind in arguments.keys.split(","):
        measure(kind, arguments.seconds)


if __name__ == "__main__":
    main()
