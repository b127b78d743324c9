"""Items as JSON. What JSON can't say (bytes, sets) is said by the table's model: bytes are Base64, sets are lists."""

from __future__ import annotations

import base64
import binascii
import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from include.local.saas.errors import Refused

if TYPE_CHECKING:
    from include.tenants.saas import DataTable


def from_document(table: DataTable, text: bytes) -> dict[str, Any]:
    """The attributes that a client has sent.

    Raises:
        Refused: they can't be read.
    """
    try:
        document = json.loads(text or b"{}", parse_float=Decimal, parse_int=Decimal)
        if not isinstance(document, dict):
            raise Refused(f"expected a JSON object, found {type(document).__name__}")
        return {name: _read(value, table.attributes.get(name, frozenset())) for name, value in document.items()}
    except (ValueError, TypeError, InvalidOperation, binascii.Error) as error:
        raise Refused(f"expected a JSON object: {error}") from error


def dumps(value: Any) -> str:
    """A value of Python as JSON; numbers keep all their digits, which `json` alone would not let them."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(name)}: {dumps(each)}" for name, each in value.items()) + "}"
        case list() | set():
            texts = [dumps(each) for each in value]
            return "[" + ", ".join(texts if isinstance(value, list) else sorted(texts)) + "]"
        case Decimal():
            return str(value)
        case bytes():
            return json.dumps(base64.b64encode(value).decode())
        case _ if hasattr(value, "value"):  # boto3's Binary
            return dumps(bytes(value.value))
    return json.dumps(value)


def _read(value: Any, types: frozenset[str]) -> Any:
    match value:
        case str() if "B" in types:
            return base64.b64decode(value, validate=True)
        case list() if "BS" in types:
            return {base64.b64decode(each, validate=True) for each in value}
        case list() if types & {"SS", "NS"}:
            return set(value)
    return value
