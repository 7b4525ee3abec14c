"""HCL says what TOML says; what it cannot say here is refused with its place."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.kit import config

NESTED = """
# a comment
basic { name = "edge" }

server "web" {
    addr = "0.0.0.0:80"     // one more
    locations = ["old"]
    location "api" {
        path = "/api"
        upstream "app" { addrs = ["127.0.0.1:1"] }
        upstream "spare" {}
        plugin "limits" {
            category = "mock"
            headers = ["a:b",
                "c:d",      /* and
                               one more */
            ]
            inner = { a = 1, "b c" : { yes = true }
                      list = [{ a = -1.5e3 }, {}] }
        }
    }
    upstream "lost" { addrs = ["127.0.0.1:2"] }
    plugin "elsewhere" { category = "ping" }
    certificate "own" { tls_cert = "a.pem" }
}
location "old" {
    upstream = "app"
    upstream "new" { addrs = [] }
}
"""

FLAT = {
    "basic": {"name": "edge"},
    "servers": {"web": {"addr": "0.0.0.0:80", "locations": ["old", "api"]}},
    "locations": {
        "api": {"path": "/api", "upstream": "app", "plugins": ["limits"]},
        "old": {"upstream": "app"},
    },
    "upstreams": {"app": {"addrs": ["127.0.0.1:1"]}, "spare": {}, "lost": {"addrs": ["127.0.0.1:2"]}, "new": {"addrs": []}},
    "plugins": {
        "limits": {
            "category": "mock",
            "headers": ["a:b", "c:d"],
            "inner": {"a": 1, "b c": {"yes": True}, "list": [{"a": -1500.0}, {}]},
        },
        "elsewhere": {"category": "ping"},
    },
    "certificates": {"own": {"tls_cert": "a.pem"}},
}


read = partial(config.read_text, "hcl")
problem_of = partial(config.problem_of, "hcl")


def test_blocks_in_blocks_are_lifted_and_none_is_lost() -> None:
    assert read(NESTED) == FLAT
    assert read(NESTED.replace("\n", "\r\n")) == FLAT


def test_plural_words_open_the_same_blocks() -> None:
    text = "servers a {}\nlocations b {}\nupstreams c {}\ncertificates d {}\nplugins e {}\nstorages f {}\nstages g {}\nbus {}\n"
    sections = ("servers", "locations", "upstreams", "certificates", "plugins", "storages", "stages")
    assert read(text) == {section: {name: {}} for section, name in zip(sections, "abcdefg", strict=True)} | {"bus": {}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'"a\n\t\r\"\\ \u00fc\U0001F600"', 'a\n\t\r"\\ ü😀'),
        ('"$host $1 100% $ENV:NAME"', "$host $1 100% $ENV:NAME"),
        ('"$${name} %%{if}"', "${name} %{if}"),
        ("<<EOT\n  a\n\n b\\n $${x}\nEOT\n", "  a\n\n b\\n ${x}\n"),
        ("<<-EOT\n    a\n\n      b\n    EOT\n", "a\n\n  b\n"),
        ("<<EOT\r\na\r\nEOT\r\n", "a\n"),
        ("<<E\nE\n", ""),
        ("9223372036854775807", 9223372036854775807),
        ("1.0", 1.0),
        ("false", False),
        ("[[1, []], [\n]]", [[1, []], []]),
    ],
)
def test_values(written: str, meant: object) -> None:
    assert read(f"basic {{\n  x = {written}\n}}\n") == {"basic": {"x": meant}}


def test_a_key_that_is_null_is_not_there() -> None:
    assert read("basic {\n  name = null\n  x = { a = null, b = 1 }\n}") == {"basic": {"x": {"b": 1}}}


EVALUATES = "pingap evaluates nothing in HCL: write the value itself, or $ENV:NAME for an environment variable"


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ('basic {\n  x = file("a")\n}', "2:7", "not taken: a function", EVALUATES),
        ("basic {\n  x = var.name\n}", "2:7", "not taken: a word without quotes", EVALUATES),
        ('basic {\n  x = "a ${b} c"\n}', "2:10", "not taken: the template ${…}", "write $${ for the characters ${"),
        ('basic {\n  x = "a %{if b}"\n}', "2:10", "not taken: the template %{…}", "write %%{"),
        ("basic {\n  x = <<EOT\n  a ${b}\nEOT\n}", "3:5", "not taken: the template ${…}", "write $${"),
        ("basic {\n  x = 1 + 2\n}", "2:9", "not HCL: expected the end of the line, not '+'", EVALUATES),
        ("basic { x = [for a in b : a] }", "1:14", "not taken: a word without quotes", EVALUATES),
        ("basic { x = 1 ? 2 : 3 }", "1:15", "not HCL: expected the end of the line, not '?'", EVALUATES),
        ('basic {\n  x = "a\n}', "2:7", "not HCL: the text is not closed on its line", "<<EOT for several lines"),
        ('basic { x = "\\q" }', "1:14", "not HCL: \\q means nothing in a text", "write \\\\"),
        ('basic { x = "\\ud800" }', "1:14", "not HCL: \\u means nothing in a text", ""),
        ("basic { x = <<EOT\nabc\n", "1:13", "not HCL: no line EOT closes the text", ""),
        ("basic { x = <<\n", "1:13", "not HCL: expected a word and the end of the line after <<", ""),
        ("basic {\n\n", "1:1", "not HCL: the block 'basic' is not closed", ""),
        ("[basic]\n", "1:1", "not HCL: expected a key or a block, not '['", "is it TOML?"),
        ("basic {}\n}", "2:1", "not HCL: expected a key or a block, not '}'", ""),
        ("basic { x = [1, 2", "1:13", "not HCL: the list is not closed", ""),
        ("basic { x = [1 2] }", "1:16", "not HCL: expected `,` or `]`", ""),
        ("basic { x = { a = 1", "1:13", "not HCL: the object is not closed", ""),
        ("basic { x = { a 1 } }", "1:17", "not HCL: expected `=` after the key", ""),
        ("basic { x = { a = 1, a = 2 } }", "1:22", "'a' is written twice in one object", "keep one"),
        ("basic { x = [null] }", "1:14", "not taken: null in a list", "leave it out"),
        ("basic { x = }", "1:13", "not HCL: expected a value, not '}'", ""),
        ("basic { x = 1e999 }", "1:13", "not HCL: a number that is too large", ""),
        ("/* a", "1:1", "not HCL: the comment is not closed", ""),
        ('basic { a = "b" c = "d" }', "1:17", "not HCL: expected the end of the line, not 'c'", ""),
        ("basic {\n  a = 1\n  a = 2\n}", "3:3", "'a' is written twice in one block", "keep one"),
        ('name = "edge"', "1:1", "'name' is in no block", 'basic { name = "edge" }'),
        ('servr "a" {}', "1:1", "'servr' is no section", "did you mean 'server'?"),
        ("server {}", "1:1", "'server' without a name", 'server "NAME" { … }'),
        ('server "a" "b" {}', "1:1", "a block 'server' has one name, not 2", ""),
        ('basic "a" {}', "1:1", "'basic' has no name", ""),
        ('server "a" {}\nservers "a" {}', "2:1", "server 'a' is there twice", "keep one"),
        ('location "a" {}\nserver "b" {\n  location "a" {}\n}', "3:3", "location 'a' is there twice", "keep one"),
        ("basic {}\nbasic {}", "2:1", "'basic' is there twice", "keep one"),
        (
            'location "a" {\n  locaton "b" {}\n}',
            "2:3",
            "a block 'locaton' cannot stand in 'location'",
            "for a table write `locaton = { … }`",
        ),
        ('server "a" {\n  locaton "b" {}\n}', "2:3", "a block 'locaton' cannot stand in 'server'", "did you mean 'location'?"),
        ('upstream "a" {\n  server "b" {}\n}', "2:3", "a block 'server' cannot stand in 'upstream'", "write it at the top of the file"),
        (
            'plugin "a" {\n  authorizations {\n  }\n}',
            "2:3",
            "a block 'authorizations' cannot stand in 'plugin'",
            "`authorizations = [{ … }]`",
        ),
        ("basic { location a {} }", "1:9", "a block 'location' cannot stand in 'basic'", "at the top"),
    ],
)
def test_what_is_wrong_has_its_place_and_a_hint(text: str, place: str, message: str, hint: str) -> None:
    found = problem_of(text)
    assert (found.path, found.message) == (f"x.hcl:{place}", message)
    assert hint in found.hint


@pytest.mark.parametrize(
    "text",
    [
        "a {" * 100_000,
        "basic { x = " + "[" * 100_000,
        "basic { x = " + "{a = " * 100_000,
        "basic { x = <<A\n" + "\n" * 300_000,
        "basic { x = <<A\n" + "   \n" * 100_000 + " AA\n",
        'basic { x = "' + "a" * 2_000_000,
        'basic { x = "' + "\\n" * 200_000,
        "/*" * 500_000,
        "basic { x = " + "1" * 100_000 + " }",
        "#" * 1_000_000 + "\n\0",
        " " * 1_000_000 + "%",
    ],
    ids=range(11),
)
def test_no_text_is_too_much(text: str) -> None:
    begin = time.process_time()
    assert problem_of(text).path.startswith("x.hcl:")
    assert time.process_time() - begin < 10
