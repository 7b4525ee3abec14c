from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf import scrypt
from hypothesis import given
from hypothesis import strategies as st

from pingap.config import edit, encryption
from pingap.config.encryption import encrypt
from pingap.config.model import Snapshot
from pingap.config.problems import ConfigRefused
from pingap.config.secrecy import MASK, masked
from pingap.config.storage.memory import MemoryStorage
from tests.kit.config import load_text

MARKER = "hunter2-correct-horse"
SITE = """
[servers.web]
addr = "127.0.0.1:80"
locations = ["all"]
[locations.all]
upstream = "app"
{location}
[upstreams.app]
addrs = ["127.0.0.1:5000"]
"""


def site(location: str, more: str = "", **env: str) -> Snapshot:
    return load_text(SITE.replace("{location}", location) + more, env=env)


def problems(location: str, more: str = "", **env: str) -> list[str]:
    with pytest.raises(ConfigRefused) as caught:
        site(location, more, **env)
    return [str(problem) for problem in caught.value.problems]


def storage(name: str, value: str, secret: str = "") -> str:
    kept = encrypt(value, secret, b"one salt for all."[:16]) if secret else value
    return f"[storages.{name}]\ncategory = 'config'\nvalue = '''{kept}'''\nsecret = '''{secret}'''\n"


def test_an_include_wins_over_the_items_own_key() -> None:
    snapshot = site('weight = 1\nincludes = ["a"]', storage("a", "weight = 2\nmax_processing = 3"))
    assert (snapshot.locations["all"].weight, snapshot.locations["all"].max_processing) == (2, 3)


def test_an_include_that_is_nested_without_end_is_a_problem_and_no_crash() -> None:
    (problem,) = problems('includes = ["a"]', storage("a", "x = " + "[" * 5000 + "]" * 5000))
    assert problem.startswith("storages.a.value: ")


KEYS = {"weight": 7, "max_processing": 8, "max_retries": 9, "grpc_web": False, "rewrite": '"^/a /b"', "host": '"a.example"'}


@given(st.sets(st.sampled_from(sorted(KEYS))), st.dictionaries(st.sampled_from(sorted(KEYS)), st.sampled_from("ab")))
def test_an_item_is_what_it_would_be_with_all_keys_written_into_it(own: set[str], included: dict[str, str]) -> None:
    """own: keys that the item has, of other values than in an include; included: key to the storage that has it."""

    def lines(keys: set[str], is_own: bool = False) -> str:
        other = {"weight": 1, "max_processing": 1, "max_retries": 1, "grpc_web": False, "rewrite": '"^/x /y"', "host": '"x.example"'}
        return "\n".join(f"{key} = {(other if is_own else KEYS)[key]}".replace("False", "false") for key in sorted(keys))

    parts = {name: {key for key, where in included.items() if where == name} for name in "ab"}
    more = "".join(storage(name, lines(keys)) for name, keys in parts.items())
    written = site(lines(own - included.keys(), is_own=True) + "\n" + lines(set(included)))
    assert site(lines(own, is_own=True) + '\nincludes = ["b", "a"]', more) == written


def test_storages_that_nobody_names_are_taken_whatever_they_hold() -> None:
    assert site("", storage("a", "not = = TOML") + storage("token", "abc.def")).locations["all"].weight is None


def test_what_edits_a_configuration_sees_includes_as_they_are_written() -> None:
    text = SITE.replace("{location}", 'includes = ["a"] # shared') + storage("a", "weight = 2")
    kept = MemoryStorage(text)
    edit.put(kept, "upstreams", "app", {"addrs": ["127.0.0.1:6000"]}, kept.read().version)
    after = kept.read().documents[0].text
    assert 'includes = ["a"] # shared' in after
    assert "\nweight" not in after
    assert load_text(after).locations["all"].weight == 2


def test_an_encrypted_include_is_decrypted_with_a_pass_phrase_of_the_environment() -> None:
    more = storage("a", "weight = 2", "pass").replace("'''pass'''", '"$ENV:PASS"')
    snapshot = site('includes = ["a"]', more, PASS="pass")
    assert snapshot.locations["all"].weight == 2
    assert snapshot.secret == ("locations.all.weight",)
    assert problems('includes = ["a"]', more, PASS="wrong") == [
        "storages.a.value: cannot be decrypted: the pass phrase is wrong, or the text was changed\n"
        "    `pingap secret encrypt` makes such a text, `pingap secret decrypt` tries one"
    ]


def test_a_storage_that_nobody_uses_is_not_opened() -> None:
    """Each costs a fifth of a second. What can be said of it without that is said."""
    encryption._key.cache_clear()
    text = encrypt("weight = 2", "p")
    more = "".join(f"[storages.{name}]\ncategory = 'x'\nvalue = '{text}'\nsecret = '{name}'\n" for name in ("p", "q", "r"))
    assert site('includes = ["p"]', more).locations["all"].weight == 2
    assert encryption._key.cache_info().misses == 1
    (problem,) = problems('includes = ["p"]', more.replace(text, text[:40], 3).replace(text[:40], text, 2))
    assert problem.startswith("storages.r.value: is damaged")


