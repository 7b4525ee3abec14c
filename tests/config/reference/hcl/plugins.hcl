plugin "number" {
    category = "request_id"
    step = "request"
    algorithm = "nanoid"
    size = 12
    header_name = "X-Reading-Id"
    remark = "each request has a number"
}

plugin "memory" {
    category = "cache"
    directory = "~/cache/reading-room?levels=1:2&inactive=1d&max_size=2gb"
    namespace = "catalogue"
    headers = ["Accept-Language"]
    lock = "2s"
    max_ttl = "1h"
    max_file_size = "3mb"
    eviction = true
    predictor = true
    check_cache_control = true
    purge_ip_list = ["127.0.0.1", "10.20.0.0/16"]
    skip = "/(lending|desk)"
}

plugin "doorman" {
    category = "ip_restriction"
    step = "request"
    ip_list = ["203.0.113.9", "198.51.100.0/24"]
    type = "Deny"
    message = "Not in this library"
}

plugin "badge" {
    category = "basic_auth"
    step = "request"
    authorizations = ["cmVhZGVyOmluay1hbmQtcGFwZXI=", "YmluZGVyOm5lZWRsZQ=="]
    delay = "1s"
    hide_credentials = true
}

plugin "turnstile" {
    category = "key_auth"
    step = "request"
    header = "X-Ticket"
    keys = ["spring-ticket", "autumn-ticket"]
    delay = "500ms"
    hide_credentials = true
}

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

plugin "pass" {
    category = "jwt"
    header = "Authorization"
    secret = "lamp oil"
    algorithm = "HS512"
    auth_path = "/enter"
    delay = "2s"
}

plugin "visitor-pass" {
    category = "jwt"
    cookie = "pass"
    jwks_url = "https://passes.example.org/jwks.json"
    jwks_ttl = "30m"
}

plugin "old-pass" {
    category = "jwt"
    query = "pass"
    algorithm = "ES256"
    public_key = <<-EOT
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+evkZBR8wQLZIyTQmdknwaUOQtV6
        CKEW/+wKKYGdjGVwuvfRKIiQKmoMHWet0QMSPIWatpv46UMck4STDUt+7g==
        -----END PUBLIC KEY-----
    EOT
}

plugin "window" {
    category = "key_auth"
    query = "ticket"
    keys = ["window-ticket"]
}

plugin "queue" {
    category = "limit"
    step = "proxy_upstream"
    type = "rate"
    tag = "header"
    key = "X-Reader"
    max = 40
    interval = "30s"
    weight = 60
}

plugin "press" {
    category = "compression"
    step = "early_request"
    gzip_level = 7
    br_level = 5
    zstd_level = 4
    min_length = 1024
    decompression = true
    mode = "upstream"
}

plugin "labels" {
    category = "response_headers"
    step = "response"
    add_headers = ["X-Library:reading-room"]
    remove_headers = ["Server"]
    set_headers = ["X-Hall:$hall"]
    set_headers_not_exists = ["X-Shelf:none"]
    rename_headers = ["X-Old-Shelf:X-Shelf"]
    mode = "response"
}

plugin "spelling" {
    category = "sub_filter"
    step = "response"
    path = "^/v2/"
    status_codes = "200,404"
    filters = ["sub_filter 'colour' 'color' g", "subs_filter 'shelf ([0-9]+)' 'shelf no. $1' gi"]
}

plugin "shortlist" {
    category = "accept_encoding"
    encodings = "br, gzip"
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
    category = "referer_restriction"
    type = "allow"
    referer_list = ["books.example.org", "*.branch.example.org"]
    message = "Not from that page"
}

plugin "robots" {
    category = "ua_restriction"
    type = "deny"
    ua_list = ["[Cc]rawler", "^curl/"]
    message = "Readers only"
}

plugin "figures" {
    category = "stats"
    step = "request"
    path = "/figures"
}

plugin "librarian" {
    category = "admin"
    path = "/office"
    authorizations = ["aGVhZDpvZi10aGUtaG91c2U="]
    max_age = "1d"
    ip_fail_limit = 5
}

plugin "fork" {
    category = "traffic_splitting"
    upstream = "stacks"
    weight = 25
    stickiness = true
    sticky_cookie = "desk"
    sticky_header = "X-Desk"
    matcher = "^east-"
}

plugin "neighbours" {
    category = "cors"
    path = "^/v2/"
    allow_origin = "$http_origin"
    allow_methods = "GET, PUT"
    allow_headers = "X-Reader, X-Ticket"
    allow_credentials = true
    expose_headers = "X-Hall"
    max_age = "20m"
}

plugin "pictures" {
    category = "image_optim"
    output_types = "webp,avif"
    png_quality = 85
    jpeg_quality = 70
    avif_quality = 65
    avif_speed = 5
}

plugin "border" {
    category = "geo_restriction"
    type = "deny"
    country_codes = ["AQ", "BV HM"]
    message = "Not from there"
}

plugin "bell" {
    category = "ping"
    step = "request"
    path = "/bell"
}

plugin "notice" {
    category = "mock"
    step = "request"
    path = "/opening-hours"
    status = 203
    headers = ["Content-Type:text/plain; charset=utf-8", "Cache-Control:max-age=60"]
    data = <<-EOT
        nine to five
    EOT
    delay = "10ms"
}

plugin "over" {
    category = "redirect"
    step = "request"
    http_to_https = true
    prefix = "/east"
    status = 308
}
