# The same library in HCL, as its users write it: blocks in blocks, in the singular and in the plural.

basic {
  name                         = "reading-room"
  error_template               = <<-EOT
    <html>
    <body><h1>The reading room is closed</h1><p>{{error_type}}: {{content}} ({{version}})</p></body>
    </html>
  EOT
  pid_file                     = "/run/reading-room.pid"
  error_log                    = "/var/log/reading-room/error.log"
  upgrade_sock                 = "/tmp/reading_room_upgrade.sock"
  user                         = "library"
  group                        = "readers"
  threads                      = 2
  work_stealing                = true
  listener_tasks_per_fd        = 1
  grace_period                 = "2m"
  graceful_shutdown_timeout    = "7s"
  upstream_keepalive_pool_size = 64
  trusted_proxies              = ["10.20.0.0/16", "192.168.7.1"]
  log_level                    = "pingap=debug,warn"
  log_format_json              = true
  auto_restart_check_interval  = "2m 30s"
  cache_directory              = "/var/cache/reading-room"
  cache_max_size               = "100mb"
}

server "reading" {
  addr                     = "0.0.0.0:443,[::]:443"
  access_log               = "/var/log/reading-room/access.log {when} {client_ip} {method} {uri} {status} {size_human} {latency_human} {:upstream_addr}"
  threads                  = 3
  enable_server_timing     = true
  global_certificates      = true
  tls_cipher_list          = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
  tls_ciphersuites         = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
  tls_min_version          = "TLSv1.2"
  tls_max_version          = "tlsv1.3"
  enabled_h2               = true
  tcp_idle                 = "30s"
  tcp_interval             = "20s"
  tcp_probe_count          = 6
  tcp_user_timeout         = "45s"
  tcp_fastopen             = 12
  reuse_port               = true
  downstream_read_timeout  = "25s"
  downstream_write_timeout = "50s"
  prometheus_metrics       = "/metrics/reading-room"
  modules                  = ["grpc-web"]
  includes                 = ["patience"]
  remark                   = "who reads comes in here"

  location "catalogue" {
    path                         = "~ ^/(?<hall>east|west)/catalogue"
    host                         = "books.example.org,*.branch.example.org"
    match_headers                = ["Accept-Language:de", "X-Reader"]
    match_query                  = ["page"]
    match_cookies                = ["desk:7"]
    proxy_set_headers            = ["Host:$host", "X-Hall:$hall", "Connection:upgrade"]
    proxy_add_headers            = ["X-Seen-By:reading-room", "X-Desk:$hostname"]
    rewrite                      = "^/(east|west)/catalogue/(.*)$ /v2/$1/$2"
    weight                       = 2048
    plugins                      = ["number", "doorman", "badge", "queue", "memory", "pingap:compression"]
    client_max_body_size         = "5MB"
    max_processing               = 250
    enable_reverse_proxy_headers = true
    max_retries                  = 2
    max_retry_window             = "4s"
    remark                       = "what there is to read"

    upstream "shelves" {
      addrs                    = ["10.20.1.11:8100 10", "10.20.1.12:8100 5", "10.20.1.13"]
      discovery                = "static"
      algo                     = "hash:cookie:desk"
      health_check             = "http://shelves.example.org/healthz?check_frequency=15s&connection_timeout=2s&read_timeout=1500ms&success=2&failure=3&reuse"
      connection_timeout       = "3s"
      total_connection_timeout = "5s"
      read_timeout             = "20s"
      idle_timeout             = "1m 15s"
      enable_tracer            = true
      write_timeout            = "12s"
      tcp_idle                 = "2m"
      tcp_interval             = "30s"
      tcp_probe_count          = 4
      tcp_user_timeout         = "40s"
      tcp_recv_buf             = "96kb"
      tcp_fast_open            = true
      ipv4_only                = true
      enable_backend_stats     = true
      backend_stats_interval   = "2m"
      backend_failure_status_code = "500,502,504"
      circuit_break_max_consecutive_failures = 4
      circuit_break_max_failure_percent = 40
      circuit_break_min_requests_threshold = 20
      circuit_break_half_open_consecutive_success_threshold = 3
      circuit_break_open_duration = "15s"
      includes                 = ["patience", "shelf-note"]
    }

    plugin "labels" {
      category               = "response_headers"
      step                   = "response"
      add_headers            = ["X-Library:reading-room"]
      remove_headers         = ["Server"]
      set_headers            = ["X-Hall:$hall"]
      set_headers_not_exists = ["X-Shelf:none"]
      rename_headers         = ["X-Old-Shelf:X-Shelf"]
      mode                   = "response"
    }

    plugin "spelling" {
      category     = "sub_filter"
      step         = "response"
      path         = "^/v2/"
      status_codes = "200,404"
      filters      = ["sub_filter 'colour' 'color' g", "subs_filter 'shelf ([0-9]+)' 'shelf no. $1' gi"]
    }
  }

  location "covers" {
    upstream = "shelves"
    path     = "/covers"
    includes = ["shelf-key"]

    plugin "guild" {
        category = "combined_auth"
        authorizations = [
            {
                app_id = "binder"
                secret = "thread"
                deviation = 30
                ip_list = ["10.20.5.0/24"]
            },
            {
                app_id = "printer"
                secret = "*"
            },
        ]
    }

    plugin "stamp" {
        category = "csrf"
        token_path = "/stamp"
        key = "wax and seal"
        name = "x-stamp"
        ttl = "3h"
    }

    plugin "porter" {
        category = "forward_auth"
        auth_url = "http://127.0.0.1:9400/may-pass"
        request_headers = ["Authorization", "Cookie"]
        add_headers = ["X-Reader-Role"]
        timeout = "3s"
    }

    plugin "turnstile" {
      category         = "key_auth"
      step             = "request"
      header           = "X-Ticket"
      keys             = ["spring-ticket", "autumn-ticket"]
      delay            = "500ms"
      hide_credentials = true
    }

    plugin "press" {
      category      = "compression"
      step          = "early_request"
      gzip_level    = 7
      br_level      = 5
      zstd_level    = 4
      min_length    = 1024
      decompression = true
      mode          = "upstream"
    }
  }

  location "lending" {
    path     = "/lending.Desk/"
    grpc_web = true
    plugins  = ["window", "pingap:requestId", "pingap:compressionUpstream"]

    upstream "desk" {
      addrs          = ["10.20.2.5:9443"]
      sni            = "desk.example.org"
      verify_cert    = false
      alpn           = "H2"
      max_h2_streams = 32
      remark         = "speaks gRPC"
      health_check   = "grpc://desk.example.org?service=lending.Desk&tls&check_frequency=30s"
    }
  }

  upstream "anywhere" {
    addrs     = ["any"]
    discovery = "transparent"
    sni       = "$host"
  }

  certificate "books" {
    domains     = "books.example.org,*.branch.example.org"
    tls_cert    = "~/tls/books.pem"
    tls_key     = "~/tls/books.key"
    is_default  = true
    buffer_days = 14
    remark      = "from files"
  }
}

