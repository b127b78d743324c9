"""Every DAG end to end on the local platform: real processes, real HTTP, real dbt. The tests build on each other, in this order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import psutil
import pytest
import requests

from include.local.catalog.identity import DOMAIN_ID
from include.local.demo.finance import BUILD, newest_sale, sell_one_more
from include.local.demo.lineage import (
    REPORT,
    catalog_client,
    column_path,
    delivered,
    posted_scores,
    report_identifier,
)
from include.local.demo.published import published_version, read_published
from include.local.demo.quality import (
    RELEASE,
    asked_person,
    mend_the_time,
    reset_a_clock,
    wait_for_build,
)
from include.local.demo.runs import DemoError
from include.local.processes import marked_processes
from include.platform.airflow_api import AirflowApiError, HttpAirflowApi, trigger_dag
from include.quality.operators import PUBLISH
from include.spark.jobs.spark_pi import estimate, points_inside

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

PUBLISHED_TOTALS = """
    SELECT sum(sales_made), sum(sales_revenue), sum(staff_commission) FROM finance.rpt_finance_qtr_total_sales_by_event
"""
SOURCE_TOTALS = "SELECT count(*), sum(pricepaid), sum(commission) FROM sales WHERE saletime IS NOT NULL"


PUBLISHED_TOTALS_AND_CONTRADICTIONS = """
    SELECT sum(sales_made), sum(sales_revenue), sum(staff_commission), (
        SELECT count(*) FROM (
            SELECT year, quarter, eventname, sales_made, sales_revenue, staff_commission, commission_pcnt
            FROM finance.rpt_finance_qtr_top_event_by_sales
            EXCEPT
            SELECT year, quarter, eventname, sales_made, sales_revenue, staff_commission, commission_pcnt
            FROM finance.rpt_finance_qtr_total_sales_by_event
        )
    ) FROM finance.rpt_finance_qtr_total_sales_by_event
