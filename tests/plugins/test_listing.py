"""`pingap plugins`: the catalogue on a terminal and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pingap import cli
from pingap.stages.plugins.registry import CATEGORIES
from pingap.workshop import listing
from pingap.workshop.catalogue import entries

EXAMPLE = Path(__file__).parents[2] / "examples/plugins/signed_webhooks.toml"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.commands, ["plugins", *words])


def test_all_are_listed_with_the_instances_that_need_no_section() -> None:
    lines = run().output.splitlines()
    assert lines[0].split() == ["PLUGIN", "STEPS", "WHAT", "IT", "DOES"]
    assert {*CATEGORIES, "python"} <= {line.split()[0] for line in lines if line}
    assert '  pingap:ping (path = "/ping")' in lines


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in listing.table(entries(), width))
    for entry in entries():
        wide = [line for line in listing.page(entry, width) if len(line) > width]
        assert not [line for line in wide if not line.startswith("    ") and " " in line.strip()]  # code and words that long stay whole


def test_one_is_shown_with_steps_keys_defaults_and_prose() -> None:
    text = run("basic_auth").output
    assert text.startswith("basic_auth: HTTP Basic authentication (RFC 7617).\n\nStep request.\n\nKeys:\n\n")
    assert "  authorizations  (list of text, required)\n      Base64 of user:password, one for each account" in text
    assert '  delay  (duration, default "0s")\n' in text
    assert "401 with a challenge" in text and not text.endswith("\n\n")


def test_links_of_the_manual_and_its_marks_are_not_shown() -> None:
    text = run("compression").output
    assert "](" not in text and "`" not in text
    assert "visit plugins (0015);" in " ".join(text.split())


def test_code_stays_as_it_is() -> None:
    assert "\n    subs_filter 'regex' 'replacement' [g] [i]\n" in run("sub_filter").output


def test_rows_of_tables_in_the_prose_are_wrapped() -> None:
    prose = "Before.\n\n| a | b |\n| --- | :-- |\n| `one` \\| two | " + "word " * 20 + "|\n\nAfter."
    entry = replace(entries()[0], prose=prose)
    lines = listing.page(entry, 40)
    assert [line for line in lines if line.startswith("  ")][-5:-1] == [
        "  a | b",
        "  one | two | word word word word word",
        "      word word word word word word word",
        "      word word word word word word word",
    ]
    assert lines[-1] == "After."


def test_an_instance_shows_its_plugin() -> None:
    assert run("pingap:requestId").output == run("request_id").output


def test_another_name_is_refused_with_the_one_that_was_meant() -> None:
    done = run("basic_aut")
    assert done.exit_code == 2 and "did you mean 'basic_auth'" in done.output


def test_programs_get_a_list() -> None:
    [entry] = json.loads(run("limit", "--json").output)
    assert [*entry] == ["name", "steps", "choice", "summary", "prose", "keys", "instances"]
    assert entry["choice"] == ["request", "proxy_upstream"]
    interval = next(key for key in entry["keys"] if key["name"] == "interval")
    assert {key: interval[key] for key in ("type", "default", "required", "ours")} == {
        "type": "duration",
        "default": "10s",
        "required": False,
        "ours": False,
    }
    assert [one["name"] for one in json.loads(run("--json").output)] == [entry.name for entry in entries()]


@pytest.mark.processes
def test_plugins_of_a_configuration_are_listed_too() -> None:
    found = json.loads(run("-c", str(EXAMPLE), "--json").output)
    [own] = found[len(entries()) :]
    assert run("-c", str(EXAMPLE), own["name"]).exit_code == 0
    assert own["name"] == "signed" and own["steps"] and own["keys"] and own["summary"]
    done = run("-c", "/nowhere/at/all.toml")
    assert done.exit_code == 2 and "/nowhere/at/all.toml" in done.output


def test_marks_of_a_page_are_not_shown_but_what_would_not_be_seen_is_quoted() -> None:
    said = listing._plain("**Cost.** `rate = 1` of `%` and `Bearer `; [more](x.md), [RFC](https://rfc.test)")
    assert said == "Cost. rate = 1 of '%' and 'Bearer '; more, RFC (https://rfc.test)"
