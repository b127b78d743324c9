"""An airflow dag for the tests: jobs that do nothing until the test ends them, at a gateway that may be killed.

#### Triage
None: it is only tested.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from include.local.batch_gateway.trial import simulated_job
from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(schedule=None, doc_md=__doc__, **dag_defaults(owner="tests", tags=[Tag.SPARK], deadline=timedelta(minutes=30)))
def kill_spark() -> None:
    BatchGatewaySubmitOperator.partial(
        task_id="run_job",
        batch_gateway_conn_id="killable_gateway",
        poll_seconds=2,
        retries=6,
        retry_delay=timedelta(seconds=1),
        retry_exponential_backoff=False,
    ).expand(job=[simulated_job(seconds=86_400)] * 3)


kill_spark()
