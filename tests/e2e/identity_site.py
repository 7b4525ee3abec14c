"""A site whose servers ask clients for certificates, and an nginx that says the same of them."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography import x509

from tests.e2e.certificate import section
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.identities import SERVER, Identity, alone, root
from tests.kit.odd_names import ODD_NAMES
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

VARIABLES = [
    "verify",
    "s_dn",
    "i_dn",
    "serial",
    "fingerprint",
    "v_start",
    "v_end",
    "v_remain",
    "escaped_cert",
    "san_dns",
    "san_email",
    "san_uri",
]  # without `ssl_client_`
SHARED = [name for name in VARIABLES if name != "fingerprint" and not name.startswith("san_")]
"""Those whose values are nginx's too."""

TAGS = "{path} {status} {:tls_client_verify} {:tls_client_subject} {:tls_client_serial} {:tls_client_san_dns}"


class People:
    """Clients and their authorities."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ours, self.theirs = root("Ours"), root("Theirs")
        between = self.ours.issue("Between", is_authority=True)
        names = [
            x509.DNSName("alice.example"),
            x509.RFC822Name("alice@example.com"),
            x509.UniformResourceIdentifier("spiffe://example.com/billing"),
        ]
        self.known: dict[str, Identity] = {
            "alice": self.ours.issue("Alice", names=names),
            "deep": between.issue("Deep down"),
            "their": self.theirs.issue("Stranger"),
            "expired": self.ours.issue("Old", until=timedelta(hours=-1)),
            "server": self.ours.issue("Server", usage=[SERVER]),
            "alone": alone("Alone"),
            **{f"odd-{case}": self.ours.issue(name, serial=2**100 + at) for at, (case, name) in enumerate(ODD_NAMES.items())},
        }
        for name, identity in self.known.items():
            identity.written(directory, name)
        self.ca = directory / "ca.pem"
        self.ca.write_text(self.ours.pem)

    def believe(self, text: str) -> None:
        """Replaces the file of authorities in one step."""
        new = self.ca.with_suffix(".new")
        new.write_text(text)
        new.replace(self.ca)

    def of(self, name: str) -> Identity:
        return self.known[name]

    def files(self, name: str) -> list[str]:
        """Of curl, the arguments."""
        return ["--cert", f"{self.directory}/{name}.pem", "--key", f"{self.directory}/{name}.key"] if name else []


class IdentitySite:
    """One instance: `required` and `optional` speak HTTP/2 too, the authorities of `filed` are in a file, `open` asks nobody."""

    pingap: Pingap

    def __init__(self, people: People, origin: Origin) -> None:
        self.people = people
        self.origin = origin
        origin.on["/who"] = _tell
        self.ports = {name: free_port() for name in ("required", "optional", "filed", "open")}

    def config(self) -> str:
        inline = f"client_ca = '''{self.people.ours.pem}'''"
        keys = {
            "required": f"{inline}\nenabled_h2 = true",
            "optional": f'{inline}\nclient_auth = "optional"\nenabled_h2 = true',
            "filed": f'client_ca = "{self.people.ca}"',
            "open": "",
        }
        servers = "".join(
            f'[servers.{name}]\naddr = "127.0.0.1:{self.ports[name]}"\nglobal_certificates = true\nlocations = ["all"]\n'
            f"access_log = '{{dir}}/access.log {TAGS}'\n{lines}\n"
            for name, lines in keys.items()
        )
        headers = ", ".join(f'"x-{name.replace("_", "-")}:$ssl_client_{name}"' for name in VARIABLES)
        address = self.people.ours.issue("127.0.0.1", names=[x509.IPAddress(IPv4Address("127.0.0.1"))], usage=[SERVER])
        default = f"[certificates.default]\ntls_cert = '''{address.pem}'''\ntls_key = '''{address.key_pem}'''\nis_default = true\n"
        certificates = default + section("a", "a.example") + section("b", "b.example")
        return site(
            [self.origin.port],
            server='prometheus_metrics = "/metrics"',
            location=f"proxy_set_headers = [{headers}]",
            more=servers + certificates,
        )

    def curl(self, server: str, who: str = "", *args: str, path: str = "/who", name: str = "a.example") -> subprocess.CompletedProcess[str]:
        """One request; its output ends with the version of HTTP."""
        needs("curl")
        port = self.ports[server]
        url = f"https://{name}:{port}{path}"
        argv = ["curl", "-sSk", "--max-time", "20", "-w", "\n%{http_version}", "--resolve", f"{name}:{port}:127.0.0.1"]
        env = {key: value for key, value in os.environ.items() if key not in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")}
        return subprocess.run(
            [*argv, *self.people.files(who), *args, url], capture_output=True, text=True, timeout=30, check=False, env=env
        )

    def told(self, server: str, who: str = "", *args: str, **more: Any) -> dict[str, str]:
        """What the backend was told of the client, by variable."""
        done = self.curl(server, who, *args, **more)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.rpartition("\n")[0]))

    @cached_property
    def log(self) -> Path:
        return self.pingap.dir / "access.log"


def _tell(exchange: Exchange) -> None:
    found = {name: exchange.get(f"x-{name.replace('_', '-')}") for name in VARIABLES}
    exchange.reply(json.dumps({name: value for name, value in found.items() if value is not None}).encode())


class VerifyingNginx:
    """nginx with the same authority, which answers with its own variables."""

    def __init__(self, directory: Path, people: People) -> None:
        needs("nginx")
        self.port = free_port()
        identity = people.ours.issue("nginx", usage=[SERVER])
        certificate, key = identity.written(directory, "nginx")
        for parent in [directory, *directory.parents]:
            if parent.stat().st_uid == os.getuid() and parent.name.startswith(("identities", "pytest-")):
                parent.chmod(0o755)
        temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        body = "\\n".join(f"{name}=$ssl_client_{name}" for name in SHARED)
        config = directory / "nginx.conf"
        config.write_text(
            f"{'user root;' if os.getuid() == 0 else ''} worker_processes 1; daemon off; pid {directory}/nginx.pid;"
            f"events {{ worker_connections 64; }} http {{ access_log off; {temporary}"
            f"server {{ listen 127.0.0.1:{self.port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
            f"ssl_client_certificate {people.ca}; ssl_verify_client optional; ssl_verify_depth 9;"
            f'location / {{ default_type text/plain; return 200 "{body}"; }} }} }}'
        )
        self._process = subprocess.Popen(["nginx", "-c", str(config), "-e", f"{directory}/nginx.log"])

    def told(self, people: People, who: str) -> dict[str, str]:
        """By variable, what is empty left out; the escaped certificate as any other writes it."""
        argv = ["curl", "-sSk", "--max-time", "10", *people.files(who), f"https://127.0.0.1:{self.port}/"]
        done = until(lambda: _ran(argv), 10, "nginx answers")
        lines = [line.partition("=") for line in done.split("\n")]
        return {name: value for name, _, value in lines if value}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def _ran(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=15, check=False)
    return done.stdout if done.returncode == 0 else ""


def escaped(identity: Identity) -> str:
    return quote(identity.pem, safe="")
