server "reading" {
    addr = "0.0.0.0:443,[::]:443"
    access_log = "/var/log/reading-room/access.log {when} {client_ip} {method} {uri} {status} {size_human} {latency_human} {:upstream_addr}"
    locations = ["catalogue", "covers", "lending"]
    threads = 3
    global_certificates = true
    tls_cipher_list = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    tls_ciphersuites = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    tls_min_version = "TLSv1.2"
    tls_max_version = "tlsv1.3"
    enabled_h2 = true
    tcp_idle = "30s"
    tcp_interval = "20s"
    tcp_probe_count = 6
    tcp_user_timeout = "45s"
    tcp_fastopen = 12
    reuse_port = true
    downstream_read_timeout = "25s"
    downstream_write_timeout = "50s"
    prometheus_metrics = "/metrics/reading-room"
    modules = ["grpc-web"]
    enable_server_timing = true
    includes = ["patience"]
    remark = "who reads comes in here"
}

server "porch" {
    addr = "0.0.0.0:80"
    access_log = "combined"
    locations = ["porch"]
    tls_min_version = "tls1.1"
    tls_max_version = "TLSv1.2"
    tcp_fast_open = true
}
