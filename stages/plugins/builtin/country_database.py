"""A MaxMind database that may be replaced while it is in use: a part of `geo_restriction`."""

from __future__ import annotations

import ipaddress
import os
import shutil
from typing import Any, Final, NamedTuple

UNKNOWN: Final = "??"
"""Instead of a country."""

MOST: Final = 1 << 30
"""Bytes of a database: the largest that are sold have a third of it."""

_MARK: Final = b"\xab\xcd\xefMaxMind.com"
_TAIL: Final = 128 * 1024
"""Bytes at its end within which a database has that mark."""


class DatabaseBroken(Exception):
    """A file that is none, or not all of one."""


class FileMark(NamedTuple):
    """By what a file is known: another one, or one that was written over, has another."""

    device: int
    inode: int
    size: int
    changed: int


def mark_of(path: str) -> FileMark:
    """Raises OSError."""
    found = os.stat(path)
    return FileMark(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def look_at(path: str) -> None:
    """Whether there is a database, without reading all of it. Raises OSError, DatabaseBroken."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size > MOST:
            raise DatabaseBroken(f"it has {size} bytes, more than {MOST}")
        file.seek(max(0, size - _TAIL))
        if _MARK not in file.read():
            raise DatabaseBroken("it is no MaxMind database (.mmdb), or not all of one")


class CountryDatabase:
    """One file as it was when it was opened."""

    __slots__ = ("_is_ipv4", "_reader")

    def __init__(self, path: str) -> None:
        """Reads all of it, into memory of its own: a file that is mapped, and then written over or cut short, would end the process.

        Raises OSError, DatabaseBroken.
        """
        import maxminddb  # 13 ms, and only for who has a database

        look_at(path)
        memory = os.memfd_create("pingap-countries")
        try:
            with open(path, "rb") as file, open(memory, "wb", closefd=False) as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
            self._reader: Any = maxminddb.open_database(f"/proc/self/fd/{memory}")
            self._is_ipv4 = self._reader.metadata().ip_version == 4
            self.country_of(ipaddress.ip_address("192.0.2.1"))
        except OSError:
            raise
        except Exception as error:  # InvalidDatabaseError, and whatever else a library makes of a damaged file
            raise DatabaseBroken(str(error) or type(error).__name__) from error
        finally:
            os.close(memory)

    def country_of(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        """The code of its country, in capitals, or UNKNOWN. Raises maxminddb.InvalidDatabaseError, or anything, for a damaged record."""
        if self._is_ipv4 and address.version == 6:
            return UNKNOWN
        return _code_of(self._reader.get(address)) or UNKNOWN

    def close(self) -> None:
        self._reader.close()


def _code_of(record: Any) -> str:
    """The country of a record as MaxMind and DB-IP have them, `{"country": {"iso_code": "DE"}}`, or IPinfo, `{"country_code": "DE"}`."""
    if not isinstance(record, dict):
        return ""
    for found in (record.get("country_code"), record.get("country"), record.get("registered_country")):
        code = found.get("iso_code") if isinstance(found, dict) else found
        if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha():
            return code.upper()
    return ""
