"""One marker in every place of a configuration that is secret, and no output of a running instance that has it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pingap import client, events
from pingap.config.encryption import encrypt
from tests.e2e.harness import Pingap
from tests.e2e.origins import Origin
from tests.kit.waiting import until

MARKER: Final = "hunter2"
"""What no output may have; each value below is made of it."""
PHRASE: Final = f"{MARKER}-pass-phrase"
NUMBERS: Final = (1, 2)


def text(origin: int, number: int, more: str = "", key: str = "") -> str:
    """A site with secrets of all kinds: in clear by their keys, by their place in a header or a URL, and out of storages."""
    word = f"{MARKER}-{number}"
    sealed = encrypt(f'proxy_add_headers = ["X-Plain-Name:{word}"]', PHRASE)
    value = encrypt(f"X-Other-Name:{word}", PHRASE)
    return f"""
[basic]
error_template = "$SECRET:template"
[servers.web]
addr = "127.0.0.1:{{port}}"
locations = ["all"]
[locations.all]
upstream = "origin"
plugins = ["auth", "keys", "mark", "mine"]
proxy_set_headers = ["$SECRET:line", "Authorization:Bearer {word}", "X-Tenant:$host"]
includes = ["sealed"]
match_query = ["token:{word}"]
rewrite = "^/old$ /new?access_token={word}"
{more}
[upstreams.origin]
addrs = ["127.0.0.1:{origin}"]
[plugins.auth]
category = "basic_auth"
authorizations = ["{key or "aHVudGVyMjpodW50ZXIy"}"]
[plugins.keys]
category = "key_auth"
header = "X-Key"
keys = ["{word}", "$ENV:A_KEY", "$SECRET:key"]
[plugins.mark]
category = "response_headers"
set_headers = ["X-Api-Key: {word}"]
[plugins.mine]
category = "python"
path = "{{dir}}/mine.py"
password = "{word}"
url = "redis://user:{word}@127.0.0.1/0?api_key={word}"
[storages.sealed]
category = "secret"
value = "{sealed}"
secret = "$ENV:PHRASE"
[storages.line]
category = "secret"
value = "{value}"
secret = "$ENV:PHRASE"
[storages.key]
category = "secret"
value = "{word}-key"
[storages.template]
category = "secret"
value = "{word} {{{{content}}}}"
"""


MINE: Final = """
from pingap.plugin import Plugin, Settings

class MineSettings(Settings):
    password: str
    url: str

class Mine(Plugin):
    model = MineSettings
    def start(self, host):
        if "refuse" in self.settings.url:
            raise RuntimeError("cannot connect to " + self.settings.url + " with " + self.settings.password)
    def request(self, exchange): return None
"""

WRONG: Final = [
    'weight = "$SECRET:key"',
    'client_max_body_size = "$SECRET:key"',
    'path = "$SECRET:key"\nhost = "$SECRET:line"',
    'max_retry_window = "$SECRET:line"',
    'path = "~ (($SECRET"\nmatch_headers = ["$SECRET:template"]',
]
"""Lines of a location that refuse a configuration because of a secret value."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pingap]:
    origin = Origin()
    site = text(origin.port, 1)
    instance = Pingap(site, up=["--no-autoreload"], env={"PHRASE": PHRASE, "A_KEY": f"{MARKER}-env", "PINGAP_LOG_LEVEL": "debug"})
    (instance.dir / "mine.py").write_text(MINE)
    with instance as proxy:
        proxy.origin = origin  # type: ignore[attr-defined]
        yield proxy
    origin.stop()


def outputs(proxy: Pingap) -> dict[str, str]:
    """Whatever an operator gets to read, by where it is."""
    reloads = ("reload", "reload --json", "reload --dry-run", "reload --dry-run --json", "rollback", "rollback --json")
    found = {}
    for command in (*reloads, "ps", "ps --json", "logs --json", "logs --level debug", "version"):
        done = proxy.command(*command.split())
        found[command] = done.stdout + done.stderr
    check = proxy.command("check", "-c", str(proxy.config))
    return found | {"check": check.stdout + check.stderr, "output of up": proxy.output()}


