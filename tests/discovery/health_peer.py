"""A gRPC server with grpc.health.v1.Health, on grpcio."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as in tests/e2e/grpc_peer.py

import grpc

SERVING, NOT_SERVING = 1, 2


class HealthPeer:
    """`statuses` by service; a service that is not in it is not known, and one of None hangs."""

    def __init__(self, is_registered: bool = True, tls: tuple[str, str] | None = None) -> None:
        """tls: certificate and key in PEM."""
        self.statuses: dict[str, int | None] = {"": SERVING}
        self.asked: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.over = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        if is_registered:
            check = grpc.unary_unary_rpc_method_handler(self._check)
            handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
            self._server.add_generic_rpc_handlers((handler,))
        if tls is None:
            self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        else:
            certificate, key = (part.encode() for part in tls)
            self.port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        self._server.start()

    def _check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        assert not request or request[0] == 0x0A
        service = request[2:].decode() if len(request) < 130 else request[3:].decode()
        self.asked.append(service)
        self.metadata.append(dict(context.invocation_metadata()))
        if service not in self.statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service, ünd so on")
        status = self.statuses[service]
        if status is None:
            self.over.wait(20)
            return b""
        return bytes((8, status)) if status else b""  # as protobuf does it, 0 is left out

    def stop(self) -> None:
        self.over.set()
        self._server.stop(None).wait(5)


@contextmanager
def health_peer(is_registered: bool = True, tls: tuple[str, str] | None = None) -> Iterator[HealthPeer]:
    peer = HealthPeer(is_registered, tls)
    try:
        yield peer
    finally:
        peer.stop()