def test_many_salts_are_noted_and_their_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload of a hundred such values took longer than it may, every time."""
    derived: list[bytes] = []

    class Cheap:
        def __init__(self, salt: bytes, *_: int) -> None:
            self._salt = salt

        def derive(self, _: bytes) -> bytes:
            derived.append(self._salt)
            return self._salt * 2

    monkeypatch.setattr(scrypt, "Scrypt", Cheap)
    for count, notes in ((200, 1), (16, 0)):
        texts = [encrypt("X-A: 1", "p") for _ in range(count)]
        more = "".join(f"[storages.s{at}]\ncategory = 'x'\nvalue = '{text}'\nsecret = 'p'\n" for at, text in enumerate(texts))
        own = "proxy_set_headers = [" + ", ".join(f'"$SECRET:s{at}"' for at in range(count)) + "]"
        derived.clear()
        assert [note.path for note in site(own, more).notes] == ["storages"] * notes
        assert [note.message.split()[0] for note in site(own, more).notes] == [str(count)] * notes
        assert not derived, "encrypting them has derived each"
    encryption._key.cache_clear()


def test_pass_phrase_and_value_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("pass\n")
    (tmp_path / "value").write_text(encrypt("weight = 2", "pass") + "\n")
    more = f"[storages.a]\ncategory = 'config'\nvalue = '$FILE:{tmp_path}/value'\nsecret = '$FILE:{tmp_path}/pass'\n"
    assert site('includes = ["a"]', more).locations["all"].weight == 2
    (tmp_path / "pass").unlink()
    assert problems('includes = ["a"]', more) == [f"storages.a.secret: {tmp_path}/pass cannot be read: no such file or directory"]


def test_a_text_may_be_the_value_of_a_storage_anywhere() -> None:
    more = storage("key", MARKER, "pass") + '[plugins.auth]\ncategory = "key_auth"\nheader = "X-Key"\nkeys = ["$SECRET:key"]\n'
    snapshot = site('proxy_set_headers = ["$SECRET:line"]', more + storage("line", "Authorization: Bearer x"))
    assert snapshot.plugins["auth"]["keys"] == [MARKER]
    assert snapshot.locations["all"].proxy_set_headers == (("Authorization", "Bearer x"),)
    assert set(snapshot.secret) == {"plugins.auth.keys[0]", "locations.all.proxy_set_headers[0]"}


def test_a_reference_inside_an_include_is_secret_where_it_arrives() -> None:
    more = storage("key", "X-Key:" + MARKER, "pass") + storage("a", 'proxy_set_headers = ["X-A:1", "$SECRET:key"]\nweight = 2')
    snapshot = site('includes = ["a"]', more)
    assert "locations.all.proxy_set_headers[1]" in snapshot.secret
    assert "locations.all.weight" not in snapshot.secret


WRONG = [
    'upstream = "$SECRET:key"',
    'weight = "$SECRET:key"',
    'path = "$SECRET:key"',
    'host = "$SECRET:key"',
    'rewrite = "$SECRET:key"',
    'match_headers = ["$SECRET:key"]',
    'proxy_set_headers = ["$SECRET:key"]',
    'plugins = ["$SECRET:key"]',
    'client_max_body_size = "$SECRET:key"',
    'max_retry_window = "$SECRET:key"',
    'remark = ["$SECRET:key"]',
    '"$SECRET:key" = 1',
]


@pytest.mark.parametrize("line", WRONG)
@pytest.mark.parametrize("value", [MARKER, "hunter2-(", "5 hunter2-x", "~ hunter2-((", "hunter2-\n\x01'", "/a\\b hunter2-x"])
def test_no_problem_shows_a_secret(line: str, value: str) -> None:
    more = storage("key", value, "pass")
    text = SITE.replace('upstream = "app"\n{location}', line) + more
    try:
        load_text(text)
    except ConfigRefused as refused:
        assert "hunter2" not in str(refused)


@given(st.sampled_from(["authorization", "X-Api-Key", "token", "cookie"]), st.text("abcXYZ019", min_size=8))
def test_header_lines_that_carry_credentials_are_masked(name: str, value: str) -> None:
    assert masked(f"{name}: {value}") == f"{name}: {MASK}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("redis://:pass@host:6379", "redis://***@host:6379"),
        ("https://host/hook?token=abc&a=1", "https://host/hook?token=***&a=1"),
        ("http://host/a?key=abc#x", "http://host/a?key=***#x"),
        ("X-Forwarded-Proto:https", "X-Forwarded-Proto:https"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("/monkey/keys", "/monkey/keys"),
    ],
)
def test_credentials_in_urls_are_masked_and_the_rest_is_not(text: str, shown: str) -> None:
    assert masked(text) == shown
