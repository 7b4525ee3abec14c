"""Converts one image with Pillow. Runs in processes of `host.in_process`, which alone import it; says what came of it, and raises nothing.

What it is given comes from backends and may be anything: the size is looked at before anything is decoded, only PNG and
JPEG are tried, each only where the answer was labelled so, and nothing that is broken or would lose something is converted.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import Any, Final, NamedTuple

CONVERTED: Final = "converted"
LARGER: Final = "larger"
"""The original is not larger than what came out."""
UNREADABLE: Final = "unreadable"
TOO_LARGE: Final = "too_large"
"""More pixels than are allowed."""
UNSUITABLE: Final = "unsuitable"
"""Something in it would be lost: frames, bits, a colour space, transparency."""
FAILED: Final = "failed"
"""The encoder refused it; or its process died or took too long."""

FORMATS: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
"""Types that images come in or are made of, as Pillow calls them."""

LOSSY_GAIN: Final = 0.95
"""A JPEG that is made of a JPEG has lost something again: it has to be at least so much smaller."""

_WEBP_SIDE: Final = 16383
_JPEG_SIDE: Final = 65500
_SRGB_GAMMA: Final = 0.45455
_TEXT: Final = 1024 * 1024
"""Bytes of a compressed text or profile in a PNG, unpacked."""


class Qualities(NamedTuple):
    """1 to 100 each; the speed is the encoder's, 0 to 10."""

    png: int
    jpeg: int
    webp: int
    avif: int
    avif_speed: int


class ConvertedImage(NamedTuple):
    """What came of an image."""

    outcome: str
    type: str = ""
    """Of what it is now; "" where it stays as it was."""
    data: bytes = b""


