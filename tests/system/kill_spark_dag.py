"""An airflow dag for the tests: jobs that do nothing until the test ends them, at a gateway that may be killed.

#### Triage
None: it is only tested.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from include.platform.policy import dag_defaults
from include.platform.tags import Tag

JOB: dict[str, Any] = {
    "sparkVersion": "3.5.0",
    "mainApplicationFile": "local:///opt/spark/jobs/job.py",
    "queue": "dev",
    "driver": {"cores": 1, "memory": "1g"},
    "executor": {"instances": 1, "cores": 1, "memory": "1g"},
    "sparkConf": {"spark.simulate.seconds": "86400"},
}


@dag(schedule=None, doc_md=__doc__, **dag_defaults(owner="tests", tags=[Tag.SPARK], deadline=timedelta(minutes=30)))
def kill_spark() -> None:
    BatchGatewaySubmitOperator.partial(
        task_id="run_job",
        batch_gateway_conn_id="killable_gateway",
        poll_seconds=2,
        retries=6,
        retry_delay=timedelta(seconds=1),
        retry_exponential_backoff=False,
    ).expand(job=[JOB] * 3)


kill_spark()
