"""The API of a Docker engine, by the docker SDK: calls that block, made in threads, each with an end."""

from __future__ import annotations

import grp
import ipaddress
import json
import os
import pwd
import re
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from pingap.config.parts import DOCKER_SOCKET
from pingap.stages.discovery.containers.listing import Listing, containers_of, seen_from

ANSWER: Final = 10.0
"""Seconds for a connect, and for each read of a list."""

LIST: Final = 30.0
"""Seconds for a whole list."""

QUIET: Final = 60.0
"""Seconds without an event after which they are asked for anew: an engine may go without a word."""

MOST_LIST: Final = 64 * 1024 * 1024
"""Bytes of the longest list; a container takes about 1.5 KB."""

MOST_VERSION: Final = 64 * 1024
"""Bytes of what an engine says of its version; it takes about 1 KB."""

MOST_MESSAGE: Final = 4096
"""Bytes that are read of an answer that says what is wrong."""

READ: Final = 64 * 1024

VERSION: Final = re.compile(r"\d{1,3}\.\d{1,3}")
"""Of the API, as an engine says it."""

EVENTS: Final[Mapping[str, list[str]]] = {
    "type": ["container", "network"],
    "event": ["start", "stop", "die", "kill", "pause", "unpause", "destroy", "health_status", "connect", "disconnect"],
}


class EngineFailed(Exception):
    """The engine could not be asked; the text says why, and what may help."""


