"""Which type of image a client gets by its Accept header, and what ETags say of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.plugins.builtin.images.variants import ImageVariants, is_one_of, tag_of, tags_of_originals

CHROME = b"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI = b"image/webp,image/avif,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
OLD = b"image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "types", "targets"),
    [
        (CHROME, ["avif", "webp"], ("avif", "webp")),
        (CHROME, ["webp", "avif"], ("webp", "avif")),
        (SAFARI, ["avif", "webp"], ("avif", "webp")),
        (OLD, ["avif", "webp"], ()),
        (OLD, ["avif", "jpeg", "png"], ("png", "jpeg")),
        (b"*/*", ["avif", "webp", "jpeg"], ("jpeg",)),
        (b"image/*", ["avif", "webp", "png"], ("png",)),
        (None, ["avif", "webp", "png"], ("png",)),
        (b"", ["avif", "png"], ("png",)),
        (b"text/html", ["avif", "png"], ()),
        (b"image/avif;q=0, image/webp", ["avif", "webp"], ("webp",)),
        (b"image/avif;q=0.5, image/webp;q=0.9", ["avif", "webp"], ("webp", "avif")),
        (b"IMAGE/AVIF ; Q=0.5", ["avif"], ("avif",)),
        (b"image/avif;q=nan, image/webp;q=7", ["avif", "webp"], ()),
        (b"image/avifx, ximage/avif", ["avif"], ()),
        (b"image/png;q=0, image/*", ["png"], ()),
        (CHROME, [], ()),
        (CHROME, ["avif", "avif"], ("avif",)),
    ],
)
def test_what_the_client_takes_the_best_liked_first(accept: bytes | None, types: list[str], targets: tuple[str, ...]) -> None:
    assert ImageVariants(types, ()).of(accept).targets == targets


@given(st.binary(max_size=200), st.permutations(["avif", "webp", "png", "jpeg"]))
def test_no_header_makes_anything_that_it_does_not_say(accept: bytes, types: list[str]) -> None:
    variants = ImageVariants(types, ())
    found = variants.of(accept)
    assert found == variants.of(accept)
    assert set(found.targets) <= set(types)
    for name in ("avif", "webp"):
        assert name not in found.targets or b"image/" + name.encode() in accept.lower()


@given(st.lists(st.tuples(st.sampled_from(["avif", "webp", "png", "jpeg"]), st.integers(0, 1000)), unique_by=lambda pair: pair[0]))
def test_the_order_is_that_of_the_qualities(liked: list[tuple[str, int]]) -> None:
    accept = ", ".join(f"image/{name};q={quality / 1000:.3f}" for name, quality in liked).encode()
    quality = dict(liked)
    targets = ImageVariants(["avif", "webp", "png", "jpeg"], ()).of(accept).targets if liked else ()
    assert [quality[name] for name in targets] == sorted((q for q in quality.values() if q), reverse=True)


def test_tags_differ_by_what_was_made_and_how() -> None:
    one = ImageVariants(["avif", "webp"], (80,))
    suffixes = {one.of(accept).suffix for accept in (CHROME, OLD, b"image/webp")}
    assert len(suffixes | {ImageVariants(["avif", "webp"], (81,)).of(CHROME).suffix}) == 4
    assert one.of(CHROME).suffix == ImageVariants(["avif", "webp"], (80,)).of(SAFARI).suffix


def test_values_without_end_are_not_remembered() -> None:
    variants = ImageVariants(["avif"], ())
    for number in range(3000):
        variants.of(b"image/avif;x=%d" % number)
    variants.of(b"image/avif," + b"x" * 100_000)
    assert len(variants._kept) <= 1024
    assert max(map(len, variants._kept)) <= 4096


def test_tags_lead_there_and_back() -> None:
    assert tag_of(b'"abc"', b"-1f") == b'W/"abc-1f"'
    assert tag_of(b'W/"abc"', b"-1f") == b'W/"abc-1f"'
    for broken in (b"abc", b'"a"b"', b"", b'w/"a"', b'"a\n"'):
        assert tag_of(broken, b"-1f") is None
    value, originals = tags_of_originals(b'W/"abc-1f", "x", W/"abc-2f","a,b-1f"', b"-1f")
    assert value == b'W/"abc", "x", W/"abc-2f",W/"a,b"'
    assert originals == {b"abc", b"a,b"}
    assert is_one_of(b'"abc"', originals)
    assert is_one_of(b'W/"a,b"', originals)
    assert not is_one_of(b'"x"', originals)
    assert not is_one_of(b"abc", originals)
    assert tags_of_originals(b"*", b"-1f") == (b"*", frozenset())


@given(st.lists(st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), max_size=12), min_size=1, max_size=6))
def test_what_was_made_of_any_tag_is_found_again(texts: list[str]) -> None:
    tags = [b'"%b"' % text.encode() for text in texts]
    made = b", ".join(tag_of(tag, b"-0a") or b"" for tag in tags)
    value, originals = tags_of_originals(made, b"-0a")
    assert value == b", ".join(b"W/" + tag for tag in tags)
    assert all(is_one_of(tag, originals) for tag in tags)
