"""KDL says what TOML says; what it cannot say here is refused with its place."""

from __future__ import annotations

import time
from functools import partial

import pytest

from pingap.config.text.kdl_nodes import nodes_of
from tests.kit import config
from tests.kit.peers import required

NESTED = """
// a comment
basic name="edge" { threads 2 }
server web {
    addr "0.0.0.0:80"; locations "old"
    location api {
        path "/api"
        match_headers "x-a:1"        // a list in the model
        proxy_set_headers "a:1"
        proxy_set_headers "b:2" "c:3"
        upstream "app" { addrs "127.0.0.1:1" }
        plugin limits category=mock {
            headers "a:b"
            rules { item { app_id "a"; tags 1 2 }
                    item app_id="b"   }
            own { a { b 1 } }
        }
        plugins "kept"
        /-plugins "out"
    }
    upstream "lost" { addrs }
    certificate own tls_cert="a.pem"
    plugin elsewhere category="ping"
    location props path="/x" upstream="app" plugins="kept"
}
location old { upstream app }
/- location gone { }
"""

FLAT = {
    "basic": {"name": "edge", "threads": 2},
    "servers": {"web": {"addr": "0.0.0.0:80", "locations": ["old", "api", "props"]}},
    "locations": {
        "api": {
            "path": "/api",
            "match_headers": ["x-a:1"],
            "proxy_set_headers": ["a:1", "b:2", "c:3"],
            "upstream": "app",
            "plugins": ["kept", "limits"],
        },
        "props": {"path": "/x", "upstream": "app", "plugins": ["kept"]},
        "old": {"upstream": "app"},
    },
    "upstreams": {"app": {"addrs": ["127.0.0.1:1"]}, "lost": {"addrs": []}},
    "certificates": {"own": {"tls_cert": "a.pem"}},
    "plugins": {
        "limits": {
            "category": "mock",
            "headers": ["a:b"],
            "rules": [{"app_id": "a", "tags": [1, 2]}, {"app_id": "b"}],
            "own": {"a": {"b": 1}},
        },
        "elsewhere": {"category": "ping"},
    },
}


read = partial(config.read_text, "kdl")
problem_of = partial(config.problem_of, "kdl")


def test_blocks_in_blocks_are_lifted_and_none_is_lost() -> None:
    assert read(NESTED) == FLAT
    assert read(NESTED.replace("\n", "\r\n")) == FLAT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("#true", True),
        ("true", True),  # KDL 1
        ("false", False),
        (r'"a\n\t\"\\\u{fc}\s\b\f"', 'a\n\t"\\ü \b\f'),
        ('"a\\   \n   b"', "ab"),
        ('#"a\\n"b"#', 'a\\n"b'),
        ('##"a"#b"##', 'a"#b'),
        ('"""\n      a\n\n        b\n      """', "a\n\n  b"),
        ('"""\n      a \\\n         b\n      """', "a b"),
        ('"""\n      """', ""),
        ('#"""\n  a\\n\n  "#', None),
        ('#"""\n  a\\n\n  """#', "a\\n"),
        ("bare", "bare"),
        ("0xff_ff", 65535),
        ("-0b1", -1),
        ("0o17", 15),
        ("1_000", 1000),
        ("1.5e-3", 0.0015),
        ("9223372036854775807", 9223372036854775807),
        ("1 2", [1, 2]),
        ("a=1 b=#false", {"a": 1, "b": False}),
        ("{ - 1; - 2 }", [1, 2]),
        ("{ - 1; - { a 2 }; (list)- 3 }", [1, {"a": 2}, [3]]),
        ("{ item 1 }", [1]),
        ("{ item 1 2; item {} }", [[1, 2], {}]),
        ("{ item; other }", {"item": "", "other": ""}),
        ("{}", {}),
        ("", ""),
        ("/* a /* b */ */ 1 \\ // c\n 2 /-3", [1, 2]),
        ("/- 1 2 /-{ a }", 2),
    ],
)
def test_values(written: str, meant: object) -> None:
    if meant is not None:
        assert read(f"basic {{\n  x {written}\n}}\n") == {"basic": {"x": meant}}


def test_annotations_say_what_a_value_looks_unlike() -> None:
    text = "plugin p { category own; (list)a 1; (list)b; (table)c { item 1 }; (list)d { e 1 } }"
    assert read(text) == {"plugins": {"p": {"category": "own", "a": [1], "b": [], "c": {"item": 1}, "d": [{"e": 1}]}}}
    assert read('location a { (value)match_headers "x"; plugins }') == {"locations": {"a": {"match_headers": "x", "plugins": []}}}


def test_a_list_of_one_is_a_list_in_every_plugin_that_we_know() -> None:
    text = """
        plugin p { ip_list "10.0.0.1"; category ip_restriction }
        plugin q category=combined_auth { authorizations { app_id a; ip_list "::1" } }
    """
    assert read(text)["plugins"] == {
        "p": {"ip_list": ["10.0.0.1"], "category": "ip_restriction"},
        "q": {"category": "combined_auth", "authorizations": [{"app_id": "a", "ip_list": ["::1"]}]},
    }


