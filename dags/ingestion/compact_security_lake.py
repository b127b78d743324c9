"""### Compact security lake

Makes a few large objects of the many small ones of a day, so that queries open fewer: by partition, for days that are over.

**Starts** daily, in the hours in which few ask, and by hand with the oldest day to look at and how long a day must have been over.

**Inputs** the lake's objects of this project's custom sources; the ledger, which knows whether an object's batch is published.

**Outputs** objects near 256 MiB, ordered by time, whose names begin with `compacted-`; the small ones are gone for them. No row is lost
and none is there twice, but for some ten milliseconds in which a reader that lists sees both.

#### Triage
Whoever dies leaves either nothing changed, or a journal by which the next run finishes first. Clearing is always safe.
- `find_partitions` fails: the lake or the ledger can't be reached.
- `find_partitions` warns that more partitions wait than a run takes: the next run goes on; start it by hand if that is too late.
- `compact_partition` fails with *somebody else compacting it*: another run is at it, or one that died was; its lease ends within half an
  hour.
- `compact_partition` fails with *expected to hold*: it took longer than its lease. Nothing is lost; clear it.
- `compact_partition` fails with *objects to be merged*, or with no room: the message has the last words of the process. Nothing was
  changed.
- `compact_partition` fails with *somebody has to look*, or with *columns* that don't fit: an object was replaced meanwhile, or written
  with other types. Nothing was deleted that was not merged; look at the keys that it names.
- A query failed with NoSuchKey or HIVE_CANNOT_OPEN_SPLIT while this ran: run it again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from include.ingestion.lake_operators import CompactPartitionOperator, FindPartitionsOperator
from include.ingestion.params import day_param, source_param
from include.platform import pools
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=CronTriggerTimetable("41 3 * * *", timezone="UTC"),
    doc_md=__doc__,
    params={
        "source": source_param(),
        "oldest_day": day_param("Days of events before this one are not looked at. Empty: the last 35 days are."),
        "grace_hours": Param(
            24,
            type="number",
            minimum=0,
            maximum=10_000,
            title="Grace (hours)",
            description="Only days that have been over for so long, and objects that are there for so long: late data comes meanwhile.",
        ),
    },
    **dag_defaults(
        owner="security-data",
        tags=[Tag.SECURITY, Tag.INGESTION],
        deadline=timedelta(hours=6),
        task_timeout=timedelta(hours=3),
    ),
)
def compact_security_lake() -> None:
    find_partitions = FindPartitionsOperator(task_id="find_partitions")
    CompactPartitionOperator.partial(
        task_id="compact_partition",
        pool=pools.SECURITY_LAKE,
        map_index_template="{{ task.partition['custom_source'] }} {{ task.partition['event_day'] }}",
    ).expand(partition=find_partitions.output)


compact_security_lake()
