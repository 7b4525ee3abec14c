"""`geo_restriction`: lets in clients of some countries, or keeps some out.

403 for who is kept out. The country is that of the client's address as `basic.trusted_proxies` lets us believe it. Behind it are the
lists of the five registries, which come with the package `iptocc` (`pip install 'pingap[geo]'`, and an update of that package for newer
ones): the country to which an address was given out, of which 19 of 20 are where it is used. `database` is a file of
your own instead, in MaxMind's format: GeoLite2 or GeoIP2 Country or City, DB-IP, IPinfo.

An address that is in no list, or is no address, has the country `??`: `"allow"` refuses it and `"deny"` lets it pass, unless `??` is
among the codes. Addresses that are not of the public internet (10.0.0.0/8, ::1 …) are `??`, too; `private` says otherwise of them:
health checks and the neighbours in the same network want `private = "allow"`. An IPv4 address within IPv6 is that IPv4 address.

`"reporting"` keeps nobody out: it logs each request's address and country (at `info`) and counts them, to see first what a list
would do. `geo_restriction_requests` counts, by plugin, country and outcome, those and who is kept out.

The country is in the context: `{:geo_country}` in access logs, `:geo_country` in `proxy_set_headers` and `response_headers`.

A database is looked at every 10 seconds, and opened again when it is another one; put it there by renaming, as geoipupdate does. One that
is broken or gone then is told, and the last one stays in use. Where there is none, after a restart without the file, all requests
are answered with 503. So are those of clients whose record in it turns out to be damaged; `"reporting"` goes on with `??`.

Unlike pingap 0.13.9: a client without an address that can be read is refused by `"allow"`, where it passes there; capitals in
`type` do not matter; `??` may be named.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from pingap.plugin import CONTINUE, Exchange, Host, Plugin, Result, Settings, Trouble, Words, reply
from pingap.stages.plugins.builtin.admission import Admission
from pingap.stages.plugins.builtin.country_database import UNKNOWN, CountryDatabase, DatabaseBroken, FileMark, look_at, mark_of

LOOK: Final = 10.0
"""Seconds between two looks at the file."""

_FORBIDDEN: Final = "Access from your country is not allowed"
_UNKNOWABLE: Final = reply(503, "The country of the client cannot be told")
_KEPT: Final = 4096
"""Addresses whose country is remembered; past it they are forgotten all at once."""

_CODE: Final = re.compile(r"[A-Z]{2}|\?\?")
_USUAL_MISTAKES: Final = {"UK": "GB", "EN": "GB", "EL": "GR"}

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class GeoRestrictionSettings(Settings):
    type: Annotated[Literal["allow", "deny", "reporting"], BeforeValidator(_lower)]
    """`"allow"`: nobody but these countries; `"deny"`: everybody but these; `"reporting"`: logged and counted only."""
    country_codes: Words = Field(default_factory=list)
    """Codes of two letters (ISO 3166-1), as `["DE", "AT"]` or `"DE, AT"`; `"??"` is who has no country."""
    message: str = _FORBIDDEN
    """Body of the 403."""
    database: str = ""
    """A file in MaxMind's format (`.mmdb`) instead of the lists of the registries; relative paths start at the configuration's
    directory. Ours."""
    private: Literal["", "allow", "deny"] = ""
    """Clients whose address is not of the public internet: `"allow"` or `"deny"`; without it as any without a country. Ours."""


class GeoRestriction(Plugin[GeoRestrictionSettings]):
    category = "geo_restriction"
    model = GeoRestrictionSettings
    files = ("database",)

    def __init__(self, settings: GeoRestrictionSettings) -> None:
        super().__init__(settings)
        self._codes = frozenset(code.upper() for code in settings.country_codes)
        self._reports = settings.type == "reporting"
        self._admission = Admission("deny" if settings.type == "deny" else "allow", settings.message, _FORBIDDEN)
        self._path = os.path.expanduser(settings.database)
        self._host: Host | None = None
        self._country_of: Callable[[_Address], str] | None = None
        """None where there is nothing to look into."""
        self._database: CountryDatabase | None = None
        self._tried: FileMark | None = None
        """The file that was opened, or could not be."""
        self._is_told = False
        """That it is broken or gone."""
        self._is_damage_told = False
        """That a record of the one in use cannot be read."""
        self._watch: asyncio.Task[None] | None = None
        self._verdicts: dict[str, tuple[str, Result]] = {}

    def check(self) -> Iterator[Trouble]:
        settings = self.settings
        for code in settings.country_codes:
            if not _CODE.fullmatch(code.upper()):
                yield "country_codes", f"{code!r} is not the code of a country", 'two letters, as "DE"; "??" is who has none'
        key, package = ("database", "maxminddb") if settings.database else ("category", "iptocc")
        if importlib.util.find_spec(package) is None:
            yield key, f"the package {package} is not installed", "pip install 'pingap[geo]'"

    def notes(self) -> Iterator[Trouble]:
        settings = self.settings
        for code, right in _USUAL_MISTAKES.items():
            if code in self._codes:
                yield "country_codes", f"no country has the code {code}", f"perhaps {right} is meant"
        if not self._codes and not self._reports:
            what = "nobody is let in" if settings.type == "allow" else "nobody is kept out"
            yield "country_codes", f"no country is named: {what}", 'country_codes = ["DE"]'
        if self._reports:
            for key in ("country_codes", "private"):
                if getattr(settings, key):
                    yield key, "without effect: type = reporting keeps nobody out"

    def check_files(self) -> Iterator[Trouble]:
        if self._path:
            try:
                look_at(self._path)
            except OSError as error:
                yield "database", f"{self._path} cannot be read: {error.strerror}"
            except DatabaseBroken as error:
                yield "database", f"{self._path}: {error}"

    # -- its data ----------------------------------------------------------------------

    def start(self, host: Host) -> Awaitable[None] | None:
        self._host = host
        if self._path:
            return self._begin(host)
        from iptocc import country_code  # 1 MB and 0.6 ms, its lists with it

        self._country_of = lambda address: country_code(str(address)) or UNKNOWN
        return None

    async def _begin(self, host: Host) -> None:
        await self._open(host)
        self._watch = asyncio.create_task(self._follow(host))

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._take(None)

    async def _follow(self, host: Host) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self._open(host)

    async def _open(self, host: Host) -> None:
        """Opens the file, if it is another one than before. Whatever is wrong with it leaves the one that is in use."""
        try:
            mark = await host.in_thread(mark_of, self._path)
            if mark == self._tried:
                return
            self._tried = mark
            database = await host.in_thread(CountryDatabase, self._path)
        except Exception as error:  # OSError, DatabaseBroken, Overloaded; nothing ends the watch
            if not self._is_told:
                self._is_told = True
                use = "the one before stays in use" if self._database is not None else "requests are answered with 503"
                host.log("error", f"the database of countries cannot be opened: {use}", path=self._path, error=_text_of(error))
            if not isinstance(error, DatabaseBroken):
                self._tried = None
            return
        self._is_told = False
        self._take(database)
        host.log("info", "the database of countries is open", path=self._path)

    def _take(self, database: CountryDatabase | None) -> None:
        before, self._database = self._database, database
        self._country_of = None if database is None else database.country_of
        self._verdicts.clear()
        self._is_damage_told = False
        if before is not None:
            before.close()

    # -- requests ----------------------------------------------------------------------

    def request(self, exchange: Exchange) -> Result:
        ip = exchange.client_ip
        known = self._verdicts.get(ip)
        if known is None:
            if self._country_of is None and not self._reports:
                return _UNKNOWABLE
            known = self._judge(ip)
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            self._verdicts[ip] = known
        country, verdict = known
        exchange.context["geo_country"] = country
        host = self._host
        if host is not None and (self._reports or verdict is not CONTINUE):
            outcome = "reported" if self._reports else "refused"
            host.count("geo_restriction_requests", plugin=host.name, country=country, outcome=outcome)
            if self._reports:
                host.log("info", "country of a client", ip=ip, country=country)
        return verdict

    def _judge(self, ip: str) -> tuple[str, Result]:
        """The country of an address, and what becomes of who has it."""
        address: Any
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            country, is_private = UNKNOWN, False
        else:
            address = getattr(address, "ipv4_mapped", None) or address
            country = self._looked_up(address)
            is_private = not address.is_global
        if self._reports:
            return country or UNKNOWN, CONTINUE
        if is_private and self.settings.private:
            return country or UNKNOWN, CONTINUE if self.settings.private == "allow" else self._admission.refusal
        return (country, self._admission.verdict(country in self._codes)) if country else (UNKNOWN, _UNKNOWABLE)

    def _looked_up(self, address: _Address) -> str:
        """Its country, or UNKNOWN; "" when what there is about it cannot be read."""
        if self._country_of is None:
            return UNKNOWN
        try:
            return self._country_of(address)
        except Exception as error:  # whatever a library makes of a damaged file
            if not self._is_damage_told and self._host is not None:
                self._is_damage_told = True
                use = "their country is ??" if self._reports else "their requests are answered with 503"
                self._host.log("error", f"the countries of some clients cannot be told: {use}", path=self._path, error=_text_of(error))
            return ""


def _text_of(error: Exception) -> str:
    return str(error) or type(error).__name__
