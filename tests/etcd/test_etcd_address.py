"""What an etcd:// address says, and that its password is told to nobody."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import NotWritten
from pingap.config.storage.etcd import keys
from pingap.config.storage.etcd.address import address_of, without_password
from pingap.config.storage.places import storage_of

SECRET = "s3cr3t"


def refused(source: str, **env: str) -> list[str]:
    with pytest.raises(ConfigRefused) as caught:
        address_of(source, env)
    assert SECRET not in str(caught.value)
    return [problem.message for problem in caught.value.problems]


def test_endpoints_prefix_and_history_are_those_of_the_reference() -> None:
    address = address_of("etcd://h1:1,h2:2/pingap?timeout=4s&connect_timeout=250ms&user=me&password=a%26b&enable_history=true")
    assert [str(endpoint) for endpoint in address.endpoints] == ["h1:1", "h2:2"]
    assert (address.prefix, address.history) == ("/pingap/", "/pingap-history/")
    assert (address.timeout, address.connect_timeout) == (4, 0.25)
    assert (address.user, address.password, address.keeps_history, address.is_tls) == ("me", "a&b", True, False)
    assert address_of("etcd://h/a/b/").prefix == "/a/b/"
    assert address_of("etcd://h/").prefix == "/"


def test_a_port_may_be_left_out_and_addresses_may_be_of_ipv6() -> None:
    address = address_of("etcd://h,[::1],[::2]:7/p")
    assert [str(endpoint) for endpoint in address.endpoints] == ["h:2379", "[::1]:2379", "[::2]:7"]


def test_a_password_may_be_in_the_environment() -> None:
    source = "etcd://h/p?user=$ENV:WHO&password=$ENV:WORD"
    address = address_of(source, {"WHO": "me", "WORD": "a&b"})
    assert (address.user, address.password) == ("me", "a&b")
    assert address.shown == source
    assert refused(source, WHO="me") == ["password: the environment variable WORD is not set"]
    assert refused(source, WHO="me", WORD="\udcff") == ["password: the environment variable WORD is not UTF-8"]


def test_a_plus_is_a_plus() -> None:
    """As in any URL that is no form: passwords that are base64 have some."""
    address = address_of("etcd://h/p?&user=a+b&password=c%2Bd+e%20f&&ca=", {})
    assert (address.user, address.password) == ("a+b", "c+d+e f")


def test_tls_is_by_scheme_or_parameter_and_its_files_belong_to_it(tmp_path: Path) -> None:
    assert address_of("etcds://h/p").is_tls
    address = address_of("etcd://h/p?tls=true&ca=~/ca.pem&cert=/c&key=/k")
    assert (address.is_tls, address.cert, address.key) == (True, "/c", "/k")
    assert address.ca == str(Path("~/ca.pem").expanduser())
    assert refused("etcd://h/p?ca=/ca") == ["ca: only for TLS"]
    assert refused("etcds://h/p?cert=/c") == ["cert and key go together"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert refused(f"etcd://h:x,a b/p?pasword={SECRET}&timeout=5&enable_history=yes&user=me") == [
        "'x' is not a port",
        "'a b' is not an address",
        "unknown parameter 'pasword'",
        "user and password go together",
        "timeout: '5' is not a duration",
        "enable_history: 'yes' is neither true nor false",
    ]
    assert refused("etcd://h:2379") == ["no prefix of keys is given"]
    assert refused("etcd:///p") == ["no endpoint is given"]
    assert refused(f"etcd://me:{SECRET}@h/p") == ["user and password are not written before the host"]
    assert refused("etcd://h/p?timeout=1s&timeout=2s") == ["the parameter 'timeout' is given twice"]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (f"etcd://h/p?user=me&password={SECRET}&timeout=1s", "etcd://h/p?user=me&password=***&timeout=1s"),
        (f"etcds://h/p?passwd={SECRET}", "etcds://h/p?passwd=***"),
        (f"etcd://me:{SECRET}@h/p", "etcd://***@h/p"),
        (f"etcd://h/p?{SECRET}", "etcd://h/p?***"),
        ("/etc/pingap?enable_history", "/etc/pingap?enable_history"),
    ],
)
def test_an_address_is_told_without_its_password(source: str, shown: str) -> None:
    assert without_password(source) == shown


def test_the_password_is_not_in_what_python_prints_of_it() -> None:
    assert SECRET not in repr(address_of(f"etcd://h/p?user=me&password={SECRET}"))


def test_an_unknown_scheme_is_told_without_what_may_be_secret_in_it() -> None:
    with pytest.raises(ConfigRefused) as caught:
        storage_of(f"consul://h/p?token={SECRET}")
    assert str(caught.value.problems[0]) == "consul://…: no such storage of configurations\n    a file, a directory, etcd:// or etcds://"


@pytest.mark.parametrize("name", ["", "a/b", "..\\x", "a\0b", "x" * 2000, "\ud800"])
def test_names_that_cannot_be_a_key_are_refused(name: str) -> None:
    with pytest.raises(NotWritten):
        keys.home_of("servers", name)


@pytest.mark.parametrize("name", ["../x.toml", "a//b.toml", "/a.toml", "servers/../../other/x.toml", "a", "a.txt", "./x.toml"])
def test_documents_that_would_leave_the_prefix_or_have_no_language_are_refused(name: str) -> None:
    with pytest.raises(NotWritten):
        keys.checked(name)


def test_keys_are_as_the_reference_writes_them() -> None:
    assert keys.home_of("basic", "") == "basic.toml"
    assert keys.home_of("servers", "web") == "servers/web.toml"
    assert keys.earlier(17, 1700000000.9) == "17-1700000000"
    assert [keys.until(rest) for rest in (b"17-1700000000", b"17-" + b"9" * 5000, b"17-")] == [1700000000, None, None]
    assert keys.until(b"17-1700000000") == 1700000000
    assert keys.until(b"deeper/17-1700000000") is None
    assert keys.end_of(b"/p/") == b"/p0"
    assert keys.end_of(b"a\xff") == b"b"


@given(st.text(max_size=40))
def test_whatever_the_name_of_an_item_its_key_is_one_of_its_section_or_it_is_refused(name: str) -> None:
    try:
        document = keys.home_of("servers", name)
    except NotWritten:
        return
    section, _, rest = document.partition("/")
    assert (section, rest.removesuffix(".toml"), rest.count("/")) == ("servers", name, 0)
    assert document.encode().decode() == document


@given(st.text(min_size=8, max_size=40), st.sampled_from(["password", "pasword", "x", "user&password", "timeout=1s&password"]))
def test_whatever_the_password_it_is_read_as_it_is_and_never_told(password: str, parameter: str) -> None:
    """What is told is the same for all of them."""
    assume(not password.startswith("$ENV:"))
    source, other = (f"etcd://h/p?{parameter}={quote(one, errors='replace')}" for one in (password, "another1"))
    assert without_password(source) == without_password(other)
    try:
        address = address_of(f"{source}&user=me", {})
    except ConfigRefused as told:
        with pytest.raises(ConfigRefused) as caught:
            address_of(f"{other}&user=me", {})
        assert str(told) == str(caught.value)
    else:
        assert address.password == password
        assert address.shown == address_of(f"{other}&user=me", {}).shown