"""
QUIET_SECONDS = 15
"""Twice the local poll interval (2 s) and the least time between two builds (5 s, see conftest.py) together, and more."""


def source_totals(platform):
    with contextlib.closing(platform.aurora.connect()) as connection:
        count, paid, commission = connection.execute(SOURCE_TOTALS).fetchone()
    cents = Decimal("0.01")
    return count, Decimal(str(paid)).quantize(cents), Decimal(str(commission)).quantize(cents)


def until_published(platform, wanted, timeout=120):
    """Follow builds that nobody triggered until the published report shows ``wanted``."""
    deadline = time.monotonic() + timeout
    seen = None
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):  # nothing is published yet
            seen = read_published(platform.layout, PUBLISHED_TOTALS)[0]
        if seen == wanted:
            return
        time.sleep(0.5)
    raise AssertionError(f"published {seen}, wanted {wanted}, after {timeout} s")


def test_configure_platform_makes_the_pools_and_is_harmless_again(platform):
    assert platform.api.request("GET", "/pools/warehouse_build")["slots"] == 1
    platform.runs.run("configure_platform", {"create_connections": True})
    assert platform.api.request("GET", "/pools/warehouse_build")["slots"] == 1


def test_everything_listens_on_loopback_only(platform):
    wide, heard = [], set()
    for process in marked_processes(platform.state.run_id):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    heard.add(connection.laddr.port)
                    if connection.laddr.ip != "127.0.0.1":
                        wide.append((process.cmdline(), connection.laddr))
    assert set(platform.state.ports.values()) <= heard, "the platform's own ports were not among the listeners"
    assert not wide


def test_connecting_starts_the_first_build_which_publishes_what_the_source_holds(platform):
    platform.runs.run("connect_zero_etl")
    until_published(platform, source_totals(platform))


def builds_once_quiet(platform, timeout=120):
    """The builds, as soon as none runs and none is added for a while."""
    deadline = time.monotonic() + timeout
    known = None
    while time.monotonic() < deadline:
        platform.wait_for_idle(BUILD)
        listed = platform.api.request("GET", f"/dags/{BUILD}/dagRuns", params={"limit": 100})["dag_runs"]
        before, known = known, {run["dag_run_id"] for run in listed}
        if known == before:
            return known
        time.sleep(QUIET_SECONDS)
    raise AssertionError(f"builds still start after {timeout} s, though nothing changes")


def test_connecting_again_changes_nothing(platform):
    known = builds_once_quiet(platform)
    platform.runs.run("connect_zero_etl")
    assert builds_once_quiet(platform) == known


def test_a_changed_and_a_deleted_sale_reach_the_report_by_themselves(platform):
    with platform.aurora.transaction() as source:
        first, last = source.execute(
            "SELECT min(salesid), max(salesid) FROM sales WHERE saletime IS NOT NULL"
        ).fetchone()
        source.execute("UPDATE sales SET pricepaid = pricepaid + 100 WHERE salesid = ?", (first,))
        source.execute("DELETE FROM sales WHERE salesid = ?", (last,))
    until_published(platform, source_totals(platform))


def test_each_model_that_ran_is_an_asset_event_with_its_figures(platform):
    events = platform.api.request("GET", "/assets/events", params={"source_dag_id": BUILD, "limit": 100})[
        "asset_events"
    ]
    models = {event["uri"]: event["extra"] for event in events if event["source_task_id"] == "build_models"}
    assert any(uri.endswith("/rpt_finance_qtr_top_event_by_sales") for uri in models), sorted(models)
    for extra in models.values():
        assert extra["duration_s"] >= 0
        assert extra["status"] == "success"


YEAR_CHECK = "qtr_total_sales_by_event/rpt_finance_qtr_total_sales_by_event/year-range"
REASON = "Checked with finance: one till, known"


@pytest.fixture(scope="module")
def broken_load(platform):
    """A build that the gate has refused: the broken sale, the run, what readers saw before."""
    platform.wait_for_idle(BUILD)
    before = published_version(platform.layout), read_published(platform.layout, PUBLISHED_TOTALS)
    known = platform.runs.known(BUILD)
    broken = reset_a_clock(platform.aurora)
    return broken, wait_for_build(platform.runs, known, "failed").run_id, before


def test_a_load_that_breaks_a_contract_is_held_back_and_its_check_is_told(platform, broken_load):
    _, run_id, before = broken_load

    states = task_states(platform, run_id)
    assert (states["build_models"], states["check_quality"]) == ("success", "failed")
    assert (states["hold_products"], states["publish_products"]) == ("success", "upstream_failed")
    assert (published_version(platform.layout), read_published(platform.layout, PUBLISHED_TOTALS)) == before
    run = platform.api.request("GET", f"/dags/{BUILD}/dagRuns/{run_id}")
    assert "year-range" in run["note"]
    path = f"/dags/{BUILD}/dagRuns/{run_id}/taskInstances/check_quality/xcomEntries/quality_report"
    told = platform.api.request("GET", path)["value"]
    assert "year-range" in str(told)
    assert "1970" in str(told)  # a row that is at fault
    logs = platform.layout.airflow_home.glob(f"logs/dag_id={BUILD}/run_id={run_id}/task_id=check_quality/*.log")
    assert any(YEAR_CHECK in path.read_text() for path in logs)


def test_nobody_who_listens_to_the_product_hears_of_it(platform, broken_load):
    _, run_id, _ = broken_load
    events = platform.api.request("GET", "/assets/events", params={"source_run_id": run_id, "limit": 100})[
        "asset_events"
    ]
    by_run = {event["uri"] for event in events}
    assert "x-warehouse://finance/held" in by_run
    assert "x-warehouse://finance" not in by_run


QUESTION = f"/dags/{RELEASE}/dagRuns/{{run_id}}/taskInstances/ask_person/-1/hitlDetails"
READING_SECONDS = 5
"""As long as a person reads, at least. Airflow takes a task that is resumed before the scheduler has heard of its pause for one whose
worker has died, and asks again."""


def answer_as(platform, user, run_id, choice, reason):
    asked_at = datetime.fromisoformat(platform.api.request("GET", QUESTION.format(run_id=run_id))["created_at"])
    time.sleep(max(0.0, READING_SECONDS - (datetime.now(UTC) - asked_at).total_seconds()))
    passwords = json.loads(platform.layout.secrets_file.read_text())["passwords"]
    api = HttpAirflowApi(platform.state.url, user, passwords[user])
    return api.request(
        "PATCH", QUESTION.format(run_id=run_id), {"chosen_options": [choice], "params_input": {"reason": reason}}
    )


def test_a_viewer_sees_the_question_and_may_not_answer_it(platform, broken_load):
    asking = asked_person(platform.runs)
    asked = platform.api.request("GET", QUESTION.format(run_id=asking))
    assert "year-range" in asked["body"]
    with pytest.raises(AirflowApiError) as caught:
        answer_as(platform, "viewer", asking, PUBLISH, REASON)
    assert caught.value.status == 403


def test_the_mended_source_is_published_by_itself_and_the_question_is_withdrawn(platform, broken_load):
    broken, _, before = broken_load
    asking = asked_person(platform.runs)
    known = platform.runs.known(BUILD)

    mend_the_time(platform.aurora, broken)
    run = wait_for_build(platform.runs, known, "success")

    version = published_version(platform.layout)
    assert (version["run_id"], version["released_by"]) == (run.run_id, None)
    assert read_published(platform.layout, PUBLISHED_TOTALS) == before[1]
    assert platform.runs.follow(RELEASE, asking).state == "success"
    assert platform.runs.task_state(RELEASE, asking, "release_held") == "skipped"
    answer = platform.api.request("GET", QUESTION.format(run_id=asking))
    assert "readers have the newer" in str(answer["params_input"])


@pytest.fixture(scope="module")
def released_load(platform):
    """A build that the gate has refused and a person has published: the broken sale, the run, the person's, the version before."""
    before = published_version(platform.layout)
    known = platform.runs.known(BUILD)
    broken = reset_a_clock(platform.aurora)
    run = wait_for_build(platform.runs, known, "failed")
    asking = asked_person(platform.runs)
    answer_as(platform, "operator", asking, PUBLISH, REASON)
    platform.runs.follow(RELEASE, asking)
    return broken, run.run_id, asking, before


