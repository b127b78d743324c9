"""The HTTP side of the DataZone stand-in.

- DataZone's operations, by botocore's model of the service.
- ``GET /health``; ``GET /_local/state``: requests by operation, events by status, faults in force.
- ``POST /_local/faults`` with the fields of `Fault` as JSON makes it misbehave; ``DELETE`` ends all that.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from include.local.catalog.faults import Fault
from include.local.catalog.protocol import Answer
from include.local.processes import PortTakenError

if TYPE_CHECKING:
    from include.local.catalog.protocol import Document
    from include.local.catalog.service import Service

log = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """Answers for one domain. ``server_port`` is the port it got (0 asks for a free one)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise PortTakenError(host, port) from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what went wrong in one request; a client that went away is no news."""
        level = logging.DEBUG if isinstance(sys.exception(), ConnectionError) else logging.ERROR
        log.log(level, "a request of %s failed", client_address, exc_info=True)

    def close(self) -> None:
        """Stop serving, release the port and close the database."""
        self.service.faults.clear()
        self.shutdown()
        self.server_close()
        self.service.close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)

    def do_GET(self) -> None:
        if self.path == "/health":
            self._tell(200, {"status": "ok"})
        elif self.path == "/_local/state":
            self._tell(200, self.server.service.state())
        else:
            self._serve()

    def do_POST(self) -> None:
        if self.path != "/_local/faults":
            return self._serve()
        try:
            self.server.service.faults.add(Fault.from_json(json.loads(self._body())))
        except ValueError as error:
            return self._tell(400, {"error": str(error)})
        return self._tell(200, {})

    def do_DELETE(self) -> None:
        if self.path != "/_local/faults":
            return self._serve()
        self.server.service.faults.clear()
        return self._tell(200, {})

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        answer = self.server.service.answer(self.command, self.path, self.headers, self._body())
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    def _tell(self, status: int, document: Document) -> None:
        self._send(Answer(status, {"Content-Type": "application/json"}, json.dumps(document).encode()))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(answer.body)
