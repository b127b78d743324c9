"""The HTTP side of the gateway.

- The gateway's own endpoints, below its base path.
- ``GET /health``; ``GET /_local/state``: requests by operation, applications by cluster and state, faults in force.
- ``POST /_local/faults`` with the fields of `Fault` as JSON makes it misbehave; ``DELETE`` ends all that.
- ``GET /_local/applications?name=``: all that were ever accepted, the deleted too. ``DELETE`` forgets them, and the requests.
- ``GET /_local/applications/<id>``: one of them. ``POST`` puts it into a state, see `control`; ``DELETE`` removes it, as an expiry does.
- ``GET /_local/ui/<namespace>/<id>``: leads to the UI of a running driver.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from include.local.batch_gateway.errors import KUBERNETES, GatewayError
from include.local.batch_gateway.faults import Fault, Faults
from include.local.batch_gateway.kubernetes import normalize_label
from include.local.batch_gateway.service import Answer, answer_error
from include.local.batch_gateway.store import TERMINAL, now
from include.local.serving import LocalHandler, LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.local.batch_gateway.service import Service

log = logging.getLogger(__name__)

_CONTROLS: Final[dict[str, type]] = {"state": str, "error": str, "held": bool}


class Server(LocalServer):
    """Answers for one gateway."""

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        self.faults = Faults()
        super().__init__(_Handler, host, port)

    def close(self) -> None:
        """Stop serving, release the port and close the database."""
        self.faults.clear()
        self.service.serving = False
        super().close()
        self.service.store.close()


class _Handler(LocalHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.read_body()
        path = urlsplit(self.path).path
        if path == "/health":
            return self.tell(200, {"status": "ok"})
        if path.startswith("/_local/"):
            return self._local(path.removeprefix("/_local/").split("/"), body)
        return self._serve(body)

    def _serve(self, body: bytes) -> None:
        try:
            found = self.server.service.find(self.command, self.path)
        except GatewayError as error:
            return self._reply(answer_error(error))
        self.server.service.store.count_request(found[0])
        fault = self.server.faults.take(found[0])
        if fault and not fault.done:
            self.server.faults.delay(fault)
            if fault.drop == "request":
                return self.hang_up()
            if fault.status:
                return self._reply(_refusal(fault))
        answer = self._do(found, body, fault)
        if fault and fault.done:
            self.server.faults.delay(fault)
            answer = _refusal(fault) if fault.status else answer
        if fault and fault.drop == "answer":
            return self.hang_up()
        return self._reply(answer, fault.cut_after if fault else 0)

    def _do(self, found: tuple[str, str], body: bytes, fault: Fault | None) -> Answer:
        try:
            return self.server.service.do(found, self.path, self.headers, body, fault)
        except GatewayError as error:
            return answer_error(error)
        except Exception as error:
            log.exception("%s %s: a mistake of the stand-in", self.command, self.path)
            return answer_error(GatewayError(f"a mistake of the stand-in: {error!r}", 500, "java.lang.Error"))

    def _reply(self, answer: Answer, cut_after: int = 0) -> None:
        if isinstance(answer.body, bytes):
            return self.send(answer.status, answer.headers, answer.body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        return self._stream(answer.body, cut_after)

    def _stream(self, chunks: Iterable[bytes], cut_after: int) -> None:
        left = cut_after
        for chunk in chunks:
            if cut_after and len(chunk) >= left:
                self.wfile.write(b"%x\r\n%b\r\n" % (left, chunk[:left]))
                return self.hang_up()
            left -= len(chunk)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _local(self, path: list[str], body: bytes) -> None:
        try:
            status, told = self._control(path, body)
        except ValueError as error:
            status, told = 400, {"error": str(error)}
        if status == 302:
            return self.send(302, {"Location": told["location"]}, b"")
        return self.tell(status, told)

    def _control(self, path: list[str], body: bytes) -> tuple[int, dict[str, Any]]:
        """What a test asks for.

        Raises:
            ValueError: what was posted can't be read.
        """
        service, faults = self.server.service, self.server.faults
        match (self.command, *path):
            case ("GET", "state"):
                requests, states = service.store.requests(), service.store.states()
                return 200, {"requests": requests, "applications": states, "faults": faults.to_json()}
            case ("POST", "faults"):
                faults.add(Fault.from_json(_document(body)))
            case ("DELETE", "faults"):
                faults.clear()
            case ("GET", "applications"):
                name = dict(parse_qsl(urlsplit(self.path).query)).get("name")
                accepted = service.store.accepted(normalize_label(name) if name else None)
                return 200, {"applications": [one.summary() for one in accepted]}
            case ("GET", "applications", application_id):
                one = service.store.find(unquote(application_id))
                return (200, one.summary()) if one else (404, {"error": f"no application {application_id}"})
            case ("DELETE", "applications"):
                service.store.purge()
            case ("POST", "applications", application_id):
                return control(service, unquote(application_id), _document(body))
            case ("DELETE", "applications", application_id):
                service.store.delete(unquote(application_id))
            case ("GET", "ui", _, application_id):
                return _ui(service, unquote(application_id))
            case _:
                return 404, {"error": f"no such path {self.path}"}
        return 200, {}


def _document(body: bytes) -> dict[str, Any]:
    document = json.loads(body or b"{}")
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {document!r}")
    return document


def control(service: Service, application_id: str, wanted: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Put an application into a state, or hold it where it is.

    Args:
        service: the gateway.
        application_id: which.
        wanted: ``state``, ``error``: what its status is to tell; ``held``: the operator leaves it as it is, or goes on.

    Raises:
        ValueError: it has another field.
    """
    for name, value in wanted.items():
        if name not in _CONTROLS or not isinstance(value, _CONTROLS[name]):
            raise ValueError(f"expected state or error as a text, held as true or false; found {name}={value!r}")
    if service.store.get(application_id) is None:
        return 404, {"error": f"no application {application_id}"}
    moment = now()
    values = dict(wanted) | {"due": moment}
    if "state" in wanted:
        values |= {"entered": moment, "terminated": moment if wanted["state"] in TERMINAL else None}
        values |= (
            {"pod": {"COMPLETED": "Succeeded", "FAILED": "Failed"}[wanted["state"]]}
            if wanted["state"] in TERMINAL
            else {}
        )
    service.store.update(application_id, **values)
    return 200, {}


def _ui(service: Service, application_id: str) -> tuple[int, dict[str, Any]]:
    application = service.store.get(application_id)
    if application is None or not application.ui_port or application.state != "RUNNING":
        return 404, {"error": f"{application_id} has no UI: it does not run"}
    return 302, {"location": f"http://127.0.0.1:{application.ui_port}/"}


def _refusal(fault: Fault) -> Answer:
    if fault.body:
        return Answer(fault.status, fault.body.encode(), {"Content-Type": "text/html"})
    return answer_error(GatewayError(fault.message, fault.status, KUBERNETES))
