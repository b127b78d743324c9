"""DataZone's REST-JSON protocol, by botocore's own model of the service: routes, what a request says, what an answer may be.

Everything that comes in and goes out is held to the model's shapes: required members, lengths, patterns, ranges, list sizes, unions and
also enum values, which botocore's client does not check. So a mistake that Amazon would refuse is refused here.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.utils import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message

    from botocore.model import OperationModel, Shape

type Document = dict[str, Any]

ERROR_HEADER: Final = "x-amzn-ErrorType"
_LABEL: Final = re.compile(r"\{(\w+)(\+?)\}")
_NUMBERS: Final = {"integer": int, "long": int, "float": (int, float), "double": (int, float)}


class ApiError(Exception):
    """An error that the service answers.

    Args:
        code: the name of its shape in the model.
        message: in words.
        status: HTTP's; of an error that the model has, the model's.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = _status(code, status)


class InvalidAnswerError(Exception):
    """The stand-in's answer is not one that the service could give: a mistake of the stand-in."""


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


@functools.cache
def service_model() -> ServiceModel:
    """The model; reading it takes a while."""
    return ServiceModel(create_loader().load_service_model("datazone", "service-2"), "datazone")


@functools.cache
def _routes() -> tuple[tuple[str, re.Pattern[str], OperationModel], ...]:
    """Method, path and operation; paths with fewer parameters first, as a fixed word is meant where both match."""
    found = []
    for name in service_model().operation_names:
        operation = service_model().operation_model(name)
        path = operation.http["requestUri"].partition("?")[0]
        pattern = _LABEL.sub(lambda label: f"(?P<{label[1]}>{'.+' if label[2] else '[^/]+'})", path)
        found.append((operation.http["method"], re.compile(pattern), operation))
    return tuple(sorted(found, key=lambda route: route[1].groups))


def find_operation(method: str, target: str) -> tuple[OperationModel, dict[str, str]]:
    """The operation that a request line asks for, and the labels of its path.

    Raises:
        ApiError: the service has no such operation.
    """
    path = urlsplit(target).path  # still percent-encoded: an identifier may contain a slash
    for known, pattern, operation in _routes():
        if known == method and (match := pattern.fullmatch(path)):
            return operation, {name: unquote(value) for name, value in match.groupdict().items()}
    raise ApiError("UnknownOperationException", f"no operation of DataZone is at {method} {path}", 404)


def read_request(
    operation: OperationModel, labels: Mapping[str, str], target: str, headers: Message, body: bytes
) -> Document:
    """What the request says, by the model's names.

    Raises:
        ApiError: it is malformed, or the model does not allow it.
    """
    shape = operation.input_shape
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    payload = shape.serialization.get("payload")
    document = {} if payload or not body else _parse_body(body)
    said: Document = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "uri":
                value: Any = labels.get(wire)
            case "querystring":
                texts = query.get(wire)
                value = (texts if member.type_name == "list" else texts[-1]) if texts else None
            case "header":
                value = headers.get(wire)
            case _ if name == payload:
                value = body
            case _:
                value = document.get(wire)
        if value is not None:
            said[name] = _from_wire(member, value, name)
    if problems := list(violations(shape, said)):
        raise ApiError("ValidationException", f"{len(problems)} validation errors detected: {'; '.join(problems[:20])}")
    return said


def write_answer(operation: OperationModel, result: Document) -> Answer:
    """The answer as HTTP.

    Raises:
        InvalidAnswerError: the model does not allow it.
    """
    shape = operation.output_shape
    result = {name: value for name, value in result.items() if value is not None}
    if unknown := sorted(set(result) - set(shape.members)):
        raise InvalidAnswerError(f"{operation.name}: the model has no {', '.join(unknown)}")
    if problems := list(violations(shape, result)):
        raise InvalidAnswerError(f"{operation.name}: {'; '.join(problems)}")
    headers = {"Content-Type": "application/json"}
    payload, document = shape.serialization.get("payload"), {}
    for name, value in result.items():
        member = shape.members[name]
        wire = member.serialization.get("name", name)
        if member.serialization.get("location") == "header":
            headers[wire] = (
                format_datetime(value.astimezone(UTC), usegmt=True) if member.type_name == "timestamp" else value
            )
        elif name != payload:
            document[wire] = _to_wire(member, value)
    body = result.get(payload, b"") if payload else json.dumps(document, separators=(",", ":")).encode()
    return Answer(int(operation.http.get("responseCode", 200)), headers, body)


def write_error(error: ApiError) -> Answer:
    """An error as HTTP."""
    headers = {"Content-Type": "application/json", ERROR_HEADER: error.code}
    return Answer(error.status, headers, json.dumps({"message": str(error)}).encode())


