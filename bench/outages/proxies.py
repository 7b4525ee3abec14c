"""How each proxy is told to stand in front of three backends, and what an operator sets so that an outage is not seen.

All ask `/health` every 2 s (but nginx, which has no active checks), wait a second for a connect and for an answer, and try
another backend after an error, a time-out and a 500. Whoever cannot follow a source of addresses raises CannotDo.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.peer_files import ENVOY_TYPES, CannotDo


@dataclass(frozen=True, slots=True)
class Behind:
    """Where the backends are."""

    root: Path
    addresses: tuple[str, ...]
    """`host:port` of each."""
    kind: str = "static"
    """static; dns: `entries` is a name that DNS tells; docker: `entries` are labels of containers."""
    entries: tuple[str, ...] = ()
    dns_port: int = 0
    docker: str = ""
    """DOCKER_HOST."""

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text)
        return path


@dataclass(frozen=True, slots=True)
class Start:
    """How it is started."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    note: str = ""
    """What the reader of the figures should know."""


STATIC: Final = "static"
"""It cannot ask Docker: it has all addresses from the start."""


NGINX = """worker_processes 1; daemon off; pid {root}/ng.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {root}/t2; proxy_temp_path {root}/t3;
upstream u {{ {servers} keepalive 512; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_connect_timeout 1s; proxy_read_timeout 1s; proxy_next_upstream error timeout http_500; }} }} }}"""


def nginx(max_fails: int) -> Callable[[Behind, int], Start]:
    def build(behind: Behind, port: int) -> Start:
        if behind.kind == "dns":
            raise CannotDo("needs a reload")
        servers = " ".join(f"server {address} max_fails={max_fails} fail_timeout=10s;" for address in behind.addresses)
        text = NGINX.format(root=behind.root, servers=servers, port=port)
        argv = ["nginx", "-c", str(behind.write("nginx-proxy.conf", text)), "-e", "/dev/null"]
        return Start(argv, note=STATIC if behind.kind == "docker" else "")

    return build


def envoy(behind: Behind, port: int) -> Start:
    route = {
        "cluster": "c",
        "timeout": "0s",
        "retry_policy": {
            "retry_on": "5xx,connect-failure,reset",
            "num_retries": 2,
            "per_try_timeout": "1s",
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": f"{ENVOY_TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                }
            ],
            "host_selection_retry_max_attempts": 3,
        },
    }
    manager = {
        "@type": f"{ENVOY_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{ENVOY_TYPES}.filters.http.router.v3.Router"}}],
    }
    cluster: dict[str, object] = {
        "name": "c",
        "type": "STRICT_DNS" if behind.kind == "dns" else "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [_endpoint(a) for a in _addresses(behind)]}]},
        "outlier_detection": {
            "consecutive_5xx": 5,
            "base_ejection_time": "10s",
            "interval": "1s",
            "max_ejection_percent": 50,
            # By default a check that passes takes it back, though every other answer is a 500.
            "successful_active_health_check_uneject_host": False,
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/health", "host": "app"},
            }
        ],
        "circuit_breakers": {
            "thresholds": [{"retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 10}, "max_requests": 10000}]
        },
    }
    if behind.kind == "dns":
        resolver = {
            "@type": f"{ENVOY_TYPES}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [_socket(f"127.0.0.1:{behind.dns_port}")],
            "dns_resolver_options": {"use_tcp_for_dns_lookups": False, "no_default_search_domain": True},
        }
        cluster["typed_dns_resolver_config"] = {"name": "envoy.network.dns_resolver.cares", "typed_config": resolver}
        # By default it keeps whom DNS no longer tells for as long as the checks of it pass.
        cluster |= {"dns_refresh_rate": "2s", "dns_lookup_family": "V4_ONLY", "ignore_health_on_host_removal": True}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"address": _socket(f"127.0.0.1:{port}"), "filter_chains": [chain]}
    text = json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    argv = ["-c", str(behind.write("envoy.yaml", text)), "--concurrency", "1", "--base-id", str(port), "-l", "error"]
    return Start([_envoy(), *argv], note=STATIC if behind.kind == "docker" else "")


def _addresses(behind: Behind) -> tuple[str, ...]:
    return behind.entries if behind.kind == "dns" else behind.addresses


def _endpoint(address: str) -> dict[str, object]:
    return {"endpoint": {"address": _socket(address)}}


def _socket(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _envoy() -> str:
    return os.environ.get("ENVOY", "envoy")


PINGAP = """[upstreams.app]
addrs = {addrs}
{source}
health_check = "http://app/health?check_frequency=2s&connection_timeout=1s&read_timeout=1s"
connection_timeout = "1s"
read_timeout = "1s"
circuit_break_max_consecutive_failures = 5

[locations.all]
upstream = "app"
max_retries = 2
retry_status_code = "500"

[servers.plain]
addr = "127.0.0.1:{port}"
locations = ["all"]
"""


def pingap(placement: str) -> Callable[[Behind, int], Start]:
    def build(behind: Behind, port: int) -> Start:
        source = {
            "static": "",
            "dns": f'discovery = "dns"\ndns_server = "127.0.0.1:{behind.dns_port}"\nupdate_frequency = "2s"',
            "docker": f'discovery = "docker"\ndocker_host = "{behind.docker}"',
        }[behind.kind]
        text = PINGAP.format(addrs=json.dumps(behind.entries or behind.addresses), source=source, port=port)
        argv = ["up", "-c", str(behind.write("pingap.toml", text)), "--run-dir", str(behind.root / f"run-{port}"), "--placement", placement]
        return Start([sys.executable, "-m", "pingap", *argv])

    return build


PROXIES: dict[str, Callable[[Behind, int], Start]] = {
    "pingap split": pingap("split"),
    "pingap colocated": pingap("colocated"),
    "nginx max_fails=1": nginx(1),
    "nginx max_fails=3": nginx(3),
    "Envoy": envoy,
}
"""Name to what says how it is started on a port."""


def versions() -> dict[str, str]:
    """Of those that are there."""
    found = {}
    asked = {"pingap": [sys.executable, "-m", "pingap", "--version"], "nginx": ["nginx", "-v"], "Envoy": [_envoy(), "--version"]}
    for name, argv in asked.items():
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        match = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
        found[name] = match[0] if match else "?"
    return found
