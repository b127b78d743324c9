"""### Register security lake sources

Makes each class of each source a custom source of Amazon Security Lake, with its Glue table and the partitions of what was published.

**Starts** daily, and by hand after a source was added or its mapping has got a new class.

**Inputs** `classes.json` of each source: the classes that its mapping makes, with their columns; the ledger's published batches of the
last *Days*; the connection `aws_ingestion`; `data_platform.ingestion_lake_account`, `…_crawler_role`, `…_principal` and `…_external_id`.

**Outputs** custom sources, tables and partitions; what is there already and as wanted stays as it is. Tables only grow.

#### Triage
Events are in the lake whether this runs or not; without it queries by Glue don't see them. It is safe at any time, and goes on where it
ended.
- `register_sources` fails with *expected Security Lake in*: it isn't enabled in that region, or not ready.
- `register_sources` fails with *at most 50 custom sources*: nothing was changed. Remove some, or map to fewer classes.
- `register_sources` fails with *is not as wanted*: a custom source of that name is somebody else's, or was made with another role or
  external id. The message has the differences.
- `register_sources` fails with *only to grow*: a column would change its type. Keep the type, or give the attribute another name.
- `register_sources` warns of a source without `classes.json`: generate it (`make check-sources` says how).
- `register_partitions` warns of custom sources without a table: events of a class that `classes.json` lacks; generate it anew.
- `register_partitions` fails with *refused*: Glue has not taken some; clear it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from include.ingestion.lake_operators import RegisterPartitionsOperator, RegisterSourcesOperator
from include.ingestion.params import source_param
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=CronTriggerTimetable("23 2 * * *", timezone="UTC"),
    doc_md=__doc__,
    params={
        "source": source_param(),
        "days": Param(
            3,
            type="integer",
            minimum=1,
            maximum=400,
            title="Days",
            description="Partitions of batches that were planned on so many days, today included, are added where they are missing.",
        ),
    },
    **dag_defaults(owner="security-data", tags=[Tag.SECURITY, Tag.INGESTION], deadline=timedelta(hours=1)),
)
def register_security_lake_sources() -> None:
    RegisterSourcesOperator(task_id="register_sources") >> RegisterPartitionsOperator(task_id="register_partitions")


register_security_lake_sources()