class Engine:
    """One way to a Docker engine, for one call at a time. After a failure another is made: the engine may be of another version then.

    docker_host: `unix:///path` or `tcp://host:port`; empty is DOCKER_HOST, or DOCKER_SOCKET. TLS as the SDK has it, by
    DOCKER_CERT_PATH and DOCKER_TLS_VERIFY.
    """

    def __init__(self, docker_host: str, quiet: float = QUIET) -> None:
        self._host = docker_host or os.environ.get("DOCKER_HOST") or DOCKER_SOCKET
        self._path = self._host.removeprefix("unix://") if self._host.startswith("unix://") else ""
        """Of its socket; "" when it is reached otherwise."""
        self._quiet = quiet
        self._client: Any = None
        self._version = ""
        """Of the engine's API, once it has said it."""
        self._lock = threading.Lock()
        self._response: Any = None
        """Of the call under way, once its head is there."""
        self._is_over = False

    def interrupt(self) -> None:
        """From any thread: a call under way ends at once if its answer has begun, else when a time-out of it does. None follows."""
        with self._lock:
            self._is_over = True
            if self._response is not None:
                with suppress(ValueError, OSError):  # it has just ended by itself
                    self._response.raw.shutdown()

    def listing(self) -> Listing:
        """All containers that run. Blocks. Raises EngineFailed."""
        with closing(self._get("/containers/json", {}, ANSWER)) as pieces:
            body = self._whole(pieces, "list", MOST_LIST)
        try:
            containers = containers_of(body)
        except ValueError as error:
            raise EngineFailed(f"{self._host} sent what is no list of containers: {error}") from error
        own = frozenset(one.address for each in psutil.net_if_addrs().values() for one in each if one.family == socket.AF_INET)
        return Listing(tuple(containers), seen_from(containers, own, self._elsewhere()))

    def follow(self, heard: Callable[[], None]) -> None:
        """Calls `heard` when events can come from now on, and at each. Blocks until there was none for some time, or the engine ends it.

        Raises EngineFailed.
        """
        with closing(self._get("/events", {"filters": json.dumps(EVENTS)}, self._quiet, heard)) as pieces:
            for _ in pieces:
                heard()

    def close(self) -> None:
        """When no call is under way."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _get(self, path: str, params: dict[str, str], read: float, begun: Callable[[], None] | None = None) -> Generator[bytes, None, None]:
        """The pieces of an answer by the engine's version of the API, which it is asked for first. As _pieces."""
        if not self._version:
            self._version = self._found_version()
        yield from self._pieces(f"/v{self._version}", path, params, read, begun)

    def _found_version(self) -> str:
        """The SDK would ask for it without bounds, and so it is told. Raises EngineFailed."""
        from docker.constants import MINIMUM_DOCKER_API_VERSION
        from docker.utils import version_lt

        with closing(self._pieces("", "/version", {}, ANSWER)) as pieces:
            body = self._whole(pieces, "version", MOST_VERSION)
        try:
            version = json.loads(body)["ApiVersion"]
        except (ValueError, TypeError, KeyError, RecursionError):
            version = None
        if not isinstance(version, str) or not VERSION.fullmatch(version):
            raise EngineFailed(f"{self._host} does not say its version: it is no Docker engine, or one that is too old")
        if version_lt(version, MINIMUM_DOCKER_API_VERSION):
            raise EngineFailed(
                f"{self._host} has version {version} of the API, and {MINIMUM_DOCKER_API_VERSION} is the least that is known"
            )
        return version

    def _whole(self, pieces: Iterator[bytes], what: str, most: int) -> bytes:
        """Raises EngineFailed when it is more than `most` bytes, or takes longer than LIST."""
        body = bytearray()
        end = monotonic() + LIST
        for piece in pieces:
            body += piece
            if len(body) > most:
                size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
                raise EngineFailed(f"the {what} of {self._host} has more than {size}")
            if monotonic() > end:
                raise EngineFailed(f"{self._host} sent no whole {what} within {LIST:g} s")
        return bytes(body)

    def _pieces(
        self, prefix: str, path: str, params: dict[str, str], read: float, begun: Callable[[], None] | None = None
    ) -> Generator[bytes, None, None]:
        """The pieces of an answer, as they come. read: seconds for the head, and for each piece. Raises EngineFailed.

        (The SDK's own call for events has no time-outs.)
        """
        try:
            self._reach()
            client = self._connected()
            response = client.get(
                f"{client.base_url}{prefix}{path}", params=params, stream=True, timeout=(ANSWER, read), allow_redirects=False
            )
        except Exception as error:  # of the SDK, requests, urllib3, sockets, TLS
            raise self._failed(error) from error
        try:
            with self._lock:
                self._response = response
                if self._is_over:
                    return
            if response.status_code != 200:
                raise EngineFailed(f"{self._host} refused {path} with status {response.status_code}: {_message(response)}")
            if begun is not None:
                begun()
            yield from response.iter_content(READ)
        except (EngineFailed, GeneratorExit):
            raise
        except Exception as error:  # the same
            if self._is_over:
                return
            if begun is not None and _is_silence(error):
                return
            raise self._failed(error) from error
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _reach(self) -> None:
        """Raises OSError when nobody is behind a UNIX socket. The SDK would leave a descriptor open each time that it finds that out."""
        if self._path:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(ANSWER)
                one.connect(self._path)

    def _connected(self) -> Any:
        """The SDK's client, which has asked for nothing yet."""
        if self._client is None:
            from docker.api import APIClient
            from docker.constants import MINIMUM_DOCKER_API_VERSION
            from docker.utils import kwargs_from_env

            settings = {**kwargs_from_env(), "base_url": self._host}
            client = APIClient(version=MINIMUM_DOCKER_API_VERSION, timeout=ANSWER, **settings)
            # Else the whole body of a redirect is read to find out where it leads to, even if nobody wants to go there.
            client.get_redirect_target = lambda response: None
            self._client = client
        return self._client

    def _elsewhere(self) -> str:
        """The IP address of the machine that the engine is said to be on; "" if that is this one. Raises EngineFailed."""
        name = urlsplit(self._host).hostname if not self._path else None
        if not name:
            return ""
        try:
            found = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
        except (OSError, UnicodeError) as error:
            raise EngineFailed(f"{name} cannot be looked up: {error}") from error
        return "" if ipaddress.ip_address(found.partition("%")[0]).is_loopback else found

    def _failed(self, error: BaseException) -> EngineFailed:
        """In words for who runs it, where the SDK wraps one exception into the next."""
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, EngineFailed):
                return cause
        path = self._path
        for cause in causes:
            match cause:
                case PermissionError() if path:
                    return EngineFailed(f"permission denied on {path}: {_who_may(path)}")
                case FileNotFoundError() if path:
                    where = "docker_host or DOCKER_HOST says where"
                    return EngineFailed(f"{path} does not exist: Docker does not run, or its socket is elsewhere ({where})")
                case ConnectionRefusedError():
                    return EngineFailed(f"nobody listens at {self._host}")
        if any(map(_is_silence, causes)):
            return EngineFailed(f"no answer from {self._host} within {ANSWER:g} s")
        os_errors = [str(cause.strerror) for cause in causes if isinstance(cause, OSError) and cause.strerror]
        return EngineFailed(f"{self._host}: {os_errors[0] if os_errors else str(error) or repr(error)}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was made of: requests and urllib3 put those into arguments."""
    seen: list[BaseException] = []
    left = [error]
    while left:
        one = left.pop(0)
        if one is None or one in seen:
            continue
        seen.append(one)
        yield one
        left += [one.__context__, getattr(one, "reason", None), *one.args]
        left = [each for each in left if isinstance(each, BaseException)]


def _is_silence(error: BaseException) -> bool:
    return any(isinstance(one, TimeoutError) or type(one).__name__ in ("ReadTimeoutError", "ConnectTimeoutError") for one in _causes(error))


def _message(response: Any) -> str:
    """What the engine says is wrong."""
    body = response.raw.read(MOST_MESSAGE, decode_content=True)
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return body.decode(errors="replace").strip() or "without a word"


def _who_may(path: str) -> str:
    """What to do so that this process may open the socket at `path`."""
    with suppress(OSError, KeyError):
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
        return f"let {pwd.getpwuid(os.geteuid()).pw_name} into the group {group}, or give pingap a proxy that only lists containers"
    return "its group, or its owner, may open it; this process is neither"
