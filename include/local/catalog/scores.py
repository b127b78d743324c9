"""Time series of an asset or a listing, such as its quality score. An asset's are also its listing's, as documented for data quality."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from include.local.catalog.form_types import TIME_SERIES, check_content, revision_of
from include.local.catalog.protocol import ApiError
from include.local.catalog.store import Page, as_micros, as_moment, new_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from include.local.catalog.protocol import Document
    from include.local.catalog.store import Store

_NEVER: Final = 2**62


@dataclass
class Scores:
    """The time series of one domain.

    Attributes:
        domain_id: the domain.
        store: its state.
    """

    domain_id: str
    store: Store

    def operations(self) -> dict[str, Callable[[Document], Document]]:
        """The operations by name."""
        return {
            "PostTimeSeriesDataPoints": self.post,
            "ListTimeSeriesDataPoints": self.list_points,
            "GetTimeSeriesDataPoint": self.get,
        }

    def post(self, said: Document) -> Document:
        """PostTimeSeriesDataPoints."""
        entity = self._entity(said)
        forms = []
        for form in said["forms"]:
            if form["typeIdentifier"] not in TIME_SERIES:
                raise ApiError(
                    "ValidationException",
                    f"{form['typeIdentifier']}: expected a type of time series: {', '.join(TIME_SERIES)}",
                )
            check_content(form["typeIdentifier"], form.get("typeRevision"), form.get("content"))
            point = {
                "formName": form["formName"],
                "typeIdentifier": form["typeIdentifier"],
                "typeRevision": revision_of(form["typeIdentifier"]),
                "content": form["content"],
                "id": new_id(),
            }
            moment = as_micros(form["timestamp"])
            self.store.run(
                "INSERT INTO points (id, entity, form, moment, document) VALUES (?, ?, ?, ?, ?)",
                *(point["id"], entity, form["formName"], moment, json.dumps(point)),
            )
            forms.append(point | {"timestamp": form["timestamp"]})
        return {**self._about(said), "forms": forms}

    def list_points(self, said: Document) -> Document:
        """ListTimeSeriesDataPoints, the newest first."""
        page = Page(said)
        rows = self.store.all(
            "SELECT * FROM points WHERE entity = ? AND form = ? AND moment BETWEEN ? AND ? ORDER BY moment DESC, seq DESC "
            "LIMIT ? OFFSET ?",
            self._entity(said),
            said["formName"],
            as_micros(said["startedAt"]) if "startedAt" in said else -_NEVER,
            as_micros(said["endedAt"]) if "endedAt" in said else _NEVER,
            *page.limits,
        )
        found, more = page.cut(rows)
        return {"items": [_summary(row) for row in found], **more}

    def get(self, said: Document) -> Document:
        """GetTimeSeriesDataPoint."""
        row = self.store.one(
            "SELECT * FROM points WHERE entity = ? AND form = ? AND id = ?",
            *(self._entity(said), said["formName"], said["identifier"]),
        )
        if row is None:
            raise ApiError(
                "ResourceNotFoundException", f"no data point {said['identifier']} of form {said['formName']}"
            )
        point = json.loads(row["document"]) | {"timestamp": as_moment(row["moment"])}
        return {**self._about(said), "formName": said["formName"], "form": point}

    def latest(self, entity: str) -> list[Document]:
        """The newest point of each form."""
        rows = self.store.all("SELECT *, max(moment) FROM points WHERE entity = ? GROUP BY form ORDER BY form", entity)
        return [_summary(row) for row in rows]

    def _about(self, said: Document) -> Document:
        return {
            "domainId": self.domain_id,
            "entityId": said["entityIdentifier"],
            "entityType": said["entityType"],
        }

    def _entity(self, said: Document) -> str:
        """The asset that the series is of.

        Raises:
            ApiError: there is none.
        """
        kind, identifier = said["entityType"], said["entityIdentifier"]
        row = self.store.one("SELECT * FROM entities WHERE kind = ? AND id = ? LIMIT 1", kind, identifier)
        if row is None:
            raise ApiError("ResourceNotFoundException", f"no {kind} {identifier} in {self.domain_id}")
        entity: str = row["source"] if kind == "LISTING" else row["id"]
        return entity


def _summary(row: sqlite3.Row) -> Document:
    point = json.loads(row["document"])
    content = json.loads(point.pop("content"))
    content.pop("evaluations", None)  # a summary: the whole is to be had one at a time
    return {**point, "timestamp": as_moment(row["moment"]), "contentSummary": json.dumps(content)}