def test_a_person_with_a_reason_publishes_the_held_version_and_both_are_on_record(platform, released_load):
    _, run_id, asking, before = released_load
    version = published_version(platform.layout)
    assert (version["run_id"], version["released_by"], version["release_reason"]) == (run_id, "operator", REASON)
    assert version["version"] > before["version"]
    events = platform.api.request("GET", "/assets/events", params={"source_run_id": asking, "limit": 100})[
        "asset_events"
    ]
    [told] = [event["extra"] for event in events if event["uri"] == "x-warehouse://finance"]
    assert (told["version"], told["released_by"]) == (version["version"], "operator")
    scores = posted_scores(catalog_client(platform.runs), report_identifier(REPORT))
    assert scores[-1] < scores[-2]  # the released version's, after a good one's


def test_each_published_column_leads_back_to_the_source_in_the_catalog(platform):
    client = catalog_client(platform.runs)
    [(columns,)] = read_published(
        platform.layout,
        f"SELECT list(column_name) FROM information_schema.columns WHERE table_name = '{REPORT}'",
    )
    assert len(columns) >= 5
    for column in columns:
        path = column_path(client, report_identifier(REPORT), column)
        assert "demodb" in path[0][0], (column, path)


def spooled_events(platform, before):
    """Run id and type of every event whose time is before that moment."""
    found = [json.loads(path.read_bytes()) for path in (platform.layout.lineage / "events").rglob("*.json")]
    return {
        (event["run"]["runId"], event["eventType"])
        for event in found
        if datetime.fromisoformat(event["eventTime"]) < before
    }


def processed_events(platform):
    """Run id and type of every event that the catalog has processed."""
    pages = catalog_client(platform.runs).get_paginator("list_lineage_events")
    return {
        (told["runId"], told["eventType"])
        for page in pages.paginate(domainIdentifier=DOMAIN_ID, processingStatus="SUCCESS")
        for told in (item["eventSummary"]["openLineageRunEventSummary"] for item in page["items"])
    }


def test_every_event_that_was_spooled_is_in_the_catalog(platform):
    platform.wait_for_idle(BUILD)
    spooled = spooled_events(platform, datetime.now(UTC))
    assert len(spooled) > 100
    deadline = time.monotonic() + 300
    while missing := spooled - processed_events(platform):
        assert time.monotonic() < deadline, f"{len(missing)} of {len(spooled)} are missing"
        platform.runs.run("reconcile_lineage")  # sends what no task could, once it is not young any more
        time.sleep(5)
    platform.runs.run("reconcile_lineage")
    sums = delivered(platform.runs)
    assert sums["rejected"] == 0
    assert sums["accepted"] >= len(spooled)


@pytest.mark.parametrize(
    "conf",
    [{"full_refresh": "yes"}, {"select": "fct_sales; rm -rf /"}, {"select": "--full-refresh"}],
)
def test_a_bad_param_is_refused_before_a_run_exists(platform, conf):
    known = platform.runs.known(BUILD)
    with pytest.raises(AirflowApiError) as caught:
        trigger_dag(platform.api, BUILD, "bad-param", conf)
    assert caught.value.status == 400
    assert "bad-param" not in platform.runs.known(BUILD) - known


def test_a_selection_that_matches_nothing_fails_and_leaves_the_report_alone(platform):
    platform.wait_for_idle(BUILD)
    before = read_published(platform.layout, PUBLISHED_TOTALS)
    with pytest.raises(DemoError, match="ended failed"):
        platform.runs.run(BUILD, {"select": "no_such_model"})
    assert read_published(platform.layout, PUBLISHED_TOTALS) == before


