basic {
    name = "edge"
    threads = 2
    trusted_proxies = ["10.0.0.0/8"]
    grace_period = "1m"
    error_template = <<-EOT
        <html>
        <h1>{{error_type}}</h1>
        </html>
    EOT
}

server "web" {
    addr = "0.0.0.0:80,[::]:80"
    access_log = "{when} {method} \"{uri}\" {status}"
    locations = ["api", "all"]
    tcp_fastopen = 10
    enabled_h2 = true
    includes = ["tuning"]
}

server "my.site \"new\"" {
    addr = "127.0.0.1:8080"
    locations = []
}

location "api" {
    host = "api.example.com,~^(?<name>.+)\\.example\\.org$"
    path = "~ ^/api/v[0-9]+/"
    upstream = "app"
    match_headers = ["x-canary"]
    proxy_set_headers = ["x-user:$${name}", "x-host:$host"]
    rewrite = "^/api/(?<rest>.*)$ /$${rest}%%{x}"
    plugins = ["auth", "pingap:requestId"]
    weight = 1000
    client_max_body_size = "1MB"
}

location "all" {
    upstream = "app"
    plugins = ["page", "own"]
    max_retries = 0
}

upstream "app" {
    addrs = ["127.0.0.1:5000", "[::1]:5001 2"]
    algo = "hash:header:X-User"
    health_check = "http://app/ping?check_frequency=5s"
}

certificate "main" {
    tls_cert = <<-EOT
        -----BEGIN CERTIFICATE-----
        MIIB
        -----END CERTIFICATE-----
    EOT
    tls_key = "$ENV:TLS_KEY"
    domains = "example.com,*.example.com"
}

plugin "auth" {
    category = "combined_auth"
    authorizations = [
        {
            app_id = "one"
            authorization = "app:\tsecret"
            ip_list = ["10.0.0.1"]
            secret = "*"
        },
        {
            app_id = "two"
            deviation = 60
            ip_list = []
        },
    ]
}

plugin "page" {
    category = "mock"
    status = 200
    headers = ["Content-Type:text/html"]
    data = <<EOT1
<html>

  <EOT>
EOT
</html>
EOT1
}

plugin "own" {
    category = "python"
    path = "own.py"
    ratio = 0.25
    tags = ["one"]
    none = []
    mixed = [
        1,
        "two",
        [true],
        {
            three = 3
        },
    ]
    big = 9223372036854775807
    inner = {
        item = 1
        "a b" = {
            "ü\n" = {
                list = [
                    [1, 2],
                    [],
                ]
                no = {}
            }
        }
    }
}

storage "tuning" {
    category = "tuning"
    value = <<-EOT
        tcp_idle = "1m"
        tcp_interval = "10s"
    EOT
    remark = "for all servers"
}

stage "accept" {
    replicas = 2
    cpus = [0]
}

bus {
    secret_key = "$ENV:KEY"
}
