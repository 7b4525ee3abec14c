"""HTTP by `requests` that has an end: what authorities and the interfaces of DNS providers are asked through. Blocks."""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pingap.stages.acme.cutting import SocketCutter


class BoundedAdapter(HTTPAdapter):
    """Reads no more and no longer than is reasonable. Of one session in one thread: only one of its connections is in use at a time."""

    def __init__(self, silence: float, seconds: float, largest: int, context: ssl.SSLContext | None = None) -> None:
        """silence: seconds to connect, and between two parts of an answer. seconds: for all of an exchange. largest: bytes of an answer.

        context: whom it believes, whatever else is in the environment; None: as `requests` has it.
        """
        self._silence = silence
        self._seconds = seconds
        self._largest = largest
        self._context = context
        self._connections: WeakSet[Any] = WeakSet()
        super().__init__()

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if not isinstance(pool.ConnectionCls, partial):
            pool.ConnectionCls = partial(self._connected, pool.ConnectionCls)
        return pool

    def _connected(self, kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
        connection = kind(*args, **options)
        self._connections.add(connection)
        return connection

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, tls if self._context is None else {"ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        if self._context is None:
            super().cert_verify(conn, url, verify, cert)

    def send(self, request: Any, *_: Any, **options: Any) -> requests.Response:
        with SocketCutter(self._seconds, lambda: [one.sock for one in list(self._connections)]) as cutter:
            try:
                response = self._whole(request, options.get("verify", True), options.get("proxies"))
            except (requests.exceptions.RequestException, OSError) as error:
                if not cutter.is_cut:
                    raise
                raise requests.exceptions.ReadTimeout(error) from error
        if cutter.is_cut:  # an answer, and even a head, just seems to end when it is cut
            raise requests.exceptions.ReadTimeout(f"an answer that takes more than {self._seconds:g} s")
        return response

    def _whole(self, request: Any, verify: Any, proxies: Any) -> requests.Response:
        response = super().send(request, stream=True, timeout=self._silence, verify=verify, proxies=proxies)
        whole = bytearray()
        try:
            while piece := response.raw.read1(65536, decode_content=True):
                whole += piece
                if len(whole) > self._largest:
                    raise requests.exceptions.ContentDecodingError(f"an answer of more than {self._largest} bytes")
        except ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout(error) from error
        except (HTTPError, ssl.SSLError) as error:
            raise requests.exceptions.ConnectionError(error) from error
        finally:
            response.raw.close()
        response.raw = io.BytesIO(whole)
        return response


def causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what is in it, to the innermost: the libraries wrap an error several times over, with URLs and addresses of objects."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        inner = (one for one in (getattr(found, "reason", None), *found.args) if isinstance(one, BaseException))
        found = next(inner, found.__context__)
