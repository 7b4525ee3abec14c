"""HTTP with the interface of a DNS provider: deadlines, repeats, and errors in which no key is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import requests

from pingap.config.secrecy import MASK
from pingap.stages.acme.bounded import BoundedAdapter, causes
from pingap.stages.acme.dns.provider import ProviderRefused

SECONDS: Final = 10.0
"""For one call: to connect, and between two parts of the answer; in all twice that."""
WAITS: Final = (1.0, 3.0)
"""Seconds before the second and the third attempt."""
LONGEST_WAIT: Final = 30.0
"""Seconds that a Retry-After may ask for; a longer one is left to whoever tries the whole certificate again."""
_LONGEST_ANSWER: Final = 4 * 1024 * 1024
_LONGEST_SAID: Final = 300
"""Characters of what an interface says that are told."""


class SignedCall(NamedTuple):
    """What is sent, for one attempt: signatures have a time in them."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes = b""


class CallAnswer(NamedTuple):
    """What came, whatever it says."""

    status: int
    table: dict[str, Any] | None
    """The JSON object; None for anything else, of which `said` tells."""
    said: str
    retry_after: str


class Calls:
    """With one interface. keys: what is masked in all that is told. halted: set when nobody wants the outcome any more."""

    def __init__(self, keys: Iterable[str], halted: threading.Event) -> None:
        self._keys = sorted({form for key in keys for form in (key, quote(key, safe=""), quote(quote(key, safe=""), safe=""))}, key=len)
        self._halted = halted
        self._seconds = SECONDS
        self._waits = WAITS
        self._session = requests.Session()
        self._session.auth = _leave_alone
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, BoundedAdapter(self._seconds, 2 * self._seconds, _LONGEST_ANSWER))

    def ask(self, sign: Callable[[], SignedCall], judge: Callable[[CallAnswer], ProviderRefused | None]) -> dict[str, Any]:
        """The answer's JSON. sign: is called for each attempt. judge: None when the answer is good. Raises ProviderRefused.

        Repeated are attempts that failed on the way, met an overloaded server (429, 5xx), or were too many for the interface.
        """
        for wait in (*self._waits, None):
            try:
                answer = self._once(sign())
            except requests.RequestException as error:
                refused, asked = ProviderRefused("", self._reason(error)), ""
                is_passing = not isinstance(error, requests.exceptions.SSLError)
            else:
                found = self._judged(answer, judge)
                if found is None:
                    return answer.table or {}
                refused, asked = found, answer.retry_after
                is_passing = answer.status == 429 or answer.status >= 500 or isinstance(refused, TooManyCalls)
            if wait is None or not is_passing:
                break
            pause = max(wait, float(asked)) if asked.isdigit() else wait
            if pause > LONGEST_WAIT:
                refused.args = (f"{refused} (it asks to be left alone for {asked} s)",)
                break
            if self._halted.wait(pause):
                raise ProviderRefused("", "given up: nobody waits for it any more")
        raise refused

    def masked(self, text: str) -> str:
        """One line, without keys."""
        for key in reversed(self._keys):
            if key:
                text = text.replace(key, MASK)
        return " ".join(text.split())[:_LONGEST_SAID]

    def close(self) -> None:
        self._session.close()

    def _judged(self, answer: CallAnswer, judge: Callable[[CallAnswer], ProviderRefused | None]) -> ProviderRefused | None:
        if answer.table is None:
            is_odd = answer.status < 500 and answer.status != 429
            hint = "is that the address of the interface?" if is_odd else ""
            return ProviderRefused(str(answer.status), f"the answer is no JSON, but {answer.said}", hint)
        return judge(answer)

    def _once(self, call: SignedCall) -> CallAnswer:
        response = self._session.request(
            call.method,
            call.url,
            headers={**call.headers, "User-Agent": "pingap", "Accept": "application/json"},
            data=call.body or None,
            allow_redirects=False,  # a signature is for one address, and a token for one host
        )
        content = response.content
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip() or "nothing"
        try:
            table = json.loads(content)
        except (ValueError, RecursionError):
            table = None
        said = self.masked(f"{len(content)} bytes of {kind}")
        return CallAnswer(
            response.status_code, table if isinstance(table, dict) else None, said, response.headers.get("Retry-After", "").strip()
        )

    def _reason(self, error: requests.RequestException) -> str:
        """In words of ours: those of the libraries have the whole URL in them, with its signature."""
        if isinstance(error, requests.exceptions.Timeout):
            return f"no answer within {self._seconds:g} s"
        if isinstance(error, requests.exceptions.SSLError):
            return "its certificate is not believed"
        if isinstance(error, requests.exceptions.ProxyError):
            return "the proxy of HTTPS_PROXY lets nothing through"
        for one in causes(error):
            if isinstance(one, OSError) and one.strerror and not isinstance(one, requests.RequestException):
                return f"cannot be reached: {one.strerror}"
        return "cannot be reached, or hangs up"


class TooManyCalls(ProviderRefused):
    """The interface asks for patience in a way of its own, not by a status."""


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Instead of what a ~/.netrc has for the host, which would take the place of our signature."""
    return request
