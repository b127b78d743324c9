"""Lineage: events are taken, processed a little later and in order, and make a graph.

As documented for the service (https://docs.aws.amazon.com/sagemaker-unified-studio/latest/userguide/datazone-data-lineage.html and its
page on troubleshooting):

- A dataset's node has the source identifier ``<namespace>/<name>``; of a namespace ``redshift://…`` the ARN of a table, which says
  redshift-serverless only for a host in ``redshift-serverless.amazonaws.com``. (Its rule for Glue jobs' events is not here.)
- A run's node has ``<job namespace>.<job name>/<run id>``, its upstream nodes are the run's inputs and its downstream nodes the outputs.
- An asset is linked downstream of the dataset whose source identifier is that of its form ``AssetCommonDetailsForm``.

Not documented, so chosen here:

- An asset's node has the asset's id. GetLineageNode takes a source identifier for the dataset's node.
- ``<job namespace>.<job name>`` finds the job's last run.
- A dataset's neighbours are the last run of each job that wrote or read it, the 100 newest at most.
- With ``eventTimestamp`` a node is what events up to then made it.
- How column lineage is told. Here: a form ``columnLineage`` on the output's node with the facet of OpenLineage as it came, and in every
  input field the ``sourceIdentifier`` of its dataset.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from include.local.catalog.faults import PROCESSING
from include.local.catalog.identity import CALLER
from include.local.catalog.protocol import ApiError
from include.local.catalog.run_events import (
    COLUMN_LINEAGE,
    SCHEMA,
    UnprocessableError,
    datasets,
    read_event,
    summary,
)
from include.local.catalog.store import Page, as_micros, as_moment, new_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from include.local.catalog.faults import Faults
    from include.local.catalog.protocol import Document
    from include.local.catalog.store import Store

DATASET: Final = "amazon.datazone.DatasetLineageNodeType"
JOB_RUN: Final = "amazon.datazone.JobRunLineageNodeType"
ASSET: Final = "amazon.datazone.AssetLineageNodeType"
RUN: Final = "run"
NEIGHBOURS: Final = 100
"""GetLineageNode's limit: https://docs.aws.amazon.com/datazone/latest/APIReference/API_GetLineageNode.html."""
_NEVER: Final = 2**62
_MICROS: Final = 1_000_000


