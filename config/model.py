"""The configuration as stages see it: frozen, complete, parsed.

This is the one home of every key: its name, its type, its default and what it
means. Durations are seconds (float), sizes are bytes (int), and text that packs
several things (addresses, header lines, the health check URL) is already taken
apart (parts.py). Templates and regular expressions stay text; they were checked on load.

`metadata=RESTART` marks a key whose change only a restart applies; every other
change is taken over by running stages. Importing this module costs no pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pingap.config import wire
from pingap.config.fields import STRICT, Between, EachParsed, Parsed
from pingap.config.parts import DEFAULT_CHECK, AccessLog, Backend, Balance, DnsAddress, HealthCheck, HostRule, Listen, PathRule, Rewrite
from pingap.config.problems import Note

RESTART: dict[str, bool] = {"restart": True}

SCALED_STAGES = ("accept", "routing", "plugins", "upstream")
"""The stages on the request path, in its order; only these may have several replicas."""

STAGES = (*SCALED_STAGES, "logging", "discovery", "metrics", "acme")
"""The names that a [stages.X] section may have."""

PLUGIN_STEPS = ("early_request", "request", "proxy_upstream", "upstream_response", "response")
"""The values of `step` in a [plugins.X] section, in the order in which they happen."""

RESERVED = "pingap:"
"""No upstream has a name that begins so: those are pingap's own (stages/outside.py)."""