def running_dbt(platform, timeout=90):
    """The ``dbt build`` process of a task, as soon as there is one."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for process in marked_processes(platform.state.run_id):
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if any(part.endswith("/dbt") for part in line) and "build" in line:
                    return process
        time.sleep(0.05)
    raise AssertionError(f"no dbt process was seen in {timeout} s")


@contextlib.contextmanager
def consumer(platform):
    """Reads both published reports in one query, over and over; gives what it has seen, an error included."""
    seen = set()
    ended = threading.Event()

    def read():
        while not ended.wait(0.1):
            try:
                seen.update(read_published(platform.layout, PUBLISHED_TOTALS_AND_CONTRADICTIONS))
            except Exception as error:  # no consumer may ever meet one
                seen.add(repr(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_a_build_killed_in_the_middle_is_resumed_and_nothing_published_is_half_new(platform, released_load):
    platform.wait_for_idle(BUILD)
    known = platform.runs.known(BUILD)
    before = source_totals(platform)
    until_published(platform, before)
    with consumer(platform) as seen:
        broken = released_load[0]
        with platform.aurora.transaction() as source:  # changes every row of both reports, and mends what was released
            source.execute(
                "UPDATE sales SET pricepaid = pricepaid + 1, saletime = CASE salesid WHEN ? THEN ? ELSE saletime END"
                " WHERE saletime IS NOT NULL",
                (broken.salesid, broken.saletime),
            )
        after = source_totals(platform)
        dbt = running_dbt(platform)
        os.kill(dbt.ppid(), signal.SIGKILL)  # the task's process; dbt's own death needs no Airflow to be seen
        until_published(platform, after, timeout=180)
        [run_id] = [run for run in platform.runs.known(BUILD) - known if tries(platform, run) > 1][:1]
        assert platform.runs.follow(BUILD, run_id).state == "success"
    assert seen == {(*before, 0), (*after, 0)}


def until_parsed_during_a_run(platform, task_id, known, timeout=60):
    """Wait until Airflow knows ``task_id``; returns the run that was still running then."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        tasks = {task["task_id"] for task in platform.api.request("GET", f"/dags/{BUILD}/tasks")["tasks"]}
        if task_id in tasks:
            new = {run: state for run, state in platform.runs.states(BUILD).items() if run not in known}
            running = [run for run, state in new.items() if state == "running"]
            assert running, f"Airflow read the change only when the run was over: {new}"
            return running[0]
        time.sleep(0.2)
    raise AssertionError(f"Airflow has not read the change in {timeout} s")


def test_a_dag_changed_while_its_run_is_under_way_does_not_hurt_the_run(platform, dags_folder):
    build_dag_file = dags_folder / "warehouse" / "build_finance_products.py"
    platform.wait_for_idle(BUILD)
    known = platform.runs.known(BUILD)
    sell_one_more(platform.aurora, newest_sale(platform.aurora))
    dbt = running_dbt(platform)
    before = build_dag_file.read_text()
    changed = before.replace("timeout_seconds=900", "timeout_seconds=901").replace(
        "check_replication >> build_models",
        'EmptyOperator(task_id="added_later")\n    check_replication >> build_models',
    )
    assert changed.count("added_later") == 1
    changed = changed.replace(
        "from include.platform import connections, pools",
        "from airflow.providers.standard.operators.empty import EmptyOperator\nfrom include.platform import connections, pools",
    )
    dbt.suspend()  # the run can't end before the change was read
    try:
        try:
            build_dag_file.write_text(changed)
            run = until_parsed_during_a_run(platform, "added_later", known)
        finally:
            dbt.resume()
        assert platform.runs.follow(BUILD, run).state == "success"
        until_published(platform, source_totals(platform))
    finally:
        build_dag_file.write_text(before)


def task_states(platform, run_id):
    listed = platform.api.request("GET", f"/dags/{BUILD}/dagRuns/{run_id}/taskInstances")["task_instances"]
    return {task["task_id"]: task["state"] for task in listed}


def tries(platform, run_id):
    return platform.api.request("GET", f"/dags/{BUILD}/dagRuns/{run_id}/taskInstances/build_models")["try_number"]


def test_the_dbt_docs_are_in_the_ui_and_only_for_those_who_logged_in(platform):
    platform.wait_for_idle(BUILD)
    url = f"{platform.state.url}/dbt-docs/index.html"
    assert requests.get(url, timeout=10).status_code == 401
    token = platform.api._login()
    page = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert page.status_code == 200
    assert "rpt_finance_qtr_top_event_by_sales" in page.text


