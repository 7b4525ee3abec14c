"""A proxy without a file: what the flags come to, and what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pingap import cli
from pingap.config.storage.places import storage_of
from pingap.loading import load
from pingap.quick_start import CERTIFICATES, KEYS, Asked, BadQuickStart, configuration, pair_of, text_of
from pingap.stages.acme.wishes import wanted_of
from tests.e2e.certificate import self_signed


def run(*args: str) -> Result:
    return CliRunner().invoke(cli.commands, ["up", *args])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PINGAP_CONF", raising=False)


def pair_in(folder: Path, cert: str = "cert.pem", key: str = "key.pem") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in zip((cert, key), self_signed("pingap.io"), strict=True):
        (folder / name).write_text(text)
    return folder


def test_an_upstream_alone_is_plain_http_for_every_host() -> None:
    snapshot = load(storage_of(None, configuration(Asked("192.168.1.1:3000, 192.168.1.2:3000"))))
    assert [str(one) for one in snapshot.servers["pingap"].addr] == ["0.0.0.0:80"]
    assert snapshot.servers["pingap"].access_log is not None and snapshot.servers["pingap"].locations == ("pingap",)
    assert not snapshot.servers["pingap"].enabled_h2 and not snapshot.certificates
    assert snapshot.locations["pingap"].host == () and snapshot.locations["pingap"].path.value == "/"
    assert [one.host for one in snapshot.upstreams["pingap"].addrs] == ["192.168.1.1", "192.168.1.2"]


def test_with_a_certificate_it_is_tls_and_http2_for_the_domains(tmp_path: Path) -> None:
    pair_in(tmp_path / "own")
    snapshot = load(storage_of(None, configuration(Asked("127.0.0.1:3000", "PINGAP.io,", "own"))))
    server, certificate = snapshot.servers["pingap"], snapshot.certificates["pingap"]
    assert [str(one) for one in server.addr] == ["0.0.0.0:443"] and server.global_certificates and server.enabled_h2
    assert certificate.is_default and certificate.domains == ("pingap.io",) and "BEGIN CERTIFICATE" in certificate.tls_cert
    assert {rule.value for rule in snapshot.locations["pingap"].host} == {"pingap.io"}


def test_without_a_domain_the_certificate_is_for_its_own_names(tmp_path: Path) -> None:
    pair_in(tmp_path / "own")
    snapshot = load(storage_of(None, configuration(Asked("127.0.0.1:3000", cert="own", addr="[::]:8443,127.0.0.1:8444"))))
    assert snapshot.certificates["pingap"].domains == ("pingap.io",) and snapshot.locations["pingap"].host == ()
    assert [str(one) for one in snapshot.servers["pingap"].addr] == ["[::]:8443", "127.0.0.1:8444"]


def test_with_domains_alone_their_certificate_is_got_by_acme() -> None:
    snapshot = load(storage_of(None, configuration(Asked("127.0.0.1:3000", "PINGAP.io,www.pingap.io"))))
    server, plain, certificate = snapshot.servers["pingap"], snapshot.servers["pingap-http"], snapshot.certificates["pingap"]
    assert [str(one) for one in server.addr] == ["0.0.0.0:443"] and server.global_certificates and server.enabled_h2
    assert [str(one) for one in plain.addr] == ["0.0.0.0:80"] and not plain.global_certificates and plain.locations == ("pingap",)
    assert certificate.acme == "https://acme-v02.api.letsencrypt.org/directory" and certificate.is_default
    assert certificate.domains == ("pingap.io", "www.pingap.io")
    assert wanted_of(snapshot.certificates, snapshot.servers)["pingap"].challenge == "http-01"


def test_where_it_is_to_listen_it_listens_alone_and_proves_by_tls() -> None:
    asked = Asked("127.0.0.1:3000", "pingap.io", addr="127.0.0.1:8443", acme="lets_encrypt_staging")
    snapshot = load(storage_of(None, configuration(asked)))
    assert [str(one) for server in snapshot.servers.values() for one in server.addr] == ["127.0.0.1:8443"]
    assert snapshot.certificates["pingap"].acme == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert wanted_of(snapshot.certificates, snapshot.servers)["pingap"].challenge == "tls-alpn-01"


def test_a_backend_may_have_a_name() -> None:
    assert load(storage_of(None, configuration(Asked("app:3000,127.0.0.1:3000")))).upstreams["pingap"].addrs[0].host == "app"


def test_a_backend_may_be_a_unix_socket_or_have_an_ipv6_address() -> None:
    upstream = load(storage_of(None, configuration(Asked("unix:/run/app.sock, [::1]:3000,[fe80::1%eth0]:3001")))).upstreams["pingap"]
    assert [one.address for one in upstream.addrs] == ["unix:/run/app.sock", "[::1]:3000", "[fe80::1%eth0]:3001"]
    with pytest.raises(BadQuickStart, match=r"--upstream: 'app.sock' is not an absolute path: "):
        configuration(Asked("unix:app.sock"))


@pytest.mark.parametrize("cert", CERTIFICATES)
@pytest.mark.parametrize("key", KEYS)
def test_a_directory_may_have_the_pair_under_any_usual_name(tmp_path: Path, cert: str, key: str) -> None:
    for name in (cert, key):
        (tmp_path / name).touch()
    assert pair_of(str(tmp_path), None) == pair_of(str(tmp_path / cert), None) == (str(tmp_path / cert), str(tmp_path / key))


def test_the_whole_chain_is_taken_before_the_certificate_alone(tmp_path: Path) -> None:
    for name in (*CERTIFICATES, *KEYS):
        (tmp_path / name).touch()
    assert pair_of(str(tmp_path), None) == (str(tmp_path / "fullchain.pem"), str(tmp_path / "privkey.pem"))
    assert pair_of(str(tmp_path), str(tmp_path / "key.pem"))[1] == str(tmp_path / "key.pem")


def test_paths_of_a_home_and_of_this_directory_are_absolute_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pair_in(tmp_path / "tls")
    assert pair_of("~/tls", None) == pair_of("tls", "~/tls/key.pem") == (str(tmp_path / "tls/cert.pem"), str(tmp_path / "tls/key.pem"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--upstream="], "--upstream is empty"),
        (["--upstream= , "], "--upstream is empty"),
        (["--domain=a.example", "--addr=:80"], "--domain and --addr: only with --upstream"),
        (["--upstream=a:1", "--key=k"], "--key: only with --cert"),
        (["--upstream=a:1", "--cert="], "--cert is empty"),
        (["--upstream=a:1", "--cert=none"], "none is not there"),
        (["--upstream=a:1", "--cert=."], "has no certificate of the names fullchain.pem"),
        (["--upstream=a:1", "--cert=alone.pem"], "has no key of the names privkey.pem"),
        (["--upstream=a:1", "--cert=alone.pem", "--key=nokey"], "nokey is not there"),
        (["--upstream=http://a"], "--upstream: 'http://a' is a URL"),
        (["--upstream=a:99999"], "'99999' is not a port"),
        (["--upstream=a:1", "--addr=here"], "--addr: 'here' has no port"),
        (["--upstream=a:1", "--domain=a b", "--cert=alone.pem"], "--domain: 'a b' is not a host"),
        (["--upstream=a:1", "--domain=a.example,*.example"], "--domain: *.example cannot be proved to an authority: a wildcard is"),
        (["--upstream=a:1", "--domain=~a.*"], "--domain: ~a.* cannot be proved to an authority: it is a pattern"),
        (["--upstream=a:1", "--acme=zerossl"], "--acme: only with --domain and without --cert"),
        (["--upstream=a:1", "--domain=a.example", "--cert=alone.pem", "--key=alone.pem", "--acme=zerossl"], "--acme: only with --domain"),
        (["--upstream=a:1", "--domain=a.example", "--acme=lets_encrpt"], "--acme: 'lets_encrpt' is no authority"),
        (["--acme=zerossl"], "--acme: only with --upstream"),
        (["--upstream=a:1", "-c", "x.toml"], "are for a proxy without a file: give them, or -c"),
        (["--upstream=a:1", "--addr=\udcff:80"], "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_bad_usage_and_told(tmp_path: Path, args: list[str], said: str) -> None:
    (tmp_path / "alone.pem").touch()
    done = run(*args)
    assert done.exit_code == 2 and said in done.output


def test_all_of_it_is_told_at_once() -> None:
    done = run("--upstream=http://a,b:0", "--cert=none", "--addr=x")
    assert all(flag in done.output for flag in ("'http://a'", "port 0", "--cert", "--addr"))


def test_it_can_be_checked() -> None:
    done = run("-t", "--upstream=127.0.0.1:3000", "--addr=127.0.0.1:8080")
    assert done.exit_code == 0 and "the command line: no problems (1 server, 1 location, 1 upstream" in done.output


def test_a_pair_that_is_none_is_found_by_the_check(tmp_path: Path) -> None:
    (pair_in(tmp_path / "own") / "key.pem").write_text("nothing")
    done = run("-t", "--upstream=127.0.0.1:3000", "--cert=own")
    assert done.exit_code == 2 and "certificates.pingap.tls_key" in done.output


def test_the_environment_s_configuration_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference does it: an image may have a PINGAP_CONF, and its user says what to serve all the same."""
    monkeypatch.setenv("PINGAP_CONF", "/nowhere")
    done = run("-t", "--upstream=127.0.0.1:3000")
    assert done.exit_code == 0 and "PINGAP_CONF is set aside" in done.output