Seconds = Annotated[float, Parsed("duration")]
Bytes = Annotated[int, Parsed("size")]
Limit = Annotated[float, Parsed("limit")]
"""Seconds that something may take, more than 0."""
Count = Annotated[int, Between(0)]
AtLeastOne = Annotated[int, Between(1)]
HeaderPairs = Annotated[tuple[tuple[str, str], ...], EachParsed("header")]
Conditions = tuple[tuple[str, str | None], ...]
FilePath = Annotated[str | None, Parsed("file_path")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """[basic]: what is not about one server."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    name: str = "pingap"
    """The name of this instance, in notices and metrics."""
    error_template: str = ""
    """Text of an error answer, with {{version}}, {{error_type}}, {{content}}; empty is the built-in page."""
    pid_file: FilePath = field(default=None, metadata=RESTART)
    """Where the supervisor writes its process id; None writes none."""
    acme_directory: Annotated[str | None, Parsed("absolute_path")] = field(default=None, metadata=RESTART)
    """Where certificates by ACME and the accounts for them are kept, unless the configuration is in etcd, which keeps them then. None:
    `$STATE_DIRECTORY/acme`, or `~/.pingap/acme`."""
    user: str = field(default="", metadata=RESTART)
    """Started by root: the user, a name or a number, that all processes become once the addresses are bound; empty stays root."""
    group: str = field(default="", metadata=RESTART)
    """The same for the group; empty is the user's own, with all others that he is in."""
    threads: Count = field(default=1, metadata=RESTART)
    """Copies of the request path (colocated) or of accept (split); 0 is one a CPU."""
    grace_period: Seconds = 300.0
    """On a graceful stop (QUIT, upgrade): how long requests in flight may go on."""
    graceful_shutdown_timeout: Seconds = 5.0
    """How long processes may take to end after that, and how long a fast stop (TERM, INT) drains."""
    auto_restart_check_interval: Seconds = field(default=90.0, metadata=RESTART)
    """With --autorestart: how long what only a restart applies must have stayed the same before that is done."""
    upstream_keepalive_pool_size: Count = 128
    """Idle connections to backends kept by each upstream process; 0 keeps none."""
    trusted_proxies: Annotated[tuple[str, ...], EachParsed("network")] = ()
    """Networks, as `10.0.0.0/8`, from which X-Forwarded-For and the like are believed; empty believes nobody."""
    log_level: Annotated[str, Parsed("levels")] = "info"
    """The least level that the application log shows: debug, info, warn, error, or off; a stage's own as in `info,accept=debug`."""
    log_format_json: bool = field(default=False, metadata=RESTART)
    """The application log is JSON, one object a line."""
    error_log: FilePath = field(default=None, metadata=RESTART)
    """The file of the application log; None is stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """[servers.X]: addresses, and how clients are spoken to there."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    addr: Annotated[tuple[Listen, ...], Parsed("listen_list")] = field(metadata=RESTART)
    """`host:port`, several separated by commas; `[::1]:80` for IPv6; a port alone is 0.0.0.0."""
    access_log: Annotated[AccessLog | None, Parsed("access_log")] = None
    """A format or a template, optionally after a file path; None writes none."""
    locations: tuple[str, ...] = ()
    """Names of the locations that answer here; their weights decide the order."""
    threads: Annotated[int, Between(0)] | None = field(default=None, metadata=RESTART)
    """As in [basic], for this server; accept gets the largest figure of all servers."""
    reuse_port: bool = field(default=False, metadata=RESTART)
    """One listening socket for each accept replica with SO_REUSEPORT, rather than one that all share."""
    tcp_idle: Seconds | None = field(default=None, metadata=RESTART)
    """TCP keep-alive: silence before the first probe."""
    tcp_interval: Seconds | None = field(default=None, metadata=RESTART)
    """TCP keep-alive: time between probes."""
    tcp_probe_count: Annotated[int, Between(1, 127)] | None = field(default=None, metadata=RESTART)
    """TCP keep-alive: unanswered probes after which the connection is dead."""
    tcp_user_timeout: Seconds | None = field(default=None, metadata=RESTART)
    """How long sent data may stay unacknowledged (TCP_USER_TIMEOUT)."""
    tcp_fastopen: Annotated[int, Between(0, 2**31 - 1)] | None = field(default=None, metadata=RESTART)
    """Length of the queue for TCP Fast Open; 0 or None is off."""
    downstream_read_timeout: Limit = 60.0
    """How long a client may send nothing of a body that is expected."""
    downstream_write_timeout: Limit = 60.0
    """How long a client may take nothing of an answer that is waiting."""
    prometheus_metrics: Annotated[str | None, Parsed("metrics_path")] = None
    """The path at which this server answers with the metrics; None is nowhere."""
    global_certificates: bool = field(default=False, metadata=RESTART)
    """Clients speak TLS here, with the [certificates.X] that fits the name they ask for."""
    tls_min_version: Literal["tlsv1.2", "tlsv1.3"] = "tlsv1.2"
    """Oldest version of TLS that is agreed to; older ones than 1.2 are broken (RFC 8996)."""
    tls_max_version: Literal["tlsv1.2", "tlsv1.3"] = "tlsv1.3"
    tls_cipher_list: Annotated[str, Parsed("cipher_list")] = ""
    """OpenSSL's list of ciphers for TLS 1.2; empty is its default."""
    tls_ciphersuites: Annotated[str, Parsed("ciphersuites")] = ""
    """The same for TLS 1.3, for a Python whose ssl module can set it (3.15)."""
    tls_handshake_timeout: Limit = 10.0
    """From the connection to the end of the handshake."""
    # Stages see PEM.
    client_ca: Annotated[str, Parsed("pem")] = ""
    """A path, PEM, or PEM in base64: whom the certificates of clients are believed by. Without it none is asked for."""
    client_auth: Literal["", "required", "optional"] = ""
    """Whether a client without a certificate is served; empty is required, where there is a `client_ca`."""
    enabled_h2: bool = False
    """HTTP/2 is spoken to clients that want it: by ALPN with TLS, else by prior knowledge or `Upgrade: h2c`."""
    http2_engine: Literal["h2", "ngh2"] = field(default="h2", metadata=RESTART)
    """What reads and writes HTTP/2: the h2 library, or libnghttp2 through ngh2, which is many times faster and younger."""
    http2_max_streams: Annotated[int, Between(1, 10_000)] = 128
    """Most requests in flight on one HTTP/2 connection."""
    modules: Annotated[tuple[str, ...], EachParsed("module")] = ()
    """What this server does besides: `grpc-web`, for the locations that say `grpc_web`."""
    http1_engine: Literal["httptools", "h11"] = field(default="httptools", metadata=RESTART)
    """The HTTP/1.1 parser; h11 is several times slower and meant for comparison."""
    header_timeout: Limit = 10.0
    """From the first byte of a request head to its last."""
    keepalive_timeout: Seconds = 75.0
    """How long a connection may stay open without a request; 0 closes after each answer."""
    max_header_bytes: Bytes = 64 * 1024
    """Longest request head; beyond it 431."""
    max_headers: AtLeastOne = 100
    """Most header lines in a request; beyond it 431."""
    max_target_bytes: Bytes = 16 * 1024
    """Longest request target; beyond it 414."""
    preserve_header_case: bool = False
    """Clients of HTTP/1.x get header names as the backend wrote them, and others with capitals; else all in lower case."""
    enable_server_timing: bool = False
    """Answers of backends say in `Server-Timing` where their time went, in milliseconds. Whoever gets them sees the names of plugins."""
    escape_target: bool = True
    """Bytes beyond ASCII in a request target are percent-encoded; else 400."""
    normalize_path: Literal["off", "match", "forward"] = "off"
    """What locations are compared with: `off` the path as sent; `match` its normal form, while the backend gets what was sent;
    `forward` its normal form, which the backend gets too."""
    via: Annotated[str, Parsed("via")] = ""
    """The name of this proxy in the Via line of requests that go on; one that has it already is a loop. Empty adds none."""
    proxy_protocol: bool = False
    """Connections begin with a header of the PROXY protocol, version 1 or 2, and come from `basic.trusted_proxies` only."""
    max_connections: Count = 0
    """Most client connections of this server in one accept replica; 0 is no cap."""
    includes: tuple[str, ...] = ()
    """Names of [storages.X]: their keys were put over those of this item, and this is empty since."""
    remark: str = ""
    """A note, without effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """[locations.X]: which requests, and what happens to them."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    upstream: str = ""
    """Name of an upstream, or `$name` of a capture; empty when a plugin answers."""
    path: Annotated[PathRule, Parsed("path")] = PathRule()
    """`= /exact`, `~ regex`, `/prefix`; empty is any path."""
    host: Annotated[tuple[HostRule, ...], Parsed("host_list")] = ()
    """Comma separated: `example.com`, `*.example.com`, `~regex`; empty is any host."""
    match_headers: Annotated[Conditions, EachParsed("header_condition")] = ()
    """`name:value` or `name`: pairs (name, value), value None when being there is enough; all must hold."""
    match_query: Annotated[Conditions, EachParsed("condition")] = ()
    """The same for query parameters."""
    match_cookies: Annotated[Conditions, EachParsed("condition")] = ()
    """The same for cookies."""
    proxy_set_headers: HeaderPairs = ()
    """`name:value`, replacing what the client sent; values may be variables such as `$host`."""
    proxy_add_headers: HeaderPairs = ()
    """`name:value`, besides what the client sent."""
    rewrite: Annotated[Rewrite | None, Parsed("rewrite")] = None
    """`pattern replacement`."""
    weight: Annotated[int, Between(0, 65535)] | None = None
    """Precedence, highest first; None lets routing compute it from path and host."""
    plugins: tuple[str, ...] = ()
    """Names of [plugins.X] or built-in ones, in the order in which they run."""
    client_max_body_size: Bytes = 0
    """Longest request body; beyond it 413; 0 is no limit."""
    max_processing: Count = 0
    """Most requests at the same time; beyond it 429; 0 is no limit."""
    grpc_web: bool = False
    """gRPC-Web of a browser becomes gRPC; the server needs the module `grpc-web`, the upstream `alpn = "h2"`."""
    ignore_client_close: bool = False
    """A complete request goes on when its client closes: who has shut only its own side gets the answer."""
    enable_reverse_proxy_headers: bool = False
    """Sets X-Real-IP, X-Forwarded-For, -Proto, -Host and -Port."""
    max_retries: Annotated[int, Between(0, 255)] | None = None
    """Most further attempts after a failed one; None leaves it to the upstream stage's rule, 0 forbids them."""
    max_retry_window: Seconds | None = None
    """No further attempt once this long has passed since the first; None is no limit."""
    retry_status_code: Annotated[tuple[int, ...], Parsed("statuses")] = ()
    """`502,503,504`: an answer with such a status is dropped where the request may be sent again, and another backend is asked."""
    includes: tuple[str, ...] = ()
    """Names of [storages.X]: their keys were put over those of this item, and this is empty since."""
    remark: str = ""
    """A note, without effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """[upstreams.X]: backends, and how they are spoken to."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    discovery: Annotated[Literal["static", "dns", "docker", "transparent"], Parsed("discovery")] = "static"
    """Where backends come from: static, `addrs` itself; dns, what its names stand for, looked up again and again; docker, the containers
    with its labels. When it is not given and a host name is among `addrs`, `localhost` aside, dns. With `transparent` each request goes
    to the host that it asks for."""
    addrs: Annotated[tuple[Backend, ...], EachParsed("backend", beside="discovery")] = ()
    """`host:port weight` or `unix:/path weight`; the port is 80 and the weight 1 when not given. With docker `label:port weight` or
    `name=value:port weight`, the port when not given being what the container exposes or publishes. None only where each request says
    itself where it goes."""
    dns_server: Annotated[tuple[DnsAddress, ...], Parsed("dns_servers")] = ()
    """With dns: `10.0.0.53,10.0.0.54:5353`, asked instead of the system's servers, and instead of its hosts file."""
    dns_domain: Annotated[str, Parsed("dns_domain")] = ""
    """With dns: tried behind a name that is not whole, before the search list of the system."""
    dns_search: Annotated[tuple[str, ...], Parsed("dns_search")] = ()
    """With dns: comma separated, tried behind a name that is not whole, after the search list of the system."""
    update_frequency: Limit | None = None
    """With dns: between two lookups of a name, at least 100 ms; None is the time to live of what was found, from 5 s to 5 minutes. With
    docker: after which there is a new list of containers though there was no event; None is 60 s."""
    docker_host: Annotated[str, Parsed("docker_host")] = ""
    """With docker: `unix:///path` or `tcp://host:port`; empty is what the environment says (DOCKER_HOST), else /var/run/docker.sock."""
    transparent_ports: Annotated[tuple[int, ...], EachParsed("port")] = ()
    """With `transparent`: ports that a request may ask for. Empty: its port does not count, but is 443 with `sni`, else 80."""
    transparent_networks: Annotated[tuple[str, ...], EachParsed("network")] = ()
    """With `transparent`: networks, as `10.0.0.0/8`, that requests may go to besides the public internet. Loopback, link-local and this
    host's own addresses have to be listed by themselves, not within a larger network."""
    algo: Annotated[Balance, Parsed("balance")] = Balance()
    """round_robin, hash, hash:url, hash:path, hash:ip, hash:header:N, hash:cookie:N, hash:query:N, least_conn, p2c."""
    health_check: Annotated[HealthCheck, Parsed("health_check")] = DEFAULT_CHECK
    """`tcp://name?…`, `http://name/path?…`, `https://name/path?…`, `grpc://name?…`; parameters are the fields of HealthCheck."""
    ipv4_only: bool = False
    """A host name is resolved to IPv4 addresses only."""
    sni: Annotated[str, Parsed("sni")] = ""
    """Backends speak TLS and are asked for this name; `$host` is the name that the client asked for. Empty: plain."""
    verify_cert: bool = True
    """With `sni`: the backend's certificate must be for that name and from an authority that the system trusts."""
    alpn: Annotated[Literal["h1", "h2", "h2h1"], Parsed("alpn")] = "h1"
    """HTTP/1.1; HTTP/2 (plain: by prior knowledge); or with TLS whichever the backend prefers, HTTP/2 first."""
    http2_engine: Literal["h2", "ngh2"] = "h2"
    """What reads and writes HTTP/2, as in [servers.X]."""
    preserve_header_case: bool = False
    """Over HTTP/1.1 a backend gets header names as the client or a rule wrote them, and others with capitals; else all in lower case."""
    max_h2_streams: Annotated[int, Between(1, 10_000)] = 100
    """Most requests in flight on one HTTP/2 connection; fewer when the backend says so."""
    connection_timeout: Limit | None = 10.0
    """For the TCP connect with the lookup of a name, for the TLS handshake and for an HTTP/2 backend's first word: each has so long."""
    total_connection_timeout: Limit | None = None
    """For the connect with all that belongs to it (name lookup, handshakes); None is no further limit."""
    read_timeout: Limit = 300.0
    """Between two reads of an answer. The reference has no limit; here every wait ends."""
    write_timeout: Limit = 60.0
    """How long a backend may take nothing of a request that is waiting."""
    idle_timeout: Seconds = 60.0
    """How long an idle connection is kept for reuse; 0 keeps none."""
    tcp_idle: Seconds | None = None
    """TCP keep-alive: silence before the first probe."""
    tcp_interval: Seconds | None = None
    """TCP keep-alive: time between probes."""
    tcp_probe_count: Annotated[int, Between(1, 16)] | None = None
    """TCP keep-alive: unanswered probes after which the connection is dead; at most 16."""
    tcp_user_timeout: Seconds | None = None
    """How long sent data may stay unacknowledged (TCP_USER_TIMEOUT)."""
    tcp_recv_buf: Bytes | None = None
    """Size of the kernel's receive buffer (SO_RCVBUF); None is the system's."""
    tcp_fast_open: bool = False
    """Send data with the first packet (TCP_FASTOPEN_CONNECT)."""
    enable_tracer: bool = False
    """The application log tells of each connection to a backend: opened, with its times; closed, by whom and why."""
    retry_budget: Annotated[int, Between(0, 100)] = 20
    """Most retries of what a backend may have worked on, in percent of the requests of the last 10 s in one upstream process, and ten in
    that time in any case; 0 forbids them, 100 is no limit. A kept connection that closes is everyday, and asks none the first time."""
    max_pending: AtLeastOne = 1024
    """Most requests waiting for a connection in one upstream process; beyond it 503."""
    pending_timeout: Limit = 10.0
    """How long a request waits for a connection to a backend with `max_connections`, or for the first backends to be found; then 503."""
    max_connections: Count = 0
    """Most connections to one backend from one upstream process; 0 is no limit."""
    enable_backend_stats: bool = False
    """The page of metrics has the requests, failures and circuit of each backend; a circuit breaker implies it."""
    backend_stats_interval: Limit = 60.0
    """The window that slides, of which failure rates are; at least a second."""
    backend_failure_status_code: Annotated[tuple[int, ...], Parsed("statuses")] = ()
    """`500,502`: the statuses of answers that are failures of the backend; empty is any 5xx."""
    circuit_break_max_consecutive_failures: Count = 0
    """Failures in a row that open a backend's circuit; 0 is no such rule."""
    circuit_break_max_failure_percent: Annotated[int, Between(0, 100)] = 0
    """Percent of the window's requests that open it when they have failed; 0 is no such rule."""
    circuit_break_min_requests_threshold: Count = 10
    """Requests of the window below which their percentage says nothing."""
    circuit_break_half_open_consecutive_success_threshold: Annotated[int, Between(1, 1000)] = 5
    """Probes that must pass, half-open, to close it; no more than these are let through until then."""
    circuit_break_open_duration: Limit = 10.0
    """How long it is open before it is half-open."""
    slow_start: Seconds = 0.0
    """A backend that comes back, or is found later, gets its share of requests little by little over so long; 0 at once."""
    includes: tuple[str, ...] = ()
    """Names of [storages.X]: their keys were put over those of this item, and this is empty since."""
    remark: str = ""
    """A note, without effect."""

    @property
    def has_breaker(self) -> bool:
        """Its backends have circuits that may open."""
        return self.circuit_break_max_consecutive_failures > 0 or self.circuit_break_max_failure_percent > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """[certificates.X]: whom this proxy can prove to be."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    # What stages see is PEM, or "" for one by ACME.
    tls_cert: Annotated[str, Parsed("pem")] = ""
    """A path, PEM, or PEM in base64: the server's certificate first, then the chain."""
    tls_key: Annotated[str, Parsed("pem")] = field(default="", repr=False)
    """The same of the private key."""
    # For stages always "": the key is decrypted when it is read.
    tls_key_passphrase: str = field(default="", repr=False)
    """With which `tls_key` is encrypted."""
    domains: Annotated[tuple[str, ...], Parsed("domains")] = ()
    """Comma separated names it is used for, `*.example.com` for one label; without them those that it is for."""
    is_default: bool = False
    """It is used for clients that ask for no name, or for one that no certificate is for."""
    is_ca: bool = False
    """It is an authority's: certificates for the names that clients ask for are made with it."""
    # Stages see the URL.
    acme: Annotated[str, Parsed("acme_directory")] = ""
    """The authority that issues and renews it (RFC 8555): `lets_encrypt`, … or the URL of a directory. Empty is none."""
    acme_challenge: Literal["", "http-01", "tls-alpn-01", "dns-01"] = ""
    """How it is proved that the names are ours; empty takes what the servers allow."""
    acme_email: str = ""
    """Whom the authority may write to."""
    acme_key_type: Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"] = "ecdsa-p256"
    """The kind of private key that is made for it."""
    acme_profile: str = ""
    """Of the kinds of certificates that the authority offers, `shortlived` for one; empty is its default."""
    acme_eab_kid: str = ""
    """The customer's account with the authority (external account binding, RFC 8555 section 7.3.4)."""
    acme_eab_hmac_key: str = field(default="", repr=False)
    """Its key, in base64url."""
    acme_ca: Annotated[str, Parsed("pem")] = ""
    """Whom the authority's own TLS is believed by, when the system does not know it: a path, or PEM."""
    dns_challenge: bool = False
    """The same as acme_challenge = "dns-01", which wildcards need."""
    dns_provider: Annotated[str, Parsed("dns_provider")] = "manual"
    """Who serves the zone: ali, cf, tencent, huawei; manual asks you to."""
    dns_service_url: str = field(default="", repr=False)
    """The provider's interface, with its keys in the query."""
    dns_server: Annotated[tuple[DnsAddress, ...], Parsed("dns_servers")] = ()
    """Who is asked whether a record has arrived; none are the servers of the zone."""
    buffer_days: Annotated[int, Between(1, 65535)] | None = None
    """Days before its end: by ACME it is renewed then, of others a note says so (7). None leaves the time to the authority."""
    remark: str = ""
    """A note, without effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredValue:
    """[storages.X]: a text under a name, for includes. Stages never see it: what it is for has it in its place."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    category: str
    """What it is for, in words of who keeps it; any."""
    value: str = field(repr=False)
    """The text; encrypted when there is a `secret`."""
    secret: str = field(default="", repr=False)
    """The pass phrase with which `value` was encrypted; empty when it was not."""
    remark: str = ""
    """A note, without effect."""
    created_at: Count | None = None
    """Seconds since 1970 at which it was written; who deletes what is old goes by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """[stages.X]: how a stage is run."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    replicas: Annotated[int, Between(1, 1024)] | None = field(default=None, metadata=RESTART)
    """Processes; None is one, and for accept what `threads` says. Only the request path's may exceed 1."""
    cpus: Annotated[tuple[int, ...], EachParsed("cpu")] = field(default=(), metadata=RESTART)
    """CPUs to pin the replicas to; empty pins to none."""
    endpoint: Annotated[str | None, Parsed("endpoint")] = field(default=None, metadata=RESTART)
    """`tcp://address:port`, an IP address, when the stage runs on another host; needs the keys of [bus]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """[bus]: the CURVE keys, without which no message leaves the host. Both or none."""

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    public_key: Annotated[str | None, Parsed("curve_key")] = field(default=None, metadata=RESTART)
    """40 characters of Z85, as `zmq.curve_keypair()` gives them."""
    secret_key: Annotated[str | None, Parsed("curve_key")] = field(default=None, metadata=RESTART, repr=False)
    """The same; better written as `$ENV:NAME` than into the file."""


KINDS: Mapping[str, type] = {
    "basic": Basic,
    "servers": Server,
    "locations": Location,
    "upstreams": Upstream,
    "certificates": Certificate,
    "storages": StoredValue,
    "stages": Stage,
    "bus": Bus,
}
"""What the items of a section are, by the section. Plugins have models of their own."""


@dataclass(frozen=True, slots=True)
class CodeModule:
    """A module that belongs to the code of a plugin: the plugin imports it from beside itself."""

    name: str
    """As the plugin imports it."""
    path: str
    """As of Code."""
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a plugin that a user wrote, as it was read for the checks."""

    path: str
    """Where it was read, absolute; from then on only a name, for tracebacks."""
    text: bytes = field(repr=False)
    name: str = ""
    """What its own modules know it by; "" when it is installed, and what is beside it is not its own."""
    root: str = ""
    """The directory at which their names start."""
    modules: tuple[CodeModule, ...] = ()
    """Its own modules, sorted by name."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all its files."""
        return (self.path, *(one.path for one in self.modules))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A whole, checked configuration. Mappings are by the name of the section; treat them as frozen."""

    basic: Basic = Basic()
    servers: Mapping[str, Server] = field(default_factory=dict)
    locations: Mapping[str, Location] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    plugins: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Each section as the file has it, `category` and `step` included: the plugin's own model parses it."""
    code: Mapping[str, Code] = field(default_factory=dict)
    """By plugin, of those that users wrote: a process that starts later runs what was accepted, whatever the file says by then."""
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    ends: Mapping[str, float] = field(default_factory=dict)
    """When each certificate ends, in Unix seconds: for who must not see keys."""
    files: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Certificate → the file that it was read from; those that stand in the configuration are not in it."""
    challenged: Mapping[str, str] = field(default_factory=dict)
    """Certificate by ACME whose names are not proved by DNS → directory of its authority, which may fetch the proof: for who must not
    see keys."""
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    """Server → the upstreams that its locations name: made of these for a stage that need not go through thousands of locations."""
    stages: Mapping[str, Stage] = field(default_factory=dict)
    """Only what the file names; ask `stage()` for any."""
    bus: Bus = Bus()
    notes: tuple[Note, ...] = ()
    """What was found while it was read; `notes_on` tells it, with what the snapshot itself shows."""
    secret: tuple[str, ...] = ()
    """Paths of values that came out of encrypted storages, sorted: never to be shown."""

    def stage(self, name: str) -> Stage:
        """How the stage `name` is run, with the defaults when the file does not name it."""
        return self.stages.get(name) or Stage()

    def replicas(self, name: str, cpus: int) -> int:
        """How many processes the stage `name` gets on a machine with `cpus` CPUs, `--scale` not considered."""
        given = self.stage(name).replicas
        if given is not None:
            return given
        if name != "accept":
            return 1
        threads = [server.threads for server in self.servers.values() if server.threads is not None]
        return max(count or cpus for count in (self.basic.threads, *threads))

    def to_wire(self) -> dict[str, Any]:
        """Plain data for MessagePack; keys that have their default are left out."""
        return wire.to_wire(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Snapshot:
        """What `to_wire` was called on. Trusts its argument: only a checked snapshot is ever sent."""
        return wire.from_wire(cls, data)
