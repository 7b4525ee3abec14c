"""What plugins put into the key of a cache, and what else of an exchange is in it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("PIL")

from pingap.stages.caching.keys import KeyRules
from pingap.stages.messages import Affinity, Routed
from pingap.stages.plugins.builtin.image_optim import ImageOptim, ImageOptimSettings
from pingap.stages.plugins.exchange import Exchange, ResponseHead
from tests.plugins.script import PEER, block

KEYS = KeyRules()

CHROME = "accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
OLD = "accept: image/png,image/*;q=0.8"


def exchange(headers: str = "", location: str = "files", upstreams: Any = frozenset(("u", "canary"))) -> Exchange:
    # fmt: off
    raw = b"host: a.example\r\n" + block(headers)
    routed = Routed(1, 1, Affinity(2, 3, 4), "s", PEER, b"GET", b"/i.png", 11, b"a.example", raw, 0, b"",
        True, 0.5, b"", "10.0.0.9", location, "u", 1, {}, (1.0, 2.0), b"", ())
    # fmt: on
    return Exchange(routed, 0.0, upstreams)


def key(asked: Exchange) -> bytes:
    return KEYS.key_of(b"http", b"a.example", asked.raw_target, asked.headers.raw, asked.key_parts)


def test_a_location_is_in_the_key_and_an_upstream_that_a_plugin_has_set() -> None:
    plain, other, moved = exchange(), exchange(location="pages"), exchange()
    moved.upstream = "canary"
    assert key(plain) == b"\0http://a.example/i.png\0/files"
    assert len({key(plain), key(other), key(moved), key(exchange(location="files\1\2canary"))}) == 4
    moved.upstream = "u"
    assert key(moved) == key(plain)


def test_what_plugins_add_is_in_the_key_in_their_order() -> None:
    one, other = exchange(), exchange()
    one.cache_key.append("mobile")
    one.cache_key.append("größe\0")
    other.cache_key.extend(["größe\0", "mobile"])
    assert one.key_parts == (b"files", b"mobile", "größe\0".encode())
    assert len({key(one), key(other), key(exchange())}) == 3


# -- image_optim -------------------------------------------------------------------


def images(*types: str, **more: Any) -> ImageOptim:
    return ImageOptim(ImageOptimSettings(output_types=list(types or ("avif", "webp")), **more))


def asked(plugin: ImageOptim, headers: str) -> bytes:
    request = exchange(headers)
    plugin.request(request)
    return key(request)


def test_images_are_stored_once_for_all_who_take_the_same_types() -> None:
    plugin = images()
    assert asked(plugin, CHROME) == asked(plugin, FIREFOX)
    assert len({asked(plugin, headers) for headers in (CHROME, OLD, "accept: image/webp", "accept: image/webp, image/avif;q=0.5")}) == 4
    assert asked(plugin, OLD) == asked(plugin, "")
    assert asked(plugin, CHROME) != asked(images(avif_quality=40), CHROME), "another quality makes another image"


@pytest.mark.parametrize(
    ("status", "told", "varies"),
    [
        (200, "content-type: image/webp", True),
        (200, "content-type: image/png", True),
        (206, "content-type: image/avif", True),
        (304, "content-type: image/webp", True),
        (304, 'etag: W/"abc"', True),
        (200, "content-type: text/html", False),
        (200, "content-type: image/svg+xml", False),
        (200, "content-type: image/png\ncontent-encoding: gzip", False),
        (404, "content-type: image/png", False),
    ],
)
def test_an_answer_out_of_a_cache_says_that_it_depends_on_accept(status: int, told: str, varies: bool) -> None:
    request = exchange(CHROME)
    request.response = ResponseHead(status, block(told), 10)
    images().response(request)
    assert (request.response.headers.get("vary") == "accept") is varies
    images().response(request)
    assert request.response.headers.get_all("vary") == ["accept"] * varies


def test_what_is_stored_does_not_say_so() -> None:
    """Else it would be stored once for each way to write Accept."""
    request = exchange(CHROME)
    request.response = ResponseHead(200, block("content-type: image/png\netag: x"), 10)  # too small for a conversion
    plugin = images()
    plugin.upstream_response(request)
    assert request.response.headers.get("vary") is None
    plugin.response(request)
    assert request.response.headers.get("vary") == "accept"
