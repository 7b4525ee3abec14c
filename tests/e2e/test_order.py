"""The order of what a location and its plugins do (docs/routing.md): plugins see the client's request, a backend the location's."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator

import pytest

from tests.e2e.client import Client, Response
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin

PLUGINS = """
[plugins.key]
category = "key_auth"
header = "X-Key"
keys = ["internal", "sesame"]
[plugins.hidden]
category = "key_auth"
header = "X-Key"
keys = ["sesame"]
hide_credentials = true
[plugins.basic]
category = "basic_auth"
authorizations = ["YW5uOnB3"]
[plugins.limit]
category = "limit"
type = "rate"
tag = "header"
key = "X-Who"
max = 2
interval = "1h"
weight = 100
[plugins.origin]
category = "response_headers"
set_headers = ["X-Allowed:$http_origin", "X-Seen-Client:$http_x_real_ip"]
[plugins.gzip]
category = "compression"
gzip_level = 6
mode = "upstream"
min_length = 10
"""
LOCATIONS = {
    "key": 'plugins = ["key"]\nproxy_set_headers = ["X-Key:internal"]',
    "keyadd": 'plugins = ["key"]\nproxy_add_headers = ["X-Key:internal"]',
    "hidden": 'plugins = ["hidden"]\nproxy_set_headers = ["X-Key:backend", "X-Was:$http_x_key"]',
    "basic": f'plugins = ["basic"]\nproxy_set_headers = ["Authorization:Basic {base64.b64encode(b"app:secret").decode()}"]',
    "noauth": 'plugins = ["basic"]\nproxy_set_headers = ["Authorization:"]',
    "limit": 'plugins = ["limit"]\nproxy_set_headers = ["X-Who:everybody"]',
    "origin": 'plugins = ["origin"]\nproxy_set_headers = ["Origin:"]\nenable_reverse_proxy_headers = true',
    "gzip": 'plugins = ["gzip"]\nproxy_set_headers = ["Accept-Encoding:identity"]',
}
ANN = {"Authorization": "Basic YW5uOnB3"}


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    def told(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.reply(json.dumps(exchange.headers()).encode() + b" " * 400, headers="Content-Type: text/plain\r\n")

    for name in LOCATIONS:
        shared_origin.on[f"/{name}"] = told
    more = PLUGINS + "".join(f'[locations.{name}]\nupstream = "origin"\npath = "/{name}"\n{keys}\n' for name, keys in LOCATIONS.items())
    with Pingap(site([shared_origin.port], more=more, locations=json.dumps(["all", *LOCATIONS])), placement) as instance:
        yield instance


def get(proxy: Pingap, path: str, **headers: str) -> Response:
    with Client(proxy.port) as client:
        return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def heard(answer: Response) -> dict[str, str]:
    """The header lines that the backend got, names in lower case."""
    assert answer.status == 200, answer
    return {name.lower(): value for name, value in dict(json.loads(answer.body)).items()}


@pytest.mark.parametrize("path", ["/key", "/keyadd"])
def test_a_key_that_the_location_sets_lets_nobody_in(proxy: Pingap, path: str) -> None:
    assert get(proxy, path).status == 401
    assert "internal" in heard(get(proxy, path, X_Key="sesame"))["x-key"]


def test_hidden_credentials_give_place_to_those_of_the_location(proxy: Pingap) -> None:
    got = heard(get(proxy, "/hidden", X_Key="sesame"))
    assert got["x-key"] == "backend"
    assert "x-was" not in got


def test_the_account_is_the_clients_and_the_backend_gets_its_own(proxy: Pingap) -> None:
    assert get(proxy, "/basic").status == get(proxy, "/noauth").status == 401
    assert heard(get(proxy, "/basic", **ANN))["authorization"] == f"Basic {base64.b64encode(b'app:secret').decode()}"
    assert "authorization" not in heard(get(proxy, "/noauth", **ANN))


def test_clients_are_told_apart_by_what_they_sent(proxy: Pingap) -> None:
    assert [get(proxy, "/limit", X_Who="a").status for _ in range(3)] == [200, 200, 429]
    assert heard(get(proxy, "/limit", X_Who="b"))["x-who"] == "everybody"


def test_a_variable_in_an_answer_is_what_the_client_sent(proxy: Pingap) -> None:
    answer = get(proxy, "/origin", Origin="https://shop.example", X_Real_IP="6.6.6.6")
    assert answer.get("x-allowed") == "https://shop.example"
    assert answer.get("x-seen-client") == "6.6.6.6"
    got = heard(answer)
    assert "origin" not in got
    assert got["x-real-ip"] == "127.0.0.1"


def test_a_backend_that_may_not_compress_does_not_switch_compression_off(proxy: Pingap) -> None:
    answer = get(proxy, "/gzip", Accept_Encoding="gzip")
    assert answer.get("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(answer.body))
