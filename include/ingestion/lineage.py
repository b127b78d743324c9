"""What a published batch is told of in OpenLineage, and in the events of Airflow's assets.

A batch is one run event: raw objects in, custom sources of the lake and dead letters out. Its statistics are the counts of the ledger:
records read, rows written for each custom source, records set aside; so read = written + set aside can be seen in the catalog, too. Who
tells a batch again, a retry for one, tells the same event. Of what is in records nothing is told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.dead_letters import PREFIX as DEAD_LETTERS
from include.ingestion.dead_letters import REPLAY_PREFIX
from include.ingestion.kinesis import LANDING_PREFIX
from include.ingestion.security_lake import custom_source_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openlineage.client.event_v2 import RunEvent

    from include.catalog.run_events import TaskRun
    from include.ingestion.ledger import Batch, Ledger, Upload
    from include.ingestion.notices import ObjectVersion

RECONCILED: Final = "read = written + set aside"
SHARE: Final = "dead letter share"


def custom_sources(batch: Batch, uploads: Sequence[Upload]) -> dict[str, dict[str, Any]]:
    """What a batch has added to each custom source of the lake; extra of its asset's event.

    Args:
        batch: that is published.
        uploads: its outputs.
    """
    counts = batch.counts
    whole = {"batch": batch.batch_id, "read": counts.read, "written": counts.written, "set_aside": counts.set_aside}
    found: dict[str, dict[str, Any]] = {}
    for upload in uploads:
        if upload.kind != "lake":
            continue
        name = custom_source_name(batch.source, str(upload.detail["class"]))
        told = found.setdefault(name, {"rows": 0, "bytes": 0, "objects": 0, "event_days": [], **whole})
        told["rows"] += upload.rows
        told["bytes"] += upload.bytes
        told["objects"] += 1
        told["event_days"] = sorted({*told["event_days"], str(upload.detail["event_day"])})
    return found


def batch_events(
    task: TaskRun, batch: Batch, ledger: Ledger, *, lake_bucket: str, dead_letter_bucket: str, allowed_share: float
) -> Iterator[RunEvent]:
    """The event of a published batch.

    Args:
        task: that ingested it.
        batch: as the ledger has it.
        ledger: has its objects and outputs.
        lake_bucket: of the lake.
        dead_letter_bucket: of the dead letters.
        allowed_share: the largest share that may be set aside, 0 to 1.
    """
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import (
        documentation_job,
        input_statistics_input_dataset,
        job_type_job,
        output_statistics_output_dataset,
    )

    from include.quality.assertions import FACET

    moment = datetime.fromisoformat(batch.published).astimezone(UTC)
    inputs: list[InputDataset] = []
    for (bucket, name), told in sorted(_read(batch, ledger).items()):
        statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=told["read"], size=told["bytes"], fileCount=told["objects"]
        )
        facets: dict[str, Any] = {"inputStatistics": statistics}
        if not inputs:
            facets[FACET] = _assertions(batch, allowed_share)
        inputs.append(InputDataset(f"s3://{bucket}", name, inputFacets=facets))
    outputs = []
    written = custom_sources(batch, ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, []))
    places = [
        (lake_bucket, f"ext/{name}", told["rows"], told["bytes"], told["objects"]) for name, told in written.items()
    ]
    if batch.counts.set_aside:
        places.append((dead_letter_bucket, f"{DEAD_LETTERS}/source={batch.source}", batch.counts.set_aside, None, None))
    for bucket, name, rows, size, files in places:
        facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=rows, size=size, fileCount=files
        )
        outputs.append(OutputDataset(f"s3://{bucket}", name, outputFacets={"outputStatistics": facet}))
    yield RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=moment.isoformat(),
        run=Run(task.child_run(moment, "batch", batch.batch_id), {"parent": task.parent(task.attempt)}),
        job=Job(
            task.namespace,
            f"{task.job}.batch",
            {
                "jobType": job_type_job.JobTypeJobFacet("BATCH", "AIRFLOW", "INGESTION"),
                "documentation": documentation_job.DocumentationJobFacet(
                    f"Maps raw records of {batch.source} to OCSF events in the data lake."
                ),
            },
        ),
        inputs=inputs,
        outputs=outputs,
    )


def _read(batch: Batch, ledger: Ledger) -> dict[tuple[str, str], Counter[str]]:
    """Records, bytes and objects by where they were read from."""
    read = {found.identity: found.read for found in ledger.findings(batch.batch_id, batch.commit)}
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for member in ledger.members(batch.batch_id):
        version = member.version
        told = {"read": read.get(version.identity, 0), "bytes": version.size, "objects": 1}
        found[version.bucket, _dataset(version, batch.source)].update(told)
    return found


def _dataset(version: ObjectVersion, source: str) -> str:
    """One for a source in a bucket: keys are too many, and their prefixes are the owner's choice."""
    landed = next((p for p in (REPLAY_PREFIX, LANDING_PREFIX) if version.key.startswith(f"{p}/source={source}/")), None)
    return f"{landed}/source={source}" if landed else source


def _assertions(batch: Batch, allowed_share: float) -> Any:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    counts = batch.counts
    accounted = counts.written + counts.set_aside
    share = counts.set_aside / counts.read if counts.read else 0.0
    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion="row_count",
            success=counts.read == accounted,
            severity="error",
            name=RECONCILED,
            expected=str(counts.read),
            actual=str(accounted),
        ),
        data_quality_assertions_dataset.Assertion(
            assertion="custom",
            success=share <= allowed_share,
            severity="error",
            name=SHARE,
            expected=f"<= {allowed_share:g}",
            actual=f"{share:.6g}",
            params={"reasons": dict(counts.reasons)},
        ),
    ]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
