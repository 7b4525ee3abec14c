"""Which certificate is chosen for a name, and which contexts of the TLS library a reload makes anew."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates.choice import Choice, compile_choices
from tests.e2e.certificate import self_signed

WEB = Server(addr=(), global_certificates=True)


def certificate(*names: str, default: bool = False) -> Certificate:
    cert, key = self_signed(*names)
    return Certificate(tls_cert=cert, tls_key=key, domains=names, is_default=default)


def choices(certificates: dict[str, Certificate], **servers: Server) -> dict[str, Choice]:
    return compile_choices(servers or {"web": WEB}, certificates)


@pytest.fixture(scope="module")
def known() -> dict[str, Certificate]:
    return {
        "exact": certificate("a.example", "b.w.example"),
        "wild": certificate("*.w.example"),
        "default": certificate("d.example", default=True),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.example", "exact"),
        ("A.Example", "exact"),
        ("a.example.", "exact"),
        ("b.w.example", "exact"),
        ("c.w.example", "wild"),
        ("x.c.w.example", "default"),
        ("w.example", "default"),
        ("*.w.example", "wild"),
        ("nobody.example", "default"),
        ("", "default"),
        (None, "default"),
    ],
)
def test_exact_then_wildcard_of_one_label_then_default(known: dict[str, Certificate], name: str | None, expected: str) -> None:
    choice = choices(known)["web"]
    own = {"exact": choice.exact["a.example"], "wild": choice.wildcard["w.example"], "default": choice.exact["d.example"]}
    assert choice.of(name) is own[expected]


def test_without_a_default_there_is_none_for_others_unless_it_is_the_only_one(known: dict[str, Certificate]) -> None:
    two = {name: known[name] for name in ("exact", "wild")}
    assert choices(two)["web"].of("nobody.example") is None
    assert choices({"exact": known["exact"]})["web"].of("nobody.example") is not None


def test_servers_without_tls_have_no_choice(known: dict[str, Certificate]) -> None:
    assert set(choices(known, web=WEB, plain=Server(addr=()))) == {"web"}


def test_a_certificate_that_the_library_does_not_take_is_named(known: dict[str, Certificate]) -> None:
    with pytest.raises(ValueError, match=r"^certificates\.mixed: "):
        choices(known | {"mixed": replace(known["exact"], tls_key=known["wild"].tls_key)})


def test_a_reload_makes_anew_only_what_has_changed(known: dict[str, Certificate]) -> None:
    before = choices(known)["web"]
    after = choices(known | {"wild": certificate("*.w.example")})["web"]
    assert after.exact["a.example"] is before.exact["a.example"]
    assert after.wildcard["w.example"] is not before.wildcard["w.example"]
    for changed in ({"tls_min_version": "tlsv1.3"}, {"tls_cipher_list": "ECDHE-ECDSA-AES128-GCM-SHA256"}, {"enabled_h2": True}):
        other = choices(known, web=replace(WEB, **changed))["web"].exact["a.example"]
        assert other is not before.exact["a.example"], changed
    assert before.exact["a.example"].minimum_version is ssl.TLSVersion.TLSv1_2, "the old one is as it was"


def test_of_two_for_a_name_and_of_two_defaults_the_first_is_used() -> None:
    both = {"one": certificate("a.example", "*.w.example", default=True), "two": certificate("a.example", "*.w.example", default=True)}
    for names in (("one", "two"), ("two", "one")):
        first = choices({names[0]: both[names[0]]})["web"].default
        choice = choices({name: both[name] for name in names})["web"]
        assert choice.of("a.example") is choice.of("x.w.example") is choice.of(None) is first
