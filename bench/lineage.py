"""`lineage-spool`, `lineage-replay` and `lineage-share`: events a second into the spool on a disk, and from the spool into the catalog;
what telling lineage adds to a dbt task.

Spool: one dbt model's event, with column lineage, through the spool's transport: each is a file of its own, flushed to the disk
before it gets its name. Baseline, taken in turn: the OpenLineage client's own file transport appending the same events to one file,
not flushed to the disk.

Replay: a spool of which the catalog has nothing, sent by `reconcile_lineage`'s code without its rate limit, to the local DataZone
stand-in (loopback, no TLS: an upper bound for AWS). Baseline: boto3 posting the same bytes in a loop. A second run must then find
every event accepted.

Share: a build of TICKIT's graph by the task's own code, each in a process of its own as a task is, then telling all of it to a spool on
a disk and to the local DataZone stand-in, a process beside it. Baseline: that task without the telling, from its process's start to its
end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
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


SHARE_LIMIT = 0.03
_TASK = """
import json, sys, time
from pathlib import Path
from airflow.providers.openlineage.plugins import listener  # a task's process has it before the task begins
from include.catalog.dbt_lineage import emit_build, warm_up
from include.platform.paths import DBT_PROJECT_DIR
from include.platform.settings import load_settings
from include.warehouse.build import BuildReport, count_rows, run_build
from include.warehouse.connection import DuckDbConnection, StandsFor
from include.warehouse.dbt_run import DbtProcess
from include.warehouse.gateway import open_warehouse
from include.warehouse.object_store import s3_client
from include.warehouse.profile import inherited_environment, profile_environment
from include.warehouse.run_state import RunState, RunStateStore
from tests.include.catalog.emission import HOST, SOURCE_ARN, context

home, run_id = Path(sys.argv[1]), sys.argv[2]
connection = DuckDbConnection(
    home / "work.duckdb", home, {"aurora_zeroetl_integration": home / "replica.duckdb"}, stands_for=StandsFor(HOST, 5439, "dev")
)
profile = profile_environment(connection, threads=4, scratch=home, run_key=run_id)
settings = load_settings()
dbt = DbtProcess(settings.dbt_executable, DBT_PROJECT_DIR, home / "target", {**inherited_environment(), **profile})
store = RunStateStore(s3_client, settings.bucket, dag_id="bench", run_id=run_id, task_id="build_models")
began = time.perf_counter()
report = run_build(dbt, store, RunState("bench", "", False), 1, on_start=warm_up)
rows = count_rows(lambda: open_warehouse(connection, read_only=True), report.built_models)
began_telling = time.perf_counter()
assert report.error is None, report.error
report = BuildReport(report.state, report.outcome, rows=rows)
told = emit_build(context(run_id=run_id), report, connection, health={"source_arn": SOURCE_ARN})
ended = time.perf_counter()
assert not told.reason and len(rows) > 5, (told, rows)
print("ANSWER", json.dumps({"build": began_telling - began, "emit": ended - began_telling, "events": told.events}))
"""


def share(name: str) -> None:
    """A first build, which dbt parses the project for, is not counted."""
    from data_platform.lineage.config import JOB_NAMESPACE, transport_config
    from include.local.aurora.snapshot import build_snapshot
    from include.local.aws.trial import trial_aws
    from include.local.catalog.trial import trial_catalog
    from include.local.tickit.generate import generate

    told = list[dict[str, float]]()
    with (
        tempfile.TemporaryDirectory(prefix="lineage-") as folder,
        trial_catalog() as catalog,
        trial_aws(["data-platform"]) as aws,
    ):
        home = Path(folder)
        build_snapshot(generate("full"), home / "replica.duckdb")
        option = transport_config(
            spool=(home / "spool").as_uri(),
            region="us-east-1",
            account_id="123456789012",
            domain_id=catalog.domain_id,
            catalog_endpoint=catalog.url,
        )
        extra = {"region_name": "us-east-1", "endpoint_url": aws}
        environment = {
            **os.environ,
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": JOB_NAMESPACE,
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(option),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
                {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
            ),
            **{f"AWS_{key}": "test" for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")},
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for number in range(RUNS + 1):
            command = [sys.executable, "-c", _TASK, folder, f"bench_{number}"]
            began = time.perf_counter()
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            answers = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
            if not answers:
                raise SystemExit(
                    f"the build ended with exit code {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
                )
            told.append(json.loads(answers[0].removeprefix("ANSWER ")) | {"task": time.perf_counter() - began})
        spooled = len(list((home / "spool" / "events").rglob("*.json")))
        accepted = sum(event["status"] == "SUCCESS" for event in catalog.events)
    counted = told[1:]
    assert spooled == sum(one["events"] for one in told), spooled
    write_result(
        name,
        what="telling the lineage of a build, to the spool and to the catalog, after the last model",
        baseline="the rest of that task",
        unit="s",
        samples=[one["emit"] for one in counted],
        baseline_samples=[one["task"] - one["emit"] for one in counted],
        build_s=statistics.median(one["build"] for one in counted),
        events=told[0]["events"],
        posted_at_once=accepted / spooled,
        limits={"ratio": SHARE_LIMIT},
    )


PARTS = {"lineage-spool": spool, "lineage-replay": replay, "lineage-share": share}


def main(name: str) -> None:
    PARTS[name](name)


if __name__ == "__main__":
    main(sys.argv[1])
