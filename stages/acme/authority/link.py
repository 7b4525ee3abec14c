"""Requests to one authority: signed, bounded, and in words when they fail."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests
from acme import errors, messages
from acme.client import ClientNetwork
from josepy.errors import Error as JoseError
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from pingap.stages.acme.authority.directory import AuthorityDirectory, is_safe, read_directory, why_not_led
from pingap.stages.acme.authority.failures import AuthorityRefused, AuthorityUnreachable, IssueFailed
from pingap.stages.acme.authority.problems import AcmeProblem, read_problem, shown
from pingap.stages.acme.authority.retrying import after
from pingap.stages.acme.bounded import BoundedAdapter, causes

SECONDS: Final = 30.0
"""That an authority may take for one answer, or be silent in it."""
LARGEST: Final = 1 << 20
"""Bytes of an answer; a chain with its PEM is some KB, a directory one."""
NONCES: Final = 12
"""Times that another nonce is tried. The library tries twice each time."""


class SignedBody(JSONDeSerializable):
    """A JSON object as the library takes it."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table

    def to_partial_json(self) -> dict[str, Any]:
        return self._table

    @classmethod
    def from_json(cls, jobj: Any) -> SignedBody:
        return cls(jobj)


class AuthorityReply(NamedTuple):
    """A success."""

    text: str
    location: str
    retry_after: str | None
    host: str
    table_or_none: dict[str, Any] | None

    @property
    def table(self) -> dict[str, Any]:
        """Its JSON object."""
        if self.table_or_none is None:
            raise AuthorityUnreachable(f"{self.host} does not speak ACME: it answered with something else where a JSON object was due")
        return self.table_or_none


def _trust(pem: str) -> ssl.SSLContext:
    """pem: "" is the system's."""
    try:
        context = ssl.create_default_context(cadata=pem or None)
    except ssl.SSLError:
        raise IssueFailed("acme_ca has no certificate in it that can be read", is_final=True) from None
    if pem:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # authorities of one's own often lack what RFC 5280 asks for
    return context


