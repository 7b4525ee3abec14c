upstream "shelves" {
    addrs = ["10.20.1.11:8100 10", "10.20.1.12:8100 5", "10.20.1.13"]
    discovery = "static"
    algo = "hash:cookie:desk"
    health_check = "http://shelves.example.org/healthz?check_frequency=15s&connection_timeout=2s&read_timeout=1500ms&success=2&failure=3&reuse"
    connection_timeout = "3s"
    total_connection_timeout = "5s"
    read_timeout = "20s"
    idle_timeout = "1m 15s"
    enable_tracer = true
    write_timeout = "12s"
    tcp_idle = "2m"
    tcp_interval = "30s"
    tcp_probe_count = 4
    tcp_user_timeout = "40s"
    tcp_recv_buf = "96kb"
    tcp_fast_open = true
    ipv4_only = true
    enable_backend_stats = true
    backend_stats_interval = "2m"
    backend_failure_status_code = "500,502,504"
    circuit_break_max_consecutive_failures = 4
    circuit_break_max_failure_percent = 40
    circuit_break_min_requests_threshold = 20
    circuit_break_half_open_consecutive_success_threshold = 3
    circuit_break_open_duration = "15s"
    includes = ["patience", "shelf-note"]
}

upstream "desk" {
    addrs = ["10.20.2.5:9443"]
    sni = "desk.example.org"
    verify_cert = false
    alpn = "H2"
    max_h2_streams = 32
    remark = "speaks gRPC"
    health_check = "grpc://desk.example.org?service=lending.Desk&tls&check_frequency=30s"
}

upstream "anywhere" {
    addrs = ["any"]
    discovery = "transparent"
    sni = "$host"
}

upstream "stacks" {
    addrs = ["stacks:8200 2", "10.20.3.1:8200"]
    discovery = "dns"
    dns_server = "10.20.0.2,10.20.0.3"
    dns_domain = "example.org"
    dns_search = "hall.example.org,example.org"
    update_frequency = "45s"
}

upstream "boxes" {
    addrs = ["reading-boxes:8300 2", "library.kind=box"]
    discovery = "docker"
}

upstream "annex" {
    addrs = ["annex.example.org:8400"]
}
