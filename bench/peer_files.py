"""How each proxy is told to do the same: one HTTP and one TLS listener in front of one origin, headers for forwarding set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.waiting import free_port

BODY = '{"status": "ok", "message": "This is a test response generated successfully.", "source": "nginx-direct-return"}'
LARGE = 100 << 20
"""Bytes of a download and of an upload."""


SPECIAL = ("gzip", "static", "script", "gateway", "limit", "store")
"""Works that not everybody has something for."""
API_KEY = "k-5e2c9a71"
PLENTY = 1_000_000
"""Requests a second that no limit here is reached with."""


class CannotDo(Exception):
    """The proxy has nothing for this work, or lacks a module for it."""


@dataclass
class Site:
    """Certificate and files of one run, and the origin that everybody stands in front of."""

    root: Path
    origin: int = field(default_factory=free_port)
    work: str = "small"
    store: int = 0
    """Port of a redis-server, where one runs."""

    def __post_init__(self) -> None:
        self.cert, self.key = self.root / "cert.pem", self.root / "key.pem"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        files = ["-keyout", str(self.key), "-out", str(self.cert)]
        subprocess.run(["openssl", *kind, *names, *files], check=True, capture_output=True)
        folder = self.root / "www" / "big"
        folder.mkdir(parents=True)
        with open(folder / "100m", "wb") as file:
            file.truncate(LARGE)
        items = [{"id": i, "name": f"item {i}", "price": i * 7 % 1000 / 10, "tags": ["a", "b", str(i)]} for i in range(140)]
        (folder / "10k.json").write_text(json.dumps(items, indent=1)[:10240])
        self.varied = self.write("varied.lua", VARIED)
        self.write("origin.conf", ORIGIN.format(root=self.root, port=self.origin, body=BODY))

    @property
    def fields(self) -> dict[str, str]:
        """Header lines of each request."""
        return {"X-Api-Key": API_KEY} if self.work == "gateway" else {}

    @property
    def path(self) -> str:
        return "/big/10k.json" if self.work in ("gzip", "static") else "/"

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text)
        return path

    def needs(self, *works: str) -> None:
        """Raises CannotDo for a special work that is not among these."""
        if self.work in SPECIAL and self.work not in works:
            raise CannotDo(self.work)


VARIED = """local n = 0
request = function()
  n = n + 1
  local i = n * 7919 % 1000
  local cookie = "session=" .. (n * 104729 % 1000003) .. "; theme=dark"
  return wrk.format("GET", "/items/" .. i .. "?page=" .. i, {["Cookie"] = cookie, ["Accept"] = "application/json"})
