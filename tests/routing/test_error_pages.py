"""What a client reads when the answer is ours."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.error_page import ErrorPages, product_version, render
from pingap.stages.errors import KINDS

NOT_FOUND = KINDS["not_found"]


def test_the_marks_of_the_template_are_filled_in() -> None:
    headers, body = render("{{version}} | {{error_type}} | {{content}}", NOT_FOUND, "1.2.3")
    assert body.decode() == f"1.2.3 | not_found | {NOT_FOUND.text}"
    assert headers == b"content-type: text/html; charset=utf-8\r\ncache-control: private, no-store\r\nx-pingap-etype: not_found\r\n"


def test_a_template_that_begins_with_a_brace_is_json() -> None:
    headers, body = render('{"error": "{{error_type}}", "message": "{{content}}"}', NOT_FOUND, "1", 'a "quoted"\nline')
    assert b"application/json" in headers
    assert json.loads(body) == {"error": "not_found", "message": 'a "quoted"\nline'}


def test_a_template_that_begins_with_a_mark_is_not_json() -> None:
    assert b"text/html" in render("{{content}}", NOT_FOUND)[0]


def test_other_marks_stay() -> None:
    assert render("{{other}} {{ content }}", NOT_FOUND)[1] == b"{{other}} {{ content }}"


def test_without_a_template_there_is_a_small_page() -> None:
    _, body = render("", NOT_FOUND)
    assert NOT_FOUND.text.encode() in body
    assert product_version().encode() in body
    assert len(body) < 400


@given(st.text())
def test_content_cannot_become_markup(content: str) -> None:
    _, body = render("<p>{{content}}</p>", NOT_FOUND, "1", content or "x")
    inner = body.decode()[3:-4]
    assert "<" not in inner
    assert ">" not in inner


def test_content_is_not_looked_at_for_marks() -> None:
    assert render("{{content}}", NOT_FOUND, "1", "{{version}}")[1] == b"{{version}}"


def test_there_is_a_page_for_every_kind() -> None:
    pages = ErrorPages("{{error_type}}")
    for name, kind in KINDS.items():
        status, headers, body = pages.page(name)
        assert (status, body) == (kind.status, name.encode())
        assert (b"retry-after" in headers) is (name == "overloaded")
        assert b"\r\ncache-control: private, no-store\r\n" in headers
