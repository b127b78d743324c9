"""`lineage-spool` and `lineage-replay`: events a second into the spool on a disk, and from the spool into the catalog.

Spool: one dbt model's event, with column lineage, through the spool's transport: each is a file of its own, flushed to the disk
before it gets its name. Baseline, taken in turn: the OpenLineage client's own file transport appending the same events to one file,
not flushed to the disk.

Replay: a spool of which the catalog has nothing, sent by `reconcile_lineage`'s code without its rate limit, to the local DataZone
stand-in (loopback, no TLS: an upper bound for AWS). Baseline: boto3 posting the same bytes in a loop. A second run must then find
every event accepted.
"""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset, schema_dataset
from openlineage.client.transport.file import FileConfig, FileTransport

from bench._result import percentile, write_result
from data_platform.lineage.events import client_token
from data_platform.lineage.naming import Naming, rename_datasets
from data_platform.lineage.size import fit
from data_platform.lineage.spool import SpoolConfig, SpoolTransport, wire
from data_platform.lineage.store import open_store
from include.catalog.reconcile import Options, Reconciler, Report
from include.catalog.reconcile_catalog import LineageCatalog
from include.catalog.spool import Spool

RUNS = 5
SPOOLED = 1000
REPLAYED = 500
COLUMNS = 12
WAREHOUSE = "redshift://zero-etl-destination.us-east-1:5439"
NAMES = Naming.from_properties({"account_id": "123456789012", "region": "us-east-1", "view_schemas": ["finance"]})


def events(count: int) -> list[RunEvent]:
    """A build's events: each has two inputs and an output of some columns with their lineage."""
    moment = datetime.now(UTC) - timedelta(minutes=30)
    inputs = [f"dev.build_finance.fct_{name}" for name in ("sales", "listings")]
    fields = {
        f"column_{number}": column_lineage_dataset.Fields(
            inputFields=[column_lineage_dataset.InputField(WAREHOUSE, name, f"column_{number}") for name in inputs]
        )
        for number in range(COLUMNS)
    }
    types = [schema_dataset.SchemaDatasetFacetFields(name=name, type="numeric(18,2)") for name in fields]
    facets = {
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields),
        "schema": schema_dataset.SchemaDatasetFacet(fields=types),
    }
    return [
        RunEvent(
            eventType=RunState.COMPLETE,
            eventTime=(moment + timedelta(microseconds=number)).isoformat(),
            run=Run(runId=str(uuid.uuid4())),
            job=Job(namespace="data-platform", name=f"build_finance_products.build_models.model_{number}"),
            inputs=[InputDataset(WAREHOUSE, name) for name in inputs],
            outputs=[OutputDataset(WAREHOUSE, f"dev.build_finance.model_{number}", facets=facets)],
        )
        for number in range(count)
    ]


def emit(transport: Any, batch: list[RunEvent]) -> list[float]:
    """Seconds that each event took."""
    taken = []
    for event in batch:
        began = time.perf_counter()
        transport.emit(event)
        taken.append(time.perf_counter() - began)
    return taken


def spool(name: str) -> None:
    ours, theirs, each = [], [], list[float]()
    for _ in range(RUNS):
        batch = events(SPOOLED)
        with tempfile.TemporaryDirectory(prefix="lineage-") as folder:
            theirs.append(SPOOLED / sum(emit(FileTransport(FileConfig(f"{folder}/all.json", append=True)), batch)))
            transport = SpoolTransport(SpoolConfig(Path(folder).as_uri()))
            taken = emit(transport, batch)
            assert transport.counts == {"spooled": SPOOLED}, transport.counts
        ours.append(SPOOLED / sum(taken))
        each += taken
    write_result(
        name,
        what="lineage events into the spool, each a file flushed to the disk",
        baseline="the client's file transport: appended to one file, not flushed to the disk",
        unit="events/s",
        samples=ours,
        baseline_samples=theirs,
        event_bytes=len(fit(wire(batch[0])).body),
        emit_p50_ms=percentile(each, 0.5) * 1000,
        emit_p99_ms=percentile(each, 0.99) * 1000,
    )


def reconcile(folder: Path, catalog: LineageCatalog) -> Report:
    """One run without a rate limit."""
    options = Options(events_per_second=0, max_events=10 * REPLAYED)
    return Reconciler(Spool(open_store(folder.as_uri())), catalog, NAMES, options).run()


def settle(folder: Path, catalog: LineageCatalog) -> Report:
    """Run until nothing is pending."""
    deadline = time.monotonic() + 60
    while (report := reconcile(folder, catalog)).pending and time.monotonic() < deadline:
        time.sleep(0.2)
    return report


def replay(name: str) -> None:
    from include.local.catalog.trial import trial_catalog

    ours, theirs, checks = [], [], []
    with trial_catalog() as served:
        client = served.client()
        catalog = LineageCatalog(client, served.domain_id)
        for _ in range(RUNS):
            batch = [wire(event) for event in events(REPLAYED)]
            for event in batch:
                rename_datasets(event, NAMES)
            bodies = [(fit(event).body, client_token(event)) for event in batch]
            began = time.perf_counter()
            for body, token in bodies:
                client.post_lineage_event(domainIdentifier=served.domain_id, event=body, clientToken=token)
            theirs.append(REPLAYED / (time.perf_counter() - began))
            with tempfile.TemporaryDirectory(prefix="lineage-") as folder:
                emit(SpoolTransport(SpoolConfig(Path(folder).as_uri())), events(REPLAYED))
                began = time.perf_counter()
                sent = reconcile(Path(folder), catalog)
                ours.append(REPLAYED / (time.perf_counter() - began))
                assert sent.replayed == REPLAYED, sent
                began = time.perf_counter()
                report = settle(Path(folder), catalog)
                checks.append(time.perf_counter() - began)
                assert (report.accepted, report.pending, report.rejected) == (REPLAYED, 0, 0), report
    write_result(
        name,
        what="lineage events from the spool into the local catalog by `reconcile_lineage`, all accepted afterwards",
        baseline="boto3 posting the same bytes in a loop",
        unit="events/s",
        samples=ours,
        baseline_samples=theirs,
        check_s=max(checks),
    )


PARTS = {"lineage-spool": spool, "lineage-replay": replay}
"""`lineage-share`, the share of a dbt task's time, joins here."""


def main(name: str) -> None:
    PARTS[name](name)


if __name__ == "__main__":
    main(sys.argv[1])