end
"""

ORIGIN = """worker_processes 1; daemon off; pid {root}/origin.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; client_body_temp_path {root}/t1;
server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ default_type application/json; return 200 '{body}'; }}
  location /big/ {{ default_type application/json; root {root}/www; sendfile on; }} }} }}"""

NGINX = """{modules} worker_processes 1; daemon off; pid {root}/ng.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{ access_log off; sendfile on; {http} keepalive_requests 100000000; client_max_body_size 0;
client_body_temp_path {root}/t2; proxy_temp_path {root}/t3;
{limit}upstream u {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
  ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
  location / {{ {gate} {serve} {script} proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection "";
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}"""
NGINX_LUA = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")


def nginx(site: Site, port: int, tls: int) -> list[str]:
    site.needs("gzip", "static", "script", "gateway", "limit")
    serve = f"root {site.root}/www;" if site.work == "static" else "proxy_pass http://u;"
    http = "gzip on; gzip_comp_level 6; gzip_types application/json; gzip_proxied any;" if site.work == "gzip" else ""
    modules = script = ""
    if site.work == "script":
        if not NGINX_LUA.exists():
            raise CannotDo("libnginx-mod-http-lua is not installed")
        modules = "load_module modules/ndk_http_module.so; load_module modules/ngx_http_lua_module.so;"
        script = 'access_by_lua_block { ngx.req.set_header("x-length", #ngx.var.uri) } '
        script += 'header_filter_by_lua_block { ngx.header["x-seen"] = ngx.var.uri }'
    limit = gate = ""
    if site.work in ("gateway", "limit"):
        limit = f"limit_req_zone $binary_remote_addr zone=z:10m rate={PLENTY}r/s;\n"
        gate = f"limit_req zone=z burst={PLENTY} nodelay;"
    if site.work == "gateway":
        limit += f'map $http_x_api_key $known {{ default 0; "{API_KEY}" 1; "k-0" 1; }}\n'
        gate = f"if ($known = 0) {{ return 401; }} {gate} add_header X-Frame-Options DENY; add_header X-Request-Id $request_id;"
        gate += " proxy_set_header X-Request-Id $request_id;"
    more = {"serve": serve, "http": http, "modules": modules, "script": script, "limit": limit, "gate": gate}
    text = NGINX.format(root=site.root, origin=site.origin, port=port, tls=tls, **more)
    return ["nginx", "-c", str(site.write("nginx.conf", text)), "-e", "/dev/null"]


HAPROXY = """global
  nbthread 1
  maxconn 8000
{load}defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option forwardfor
frontend f
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1
  default_backend b
backend b
{more}  server s 127.0.0.1:{origin} pool-max-conn 512
"""
HAPROXY_LUA = """core.register_action("ask", {"http-req"}, function(txn)
  local p = txn.sf:path(); txn.http:req_set_header("x-length", tostring(#p)); txn:set_var("txn.p", p)
end, 0)
core.register_action("answer", {"http-res"}, function(txn) txn.http:res_set_header("x-seen", txn:get_var("txn.p")) end, 0)
"""


def haproxy(site: Site, port: int, tls: int) -> list[str]:
    site.needs("gzip", "script")
    pem = site.write("pem", site.cert.read_text() + site.key.read_text())
    load = more = ""
    if site.work == "gzip":
        more = "  compression algo gzip\n  compression type application/json\n"
    elif site.work == "script":
        load = f"  lua-load {site.write('ha.lua', HAPROXY_LUA)}\n"
        more = "  http-request lua.ask\n  http-response lua.answer\n"
    text = HAPROXY.format(load=load, more=more, port=port, tls=tls, pem=pem, origin=site.origin)
    return ["haproxy", "-db", "-f", str(site.write("ha.cfg", text))]


ENVOY_TYPES = "type.googleapis.com/envoy.extensions"


def _envoy_gate(is_whole: bool) -> list[dict[str, object]]:
    """A bucket for each client address; is_whole: API keys before it, a header line after it, too."""
    bucket = {"max_tokens": PLENTY, "tokens_per_fill": PLENTY, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit: dict[str, object] = {"@type": f"{ENVOY_TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "l"}
    limit |= {"token_bucket": bucket, "filter_enabled": always, "filter_enforced": always}
    limit["rate_limits"] = [{"actions": [{"remote_address": {}}]}]
    limit["descriptors"] = [{"entries": [{"key": "remote_address"}], "token_bucket": bucket}]
    filters: list[dict[str, object]] = [{"name": "limit", "typed_config": limit}]
    if is_whole:
        keys: dict[str, object] = {"@type": f"{ENVOY_TYPES}.filters.http.api_key_auth.v3.ApiKeyAuth"}
        keys["credentials"] = [{"key": API_KEY, "client": "a"}, {"key": "k-0", "client": "b"}]
        keys["key_sources"] = [{"header": "X-Api-Key"}]
        line = {"append": {"header": {"key": "X-Frame-Options", "value": "DENY"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        change: dict[str, object] = {"@type": f"{ENVOY_TYPES}.filters.http.header_mutation.v3.HeaderMutation"}
        change["mutations"] = {"response_mutations": [line]}
        filters = [{"name": "keys", "typed_config": keys}, *filters, {"name": "change", "typed_config": change}]
    return filters


def envoy(site: Site, port: int, tls: int) -> list[str]:
    """Its configuration as JSON, which is YAML too."""
    site.needs("gzip", "script", "gateway", "limit")
    filters: list[dict[str, object]] = []
    if site.work == "gzip":
        library = {"@type": f"{ENVOY_TYPES}.compression.gzip.compressor.v3.Gzip", "compression_level": "COMPRESSION_LEVEL_6"}
        common = {"min_content_length": 100, "content_type": ["application/json"]}
        compressor: dict[str, object] = {"@type": f"{ENVOY_TYPES}.filters.http.compressor.v3.Compressor"}
        compressor["response_direction_config"] = {"common_config": common}
        compressor["compressor_library"] = {"name": "g", "typed_config": library}
        filters.append({"name": "gzip", "typed_config": compressor})
    elif site.work == "script":
        code = 'function envoy_on_request(h) local p = h:headers():get(":path"); h:headers():replace("x-length", tostring(#p)); '
        code += 'h:streamInfo():dynamicMetadata():set("a", "p", p) end '
        code += 'function envoy_on_response(h) h:headers():replace("x-seen", h:streamInfo():dynamicMetadata():get("a")["p"]) end'
        lua = {"@type": f"{ENVOY_TYPES}.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
        filters.append({"name": "lua", "typed_config": lua})
    elif site.work in ("gateway", "limit"):
        filters += _envoy_gate(site.work == "gateway")
    filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": f"{ENVOY_TYPES}.filters.http.router.v3.Router"}})
    route = {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}}
    manager = {
        "@type": f"{ENVOY_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
        "generate_request_id": site.work == "gateway",
        "always_set_request_id_in_response": site.work == "gateway",
    }
    chain: dict[str, object] = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    certificate = {"certificate_chain": {"filename": str(site.cert)}, "private_key": {"filename": str(site.key)}}
    context = {
        "@type": f"{ENVOY_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]},
    }
    secure = chain | {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}

    def at(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    endpoint = {"endpoint": {"address": at(site.origin)}}
    cluster = {
        "name": "c",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listeners = [{"address": at(port), "filter_chains": [chain]}, {"address": at(tls), "filter_chains": [secure]}]
    text = json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}})
    argv = ["-c", str(site.write("envoy.yaml", text)), "--concurrency", "1", "--base-id", str(port), "-l", "error"]
    return [os.environ.get("ENVOY", "envoy"), *argv]


TRAEFIK = """entryPoints: {{web: {{address: "127.0.0.1:{port}"}}, websecure: {{address: "127.0.0.1:{tls}"}}}}
providers: {{file: {{filename: {routes}}}}}
log: {{level: ERROR}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
"""
TRAEFIK_ROUTES = """http:
  routers:
    r: {{rule: "PathPrefix(`/`)", service: s, entryPoints: [web]{used}}}
    t: {{rule: "PathPrefix(`/`)", service: s, entryPoints: [websecure], tls: {{}}}}
  services: {{s: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{origin}"}}]}}}}}}
{declared}tls: {{stores: {{default: {{defaultCertificate: {{certFile: {root}/cert.pem, keyFile: {root}/key.pem}}}}}}}}
"""


def traefik(site: Site, port: int, tls: int) -> list[str]:
    site.needs("gzip")
    used = declared = ""
    if site.work == "gzip":
        used = ", middlewares: [gz]"
        declared = "  middlewares: {gz: {compress: {encodings: [gzip], minResponseBodyBytes: 100}}}\n"
    routes = site.write("routes.yml", TRAEFIK_ROUTES.format(root=site.root, origin=site.origin, used=used, declared=declared))
    static = site.write("traefik.yml", TRAEFIK.format(port=port, tls=tls, routes=routes))
    return [os.environ.get("TRAEFIK", "traefik"), f"--configFile={static}"]


CADDY = """{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  {gzip}
  {serve}
}}
https://localhost:{tls}, https://127.0.0.1:{tls} {{
  bind 127.0.0.1
  tls {root}/cert.pem {root}/key.pem
  reverse_proxy 127.0.0.1:{origin}
}}
"""


def caddy(site: Site, port: int, tls: int) -> list[str]:
    site.needs("gzip", "static")
    serve = f"root * {site.root}/www\n  file_server" if site.work == "static" else f"reverse_proxy 127.0.0.1:{site.origin}"
    gzip = "encode {\n  gzip 6\n  }" if site.work == "gzip" else ""
    text = CADDY.format(root=site.root, origin=site.origin, port=port, tls=tls, gzip=gzip, serve=serve)
    return [os.environ.get("CADDY", "caddy"), "run", "--config", str(site.write("Caddyfile", text)), "--adapter", "caddyfile"]


PINGAP = """[upstreams.origin]
addrs = ["127.0.0.1:{origin}"]

[locations.all]
upstream = "origin"
enable_reverse_proxy_headers = true
{used}

[certificates.local]
tls_cert = "{root}/cert.pem"
tls_key = "{root}/key.pem"
is_default = true

[servers.plain]
addr = "127.0.0.1:{port}"
locations = ["all"]

[servers.secure]
addr = "127.0.0.1:{tls}"
locations = ["all"]
global_certificates = true
enabled_h2 = true
"""
PLUGIN = """from pingap.plugin import CONTINUE, Plugin, Settings


class Nothing(Settings):
    pass


class Lengths(Plugin[Nothing]):
    model = Nothing

    def request(self, exchange):
        exchange.headers["x-length"] = str(len(exchange.path))
        return CONTINUE

    def response(self, exchange):
        exchange.response.headers["x-seen"] = exchange.path
        return CONTINUE
"""


LIMIT = f"""[plugins.limit]
category = "limit"
algorithm = "bucket"
max = {PLENTY}
interval = "1s"
burst = {PLENTY}
nodelay = true
"""
GATEWAY = f"""plugins = ["key", "limit", "headers", "id"]
{LIMIT}
[plugins.key]
category = "key_auth"
header = "X-Api-Key"
keys = ["k-0", "{API_KEY}"]

[plugins.headers]
category = "response_headers"
set_headers = ["X-Frame-Options: DENY"]

[plugins.id]
category = "request_id"
"""


def pingap(*arguments: str) -> Callable[[Site, int, int], list[str]]:
    def build(site: Site, port: int, tls: int) -> list[str]:
        used = ""
        if site.work == "gzip":
            used = 'plugins = ["p"]\n[plugins.p]\ncategory = "compression"\ngzip_level = 6\nmin_length = 100'
        elif site.work == "static":
            used = f'plugins = ["p"]\n[plugins.p]\ncategory = "directory"\npath = "{site.root}/www"'
        elif site.work == "script":
            used = f'plugins = ["p"]\n[plugins.p]\ncategory = "python"\npath = "{site.write("lengths.py", PLUGIN)}"'
        elif site.work in ("gateway", "limit", "store"):
            used = GATEWAY if site.work == "gateway" else f'plugins = ["limit"]\n{LIMIT}'
            if site.work == "store":
                used += f'store = "redis://127.0.0.1:{site.store}"\nstore_timeout = "2s"\n'
        text = PINGAP.format(root=site.root, origin=site.origin, port=port, tls=tls, used=used)
        argv = ["up", "-c", str(site.write("pingap.toml", text)), "--run-dir", str(site.root / f"run-{port}"), *arguments]
        return [sys.executable, "-m", "pingap", *argv]

    return build


PROXIES: dict[str, Callable[[Site, int, int], list[str]]] = {
    "nginx, 1 worker": nginx,
    "haproxy, 1 thread": haproxy,
    "Envoy, concurrency 1": envoy,
    "pingap, colocated, 1 worker": pingap("--placement", "colocated", "--workers", "1"),
    "Traefik": traefik,
    "pingap, split": pingap("--placement", "split"),
    "Caddy": caddy,
}
"""Name to what makes its files and says how it is started on these ports."""
