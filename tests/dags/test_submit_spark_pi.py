"""submit_spark_pi: structure, parameters, and what its tasks do when their templates are rendered."""

import re

import pytest
from airflow.sdk.exceptions import ParamValidationError

from data_platform.batch_gateway.operators import BatchGatewaySubmitOperator
from include.platform import connections, pools
from include.platform.settings import load_settings
from include.spark.operators import PlaceJobOperator
from include.spark.pi import MOST_SUBMISSIONS, plan
from include.spark.placement import PlacedJob


@pytest.fixture(scope="module")
def dag(dag_bag):
    return dag_bag.dags["submit_spark_pi"]


def test_the_job_is_placed_then_planned_submitted_and_summed_up(dag):
    assert {task_id: task.downstream_task_ids for task_id, task in dag.task_dict.items()} == {
        "place_job": {"plan_submissions"},
        "plan_submissions": {"submit_spark_pi"},
        "submit_spark_pi": {"summarise"},
        "summarise": set(),
    }


def test_one_task_instance_submits_one_job(dag):
    submit = dag.get_task("submit_spark_pi")
    assert submit.is_mapped
    assert submit.operator_class is BatchGatewaySubmitOperator
    assert submit.partial_kwargs["batch_gateway_conn_id"] == connections.BATCH_GATEWAY


def test_each_submission_is_told_apart_by_its_seed(dag):
    placed = PlacedJob("spark_pi", "d" * 64, "s3://bucket/spark_pi.py")
    params = {name: dag.params.get_param(name).resolve() for name in dag.params}
    jobs = plan(placed, load_settings(), params)
    submit = dag.get_task("submit_spark_pi")

    def label(job):
        task = submit.unmap({"job": job})
        task.render_template_fields({}, dag.get_template_env())
        return dag.get_template_env().from_string(submit.map_index_template).render(task=task)

    assert [label(job) for job in jobs] == ["seed 0", "seed 1", "seed 2", "seed 3"]


def test_only_submissions_wait_for_slots_of_the_gateways_pool(dag):
    assert {task_id: task.pool for task_id, task in dag.task_dict.items() if task.pool != "default_pool"} == {
        "submit_spark_pi": pools.SPARK_SUBMISSIONS
    }


def test_dag_runs_by_hand_only_and_tells_triage_of_every_task_that_can_fail(dag):
    assert dag.schedule is None
    triage = re.split(r"#+ Triage", dag.doc_md)[1]
    for task_id in ("place_job", "submit_spark_pi", "summarise"):
        assert f"`{task_id}`" in triage


@pytest.mark.parametrize(("value", "rendered"), [(True, "True"), (False, "False")])
def test_upload_through_the_gateway_reaches_its_task(dag, value, rendered):
    place = dag.get_task("place_job")
    assert isinstance(place, PlaceJobOperator)
    copy = place.prepare_for_execution()
    copy.render_template_fields({"params": {"via_gateway": value}}, dag.get_template_env())
    assert (copy.job, copy.via_gateway) == ("spark_pi", rendered)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("submissions", 0),
        ("submissions", MOST_SUBMISSIONS + 1),
        ("submissions", "4"),
        ("slices", 0),
        ("samples", 0),
        ("queue", ""),
        ("queue", "dev; drop"),
        ("cluster", "-a"),
        ("via_gateway", "yes"),
    ],
)
def test_bad_parameter_is_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


@pytest.mark.parametrize(
    ("name", "value"), [("queue", None), ("queue", "dev"), ("cluster", "sparkclustera"), ("submissions", 50)]
)
def test_good_parameter_is_taken(dag, name, value):
    assert dag.params.get_param(name).resolve(value) == value