servers "porch" {
  addr            = "0.0.0.0:80"
  access_log      = "combined"
  tls_min_version = "tls1.1"
  tls_max_version = "TLSv1.2"
  tcp_fast_open   = true

  location "porch" {
    plugins = ["pingap:ping", "pass", "visitor-pass", "old-pass", "pingap:acceptEncodingAdjustment", "shortlist", "leaflets", "links", "robots", "border", "neighbours", "fork", "pingap:stats"]

    plugin "figures" {
      category = "stats"
      step     = "request"
      path     = "/figures"
    }
    plugin "librarian" {
      category       = "admin"
      path           = "/office"
      authorizations = ["aGVhZDpvZi10aGUtaG91c2U="]
      max_age        = "1d"
      ip_fail_limit  = 5
    }
    plugin "bell" {
      category = "ping"
      step     = "request"
      path     = "/bell"
    }
    plugin "pictures" {
      category     = "image_optim"
      output_types = "webp,avif"
      png_quality  = 85
      jpeg_quality = 70
      avif_quality = 65
      avif_speed   = 5
    }
    plugin "notice" {
      category = "mock"
      step     = "request"
      path     = "/opening-hours"
      status   = 203
      headers  = ["Content-Type:text/plain; charset=utf-8", "Cache-Control:max-age=60"]
      data     = "nine to five\n"
      delay    = "10ms"
    }
    plugin "over" {
      category      = "redirect"
      step          = "request"
      http_to_https = true
      prefix        = "/east"
      status        = 308
    }
  }
}

upstream "stacks" {
  addrs            = ["stacks:8200 2", "10.20.3.1:8200"]
  discovery        = "dns"
  dns_server       = "10.20.0.2,10.20.0.3"
  dns_domain       = "example.org"
  dns_search       = "hall.example.org,example.org"
  update_frequency = "45s"
}

upstream "boxes" {
  addrs     = ["reading-boxes:8300 2", "library.kind=box"]
  discovery = "docker"
}

upstreams "annex" {
  addrs = ["annex.example.org:8400"]
}

certificates "desk" {
  tls_cert = "$ENV:DESK_CERT"
  tls_key  = "$ENV:DESK_KEY"
}

certificate "ordered" {
  domains         = "annex.example.org,*.annex.example.org"
  acme            = "lets_encrypt"
  dns_challenge   = true
  dns_provider    = "cf"
  dns_service_url = "https://api.cloudflare.com?token=$ENV:CLOUDFLARE"
}

