"""`pingap ca`: an authority for development, and how it is trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pingap import terminal
from pingap.commands import options
from pingap.commands.options import BAD_USAGE, fail

if TYPE_CHECKING:
    from pingap.dev_authority import DevAuthority

PLACE: Final = "~/.pingap/ca"


@options.command()
@click.option("--dir", "directory", metavar="DIR", default=PLACE, show_default=True, help="Where it is, or will be: ca.pem and ca.key.")
@click.option("--name", metavar="TEXT", help="What lists of authorities show. [pingap development CA (USER@HOST)]")
@click.option("--domains", metavar="LIST", help="What it may make certificates for, with all that is under it; * for any name.")
@options.as_json
def ca(directory: str, name: str | None, domains: str | None, as_json: bool) -> None:
    """Make an authority for development, and say how it is trusted.

    With it in a section [certificates.X] with is_ca = true, pingap makes a certificate
    for each name that a browser asks for. It can make them for names and addresses
    that are nobody's on the internet: localhost, test, local, internal, home.arpa and
    what is under them, 127.0.0.0/8 and ::1. --domains names others, such as
    dev.example.com,10.0.0.0/8. Nothing is overwritten: where there is one it is shown.
    """
    from pingap import dev_authority
    from pingap.config.problems import BadValue

    place = Path(os.path.abspath(os.path.expanduser(directory)))
    try:
        found = dev_authority.read(place)
        is_made = found is None
        if found is None:
            wanted = dev_authority.domains_of(domains) if domains is not None else dev_authority.DOMAINS
            pair = dev_authority.made(dev_authority.usual_name() if name is None else name, wanted, dev_authority.now())
            dev_authority.write(place, *pair)
            found = dev_authority.read(place)
            assert found is not None
        elif name is not None or domains is not None:
            fail(f"{place} has one already, {found.name!r} until {found.until:%Y-%m-%d}: move it away, or name another --dir")
    except BadValue as refused:
        fail(terminal.fitted(f"{refused.message}: {refused.hint}"), BAD_USAGE)
    except OSError as error:
        fail(f"{error.filename or place}: {error.strerror or error}")
    terminal.say(_as_json(place, found, is_made) if as_json else _text(place, found, is_made))


def _as_json(place: Path, found: DevAuthority, is_made: bool) -> str:
    from pingap import dev_authority
    from pingap.trust_words import trust_words

    path = str(place / dev_authority.CERTIFICATE)
    told = {
        "made": is_made,
        "certificate": path,
        "key": str(place / dev_authority.KEY),
        "name": found.name,
        "domains": list(found.domains),
        "until": found.until.isoformat(),
        "sha256": found.sha256,
        "trust": [one._asdict() for one in trust_words(path, found.name)],
    }
    return json.dumps(told, indent=2)


def _text(place: Path, found: DevAuthority, is_made: bool) -> str:
    from pingap import dev_authority
    from pingap.trust_words import trust_words

    path, key = place / dev_authority.CERTIFICATE, place / dev_authority.KEY
    is_over = found.until <= dev_authority.now()
    lines = [
        f"{'made' if is_made else 'there is one already'}: {found.name}",
        f"  certificate  {path}",
        f"  key          {key} (keep it to yourself)",
        f"  {'ended on' if is_over else 'valid until'}  {found.until:%Y-%m-%d}"
        + (": move both files away to make another" if is_over else ""),
    ]
    what = ", ".join(found.domains) or "ANY NAME: whoever has the key can pose as every site to you"
    lines.append(terminal.fitted(f"  for          {what}", 80))
    lines += [
        "",
        "In the configuration, beside a server with global_certificates = true:",
        "  [certificates.dev]",
        f"  tls_cert = {json.dumps(str(path))}",
        f"  tls_key = {json.dumps(str(key))}",
        "  is_ca = true",
        "",
        "To trust it, and to undo that, on",
    ]
    for one in trust_words(str(path), found.name):
        lines += [f"  {one.system}", f"    {one.trust}", f"    undo: {one.undo}"]
    return "\n".join(lines)