ANY = st.text(st.characters(exclude_categories=["Cs"])).filter(bool)


@given(st.lists(ANY, min_size=1, max_size=3), ANY, ANY, ANY)
def test_values_stay_what_they_are_whatever_is_in_them(domains: list[str], addr: str, cert: str, key: str) -> None:
    tables = tomllib.loads(text_of(["127.0.0.1:1"], domains, addr, (cert, key)))
    assert set(tables) == {"basic", "servers", "locations", "upstreams", "certificates"}
    assert tables["servers"]["pingap"]["addr"] == addr
    assert tables["locations"]["pingap"]["host"] == tables["certificates"]["pingap"]["domains"] == ",".join(domains)
    assert (tables["certificates"]["pingap"]["tls_cert"], tables["certificates"]["pingap"]["tls_key"]) == (cert, key)


@pytest.mark.parametrize(
    "value", ['a"\n[plugins.x]\n', "a'''", "a\\", '"]\n[servers.evil]\naddr="0.0.0.0:1"', "$ENV:HOME", "a\x7f", "a#b", "{a}"]
)
def test_nothing_gets_in_by_a_value(value: str) -> None:
    for asked in (Asked(value), Asked("a:1", addr=value), Asked(f"a:1,{value}")):
        with pytest.raises(BadQuickStart):
            configuration(asked)
