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
