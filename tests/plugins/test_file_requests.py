"""What decides about requests for files: paths, ranges, conditions, types. No disk, no stage."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.plugin import Headers
from pingap.stages.plugins.builtin.files.conditions import FAILED, GO, NOT_MODIFIED, Validators, is_range_meant, judge, parse_date
from pingap.stages.plugins.builtin.files.listing import Entries, ListedName, in_order, render, shown, wanted_kind
from pingap.stages.plugins.builtin.files.media_types import attachment, type_of
from pingap.stages.plugins.builtin.files.ranges import MOST_PARTS, part_heads, spans_of
from pingap.stages.plugins.builtin.files.web_paths import NoPath, WebPath, as_segment, is_hidden, way_to_canonical, web_path, without_prefix

# -- ranges (RFC 9110 section 14) ------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(500, 1000)]),
        ("bytes=500-", [(500, 1000)]),
        ("bytes=0-0,-1", [(0, 1), (999, 1000)]),
        ("bytes=990-5000", [(990, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("Bytes=0-0", [(0, 1)]),
        ("bytes= 0-0 ,\t1-1,,", [(0, 1), (1, 2)]),
        ("bytes=700-709,0-9", [(700, 710), (0, 10)]),
        ("bytes=0-9,5-14", [(0, 15)]),
        ("bytes=0-9,20-29,5-24", [(0, 30)]),
        ("bytes=1000-", []),
        ("bytes=1000-2000,3000-", []),
        ("bytes=-0", []),
        ("bytes=0-1,1000-", [(0, 2)]),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=5-1", None),
        ("bytes=0-1,5-1", None),
        ("bytes=0-1;2-3", None),
        ("bytes=--1", None),
        ("bytes=0x1-2", None),
        ("bytes=1-2-3", None),
        ("bytes=\u0661-2", None),
        ("lines=0-1", None),
        ("bytes=0-,0-", None),  # more than the file
        ("bytes=" + ",".join(["0-"] * 1300), None),  # CVE-2011-3192
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST_PARTS + 2, 2)), None),
        ("bytes=0-" + "9" * 5000, None),
        ("bytes=0-" + "9" * 500, [(0, 1000)]),
    ],
)
def test_the_parts_that_a_range_asks_for(value: str, spans: list[tuple[int, int]] | None) -> None:
    assert spans_of(value.encode(), 1000) == spans


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5", "bytes=-0"])
def test_an_empty_file_is_sent_as_it_is(value: str) -> None:
    assert spans_of(value.encode(), 0) is None


NUMBER = st.one_of(st.just(""), st.integers(0, 40).map(str), st.integers(0, 10**30).map(str))


@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=8), st.integers(0, 40))
def test_parts_are_within_the_file_never_overlap_and_are_no_more_than_it(pairs: list[tuple[str, str]], size: int) -> None:
    spans = spans_of(b"bytes=" + ",".join(f"{a}-{b}" for a, b in pairs).encode(), size)
    taken: set[int] = set()
    for first, end in spans or ():
        assert 0 <= first < end <= size
        assert not taken & set(range(first, end))
        taken |= set(range(first, end))
    if spans:
        asked = set()
        for a, b in pairs:
            if a:
                asked |= set(range(int(a), min(size, int(b) + 1 if b else size)))
            elif b:
                asked |= set(range(max(0, size - int(b)), size))
        assert taken == asked


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes_are_a_range_or_none(value: bytes, size: int) -> None:
    for text in (value, b"bytes=" + value):
        spans = spans_of(text, size)
        assert spans is None or all(0 <= first < end <= size for first, end in spans)


def test_the_heads_of_parts() -> None:
    heads = part_heads([(0, 1), (5, 9)], 10, "text/plain", "B")
    assert heads == [
        b"--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n",
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-8/10\r\n\r\n",
        b"\r\n--B--\r\n",
    ]


# -- conditions (RFC 9110 section 13) -----------------------------------------------------

WHEN = 1_000_000_000
NOW, BEFORE, AFTER = (formatdate(WHEN + shift, usegmt=True) for shift in (0, -1, 1))
KNOWN = Validators(b'"a"', WHEN, NOW.encode())
WEAK = KNOWN._replace(etag=b'W/"a"')


def headers(*lines: str) -> Headers:
    return Headers("".join(f"{line}\r\n" for line in lines).encode("latin-1"))


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([], GO),
        (['if-match: "a"'], GO),
        (["if-match: *"], GO),
        (['if-match: "b", "a"'], GO),
        (['if-match: "b"', 'if-match: "a"'], GO),
        (['if-match: "b"'], FAILED),
        (['if-match: W/"a"'], FAILED),
        (["if-match: a"], FAILED),
        ([f"if-unmodified-since: {NOW}"], GO),
        ([f"if-unmodified-since: {AFTER}"], GO),
        ([f"if-unmodified-since: {BEFORE}"], FAILED),
        (["if-unmodified-since: yesterday"], GO),
        (['if-match: "a"', f"if-unmodified-since: {BEFORE}"], GO),
        (['if-none-match: "a"'], NOT_MODIFIED),
        (['if-none-match: W/"a"'], NOT_MODIFIED),
        (["if-none-match: *"], NOT_MODIFIED),
        (['if-none-match: "b", , W/"c" ,"a"'], NOT_MODIFIED),
        (['if-none-match: "b"'], GO),
        (['if-none-match: "x,"a"'], GO),
        ([f"if-modified-since: {NOW}"], NOT_MODIFIED),
        ([f"if-modified-since: {AFTER}"], NOT_MODIFIED),
        ([f"if-modified-since: {BEFORE}"], GO),
        (["if-modified-since: "], GO),
        (['if-none-match: "b"', f"if-modified-since: {NOW}"], GO),
        (['if-none-match: "a"', f"if-modified-since: {BEFORE}"], NOT_MODIFIED),
        (['if-match: "b"', 'if-none-match: "a"'], FAILED),
        (['if-match: "a"', 'if-none-match: "a"'], NOT_MODIFIED),
        ([f"if-unmodified-since: {BEFORE}", f"if-modified-since: {NOW}"], FAILED),
    ],
)
def test_conditions_in_the_order_of_the_rfc(lines: list[str], verdict: object) -> None:
    assert judge(headers(*lines), KNOWN) is verdict


def test_a_weak_tag_serves_caches_and_not_those_who_write() -> None:
    assert judge(headers('if-none-match: "a"'), WEAK) is NOT_MODIFIED
    assert judge(headers('if-match: W/"a"'), WEAK) is FAILED
    assert judge(headers("if-match: *"), WEAK) is GO


def test_what_has_no_validators_is_always_sent_whole() -> None:
    nothing = Validators(b"", 0, b"")
    assert judge(headers('if-none-match: ""', f"if-modified-since: {NOW}"), nothing) is GO
    assert judge(headers(f"if-unmodified-since: {BEFORE}"), nothing) is GO
    assert not is_range_meant(headers(f"if-range: {NOW}"), nothing)
    assert not is_range_meant(headers("if-range: "), nothing)


@pytest.mark.parametrize(
    ("value", "known", "meant"),
    [
        ('"a"', KNOWN, True),
        ('"b"', KNOWN, False),
        ('W/"a"', KNOWN, False),
        ('W/"a"', WEAK, False),
        ('"a"', WEAK, False),
        (NOW, KNOWN, True),
        (NOW, WEAK, False),
        (AFTER, KNOWN, False),
        (BEFORE, KNOWN, False),
        ("junk", KNOWN, False),
        ("", KNOWN._replace(modified=0, modified_line=b""), False),
    ],
)
def test_if_range_wants_just_the_same(value: str, known: Validators, meant: bool) -> None:
    assert is_range_meant(headers(f"if-range: {value}"), known) is meant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 28:49:37 GMT", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("784111777", None),
        ("", None),
    ],
)
def test_the_three_forms_of_dates(text: str, seconds: int | None) -> None:
    assert parse_date(text.encode()) == seconds


@given(st.integers(0, 4_000_000_000))
def test_every_date_that_we_write_we_read(seconds: int) -> None:
    assert parse_date(formatdate(seconds, usegmt=True).encode()) == seconds


@given(st.binary(max_size=40))
def test_any_bytes_are_a_condition(value: bytes) -> None:
    raw = value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"):
        judge(headers(f"{name}: {raw}"), KNOWN)
        is_range_meant(headers(f"{name}: {raw}"), KNOWN)


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
    entries = [ListedName(name, False, 5, WHEN) for name in names] + [ListedName(b"zz", True, 0, WHEN)]
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
