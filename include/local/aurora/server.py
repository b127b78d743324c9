"""The HTTP side of the zero-ETL stand-in: RDS, Redshift and the Redshift Data API as botocore speaks them, and health.

- ``POST /`` with ``X-Amz-Target: RedshiftData.<operation>`` (JSON 1.1), or with a form body (query protocol).
- ``GET /health``; ``GET /_local/state`` (everything the integration has recorded, per-table lag too).
- ``POST /_local/overrides`` with fields of `Overrides` as JSON forces what is reported; ``DELETE`` ends that.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from include.local.aurora.data_api import ApiError, DataApi
from include.local.aurora.integration import INTEGRATION_NAME, Overrides
from include.local.aurora.reporting import SOURCE_ARN, TARGET_ARN, Report
from include.local.serving import LocalHandler, LocalServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.local.aurora.replicator import Replicator

_JSON_TARGET: Final = "RedshiftData."
_NAMESPACES: Final = {
    "DescribeIntegrations": "http://rds.amazonaws.com/doc/2014-10-31/",
    "DescribeInboundIntegrations": "http://redshift.amazonaws.com/doc/2012-12-01/",
}
_FILTERS: Final = {
    "integration-name": "IntegrationName",
    "integration-identifier": "IntegrationArn",
    "integration-arn": "IntegrationArn",
    "source-arn": "SourceArn",
    "status": "Status",
}


class Server(LocalServer):
    """Answers for one replicator."""

    def __init__(self, replicator: Replicator, host: str = "127.0.0.1", port: int = 0) -> None:
        self.replicator = replicator
        super().__init__(_Handler, host, port)
        self.data_api = DataApi(replicator)

    def close(self) -> None:
        """Stop serving and release the port."""
        super().close()
        self.data_api.close()


class _Handler(LocalHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            error = self.server.replicator.error
            state = self.server.replicator.integration.summary()["state"]
            self._answer(200, {"status": "degraded" if error else "ok", "error": error, "state": state})
        elif self.path == "/_local/state":
            integration = self.server.replicator.integration
            summary = integration.summary() | {"lag_ms": self.server.replicator.lag_ms()}
            recorded = {"tables": integration.tables(), "activity": integration.activity()}
            self._answer(200, {"integration": summary, **recorded, "overrides": asdict(integration.overrides)})
        else:
            self._answer(404, {"error": f"no such path {self.path}"})

    def do_DELETE(self) -> None:
        if self.path != "/_local/overrides":
            return self._answer(404, {"error": f"no such path {self.path}"})
        self.server.replicator.integration.overrides = Overrides()
        return self._answer(200, {})

    def do_POST(self) -> None:
        body = self.read_body()
        target = self.headers.get("X-Amz-Target", "")
        if self.path == "/_local/overrides":
            self._override(body)
        elif target.startswith(_JSON_TARGET):
            self._call_data_api(target.removeprefix(_JSON_TARGET), body)
        else:
            self._call_query(dict(parse_qsl(body.decode(), keep_blank_values=True)))

    def _override(self, body: bytes) -> None:
        try:
            self.server.replicator.integration.overrides = Overrides(**json.loads(body))
        except (TypeError, ValueError) as error:
            return self._answer(400, {"error": f"expected a JSON object of {list(asdict(Overrides()))}: {error}"})
        return self._answer(200, {})

    def _call_data_api(self, operation: str, body: bytes) -> None:
        try:
            status, answer = 200, self.server.data_api.call(operation, json.loads(body or b"{}"))
        except json.JSONDecodeError as error:
            status, answer = 400, {"__type": "SerializationException", "message": str(error)}
        except ApiError as error:
            status, answer = error.status, {"__type": error.code, "message": str(error), "Message": str(error)}
        self._answer(status, answer, "application/x-amz-json-1.1")

    def _call_query(self, form: Mapping[str, str]) -> None:
        action = form.get("Action", "")
        try:
            if action not in _NAMESPACES:
                raise ApiError("InvalidAction", f"Could not find operation {action}.")
            found = _describe(Report(self.server.replicator), form, inbound=action == "DescribeInboundIntegrations")
            member = "InboundIntegration" if action == "DescribeInboundIntegrations" else "Integration"
            result = f"<{member}s>{''.join(_element(member, one) for one in found)}</{member}s>"
            content = (
                f'<{action}Response xmlns="{_NAMESPACES[action]}"><{action}Result>{result}</{action}Result>'
                f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
            )
            self._send(200, content.encode(), "text/xml")
        except ApiError as error:
            detail = _element("Error", {"Type": "Sender", "Code": error.code, "Message": str(error)})
            content = f"<ErrorResponse>{detail}<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
            self._send(error.status, content.encode(), "text/xml")

    def _answer(self, status: int, body: Mapping[str, Any], kind: str = "application/json") -> None:
        self._send(status, json.dumps(body).encode(), kind)

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send(status, {"Content-Type": kind, "x-amzn-RequestId": str(uuid.uuid4())}, content)


def _describe(report: Report, form: Mapping[str, str], *, inbound: bool) -> list[dict[str, Any]]:
    """The integration, if it is the one asked for.

    Raises:
        ApiError: another one was asked for by name, or by a filter there isn't.
    """
    integration = report.replicator.integration
    created = datetime.fromisoformat(integration.summary()["creation_time"]).replace(tzinfo=UTC)
    described: dict[str, Any] = {
        "IntegrationArn": integration.arn,
        "SourceArn": SOURCE_ARN,
        "TargetArn": TARGET_ARN,
        "Status": report.status(),
        "CreateTime": created.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "Errors": [{"IntegrationError": error} for error in report.errors()],
    }
    wanted = form.get("IntegrationArn" if inbound else "IntegrationIdentifier")
    if wanted and (report.missing or wanted not in (integration.arn, integration.id)):
        raise ApiError("IntegrationNotFoundFault", f"Integration {wanted} not found.", 404)
    if inbound:
        listed = not report.missing and form.get("TargetArn", TARGET_ARN) == TARGET_ARN
        return [described] if listed else []
    described |= {"IntegrationName": INTEGRATION_NAME, "DataFilter": "include: demodb.*"}
    return [described] if not report.missing and _passes_filters(described, form) else []


def _passes_filters(described: Mapping[str, Any], form: Mapping[str, str]) -> bool:
    number = 1
    while name := form.get(f"Filters.Filter.{number}.Name"):
        if name not in _FILTERS:
            raise ApiError("InvalidParameterValue", f"Unrecognized filter name: {name}")
        prefix = f"Filters.Filter.{number}.Values.Value."
        values = {value for key, value in form.items() if key.startswith(prefix)}
        actual = described[_FILTERS[name]]
        if not values & {actual, actual.rsplit(":", 1)[-1]}:
            return False
        number += 1
    return True


def _element(name: str, value: Any) -> str:
    """An XML element of a dictionary, a list of single-entry dictionaries, or a text."""
    if isinstance(value, dict):
        inner = "".join(_element(key, part) for key, part in value.items())
    elif isinstance(value, list):
        inner = "".join(_element(key, part) for entry in value for key, part in entry.items())
    else:
        inner = escape(str(value))
    return f"<{name}>{inner}</{name}>"
