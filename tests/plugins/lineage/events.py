"""Run events as the platform emits them, for the lineage tests."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    dataset_type_dataset,
    parent_run,
    sql_job,
    symlinks_dataset,
)
from openlineage.client.serde import Serde

WAREHOUSE = "redshift://zero-etl-destination.us-east-1:5439"
NAMES = {"account_id": "123456789012", "region": "us-east-1", "view_schemas": ["finance"]}
MOMENT = datetime(2026, 1, 31, 8, 30, 0, 123456, tzinfo=UTC)


def run_event(
    moment: datetime | str = MOMENT,
    *,
    run_id: str | None = None,
    state: RunState = RunState.COMPLETE,
    job: str = "build_finance_products.build_models.rpt_top",
    sql: str = "",
) -> RunEvent:
    """One dbt model's event: a source of the integration, an internal table, an output with column lineage."""
    source = InputDataset(namespace=WAREHOUSE, name="aurora_zeroetl_integration.demodb.sales")
    internal = InputDataset(namespace=WAREHOUSE, name="dev.build_finance.fct_sales")
    fields = [
        column_lineage_dataset.InputField(namespace=WAREHOUSE, name=source.name, field="pricepaid"),
        column_lineage_dataset.InputField(namespace=WAREHOUSE, name=internal.name, field="revenue"),
    ]
    columns = column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={"revenue": column_lineage_dataset.Fields(inputFields=fields)}, dataset=[fields[0]]
    )
    links = symlinks_dataset.SymlinksDatasetFacet(
        identifiers=[symlinks_dataset.Identifier(namespace=WAREHOUSE, name="dev.finance.rpt_old", type="TABLE")]
    )
    output = OutputDataset(
        namespace=WAREHOUSE, name="dev.finance.rpt_top", facets={"columnLineage": columns, "symlinks": links}
    )
    parent = parent_run.ParentRunFacet(
        run=parent_run.Run(runId="019c0000-0000-7000-8000-00000000000a"),
        job=parent_run.Job(namespace="data-platform", name="build_finance_products.build_models"),
    )
    return RunEvent(
        eventType=state,
        eventTime=moment if isinstance(moment, str) else moment.isoformat(),
        run=Run(runId=run_id or str(uuid.uuid4()), facets={"parent": parent}),
        job=Job(namespace="data-platform", name=job, facets={"sql": sql_job.SQLJobFacet(query=sql)} if sql else {}),
        inputs=[source, internal],
        outputs=[output],
    )


def as_json(event: RunEvent) -> dict[str, Any]:
    return json.loads(Serde.to_json(event))


def view_type() -> dataset_type_dataset.DatasetTypeDatasetFacet:
    return dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="VIEW")
