certificate "books" {
    domains = "books.example.org,*.branch.example.org"
    tls_cert = "~/tls/books.pem"
    tls_key = "~/tls/books.key"
    is_default = true
    buffer_days = 14
    remark = "from files"
}

certificate "desk" {
    tls_cert = "$ENV:DESK_CERT"
    tls_key = "$ENV:DESK_KEY"
}

certificate "ordered" {
    domains = "annex.example.org,*.annex.example.org"
    acme = "lets_encrypt"
    dns_challenge = true
    dns_provider = "cf"
    dns_service_url = "https://api.cloudflare.com?token=$ENV:CLOUDFLARE"
}

certificate "house" {
    domains = "*.house.example.org"
    tls_cert = "$ENV:HOUSE_CERT"
    tls_key = "$ENV:HOUSE_KEY"
    is_ca = true
}
