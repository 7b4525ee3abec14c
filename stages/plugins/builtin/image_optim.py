"""`image_optim`: gives out the backend's PNG and JPEG images smaller, or as WebP or AVIF to clients that say that they take it.

Steps `request` (for the key of a `cache`), `proxy_upstream` (for conditional requests), `upstream_response` and `response`. It needs
Pillow: `pip install 'pingap[images]'`. Of the types of `output_types` that the client takes by its Accept header, the one that it likes
best is made, among equals the first in your list; else the image stays what it is, and is only written anew. `image/*` and `*/*` count
for PNG and JPEG alone: browsers that know no AVIF send them, too.

What is looked at: 200 to GET, `Content-Type` `image/png` or `image/jpeg`, without Content-Encoding or `no-transform`. Such an answer
gets `Vary: accept`, also where nothing was gained. A converted one has its length, no Accept-Ranges, no digests of the original, and a
weak ETag of its own, with which clients and caches can ask for it again: the backend hears of its own ETag, and its 304 is told as one
of the converted image. Last-Modified stays. HEAD says what is known without converting anything: neither length nor ETag, and the type
only where no other may be made. A 304 has the backend's ETag only for clients that asked with it (for one that sends If-Modified-Since
alone it would be that of an image which it does not have), and `Vary: accept` where it has the type of an image or the path ends in
`.png`, `.jpg` or `.jpeg`. The image is upright (Exif orientation applied) and keeps its colour profile; other metadata, such as where a
photo was taken, is left out.

The original is sent, untouched: when the result would not be smaller (of a JPEG as JPEG, not by 5 %); animations, images of several
frames (MPO, as phones write for HDR), more than 8 bits a channel, CMYK; what cannot be decoded or is not what it is labelled as; beyond
`max_bytes` and `max_pixels`; when the result is not there within `wait`; and when there is too much to do. The context key
`image_optim` (`{:image_optim}` in access logs) is the type that was made or the reason why none was: `larger`, `unreadable`,
`too_large`, `unsuitable`, `late`, `overloaded`, `failed`. The counter `image_optim_images` has them as `outcome`, too.

The work is done in processes of their own, as many as there are CPUs. Each process of the stage converts the same image once for all
who ask for it at the same time, goes on when they leave, and keeps the newest results (`keep_bytes`). So the first client may get the
original and those after it the small one. A `cache` stores what came of it, once for all clients that take the same types. A photo of
12 megapixels takes 0.3 s of one CPU as JPEG, 1 s as WebP and 1 s as AVIF, for which its process needs 30 bytes of memory a pixel
meanwhile, and 10 for the others.

Unlike pingap 0.13.9: WebP and AVIF are made as such (there it is a PNG under their name), PNG becomes WebP without loss and JPEG with
`webp_quality`, an image that cannot be decoded is not replaced by an empty body, and sizes, pixels and time have bounds. `avif_speed`
is on its scale for another encoder. With `png_quality` below 100 colours are reduced only where that is hardly to be seen.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field

from pingap.plugin import (
    CONTINUE,
    SKIP,
    Duration,
    Exchange,
    Headers,
    Host,
    Overloaded,
    Plugin,
    Result,
    Settings,
    Size,
    Trouble,
    Words,
    codings_of,
)
from pingap.stages.plugins.builtin.images.budget import BudgetShare, ImageBudget
from pingap.stages.plugins.builtin.images.results import OVERLOADED, ImageResults
from pingap.stages.plugins.builtin.images.variants import TYPES, ImageVariants, Variant, has_tag, is_one_of, tag_of, tags_of_originals
from pingap.stages.plugins.builtin.images.work import CONVERTED, FAILED, ConvertedImage, Qualities, convert_image

SOURCES: Final = {b"image/png": "png", b"image/jpeg": "jpeg", b"image/jpg": "jpeg"}

_ENDINGS: Final = (".png", ".jpg", ".jpeg")
"""Of paths. A 304 seldom tells a type."""

LEAST: Final = 512
"""Bytes; what is smaller gains nothing that a client notices."""

JOB_SECONDS: Final = 30.0
"""That a conversion may take, and may wait before; then its process is killed."""

HELD: Final = 8
"""Bytes of images that are held at the same time, in `max_bytes`."""

LARGEST_TO_DIGEST: Final = 1024 * 1024
"""Bytes whose digest is made at once (about 1 ms); that of more is made in a thread."""

_MODULES: Final = {"webp": "PIL._webp", "avif": "PIL._avif"}
"""Parts of Pillow that a build may lack."""

_VARIES: Final = "varies"
"""With the plugin, the key of `Exchange.state` that says whether the backend's answer is one of those that depend on Accept."""

