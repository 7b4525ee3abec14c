basic {
    webhook = "https://bells.example.org/ring"
    webhook_type = "dingtalk"
    webhook_notifications = ["backend_status", "tls_validity", "diff_config", "restart_fail"]
    log_buffered_size = "64kb"
    error_log = "/var/log/reading-room/error.log?rolling=hourly"
    sentry = "https://abc@sentry.example.org/7"
    pyroscope = "http://127.0.0.1:4040?app=reading-room&tag:hall=east"
    log_compress_algorithm = "gzip"
    log_compress_level = 6
    log_compress_days_ago = 3
    log_compress_time_point_hour = 4
}

server "tower" {
    addr = "127.0.0.1:7443"
    access_log = "/var/log/reading-room/tower.log?rolling=daily combined"
    locations = ["tower"]
    prometheus_metrics = "http://gauge:glass@127.0.0.1:9091/metrics/job/$hostname?interval=30s"
    otlp_exporter = "http://127.0.0.1:4317?timeout=2s&compression=zstd"
}

server "cellar" {
    addr = "127.0.0.1:7080"
    access_log = "syslog:///?format=3164 tiny"
    locations = ["tower"]
}

location "tower" {
    upstream = "stacks"
}

upstream "stacks" {
    addrs = ["10.20.3.1:8200"]
}
