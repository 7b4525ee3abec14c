"""How systems and browsers are made to trust an authority, and how that is undone: one line each."""

from __future__ import annotations

import shlex
from typing import NamedTuple


class TrustWords(NamedTuple):
    """Of one system."""

    system: str
    trust: str
    undo: str


def trust_words(path: str, name: str) -> list[TrustWords]:
    """path: of the certificate. name: its common name."""
    file, quoted = shlex.quote(path), shlex.quote(name)
    debian = "/usr/local/share/ca-certificates/pingap-dev.crt"
    place = "$HOME/.pki/nssdb"  # made by the first start of a browser; certutil makes the database in it, not the directory
    database = f"certutil -d sql:{place}"
    return [
        TrustWords(
            "Debian, Ubuntu",
            f"sudo cp {file} {debian} && sudo update-ca-certificates",
            f"sudo rm {debian} && sudo update-ca-certificates --fresh",
        ),
        TrustWords("Fedora, RHEL, Arch", f"sudo trust anchor {file}", f"sudo trust anchor --remove {file}"),
        TrustWords(
            "macOS",
            f"security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db {file}",
            f"security delete-certificate -t -c {quoted}",
        ),
        TrustWords("Windows", "certutil -user -addstore Root ca.pem", f'certutil -user -delstore Root "{name}"'),
        TrustWords(
            "Firefox",
            "Settings, search for certificates, View Certificates, Authorities, Import",
            "there as well: Delete or Distrust",
        ),
        TrustWords(
            "Chromium on Linux", f"mkdir -p {place} && {database} -A -t C,, -n pingap-dev -i {file}", f"{database} -D -n pingap-dev"
        ),
        TrustWords("curl", f"curl --cacert {file} https://NAME/", "nothing was changed"),
    ]
