"""The configuration to begin with, of `pingap --template`: small, and taken by the reference too."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "pingap.schema.json"
"""The file that the template names for editors: what `pingap schema` prints."""

TEMPLATE: Final = f"""\
#:schema ./{SCHEMA}
# The line above is for editors: `pingap schema >{SCHEMA}` makes that file.
# Check this one with `pingap check -c PATH`, and run it with `pingap -c PATH`.

[basic]
name = "edge"                   # of this instance, in notices and metrics
log_level = "info"
# error_log = "/var/log/pingap/error.log"    # else stderr
# pid_file = "/run/pingap.pid"
# trusted_proxies = ["10.0.0.0/8"]           # from whom X-Forwarded-For is believed

# Who listens, and which locations answer there.
[servers.web]
addr = "0.0.0.0:80"
access_log = "combined"         # to stderr; "/var/log/pingap/access.log combined" to a file
locations = ["all"]
# global_certificates = true    # TLS; which certificate a client gets is said by [certificates.NAME]
# enabled_h2 = true             # HTTP/2

# Which requests, and what happens to them. The most specific location wins.
[locations.all]
path = "/"                      # "/prefix", "= /exact", "~ regex"
# host = "example.com"
upstream = "app"
# proxy_set_headers = ["x-edge:1"]
# plugins = ["pingap:compression"]

# Where requests go.
[upstreams.app]
addrs = ["127.0.0.1:5000"]      # "host:port weight"
# health_check = "http://app/ping?check_frequency=10s"

# [certificates.main]
# tls_cert = "/etc/ssl/example.com.pem"
# tls_key = "/etc/ssl/example.com.key"
# domains = "example.com,*.example.com"
"""
