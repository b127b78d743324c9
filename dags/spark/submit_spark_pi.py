"""### Submit Spark Pi

Computes π in several Spark jobs at once, through the batch gateway: which cluster runs each is the gateway's choice. The proof that
gateway, clusters and log store work, and the pattern for a DAG with Spark jobs of its own.

**Inputs** the job `include/spark/jobs/spark_pi.py`; the connection `batch_gateway_spark`. The gateway must know the Spark version
`data_platform.spark_version`, and the clusters must be able to read `spark/jobs/` in the platform's bucket, or the gateway's own with
*Upload through the gateway*.

**Outputs** how the jobs were shared out to the clusters, and each job's line *Pi is roughly …*: in the log of `summarise`, its XCom and
the run's note.

#### Triage
Nothing depends on this DAG, and no data is written.
- `place_job` fails with *expected s3://… to be written*: the role lacks `s3:PutObject` on `spark/jobs/`.
- `place_job` fails with *somebody wrote it by hand*: remove the file it names, and clear the task.
- `submit_spark_pi` fails with *spec is refused*: the message names field and right form; mostly a queue or cluster that was typed in.
- `submit_spark_pi` fails with *Spark version not supported*: set `data_platform.spark_version` to a name that the gateway has.
- `submit_spark_pi` fails with a job's diagnosis: its own; the end of the driver's log is below it. *Driver log* and *Gateway record* are
  links of the task. Clearing it submits another job; one that may still run is cancelled first.
- `submit_spark_pi` stays *scheduled*: all slots of the pool `spark_submissions` wait for a gateway that does not answer.
- `summarise` fails with *found none of …*: that job ended well without a result. *No log of it*: the cluster's log store is behind or
  lost it; clear the task later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from include.platform import connections, pools
from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.spark.operators import PlaceJobOperator
from include.spark.pi import JOB, MOST_SUBMISSIONS

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


@dag(
    schedule=None,
    doc_md=__doc__,
    params={
        "submissions": Param(
            4,
            type="integer",
            minimum=1,
            maximum=MOST_SUBMISSIONS,
            title="Submissions",
            description="How many jobs to submit at once.",
        ),
        "slices": Param(
            2,
            type="integer",
            minimum=1,
            maximum=10_000,
            title="Slices",
            description="Spark tasks that share the work of a job.",
        ),
        "samples": Param(
            200_000,
            type="integer",
            minimum=1,
            maximum=1_000_000_000,
            title="Samples",
            description="Random points per slice; four times as many give one more binary digit.",
        ),
        "queue": Param(
            None,
            type=["null", "string"],
            pattern=NAME,
            title="Queue",
            description="The gateway's queue. Empty: the connection's, else the one that the gateway has for the user.",
        ),
        "cluster": Param(
            None,
            type=["null", "string"],
            pattern=NAME,
            title="Cluster",
            description="Id of the cluster for all jobs, past the queue's weights. Empty: the gateway chooses.",
        ),
        "via_gateway": Param(
            False,
            type="boolean",
            title="Upload through the gateway",
            description="Let the gateway write the job to its own bucket, where the clusters can't read the platform's.",
        ),
    },
    **dag_defaults(
        owner="platform",
        tags=[Tag.PLATFORM, Tag.SPARK],
        deadline=timedelta(minutes=30),
        task_timeout=timedelta(minutes=20),
    ),
)
def submit_spark_pi() -> None:
    @task
    def plan_submissions(placed: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        from include.platform.settings import load_settings
        from include.spark.pi import plan
        from include.spark.placement import PlacedJob

        return plan(PlacedJob.from_xcom(placed), load_settings(), params or {})

    @task
    def summarise(jobs: Any) -> dict[str, Any]:
        from include.spark.pi import write_summary

        return write_summary(get_current_context(), jobs)

    place_job = PlaceJobOperator(task_id="place_job", job=JOB, via_gateway="{{ params.via_gateway }}")
    submit_spark_pi = BatchGatewaySubmitOperator.partial(
        task_id="submit_spark_pi",
        batch_gateway_conn_id=connections.BATCH_GATEWAY,
        pool=pools.SPARK_SUBMISSIONS,
        map_index_template="seed {{ task.job.arguments | last }}",
        poll_seconds=5,
    ).expand(job=plan_submissions(place_job.output))
    summarise(submit_spark_pi.output)


submit_spark_pi()
