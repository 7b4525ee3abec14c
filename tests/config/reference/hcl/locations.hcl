location "catalogue" {
    upstream = "shelves"
    path = "~ ^/(?<hall>east|west)/catalogue"
    host = "books.example.org,*.branch.example.org"
    match_headers = ["Accept-Language:de", "X-Reader"]
    match_query = ["page"]
    match_cookies = ["desk:7"]
    proxy_set_headers = ["Host:$host", "X-Hall:$hall", "Connection:upgrade"]
    proxy_add_headers = ["X-Seen-By:reading-room", "X-Desk:$hostname"]
    rewrite = "^/(east|west)/catalogue/(.*)$ /v2/$1/$2"
    weight = 2048
    plugins = ["number", "doorman", "badge", "queue", "memory", "pingap:compression", "labels", "spelling"]
    client_max_body_size = "5MB"
    max_processing = 250
    enable_reverse_proxy_headers = true
    max_retries = 2
    max_retry_window = "4s"
    remark = "what there is to read"
}

location "covers" {
    upstream = "shelves"
    path = "/covers"
    includes = ["shelf-key"]
    plugins = ["guild", "stamp", "porter", "turnstile", "press"]
}

location "lending" {
    upstream = "desk"
    path = "/lending.Desk/"
    grpc_web = true
    plugins = ["window", "pingap:requestId", "pingap:compressionUpstream"]
}

location "porch" {
    plugins = ["pingap:ping", "pass", "visitor-pass", "old-pass", "pingap:acceptEncodingAdjustment", "shortlist", "leaflets", "links", "robots", "border", "neighbours", "fork", "pingap:stats", "figures", "librarian", "bell", "pictures", "notice", "over"]
}
