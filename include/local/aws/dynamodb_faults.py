"""What can befall the requests to the AWS stand-in, and the paths by which a test says so.

- ``GET /_local/state``: requests by operation, faults in force, seconds that the clock is ahead.
- ``POST /_local/faults`` with the fields of `Fault` as JSON; ``DELETE`` ends all that.
- ``POST /_local/clock`` with ``{"seconds": 60}`` moves the clock on; ``DELETE`` sets it right.
- ``POST /_local/streams/<table>`` with fields of `Behaviour`; ``.../split`` with ``{"shard": ..., "children": 2}``; ``.../repeat`` with
  ``{"records": 3}``. ``DELETE /_local/streams`` ends all behaviour.

`include.local.aws.controls` is a client of these.
"""

from __future__ import annotations

import json
import socket
import zlib
from fnmatch import fnmatchcase
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from include.local.aws.clock import CLOCK
from include.local.aws.dynamodb_streams import Behaviour, behaviours, stream_of
from include.local.aws.faults import Fault, Faults, tables_of
from include.local.aws.in_process import DROPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from threading import Lock
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX: Final = "/_local/"
REGION: Final = "us-east-1"
_CONFLICT: Final = "TransactionConflict"
_BATCHES: Final = {"BatchWriteItem": "UnprocessedItems", "BatchGetItem": "UnprocessedKeys"}
_SERVER_ERRORS: Final = frozenset({"InternalServerError", "InternalServerErrorException", "ServiceUnavailable"})


class WithFaults:
    """Passes requests on, with what befalls them.

    Args:
        application: the AWS stand-in.
        lock: held while it does a request.
    """

    def __init__(self, application: WSGIApplication, lock: Lock) -> None:
        self._application = application
        self._lock = lock
        self.faults = Faults()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"].startswith(PREFIX):
            return self._control(environ, start_response)
        _, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if not operation:
            return self._application(environ, start_response)
        request = _read(environ)
        fault = self.faults.take(operation, tables_of(request))
        if fault is None:
            return self._application(environ, start_response)
        if not fault.done:
            self.faults.delay(fault)
            if fault.drop == "request":
                return _hang_up(environ, start_response)
            if fault.refuses:
                return _answer(start_response, *_refusal(fault, operation, request))
        answer = self._answered(environ, operation, request, fault)
        if fault.done:
            self.faults.delay(fault)
            if fault.refuses:
                answer = _refusal(fault, operation, request)
        if fault.drop == "answer":
            return _hang_up(environ, start_response)
        return _answer(start_response, *answer)

    def _answered(
        self, environ: WSGIEnvironment, operation: str, request: dict[str, Any], fault: Fault
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        """The answer of the application; of a batch it gets only a part."""
        rest: dict[str, Any] = {}
        if fault.unprocessed and operation in _BATCHES:
            request["RequestItems"], rest = _parted(request["RequestItems"], fault)
            body = json.dumps(request).encode()
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(body), str(len(body))
        told: list[tuple[str, list[tuple[str, str]]]] = []

        def started(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            told.append((status, list(headers)))

        body = b"".join(self._application(environ, started))
        status, headers = told[-1]
        if rest and status.startswith("200"):
            document = json.loads(body)
            document[_BATCHES[operation]] = {**document.get(_BATCHES[operation], {}), **rest}
            body = json.dumps(document).encode()
            headers = [each for each in headers if each[0].lower() not in {"content-length", "x-amz-crc32"}]
            headers += [("Content-Length", str(len(body))), ("x-amz-crc32", str(zlib.crc32(body)))]
        return status, headers, body

    def _control(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].removeprefix(PREFIX).split("/")
        try:
            with self._lock:
                answer = self._controlled(environ["REQUEST_METHOD"], path, _read(environ))
        except ValueError as error:
            return _tell(start_response, "400 Bad Request", {"error": str(error)})
        if answer is None:
            return _tell(start_response, "404 Not Found", {"error": f"nothing at {environ['PATH_INFO']}"})
        return _tell(start_response, "200 OK", answer)

    def _controlled(self, method: str, path: list[str], document: dict[str, Any]) -> dict[str, Any] | None:
        match method, *path:
            case ["GET", "state"]:
                requests = dict(self.faults.requests)
                return {"requests": requests, "faults": self.faults.to_json(), "ahead": CLOCK.ahead}
            case ["POST", "faults"]:
                self.faults.add(Fault.from_json(document))
            case ["DELETE", "faults"]:
                self.faults.clear()
            case ["POST", "clock"]:
                CLOCK.advance(float(document["seconds"]))
            case ["DELETE", "clock"]:
                CLOCK.reset()
            case ["DELETE", "streams"]:
                _behave_again()
            case ["POST", "streams", table]:
                _behave(table, document)
            case ["POST", "streams", table, "split"]:
                stream = stream_of(_table(table))
                return {"children": stream.split(document.get("shard"), children=int(document.get("children", 2)))}
            case ["POST", "streams", table, "repeat"]:
                stream_of(_table(table)).repeat(int(document["records"]))
            case _:
                return None
        return {}


def _table(name: str) -> Any:
    tables = dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION].tables
    if name not in tables:
        raise ValueError(f"expected a table {name}, found only {', '.join(sorted(tables)) or 'none'}")
    return tables[name]


def _behave(name: str, document: Mapping[str, Any]) -> None:
    table = _table(name)
    found = behaviours(table)
    found[name] = found.get(name, Behaviour()).changed(document)
    if table.stream_shard is not None:
        table.stream_shard.behaviour = found[name]


def _behave_again() -> None:
    tables: Iterable[Any] = dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION].tables.values()
    for table in tables:
        behaviours(table).clear()
        if table.stream_shard is not None:
            table.stream_shard.behaviour = Behaviour()