@dataclass
class Lineage:
    """The lineage of one domain.

    Attributes:
        domain_id: the domain.
        store: its state.
        faults: what befalls it.
        seconds: how long an event waits, first as REQUESTED, then as PROCESSING.
        now: the time, in seconds since 1970.
    """

    domain_id: str
    store: Store
    faults: Faults
    seconds: float = 0.2
    now: Callable[[], float] = time.time

    def operations(self) -> dict[str, Callable[[Document], Document]]:
        """The operations by name."""
        return {
            "PostLineageEvent": self.post,
            "ListLineageEvents": self.list_events,
            "GetLineageEvent": self.get_event,
            "GetLineageNode": self.get_node,
            "ListLineageNodeHistory": self.list_history,
        }

    def post(self, said: Document) -> Document:
        """PostLineageEvent."""
        event, moment = read_event(said["event"])
        event_id = new_id()
        self.store.run(
            "INSERT INTO events (id, body, summary, moment, status, created) VALUES (?, ?, ?, ?, 'REQUESTED', ?)",
            event_id,
            said["event"],
            json.dumps(summary(event)),
            as_micros(moment),
            self._created(),
        )
        return {"id": event_id, "domainId": self.domain_id}

    def list_events(self, said: Document) -> Document:
        """ListLineageEvents; ``timestampAfter`` and ``timestampBefore`` are bounds of the event's time."""
        page, order = Page(said), "DESC" if said.get("sortOrder", "DESCENDING") == "DESCENDING" else "ASC"
        rows = self.store.all(
            "SELECT id, summary, moment, status, created FROM events "
            f"WHERE moment BETWEEN ? AND ? AND (? IS NULL OR status = ?) ORDER BY moment {order}, seq {order} "
            "LIMIT ? OFFSET ?",
            as_micros(said["timestampAfter"]) if "timestampAfter" in said else -_NEVER,
            as_micros(said["timestampBefore"]) if "timestampBefore" in said else _NEVER,
            said.get("processingStatus"),
            said.get("processingStatus"),
            *page.limits,
        )
        found, more = page.cut(rows)
        items = [
            {
                "id": row["id"],
                "domainId": self.domain_id,
                "processingStatus": row["status"],
                "eventTime": as_moment(row["moment"]),
                "eventSummary": {"openLineageRunEventSummary": json.loads(row["summary"])},
                "createdBy": CALLER,
                "createdAt": as_moment(row["created"]),
            }
            for row in found
        ]
        return {"items": items, **more}

    def get_event(self, said: Document) -> Document:
        """GetLineageEvent."""
        row = self.store.one("SELECT * FROM events WHERE id = ?", said["identifier"])
        if row is None:
            raise ApiError("ResourceNotFoundException", f"no lineage event {said['identifier']} in {self.domain_id}")
        return {
            "domainId": self.domain_id,
            "id": row["id"],
            "event": row["body"],
            "createdBy": CALLER,
            "processingStatus": row["status"],
            "eventTime": as_moment(row["moment"]),
            "createdAt": as_moment(row["created"]),
        }

    def get_node(self, said: Document) -> Document:
        """GetLineageNode."""
        until = as_micros(said["eventTimestamp"]) if "eventTimestamp" in said else _NEVER
        node = self._node(said["identifier"])
        if node is None:
            return self._asset_node(said["identifier"])
        version = self.store.one(
            "SELECT max(moment) AS moment, max(created) AS created FROM versions WHERE node = ? AND moment <= ?",
            node["id"],
            until,
        )
        if version is None or version["moment"] is None:
            raise ApiError(
                "ResourceNotFoundException", f"no version of {said['identifier']} at {said['eventTimestamp']}"
            )
        assets = self._assets_of(node) if node["type"] == DATASET else []
        return {
            **self._node_summary(node, version),
            "formsOutput": self._forms(node["id"], until),
            "upstreamNodes": self._neighbours(node["id"], until, upstream=True),
            "downstreamNodes": [*assets, *self._neighbours(node["id"], until, upstream=False)][:NEIGHBOURS],
        }

    def list_history(self, said: Document) -> Document:
        """ListLineageNodeHistory: the versions of a node, or of its neighbours in a ``direction``."""
        node = self._node(said["identifier"])
        if node is None:
            raise ApiError("ResourceNotFoundException", f"no lineage node {said['identifier']} in {self.domain_id}")
        whose = [node]
        if "direction" in said:
            upstream = said["direction"] == "UPSTREAM"
            near = self._neighbours(node["id"], _NEVER, upstream=upstream)
            whose = [other for one in near if (other := self._node(one["id"])) is not None]
        by_id = {one["id"]: one for one in whose}
        page, order = Page(said), "DESC" if said.get("sortOrder", "DESCENDING") == "DESCENDING" else "ASC"
        rows = self.store.all(
            f"SELECT * FROM versions WHERE node IN ({','.join('?' * len(by_id))}) AND moment BETWEEN ? AND ? "
            f"ORDER BY moment {order}, node LIMIT ? OFFSET ?",
            *by_id,
            as_micros(said["eventTimestampGTE"]) if "eventTimestampGTE" in said else -_NEVER,
            as_micros(said["eventTimestampLTE"]) if "eventTimestampLTE" in said else _NEVER,
            *page.limits,
        )
        some, more = page.cut(rows)
        return {"nodes": [self._node_summary(by_id[row["node"]], row) for row in some], **more}

    def settle(self) -> None:
        """Process what is due, in the order in which it was taken: called before anybody looks."""
        while True:
            row = self.store.one(
                "SELECT * FROM events WHERE status IN ('REQUESTED', 'PROCESSING') ORDER BY seq LIMIT 1"
            )
            if (
                row is None
                or self.faults.holds_processing()
                or row["created"] + self.seconds * _MICROS > self._created()
            ):
                break
            with self.store.transaction():
                status, reason = self._process(row)
                self.store.run("UPDATE events SET status = ?, reason = ? WHERE seq = ?", status, reason, row["seq"])
        half = self._created() - self.seconds * _MICROS / 2
        self.store.run("UPDATE events SET status = 'PROCESSING' WHERE status = 'REQUESTED' AND created <= ?", half)

    def counts(self) -> dict[str, int]:
        """How many events have each status."""
        rows = self.store.all("SELECT status, count(*) AS n FROM events GROUP BY status")
        return {row["status"]: row["n"] for row in rows}

    def _created(self) -> int:
        return int(self.now() * _MICROS)

    def _process(self, row: sqlite3.Row) -> tuple[str, str]:
        fault = self.faults.take(PROCESSING)
        if fault and fault.outcome == "FAILED":
            return "FAILED", "a fault was asked for"
        try:
            event = json.loads(row["body"])
            inputs, outputs = (datasets(event, side) for side in ("inputs", "outputs"))
        except UnprocessableError as error:
            return "FAILED", str(error)
        self._add_to_graph(event, inputs, outputs, row["moment"])
        return "SUCCESS", ""

    def _add_to_graph(self, event: Document, inputs: list[Document], outputs: list[Document], moment: int) -> None:
        job = f"{event['job']['namespace']}.{event['job']['name']}"
        run = self._touch(f"{job}/{event['run']['runId']}", JOB_RUN, event["job"]["name"], moment, job)
        about = {key: event[key] for key in ("eventType", "run", "job")}
        self._keep_form(run, RUN, moment, about)
        for dataset in inputs:
            node = self._touch(dataset["source"], DATASET, dataset["name"], moment, version=False)
            self._keep_facets(node, dataset, moment)
            self._join(node, run, moment)
        for dataset in outputs:
            node = self._touch(dataset["source"], DATASET, dataset["name"], moment)
            self._keep_facets(node, dataset, moment)
            self._join(run, node, moment)

    def _touch(self, source: str, kind: str, name: str, moment: int, job: str = "", *, version: bool = True) -> str:
        """The node's id; it is made when it is first heard of. An input's data does not change, so it gets no new version."""
        row = self.store.one("SELECT id FROM nodes WHERE source = ?", source)
        node: str = row["id"] if row else new_id()
        if row is None:
            self.store.run(
                "INSERT INTO nodes (id, source, type, name, job, created) VALUES (?, ?, ?, ?, ?, ?)",
                *(node, source, kind, name, job, self._created()),
            )
        first = self.store.one("SELECT min(moment) AS moment FROM versions WHERE node = ?", node)
        if version or first is None or first["moment"] is None or moment < first["moment"]:
            self.store.run("INSERT OR IGNORE INTO versions VALUES (?, ?, ?)", node, moment, self._created())
        return node

    def _join(self, upstream: str, downstream: str, moment: int) -> None:
        self.store.run(
            "INSERT INTO edges VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET moment = min(moment, excluded.moment)",
            *(upstream, downstream, moment),
        )

    def _keep_facets(self, node: str, dataset: Document, moment: int) -> None:
        for name in (SCHEMA, COLUMN_LINEAGE):
            if name in dataset["facets"]:
                self._keep_form(node, name, moment, dataset["facets"][name])

    def _keep_form(self, node: str, name: str, moment: int, content: Document) -> None:
        self.store.run("INSERT OR REPLACE INTO forms VALUES (?, ?, ?, ?)", node, name, moment, json.dumps(content))

    def _node(self, identifier: str) -> sqlite3.Row | None:
        return self.store.one(
            "SELECT * FROM nodes WHERE id = ? OR source = ?", identifier, identifier
        ) or self.store.one(
            "SELECT nodes.* FROM nodes JOIN versions ON node = id WHERE job = ? ORDER BY moment DESC LIMIT 1",
            identifier,
        )

    def _node_summary(self, node: sqlite3.Row, version: sqlite3.Row) -> Document:
        return {
            "domainId": self.domain_id,
            "id": node["id"],
            "name": node["name"],
            "typeName": node["type"],
            "typeRevision": "1",
            "sourceIdentifier": node["source"],
            "eventTimestamp": as_moment(version["moment"]),
            "createdAt": as_moment(node["created"]),
            "createdBy": CALLER,
            "updatedAt": as_moment(version["created"]),
            "updatedBy": CALLER,
        }

    def _forms(self, node: str, until: int) -> list[Document]:
        rows = self.store.all(
            "SELECT name, content, max(moment) FROM forms WHERE node = ? AND moment <= ? GROUP BY name ORDER BY name",
            *(node, until),
        )
        return [{"formName": row["name"], "content": row["content"]} for row in rows]

    def _neighbours(self, node: str, until: int, *, upstream: bool) -> list[Document]:
        """Of each job its last run, newest first; a run's datasets all."""
        near, here = ("upstream", "downstream") if upstream else ("downstream", "upstream")
        rows = self.store.all(
            f"SELECT id, max(moment) AS moment FROM edges JOIN nodes ON id = {near} WHERE {here} = ? AND moment <= ? "
            "GROUP BY CASE WHEN job = '' THEN id ELSE job END ORDER BY 2 DESC, 1 LIMIT ?",
            *(node, until, NEIGHBOURS),
        )
        return [{"id": row["id"], "eventTimestamp": as_moment(row["moment"])} for row in rows]

    def _assets_of(self, node: sqlite3.Row) -> list[Document]:
        rows = self.store.all(
            "SELECT id FROM (SELECT id, source, max(revision) FROM entities WHERE kind = 'ASSET' GROUP BY id) WHERE source = ?",
            node["source"],
        )
        return [{"id": row["id"]} for row in rows]

    def _asset_node(self, identifier: str) -> Document:
        row = self.store.one(
            "SELECT * FROM entities WHERE kind = 'ASSET' AND id = ? ORDER BY revision DESC LIMIT 1", identifier
        )
        if row is None:
            raise ApiError("ResourceNotFoundException", f"no lineage node {identifier} in {self.domain_id}")
        dataset = self._node(row["source"]) if row["source"] else None
        return {
            "domainId": self.domain_id,
            "id": row["id"],
            "name": json.loads(row["document"])["name"],
            "typeName": ASSET,
            "typeRevision": "1",
            "sourceIdentifier": row["source"],
            "formsOutput": [],
            "upstreamNodes": [{"id": dataset["id"]}] if dataset else [],
            "downstreamNodes": [],
        }
