"""Says who may pass: whoever brings a bearer token, which is their name. `python3 examples/forward-auth/service.py 5002`."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        scheme, _, name = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and name:
            self.send_response(204)
            self.send_header("X-User", name)
            self.end_headers()
            return
        body = b"Who are you?\n"
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
