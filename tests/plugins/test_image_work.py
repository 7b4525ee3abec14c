"""Images come out as what was asked for, looking as before, or are left alone."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from pingap.stages.plugins.builtin.images.work import (
    CONVERTED,
    FAILED,
    LARGER,
    TOO_LARGE,
    UNREADABLE,
    UNSUITABLE,
    ConvertedImage,
    Qualities,
    convert_image,
    least_psnr,
    psnr,
)
from tests.kit.images import drawing, file, opened, photo

USUAL = Qualities(png=90, jpeg=80, webp=80, avif=75, avif_speed=8)
MOST = 1_000_000
JPEG = file(photo(), "JPEG", quality=97)
PNG = file(photo(), "PNG")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def done(data: bytes, source: str, *targets: str, qualities: Qualities = USUAL, most: int = MOST) -> ConvertedImage:
    return convert_image(data, source, (*targets, source), qualities, most)


def distance(data: bytes, image: Image.Image) -> float:
    found = opened(data)
    assert found.size == image.size
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return psnr(found.convert(mode), image.convert(mode))


# -- what comes out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize(("source", "data"), [("jpeg", JPEG), ("png", PNG)])
def test_a_photo_looks_as_before_and_is_smaller(source: str, data: bytes, target: str) -> None:
    made = done(data, source, target)
    assert (made.outcome, made.type) == (CONVERTED, target)
    assert len(made.data) < len(data)
    assert opened(made.data).format == target.upper()
    assert distance(made.data, photo()) > 30
    if (source, target) == ("png", "webp"):
        assert distance(made.data, photo()) == float("inf"), "without loss"


def test_a_drawing_keeps_its_pixels_with_few_colours() -> None:
    data = file(drawing(), "PNG", compress_level=1)
    made = done(data, "png")
    assert (made.outcome, made.type, opened(made.data).mode) == (CONVERTED, "png", "P")
    assert distance(made.data, drawing()) == float("inf")
    kept = done(data, "png", qualities=USUAL._replace(png=100))
    assert opened(kept.data).mode == "RGB"
    assert distance(kept.data, drawing()) == float("inf")


def test_colours_are_reduced_only_as_far_as_the_quality_says() -> None:
    data = file(photo(), "PNG", compress_level=0)
    for quality in (1, 30, 60, 95):
        made = done(data, "png", qualities=USUAL._replace(png=quality))
        assert distance(made.data, photo()) >= least_psnr(quality)
    assert opened(done(data, "png", qualities=USUAL._replace(png=1)).data).mode == "P"
    assert opened(done(data, "png", qualities=USUAL._replace(png=100)).data).mode == "RGB"


@pytest.mark.parametrize("key", ["jpeg", "webp", "avif"])
def test_a_lower_quality_makes_a_smaller_file(key: str) -> None:
    high, low = (done(JPEG, "jpeg", key, qualities=USUAL._replace(**{key: quality})) for quality in (75, 20))
    assert len(low.data) < len(high.data)
    assert distance(low.data, photo()) < distance(high.data, photo())


def test_the_speed_of_avif_reaches_its_encoder() -> None:
    slow, fast = (done(JPEG, "jpeg", "avif", qualities=USUAL._replace(avif_speed=speed)) for speed in (5, 10))
    assert slow.data != fast.data


def test_what_would_not_be_smaller_is_left_alone() -> None:
    assert done(file(photo(), "JPEG", quality=20), "jpeg").outcome == LARGER
    assert done(file(photo(), "JPEG", quality=20), "jpeg", "png").outcome == LARGER
    again = done(JPEG, "jpeg").data
    assert done(again, "jpeg") == ConvertedImage(LARGER), "the second time it would only lose"
    near = file(photo(), "JPEG", quality=81, optimize=True, progressive=True)
    assert 0.95 < len(file(photo(), "JPEG", quality=80, optimize=True, progressive=True)) / len(near) < 1
    assert done(near, "jpeg") == ConvertedImage(LARGER), "hardly smaller, and not as good"


def test_the_first_type_that_fits_is_made() -> None:
    shines = photo().copy()
    shines.putalpha(Image.linear_gradient("L").resize(shines.size))
    data = file(shines, "PNG", compress_level=0)
    assert done(data, "png", "jpeg", "webp").type == "webp", "JPEG has no transparency"
    assert done(data, "png", "jpeg").type == "png"
    long = Image.linear_gradient("L").resize((17_000, 16)).convert("RGB")
    assert done(file(long, "PNG", compress_level=0), "png", "webp", "jpeg").type == "jpeg", "WebP has at most 16383 pixels a side"


# -- transparency, palettes, orientation, colours -------------------------------------------------------


@pytest.mark.parametrize("target", ["png", "webp", "avif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_shines_through_goes_on_doing_so(mode: str, target: str) -> None:
    shines = drawing().copy()
    shines.putalpha(Image.new("L", shines.size, 255))
    shines.paste((0, 0, 0, 0), (0, 0, 60, 60))
    if mode == "LA":
        data = file(shines.convert("LA"), "PNG", compress_level=0)
    elif mode == "P":
        data = file(shines.quantize(32), "PNG", compress_level=0)
    elif mode == "RGB":  # one colour is transparent
        data = file(drawing(), "PNG", transparency=(0, 255, 128), compress_level=0)
    else:
        data = file(shines, "PNG", compress_level=0)
    before = opened(data).convert("RGBA")
    made = done(data, "png", target)
    assert made.type == target
    found = opened(made.data).convert("RGBA")
    assert found.getpixel((3, 3))[3] == before.getpixel((3, 3))[3] == 0  # type: ignore[index]
    assert psnr(found, before) > 30


def test_an_alpha_channel_that_hides_nothing_is_no_transparency() -> None:
    opaque = photo().copy()
    opaque.putalpha(255)
    assert done(file(opaque, "PNG", compress_level=0), "png", "jpeg").type == "jpeg"


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("target", ["png", "webp", "avif", "jpeg"])
def test_grey_and_palettes(mode: str, target: str) -> None:
    image = drawing().convert(mode)
    made = done(file(image, "PNG", compress_level=0) + b"\0" * 20_000, "png", target)
    assert made.type == target
    assert distance(made.data, image.convert("RGB")) > 25


@pytest.mark.parametrize("target", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright_without_its_metadata(orientation: int, target: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera that tells where it was"
    image = opened(file(photo(), "JPEG", quality=97, exif=exif, comment=b"told"))
    made = done(file(photo(), "JPEG", quality=97, exif=exif, comment=b"told"), "jpeg", target)
    assert distance(made.data, ImageOps.exif_transpose(image)) > 30
    assert opened(made.data).getexif().get(0x0112, 1) == 1
    assert b"a camera" not in made.data
    assert b"told" not in made.data


def test_broken_exif_says_nothing() -> None:
    data = file(photo(), "JPEG", quality=97, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40)
    assert done(data, "jpeg", "webp").outcome == CONVERTED


@pytest.mark.parametrize("target", ["jpeg", "png", "webp", "avif"])
def test_the_colour_profile_goes_along(target: str) -> None:
    source, data = ("png", file(drawing(), "PNG", icc_profile=SRGB, compress_level=0))
    made = done(data, source, target)
    assert opened(made.data).info["icc_profile"] == SRGB


def test_a_profile_that_does_not_go_with_its_pixels_is_left_alone() -> None:
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    data = file(drawing().convert("L"), "PNG", icc_profile=grey, compress_level=0)
    assert done(data, "png", "webp").type == "png", "WebP has no grey"
    assert done(file(drawing().convert("L"), "PNG", icc_profile=SRGB, compress_level=0), "png").outcome == UNSUITABLE


@pytest.mark.parametrize(("subsampling", "expected"), [(0, 0), (2, 2)])
def test_the_sampling_of_colours_stays(subsampling: int, expected: int) -> None:
    from PIL import JpegImagePlugin

    made = done(file(photo(), "JPEG", quality=97, subsampling=subsampling), "jpeg")
    assert JpegImagePlugin.get_sampling(opened(made.data)) == expected


# -- what is left alone -----------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2, *before: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@cache
def unsuitable() -> dict[str, tuple[str, bytes]]:
    frames = [photo(seed=seed) for seed in (1, 2)]
    deep = Image.frombytes("I;16", (64, 64), bytes(64 * 64 * 2))
    rows = zlib.compress((b"\0" + b"\x80" * 6 * 8) * 8)
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    pixels = zlib.compress((b"\0" + b"\x80" * 3 * 8) * 8)
    return {
        "animated": ("png", file(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        "mpo": ("jpeg", file(frames[0], "MPO", save_all=True, append_images=frames[1:])),
        "cmyk": ("jpeg", file(photo().convert("CMYK"), "JPEG", quality=97)),
        "16 bits of grey": ("png", file(deep, "PNG")),
        "16 bits": ("png", png(8, 8, rows, 16)),
        "gamma": ("png", file(drawing(), "PNG", pnginfo=info)),
        "HDR": ("png", png(8, 8, pixels, 8, 2, chunk(b"cICP", b"\x09\x10\x00\x01"))),
    }


@pytest.mark.parametrize("name", unsuitable())
def test_what_would_lose_something_is_left_alone(name: str) -> None:
    source, data = unsuitable()[name]
    assert done(data, source, "avif", "webp") == ConvertedImage(UNSUITABLE)


@cache
def unreadable() -> dict[str, tuple[str, bytes]]:
    gif, svg = file(drawing(), "GIF"), b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    at = PNG.index(b"IDAT") + 200
    return {
        "nothing": ("png", b""),
        "a GIF": ("png", gif),
        "a GIF as JPEG": ("jpeg", gif),
        "an SVG": ("png", svg),
        "a JPEG as PNG": ("png", JPEG),
        "a PNG as JPEG": ("jpeg", PNG),
        "a WebP": ("jpeg", file(photo(), "WEBP")),
        "corrupted IDAT": ("png", PNG[:at] + bytes(byte ^ 0x5A for byte in PNG[at : at + 400]) + PNG[at + 400 :]),
        "no pixels": ("png", png(8, 8, b"")),
        "wide for its data": ("png", png(900, 900, zlib.compress(b"\0" * 10))),
        "zero wide": ("png", png(0, 8, b"")),
        "text that unpacks without end": ("png", png(8, 8, b"x", 8, 2, chunk(b"iCCP", b"n\0\0" + zlib.compress(bytes(50_000_000))))),
        "random": ("jpeg", b"\xff\xd8\xff" + bytes(range(256)) * 20),
    }


@pytest.mark.parametrize("name", unreadable())
def test_what_is_not_what_it_says_is_left_alone(name: str) -> None:
    source, data = unreadable()[name]
    assert done(data, source, "webp") == ConvertedImage(UNREADABLE)


@pytest.mark.parametrize(("source", "data"), [("jpeg", JPEG), ("png", PNG)])
def test_one_that_ends_too_early_is_left_alone(source: str, data: bytes) -> None:
    for part in range(20):
        made = done(data[: len(data) * part // 20], source, "webp")
        assert made == ConvertedImage(UNREADABLE), part


@pytest.mark.parametrize(
    "data",
    [png(20_000, 20_000), png(2**31 - 1, 2**31 - 1), png(1, 65_500), png(1001, 1000)],
    ids=["bomb", "largest", "1x65500", "one row more"],
)
def test_too_many_pixels_are_known_before_any_is_decoded(data: bytes) -> None:
    assert done(data, "png", "webp", most=60_000 if len(data) and data[16:20] == b"\0\0\0\1" else MOST) == ConvertedImage(TOO_LARGE)


def test_a_long_strip_within_the_bound_is_converted() -> None:
    strip = Image.linear_gradient("L").resize((1, 65_500)).convert("RGB")
    made = done(file(strip, "JPEG", quality=100), "jpeg", "webp", most=70_000)
    assert made.outcome in (CONVERTED, LARGER)
    assert made.type in ("jpeg", "")


def test_a_polyglot_loses_what_is_no_image() -> None:
    made = done(JPEG + b"PK\x03\x04" + b"<script>" * 100, "jpeg", "webp")
    assert made.outcome == CONVERTED
    assert b"script" not in made.data


def test_an_encoder_that_refuses_leaves_it_alone() -> None:
    assert done(JPEG, "jpeg", "webp", qualities=USUAL._replace(webp=1000)).outcome == FAILED


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("png", PNG), ("jpeg", JPEG)]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_whatever_is_changed_in_a_file_nothing_is_raised(image: tuple[str, bytes], changes: list[tuple[float, int]]) -> None:
    source, data = image[0], bytearray(image[1])
    for where, byte in changes:
        data[int(where * len(data))] = byte
    made = done(bytes(data), source, "webp")
    if made.outcome == CONVERTED:
        assert Image.open(io.BytesIO(made.data)).format in ("WEBP", "PNG", "JPEG")
    else:
        assert made.data == b""
