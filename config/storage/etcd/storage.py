"""The storage. See the package for how it is made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import (
    LISTED,
    Document,
    Earlier,
    Fingerprint,
    NothingThere,
    NotWritten,
    Outdated,
    OutOfReach,
    Reading,
    after,
    same_version,
)
from pingap.config.storage.etcd import keys, transactions
from pingap.config.storage.etcd.address import address_of
from pingap.config.storage.etcd.denials import why_denied, why_too_large
from pingap.config.storage.etcd.gateway import Cluster, EtcdError, EtcdUnreachable, EtcdUnsure, Gateway, got, number, revision, sent
from pingap.config.storage.etcd.transactions import HeldKey, Keyspace, range_of
from pingap.config.storage.etcd.watcher import EtcdWatcher

PAGE: Final = 2000
"""Documents of one answer at most: a large configuration is not in one piece in the memory of etcd, of its gateway and ours."""

TIMES: Final = 3
"""How often a reading is begun anew because etcd has compacted its revision meanwhile."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """All documents at one revision of the store."""

    reading: Reading
    held: Mapping[str, HeldKey]
    revision: int


class EtcdStorage:
    """See `Storage`. Its calls block, but for `fingerprint` and `follow`."""

    base = ""

    def __init__(self, source: str, env: Mapping[str, str] = os.environ) -> None:
        """source: the address, as `address_of` takes it. Raises ConfigRefused."""
        self._address = address_of(source, env)
        self._cluster = Cluster(self._address)
        self._place = Keyspace(self._address.prefix, self._address.history, self._address.keeps_history)
        self.watcher = EtcdWatcher(self._cluster)

    # -- reading ------------------------------------------------------------------

    def read(self) -> Reading:
        taken = self._taken()
        if not taken.reading.documents:
            raise NothingThere([self._problem(f"there is no key that begins with {self._address.prefix}", "is the prefix right?")])
        return taken.reading

    def fingerprint(self) -> Fingerprint:
        self.watcher.start()
        return self.watcher.fingerprint

    def follow(self, moved: Callable[[], None]) -> Callable[[], None]:
        return self.watcher.follow(moved)

    @property
    def trouble(self) -> str:
        return self.watcher.trouble

    def _taken(self) -> _Taken:
        try:
            with Gateway(self._cluster) as gateway:
                return self._all(gateway)
        except EtcdUnreachable as error:
            raise OutOfReach([self._problem(f"no etcd answers: {error}")]) from error
        except EtcdError as error:
            raise ConfigRefused([self._problem(f"etcd cannot be read: {error}", why_denied(error, self._address))]) from error

    def _all(self, gateway: Gateway) -> _Taken:
        for time_left in reversed(range(TIMES)):
            try:
                kvs, at = self._pages(gateway)
                break
            except EtcdError as error:
                if not error.is_compacted or not time_left:
                    raise
        problems: list[Problem] = []
        held: dict[str, HeldKey] = {}
        for kv in kvs:
            key = got(kv["key"])
            try:
                name = key.decode()[len(self._address.prefix) :]
                text = got(kv.get("value", "")).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                what = "name" if error.object == key else "value"
                problems.append(Problem(key.decode(errors="backslashreplace"), f"its {what} is not UTF-8 at byte {error.start}"))
            else:
                held[name] = HeldKey(text, number(kv, "mod_revision"))
        newest = max((number(kv, "mod_revision") for kv in kvs), default=0)
        self.watcher.learn(at, (newest, len(kvs)))
        if problems:
            raise ConfigRefused(problems)
        documents = tuple(Document(name, held[name].text) for name in sorted(held))
        return _Taken(Reading(documents, self.watcher.fingerprint_of((newest, len(kvs)))), held, at)

    def _pages(self, gateway: Gateway) -> tuple[list[dict[str, Any]], int]:
        """All keys and values, as they were at one revision; and that."""
        kvs: list[dict[str, Any]] = []
        asked: dict[str, Any] = {**range_of(self._address.prefix), "limit": PAGE}
        while True:
            answer = gateway.call("kv/range", asked)
            page = answer.get("kvs", [])
            kvs += page
            asked.setdefault("revision", str(revision(answer)))
            if not answer.get("more") or not page:
                return kvs, int(asked["revision"])
            asked["key"] = sent(got(page[-1]["key"]) + b"\0")

    def _problem(self, message: str, hint: str = "") -> Problem:
        return Problem(self._address.shown, message, hint)

    # -- writing ------------------------------------------------------------------

    def home_of(self, section: str, name: str) -> str:
        return keys.home_of(section, name)

    def write(self, document: Document, version: str) -> str:
        return self.replace((document,), (), version)

    def replace(self, written: Collection[Document], removed: Collection[str], version: str) -> str:
        for document in written:
            keys.checked(document.name)
        try:
            with Gateway(self._cluster) as gateway:
                return self._replace(gateway, written, removed, version)
        except EtcdUnreachable as error:
            raise NotWritten(f"etcd cannot be written: {error}") from error
        except EtcdError as error:
            hint = why_denied(error, self._address) or why_too_large(error)
            raise NotWritten(f"etcd cannot be written: {error}" + (f": {hint}" if hint else "")) from error

    def _replace(self, gateway: Gateway, written: Collection[Document], removed: Collection[str], version: str) -> str:
        taken = self._all_or_outdated(gateway)
        same_version(taken.reading, version)
        if strange := sorted(set(removed) - taken.held.keys()):
            raise NotWritten(f"{strange[0]} is not there")
        changed = [document for document in written if getattr(taken.held.get(document.name), "text", None) != document.text]
        old = self._too_many(gateway, [*(document.name for document in changed if document.name in taken.held), *removed])
        portions = transactions.portions(self._place, taken.held, changed, removed, old, time.time())
        there, at, done = dict.fromkeys(taken.held), taken.revision, 0
        wanted = Reading(after(taken.reading.documents, written, removed)).version
        for portion in portions:
            try:
                answer = gateway.call("kv/txn", transactions.transaction(self._place, portion, there, at), is_repeatable=False)
            except EtcdUnsure as error:
                if self._has_become(wanted):
                    return wanted
                raise NotWritten(f"etcd did not say whether it was written: {error}: read it again") from error
            if not answer.get("succeeded"):
                more = f"; {done} of {sum(len(one.documents) for one in portions)} documents were written before that" if done else ""
                raise Outdated(f"the configuration has changed since it was read: read it again, and make the change in that{more}")
            at = revision(answer)
            done += len(portion.documents)
            for name in portion.documents:
                there.pop(name, None)
        return wanted

    def _all_or_outdated(self, gateway: Gateway) -> _Taken:
        try:
            return self._all(gateway)
        except ConfigRefused as refused:
            raise Outdated(f"the configuration cannot be read any more: {refused.problems[0]}") from None

    def _has_become(self, version: str) -> bool:
        """Whether what was asked for is there, after an answer was lost."""
        try:
            return self._taken().reading.version == version
        except ConfigRefused:
            return False

    # -- history ------------------------------------------------------------------

    def history(self, document: str) -> tuple[Earlier, ...] | None:
        if not self._address.keeps_history:
            return None
        place = self._place.history_of(document)
        wanted = {**range_of(place), "limit": LISTED * 2, "sort_order": "DESCEND", "sort_target": "CREATE"}
        try:
            with Gateway(self._cluster) as gateway:
                kvs = gateway.call("kv/range", wanted).get("kvs", [])
        except (EtcdError, EtcdUnreachable) as error:
            raise NotWritten(f"the history of {document} cannot be read: {error}") from error
        found = ((keys.until(got(kv["key"])[len(place.encode()) :]), got(kv.get("value", ""))) for kv in kvs)
        return tuple(Earlier(until, text.decode(errors="replace")) for until, text in found if until is not None)[:LISTED]

    def _too_many(self, gateway: Gateway, documents: list[str]) -> dict[str, list[str]]:
        """Of each, the keys of those earlier texts that are one too many once there is another."""
        if not self._address.keeps_history:
            return {}
        wanted = {"keys_only": True, "sort_order": "DESCEND", "sort_target": "CREATE"}
        ranges = [{**range_of(self._place.history_of(name)), **wanted} for name in documents]
        answers = [answer for call in transactions.asked(ranges) for answer in transactions.answered(gateway.call("kv/txn", call))]
        found = {}
        for name, answer in zip(documents, answers, strict=True):
            place = len(self._place.history_of(name).encode())
            earlier = [key for kv in answer.get("kvs", ()) if keys.until((key := got(kv["key"]))[place:]) is not None]
            found[name] = [key.decode() for key in earlier[LISTED - 1 :]]
        return found
