"""What decides about requests for files: paths, names, types. No disk, no stage."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.plugins.builtin.files.listing import Entries, ListedName, in_order, render, shown, wanted_kind
from pingap.stages.plugins.builtin.files.media_types import attachment, type_of
from pingap.stages.plugins.builtin.files.web_paths import NoPath, WebPath, as_segment, is_hidden, way_to_canonical, web_path, without_prefix

# -- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names", "is_folder"),
    [
        ("/", [], True),
        ("/a", [b"a"], False),
        ("/a/b/", [b"a", b"b"], True),
        ("/a%20b", [b"a b"], False),
        ("/%FF%E4", [b"\xff\xe4"], False),
        ("/a%5Cb", [b"a\\b"], False),
        ("/...", [b"..."], False),
        ("/..a", [b"..a"], False),
        ("/%252e%252e", [b"%2e%2e"], False),
        ("/a+b;c=d", [b"a+b;c=d"], False),
    ],
)
def test_names_of_a_path(path: str, names: list[bytes], is_folder: bool) -> None:
    assert web_path(path.encode("latin-1")) == WebPath(tuple(names), is_folder)


@pytest.mark.parametrize(
    ("path", "status"),
    [("", 400), ("*", 400), ("a", 400), ("/%", 400), ("/%4", 400), ("/%zz", 400), ("/a%00b", 400), ("/%00", 400)]
    + [("/..", 403), ("/../", 403), ("/a/../b", 403), ("/%2e%2E/x", 403), ("/.%2e", 403), ("/a/..", 403)]
    + [("//a", 404), ("/a//", 404), ("/./a", 404), ("/%2e", 404), ("/a%2Fb", 404), ("/..%2f..", 404), ("/%2F", 404)],
)
def test_what_names_no_file_says_so(path: str, status: int) -> None:
    with pytest.raises(NoPath) as caught:
        web_path(path.encode())
    assert caught.value.status == status


PIECES = ["/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%00", "a", "%c0%ae", "%252e", ";", "~", "..;", "%"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_no_path_has_names_that_lead_elsewhere(text: str) -> None:
    try:
        found = web_path(b"/" + text.encode())
    except NoPath:
        return
    for name in found.names:
        assert name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


@given(st.lists(st.binary(min_size=1, max_size=6).filter(lambda name: name not in (b".", b"..") and not set(name) & {0, 47}), max_size=4))
def test_every_name_has_a_path(names: list[bytes]) -> None:
    path = "/" + "/".join(map(as_segment, names))
    assert web_path(path.encode()) == WebPath(tuple(names), not names)


@given(st.lists(st.text("a~%/.@ü []", min_size=1, max_size=6).map(lambda text: text.encode()), min_size=1, max_size=4), st.data())
def test_each_path_has_one_canonical_spelling_and_the_others_lead_there(names: list[bytes], data: st.DataObject) -> None:
    """Of all ways to write its bytes."""

    def spelled(byte: int) -> str:
        forms = [f"%{byte:02x}", f"%{byte:02X}"] + [chr(byte)] * (byte < 0x80 and byte not in b"%/")
        return data.draw(st.sampled_from(forms))

    path = "".join("/" + "".join(map(spelled, name)) for name in names)
    try:
        found = web_path(path.encode())
    except NoPath:
        return
    assert found.names == tuple(names)
    canonical = "".join("/" + as_segment(name) for name in names)
    assert found.is_canonical == (path == canonical)
    way = way_to_canonical(path)
    assert way is None if found.is_canonical else way is not None and way.startswith(("./", "../")) and urljoin(path, way) == canonical


def test_there_is_no_way_to_what_has_no_spelling() -> None:
    for path in ("/a", "/%zz/%61", "/%61/%2e", "/..", "/%2E%2e/%61"):
        assert way_to_canonical(path) is None or path == "/%zz/%61", path


def test_hidden_names() -> None:
    assert is_hidden((b"a", b".git", b"config")) and is_hidden((b".env",)) and is_hidden((b".well-known", b".x"))
    assert not is_hidden((b".well-known", b"a")) and not is_hidden((b"a.b",)) and not is_hidden(())
    assert is_hidden((b"a", b".well-known"))


def test_a_prefix_is_taken_away_at_a_slash() -> None:
    assert without_prefix(WebPath((b"a", b"b"), False), (b"a",)) == WebPath((b"b",), False)
    assert without_prefix(WebPath((b"ab",), False), (b"a",)) == WebPath((b"ab",), False)
    assert without_prefix(WebPath((b"a",), True), (b"a",)) == WebPath((), True)


# -- types, names, lists -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("a.HTM", "text/html"),
        ("a.js", "text/javascript"),
        ("a.mjs", "text/javascript"),
        ("a.css", "text/css"),
        ("a.wasm", "application/wasm"),
        ("a.avif", "image/avif"),
        ("a.webp", "image/webp"),
        ("a.svg", "image/svg+xml"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.woff2", "font/woff2"),
        ("a.map", "application/json"),
        ("a.xhtml", "application/xhtml+xml"),
        ("a.tar.gz", "application/gzip"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.odt", "application/vnd.oasis.opendocument.text"),
        ("a.unheard-of", "application/octet-stream"),
        ("html", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("\xff.txt", "text/plain"),
    ],
)
def test_types_by_names(name: str, kind: str) -> None:
    assert type_of(name.encode("latin-1")) == kind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"a b.txt", 'attachment; filename="a b.txt"'),
        (b'a"b\\c.txt', "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
        ("ü.txt".encode(), "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC.txt"),
        (b"\xff.txt", 'attachment; filename="_.txt"'),
        (b"a\r\nset-cookie: b", "attachment; filename=\"a__set-cookie: b\"; filename*=UTF-8''a%0D%0Aset-cookie%3A%20b"),
        (b"100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
    ],
)
def test_a_name_to_save_under_is_escaped(name: bytes, value: str) -> None:
    assert attachment(name) == value


def test_lists_have_directories_first_and_names_are_only_names() -> None:
    names = [b"b", b"A", b'"><script>', b"javascript:x", b"\xff", b"a\nb", "\u202egnp.exe".encode()]
    entries = [ListedName(name, False, 5, 1_000_000_000) for name in names] + [ListedName(b"zz", True, 0, 1_000_000_000)]
    ordered = in_order(entries)
    assert [entry.name for entry in ordered][:2] == [b"zz", b'"><script>']
    page = render("html", "/<x>/", Entries(ordered, False), False).decode()
    assert "<script>" not in page and "<x>" not in page and "\u202e" not in page
    assert '<a href="./javascript:x">' in page and '<a href="./%FF">\N{REPLACEMENT CHARACTER}</a>' in page
    assert '<a href="./zz/">zz/</a>' in page and '<a href="../">' in page and "only 8 are listed" in page
    assert render("text", "/", Entries(ordered, True), True).decode().splitlines()[0] == "2001-09-09 01:46             -  zz/"
    assert '"url": "./a%0Ab"' in render("json", "/", Entries(ordered, True), True).decode()


@given(st.binary(max_size=30))
def test_any_name_can_be_shown(name: bytes) -> None:
    assert "\n" not in shown(name) and "\x1b" not in shown(name)


@pytest.mark.parametrize(
    ("asked", "accept", "kind"),
    [
        (None, None, "html"),
        (None, "*/*", "html"),
        (None, "text/html,application/xhtml+xml,*/*;q=0.8", "html"),
        (None, "application/json", "json"),
        (None, "text/plain", "text"),
        (None, "text/html;q=0.5, application/json", "json"),
        (None, "image/png", "html"),
        ("json", "text/html", "json"),
        ("text", None, "text"),
        ("xml", None, "html"),
    ],
)
def test_the_kind_of_a_list(asked: str | None, accept: str | None, kind: str) -> None:
    assert wanted_kind(asked, accept.encode() if accept is not None else None) == kind