def clean(found: dict[str, str]) -> None:
    for where, said in found.items():
        assert MARKER not in said, f"{where}: {[line for line in said.splitlines() if MARKER in line]}"
        assert "aHVudGVyMj" not in said, where


def test_consumers_hear_what_changed_without_secrets(proxy: Pingap) -> None:
    heard: list[events.Event] = []

    def listen() -> None:
        for event in events.stream(str(proxy.run_dir), topics=("notice",)):
            heard.append(event)
            if getattr(event, "category", "") == "reload_config_fail":
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    port = proxy.origin.port  # type: ignore[attr-defined]
    turns = iter(range(1000))

    def changed() -> bool:
        proxy.write_config(text(port, 2 + next(turns)))
        client.ask(str(proxy.run_dir), "reload")
        return len(heard) >= 2

    until(changed, 10, "a reload was heard of")
    proxy.write_config(text(port, 1, more=WRONG[0]))
    client.ask(str(proxy.run_dir), "reload")
    listener.join(10)
    assert not listener.is_alive()
    told = [event for event in heard if isinstance(event, events.NoticeEvent)]
    assert [event.category for event in told[-3:]] == ["reload_config", "diff_config", "reload_config_fail"]
    assert "+ password = ***" in told[-2].message
    assert "got the text '***'" in told[-1].message
    clean({"notices": repr(told)})


def test_a_changed_secret_is_told_as_changed_and_not_shown(proxy: Pingap) -> None:
    port = proxy.origin.port  # type: ignore[attr-defined]
    with proxy.follow("logs", "-f", "--json") as followed:
        proxy.write_config(text(port, 50, key="aHVudGVyMjpvdGhlcg=="))
        dry = proxy.command("reload", "--dry-run")
        assert dry.returncode == 0, dry.stderr
        done = proxy.command("reload", "--json")
        outcome = json.loads(done.stdout)
        assert outcome["taken"], outcome
        said = "\n".join(outcome["difference"])
        for key in ("proxy_set_headers", "proxy_add_headers", "error_template", "authorizations", "keys", "password"):
            assert f"+ {key} = ***" in said or f"+ {key} = [" in said, key
        assert '+ url = "redis://***@127.0.0.1/0?api_key=***"' in said
        assert "token:***" in said and "access_token=***" in said
        until(lambda: any("configuration committed" in line for line in followed.lines()), 5, "the log has it")
        clean({"dry": dry.stdout + dry.stderr, "done": done.stdout, "followed": "\n".join(followed.lines())})
    clean(outputs(proxy))


def test_a_configuration_that_is_refused_because_of_a_secret_does_not_show_it(proxy: Pingap) -> None:
    port = proxy.origin.port  # type: ignore[attr-defined]
    for line in WRONG:
        proxy.write_config(text(port, 1, more=line))
        done = proxy.command("reload")
        assert done.returncode == 1 and "***" in done.stderr, done.stderr
        clean({line: done.stdout + done.stderr})
    clean(outputs(proxy))


def test_neither_does_one_that_a_plugin_refuses_when_it_starts(proxy: Pingap) -> None:
    port = proxy.origin.port  # type: ignore[attr-defined]
    proxy.write_config(text(port, 1).replace("127.0.0.1/0", "127.0.0.1/refuse"))
    done = proxy.command("reload")
    assert done.returncode == 1 and "cannot connect" in done.stderr
    clean(outputs(proxy))


def test_nor_one_with_another_pass_phrase(proxy: Pingap) -> None:
    port = proxy.origin.port  # type: ignore[attr-defined]
    site = text(port, 1)
    proxy.write_config(site.replace('secret = "$ENV:PHRASE"', f'secret = "{MARKER}-wrong"'))
    done = proxy.command("reload")
    assert done.returncode == 1 and done.stderr.count("the pass phrase is wrong") == 2, done.stderr
    clean(outputs(proxy))
    assert Path(proxy.config).exists()
