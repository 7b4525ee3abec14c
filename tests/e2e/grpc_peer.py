"""A gRPC server that does what the call's metadata asks for, and stubs for it: bytes are the messages, so no code is generated."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # the tests start processes from threads that gRPC knows nothing of

import grpc

SERVICE = "pingap.test.Peer"
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
INITIAL = (("x-initial", "first"), ("x-initial-bin", bytes(range(256))))
TRAILING = (("x-trailing", "last"), ("x-trailing-bin", b"\x00\xff\x00"))
SERVING = b"\x08\x01"
"""HealthCheckResponse with status SERVING, in protobuf."""

Metadata = Iterable[tuple[str, str | bytes]]


class Peer:
    """Stop it at the end. `port` 0 takes a free one. path: of a UNIX socket to listen at besides."""

    def __init__(self, port: int = 0, path: str = "", **options: Any) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        """Metadata of the last call of each method."""
        self.started: dict[bytes, threading.Event] = {}
        self.ended: dict[bytes, threading.Event] = {}
        """Per message: `hang` has begun and is over; ask by `started_event` and `ended_event`."""
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(64)
        self._server = grpc.server(self._pool, options=(*UNLIMITED, ("grpc.so_reuseport", 0)), **options)
        self._server.add_generic_rpc_handlers((self._handlers(), self._health()))
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        if path:
            self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(5)
        self._pool.shutdown()

    def wait(self) -> None:
        self._server.wait_for_termination()

    def started_event(self, message: bytes) -> threading.Event:
        with self._lock:
            return self.started.setdefault(message, threading.Event())

    def ended_event(self, message: bytes) -> threading.Event:
        with self._lock:
            return self.ended.setdefault(message, threading.Event())

    # -- methods --------------------------------------------------------------------

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
                "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
                "FailLate": grpc.unary_stream_rpc_method_handler(self._fail_late),
                "Hang": grpc.unary_unary_rpc_method_handler(self._hang),
                "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
                "Count": grpc.unary_stream_rpc_method_handler(self._count),
                "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
            },
        )

    def _health(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda _request, _context: SERVING)}
        )

    def _note(self, method: str, context: grpc.ServicerContext) -> dict[str, Any]:
        metadata = dict(context.invocation_metadata())
        self.seen[method] = metadata
        return metadata

    def _echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """The message; with `size: N`, N bytes instead. Initial and trailing metadata are those above."""
        metadata = self._note("Echo", context)
        if "gzip" in metadata:
            context.set_compression(grpc.Compression.Gzip)
        context.send_initial_metadata(INITIAL)
        context.set_trailing_metadata(TRAILING)
        return bytes(int(metadata["size"])) if "size" in metadata else message

    def _fail(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """Fails with the status `code: N` and the message as its text, before anything else: an answer of trailers only."""
        metadata = self._note("Fail", context)
        context.set_trailing_metadata((*TRAILING, ("grpc-status-details-bin", b"\x08\x05details")))
        context.abort(code_of(int(metadata["code"])), message.decode())
        raise AssertionError("abort has raised")

    def _fail_late(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Two messages, then the status `code: N`."""
        metadata = self._note("FailLate", context)
        yield b"one"
        yield b"two"
        context.set_trailing_metadata(TRAILING)
        context.abort(code_of(int(metadata["code"])), message.decode())

    def _hang(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """No answer until the call is over, or until the test gives up."""
        self._note("Hang", context)
        over = self.ended_event(message)
        if not context.add_callback(over.set):
            over.set()
        self.started_event(message).set()
        over.wait(30)
        return message

    def _collect(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """All of the messages in one."""
        self._note("Collect", context)
        return b"|".join(messages)

    def _count(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """As many messages as the request says in decimal, of `size: N` bytes. With `then: hang` nothing follows them."""
        metadata = self._note("Count", context)
        context.send_initial_metadata(INITIAL)
        context.set_trailing_metadata(TRAILING)
        filling = bytes(int(metadata.get("size", 0)))
        for number in range(int(message)):
            yield b"%d" % number + filling
        if "then" in metadata:
            over = threading.Event()
            context.add_callback(over.set)
            over.wait(30)

    def _chat(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """An answer to each message before the next."""
        self._note("Chat", context)
        for message in messages:
            yield message.upper()


def code_of(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


class Stub:
    """What a client calls; one channel."""

    def __init__(self, target: str, certificate: bytes = b"", **options: Any) -> None:
        """certificate: of the server, in PEM, for TLS; b"" speaks without."""
        settings = {"grpc.enable_retries": 0, "grpc.use_local_subchannel_pool": 1} | options
        arguments = (*UNLIMITED, *settings.items())
        if certificate:
            arguments += (("grpc.ssl_target_name_override", "test.local"),)
            self.channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate), arguments)
        else:
            self.channel = grpc.insecure_channel(target, arguments)
        self.echo = self.channel.unary_unary(f"/{SERVICE}/Echo")
        self.fail = self.channel.unary_unary(f"/{SERVICE}/Fail")
        self.fail_late = self.channel.unary_stream(f"/{SERVICE}/FailLate")
        self.hang = self.channel.unary_unary(f"/{SERVICE}/Hang")
        self.collect = self.channel.stream_unary(f"/{SERVICE}/Collect")
        self.count = self.channel.unary_stream(f"/{SERVICE}/Count")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


def error_of(call: Callable[[], Any]) -> grpc.RpcError:
    """The error with which a call ends."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"no error but {answer!r}")


if __name__ == "__main__":
    Peer(int(sys.argv[1])).wait()
