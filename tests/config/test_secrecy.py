"""What is kept out of what is said, and that it takes no longer than reading does."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config import secrecy
from pingap.config.includes import IncludeShelf
from pingap.config.load import load
from pingap.config.problems import ConfigRefused, Note, Problem
from pingap.config.secrecy import MASK, is_within, masked, without_secrets
from pingap.config.storage.memory import MemoryStorage
from pingap.stages.plugins.checking import Checker

MOST = 3.0
"""Seconds of CPU. What each of these takes grew with the square of its length, to more than that; now it is a small part of it."""

paths = st.sampled_from(
    ("plugins", "plugins.a", "plugins.a.keys", "plugins.a.keys[0]", "plugins.b", "locations.l.proxy_set_headers[1]", "")
)
texts = st.text(alphabet="ab' \n*", min_size=1, max_size=9)


def one_by_one(problem: Problem, secrets: list[tuple[str, str]]) -> Problem:
    """Every secret looked for in every problem."""
    message, hint = problem.message, problem.hint
    for path, text in sorted(secrets, key=lambda secret: -len(secret[1])):
        is_near = is_within(path, {problem.path}) or is_within(problem.path, {path})
        if is_near or len(text) >= 6:
            message, hint = (secrecy._without(said, text, is_near) for said in (message, hint))
    return replace(problem, message=message, hint=hint)


@given(
    st.lists(st.tuples(paths, texts), max_size=6),
    paths,
    st.lists(st.one_of(st.just("is no number"), st.just("'aab'"), texts), max_size=4),
    st.booleans(),
)
def test_a_secret_is_found_wherever_it_is_said(secrets: list[tuple[str, str]], path: str, words: list[str], quotes: bool) -> None:
    said = " ".join([*words, *(repr(text) if quotes else text for _, text in secrets[:2])])
    problem = Problem(path, said, said[::-1])
    assert without_secrets([problem], secrets) == [one_by_one(problem, secrets)]


def test_thousands_of_notes_and_thousands_of_secrets_do_not_multiply() -> None:
    count = 4000
    secrets = [(f"locations.l{number}.proxy_set_headers[0]", f"Bearer {number:06}") for number in range(count)]
    notes = [Note(f"upstreams.u{number}.update_frequency", "without effect", "leave it out: Bearer") for number in range(count)]
    began = time.process_time()
    assert without_secrets(notes, secrets) == notes
    assert time.process_time() - began < MOST


def test_a_url_after_a_long_word_is_masked_in_linear_time() -> None:
    began = time.process_time()
    assert masked("a." * 40_000) == "a." * 40_000
    assert masked("x" * 100 + "://me:secret@host/") == "x" * 100 + f"://{MASK}@host/"
    assert time.process_time() - began < MOST


@pytest.mark.parametrize("more", ["\n".join(" " * 20_000 for _ in range(2)), "\n".join(f"k{number} = 1" for number in range(12_000))])
def test_the_lines_of_an_include_are_found_in_linear_time(more: str) -> None:
    text = f'weight = 1\n{more}\n"read_timeout" = "1s"\n'
    began = time.process_time()
    item = IncludeShelf({"s": text}, frozenset("s"), lambda keys, _: keys).expanded("upstreams.u", {"includes": ["s"]})
    assert time.process_time() - began < MOST
    assert item.origins["weight"].line == 1
    assert item.origins["read_timeout"].line == text.count("\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.kdl", 'plugin "k" {\n  keys 9hunter2secret\n}'),
        ("c.kdl", 'plugin "k" hunter2secret {}'),
        ("c.kdl", 'plugin "k" {\n  9hunter2secret\n}'),
        ("c.kdl", "plugin 9.2e7 {\n  secret hunter2secret\n}"),
        ("c.hcl", 'plugin "j" {\n  secret = hunter2secret\n}'),
        ("c.hcl", 'plugin "j" {\n  secret = hunter2secret("x")\n}'),
        ("c.hcl", 'plugin "j" {\n  keys = { "hunter2secret" }\n}'),
        ("c.toml", "[plugins.j]\nsecret = hunter2secret"),
        ("c.toml", '[locations.l]\nproxy_set_headers = ["Authorization Bearer hunter2secret"]'),
        ("c.toml", '[locations.l]\nproxy_add_headers = ["hunter2secret"]'),
        ("c.toml", '[locations.l]\nproxy_set_headers = ["Authorization Bearer x:hunter2secret"]'),
        ("c.toml", '[locations.l]\nmatch_headers = ["Authorization Bearer x:hunter2secret"]'),
        ("c.toml", '[locations.l]\nmatch_headers = [":hunter2secret"]'),
        ("c.toml", '[plugins.r]\ncategory = "response_headers"\nset_headers = ["X-Token hunter2secret"]'),
    ],
)
def test_a_mistake_beside_a_secret_does_not_show_it(name: str, text: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        load(MemoryStorage(text, name), plugin_checker=Checker())
    assert "hunter2" not in str(refused.value) and "9.2e7" not in str(refused.value)
    assert refused.value.problems[0].path