_OF_THE_ORIGINAL: Final = ("accept-ranges", "content-md5", "digest", "content-digest", "repr-digest")

_Quality = Annotated[int, Field(ge=1, le=100)]


class ImageOptimSettings(Settings):
    output_types: Words = Field(default_factory=list)
    """What may be made, the one that you prefer first: `"avif, webp"` or a list of `avif`, `webp`, `png`, `jpeg`. Without any, images keep
    their type."""
    png_quality: _Quality = 90
    """How near a PNG of 256 colours has to be to be taken (90: 38 dB); 100 changes no pixel."""
    jpeg_quality: _Quality = 80
    """Of JPEG."""
    webp_quality: _Quality = 80
    """Of WebP that is made of a JPEG. Ours."""
    avif_quality: _Quality = 75
    """Of AVIF."""
    avif_speed: Annotated[int, Field(ge=1, le=10)] = 3
    """1 makes the smallest files and takes three times as long as 3; from 5 on all are the fastest."""
    max_bytes: Size = 16 * 1024 * 1024
    """Larger answers pass untouched. Eight times as much may be held at the same time. Ours."""
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)] = 16_000_000
    """Width times height; larger images pass untouched. Ours."""
    wait: Duration = 5.0
    """How long a client waits for a conversion; then it gets the original, and those after it what came of it. Ours."""
    keep_bytes: Size = 32 * 1024 * 1024
    """Of results that each process of the stage keeps; 0 keeps none. Ours."""


class _Wanted(NamedTuple):
    """What is to become of an answer."""

    source: str
    variant: Variant
    share: BudgetShare


