storage "patience" {
    category = "config"
    value = <<-EOT
        tcp_idle = "3m"
        tcp_interval = "15s"
    EOT
    remark = "for slow lines"
    created_at = 1735689600
}

storage "shelf-key" {
    category = "secret"
    value = "VJRLsyZ0iqKvq5GrrYejRoQFmBR0NlgGQ8e6KNct643uvz0D5tV2Knb++Any2iYK8QqSVLrvtVhNMbhGweGMWlHLwXP37LLiAqDMeuanLqgPdjk9PAfqFLgsMLzb"
    secret = "a pass phrase of the reading room"
}

storage "shelf-note" {
    category = "config"
    value = "remark = \"where the books are\""
}
