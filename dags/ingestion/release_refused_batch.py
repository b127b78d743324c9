"""### Release refused batch

Lets a batch be ingested again that was refused because too many of its records could not be, or whose uploads are lost.

**Starts** by hand, with the batch, what is to be done, and why:

- *retry*, after a fix of the mapping or the limit: the share of dead letters counts again.
- *accept*: somebody has looked at the dead letters; the batch is published whatever share of it is set aside.
- *reopen*: for a batch that is committed and whose uploads can be neither completed nor found. What it had made visible is deleted, and
  it is ingested anew from its objects.

**Inputs** the batch in the ledger; of a refused one the dead letters below `refused/` in `data_platform.ingestion_bucket`, to look at
before.

**Outputs** the batch is planned again; `ingest_security_logs` is woken (asset `ingestion_waiting`). Who asked for it and why is in the
log of `release` and in the asset's event.

#### Triage
- `release` fails with *expected a batch*: there is no such batch; its id is in the message of the task that refused it.
- `release` fails with *expected it to be refused* or *to be committed*: it is in another state, which the message names; nothing was
  changed.
- `release` is green and `ingest_security_logs` refuses the batch again: the fix is not deployed, or does not help.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from include.ingestion.operators import ReleaseBatchOperator
from include.ingestion.params import batch_param
from include.platform.assets import INGESTION_ARRIVALS
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=None,
    doc_md=__doc__,
    params={
        "batch": batch_param("The id of the batch, as the task that refused it names it."),
        "action": Param(
            "retry",
            type="string",
            enum=["retry", "accept", "reopen"],
            title="What to do",
            description="Retry after a fix; accept whatever share is set aside; reopen a committed batch whose uploads are lost.",
        ),
        "why": Param(
            None,
            type="string",
            minLength=10,
            maxLength=1000,
            title="Reason",
            description="What was mended, or why the share of dead letters is acceptable. Part of the record.",
        ),
    },
    **dag_defaults(owner="security-data", tags=[Tag.SECURITY, Tag.INGESTION], deadline=timedelta(minutes=30)),
)
def release_refused_batch() -> None:
    ReleaseBatchOperator(task_id="release", outlets=[INGESTION_ARRIVALS])


release_refused_batch()
