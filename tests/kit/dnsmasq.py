"""A real DNS server, dnsmasq, on a free port of loopback: it knows what is under `test`, and nobody else to ask."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import dns.message
import dns.query

from tests.kit.peer_process import PeerProcess
from tests.kit.waiting import free_port, until


class Dnsmasq(PeerProcess):
    """options: of its command line, such as `--srv-host=…`."""

    program = "dnsmasq"
    package = "dnsmasq-base"

    def __init__(self, root: Path, *options: str, records: Mapping[str, Iterable[str]] | None = None) -> None:
        self.port = free_port()
        self.options: tuple[str, ...] = options
        super().__init__(root / f"dnsmasq-{self.port}.log")
        self._hosts = root / f"hosts-{self.port}"
        self.write(records or {})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        words = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--local=/test/", "--listen-address=127.0.0.1"]
        words += ["--bind-interfaces", f"--port={self.port}", f"--addn-hosts={self._hosts}", "--conf-file=/dev/null", "--pid-file="]
        return [*words, "--user=root", "--log-queries", "--log-facility=-", *self.options]

    def say(self, records: Mapping[str, Iterable[str]]) -> None:
        """Other records from now on: name → addresses."""
        read = self._times_read()
        self.write(records)
        self.signal(signal.SIGHUP)
        until(lambda: self._times_read() > read, 5, "dnsmasq has read its hosts file again", every=0.002)

    def _times_read(self) -> int:
        return self.log.read_text().count(f"read {self._hosts} ")

    def asked(self, name: str) -> int:
        """How often it was asked for it, whatever the type."""
        return sum(f"query[{kind}] {name} " in line for line in self.log.read_text().splitlines() for kind in ("A", "AAAA", "SRV"))

    def write(self, records: Mapping[str, Iterable[str]]) -> None:
        """Other records from its next start on."""
        self._hosts.write_text("".join(f"{address} {name}\n" for name, addresses in records.items() for address in addresses))

    def answers(self) -> bool:
        try:
            dns.query.udp(dns.message.make_query("ready.test", "A"), "127.0.0.1", timeout=0.2, port=self.port)
        except (dns.exception.Timeout, OSError):
            return False
        return True


class Silence:
    """A port, of UDP and TCP, at which nobody ever answers."""

    def __init__(self) -> None:
        self.port = free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket()
        for sock in (self._udp, self._tcp):
            sock.bind(("127.0.0.1", self.port))
        self._tcp.listen()

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
