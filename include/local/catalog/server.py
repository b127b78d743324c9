"""The HTTP side of the DataZone stand-in.

- DataZone's operations, by botocore's model of the service.
- ``GET /health``; ``GET /_local/state``: requests by operation, events by status, faults in force.
- ``POST /_local/faults`` with the fields of `Fault` as JSON makes it misbehave; ``DELETE`` ends all that.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from include.local.catalog.faults import Fault
from include.local.serving import LocalHandler, LocalServer

if TYPE_CHECKING:
    from include.local.catalog.service import Service


class Server(LocalServer):
    """Answers for one domain."""

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        super().__init__(_Handler, host, port)

    def close(self) -> None:
        """Stop serving, release the port and close the database."""
        self.service.faults.clear()
        super().close()
        self.service.close()


class _Handler(LocalHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self.tell(200, {"status": "ok"})
        elif self.path == "/_local/state":
            self.tell(200, self.server.service.state())
        else:
            self._serve()

    def do_POST(self) -> None:
        if self.path != "/_local/faults":
            return self._serve()
        try:
            self.server.service.faults.add(Fault.from_json(json.loads(self.read_body())))
        except ValueError as error:
            return self.tell(400, {"error": str(error)})
        return self.tell(200, {})

    def do_DELETE(self) -> None:
        if self.path != "/_local/faults":
            return self._serve()
        self.server.service.faults.clear()
        return self.tell(200, {})

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        answer = self.server.service.answer(self.command, self.path, self.headers, self.read_body())
        if answer is None:
            return self.hang_up()
        return self.send(answer.status, answer.headers | {"x-amzn-RequestId": str(uuid.uuid4())}, answer.body)
