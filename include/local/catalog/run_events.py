"""Run events of OpenLineage: what is refused at once, and what turns out to be wrong only when the event is processed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from include.local.catalog.identity import ACCOUNT_ID
from include.local.catalog.protocol import ApiError

if TYPE_CHECKING:
    from include.local.catalog.protocol import Document

COLUMN_LINEAGE: Final = "columnLineage"
SCHEMA: Final = "schema"
_EVENT_TYPES: Final = frozenset({"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"})


class UnprocessableError(Exception):
    """An event that was taken can't be made part of the graph."""


def source_identifier(namespace: str, name: str) -> str:
    """What a dataset's node is known by; see `include.local.catalog.lineage`."""
    host, parts = namespace.removeprefix("redshift://").partition(":")[0].split("."), name.split(".")
    if not namespace.startswith("redshift://") or len(parts) != 3 or len(host) < 2:
        return f"{namespace}/{name}"
    serverless = "redshift-serverless.amazonaws.com" in namespace
    region = next((label for label in host if label.count("-") == 2 and label[-1].isdigit()), host[1])
    service = "redshift-serverless" if serverless else "redshift"
    return f"arn:aws:{service}:{region}:{ACCOUNT_ID}:table/{host[0]}/{'/'.join(parts)}"


def read_event(body: bytes) -> tuple[Document, datetime]:
    """A run event.

    Raises:
        ApiError: it is none.
    """
    try:
        event = json.loads(body)
        moment = datetime.fromisoformat(event["eventTime"].upper())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        texts = (event["run"]["runId"], event["job"]["namespace"], event["job"]["name"])
        if event["eventType"] not in _EVENT_TYPES or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(event["eventType"], *texts)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ApiError(
            "ValidationException",
            "expected an OpenLineage run event with eventType, eventTime, run.runId, job.namespace and job.name, found "
            f"{body[:80]!r} ({error!r})",
        ) from error
    return event, moment


def summary(event: Document) -> Document:
    """What ListLineageEvents tells of an event."""

    def names(entries: Any) -> list[Document]:
        return [
            {"namespace": entry["namespace"], "name": entry["name"]}
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("namespace", "name"))
        ]

    return {
        "eventType": event["eventType"],
        "runId": event["run"]["runId"],
        "job": names([event["job"]])[0],
        "inputs": names(event.get("inputs")),
        "outputs": names(event.get("outputs")),
    }


def datasets(event: Document, side: str) -> list[Document]:
    """Inputs or outputs, with their source identifiers.

    Raises:
        UnprocessableError: one is malformed.
    """
    found = []
    for entry in _expect(event.get(side) or [], list, side):
        where = f"{side}: a dataset"
        name, namespace = (
            _expect(_expect(entry, dict, where).get(key), str, f"{where}'s {key}") for key in ("name", "namespace")
        )
        facets = dict(_expect(entry.get("facets") or {}, dict, f"facets of {name}"))
        for facet, content in facets.items():
            _expect(content, dict, f"facet {facet} of {name}")
        if SCHEMA in facets:
            _expect(facets[SCHEMA].get("fields") or [], list, f"facet {SCHEMA}.fields of {name}")
        if COLUMN_LINEAGE in facets:
            facets[COLUMN_LINEAGE] = _column_lineage(facets[COLUMN_LINEAGE], name)
        found.append({"name": name, "source": source_identifier(namespace, name), "facets": facets})
    return found


def _column_lineage(facet: Document, name: str) -> Document:
    """The facet, with the source identifiers of the datasets that columns come from."""
    where = f"facet {COLUMN_LINEAGE} of {name}"
    fields = {}
    for column, content in _expect(facet.get("fields"), dict, f"{where}: fields").items():
        inputs = _expect(
            _expect(content, dict, f"{where}: {column}").get("inputFields"), list, f"{where}: {column}.inputFields"
        )
        fields[column] = content | {"inputFields": [_input_field(field, f"{where}: {column}") for field in inputs]}
    indirect = [_input_field(field, f"{where}: dataset") for field in _expect(facet.get("dataset") or [], list, where)]
    return facet | {"fields": fields} | ({"dataset": indirect} if indirect else {})


def _input_field(field: Any, where: str) -> Document:
    said = _expect(field, dict, where)
    namespace, name, _ = (_expect(said.get(key), str, f"{where}: {key}") for key in ("namespace", "name", "field"))
    return {**said, "sourceIdentifier": source_identifier(namespace, name)}


def _expect(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise UnprocessableError(f"{where}: expected a {kind.__name__}, found {str(value)[:80]!r}")
    return value