certificate "house" {
  domains  = "*.house.example.org"
  tls_cert = "$ENV:HOUSE_CERT"
  tls_key  = "$ENV:HOUSE_KEY"
  is_ca    = true
}

plugin "number" {
  category    = "request_id"
  step        = "request"
  algorithm   = "nanoid"
  size        = 12
  header_name = "X-Reading-Id"
  remark      = "each request has a number"
}

plugin "memory" {
  category            = "cache"
  directory           = "~/cache/reading-room?levels=1:2&inactive=1d&max_size=2gb"
  namespace           = "catalogue"
  headers             = ["Accept-Language"]
  lock                = "2s"
  max_ttl             = "1h"
  max_file_size       = "3mb"
  eviction            = true
  predictor           = true
  check_cache_control = true
  purge_ip_list       = ["127.0.0.1", "10.20.0.0/16"]
  skip                = "/(lending|desk)"
}

plugin "doorman" {
  category = "ip_restriction"
  step     = "request"
  ip_list  = ["203.0.113.9", "198.51.100.0/24"]
  type     = "Deny"
  message  = "Not in this library"
}

plugin "pass" {
  category  = "jwt"
  header    = "Authorization"
  secret    = "lamp oil"
  algorithm = "HS512"
  auth_path = "/enter"
  delay     = "2s"
}

plugin "visitor-pass" {
  category = "jwt"
  cookie   = "pass"
  jwks_url = "https://passes.example.org/jwks.json"
  jwks_ttl = "30m"
}

plugin "old-pass" {
  category   = "jwt"
  query      = "pass"
  algorithm  = "ES256"
  public_key = <<-EOT
    -----BEGIN PUBLIC KEY-----
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+evkZBR8wQLZIyTQmdknwaUOQtV6
    CKEW/+wKKYGdjGVwuvfRKIiQKmoMHWet0QMSPIWatpv46UMck4STDUt+7g==
    -----END PUBLIC KEY-----
  EOT
}

plugin "badge" {
  category         = "basic_auth"
  step             = "request"
  authorizations   = ["cmVhZGVyOmluay1hbmQtcGFwZXI=", "YmluZGVyOm5lZWRsZQ=="]
  delay            = "1s"
  hide_credentials = true
}

plugin "shortlist" {
  category          = "accept_encoding"
  encodings         = "br, gzip"
  only_one_encoding = true
}

plugin "leaflets" {
    category = "directory"
    step = "request"
    path = "~/leaflets"
    index = "first.html"
    autoindex = true
    chunk_size = "16kb"
    max_age = "12h"
    private = true
    charset = "utf-8"
    headers = ["X-Leaflet:yes"]
    download = true
    follow_symlinks = false
}

plugin "links" {
  category     = "referer_restriction"
  type         = "allow"
  referer_list = ["books.example.org", "*.branch.example.org"]
  message      = "Not from that page"
}

plugin "robots" {
  category = "ua_restriction"
  type     = "deny"
  ua_list  = ["[Cc]rawler", "^curl/"]
  message  = "Readers only"
}

plugin "fork" {
  category      = "traffic_splitting"
  upstream      = "stacks"
  weight        = 25
  stickiness    = true
  sticky_cookie = "desk"
  sticky_header = "X-Desk"
  matcher       = "^east-"
}

plugin "neighbours" {
  category          = "cors"
  path              = "^/v2/"
  allow_origin      = "$http_origin"
  allow_methods     = "GET, PUT"
  allow_headers     = "X-Reader, X-Ticket"
  allow_credentials = true
  expose_headers    = "X-Hall"
  max_age           = "20m"
}

plugin "border" {
  category      = "geo_restriction"
  type          = "deny"
  country_codes = ["AQ", "BV HM"]
  message       = "Not from there"
}

plugins "window" {
  category = "key_auth"
  query    = "ticket"
  keys     = ["window-ticket"]
}

plugin "queue" {
  category = "limit"
  step     = "proxy_upstream"
  type     = "rate"
  tag      = "header"
  key      = "X-Reader"
  max      = 40
  interval = "30s"
  weight   = 60
}

storage "patience" {
  category   = "config"
  value      = <<-EOT
    tcp_idle = "3m"
    tcp_interval = "15s"
  EOT
  remark     = "for slow lines"
  created_at = 1735689600
}

storages "shelf-key" {
  category = "secret"
  value    = "VJRLsyZ0iqKvq5GrrYejRoQFmBR0NlgGQ8e6KNct643uvz0D5tV2Knb++Any2iYK8QqSVLrvtVhNMbhGweGMWlHLwXP37LLiAqDMeuanLqgPdjk9PAfqFLgsMLzb"
  secret   = "a pass phrase of the reading room"
}

storage "shelf-note" {
  category = "config"
  value    = "remark = \"where the books are\""
}
