"""### Ingest security stream

Lands what Kinesis streams hold of security logs as objects that wait for a batch: each record once, in the order of its shard.

**Starts** by `data_platform.ingestion_schedule`, and by hand, for one source or all that name a stream (`stream.name` in `source.yaml`).

**Inputs** the streams, through the connection `aws_ingestion`. The ledger has a lease and a checkpoint for each shard. Up to four tasks
share a stream's shards: each takes those that nobody else reads, for two minutes at most.

**Outputs** landing objects below `streams/` in `data_platform.ingestion_bucket`, received in the ledger; `ingest_security_logs` is woken
(asset `ingestion_waiting`) and maps them like any other object.

#### Triage
A stream keeps records for its retention period (24 hours unless it was raised): that is how long this may fail without a loss.
- `find_readers` warns of a stream that isn't there: make it, or correct `stream.name`.
- `read_stream` was killed or failed: clear it, or wait for the next run. A range that was begun is landed exactly as it was begun;
  nothing comes twice.
- `read_stream` tells of shards that are *taken*: another task reads them; or one that died did, then its lease ends within two minutes.
- `read_stream` tells of shards that are *throttled*: somebody else reads the stream as well. They are left to the next run. Give the
  stream more shards, or the other reader an enhanced fan-out.
- `read_stream` fails with *are gone*, *is gone* or *keeps records for*: records were forgotten before they were read, or may have been.
  Other shards were read. The message names the shard and the gap. Get the records from where they come from if you can, then start a run
  with the source, *Accept the gap of shard* and why; the ledger keeps the gap. Then find out why this did not run.
- `find_readers` fails with *to accept a gap*: give the source and the reason, too.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from include.ingestion.operators import FindReadersOperator, ReadStreamOperator
from include.ingestion.params import source_param
from include.platform.assets import INGESTION_ARRIVALS
from include.platform.policy import dag_defaults
from include.platform.settings import load_settings
from include.platform.tags import Tag


@dag(
    schedule=CronTriggerTimetable(load_settings().ingestion_schedule, timezone="UTC"),
    doc_md=__doc__,
    params={
        "source": source_param(),
        "accept_gap": Param(
            None,
            type=["null", "string"],
            pattern=r"^shardId-\d{12}$",
            title="Accept the gap of shard",
            description="Lets this shard go on, though some of its records may be gone for ever. Needs a source and a reason.",
        ),
        "why": Param(
            None,
            type=["null", "string"],
            minLength=10,
            maxLength=1000,
            title="Reason",
            description="Why a gap is accepted: what was done to get the records otherwise. The ledger keeps it.",
        ),
    },
    **dag_defaults(
        owner="security-data",
        tags=[Tag.SECURITY, Tag.INGESTION],
        deadline=timedelta(minutes=30),
        task_timeout=timedelta(minutes=20),
    ),
)
def ingest_security_stream() -> None:
    find_readers = FindReadersOperator(task_id="find_readers")
    ReadStreamOperator.partial(
        task_id="read_stream",
        seconds=120.0,
        map_index_template="{{ task.reader['stream'] }} {{ task.reader['reader'] }}",
        outlets=[INGESTION_ARRIVALS],
    ).expand(reader=find_readers.output)


ingest_security_stream()
