"""Items moved between documents and copied between storages, as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.config.layouts import Relocation, copied, laid_out
from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, NotWritten, after
from pingap.config.storage.file import FileStorage

TYPE = FileStorage("/nowhere/conf").home_of
ITEM = FileStorage("/nowhere/conf", is_separate=True).home_of
FILE = FileStorage("/nowhere/conf.toml").home_of

ALL = """\
# the edge
[basic]
name = "edge"

# the door
[servers.web]
addr = "$ENV:ADDR" # from outside
locations = ["a"]

[locations.a]
includes = ["common"]

[odd]
key = 1
"""

SEPARATE = {
    "basic.toml": '# the edge\n[basic]\nname = "edge"\n\n[odd]\nkey = 1\n',
    "servers/web.toml": '# the door\n[servers.web]\naddr = "$ENV:ADDR" # from outside\nlocations = ["a"]\n',
    "locations/a.toml": '[locations.a]\nincludes = ["common"]\n',
}


def texts(documents: Any) -> dict[str, str]:
    return {document.name: document.text for document in documents}


def made(documents: dict[str, str]) -> tuple[Document, ...]:
    return tuple(Document(name, text) for name, text in documents.items())


def done(documents: tuple[Document, ...], relocation: Relocation) -> tuple[Document, ...]:
    return after(documents, relocation.written, relocation.removed)


def values(documents: tuple[Document, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for document in documents:
        for section, table in tomli.loads(document.text).items():
            if section in ("basic", "bus") or not isinstance(table, dict):
                found[section] = table
            else:
                found.setdefault(section, {}).update(table)
    return found


# -- layouts --------------------------------------------------------------------------------------


def test_each_item_goes_to_a_document_of_its_own_with_its_comments() -> None:
    relocation = laid_out(made({"all.toml": ALL}), ITEM)
    assert (texts(relocation.written), relocation.removed, relocation.uncommented) == (SEPARATE, ("all.toml",), ())


def test_and_back_to_a_document_for_each_section() -> None:
    documents = made(SEPARATE | {"servers/other.toml": "[servers.other]\naddr = '1'"})
    relocation = laid_out(documents, TYPE)
    assert relocation.removed == ("servers/web.toml", "locations/a.toml", "servers/other.toml")
    assert texts(relocation.written)["servers.toml"] == SEPARATE["servers/web.toml"] + "\n[servers.other]\naddr = '1'\n"


def test_what_is_where_it_belongs_is_not_touched() -> None:
    documents = made({"servers.toml": "servers.web.addr = '1' # dotted", "locations.toml": "[locations]\na = {}\n", "x.toml": "# nothing"})
    assert laid_out(documents, TYPE) == Relocation()
    assert laid_out(made(SEPARATE), ITEM) == Relocation()


def test_what_stays_in_a_document_stays_above_what_comes() -> None:
    documents = made({"a.toml": "[servers.a]\nx = 1\n", "servers.toml": "# head\n[servers.z]\nx = 2"})
    assert texts(laid_out(documents, TYPE).written) == {"servers.toml": "# head\n[servers.z]\nx = 2\n\n[servers.a]\nx = 1\n"}


def test_comments_that_cannot_be_kept_are_told() -> None:
    relocation = laid_out(made({"a.toml": "servers.web.addr = '1' # dotted\n", "b.toml": "servers.x.addr = '2'\n"}), TYPE)
    assert relocation.uncommented == ("a.toml",)
    assert texts(relocation.written)["servers.toml"] == '[servers.web]\naddr = "1"\n\n[servers.x]\naddr = "2"\n'


def test_every_item_that_cannot_have_a_file_is_told() -> None:
    with pytest.raises(NotWritten, match=r'(?s)servers."a/b": .*\nlocations.".c": '):
        laid_out(made({"a.toml": '[servers."a/b"]\n[locations.".c"]\n[servers.ok]\n'}), ITEM)


def test_what_cannot_be_read_or_is_there_twice_is_told_at_once() -> None:
    with pytest.raises(ConfigRefused) as refused:
        laid_out(made({"a.toml": "[servers.a]\n", "b.toml": "[servers.a]\n", "c.toml": "["}), TYPE)
    assert [problem.path for problem in refused.value.problems] == ["servers.a", "c.toml:1:2"]


# -- copies -----------------------------------------------------------------------------------------


def test_a_copy_into_an_empty_place_has_every_item_unresolved_and_with_its_comments() -> None:
    copying = copied(made({"all.toml": ALL}), (), ITEM)
    assert texts(copying.relocation.written) == SEPARATE
    assert copying.added == ("basic", "servers.web", "locations.a", "odd")


def test_a_copy_changes_what_differs_where_it_is_and_leaves_the_rest() -> None:
    target = made(
        {
            "all.toml": "# theirs\n[servers.web]\naddr = '1'\n\n# stays\n[servers.more]\naddr = '2'\n",
            "locations.toml": '[locations.a] # the same\nincludes = ["common"]\n',
        }
    )
    source = made({"x.toml": "# ours\n[servers.web]\naddr = '3'\n[locations.a]\nincludes = ['common']\n[locations.b]\n"})
    copying = copied(source, target, TYPE)
    assert (copying.added, copying.changed, copying.removed, copying.left, copying.same) == (
        ("locations.b",),
        ("servers.web",),
        (),
        ("servers.more",),
        1,
    )
    assert texts(copying.relocation.written) == {
        "all.toml": "# ours\n[servers.web]\naddr = '3'\n\n# stays\n[servers.more]\naddr = '2'\n",
        "locations.toml": '[locations.a] # the same\nincludes = ["common"]\n\n[locations.b]\n',
    }
    deleting = copied(source, target, TYPE, deletes=True)
    assert (deleting.removed, deleting.left) == (("servers.more",), ())
    assert texts(deleting.relocation.written)["all.toml"] == "# ours\n[servers.web]\naddr = '3'\n"


def test_a_document_that_has_nothing_left_goes() -> None:
    copying = copied(made({"a.toml": "[servers.a]\n"}), made({"b.toml": "[servers.b]\n"}), TYPE, deletes=True)
    assert (texts(copying.relocation.written), copying.relocation.removed) == ({"servers.toml": "[servers.a]\n"}, ("b.toml",))


BARE = '# [upstreams.old]\n# addrs = ["10.0.0.1:1"]\n'


def test_a_document_of_comments_alone_keeps_them_above_what_comes() -> None:
    source = made({"all.toml": '[upstreams.u]\naddrs = ["127.0.0.1:1"]\n'})
    copying = copied(source, made({"upstreams.toml": BARE}), TYPE)
    assert texts(copying.relocation.written) == {"upstreams.toml": f"{BARE}\n{source[0].text}"}
    relocation = laid_out((*source, *made({"upstreams.toml": BARE})), TYPE)
    assert texts(relocation.written) == {"upstreams.toml": f"{BARE}\n{source[0].text}"}
    assert (copying.relocation.uncommented, relocation.uncommented) == ((), ())


def test_comments_of_a_document_that_cannot_stay_are_told() -> None:
    source = made({"all.toml": "[upstreams]\n[upstreams.u]\n"})
    relocation = copied(source, made({"upstreams.toml": f"{BARE}[upstreams]\n"}), TYPE).relocation
    assert (texts(relocation.written), relocation.uncommented) == ({"upstreams.toml": source[0].text}, ("upstreams.toml",))


def test_comments_apart_from_an_item_stay_when_it_is_taken_out() -> None:
    target = "# of the file\n\n# of a\n[servers.a]\n\n[servers.b]\n\n# on both\n\n[servers.c]\n"
    copying = copied(made({"b.toml": "[servers.b]\n"}), made({"servers.toml": target}), TYPE, deletes=True)
    assert texts(copying.relocation.written) == {"servers.toml": "# of the file\n\n[servers.b]\n\n# on both\n"}


def test_two_that_are_the_same_are_left_alone() -> None:
    assert copied(made({"all.toml": ALL}), made(SEPARATE), TYPE, deletes=True).relocation == Relocation()


# -- whatever is written ------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c.d", "ü", "x y"])
plain: Any = st.integers(0, 3) | st.sampled_from(["x", "# y", "[z]\n"])
items: Any = st.dictionaries(st.sampled_from(["k", "l", "m"]), plain | st.dictionaries(st.sampled_from(["n", "o"]), plain), max_size=3)
tables: Any = st.fixed_dictionaries(
    {},
    optional={
        "basic": items,
        "servers": st.dictionaries(names, items, min_size=1, max_size=3),
        "plugins": st.dictionaries(names, items, min_size=1, max_size=3),
        "odd": st.dictionaries(st.sampled_from(["k", "l"]), plain, min_size=1),
        "scalar": plain,
    },
)


@settings(max_examples=60)
@given(first=tables, second=tables, third=tables)
def test_a_configuration_says_the_same_in_every_layout_and_a_copy_what_its_source_says(first: Any, second: Any, third: Any) -> None:
    second = {section: table for section, table in second.items() if section not in first}
    documents = tuple(Document(f"{name}.toml", tomlkit.dumps(table)) for name, table in (("a", first), ("servers", second)))
    wanted = values(documents)
    for home_of in (TYPE, ITEM, TYPE):
        documents = done(documents, laid_out(documents, home_of))
        assert values(documents) == wanted
        assert laid_out(documents, home_of) == Relocation(), "twice is once"
    target = (Document("mine.toml", tomlkit.dumps(third)),)
    copy = done(target, copied(documents, target, ITEM, deletes=True).relocation)
    assert values(copy) == wanted
    copy = done(target, copied(documents, target, ITEM).relocation)
    for section, table in values(target).items():
        if section in wanted and section not in ("basic", "odd", "scalar"):
            assert values(copy)[section] == table | wanted[section]
        elif section not in wanted:
            assert values(copy)[section] == table


def test_a_file_has_all_of_it(tmp_path: Path) -> None:
    copying = copied(made(SEPARATE), (), FILE)
    assert [document.name for document in copying.relocation.written] == ["/nowhere/conf.toml"]
    assert values(copying.relocation.written) == values(made({"all.toml": ALL}))
