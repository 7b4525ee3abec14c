"""A configuration of the reference (vicanso/pingap 0.13.9) with all its keys, tests/config/reference: which they are, and how it is read.

pingap.toml, pingap.hcl and pingap.kdl were written by hand; by-type, by-item and hcl are the same in other layouts, and
later.toml has what this version refuses. `UPDATE_CASES=1 pytest tests/config` writes all but those four anew.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pingap.config.load import load
from pingap.config.model import Snapshot
from pingap.config.storage.base import Readable
from pingap.config.storage.places import storage_of
from pingap.stages.plugins import checking
from tests.e2e.certificate import authority, self_signed

ROOT: Final = Path(__file__).parents[1] / "config/reference"

KEYS: Final = {
    "basic": """name error_template pid_file error_log upgrade_sock user group threads work_stealing
        listener_tasks_per_fd grace_period graceful_shutdown_timeout upstream_keepalive_pool_size trusted_proxies
        webhook webhook_type webhook_notifications log_level log_buffered_size log_format_json sentry pyroscope
        auto_restart_check_interval log_compress_algorithm log_compress_level log_compress_days_ago
        log_compress_time_point_hour""",
    "servers": """addr access_log locations threads tls_cipher_list tls_ciphersuites tls_min_version tls_max_version
        global_certificates enabled_h2 tcp_idle tcp_interval tcp_user_timeout downstream_read_timeout
        downstream_write_timeout tcp_probe_count tcp_fastopen reuse_port prometheus_metrics otlp_exporter includes
        modules enable_server_timing remark""",
    "locations": """upstream path host match_headers match_query match_cookies proxy_set_headers proxy_add_headers
        rewrite weight plugins client_max_body_size max_processing includes grpc_web enable_reverse_proxy_headers
        max_retries max_retry_window remark""",
    "certificates": "domains tls_cert tls_key is_default is_ca acme dns_challenge dns_provider dns_service_url buffer_days remark",
    "storages": "category value secret remark created_at",
    "upstreams": """addrs discovery dns_server dns_domain dns_search update_frequency algo sni verify_cert health_check
        ipv4_only enable_tracer enable_backend_stats backend_failure_status_code circuit_break_max_consecutive_failures
        circuit_break_max_failure_percent circuit_break_min_requests_threshold
        circuit_break_half_open_consecutive_success_threshold circuit_break_open_duration backend_stats_interval alpn
        max_h2_streams connection_timeout total_connection_timeout read_timeout idle_timeout write_timeout tcp_idle
        tcp_interval tcp_user_timeout tcp_probe_count tcp_recv_buf tcp_fast_open includes remark""",
}
"""Every key that its structs read, by section."""

DEAD_KEYS: Final = {"basic": "cache_directory cache_max_size", "servers": "tcp_fast_open"}
"""Those of its documents that it does not read."""

PLUGIN_KEYS: Final = {
    "accept_encoding": "encodings only_one_encoding",
    "admin": "path authorizations max_age ip_fail_limit",
    "basic_auth": "authorizations delay hide_credentials",
    "cache": """directory namespace headers lock max_ttl max_file_size eviction predictor check_cache_control
        purge_ip_list skip""",
    "combined_auth": "authorizations",
    "compression": "gzip_level br_level zstd_level min_length decompression mode",
    "cors": "path allow_origin allow_methods allow_headers allow_credentials expose_headers max_age",
    "csrf": "token_path key name ttl",
    "directory": "path index autoindex chunk_size max_age private charset headers download follow_symlinks",
    "forward_auth": "auth_url request_headers add_headers timeout",
    "geo_restriction": "type country_codes message",
    "image_optim": "output_types png_quality jpeg_quality avif_quality avif_speed",
    "ip_restriction": "ip_list type message",
    "jwt": "header cookie query secret algorithm public_key jwks_url jwks_ttl auth_path delay",
    "key_auth": "header query keys delay hide_credentials",
    "limit": "type tag key max interval weight",
    "mock": "path status headers data delay",
    "ping": "path",
    "redirect": "http_to_https prefix status",
    "referer_restriction": "type referer_list message",
    "request_id": "algorithm size header_name",
    "response_headers": "add_headers remove_headers set_headers set_headers_not_exists rename_headers mode",
    "stats": "path",
    "sub_filter": "path status_codes filters",
    "traffic_splitting": "upstream weight stickiness sticky_cookie sticky_header matcher",
    "ua_restriction": "type ua_list message",
}
"""Category → keys that it reads; besides, all have `category`, `step` and `remark`."""


def certificates_in(home: Path) -> dict[str, str]:
    """Makes the certificates: of one the files that the configuration names with `~`, of one what its variables hold."""
    certificate, key = self_signed("books.example.org", "*.branch.example.org")
    (home / "tls").mkdir(parents=True)
    (home / "tls/books.pem").write_text(certificate)
    (home / "tls/books.key").write_text(key)
    certificate, key = self_signed("desk.example.org")
    house, house_key = authority("Reading Room House CA")
    desk = {"DESK_CERT": b64encode(certificate.encode()).decode(), "DESK_KEY": key}
    return {**desk, "HOUSE_CERT": house, "HOUSE_KEY": house_key, "CLOUDFLARE": "glass/heron"}


def read(source: str | Path | Readable, env: Mapping[str, str]) -> Snapshot:
    """What a place or an opened storage holds, its plugins looked at. Raises ConfigRefused."""
    storage = storage_of(source) if isinstance(source, str | Path) else source
    return load(storage, env=env, plugin_checker=checking.Checker())


def comparable(snapshot: Snapshot) -> dict[str, Any]:
    """What goes to the stages, notes sorted by path; but for what differs from run to run, or with the Python or the layout."""
    wire = snapshot.to_wire()
    for name, certificate in wire["certificates"].items():
        for key in ("tls_cert", "tls_key"):
            if key in certificate:
                certificate[key] = f"{certificate[key].splitlines()[0]} of {name}"
    wire["ends"], wire["files"] = sorted(wire["ends"]), sorted(wire["files"])
    for server in wire["servers"].values():
        server.pop("tls_ciphersuites", None)  # a Python whose ssl module cannot set it has a note instead
    notes = [{key: text for key, text in note.items() if key != "source"} for note in wire["notes"]]
    wire["notes"] = sorted((note for note in notes if not note["path"].endswith(".tls_ciphersuites")), key=lambda note: note["path"])
    return wire