def _read(environ: WSGIEnvironment) -> dict[str, Any]:
    """The request's body, which stays to be read; nothing where it is no JSON object."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _parted(items: Mapping[str, Any], fault: Fault) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is done of a batch, and what isn't."""
    done: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for table, there in items.items():
        if fault.table and not fnmatchcase(table, fault.table):
            done[table] = there
            continue
        listed = there["Keys"] if isinstance(there, dict) else there
        count = max(1, int(len(listed) * (1 - fault.unprocessed)))
        for part, into in ((listed[:count], done), (listed[count:], rest)):
            if part:
                into[table] = {**there, "Keys": part} if isinstance(there, dict) else part
    return done, rest


def _refusal(fault: Fault, operation: str, request: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    code = fault.code or "InternalServerError"
    document: dict[str, Any] = {"message": "a fault was asked for"}
    if code == _CONFLICT:
        code = f"{_CONFLICT}Exception"
        if operation == "TransactWriteItems":
            code = "TransactionCanceledException"
            reasons = [_reason(fault, element) for element in request["TransactItems"]]
            told = ", ".join(reason["Code"] for reason in reasons)
            document = {
                "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{told}]",
                "CancellationReasons": reasons,
            }
    status = fault.status or (500 if code in _SERVER_ERRORS else 400)
    document["__type"] = f"com.amazonaws.dynamodb.v20120810#{code}"
    body = json.dumps(document).encode()
    headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amz-crc32", str(zlib.crc32(body)))]
    return f"{status} Fault", [*headers, ("Content-Length", str(len(body)))], body


def _reason(fault: Fault, element: Mapping[str, Any]) -> dict[str, str]:
    if fault.table and not any(fnmatchcase(part["TableName"], fault.table) for part in element.values()):
        return {"Code": "None"}
    return {"Code": _CONFLICT, "Message": "Transaction is ongoing for the item"}


def _answer(start_response: StartResponse, status: str, headers: list[tuple[str, str]], body: bytes) -> Iterable[bytes]:
    start_response(status, headers)
    return [body]


def _tell(start_response: StartResponse, status: str, document: Mapping[str, Any]) -> Iterable[bytes]:
    body = json.dumps(document).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return _answer(start_response, status, headers, body)


def _hang_up(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Close the connection without a word."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    return _answer(start_response, DROPPED, [("Content-Length", "0")], b"")
