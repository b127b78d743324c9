"""What the stand-ins' HTTP servers have in common: a server on the loopback interface, its handler, its life as a process."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from include.local.processes import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


class LocalServer(ThreadingHTTPServer):
    """A thread for each connection. ``server_port`` is the port it got (0 asks for a free one).

    Raises:
        PortTakenError: something else listens there.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[LocalHandler], host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            raise PortTakenError(host, port) from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what went wrong in one request; a client that went away is no news."""
        level = logging.DEBUG if isinstance(sys.exception(), ConnectionError) else logging.ERROR
        log.log(level, "a request of %s failed", client_address, exc_info=True)

    def close(self) -> None:
        """Stop serving and release the port."""
        self.shutdown()
        self.server_close()


class LocalHandler(BaseHTTPRequestHandler):
    """Reads and answers requests of one connection, which stays open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Log requests only where somebody looks for them."""
        log.debug(format, *args)

    def read_body(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer the request."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def tell(self, status: int, document: Mapping[str, Any]) -> None:
        """Answer with JSON."""
        self.send(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def told_to_stop() -> threading.Event:
    """Set by SIGTERM or SIGINT, which from now on do nothing else."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def serve_until_told(server: LocalServer, host: str) -> None:
    """Serve until SIGTERM or SIGINT; says so on standard output as soon as requests are answered."""
    stop = told_to_stop()
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print(f"ready on http://{host}:{server.server_port}", flush=True)
    stop.wait()
    server.close()
