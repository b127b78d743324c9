"""Reads a submission as the real gateway's JSON library does: strict about names at the top, lenient below, half and half about types."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from include.local.batch_gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

_JACKSON: Final = "com.fasterxml.jackson"
_UNKNOWN: Final = f"{_JACKSON}.databind.exc.UnrecognizedPropertyException"
_MISMATCH: Final = f"{_JACKSON}.databind.exc.MismatchedInputException"
_FORMAT: Final = f"{_JACKSON}.databind.exc.InvalidFormatException"
_PARSE: Final = f"{_JACKSON}.core.JsonParseException"

_FILE_PATH: Final = re.compile(r"[a-zA-Z~]?(/[a-zA-Z0-9_.-]+)+/?")


class _Unreadable(Exception):
    """What the JSON library throws; the message names its class."""


def parse_request(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a submission, as the types that the gateway has for them.

    Raises:
        GatewayError: 400, with the name of the exception that the JSON library throws.
    """
    text = body.decode(errors="replace")
    language = "YAML" if "yaml" in content_type.lower() else "JSON"
    try:
        document = _load(text, language)
        if not isinstance(document, dict):
            raise _Unreadable(
                f"{_MISMATCH}: Cannot construct instance of SubmitApplicationRequest from {_kind(document)}"
            )
        if unknown := [name for name in document if name not in _TOP]:
            raise _Unreadable(
                f'{_UNKNOWN}: Unrecognized field "{unknown[0]}" (class com.apple.spark.api.SubmitApplicationRequest), '
                f"not marked as ignorable ({len(_TOP)} known properties)"
            )
        return {name: _TOP[name](value, name) for name, value in document.items() if value is not None}
    except _Unreadable as error:
        if language == "JSON" and _FILE_PATH.fullmatch(text):
            raise GatewayError("Invalid request body. It actually looks like a file path.") from error
        raise GatewayError(f"Invalid {language} request: {error}") from error


def _load(text: str, language: str) -> Any:
    if not text.strip():
        raise _Unreadable(f"{_MISMATCH}: No content to map due to end-of-input")
    if language == "JSON":
        try:
            return json.loads(text)
        except ValueError as error:
            raise _Unreadable(f"{_PARSE}: {error}") from error
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _Unreadable(f"{_JACKSON}.dataformat.yaml.JacksonYAMLParseException: {error}") from error


def _kind(value: Any) -> str:
    names = {dict: "Object", list: "Array", str: "String", bool: "Boolean", int: "Integer", float: "Floating-point"}
    return f"{names.get(type(value), 'null')} value"


def _mismatch(value: Any, name: str, wanted: str) -> _Unreadable:
    return _Unreadable(f"{_MISMATCH}: Cannot deserialize value of type {wanted} from {_kind(value)} ({name})")


def _text(value: Any, name: str) -> str:
    """Any scalar becomes a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _mismatch(value, name, "java.lang.String")


def _integer(value: Any, name: str) -> int:
    """A fraction loses what is behind the point; a text has to be a whole number."""
    if isinstance(value, bool):
        raise _mismatch(value, name, "java.lang.Integer")
    if isinstance(value, (int, float)):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        return int(value)
    if isinstance(value, str):
        raise _Unreadable(
            f'{_FORMAT}: Cannot deserialize value of type java.lang.Integer from String "{value}" ({name})'
        )
    raise _mismatch(value, name, "java.lang.Integer")


def _number(value: Any, name: str) -> float:
    try:
        if not isinstance(value, (bool, dict, list)):
            return float(value)
    except ValueError:
        pass
    raise _mismatch(value, name, "java.lang.Double")


def _boolean(value: Any, name: str) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "True": True, "False": False, "": False}
    if isinstance(value, (bool, str)) and value in known:
        return known[value]
    if isinstance(value, int):
        return value != 0
    raise _mismatch(value, name, "boolean")


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list):
        raise _mismatch(value, name, "java.util.ArrayList<java.lang.String>")
    return [_text(one, name) for one in value]


def _properties(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _mismatch(value, name, "java.util.LinkedHashMap<java.lang.String,java.lang.String>")
    return {_text(key, name): _text(one, f"{name}.{key}") for key, one in value.items() if one is not None}


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mismatch(value, name, "Object")
    return dict(value)


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _mismatch(value, name, "java.util.ArrayList")
    return [_object(one, name) for one in value]


def _of(known: dict[str, Callable[[Any, str], Any]]) -> Callable[[Any, str], dict[str, Any]]:
    """Reads an object below the top: what it does not know, it ignores."""

    def read(value: Any, name: str) -> dict[str, Any]:
        given = _object(value, name)
        return {key: known[key](one, f"{name}.{key}") for key, one in given.items() if key in known and one is not None}

    return read


_POD: Final[dict[str, Callable[[Any, str], Any]]] = {
    "cores": _integer,
    "coreRequest": _text,
    "coreLimit": _text,
    "memory": _text,
    "memoryOverhead": _text,
    "image": _text,
    "env": _objects,
    "labels": _properties,
    "annotations": _properties,
    "serviceAccount": _text,
    "volumeMounts": _objects,
    "securityContext": _object,
    "affinity": _object,
    "javaOptions": _text,
    "terminationGracePeriodSeconds": _integer,
}
_TOP: Final[dict[str, Callable[[Any, str], Any]]] = {
    "submissionIdSuffix": _text,
    "applicationName": _text,
    "type": _text,
    "mode": _text,
    "image": _text,
    "spotInstance": _boolean,
    "sparkVersion": _text,
    "mainClass": _text,
    "mainApplicationFile": _text,
    "arguments": _texts,
    "sparkConf": _properties,
    "volumes": _objects,
    "driver": _of(_POD | {"podName": _text, "kubernetesMaster": _text}),
    "executor": _of(_POD | {"instances": _integer, "deleteOnTermination": _boolean}),
    "driverOverheadFactor": _number,
    "executorOverheadFactor": _number,
    "overheadFactor": _number,
    "deps": _of(
        dict.fromkeys(
            ("jars", "files", "pyFiles", "packages", "excludePackages", "repositories", "archives"),
            _texts,
        )
    ),
    "pythonVersion": _text,
    "imagePullPolicy": _text,
    "restartPolicy": _of(
        {
            "type": _text,
            "onSubmissionFailureRetries": _integer,
            "onFailureRetries": _integer,
            "onSubmissionFailureRetryInterval": _integer,
            "onFailureRetryInterval": _integer,
        }
    ),
    "clusterId": _text,
    "queue": _text,
    "queueToken": _text,
}