def convert_image(data: bytes, source: str, targets: tuple[str, ...], qualities: Qualities, most_pixels: int) -> ConvertedImage:
    """source: the type that it is labelled as. targets: types in order of preference, of which the first that fits is made."""
    try:
        from PIL import Image, PngImagePlugin
    except ImportError:
        return ConvertedImage(FAILED)
    Image.MAX_IMAGE_PIXELS = most_pixels
    PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = _TEXT, 4 * _TEXT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=[FORMATS[source]])
            if image.width * image.height > most_pixels:
                return ConvertedImage(TOO_LARGE)
            if not _is_plain(image, data, source):
                return ConvertedImage(UNSUITABLE)
            image.load()
            sampling = _sampling(image)
            image, profile = _normal(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return ConvertedImage(TOO_LARGE)
        except Exception:  # decoders of hostile bytes raise whatever they like
            return ConvertedImage(UNREADABLE)
        for target in targets:
            if not _fits(image, target, profile):
                continue
            try:
                made = _ENCODERS[target](image, source, qualities, sampling, {"icc_profile": profile} if profile else {})
            except Exception:  # encoders raise whatever they like, too
                return ConvertedImage(FAILED)
            most = len(data) * LOSSY_GAIN if target == source == "jpeg" else len(data)
            return ConvertedImage(CONVERTED, target, made) if len(made) < most else ConvertedImage(LARGER)
    return ConvertedImage(UNSUITABLE)


def _is_plain(image: Any, data: bytes, source: str) -> bool:
    """One picture of at most 8 bits a channel, in a colour space that all formats have. Of JPEG, an MPO has several (HDR, 3D)."""
    if image.format != FORMATS[source] or getattr(image, "is_animated", False) or getattr(image, "n_frames", 1) > 1:
        return False
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return False  # CMYK needs a colour profile that is seldom there; 16 bits
    if source == "png":
        gamma = image.info.get("gamma")
        is_odd = gamma is not None and abs(gamma - _SRGB_GAMMA) > 0.001 and not {"srgb", "icc_profile"}.intersection(image.info)
        return data[24:25] <= b"\x08" and not is_odd and data.find(b"cICP", 0, data.find(b"IDAT")) < 0
    return True


def _sampling(image: Any) -> int:
    """Of a JPEG's colours, as its encoder takes it; negative when that is not known."""
    from PIL import JpegImagePlugin

    return JpegImagePlugin.get_sampling(image) if image.format == "JPEG" else 0


def _normal(image: Any) -> tuple[Any, bytes]:
    """The image as L, P, RGB or RGBA (the last only if something shines through), upright, and its colour profile."""
    from PIL import ImageOps

    profile = image.info.get("icc_profile") or b""
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # broken Exif, which says nothing then
        image = image.copy()
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("LA", "PA", "RGBA") or (image.mode != "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() == (255, 255):
            image = image.convert("RGB")
    return image, profile


def _fits(image: Any, target: str, profile: bytes) -> bool:
    side = max(image.size)
    match target:
        case "jpeg":
            if side > _JPEG_SIDE or image.has_transparency_data:
                return False
        case "webp":
            if side > _WEBP_SIDE:
                return False
    if not profile:
        return True
    is_grey = image.mode == "L" and target != "webp"  # which has colours only
    return profile[16:20] == (b"GRAY" if is_grey else b"RGB ")


def _deep(image: Any) -> Any:
    """Without a palette."""
    if image.mode != "P":
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _as_jpeg(image: Any, source: str, qualities: Qualities, sampling: int, more: dict[str, Any]) -> bytes:
    image = _deep(image)
    kept = {} if sampling < 0 else {"subsampling": sampling}
    return _saved(image, "JPEG", quality=qualities.jpeg, optimize=True, progressive=True, **kept, **more)


def _as_webp(image: Any, source: str, qualities: Qualities, sampling: int, more: dict[str, Any]) -> bytes:
    """A PNG is a drawing more often than not, and stays as it is to the pixel."""
    if source == "png":
        return _saved(_deep(image), "WEBP", lossless=True, quality=75, method=4, **more)
    return _saved(_deep(image), "WEBP", quality=qualities.webp, method=4, **more)


def _as_avif(image: Any, source: str, qualities: Qualities, sampling: int, more: dict[str, Any]) -> bytes:
    """One thread, for there are as many processes as CPUs."""
    image = _deep(image)
    if image.mode != "L":
        more = more | {"subsampling": "4:4:4" if source == "png" else "4:2:0"}
    return _saved(image, "AVIF", quality=qualities.avif, speed=qualities.avif_speed, max_threads=1, **more)


def _as_png(image: Any, source: str, qualities: Qualities, sampling: int, more: dict[str, Any]) -> bytes:
    """With 256 colours if that is hardly to be seen, else without loss."""
    if qualities.png < 100 and image.mode in ("RGB", "RGBA"):
        few = image.quantize(256, method=2)
        if psnr(image, few.convert(image.mode)) >= least_psnr(qualities.png):
            image = few
    return _saved(image, "PNG", optimize=True, **more)


_ENCODERS: Final = {"jpeg": _as_jpeg, "webp": _as_webp, "avif": _as_avif, "png": _as_png}


def _saved(image: Any, form: str, **options: Any) -> bytes:
    # What the file said besides (Exif, texts, times) is not taken along, and would be without these.
    image.info.clear() if image.mode != "P" else [image.info.pop(key) for key in list(image.info) if key != "transparency"]
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def least_psnr(quality: int) -> float:
    """How near an image of 256 colours has to be, in dB: 38 for 90, 30 for 50."""
    return 20 + quality / 5


def psnr(one: Any, other: Any) -> float:
    """The distance of two images of the same size and mode, RGB or RGBA, in dB; colours count as far as they are to be seen."""
    from PIL import ImageChops, ImageStat

    if one.mode == "RGBA":
        one, other = one.convert("RGBa"), other.convert("RGBa")
    squares = [rms**2 for a, b in zip(one.split(), other.split(), strict=True) for rms in ImageStat.Stat(ImageChops.difference(a, b)).rms]
    error = sum(squares) / len(squares)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
