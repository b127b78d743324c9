"""### Ingest security logs

Brings raw security logs into the data lake as OCSF events, each object version exactly once: receive → plan → ingest → summary.

**Starts** when the queue holds notices of S3 (asset `ingestion_queue`), when a stream, a replay or a released batch has put something
into the ledger (asset `ingestion_waiting`), by `data_platform.ingestion_schedule` in any case, and by hand. A run takes what the ledger
knows, never what started it.

By hand, *Day* lists what was written to the raw buckets on that day and takes what was never ingested; *Prefix* narrows that down, or
lists without a day; *Source* narrows it to one. *Don't wait* plans batches that aren't full yet. Without a queue
(`data_platform.ingestion_queue_url` empty) each run lists.

**Inputs** the SQS queue and the raw buckets; the sources in `include/ingestion/sources`, each with its mapping; the connection
`aws_ingestion`.

**Outputs** Parquet in the lake, one custom source for each class of a source (alias `security_lake_sources`, with the counts of each
batch in the event), and its partitions in Glue; what can't be ingested below `dead-letters/` in `data_platform.ingestion_bucket`, with
reason and raw bytes; read = written + set aside for each batch, in the ledger, the log of `summarise` and the catalog.

#### Triage
Nothing is lost by a failure: what was received is in the ledger and waits. Of a batch that isn't committed nothing is in the lake.
Clearing a task is always safe: it goes on, or finds that it is done.
- `receive_objects` fails: the queue or the ledger can't be reached. Messages stay in the queue, or come again. Its log counts notices
  that can't be read (kept below `dead-letters/notices/`) and objects that no source takes; correct `objects.key` of the source, then run
  by hand with that *Day*.
- `receive_objects` fails with a file's name: that `source.yaml` is broken. Mend and deploy it; `make check-sources` says the same before.
- `plan_<source>` warns that more waits than may be planned: batches of the source don't get published; look at its `ingest_<source>`.
- `ingest_<source>` fails with *expected at most … of the records to be set aside*: the batch is refused, nothing of it is published. Its
  dead letters are below `refused/`. Mend the mapping or the limit, then run `release_refused_batch`.
- `ingest_<source>` fails with *counts that add up*, or with the engine's last words: an error of the engine or its environment. The batch
  stays planned and is tried again by each run.
- `ingest_<source>` fails with *no room* or *no memory left*: lower `batches.max_mib` of the source, or give workers more.
- `ingest_<source>` fails with *expected the upload of*: an upload was aborted before it was completed. Run `release_refused_batch` with
  *Reopen*.
- `ingest_<source>` warns of objects that are gone: they were deleted or replaced before they were read; the newer version comes by
  itself.
- `ingest_<source>` fails with *partitions* or an error of Glue: the batch is published, but queries by Glue don't see new days. Clear it.
  It warns of a custom source without a table: run `register_security_lake_sources`.
- `summarise` is red: it names batches that are not published; their tasks say why. It is skipped where there was nothing to ingest.
- All is skipped after `receive_objects`: nothing waits, or not long enough (`batches.wait_seconds` of the source) to be a batch.
- Dead letters after a fix: `replay_dead_letters`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule, dag

from include.ingestion.operators import (
    IngestBatchOperator,
    PlanBatchesOperator,
    ReceiveOperator,
    SummariseOperator,
)
from include.ingestion.params import day_param, flag, known_sources, source_param
from include.platform import pools
from include.platform.assets import INGESTION_QUEUE, INGESTION_WAITING, SECURITY_LAKE_SOURCES
from include.platform.policy import dag_defaults
from include.platform.settings import load_settings
from include.platform.tags import Tag


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(load_settings().ingestion_schedule, timezone="UTC"),
        assets=INGESTION_QUEUE | INGESTION_WAITING,
    ),
    doc_md=__doc__,
    params={
        "source": source_param(),
        "day": day_param(
            "List what was written to the raw buckets on this day, for a backfill. Empty: take the queue."
        ),
        "prefix": Param(
            None,
            type=["null", "string"],
            minLength=1,
            maxLength=1024,
            title="Prefix",
            description="List only what is below it; the narrower, the faster. Empty: the setting's.",
        ),
        "flush": flag("Don't wait", "Plan batches that are not full yet, however short their objects have waited."),
    },
    **dag_defaults(
        owner="security-data",
        tags=[Tag.SECURITY, Tag.INGESTION],
        deadline=timedelta(hours=1),
        task_timeout=timedelta(hours=2),
        run_timeout=timedelta(hours=8),
    ),
)
def ingest_security_logs() -> None:
    plans = {source: f"plan_{source}" for source in known_sources()}
    receive_objects = ReceiveOperator(
        task_id="receive_objects", plan_task_ids=plans, execution_timeout=timedelta(minutes=30)
    )
    summarise = SummariseOperator(
        task_id="summarise",
        receive_task_id="receive_objects",
        trigger_rule=TriggerRule.ALL_DONE,  # receive_objects skips it where there is nothing to plan
    )
    receive_objects >> summarise

    for source, plan_id in plans.items():
        plan = PlanBatchesOperator(task_id=plan_id, source=source)
        ingest = IngestBatchOperator.partial(
            task_id=f"ingest_{source}",
            pool=pools.ingest_pool(source),
            map_index_template="{{ task.batch_id }}",
            outlets=[SECURITY_LAKE_SOURCES],
        ).expand(batch_id=plan.output)
        receive_objects >> plan >> [ingest, summarise]
        ingest >> summarise


ingest_security_logs()