def test_a_key_that_is_null_is_not_there() -> None:
    assert read("basic { name #null; threads 1 }") == {"basic": {"threads": 1}}


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("server a {\n  addr 127.0.0.1:80\n}", "2:8", "not KDL: not a number", "in quotes"),
        ("server a {\n  addr 80=1\n}", "2:10", "not KDL: expected a space", ""),
        ("server a {\n", "1:10", "not KDL: this { is not closed", ""),
        ("[basic]\n", "1:1", "not KDL: expected the name of a node, not '['", "is it TOML?"),
        ("basic {}\n}", "2:1", "not KDL: a } without its {", ""),
        ('basic { x "a\n}', "1:11", "not KDL: the text is not closed on its line", '""" for several lines'),
        ('basic { x "\\q" }', "1:12", "not KDL: \\q means nothing in a text", "write \\\\"),
        ('basic { x "\\u{d800}" }', "1:12", "not KDL: \\u means nothing in a text", ""),
        ('basic { x """a""" }', "1:11", 'not KDL: after """ comes a new line', ""),
        ('basic { x """\n    a\n  b\n    """ }', "1:11", "not KDL: line 2 of this text is indented less than its last one", ""),
        ('basic { x #"a\nb"# }', "1:14", "not KDL: the text is not closed on its line", 'write #""" for several lines'),
        ('basic { x ##"a"# }', "1:11", "not KDL: the text is not closed", 'it ends with "##'),
        ('basic { x r"a" }', "1:12", "not KDL: expected a space", 'KDL 2 writes raw texts as #"…"#'),
        ("basic { x #tru }", "1:11", "not KDL: expected a value such as #true", "#false"),
        ("basic {\n  # a comment\n}", "2:3", "not KDL: expected the name of a node, not '#'", "a comment is // or /* */"),
        ("basic { x nan }", "1:11", "not KDL: 'nan' must stand in quotes, or be #nan", ""),
        ("basic { true 1 }", "1:9", "not KDL: 'true' must stand in quotes, or be #true", ""),
        ("basic { x 1e999 }", "1:11", "not KDL: a number that is too large", ""),
        ("basic { x 1a }", "1:11", "not KDL: not a number", ""),
        ("/* a /* b */", "1:1", "not KDL: the comment is not closed", ""),
        ("basic { } { }", "1:11", "not KDL: a second { … } of one node", ""),
        ("basic { } x", "1:11", "not KDL: expected the end of the line after }", ""),
        ("location a { path /api }", "1:19", "not KDL: expected a value, not '/'", "in quotes"),
        ("basic { x = 1 }", "1:11", "not KDL: expected a value, not '='", "KDL has no = between"),
        ("basic { x\u200e }", "1:10", "not KDL: U+200E may not stand in a text as it is", "write \\u{…}"),
        ("servr a {}", "1:1", "'servr' is no section", "did you mean 'server'?"),
        ("server {}", "1:1", "'server' without a name", 'server "NAME" { … }'),
        ("server a b {}", "1:10", "'server' takes one name, and no value besides", 'key="value"'),
        ("server #true {}", "1:8", "expected a name", "in quotes"),
        ("basic a {}", "1:7", "'basic' takes no name, and no value besides", "write: basic { … }"),
        ("server a {}\nserver a {}", "2:1", "server 'a' is there twice", "keep one"),
        ("location a {}\nserver b {\n  location a {}\n}", "3:3", "location 'a' is there twice", "keep one"),
        ("basic\nbasic", "2:1", "'basic' is there twice", "keep one"),
        ("plugin p { a 1 { b 2 } }", "1:14", "'a' has both values and keys of its own", "in { }"),
        ("plugin p { (foo)a 1 }", "1:17", "(foo) means nothing here", "(list)"),
        ("basic { name a; name b }", "1:17", "'name' is written twice", 'name "a" "b"'),
        ("basic { trusted_proxies #null }", "1:25", "not taken: null in a list", "leave it out"),
    ],
)
def test_what_is_wrong_has_its_place_and_a_hint(text: str, place: str, message: str, hint: str) -> None:
    found = problem_of(text)
    assert (found.path, found.message) == (f"x.kdl:{place}", message)
    assert hint in found.hint


@pytest.mark.parametrize(
    "text",
    [
        "a {" * 100_000,
        "/*" * 300_000,
        "basic { x " + "#" * 1_000_000 + '"',
        'basic { x "' + "a" * 2_000_000,
        'basic { x """\n' + "\\n" * 200_000,
        'basic { x """\n' + "   \n" * 100_000,
        "basic { x " + "1" * 100_000 + " }",
        "\\" * 1_000_000,
        "/-" * 200_000,
        "(" * 1_000_000,
        "basic { a" + " b=1" * 100_000,
        "basic \\\n" * 100_000 + "{",
        " " * 1_000_000 + "=",
    ],
    ids=range(13),
)
def test_no_text_is_too_much(text: str) -> None:
    begin = time.process_time()
    assert problem_of(text).path.startswith("x.kdl:")
    assert time.process_time() - begin < 10


GOOD = [
    NESTED,
    "a 1 2 b=3 { c; d e }",
    'a #"x"# ##"y"## "z\\n"',
    "a {\n  b 1.5 -2 0x10\n}\n",
    '"q r" "s"="t"',
    "a #true #null #-inf",
    "(t)a (u)1 k=(v)2",
]


@pytest.mark.parametrize("text", GOOD)
def test_ckdl_reads_the_same(text: str) -> None:
    ckdl = required("ckdl")

    def plain(nodes: object) -> object:
        return [
            (
                node.name,
                [value.value if isinstance(value, ckdl.Value) else value for value in node.args],
                {key: value.value if isinstance(value, ckdl.Value) else value for key, value in node.properties.items()},
                plain(node.children),
            )
            for node in nodes  # type: ignore[attr-defined]
        ]

    def ours(nodes: object) -> object:
        return [
            (
                node.name,
                [value for value, _ in node.args],
                {key: value for key, (value, _) in node.props.items()},
                ours(node.children or ()),
            )
            for node in nodes  # type: ignore[attr-defined]
        ]

    # It takes a { for the end of a name, and so refuses `a{`; and KDL 1's words are not its own.
    assert ours(nodes_of(text)) == plain(ckdl.parse(text, version=2).nodes)
