"""### Release finance products

Asks a person whether a version that the quality gate has refused is to be published all the same, and does what they decide.

**Starts** when the gate has refused a version and none was held before (asset `finance_held`), and by hand.

**Inputs** the held version and the gate's report of it (`quality/finance/_held` and `quality/finance/<run>.json` in S3).

**Outputs** if released: the published schema `finance` (asset `finance_products`), whose relation `_publication` names who released it and
why; each relation's quality score in the catalog. In any case the decision (`quality/finance/_decisions/<run>/`).

#### Triage
Nothing waits for this but the held version: builds go on, and the first that passes the gate is published and makes the question pointless.
- `ask_person` waits: answer it under *Required actions*. It shows the failed checks and rows. To publish takes a reason, which every reader
  can see. Without an answer within 12 hours the version stays held; start this DAG by hand to be asked again.
- `ask_person` asks again although it was answered: to publish takes a reason of ten characters, or the answer came within five seconds of
  the question, which Airflow loses. Answer again.
- `find_held` is skipped: nothing is held, or readers have something newer. There is nothing to do.
- `release_held` is skipped: somebody, or the time-out, decided to keep it held.
- `release_held` fails with *expected a person and a reason*: nothing was published. Clear `ask_person` to be asked again.
- `release_held` fails with *which replaced it*: nothing was published. Clear `find_held` to be asked about what is held now.
- `release_held` fails with *the newer* or *the held version is forgotten*: nothing was published, and there is nothing left to decide.
- A held version is not asked about while an older question is open: answer that one (*Keep it held*), or fail its run.
- `release_held` fails otherwise: readers have the version before or the released one, never a mix. It is safe to clear it.
- `publish_scores` fails: only the catalog is behind. Clear it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from include.catalog.score_operators import PublishScoresOperator
from include.platform import pools
from include.platform.assets import FINANCE_HELD, FINANCE_PRODUCTS
from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.quality.operators import AskPersonOperator, FindHeldOperator, ReleaseHeldOperator
from include.warehouse.products import published_product

FINANCE = published_product("finance")
ANSWER_WITHIN = timedelta(hours=12)


@dag(
    schedule=[FINANCE_HELD],
    doc_md=__doc__,
    **dag_defaults(
        owner="finance-data",
        tags=[Tag.FINANCE, Tag.QUALITY],
        deadline=timedelta(hours=4),
        run_timeout=ANSWER_WITHIN + timedelta(hours=2),
    ),
)
def release_finance_products() -> None:
    find_held = FindHeldOperator(
        task_id="find_held", product=FINANCE, answer_within=ANSWER_WITHIN, pool=pools.WAREHOUSE_BUILD
    )
    ask_person = AskPersonOperator(task_id="ask_person", find_task_id="find_held", answer_within=ANSWER_WITHIN)
    release_held = ReleaseHeldOperator(
        task_id="release_held",
        product=FINANCE,
        find_task_id="find_held",
        ask_task_id="ask_person",
        pool=pools.WAREHOUSE_BUILD,
        outlets=[FINANCE_PRODUCTS],
    )
    publish_scores = PublishScoresOperator(task_id="publish_scores", product=FINANCE, built_by_task_id="release_held")

    find_held >> ask_person >> release_held >> publish_scores


release_finance_products()
