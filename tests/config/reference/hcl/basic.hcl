basic {
    name = "reading-room"
    error_template = <<-EOT
        <html>
        <body><h1>The reading room is closed</h1><p>{{error_type}}: {{content}} ({{version}})</p></body>
        </html>
    EOT
    pid_file = "/run/reading-room.pid"
    error_log = "/var/log/reading-room/error.log"
    upgrade_sock = "/tmp/reading_room_upgrade.sock"
    user = "library"
    group = "readers"
    threads = 2
    work_stealing = true
    listener_tasks_per_fd = 1
    grace_period = "2m"
    graceful_shutdown_timeout = "7s"
    upstream_keepalive_pool_size = 64
    trusted_proxies = ["10.20.0.0/16", "192.168.7.1"]
    log_level = "pingap=debug,warn"
    log_format_json = true
    auto_restart_check_interval = "2m 30s"
    cache_directory = "/var/cache/reading-room"
    cache_max_size = "100mb"
}
