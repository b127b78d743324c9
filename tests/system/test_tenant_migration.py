"""Tenants move in the real platform, under load over HTTP: processes are killed, persons approve and refuse, a migration is undone."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from include.local.aws.controls import Controls
from include.local.demo.questions import READING_SECONDS, answer, asked, asked_again, give
from include.local.processes import marked_processes
from include.local.saas.client import HttpApi
from include.local.saas.clients import clients_at
from include.local.saas.judge import judge_tables
from include.local.saas.load import Load
from include.local.saas.logins import LOGINS, login_of
from include.platform.airflow_api import trigger_dag
from include.tenants.operators import migration_id
from include.tenants.plan import count_items
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.questions import APPROVE, REFUSE
from include.tenants.report import key
from include.tenants.saas import Tier
from include.tenants.states import State

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DAG = "migrate_tenant"
WHY = "It was asked for in a test"
REASON = "It is verified, and it is a test"


@pytest.fixture(scope="module")
def url(platform):
    return f"http://127.0.0.1:{platform.state.ports['aws']}"


@pytest.fixture(scope="module")
def p(url):
    return Portability(
        clients_at(url), PortabilityConfig("data-platform", "data-platform-evidence", "alias/tenant-migrations")
    )


def start(platform, name, tenant_id, tier, **conf):
    run_id = f"{name}_{time.time_ns()}"
    trigger_dag(platform.api, DAG, run_id, {"tenant_id": tenant_id, "target_tier": tier.value, "why": WHY, **conf})
    return run_id


def tasks(platform, run_id, task_id, dag_id=DAG):
    listed = platform.api.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
    return [one for one in listed["task_instances"] if one["task_id"] == task_id]


def wait(what, come, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not (found := come()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def kill_worker(platform, run_id, task_id):
    """SIGKILL of the process of a running task."""

    def worker():
        wanted = {one["id"] for one in tasks(platform, run_id, task_id) if one["state"] == "running"}
        for process in marked_processes(platform.state.run_id):
            words = " ".join(process.cmdline()).split()
            if words[:3] == ["airflow", "worker", "--"] and words[3] in wanted:
                return process
        return None

    os.kill(wait(f"{task_id} is running", worker).pid, signal.SIGKILL)


def test_a_tenant_moves_and_is_moved_back_under_load_while_its_tasks_are_killed(platform, p, url, tmp_path):
    """SIGKILL of a copying task and of the cutover inside the fence; then a rollback in the soak. No write is lost, no read fails."""
    tenant_id, controls = "acme", Controls(url)
    journal = tmp_path / "journal.jsonl"
    api = HttpApi(
        f"http://127.0.0.1:{platform.state.ports['saas']}",
        p.clients,
        {tenant_id: login_of(platform.layout.aws / LOGINS, tenant_id)},
    )
    with Load([api], [tenant_id], journal=journal, writers=2, readers=1, pause=0.2) as load:
        controls.fault("BatchWriteItem", delay_seconds=1.0, times=20)
        run_id = start(platform, "killed", tenant_id, Tier.PLATINUM, soak_minutes=30, budget_seconds=20)
        name = migration_id(tenant_id, run_id)
        kill_worker(platform, run_id, "copy_items")
        controls.clear()
        asked(platform.api, DAG, run_id, "approve_cutover")
        controls.fault("GetRecords", table=f"Product-{tenant_id}|Product-pooled", delay_seconds=2.0)
        answer(platform.api, DAG, run_id, "approve_cutover", APPROVE, REASON)
        wait("the fence is closed", lambda: p.store.load(name).state is State.FENCED)
        kill_worker(platform, run_id, "cut_over")
        controls.clear()
        before = load.writes(tenant_id)
        wait("the tenant writes again, whatever Airflow does", lambda: load.writes(tenant_id) > before + 3, 60)
        wait("the next try switches", lambda: p.store.load(name).state is State.SOAK, 240)
        load.wait_for_writes(5)  # what is written now has to come back
        undone = platform.runs.run("rollback_tenant_migration", {"tenant_id": tenant_id, "why": WHY})
        platform.runs.follow(DAG, run_id, wanted={"success", "failed"})
        load.wait_for_writes(5)
    verdict = judge_tables(journal, p.clients)
    assert verdict.ok, verdict
    assert verdict.acknowledged > 100
    assert load.figures(tenant_id).failed_reads == 0
    assert p.tenant(tenant_id).route.tier is Tier.BASIC
    migration = p.store.load(name)
    assert (migration.state, migration.outcome) == (State.ARCHIVED, State.ROLLED_BACK)
    assert tasks(platform, undone.run_id, "roll_back", "rollback_tenant_migration")[0]["state"] == "success"
    assert tasks(platform, run_id, "cut_over")[0]["try_number"] >= 2
    passed = [event.after for event in p.store.events(name) if event.moves]
    assert passed.count("FENCED") >= 2  # the dead try's fence was opened, and closed anew
    assert passed.index("SWITCHED") > passed.index("APPROVED", passed.index("FENCED"))


def test_what_a_rolled_back_migration_made_is_deleted_after_a_person_has_agreed(platform, p):
    tenant_id = "acme"
    run_id = f"clean_{time.time_ns()}"
    trigger_dag(platform.api, "clean_up_tenant_source", run_id, {"tenant_id": tenant_id})
    question = answer(platform.api, "clean_up_tenant_source", run_id, "approve_deletion", APPROVE, REASON)
    assert "s3://data-platform-evidence/tenants/acme/" in question["body"]
    platform.runs.follow("clean_up_tenant_source", run_id)
    assert f"Product-{tenant_id}" not in p.clients.dynamodb.list_tables()["TableNames"]
    assert p.store.current(tenant_id) is None
    assert count_items(p, "Product-pooled", tenant_id)[0] > 0


def test_refused_by_a_person_a_migration_ends_clean_and_its_report_says_who_and_why(platform, p):
    run_id = start(platform, "refused", "acme-2", Tier.PLATINUM)
    asked(platform.api, DAG, run_id, "approve_cutover")
    time.sleep(READING_SECONDS)
    give(platform.api, DAG, run_id, "approve_cutover", APPROVE, "no reason")
    wait("it is asked again", lambda: asked_again(platform.api, DAG, run_id, "approve_cutover"), 120)
    question = answer(platform.api, DAG, run_id, "approve_cutover", REFUSE, "Not before the quarter's end")
    assert "goes from **Standard** to **Platinum**" in question["body"]
    assert question["params"]["reason"]["value"] == ""  # nobody approves with words that they have not written
    platform.runs.follow(DAG, run_id)
    assert p.tenant("acme-2").route.tier is Tier.STANDARD
    assert p.store.current("acme-2") is None
    assert "Product-acme-2" not in p.clients.dynamodb.list_tables()["TableNames"]
    name = migration_id("acme-2", run_id)
    report = json.loads(p.clients.s3.get_object(Bucket="data-platform", Key=key(name, "json"))["Body"].read())
    assert report["outcome"] == "ABORTED"
    assert report["approval"]["by"] == "admin"
    assert report["approval"]["why"] == "Not before the quarter's end"
    page = platform.api.request("GET", f"/dags/{DAG}/dagRuns/{run_id}")
    assert "not approved" in page["note"]


def test_a_dry_run_says_what_it_would_do_and_a_bad_one_why_not(platform, p):
    run_id = start(platform, "dry", "acme-2", Tier.PLATINUM, dry_run=True)
    platform.runs.follow(DAG, run_id)
    assert tasks(platform, run_id, "preflight")[0]["state"] == "skipped"
    assert p.store.current("acme-2") is None
    run_id = start(platform, "unknown", "nobody", Tier.PLATINUM)
    platform.runs.follow(DAG, run_id, wanted={"failed"})
    assert tasks(platform, run_id, "plan_migration")[0]["try_number"] == 1  # no retry makes a tenant of it


def test_all_migrations_are_on_one_page(platform):
    platform.runs.run("report_tenant_migrations")
    import requests

    page = requests.get(
        f"{platform.state.url}/tenant-migrations/",
        headers={"Authorization": f"Bearer {platform.api._login()}"},
        timeout=30,
    )
    assert page.status_code == 200
    assert "acme" in page.text
    assert "ROLLED_BACK" in page.text