class AuthorityLink:
    """To the authority of one directory. For one thread."""

    def __init__(self, url: str, authority_ca: str, agent: str, now: Callable[[], float]) -> None:
        """authority_ca: PEM, "" is the system's. agent: User-Agent. now: seconds since 1970."""
        self._now = now
        if not is_safe(url):
            raise IssueFailed(f"{shown(url)} is no https:// URL; http:// is for authorities on this machine only", is_final=True)
        self.host = urlsplit(url).netloc.rpartition("@")[2]
        self._url = url
        self._net = ClientNetwork(alg=ES256, user_agent=agent, timeout=int(SECONDS))
        session = self._net.session
        session.max_redirects = 0
        for scheme in ("https://", "http://"):
            session.mount(scheme, BoundedAdapter(SECONDS, SECONDS, LARGEST, _trust(authority_ca)))
        session.hooks["response"].append(self._saw)
        self._last: requests.Response | None = None
        self._directory: AuthorityDirectory | None = None
        self.before: Callable[[], None] = _nothing
        """Called before each request; what it raises ends the doing."""

    def close(self) -> None:
        self._net.session.close()

    def _saw(self, response: requests.Response, *_: object, **__: object) -> None:
        """The library keeps neither the head nor the status of an error."""
        self._last = response

    @property
    def directory(self) -> AuthorityDirectory:
        if self._directory is None:
            try:
                self._directory = read_directory(self.get(self._url).table)
            except ValueError as error:
                raise AuthorityUnreachable(f"what {shown(self._url)} answers is no directory of an ACME authority: {error}") from None
        return self._directory

    def sign_with(self, key: JWKEC, account: str) -> None:
        """From now on. account: URL; "" signs with the key alone, as newAccount wants it."""
        self._net.key = key
        self._net.account = messages.RegistrationResource(uri=account, body=messages.Registration()) if account else None

    def get(self, url: str) -> AuthorityReply:
        """Not signed: directories and renewal information. Raises IssueFailed, AuthorityRefused."""
        return self._call(url, lambda: self._net.get(url))

    def fetch(self, url: str) -> AuthorityReply:
        """POST-as-GET (RFC 8555 section 6.3). Raises IssueFailed, AuthorityRefused."""
        return self._post(url, None)

    def post(self, url: str, table: dict[str, Any]) -> AuthorityReply:
        """Raises IssueFailed, AuthorityRefused."""
        return self._post(url, SignedBody(table))

    def _post(self, url: str, body: SignedBody | None) -> AuthorityReply:
        nonce = self.directory.new_nonce
        self._check(nonce)
        for left in reversed(range(NONCES)):
            try:
                return self._call(url, lambda: self._net.post(url, body, new_nonce_url=nonce))
            except AuthorityRefused as refused:
                if refused.problem.kind != "badNonce" or not left:
                    raise
        raise AssertionError("the last one returns or raises")

    def _check(self, url: str) -> None:
        why = why_not_led(self._url, url)
        if why:
            raise AuthorityUnreachable(f"{self.host} leads to {shown(url)!r}, {why}")

    def _call(self, url: str, call: Callable[[], requests.Response]) -> AuthorityReply:
        self._check(url)
        self.before()
        self._last = None
        try:
            response = call()
        except (messages.Error, errors.ConflictError) as error:
            raise self._refused() from error
        except (errors.Error, JoseError, ValueError) as error:
            if isinstance(error, requests.exceptions.RequestException):
                raise self._unreachable(error) from error
            raise self._nonsense() from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise self._unreachable(error) from error
        table = _json(response)
        return AuthorityReply(
            response.text,
            response.headers.get("Location", ""),
            response.headers.get("Retry-After"),
            self.host,
            table if isinstance(table, dict) else None,
        )

    def _refused(self) -> AuthorityRefused | IssueFailed:
        response = self._last
        problem = None if response is None else read_problem(_json(response))
        if response is None or problem is None:
            return self._nonsense()
        if not _is_problem(response):
            problem = AcmeProblem("")
        return AuthorityRefused(problem, response.status_code, response.headers)

    def _nonsense(self) -> AuthorityUnreachable:
        response = self._last
        if response is None:
            return AuthorityUnreachable(f"{self.host} does not speak ACME as RFC 8555 has it")
        status = response.status_code
        reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        what = f"{status} {reason}".strip()
        when = after(response.headers.get("Retry-After"), self._now())
        if status >= 500 or status == 429:
            kind = "rateLimited" if status == 429 else ""  # which is all that the status says, too
            return AuthorityUnreachable(f"{self.host} answers {what}: the authority has trouble of its own", kind, when)
        return AuthorityUnreachable(f"{self.host} does not speak ACME: it answered {what} with what is no word of it; is its URL right?")

    def _unreachable(self, error: BaseException) -> AuthorityUnreachable:
        if isinstance(error, requests.exceptions.SSLError):
            return AuthorityUnreachable(
                f"the TLS of {self.host} is not believed: {_reason(error)}; "
                "whom an authority with certificates of its own is believed by is said with acme_ca"
            )
        if isinstance(error, requests.exceptions.TooManyRedirects):
            to = shown(self._last.headers.get("Location", "")) if self._last is not None else ""
            return AuthorityUnreachable(f"{self.host} sends elsewhere{f', to {to}' if to else ''}; name that URL if it is the directory")
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return AuthorityUnreachable(f"no connection to {self.host} within {SECONDS:g} s")
        if isinstance(error, requests.exceptions.Timeout):
            return AuthorityUnreachable(f"{self.host} has not answered within {SECONDS:g} s")
        return AuthorityUnreachable(f"{self.host} is not reached: {_reason(error)}")


def _nothing() -> None:
    """Before the first order there is nothing to be looked at."""


def _is_problem(response: requests.Response) -> bool:
    """A problem document of ACME (RFC 8555 section 6.7): what others answer is shown to nobody."""
    table = _json(response)
    is_said = response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/problem+json"
    return is_said or (isinstance(table, dict) and str(table.get("type")).startswith("urn:ietf:params:acme:error:"))


def _json(response: requests.Response) -> object:
    try:
        value: object = response.json()
    except ValueError:
        return None
    return value


def _reason(error: BaseException) -> str:
    """The innermost cause in few words."""
    *_, error = causes(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return shown(error.verify_message)
    if isinstance(error, OSError) and error.strerror:
        return shown(error.strerror)
    return shown(str(error) or type(error).__name__)
