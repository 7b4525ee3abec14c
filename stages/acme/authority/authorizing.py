"""The proof that each name of an order is ours (RFC 8555 section 7.5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pingap.config.diff import shortened
from pingap.stages.acme.authority.failures import AuthorityRefused, AuthorityUnreachable, IssueFailed
from pingap.stages.acme.authority.forms import base64url
from pingap.stages.acme.authority.keys import as_address
from pingap.stages.acme.authority.polling import Poller
from pingap.stages.acme.authority.problems import in_words, is_final, read_problem, shown
from pingap.stages.acme.authority.retrying import retry_at
from pingap.stages.acme.presenter import Challenge, NotPresented, Presenter
from pingap.stages.acme.wanted import ChallengeKind

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,512}")
"""RFC 8555 section 8.1. It becomes part of a path, so nothing else passes."""


class PendingProof(NamedTuple):
    """One name whose proof is due."""

    name: str
    """As it was asked for, with `*.`."""
    authorization: str
    url: str
    challenge: Challenge


def challenge_of(kind: ChallengeKind, domain: str, token: str, thumbprint: str) -> Challenge:
    """domain: without `*.`. thumbprint: of the account's key (RFC 7638), base64url."""
    authorization = f"{token}.{thumbprint}"
    if kind != "dns-01":
        return Challenge(kind, domain, token, authorization)
    value = base64url(sha256(authorization.encode()).digest())
    return Challenge(kind, domain, token, authorization, f"_acme-challenge.{domain}", value)


def _texts(table: dict[str, Any], name: str) -> str:
    value = table.get(name)
    return value if isinstance(value, str) else ""


def named(authorization: dict[str, Any]) -> str:
    """Its name, with `*.` where that is what it allows."""
    identifier = authorization.get("identifier")
    value = _texts(identifier, "value").lower() if isinstance(identifier, dict) else ""
    return f"*.{value}" if authorization.get("wildcard") is True and not value.startswith("*.") else value


def _plain(name: str) -> str:
    """An address in its shortest form."""
    return str(as_address(name) or name)


def challenges(authorization: dict[str, Any]) -> list[dict[str, Any]]:
    found = authorization.get("challenges")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class Authorizing:
    """All authorizations of one order."""

    def __init__(self, poller: Poller, kind: ChallengeKind, presenter: Presenter, thumbprint: str, progress: Callable[[str], None]) -> None:
        self._poller = poller
        self._kind = kind
        self._presenter = presenter
        self._thumbprint = thumbprint
        self._progress = progress

    def proofs(self, urls: list[str], domains: tuple[str, ...]) -> list[PendingProof]:
        """Those that are due; names that the authority believes us already have none. Raises IssueFailed, AuthorityRefused.

        domains: that were ordered. Nothing is proved that was not: a proof is a word of ours that others could use.
        """
        if len(urls) > len(domains):
            text = f"{self._poller.link.host} does not speak ACME: its order of {len(domains)} names has {len(urls)} authorizations"
            raise IssueFailed(text, "malformed")
        ordered = {_plain(domain) for domain in domains}
        due = []
        for url in urls:
            authorization = self._poller.ask(url).table
            if _plain(named(authorization)) not in ordered:
                what = f"an authorization for {shown(named(authorization))[:260] or 'nobody'}, which was not ordered"
                raise IssueFailed(f"{self._poller.link.host} does not speak ACME: its order has {what}", "malformed")
            status = authorization.get("status")
            if status == "pending":
                due.append(self._proof(url, authorization))
            elif not isinstance(status, str):
                raise AuthorityUnreachable(f"{self._poller.link.host} does not speak ACME: its authorization has no status")
            elif status != "valid":
                raise self._denied([(named(authorization), authorization)])
        return due

    def _proof(self, url: str, authorization: dict[str, Any]) -> PendingProof:
        name = named(authorization)
        offered = {_texts(one, "type"): one for one in challenges(authorization)}
        found = offered.get(self._kind)
        if found is None:
            others = ", ".join(sorted(offered)) or "none"
            raise IssueFailed(
                f"{name}: the authority does not offer {self._kind} for it, but {others}; acme_challenge says which is used",
                is_final=True,
            )
        token, target = _texts(found, "token"), _texts(found, "url")
        if not _TOKEN.fullmatch(token) or not target:
            raise IssueFailed(f"{name}: the authority does not speak ACME: its challenge has no token", "malformed")
        return PendingProof(name, url, target, challenge_of(self._kind, name.removeprefix("*."), token, self._thumbprint))

    def prove(self, due: list[PendingProof]) -> None:
        """Returns when the authority believes all of them. Raises IssueFailed, AuthorityRefused.

        All are presented at once, before the first is looked at: whoever sets records wants to do it once, a name and its wildcard
        have one TXT record's name, and an authority may remember that it has seen only one of the two.
        """
        self._progress(f"challenge {shortened([proof.name for proof in due])}")
        try:
            with self._poller.patience.paused():
                try:
                    self._presenter.present([proof.challenge for proof in due])
                except NotPresented as error:
                    raise IssueFailed(str(error)) from error
            self._answer(due)
        finally:
            for proof in reversed(due):
                with self._poller.patience.paused():
                    self._presenter.remove(proof.challenge)

    def _answer(self, due: list[PendingProof]) -> None:
        said: dict[str, AuthorityRefused] = {}
        for proof in due:
            try:
                self._poller.link.post(proof.url, {})
            except AuthorityRefused as refused:
                if refused.problem.kind != "malformed":
                    raise
                said[proof.authorization] = refused  # it may have been looked at before we were killed, and need no answer
        denied = []
        self._poller.patience.restart()
        for proof in due:
            while True:
                authorization = self._poller.ask(proof.authorization)
                status = authorization.table.get("status")
                if status != "pending":
                    break
                if proof.authorization in said:
                    raise said[proof.authorization]
                self._poller.pause(authorization, f"{proof.name}: {self._kind}")
            if status != "valid":
                denied.append((proof.name, authorization.table))
        if denied:
            raise self._denied(denied)

    def _denied(self, denied: list[tuple[str, dict[str, Any]]]) -> IssueFailed:
        texts, kind, when, final = [], "", None, False
        now = self._poller.now()
        for name, authorization in denied:
            problems = [read_problem(one.get("error")) for one in challenges(authorization)]
            found = [problem for problem in problems if problem is not None]
            for problem in found:
                texts.append(in_words(problem, name, self._kind))
                kind = kind or problem.kind
                final = final or is_final(problem)
                when = retry_at(None, problem.detail, now) or when
            if not found:
                texts.append(f"{name}: the authority does not believe that it is ours ({_texts(authorization, 'status') or 'no status'})")
        return IssueFailed("; ".join(dict.fromkeys(texts)), kind, when, final)