def violations(shape: Shape, value: Any, at: str = "") -> Iterator[str]:
    """What the model does not allow about a value."""
    limits = shape.metadata
    match shape.type_name:
        case "structure":
            yield from _structure(shape, value, at)
        case "list":
            yield from _size(len(value), limits, f"{at}: number of members")
            for index, member in enumerate(value):
                yield from violations(shape.member, member, f"{at}[{index}]")
        case "map":
            yield from _size(len(value), limits, f"{at}: number of entries")
            for key, member in value.items():
                yield from violations(shape.key, key, f"{at} (key {key!r})")
                yield from violations(shape.value, member, f"{at}.{key}")
        case "string":
            yield from _size(len(value), limits, f"{at}: length")
            if (pattern := limits.get("pattern")) and not _compiled(pattern).fullmatch(value):
                yield f"{at}: expected to match {pattern}, found {value[:80]!r}"
            if (allowed := limits.get("enum")) and value not in allowed:
                yield f"{at}: expected one of {', '.join(allowed)}, found {value[:80]!r}"
        case "blob":
            yield from _size(len(value), limits, f"{at}: bytes")
        case "integer" | "long" | "float" | "double":
            yield from _size(value, limits, at)


def _structure(shape: Shape, value: Document, at: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield f"{at}.{name}: expected a value, found none".lstrip(".")
    present = [name for name in shape.members if value.get(name) is not None]
    if shape.is_tagged_union and len(present) != 1:
        yield f"{at}: expected exactly one of {', '.join(shape.members)}, found {', '.join(present) or 'none'}"
    for name in present:
        yield from violations(shape.members[name], value[name], f"{at}.{name}".lstrip("."))


def _size(size: float, limits: Mapping[str, Any], what: str) -> Iterator[str]:
    if "min" in limits and size < limits["min"]:
        yield f"{what}: expected at least {limits['min']}, found {size}"
    if "max" in limits and size > limits["max"]:
        yield f"{what}: expected at most {limits['max']}, found {size}"


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _status(code: str, otherwise: int) -> int:
    if code not in service_model().shape_names:
        return otherwise
    return int(service_model().shape_for(code).metadata["error"]["httpStatusCode"])


def _parse_body(body: bytes) -> Document:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ApiError("SerializationException", f"expected JSON, found {body[:80]!r}: {error}") from error
    if not isinstance(document, dict):
        raise ApiError("SerializationException", f"expected an object, found {type(document).__name__}")
    return document


def _from_wire(shape: Shape, value: Any, at: str) -> Any:
    """A value of a request as Python has it.

    Raises:
        ApiError: it has another type.
    """
    try:
        match shape.type_name:
            case "structure":
                return {
                    name: _from_wire(member, value[wire], f"{at}.{name}")
                    for name, member in shape.members.items()
                    if _expect(value, dict).get(wire := member.serialization.get("name", name)) is not None
                }
            case "list":
                return [_from_wire(shape.member, one, f"{at}[{n}]") for n, one in enumerate(_expect(value, list))]
            case "map":
                return {key: _from_wire(shape.value, one, f"{at}.{key}") for key, one in _expect(value, dict).items()}
            case "string":
                return _expect(value, str)
            case "blob":
                return value if isinstance(value, bytes) else base64.b64decode(_expect(value, str), validate=True)
            case "timestamp":
                moment = parse_timestamp(value)
                return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            case "boolean":
                return {"true": True, "false": False}[value] if isinstance(value, str) else _expect(value, bool)
            case kind:
                return int(value) if isinstance(value, str) else _expect(value, _NUMBERS[kind])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ApiError(
            "SerializationException", f"{at}: expected a {shape.type_name}, found {str(value)[:80]!r}"
        ) from error


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(kind)
    return value


def _to_wire(shape: Shape, value: Any) -> Any:
    match shape.type_name:
        case "structure":
            return {
                member.serialization.get("name", name): _to_wire(member, value[name])
                for name, member in shape.members.items()
                if value.get(name) is not None
            }
        case "list":
            return [_to_wire(shape.member, one) for one in value]
        case "map":
            return {key: _to_wire(shape.value, one) for key, one in value.items()}
        case "timestamp":
            moment: datetime = value.astimezone(UTC)
            if shape.serialization.get("timestampFormat") == "iso8601":
                return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return milliseconds(moment) / 1000
        case "blob":
            return base64.b64encode(value).decode()
        case _:
            return value


def milliseconds(moment: datetime) -> int:
    """Since 1970: the precision of the timestamps in the service's answers."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
