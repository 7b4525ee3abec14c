"""Which shelf a `--conf` value means."""

from __future__ import annotations

from collections.abc import Callable

from pingap.config.storage.etcd.address import is_etcd
from pingap.stages.acme.store.base import Shelf
from pingap.stages.acme.store.files import FileShelf


def shelf_of(source: str | None, directory: str, told: Callable[[str], None] = lambda _: None) -> Shelf:
    """In etcd where the configuration is there, so that all its instances share it; else in the directory. Raises ConfigRefused.

    source: as `--conf` says it. directory: `basic.acme_directory`, or `default_directory`. told: as of `FileShelf`.
    """
    if source is not None and is_etcd(source):
        from pingap.stages.acme.store.etcd import EtcdShelf

        return EtcdShelf(source)
    return FileShelf(directory, told)
