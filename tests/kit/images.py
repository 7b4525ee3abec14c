"""Pictures for tests, made by Pillow."""

from __future__ import annotations

import io
import random
from functools import cache
from typing import Any

from PIL import Image


@cache
def photo(width: int = 160, height: int = 120, seed: int = 1) -> Image.Image:
    """Smooth colours with some grain, as a camera makes them."""
    rng = random.Random(seed)
    small = Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3))
    grain = Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3))
    return Image.blend(small.resize((width, height), Image.Resampling.BICUBIC), grain, 0.06)


@cache
def drawing(width: int = 160, height: int = 120) -> Image.Image:
    """Few colours and hard edges."""
    image = Image.new("RGB", (width, height), "white")
    for number in range(12):
        colour = (number * 20, 255 - number * 20, 128)
        image.paste(colour, (number * 10, number * 7, number * 10 + 30, number * 7 + 25))
    return image


def file(image: Image.Image, form: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
