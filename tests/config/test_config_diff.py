from __future__ import annotations

from dataclasses import replace

from pingap.config.diff import Changes, diff
from pingap.config.model import Basic, Bus, Stage
from tests.kit.config import load_text

BASE = load_text("""
[servers.web]
addr = "127.0.0.1:80"
locations = ["home"]
[locations.home]
upstream = "app"
[upstreams.app]
addrs = ["127.0.0.1:5000"]
[plugins.ping]
category = "ping"
path = "/ping"
""")
WEB = BASE.servers["web"]


def test_nothing_changed_is_false_and_says_so() -> None:
    changes = diff(BASE, BASE)
    assert changes == Changes()
    assert not changes
    assert changes.describe() == "nothing changed"


def test_remarks_are_no_change() -> None:
    web = replace(WEB, remark="new")
    plugins = {"ping": {**BASE.plugins["ping"], "remark": "new"}}
    assert not diff(BASE, replace(BASE, servers={"web": web}, plugins=plugins))


def test_a_changed_listening_address_needs_a_restart() -> None:
    web = replace(WEB, addr=(), locations=())
    changes = diff(BASE, replace(BASE, servers={"web": web}))
    assert changes.changed == ("servers.web.addr", "servers.web.locations")
    assert changes.restart == ("servers.web.addr",)
    assert changes.hot == ("servers.web.locations",)
    assert changes.describe() == "changed servers.web.locations; needs a restart: servers.web.addr"


def test_timeouts_and_the_access_log_of_a_server_are_hot() -> None:
    web = replace(WEB, access_log=None, header_timeout=1.0, keepalive_timeout=1.0, downstream_read_timeout=1.0)
    assert not diff(BASE, replace(BASE, servers={"web": web})).restart


def test_locations_upstreams_and_plugins_are_hot() -> None:
    home, app = BASE.locations["home"], BASE.upstreams["app"]
    new = replace(
        BASE,
        locations={"home": replace(home, weight=1), "my.site": home},
        upstreams={"other": app},
        plugins={"ping": {"category": "ping", "path": "/pong"}},
    )
    changes = diff(BASE, new)
    assert changes.added == ('locations."my.site"', "upstreams.other")
    assert changes.removed == ("upstreams.app",)
    assert changes.changed == ("locations.home.weight", "plugins.ping")
    assert not changes.restart
    assert changes.describe() == (
        'added locations."my.site", upstreams.other; removed upstreams.app; changed locations.home.weight, plugins.ping'
    )


def test_new_and_removed_servers_and_stages_need_a_restart() -> None:
    changes = diff(BASE, replace(BASE, servers={"new": WEB}, stages={"accept": Stage(replicas=2)}))
    assert changes.restart == ("servers.new", "servers.web", "stages.accept")
    assert changes.hot == ()


def test_of_basic_and_bus_only_what_processes_start_with_needs_a_restart() -> None:
    new = replace(BASE, basic=Basic(threads=2, error_template="x"), bus=Bus(public_key="x", secret_key="y"))
    changes = diff(BASE, new)
    assert changes.restart == ("basic.threads", "bus.public_key", "bus.secret_key")
    assert changes.hot == ("basic.error_template",)
