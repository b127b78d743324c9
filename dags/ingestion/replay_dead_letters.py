"""### Replay dead letters

Lets records that could not be ingested come in again, after a fix: those of a day, or of one batch.

**Starts** by hand, with the source. *Day* is the day on which the batch was planned, as in the dead letters' keys; *Reason* narrows it to
one, such as `unmapped_kind`. *Dry run* counts, and changes nothing.

**Inputs** the dead letters of published batches below `dead-letters/` in `data_platform.ingestion_bucket`.

**Outputs** landing objects below `replays/` there, received in the ledger; `ingest_security_logs` is woken (asset `ingestion_waiting`). A
record that fails again becomes a dead letter of its new batch.

#### Triage
A dead letter is replayed once, however often this runs: the landing object and the mark of what it holds are one transaction. So clearing
or starting it again is safe, and finds 0 records when all were replayed.
- `replay` fails with *a day or a batch*: give exactly one of them.
- `replay` fails with *expected a published batch*: a refused batch's records were never let out; run `release_refused_batch`.
- `replay` fails with *expected gzip of JSON lines*, *whole records* or *found that they are gone*: the file was changed or removed. What
  came before it was replayed. The raw objects may still be there.
- The run is green and `ingest_security_logs` refuses the new batch: the fix did not help these records, or not enough of them. Look below
  `refused/`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from include.ingestion.operators import ReplayDeadLettersOperator
from include.ingestion.params import batch_param, day_param, flag, source_param
from include.platform.assets import INGESTION_ARRIVALS
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=None,
    doc_md=__doc__,
    params={
        "source": source_param(every=False),
        "day": day_param("Batches that were planned on this day. Empty: give a batch."),
        "batch": batch_param("One batch. Empty: give a day.", optional=True),
        "reason": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z][a-z_]{0,63}$",
            title="Reason",
            description="Only records that were set aside for it. Empty: all.",
        ),
        "dry_run": flag("Dry run", "Count what would be replayed, by reason. Changes nothing."),
    },
    **dag_defaults(owner="security-data", tags=[Tag.SECURITY, Tag.INGESTION], deadline=timedelta(hours=1)),
)
def replay_dead_letters() -> None:
    ReplayDeadLettersOperator(task_id="replay", outlets=[INGESTION_ARRIVALS])


replay_dead_letters()
