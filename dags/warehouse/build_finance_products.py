"""### Build the finance products

Builds and tests the dbt models on the replicated TICKIT tables and publishes the finance reports: replication healthy → dbt →
quality gate → publish.

**Starts** when the zero-ETL integration's replicated checkpoint has moved on (asset `tickit_checkpoint`), hourly in any case, and by hand.
By hand, *Full refresh* rebuilds the incremental models from all history; *Selection* builds and tests a part of the graph and publishes
nothing: a version of relations from two builds would be wrong in a way nobody notices.

**Inputs** the database of the zero-ETL integration (connection `zero_etl_tickit`); the warehouse (connection `warehouse_build`); the data
contracts in `include/data_products/finance`.

**Outputs** the published schema `finance` (asset `finance_products`); once all models succeeded, one asset event for each that ran (alias
`finance_models`), with its duration, its rows and the address of its log; the gate's report in S3 (`quality/finance/<run>.json`), and, once
published, each relation's quality score in the catalog; one lineage event for each model, checked relation and published relation; dbt's
documentation (menu *Browse → dbt docs*).

#### Triage
Consumers read the published version, so a failed run costs freshness, never correctness: the version before stays.
- `check_replication` fails: the replication is ill; the message names table, state and reason, and the statement that mends it.
- `build_models` fails: its message, the run's note and the XCom `dbt_summary` have dbt's words. A model failed: mend the model, or the
  connection to the warehouse. A test failed: look at the rows it complains of before you change the test; once the source is mended, clear
  the task. A retry, or clearing the task, goes on from a failed model: models that succeeded in this run are not built again. It builds
  everything, from the source as it is then, if a data test failed, the project has changed or another run has built since; the log says so.
- `build_models` fails at once with *param select*: the selection is malformed, or matches nothing. Nothing was changed; start another run.
- `check_quality` fails with *checks did not pass*: the data breaks a contract. The log, the run's note and the XCom `quality_report` tell
  the check, the measured value and rows that fail. Readers and everything that listens to `finance_products` keep the version before. Mend
  the source: the next build that passes is published by itself. What failed is kept (`hold_products`); `release_finance_products` asks a
  person whether to publish it all the same.
- `check_quality` fails with *could not be evaluated*: a rule's SQL or the warehouse is at fault, nothing is known of the data. The message
  has the engine's words. Mend the rule in the contract, deploy, clear the task.
- `check_quality` fails with a file, line and column: that contract is malformed. `make check-contracts` tells the same before a deployment.
- `check_quality` fails otherwise (Soda missing, stopped or too slow, no login to the warehouse): nothing is known of the data; the message
  says what to do. Clear the task.
- `check_quality` fails with *expected the relations of this run*: another run has built since. Start a new run.
- `hold_products` fails: readers are not concerned; what failed is in the audit schema until the next build. Clear the task.
- `publish_products` fails with *expected the quality gate to have passed*: somebody marked `check_quality` as success; that publishes
  nothing.
- `check_quality` and all after it are skipped: a selection was built, readers keep the version before. Run without selection to publish.
- `publish_products` fails: readers see the version before. Disk full: free some space, clear the task. It is safe to run it again.
- `retire_old_versions` fails: old versions stay readable and cost space; the next run tries again.
- `publish_scores` fails: the catalog shows the scores of the version before; no reader of the data is concerned. Clear the task.
- `write_docs` fails: the documentation is that of the project before; the next run tries again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule, dag

from data_platform.zero_etl.operators import ZeroEtlHealthOperator
from include.catalog.score_operators import PublishScoresOperator
from include.platform import connections, pools
from include.platform.assets import (
    FINANCE_HELD_VERSIONS,
    FINANCE_MODELS,
    FINANCE_PRODUCTS,
    TICKIT_CHECKPOINT,
    model_asset,
)
from include.platform.policy import dag_defaults
from include.platform.settings import DbtExecution, load_settings
from include.platform.tags import Tag
from include.quality.operators import CheckQualityOperator, HoldProductsOperator
from include.warehouse.manifest import load_models
from include.warehouse.operators import (
    BuildModelsOperator,
    PublishProductsOperator,
    RetireVersionsOperator,
    WriteDocsOperator,
)
from include.warehouse.products import published_product, source_tables
from include.warehouse.selection import MAX_SELECTION_LENGTH, SELECTION_PATTERN

FINANCE = published_product("finance")
SETTINGS = load_settings()
EXECUTION = SETTINGS.dbt_execution

FULL_REFRESH = Param(
    False,
    type="boolean",
    title="Full refresh",
    description="Build the incremental models anew from all history. Takes longer; readers see the version before until it is done.",
)
SELECTION = Param(
    None,
    type=["null", "string"],  # the form takes an empty text for a missing one and would refuse to start
    pattern=SELECTION_PATTERN,
    maxLength=MAX_SELECTION_LENGTH,
    title="Selection",
    description="dbt node selection, such as `fct_sales+ tag:finance`: builds this part and publishes nothing. Empty builds everything "
    "and publishes it.",
)


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("17 * * * *", timezone="UTC"), assets=[TICKIT_CHECKPOINT]
    ),
    doc_md=__doc__,
    # Cosmos' graph is fixed at parse time: a selection can only be given to the one-process build.
    params={"full_refresh": FULL_REFRESH} | ({"select": SELECTION} if EXECUTION is DbtExecution.GRAPH else {}),
    **dag_defaults(owner="finance-data", tags=[Tag.FINANCE, Tag.DBT, Tag.ZERO_ETL], deadline=timedelta(minutes=30)),
)
def build_finance_products() -> None:
    check_replication = ZeroEtlHealthOperator(
        task_id="check_replication",
        zero_etl_conn_id=connections.ZERO_ETL_TICKIT,
        required_tables=source_tables("ops"),
        history_tables=("listing", "sales") if SETTINGS.zero_etl_history_mode else (),
        lag_limit_seconds=300,
        timeout_seconds=900,
    )
    if EXECUTION is DbtExecution.GRAPH:
        build_models = BuildModelsOperator(
            task_id="build_models",
            health_task_id="check_replication",
            pool=pools.WAREHOUSE_BUILD,
            outlets=[FINANCE_MODELS],
        )
    else:
        from include.warehouse.cosmos_graph import model_tasks

        build_models = model_tasks("build_models", EXECUTION)
    check_quality = CheckQualityOperator(
        task_id="check_quality", product=FINANCE, build_task_id="build_models", pool=pools.WAREHOUSE_BUILD
    )
    hold_products = HoldProductsOperator(
        task_id="hold_products",
        product=FINANCE,
        health_task_id="check_replication",
        build_task_id="build_models",
        trigger_rule=TriggerRule.ALL_FAILED,
        pool=pools.WAREHOUSE_BUILD,
        outlets=[FINANCE_HELD_VERSIONS],
    )
    publish_products = PublishProductsOperator(
        task_id="publish_products",
        product=FINANCE,
        health_task_id="check_replication",
        build_task_id="build_models",
        retire_task_id="retire_old_versions",
        docs_task_id="write_docs",
        catalog_task_id="publish_scores",
        pool=pools.WAREHOUSE_BUILD,
        inlets=[model_asset(model.name, model.layer) for model in load_models()],
        outlets=[FINANCE_PRODUCTS],
    )
    retire_old_versions = RetireVersionsOperator(task_id="retire_old_versions", product=FINANCE)
    write_docs = WriteDocsOperator(task_id="write_docs", pool=pools.WAREHOUSE_BUILD)

    publish_scores = PublishScoresOperator(task_id="publish_scores", product=FINANCE)

    check_replication >> build_models >> check_quality >> [publish_products, hold_products]
    publish_products >> [retire_old_versions, publish_scores, write_docs]


build_finance_products()
