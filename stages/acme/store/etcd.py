"""A shelf in etcd, beside the configuration: under `<prefix>-acme/`, where nobody reads configuration.

<kind>/<name>    a value; one that is to be forgotten has a lease of etcd
~leases/<name>   who has the lease, under a lease of etcd: both end together
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from pingap.config.storage.etcd.address import address_of
from pingap.config.storage.etcd.denials import why_denied, why_too_large
from pingap.config.storage.etcd.gateway import Cluster, EtcdError, EtcdUnreachable, EtcdUnsure, Gateway, got, number, sent
from pingap.config.storage.etcd.transactions import range_of
from pingap.stages.acme.store.base import Kind, StoreError
from pingap.stages.acme.store.naming import name_of, part_of

_LEASES: Final = "~leases/"
"""Behind all kinds, so that values are one range without these."""

PAGE: Final = 200
"""Values of one answer at most: a certificate and its key take some 6 KB."""


class EtcdShelf:
    """See `Shelf`. One call takes no longer than the address's `timeout`."""

    def __init__(self, source: str, env: Mapping[str, str] = os.environ) -> None:
        """source: the address of the configuration. Raises ConfigRefused."""
        self._cluster = Cluster(address_of(source, env))
        self._prefix = f"{self._cluster.address.prefix.removesuffix('/')}-acme/"

    # -- values -------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> bytes | None:
        with self._calling("read") as gateway:
            kvs = gateway.call("kv/range", {"key": sent(self._key(kind, name))}).get("kvs")
        return got(kvs[0].get("value", "")) if kvs else None

    def put(self, kind: Kind, name: str, value: bytes, seconds: float | None = None) -> None:
        wanted = {"key": sent(self._key(kind, name)), "value": sent(value)}
        with self._calling("written") as gateway:
            if seconds is not None:
                wanted["lease"] = _granted(gateway, seconds)[0]
            gateway.call("kv/put", wanted)

    def drop(self, kind: Kind, name: str) -> None:
        with self._calling("written") as gateway:
            gateway.call("kv/deleterange", {"key": sent(self._key(kind, name))})

    def names(self, kind: Kind) -> list[str]:
        place = f"{self._prefix}{kind}/"
        with self._calling("read") as gateway:
            kvs = gateway.call("kv/range", {**range_of(place), "keys_only": True}).get("kvs", ())
        parts = (got(kv["key"])[len(place.encode()) :].decode(errors="replace") for kv in kvs)
        return sorted(name for part in parts if (name := name_of(part)) is not None)

    def values(self, kind: Kind) -> dict[str, bytes]:
        place = f"{self._prefix}{kind}/"
        found = {}
        with self._calling("read") as gateway:
            asked: dict[str, Any] = {**range_of(place), "limit": PAGE}
            more = True
            while more:
                answer = gateway.call("kv/range", asked)
                kvs = answer.get("kvs", ())
                for kv in kvs:
                    name = name_of(got(kv["key"])[len(place.encode()) :].decode(errors="replace"))
                    if name is not None:
                        found[name] = got(kv.get("value", ""))
                more = bool(kvs) and bool(answer.get("more"))
                if more:
                    asked["key"] = sent(got(kvs[-1]["key"]) + b"\0")
        return dict(sorted(found.items()))

    def version(self) -> str:
        """Of the newest change of a value that is there, and how many there are: larger by a change, less by a removal."""
        values = {"key": sent(self._prefix), "range_end": sent(self._prefix + _LEASES)}
        newest = {"limit": 1, "sort_order": "DESCEND", "sort_target": "MOD", "keys_only": True}
        with self._calling("read") as gateway:
            answer = gateway.call("kv/range", {**values, **newest})
        return f"{max((number(kv, 'mod_revision') for kv in answer.get('kvs', ())), default=0)}-{number(answer, 'count')}"

    # -- leases -------------------------------------------------------------------

    def lease(self, name: str, seconds: float) -> EtcdLease | None:
        key = f"{self._prefix}{_LEASES}{part_of(name)}"
        holder = f"{socket.gethostname()}:{os.getpid()}"
        with self._calling("written") as gateway:
            began = _now()
            number_of_lease, granted = _granted(gateway, seconds)
            found = EtcdLease(self._cluster, key, number_of_lease, began + granted)
            is_free = {"key": sent(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
            put = {"request_put": {"key": sent(key), "value": sent(holder), "lease": number_of_lease}}
            try:
                try:
                    is_ours = bool(gateway.call("kv/txn", {"compare": [is_free], "success": [put]}, is_repeatable=False).get("succeeded"))
                except EtcdUnsure:
                    is_ours = found.seconds_left(gateway) > 0
            except BaseException:
                found.release()
                raise
        if not is_ours:
            found.release()
        return found if is_ours else None

    def holder(self, name: str) -> str:
        with self._calling("read") as gateway:
            kvs = gateway.call("kv/range", {"key": sent(f"{self._prefix}{_LEASES}{part_of(name)}")}).get("kvs")
        return got(kvs[0].get("value", "")).decode(errors="replace") if kvs else ""

    # -- within -------------------------------------------------------------------

    def _key(self, kind: Kind, name: str) -> str:
        return f"{self._prefix}{kind}/{part_of(name)}"

    @contextmanager
    def _calling(self, what: str) -> Iterator[Gateway]:
        where = f"{self._prefix} in {self._cluster.address.shown}"
        try:
            with Gateway(self._cluster) as gateway:
                yield gateway
        except EtcdUnreachable as error:
            raise StoreError(f"{where} cannot be {what}: no etcd answers: {error}") from error
        except EtcdError as error:
            hint = why_denied(error, self._cluster.address, self._prefix) or why_too_large(error)
            raise StoreError(f"{where} cannot be {what}: {error}" + (f": {hint}" if hint else "")) from error


class EtcdLease:
    """See `Lease`."""

    def __init__(self, cluster: Cluster, key: str, lease: str, end: float) -> None:
        """lease: number of the lease of etcd. end: by `_now`; until then nobody else has it, whatever happens."""
        self._cluster = cluster
        self._key = key
        self._lease = lease
        self._end = end
        self._is_lost = False

    def renew(self) -> bool:
        if self._is_lost:
            return False
        began = _now()
        try:
            with Gateway(self._cluster) as gateway:
                left = self.seconds_left(gateway)
        except (EtcdUnreachable, EtcdError):
            self._is_lost = _now() >= self._end
        else:
            self._is_lost = left <= 0
            self._end = began + left
        return not self._is_lost

    def seconds_left(self, gateway: Gateway) -> int:
        """As many as there were at first, from now on; 0 when it is lost. Raises EtcdUnreachable, EtcdError."""
        left = number(gateway.call("lease/keepalive", {"ID": self._lease}).get("result", {}), "TTL")
        kvs = gateway.call("kv/range", {"key": sent(self._key)}).get("kvs", ()) if left else ()
        return left if any(kv.get("lease") == self._lease for kv in kvs) else 0

    def release(self) -> None:
        self._is_lost = True
        with suppress(EtcdUnreachable, EtcdError), Gateway(self._cluster) as gateway:
            gateway.call("lease/revoke", {"ID": self._lease})  # the key goes with it


def _granted(gateway: Gateway, seconds: float) -> tuple[str, int]:
    """A new lease of etcd: its number, and its seconds, which are more where etcd has a least."""
    answer: dict[str, Any] = gateway.call("lease/grant", {"TTL": str(max(1, math.ceil(seconds)))})
    return str(answer["ID"]), number(answer, "TTL")


def _now() -> float:
    """Seconds; a machine that sleeps does not stop them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
