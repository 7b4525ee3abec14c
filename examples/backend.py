"""Stand-in backends for the examples: `python3 examples/backend.py 5001 5002` answers on both, with what it was asked.

They need nothing but Python. Each says its port, so that one sees who answered, and prints the bodies that reach it; Ctrl-C ends them.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Echo(BaseHTTPRequestHandler):
    """Answers every request with that request as it arrived."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        told = {"backend": port, "method": self.command, "path": self.path, "headers": dict(self.headers)}
        if given := self.rfile.read(int(self.headers["Content-Length"] or 0)) or self.chunks():
            told["body"] = given.decode("utf-8", "replace")
            print(port, self.command, self.path, told["body"], flush=True)
        body = json.dumps(told, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def chunks(self) -> bytes:
        """The body when it is sent in chunks."""
        if self.headers["Transfer-Encoding"] is None:
            return b""
        found = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            found.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(found)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the access log of pingap does."""


def main() -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", int(port)), Echo) for port in sys.argv[1:] or ("5001", "5002")]
    for server in servers[1:]:
        Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
