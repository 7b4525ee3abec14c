"""Documents cut into their items, and put together again."""

from __future__ import annotations

from typing import Any

import pytest
import tomli
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document
from pingap.config.text.items import items_of, joined, remains_of

WRITTEN = '''# licence

# the edge
[basic]
name = "edge" # as in DNS

[servers]

[servers.web] # the only one
addr = "x"
text = """
[not.a.header]
"""
list = [
  "a",
[ "b" ]
, ]
# about what is in it
  [servers.web.inner]
  x = 1

# what is left
[servers."a.b"]
[[servers."a.b".list]]
[[servers."a.b".list]]
y = 2

# the end
'''


def test_an_item_has_what_stands_in_it_and_right_above_it() -> None:
    items = items_of(Document("a.toml", WRITTEN))
    assert [item.place for item in items] == [("basic", ""), ("servers", "web"), ("servers", "a.b")]
    assert all(item.is_as_written for item in items)
    assert joined(items) == WRITTEN
    assert items[0].text.startswith("# licence\n\n# the edge\n[basic]\n")
    assert items[1].text.startswith("[servers]\n\n[servers.web] # the only one\n")
    assert items[1].text.endswith("# about what is in it\n  [servers.web.inner]\n  x = 1\n\n")
    assert items[2].text.startswith("# what is left\n[servers.") and items[2].text.endswith("y = 2\n\n# the end\n")
    for item in items:
        section, name = item.place
        table = tomli.loads(item.text)[section]
        assert (table[name] if name else table) == item.value


def test_the_header_of_a_section_may_stand_in_two_documents_that_become_one() -> None:
    first = items_of(Document("a.toml", "# a\n[servers] # all\n# of a\n[servers.a]\nx = 1"))
    second = items_of(Document("b.toml", "# b\n[servers]\n# of b\n[servers.b]\nx = 2"))
    assert joined([*first, *second], is_airy=True) == "# a\n[servers] # all\n# of a\n[servers.a]\nx = 1\n\n# b\n# of b\n[servers.b]\nx = 2"


@pytest.mark.parametrize(
    "text",
    [
        'basic.name = "x"\n',
        "[servers]\nweb = { addr = 'x' }\nother.addr = 'y'\n",
        "[servers.a]\nx = 1\n[locations.b]\n[servers.a.c]\n",
        "odd = 1\n[servers.a]\n",
        "[odd]\na = 1\n[odd.b]\nc = 1\n",
        "[plugins]\na.b = { c = 1 }\n[plugins.d]\n",
        '[servers.a]\n"\\u0062" = 1\n',
        "# [servers.a]\u2028[servers.b]\n[servers.c]\n",
        '[servers.a]\nx = """\n\n# text"""\n[servers.b]\n',
        "[servers.a]\nx = '''\n# text\n\n[servers.c]'''\n# about b\n[servers.b]\n",
        '["servers"."a"]\r\nx = 1\r\n\r\n[ servers . b ]\r\n',
        "",
        "# nothing\n",
    ],
)
def test_whatever_the_form_each_item_says_what_the_document_says(text: str) -> None:
    found: dict[str, Any] = {}
    for item in items_of(Document("a.toml", text)):
        section, name = item.place
        said = tomli.loads(item.text)
        assert said == {section: {name: item.value} if name else item.value}
        found.setdefault(section, {}).update(said[section]) if name else found.update(said)
    assert found == {section: table for section, table in tomli.loads(text).items() if table != {}}


def test_a_document_that_is_none_is_a_problem() -> None:
    with pytest.raises(ConfigRefused, match=r"a\.toml:1:9: not TOML"):
        items_of(Document("a.toml", "[servers"))


keys = st.text("ab.\"'ü #[", min_size=1, max_size=4)
values: Any = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab\n\"'\\#ü[]", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
sections = st.sampled_from(["servers", "locations", "plugins"])
tables = st.dictionaries(sections, st.dictionaries(keys, st.dictionaries(keys, values, max_size=3), min_size=1, max_size=3))


def test_a_text_of_several_lines_is_not_taken_for_a_comment() -> None:
    for text in ('[servers.a]\nx = """\n\n# text"""\n', '[servers.a]\nx = """\n# text"""\n\n# apart\n'):
        first, second = items_of(Document("a.toml", f"{text}[servers.b]\n"))
        assert (first.value, second.value) == ({"x": first.value["x"]}, {})
        assert remains_of(first) in ("", "# apart\n")
        assert tomli.loads(remains_of(first) + second.text) == {"servers": {"b": {}}}


comments = st.lists(st.sampled_from(["", "# about it", "  # [servers.x]", "\t"]), max_size=3)


@settings(max_examples=60)
@given(tables=tables, above=st.lists(comments, min_size=5, max_size=5))
def test_what_is_cut_is_put_together_again(tables: dict[str, Any], above: list[list[str]]) -> None:
    text = ""
    for line, number in zip(tomlkit.dumps(tables).splitlines(keepends=True), range(10**6), strict=False):
        if line.startswith("[") and tomli.loads(text) is not None:
            text += "".join(f"{comment}\n" for comment in above[number % 5])
        text += line
    wanted = tomli.loads(text)
    items = items_of(Document("a.toml", text))
    assert tomli.loads(joined(items)) == wanted
    if all(item.is_as_written for item in items) and items:
        assert joined(items) == text
    assert tomli.loads(joined(reversed(items))) == wanted, "in any order"


@pytest.mark.parametrize(
    "text",
    [
        "[plugins.a]\nx = [\n" + "  [],\n" * 500 + "]\n[plugins.b]\n",
        "[plugins.a]\nx = '''\n" + "[x]\n" * 500 + "'''\n[plugins.b]\n",
        '[plugins.a]\nx = """\n' + '[x] # \\""" \n' * 500 + '"""\n[plugins.b]\n',
        "".join(f"[plugins.a.t{number}]\nx = 1\n" for number in range(500)),
        "[plugins.a]\n" + "[[plugins.a.t]]\nx = 1\n" * 500,
        "".join(f"# it\n[servers.s{number}]\naddr = 'x'\n" for number in range(500)),
    ],
)
def test_a_long_text_is_parsed_a_few_times_and_not_once_a_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    real = tomli.loads

    def loads(part: str) -> dict[str, Any]:
        nonlocal parsed
        parsed += len(part)
        return real(part)

    monkeypatch.setattr(tomli, "loads", loads)
    items = items_of(Document("a.toml", text))
    assert all(item.is_as_written for item in items) and joined(items) == text
    assert parsed <= 5 * len(text)