class ImageOptim(Plugin[ImageOptimSettings]):
    category = "image_optim"
    model = ImageOptimSettings

    def __init__(self, settings: ImageOptimSettings) -> None:
        super().__init__(settings)
        # The scale of rav1e's speeds, on that of libaom: its 3 takes 14 s of a CPU for a photo of 2 megapixels, its 8 takes 0.3 s.
        speed = min(10, settings.avif_speed + 5)
        self._qualities = Qualities(settings.png_quality, settings.jpeg_quality, settings.webp_quality, settings.avif_quality, speed)
        self._variants = ImageVariants(settings.output_types, tuple(self._qualities))
        self._kinds = frozenset((*SOURCES, *(f"image/{name}".encode() for name in settings.output_types)))
        self._budget = ImageBudget(HELD * settings.max_bytes)
        self._host: Host | None = None
        self._results: ImageResults | None = None

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        for name in settings.output_types:
            if name not in TYPES:
                hint = 'write "jpeg"' if name == "jpg" else "there are " + ", ".join(TYPES)
                yield "output_types", f"{name!r} is not a type that can be made", hint
        if settings.max_bytes < LEAST:
            yield "max_bytes", f"must be at least {LEAST}"
        if not 0 < settings.wait <= JOB_SECONDS:
            yield "wait", f"must be more than 0 and at most {JOB_SECONDS:g}s"
        if not _has("PIL"):
            yield "category", "Pillow is not installed, and converts the images", "pip install 'pingap[images]'"
            return
        for name, module in _MODULES.items():
            if name in settings.output_types and not _has(module):
                yield "output_types", f"the Pillow that is installed cannot make {name}", "its wheels can: pip install 'pingap[images]'"

    def start(self, host: Host) -> None:
        self._host = host
        self._results = ImageResults(host.loop, self.settings.keep_bytes, 2 * len(os.sched_getaffinity(0)))

    def stop(self) -> None:
        if self._results is not None:
            self._results.stop()

    # -- the request: what the client takes, and what it has already ------------------------------------

    def request(self, exchange: Exchange) -> Result:
        exchange.cache_key.append(f"image_optim{self._variant(exchange).suffix.decode()}")
        return CONTINUE

    def proxy_upstream(self, exchange: Exchange) -> Result:
        """Here, where a cache has looked already: what it has stored has our ETag, as the client."""
        headers = exchange.headers
        if (tags := headers.joined(b"if-none-match: ")) is None:
            return SKIP
        value, originals = tags_of_originals(tags, self._variant(exchange).suffix)
        if not originals:
            return SKIP
        headers.set("if-none-match", value)
        exchange.state[self] = originals
        return CONTINUE

    def _variant(self, exchange: Exchange) -> Variant:
        return self._variants.of(exchange.headers.joined(b"accept: "))

    # -- the answer ---------------------------------------------------------------------------------------

    def upstream_response(self, exchange: Exchange) -> Result:
        response = exchange.response
        assert response is not None
        headers = response.headers
        if response.status == 304:
            return self._not_modified(exchange, headers)
        source = SOURCES.get(_type_of(headers))
        exchange.state[self, _VARIES] = False
        if source is None or response.status != 200 or exchange.method not in ("GET", "HEAD") or _is_left_alone(headers):
            return SKIP
        exchange.state[self, _VARIES] = True
        length, most = response.length, self.settings.max_bytes
        if length is not None and not LEAST <= length <= most:
            return CONTINUE
        if not exchange.has_response_body:
            self._tell_of_head(exchange, source, headers)
            return CONTINUE
        share = self._budget.take(most if length is None else length)
        if share is None:
            self._tell(exchange, ConvertedImage(OVERLOADED))
            return CONTINUE
        wanted = _Wanted(source, self._variant(exchange), share)
        exchange.collect_response(partial(self._optimise, wanted), limit=most)
        return CONTINUE

    def _tell_of_head(self, exchange: Exchange, source: str, headers: Headers) -> None:
        """GET may say this of the original or of a converted image; which is known when there is one (RFC 9110 section 9.3.2)."""
        for name in ("etag", *_OF_THE_ORIGINAL):
            headers.remove(name)
        if set(self._variant(exchange).targets) - {source}:
            headers.remove("content-type")
        exchange.collect_response(_as_it_is)  # an answer whose body is changed has no length to tell

    def _not_modified(self, exchange: Exchange, headers: Headers) -> Result:
        """A 304 says what 200 would (RFC 9110 section 15.4.5), as far as that is known: which image it is, and that there are others."""
        content_type = _type_of(headers)
        if content_type and content_type not in SOURCES:
            exchange.state[self, _VARIES] = False
            return SKIP
        exchange.state[self, _VARIES] = bool(content_type) or exchange.path.lower().endswith(_ENDINGS)
        originals = exchange.state.get(self)
        etag = headers.first(b"etag: ")
        if originals is not None and etag is not None and is_one_of(etag, originals):
            headers.set("etag", tag_of(etag, self._variant(exchange).suffix) or etag)
            exchange.state[self, _VARIES] = True
            return CONTINUE
        if etag is not None and not has_tag(exchange.headers.joined(b"if-none-match: ") or b"", etag):
            headers.remove("etag")
        return CONTINUE

    # -- as clients get it, out of a cache or not ---------------------------------------------------------

    def response(self, exchange: Exchange) -> Result:
        """Other caches must know that it depends on Accept. That is said here, not before: what a `cache` stores has Accept in its key
        already, in the few forms that make a difference, and would be stored for each way to write it."""
        response = exchange.response
        assert response is not None
        varies = exchange.state.get((self, _VARIES))
        if varies is None:
            varies = self._varies(exchange, response.status, response.headers)
        if not varies:
            return SKIP
        _vary(response.headers)
        return CONTINUE

    def _varies(self, exchange: Exchange, status: int, headers: Headers) -> bool:
        """Whether a stored answer is one of those that depend on Accept, as far as it shows."""
        kind = _type_of(headers)
        if status == 304 and not kind:
            etag = headers.first(b"etag: ") or b""
            return etag.endswith(self._variant(exchange).suffix + b'"') or exchange.path.lower().endswith(_ENDINGS)
        return status in (200, 206, 304) and kind in self._kinds and not _is_left_alone(headers)

    def _optimise(self, wanted: _Wanted, exchange: Exchange, body: bytes) -> Awaitable[bytes | None] | None:
        return self._optimised(wanted, exchange, body) if len(body) >= LEAST else None

    async def _optimised(self, wanted: _Wanted, exchange: Exchange, body: bytes) -> bytes | None:
        try:
            result = await self._result(wanted, body)
        except Overloaded:
            result = ConvertedImage(OVERLOADED)
        self._tell(exchange, result)
        if result.outcome != CONVERTED:
            return None
        response = exchange.response
        assert response is not None
        headers = response.headers
        headers.set("content-type", f"image/{result.type}")
        for name in _OF_THE_ORIGINAL:
            headers.remove(name)
        if (etag := headers.first(b"etag: ")) is not None:
            own = tag_of(etag, wanted.variant.suffix)
            if own is None:
                headers.remove("etag")
            else:
                headers.set("etag", own)
        return result.data

    async def _result(self, wanted: _Wanted, body: bytes) -> ConvertedImage:
        assert self._host is not None and self._results is not None
        source, targets = wanted.source, tuple(dict.fromkeys((*wanted.variant.targets, wanted.source)))
        start = repr((source, targets)).encode()
        if len(body) <= LARGEST_TO_DIGEST:
            key = _digest(start, body)
        else:
            key = await self._host.in_thread(_digest, start, body)
        return await self._results.get(key, partial(self._convert, self._host, body, source, targets), self.settings.wait)

    async def _convert(self, host: Host, body: bytes, source: str, targets: tuple[str, ...]) -> ConvertedImage:
        try:
            result: ConvertedImage = await host.in_process(
                convert_image, body, source, targets, self._qualities, self.settings.max_pixels, timeout=JOB_SECONDS
            )
        except Overloaded:
            return ConvertedImage(OVERLOADED)
        except Exception as error:  # its process died, or was killed for its time
            host.log("warn", "an image could not be converted", error=repr(error), bytes=len(body))
            return ConvertedImage(FAILED)
        return result

    def _tell(self, exchange: Exchange, result: ConvertedImage) -> None:
        assert self._host is not None
        exchange.context["image_optim"] = result.type or result.outcome
        self._host.count("image_optim_images", plugin=self._host.name, outcome=result.outcome, type=result.type)


def _has(module: str) -> bool:
    """Without importing it: of PIL itself only its version is, by a look for its parts."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _type_of(headers: Any) -> bytes:
    return (headers.first(b"content-type: ") or b"").partition(b";")[0].strip().lower()


def _is_left_alone(headers: Any) -> bool:
    return bool(codings_of(headers.raw)) or (headers.joined(b"cache-control: ") or b"").lower().find(b"no-transform") >= 0


def _as_it_is(exchange: Exchange, body: bytes) -> None:
    """There is no body."""


def _digest(start: bytes, body: bytes) -> bytes:
    digest = hashlib.sha256(start)
    digest.update(body)
    return digest.digest()


def _vary(headers: Any) -> None:
    """Caches must know that the answer depends on Accept."""
    names = [name.strip() for name in (headers.joined(b"vary: ") or b"").lower().split(b",")]
    if b"accept" not in names and b"*" not in names:
        headers.add("vary", "accept")