def test_spark_jobs_run_once_each_where_they_belong_and_their_results_are_summed_up(platform):
    run = platform.runs.run("submit_spark_pi", {"submissions": 2, "slices": 2, "samples": 2000, "via_gateway": True})

    path = f"/dags/submit_spark_pi/dagRuns/{run.run_id}"
    summary = platform.api.request("GET", f"{path}/taskInstances/summarise/xcomEntries/return_value")["value"]
    summary = json.loads(summary) if isinstance(summary, str) else summary
    hits = [sum(points_inside(seed, part, 2000) for part in range(2)) for seed in range(2)]
    assert [job["pi"] for job in summary["jobs"]] == [estimate(inside, 4000) for inside in hits]
    assert len({job["submission_id"] for job in summary["jobs"]}) == 2
    assert set(summary["clusters"]) <= {"sparkclustera", "sparkclusterb"}
    assert sum(told["jobs"] for told in summary["clusters"].values()) == 2
    assert "| Cluster | Jobs | Share |" in platform.api.request("GET", path)["note"]


def test_a_viewer_may_look_but_not_trigger(platform):
    passwords = json.loads(platform.layout.secrets_file.read_text())["passwords"]
    viewer = HttpAirflowApi(platform.state.url, "viewer", passwords["viewer"])
    assert viewer.request("GET", f"/dags/{BUILD}")["dag_id"] == BUILD
    with pytest.raises(AirflowApiError) as caught:
        trigger_dag(viewer, BUILD, "by-a-viewer")
    assert caught.value.status == 403


def test_a_dropped_source_table_fails_the_check_with_its_name_and_readers_keep_the_report(platform):
    platform.wait_for_idle(BUILD)
    before = read_published(platform.layout, PUBLISHED_TOTALS)
    with platform.aurora.transaction() as source:
        source.execute("DROP TABLE venue")
    known = platform.runs.known(BUILD)
    sell_one_more(platform.aurora, newest_sale(platform.aurora))
    deadline = time.monotonic() + 120
    while not (
        failures := [
            run for run, state in platform.runs.states(BUILD).items() if state == "failed" and run not in known
        ]
    ):
        assert time.monotonic() < deadline, "no run failed after the table was dropped"
        time.sleep(1)
    failed = failures[0]
    assert task_states(platform, failed)["check_replication"] == "failed"
    log = platform.layout.airflow_home.glob(f"logs/dag_id={BUILD}/run_id={failed}/task_id=check_replication/*.log")
    assert any("venue" in path.read_text() and "Deleted" in path.read_text() for path in log)
    assert read_published(platform.layout, PUBLISHED_TOTALS) == before


LATE_DAG = '''
"""An airflow dag that is late, and fails."""
import time
from datetime import timedelta

from airflow.sdk import dag, task

from include.platform.policy import dag_defaults
from include.platform.tags import Tag


@dag(
    schedule=None,
    **dag_defaults(
        owner="night-shift", tags=[Tag.PLATFORM], deadline=timedelta(seconds=2), run_timeout=timedelta(minutes=5)
    ),
)
def late():
    @task(retries=0)
    def fail_in_the_end():
        time.sleep(12)
        raise ValueError("lag 92 s > limit 30 s")

    fail_in_the_end()


late()
'''


def test_a_late_run_and_a_failed_task_are_told_to_the_owner(platform, dags_folder):
    (dags_folder / "late.py").write_text(LATE_DAG)
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(AirflowApiError):
            trigger_dag(platform.api, "late", "late-1")
            break
        assert time.monotonic() < deadline, "the new DAG was not read"
        time.sleep(1)
    with pytest.raises(DemoError, match="ended failed"):
        platform.runs.follow("late", "late-1")
    wanted = {"[night-shift] deadline missed: late", "[night-shift] task failed: late.fail_in_the_end"}
    while wanted and time.monotonic() < deadline + 60:
        logs = [*platform.layout.logs.rglob("*.log"), *(platform.layout.airflow_home / "logs").rglob("*.log")]
        text = "".join(path.read_text(errors="replace") for path in logs)
        wanted = {alert for alert in wanted if alert not in text}
        time.sleep(1)
    assert not wanted


def test_no_secret_is_in_any_log(platform):
    secrets = json.loads(platform.layout.secrets_file.read_text())
    words = [secrets["fernet_key"], secrets["jwt_secret"], secrets["api_secret_key"], *secrets["passwords"].values()]
    logs = [*platform.layout.logs.rglob("*.log"), *(platform.layout.airflow_home / "logs").rglob("*.log")]
    assert len(logs) > 10
    leaking = [(str(path), word[:4]) for path in logs for word in words if word in path.read_text(errors="replace")]
    assert not leaking
