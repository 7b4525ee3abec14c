"""`dns_service_url`: an interface, and the keys for it."""

from __future__ import annotations

import pytest

from pingap.config.dns_service import DnsService, check_dns_service, parse_dns_service
from pingap.config.problems import BadValue, Note, Problem


@pytest.mark.parametrize(
    ("provider", "url", "service"),
    [
        ("cf", "?token=abc", DnsService("https://api.cloudflare.com", {"token": "abc"})),
        ("cf", "https://api.cloudflare.com?token=abc", DnsService("https://api.cloudflare.com", {"token": "abc"})),
        ("cf", "https://proxy.example:8443/ignored/path?token=a%2Bb+c%3D", DnsService("https://proxy.example:8443", {"token": "a+b+c="})),
        (
            "ali",
            "?access_key_id=i&access_key_secret=s",
            DnsService("https://alidns.aliyuncs.com", {"access_key_id": "i", "access_key_secret": "s"}),
        ),
        (
            "tencent",
            " https://dnspod.tencentcloudapi.com/?access_key_secret=a=b==&access_key_id=i ",
            DnsService("https://dnspod.tencentcloudapi.com", {"access_key_id": "i", "access_key_secret": "a=b=="}),
        ),
        (
            "huawei",
            "?access_key_id=i&access_key_secret=s",
            DnsService("https://dns.myhuaweicloud.com", {"access_key_id": "i", "access_key_secret": "s"}),
        ),
        ("cf", "http://[::1]:8080?token=abc", DnsService("http://[::1]:8080", {"token": "abc"})),
    ],
)
def test_what_is_taken(provider: str, url: str, service: DnsService) -> None:
    assert parse_dns_service(provider, url) == service
    assert list(check_dns_service("certificates.a", provider, url)) == []
    assert "abc" not in repr(service)


@pytest.mark.parametrize(
    ("provider", "url", "said"),
    [
        ("cf", "https://api.cloudflare.com", ["token is missing in the query"]),
        ("cf", "?token=", ["token is empty"]),
        ("cf", "?token=a&token=b", ["token is there more than once"]),
        ("cf", "?token=a%20b", ["token has characters that no key has"]),
        ("cf", "?tokn=abc", ["'tokn' in the query is nothing that cf knows", "token is missing in the query"]),
        ("cf", "abc", ["has neither a scheme nor a `?`", "token is missing in the query"]),
        ("cf", "?S3cretS3cret", ["has more in its query than keys", "token is missing in the query"]),
        ("cf", "?token=x&S3cretS3cret==", ["has more in its query than keys"]),
        ("cf", "ftp://x?token=abc", ["is no URL of an interface: it begins with https://"]),
        ("cf", "https://[?token=abc", ["is no URL"]),
        ("cf", "https://x:99999?token=abc", ["is no URL"]),
        ("cf", "https://me:S3cret@x?token=abc", ["has a user before the host, of which the interface knows nothing"]),
        ("cf", "?token=abc#S3cret", ["has a `#`, at which it ends"]),
        ("ali", "?access_key_id=i", ["access_key_secret is missing in the query"]),
        (
            "huawei",
            "?access_key_id=i&access_key_secret=s&region=x",
            ["'region' in the query is nothing that huawei knows"],
        ),
    ],
)
def test_what_is_wrong_is_told_and_no_key(provider: str, url: str, said: list[str]) -> None:
    problems = list(check_dns_service("certificates.a", provider, url))
    assert [one.message for one in problems] == said
    assert all(isinstance(one, Problem) and one.path == "certificates.a.dns_service_url" and one.hint for one in problems)
    assert not any("S3cret" in f"{one.message}{one.hint}" for one in problems)
    with pytest.raises(BadValue, match="^" + said[0].replace("?", r"\?")):
        parse_dns_service(provider, url)


def test_a_misspelt_name_has_the_right_one_as_its_hint() -> None:
    assert next(check_dns_service("certificates.a", "cf", "?tokn=abc")).hint == "did you mean 'token'?"


def test_keys_that_go_unencrypted_are_noted() -> None:
    (note,) = check_dns_service("certificates.a", "cf", "http://api.cloudflare.com?token=abc")
    assert isinstance(note, Note) and note.message == "the keys go over the network unencrypted"
