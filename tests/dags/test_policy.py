"""Every DAG keeps the platform's policy."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import ParamValidationError

from data_platform.alerts.notifier import AlertNotifier
from include.platform import connections
from include.platform.policy import dag_defaults
from include.platform.tags import Tag

MANY_AT_ONCE = {"migrate_tenant": 16, "rollback_tenant_migration": 16, "clean_up_tenant_source": 16}
"""DAGs of which several runs may go on, each about something else: a tenant's lock row keeps two of one tenant apart."""
ONLY_A_PERSON_KNOWS = {
    "migrate_tenant": {"tenant_id", "target_tier", "why"},
    "rollback_tenant_migration": {"tenant_id", "why"},
    "clean_up_tenant_source": {"tenant_id"},
    "replay_dead_letters": {"source"},
    "release_refused_batch": {"batch", "why"},
}
"""Params without a default."""


def dag_files(root):
    return sorted(path for path in (root / "dags").rglob("*.py"))


def test_every_dag_file_parses_and_defines_the_dag_it_is_named_for(dag_bag, project_root):
    assert dag_bag.dags, "no DAG was found: the test would pass on nothing"
    assert not dag_bag.import_errors
    files = dag_files(project_root)
    assert {path.stem for path in files} == set(dag_bag.dag_ids)


def each(dag_bag):
    assert dag_bag.dags
    return dag_bag.dags.values()


def test_every_dag_names_an_owner_and_known_tags(dag_bag):
    for dag in each(dag_bag):
        assert dag.default_args["owner"] not in {"", "airflow"}, dag.dag_id
        assert dag.tags, dag.dag_id
        assert set(dag.tags) <= {tag.value for tag in Tag}, dag.dag_id


def test_every_dag_is_documented_for_the_person_paged(dag_bag):
    for dag in each(dag_bag):
        assert dag.doc_md, dag.dag_id
        assert re.search(r"^#+ Triage", dag.doc_md, re.MULTILINE), f"{dag.dag_id}: its docstring has no Triage section"


def test_every_dag_limits_its_time_and_tells_when_it_is_late(dag_bag):
    for dag in each(dag_bag):
        assert dag.dagrun_timeout is not None, dag.dag_id
        assert dag.dagrun_timeout > timedelta(0), dag.dag_id
        assert dag.deadline, f"{dag.dag_id}: no deadline alert"


def test_a_deadline_counts_from_a_moment_that_lets_a_task_be_cleared(dag_bag):
    """Airflow can't clear a task of a run whose deadline counts from its own DagRunQueuedAtDeadline."""
    from airflow.serialization.decoders import decode_deadline_reference
    from airflow.serialization.encoders import encode_deadline_reference

    for dag in each(dag_bag):
        for alert in dag.deadline:
            reference = decode_deadline_reference(encode_deadline_reference(alert.reference))
            assert reference.reference_name == "DagRunCreatedDeadline", dag.dag_id
            due = reference.evaluate_with(session=None, interval=alert.interval, dag_id=dag.dag_id)
            assert timedelta(0) <= due - datetime.now(UTC) <= alert.interval


def test_every_dag_starts_without_a_catch_up_surprise(dag_bag):
    for dag in each(dag_bag):
        assert dag.catchup is False, dag.dag_id
        assert dag.max_active_runs == MANY_AT_ONCE.get(dag.dag_id, 1), dag.dag_id


def test_every_task_retries_with_back_off_and_has_a_limit(dag_bag):
    for dag in each(dag_bag):
        assert dag.tasks
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            assert task.retries >= 1, where
            assert task.retry_exponential_backoff, where
            assert task.execution_timeout or getattr(task, "response_timeout", None), where
            assert any(isinstance(callback, AlertNotifier) for callback in task.on_failure_callback or []), where


def test_every_param_has_a_type_and_says_what_it_is(dag_bag):
    for dag in each(dag_bag):
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema.get("type"), f"{dag.dag_id}: param {name} has no type"
            assert param.description, f"{dag.dag_id}: param {name} has no description"


def test_every_form_opens_with_values_that_hold_and_leaves_out_only_what_a_person_has_to_say(dag_bag):
    for dag in each(dag_bag):
        asked = ONLY_A_PERSON_KNOWS.get(dag.dag_id, set())
        assert asked <= dag.params.keys(), dag.dag_id
        assert not (asked and dag.schedule), f"{dag.dag_id}: a scheduled run has nobody to ask for {asked}"
        for name in dag.params:
            param = dag.params.get_param(name)
            if name in asked:
                assert param.value is None, f"{dag.dag_id}: {name} opens with a guess"
                with pytest.raises(ParamValidationError):  # so the run isn't made
                    param.resolve()
            else:
                param.resolve()
        empty = [name for name, value in dag.params.items() if value == ""]
        assert not empty, f"{dag.dag_id}: the form takes an empty text for a missing one; make {empty} nullable"


def test_every_pool_a_task_uses_is_in_the_settings_file(dag_bag, project_root):
    from include.platform.airflow_settings import load_airflow_settings

    known = {pool.name for pool in load_airflow_settings(project_root / "airflow_settings.yaml").pools} | {
        "default_pool"
    }
    used = {task.pool for dag in each(dag_bag) for task in dag.tasks}
    assert used <= known


def test_every_connection_word_is_in_the_settings_file_or_optional(project_root):
    from include.platform.airflow_settings import load_airflow_settings

    words = {value for name, value in vars(connections).items() if name.isupper()}
    in_file = {spec.conn_id for spec in load_airflow_settings(project_root / "airflow_settings.yaml").connections}
    assert words - in_file == {connections.ALERTS_FAILURES}, "without it alerts go to the log"


def test_a_dag_without_tags_is_refused():
    with pytest.raises(ValueError, match="at least one tag"):
        dag_defaults(owner="platform", tags=[], deadline=timedelta(minutes=1))


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("dags", r"include\.local(\.|$)|tests|bench"),
        ("include", r"dags(\.|$)|tests|bench"),
        ("plugins", r"(dags|include)(\.|$)|tests|bench"),
    ],
)
def test_imports_flow_one_way(project_root, folder, forbidden):
    files = [path for path in (project_root / folder).rglob("*.py") if "dbt_packages" not in path.parts]
    assert files
    wrong = {
        (str(p.relative_to(project_root)), m) for p in files for m in imported_modules(p) if re.match(forbidden, m)
    }
    assert not wrong


def test_production_code_never_imports_a_stand_in(project_root):
    files = [*(project_root / "include").rglob("*.py"), *(project_root / "dags").rglob("*.py")]
    production = [path for path in files if "local" not in path.relative_to(project_root).parts]
    assert production
    wrong = {
        str(path) for path in production for module in imported_modules(path) if module.startswith("include.local")
    }
    assert not wrong
