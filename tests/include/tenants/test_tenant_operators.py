"""The tasks of the tenant DAGs against the AWS stand-in: what they give, what fails for good, what is retried."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import types
from datetime import UTC, datetime, timedelta

import botocore.loaders
import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload, GetXCom, XComResult
from airflow.sdk.types import TaskInstanceKey

from data_platform.tenants.triggers import ChangesTrigger
from include.local.aws.trial import trial_aws_in_process
from include.local.saas.clients import clients_at
from include.local.saas.kills import Killed, KillSwitch, killable
from include.local.saas.seed import SeedTenant, seed
from include.local.saas.tables import make_data_tables
from include.tenants import fence
from include.tenants.configuration import usage_plan
from include.tenants.exceptions import MigrationConflict, NotVerified
from include.tenants.keys import shard_ids
from include.tenants.operators import (
    AbortOperator,
    ArchiveOperator,
    ArmStreamsOperator,
    AskCutoverOperator,
    AskDeletionOperator,
    CleanUpOperator,
    CompleteOperator,
    CopyItemsOperator,
    CutOverOperator,
    DiscardTargetOperator,
    FindDueOperator,
    FinishCopyOperator,
    FinishIdentityOperator,
    PlanDeletionOperator,
    PlanMigrationOperator,
    PortIdentityOperator,
    PreflightOperator,
    ProvisionTargetOperator,
    RecordApprovalOperator,
    ReplicateOperator,
    ReportAllOperator,
    ReportOperator,
    RollBackOperator,
    VerifyOperator,
    migration_id,
)
from include.tenants.params import migration_params
from include.tenants.plan import begin, count_items, make_plan
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.report import key
from include.tenants.request import MigrationRequest
from include.tenants.saas import DATA_TABLES, Tier
from include.tenants.states import State
from include.tenants.steps import cut_over
from include.tenants.streams import arm
from tests.include.tenants.histories import put_tenant, routed

REPORTS = "data-platform"
CONFIG = PortabilityConfig(REPORTS, "data-platform-evidence", "alias/tenant-migrations")
ITEMS = 40
WHY = "They pay for a silo since Monday"
REASON = "Verified, and nobody is up"
MIA = {"id": "7", "name": "mia"}
_NUMBER = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def service_models_read_once():
    """Every hook makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture(scope="module")
def url():
    with trial_aws_in_process([REPORTS]) as url:
        yield url


@pytest.fixture(scope="module")
def clients(url):
    """The application, with two tenants."""
    clients = clients_at(url)
    tenants = [SeedTenant(name, Tier.BASIC) for name in ("moves", "changes-plan")]
    seed(clients, items_per_tenant=ITEMS, api_url="http://127.0.0.1:4570", tenants=tenants, users=False)
    return clients


@pytest.fixture
def p(url, clients, monkeypatch):
    """What the operators work with, too, by the connection."""
    extra = {"region_name": "us-east-1", "endpoint_url": url}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_TENANTS", json.dumps({"conn_type": "aws", "extra": extra}))
    return Portability(clients, CONFIG)


@pytest.fixture
def tenant(p):
    """A tenant of the test's own, without items."""
    tenant_id = f"t{next(_NUMBER)}x"
    put_tenant(p.clients, tenant_id, "Basic")
    return tenant_id


class Run:
    """A DAG's run, as far as its tasks ask for it."""

    def __init__(self, tenant_id, target="Platinum", run_id=None, **params):
        opened = {name: param.value for name, param in migration_params().items()}
        self.params = {**opened, "tenant_id": tenant_id, "target_tier": target, "why": WHY, **params}
        self.run_id = run_id or f"manual__{next(_NUMBER)}"
        self.xcoms = {}
        self.user = "ann"

    def context(self, task_id="task", map_index=-1):
        def push(key, value):
            self.xcoms[task_id, key] = json.loads(json.dumps(value))

        ti = types.SimpleNamespace(
            id="0199f7a4-0000-7000-8000-000000000000",
            dag_id="migrate_tenant",
            run_id=self.run_id,
            task_id=task_id,
            map_index=map_index,
            try_number=1,
            log_url="http://airflow/log",
            xcom_push=push,
            xcom_pull=lambda task_ids, key="return_value": self.xcoms.get((task_ids, key)),
        )
        run = types.SimpleNamespace(run_id=self.run_id, triggering_user_name=self.user)
        return {"ti": ti, "task_instance": ti, "params": self.params, "dag_run": run}

    def do(self, kind, task_id="task", *, map_index=-1, method="execute", event=None, **arguments):
        """Run a task; what it gives becomes its XCom."""
        task, context = kind(task_id=task_id, **arguments), self.context(task_id, map_index)
        task.render_template_fields(context)
        given = getattr(task, method)(context, *([event] if event else []))
        self.xcoms[task_id, "return_value"] = json.loads(json.dumps(given))
        return given

    def of(self, migration):
        """The run of a migration that is there already."""
        self.xcoms["plan_migration", "return_value"] = migration.migration_id
        return self

    def answer(self, choice, user=MIA, reason=REASON, task_id="ask"):
        """As Airflow gives a person's answer, or that of the time-out: without a user."""
        self.xcoms[task_id, "return_value"] = {
            "chosen_options": [choice],
            "params_input": {"reason": reason},
            "responded_at": datetime.now(UTC).isoformat(),
            "responded_by_user": user,
        }


@pytest.fixture
def asked(monkeypatch):
    """What Airflow's server is told about questions."""
    sent = []

    class Comms:
        def send(self, msg):
            assert isinstance(msg, CreateHITLDetailPayload)
            return sent.append(msg)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    return sent


def brought(p, tenant_id, state, **limits):
    """A migration in a state before the approval; of what its steps would have made there are only tables and armed streams."""
    request = MigrationRequest(tenant_id, Tier.PLATINUM, why=WHY, **limits)
    made = begin(p, f"m-{tenant_id}", request, make_plan(p, request), by="test")
    make_data_tables(p.clients.dynamodb, tenant_id)
    equal = {kind: [] for kind in ("missing", "different", "extra", "foreign")}
    equal |= {f"{kind}_count": 0 for kind in equal}
    comparison = {"items": 0, "seconds": 0.1, "at_ms": 0, "tables": [], **equal}
    noted = {
        State.STREAM_ARMED: lambda: {"armed": armed(p, made, "source")},
        State.CATCHING_UP: lambda: {"copied": {"quiet_at": 0}},
        State.VERIFIED: lambda: {"verification": {"comparison": comparison, "expires_at": soon()}},
    }
    for each in list(State)[1 : list(State).index(state) + 1]:
        made = p.store.transition(made, each, noted.get(each, dict)(), by="test")
    return made


def armed(p, migration, side):
    return {table[side]: arm(p, table[side]).to_json() for table in migration.notes["tables"]}


def soon():
    return int(time.time() * 1000) + 600_000


def approve(p, tenant_id, **limits):
    """A verified migration, approved."""
    made = brought(p, tenant_id, State.VERIFIED, **limits)
    approval = {"approved": True, "by": "mia", "why": REASON, "at": int(time.time() * 1000)}
    target = {
        "configuration": {"api_key_id": usage_plan(p, tenant_id, Tier.PLATINUM).api_key_id},
        "identity": {"user_pool_id": "pool", "app_client_id": "client"},
        "resources": {"api_url": "https://target.example.com"},
    }
    return p.store.transition(made, State.APPROVED, {"approval": approval, **target}, by="mia")


def last_step(p, name):
    return [each for each in p.store.events(name) if each.before != each.after][-1]


def published(p, name):
    return json.load(p.clients.s3.get_object(Bucket=REPORTS, Key=key(name, "json"))["Body"])


def items_of(p, tenant_id, owner):
    return sum(count_items(p, f"{table.prefix}-{owner}", tenant_id)[0] for table in DATA_TABLES)


def test_a_tenant_moves_to_its_silo_and_what_it_left_is_deleted_when_a_person_agrees(p):
    run = Run("moves", soak_minutes=0)
    name = run.do(PlanMigrationOperator, "plan_migration")
    assert name == migration_id("moves", run.run_id)
    migration = p.store.load(name)
    assert migration.request["why"] == WHY
    assert p.store.events(name)[0].by == "ann"
    for kind in (PreflightOperator, ProvisionTargetOperator, PortIdentityOperator):
        assert run.do(kind) is None
    assert p.store.load(name).state is State.PROVISIONED

    pieces = run.do(ArmStreamsOperator, tasks=3)
    assert [len(each) for each in pieces] == [7, 7, 6]
    assert len(set(itertools.chain(*pieces))) == 20
    copied = [
        run.do(CopyItemsOperator, "copy", map_index=index, pieces=each, tasks=3) for index, each in enumerate(pieces)
    ]
    assert sum(each["items"] for each in copied) == ITEMS
    assert {turn.owner for turn in p.turns.all(name, "copy#")} == {
        f"migrate_tenant/{run.run_id}/copy[{index}]" for index in range(3)
    }
    run.do(FinishCopyOperator)
    with pytest.raises(TaskDeferred):
        run.do(ReplicateOperator, direction="forward")

    found = run.do(VerifyOperator, "verify")
    assert found["moves_data"]
    assert f"{ITEMS} items are equal on both sides" in found["question"]
    run.answer("Approve")
    run.do(RecordApprovalOperator, ask_task_id="ask")
    approval = p.store.load(name).notes["approval"]
    assert (approval["approved"], approval["by"], approval["why"]) == (True, "mia", REASON)
    [cutover] = run.do(CutOverOperator)["cutovers"]
    assert (cutover["switched"], cutover["items"]) == (True, ITEMS)
    assert p.tenant("moves").route.tier is Tier.PLATINUM
    run.do(ReplicateOperator, direction="forward")  # resumed after the switch: there is nothing to do for it any more
    run.do(ReplicateOperator, direction="reverse")
    run.do(CompleteOperator)
    with pytest.raises(AirflowSkipException, match="COMPLETE: there is nothing to abort"):
        run.do(AbortOperator)
    evidence = run.do(ArchiveOperator)
    assert evidence["uri"].startswith("s3://data-platform-evidence/tenants/moves/")
    with pytest.raises(AirflowSkipException, match="removed by clean_up_tenant_source, after a person has agreed"):
        run.do(DiscardTargetOperator)
    told = run.do(ReportOperator)
    assert (told["outcome"], told["verification"]["equal"]) == ("COMPLETE", True)
    clean = Run("moves")
    with pytest.raises(AirflowFailException, match="found the way still open; run finish_tenant_identity"):
        clean.do(PlanDeletionOperator, "plan")  # before a person is asked
    assert Run("moves").do(FindDueOperator) == [name]
    assert run.do(FinishIdentityOperator, migration=name)["coverage"]["share"] == 1
    with pytest.raises(AirflowFailException, match=r"expected users of tenant moves to be on their way.*found none"):
        Run("moves").do(FindDueOperator)

    assert clean.do(PlanDeletionOperator, "plan") == name
    assert "the tenant's items in the pooled tables" in clean.xcoms["plan", "question"]
    given = {"migration": name, "ask_task_id": "ask"}
    with pytest.raises(
        AirflowFailException,
        match=r"expected an answer in ask, found none \(was it marked as success\?\); nothing was deleted",
    ):
        clean.do(CleanUpOperator, **given)
    for choice, user, reason, error, words in (
        ("Refuse", MIA, "they may come back", AirflowSkipException, "mia has not agreed: they may come back"),
        ("Refuse", None, "", AirflowSkipException, "nobody has not agreed: no reason was given"),
        (
            "Approve",
            MIA,
            "old",
            AirflowFailException,
            "at least 10 characters, found mia and 'old'; nothing was deleted",
        ),
        ("Approve", None, REASON, AirflowFailException, "expected a person and a reason"),
    ):
        clean.answer(choice, user, reason)
        with pytest.raises(error, match=words):
            clean.do(CleanUpOperator, **given)
    assert items_of(p, "moves", "pooled") == ITEMS
    clean.answer("Approve")
    clean.do(CleanUpOperator, **given)
    assert p.store.load(name).state is State.CLEANED
    assert (items_of(p, "moves", "pooled"), items_of(p, "moves", "moves")) == (0, ITEMS)
    assert p.store.load(name).notes["deletion"]["by"] == "mia"
    assert p.store.current("moves") is None


def test_between_two_pooled_tiers_the_same_tasks_copy_nothing_and_it_can_be_undone(p):
    run = Run("changes-plan", "Premium")
    name = run.do(PlanMigrationOperator, "plan_migration")
    for kind in (PreflightOperator, ProvisionTargetOperator, PortIdentityOperator):
        run.do(kind)
    assert run.do(ArmStreamsOperator, tasks=4) == [[]]
    assert run.do(CopyItemsOperator, map_index=0, pieces=[], tasks=4) == {"items": 0}
    run.do(FinishCopyOperator)
    run.do(ReplicateOperator, direction="forward")
    assert run.do(VerifyOperator)["moves_data"] is False
    run.answer("Approve")
    run.do(RecordApprovalOperator, ask_task_id="ask")
    assert run.do(CutOverOperator) == {"cutovers": []}
    run.do(ReplicateOperator, direction="reverse")
    assert p.tenant("changes-plan").route.tier is Tier.PREMIUM

    back = Run("changes-plan")
    assert back.do(RollBackOperator) == name
    assert p.tenant("changes-plan").route.tier is Tier.BASIC
    last = last_step(p, name)
    assert (last.after, last.by, last.why) == ("ROLLED_BACK", "ann", WHY)
    run.do(ArchiveOperator)
    run.do(DiscardTargetOperator)
    assert p.store.load(name).state is State.CLEANED
    assert run.do(ReportOperator)["outcome"] == "ROLLED_BACK"
    assert p.store.current("changes-plan") is None


@pytest.mark.parametrize("target", ["Platinum", "Standard"])
def test_a_dry_run_says_everything_and_writes_nothing(p, tenant, target):
    run = Run(tenant, target, dry_run=True)
    before = p.clients.dynamodb.scan(TableName="ServerlessSaaS-TenantMigrations", Select="COUNT")["Count"]
    with pytest.raises(AirflowSkipException, match="nothing was changed, not even a record of it"):
        run.do(PlanMigrationOperator, "plan_migration")
    plan = run.xcoms["plan_migration", "plan"]
    assert (plan["tenant_id"], plan["source_tier"], plan["target_tier"]) == (tenant, "Basic", target)
    assert plan["switches"]
    assert bool(plan["tables"]) is (target == "Platinum")
    assert run.xcoms.keys() == {("plan_migration", "plan")}
    assert p.clients.dynamodb.scan(TableName="ServerlessSaaS-TenantMigrations", Select="COUNT")["Count"] == before
    assert (
        p.clients.s3.list_objects_v2(Bucket=REPORTS, Prefix=key(migration_id(tenant, run.run_id), "json"))["KeyCount"]
        == 0
    )


AFTERWARDS = (AbortOperator, ArchiveOperator)
"""What runs whatever came before, beside the report."""


def test_a_dry_run_is_a_success(p, tenant):
    run = Run(tenant, dry_run=True)
    with pytest.raises(AirflowSkipException):
        run.do(PlanMigrationOperator, "plan_migration")
    for kind in (*AFTERWARDS, ReportOperator):
        with pytest.raises(AirflowSkipException, match="this run has no migration"):
            run.do(kind)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("target", ["Basic", "Premium"])
def test_a_run_whose_plan_has_failed_fails_with_one_message(p, tenant, target, dry_run):
    """Its last task decides about the run: where it skipped, the run would be a success."""
    run = Run(tenant, target, dry_run=dry_run)
    if target == "Basic":
        with pytest.raises(AirflowFailException):
            run.do(PlanMigrationOperator, "plan_migration")
    for kind in AFTERWARDS:
        with pytest.raises(AirflowSkipException):
            run.do(kind)
    for migration in ({}, {"migration": None}):  # by a template; by another task's output
        with pytest.raises(AirflowFailException, match="expected the run's first task to give a migration, found none"):
            run.do(ReportOperator, **migration)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tenant_id": "nobody"}, "expected a tenant 'nobody'"),
        ({"tenant_id": "x'; drop"}, "letters, digits and dashes"),
        ({"target_tier": "Basic"}, "in another tier than Basic, found it there"),
        ({"read_units": 0}, "read_units: expected a number from 1"),
    ],
)
def test_what_can_not_be_done_is_not_tried_again(p, tenant, change, message, dry_run):
    run = Run(tenant, dry_run=dry_run)
    run.params |= change
    with pytest.raises(AirflowFailException, match=message):
        run.do(PlanMigrationOperator, "plan_migration")
    assert p.store.current(tenant) is None


def test_a_retry_plans_the_same_migration_and_another_run_is_refused(p, tenant):
    run = Run(tenant)
    first = run.do(PlanMigrationOperator, "plan_migration")
    assert run.do(PlanMigrationOperator, "plan_migration") == first
    assert run.xcoms["plan_migration", "migration_id"] == first
    with pytest.raises(AirflowFailException, match=f"found it in {first}, which is PLANNED"):
        Run(tenant).do(PlanMigrationOperator, "plan_migration")
    assert p.store.current(tenant).migration_id == first


def test_each_task_tells_which_report_is_its_own_and_brings_it_up_to_date_also_if_it_fails(p, tenant):
    made = brought(p, tenant, State.COPYING)
    run = Run(tenant).of(made)
    with pytest.raises(MigrationConflict, match="expected 20 pieces to be copied"):  # so it is retried
        run.do(FinishCopyOperator, "finish_copy")
    assert run.xcoms == {
        ("plan_migration", "return_value"): made.migration_id,
        ("finish_copy", "migration_id"): made.migration_id,
    }
    assert published(p, made.migration_id)["state"] == "COPYING"


@pytest.mark.parametrize(("given", "link"), [("acme-1", "/tenant-migrations/acme-1"), (None, "")])
def test_the_button_on_a_task_leads_to_the_report_that_it_has_told(monkeypatch, given, link):
    class Comms:
        def send(self, msg):
            assert isinstance(msg, GetXCom)
            assert (msg.key, msg.dag_id, msg.run_id, msg.task_id) == ("migration_id", "migrate_tenant", "r", "verify")
            return XComResult(key=msg.key, value=given)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    ti_key = TaskInstanceKey(dag_id="migrate_tenant", task_id="verify", run_id="r", try_number=1, map_index=-1)
    task = VerifyOperator(task_id="verify")
    assert [each.get_link(task, ti_key=ti_key) for each in task.operator_extra_links] == [link]


def test_a_report_that_can_not_be_written_stops_no_step(p, tenant, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATA_PLATFORM__BUCKET", "no-such-bucket")
    made = brought(p, tenant, State.COPYING)
    Run(tenant).of(made).do(AbortOperator)
    assert p.store.load(made.migration_id).state is State.ABORTED


def test_what_a_preflight_finds_is_not_tried_again(p, tenant):
    routed(p, tenant, "Basic", p.tenant("changes-plan").route.user_pool_id)
    p.clients.dynamodb.put_item(
        TableName="Product-pooled",
        Item={"shardId": {"S": f"{tenant}-1"}, "productId": {"S": "1"}, "colour": {"S": "red"}},
    )
    run = Run(tenant)
    run.do(PlanMigrationOperator, "plan_migration")
    with pytest.raises(AirflowFailException, match="colour"):
        run.do(PreflightOperator)


def test_the_question_before_the_cutover_waits_as_long_as_was_asked_for_and_is_clear(p, tenant, asked):
    run = Run(tenant, approve_within_minutes=7)
    run.xcoms["verify", "return_value"] = {"question": "Shall it move?"}
    with pytest.raises(TaskAwaitingInput) as waits:
        run.do(AskCutoverOperator, "ask", verify_task_id="verify", answer_within=timedelta(hours=4))
    assert waits.value.timeout == timedelta(minutes=7)
    [question] = asked
    assert (question.subject, question.body) == (f"Move tenant {tenant} to Platinum now?", "Shall it move?")
    assert (question.options, question.defaults) == (["Approve", "Refuse"], ["Refuse"])
    assert list(question.params) == ["reason"]


def test_the_question_before_the_deletion_shows_what_would_go(p, tenant, asked):
    run = Run(tenant)
    run.xcoms["plan", "question"] = "Shall it go?"
    with pytest.raises(TaskAwaitingInput) as waits:
        run.do(AskDeletionOperator, "ask", plan_task_id="plan", answer_within=timedelta(hours=24))
    assert waits.value.timeout == timedelta(hours=24)
    [question] = asked
    assert (question.subject, question.body) == (f"Delete what tenant {tenant} left behind?", "Shall it go?")
    assert question.defaults == ["Refuse"]


@pytest.mark.parametrize(
    ("user", "reason", "by", "why"),
    [
        (MIA, "Not on a Friday", "mia", "Not on a Friday"),
        (MIA, "", "mia", "no reason was given"),
        (None, "", "nobody", "nobody has answered in time"),
    ],
)
def test_a_refusal_or_silence_ends_the_migration_and_that_is_no_failure_of_the_run(p, tenant, user, reason, by, why):
    made = brought(p, tenant, State.VERIFIED)
    run = Run(tenant).of(made)
    run.answer("Refuse", user, reason)
    with pytest.raises(AirflowSkipException, match=f"{by} has refused the cutover: {why}"):
        run.do(RecordApprovalOperator, ask_task_id="ask")
    found = p.store.load(made.migration_id)
    assert found.state is State.ABORTED
    assert (found.notes["approval"]["by"], found.notes["approval"]["why"]) == (by, why)
    run.do(AbortOperator)  # all_done: it changes nothing any more
    assert run.do(ReportOperator)["why"] == f"not approved: {why}"
    assert p.tenant(tenant).route.tier is Tier.BASIC


@pytest.mark.parametrize(
    ("user", "reason", "found"),
    [
        (MIA, "", "found mia and ''"),
        (MIA, "  because  ", "found mia and 'because'"),
        (None, REASON, "found nobody and"),
    ],
)
def test_an_approval_needs_a_person_and_a_reason(p, tenant, user, reason, found):
    made = brought(p, tenant, State.VERIFIED)
    run = Run(tenant).of(made)
    run.answer("Approve", user, reason)
    with pytest.raises(AirflowFailException, match=f"{found}.*nothing was switched. Clear ask to be asked again"):
        run.do(RecordApprovalOperator, ask_task_id="ask")
    assert p.store.load(made.migration_id).state is State.VERIFIED
    run.answer("Approve")
    run.do(RecordApprovalOperator, ask_task_id="ask")
    assert p.store.load(made.migration_id).state is State.APPROVED


def test_a_question_that_was_marked_as_success_approves_nothing(p, tenant):
    made = brought(p, tenant, State.VERIFIED)
    with pytest.raises(AirflowFailException, match=r"found none \(was it marked as success\?\)"):
        Run(tenant).of(made).do(RecordApprovalOperator, ask_task_id="ask")
    assert p.store.load(made.migration_id).state is State.VERIFIED


def test_without_an_approval_nothing_is_cut_over_and_it_is_not_tried_again(p, tenant):
    run = Run(tenant).of(brought(p, tenant, State.VERIFIED))
    with pytest.raises(AirflowFailException, match="expected it to be approved, found it VERIFIED"):
        run.do(CutOverOperator)
    assert fence.fenced_partitions(p.clients.dynamodb, tenant) == {}


def test_a_cutover_over_budget_is_tried_again(p, tenant):
    made = approve(p, tenant, budget_seconds=5)
    verification = made.notes["verification"]
    slow = verification | {"comparison": verification["comparison"] | {"seconds": 1000.0}}
    p.store.note(made.migration_id, {"verification": slow})
    with pytest.raises(NotVerified, match=r"found that it took 1000\.0 s; the fence was not closed"):
        Run(tenant).of(made).do(CutOverOperator)


def test_a_cutover_that_is_killed_lets_the_tenant_write_again_at_once(url, p, tenant):
    made = approve(p, tenant)
    task = CutOverOperator(task_id="cut_over", migration=made.migration_id)
    task.on_kill()
    assert p.store.load(made.migration_id).epoch == made.epoch  # before the fence there is nothing to open
    switch = KillSwitch(2, only="transact_write_items")  # the first one of those inside the fence
    dying = Portability(killable(clients_at(url), switch), CONFIG)
    with pytest.raises(Killed):
        cut_over(dying, made.migration_id, owner="cut_over", say=lambda text: None)
    assert p.store.load(made.migration_id).state is State.FENCED
    assert len(fence.fenced_partitions(p.clients.dynamodb, tenant)) == 10

    task.on_kill()

    assert fence.fenced_partitions(p.clients.dynamodb, tenant) == {}
    assert p.tenant(tenant).fenced_by is None
    last = last_step(p, made.migration_id)
    assert (last.after, last.by, last.why) == ("APPROVED", "on_kill", "the task was killed")


def defer(run, **arguments):
    with pytest.raises(TaskDeferred) as deferred:
        run.do(ReplicateOperator, **arguments)
    assert deferred.value.method_name == "resume"
    return deferred.value.trigger


def woken(trigger):
    """Its event, from a triggerer that makes it of what was stored."""
    path, arguments = trigger.serialize()
    assert path.endswith("ChangesTrigger")

    async def event():
        async for each in ChangesTrigger(**json.loads(json.dumps(arguments))).run():
            return each.payload

    return asyncio.run(event())


def test_the_replay_waits_for_changes_in_the_triggerer_and_ends_when_the_migration_moves_on(p, tenant):
    made = brought(p, tenant, State.CATCHING_UP)
    run = Run(tenant).of(made)
    waiting = defer(run, direction="forward")
    assert waiting.partitions == list(shard_ids(tenant))
    assert waiting.row["value"] == "CATCHING_UP"
    assert {shard["stream"].split("/")[1] for shard in waiting.shards} == {"Product-pooled", "Order-pooled"}
    assert waiting.poll_seconds == 10
    assert timedelta(minutes=4) < waiting.until - datetime.now(UTC) <= timedelta(minutes=5)

    item = {"shardId": {"S": f"{tenant}-3"}, "productId": {"S": "new"}, "name": {"S": "late"}}
    p.clients.dynamodb.put_item(TableName="Product-pooled", Item=item)
    event = woken(waiting)
    assert event == {"reason": "there are changes to replay"}
    again = defer(run, direction="forward", method="resume", event=event)
    assert p.clients.dynamodb.scan(TableName=f"Product-{tenant}")["Items"] == [item]
    assert again.shards != waiting.shards  # behind what was replayed

    run.do(AbortOperator)
    event = woken(again)
    assert event == {"reason": "state is ABORTED"}
    assert run.do(ReplicateOperator, direction="forward", method="resume", event=event) is None
    assert published(p, made.migration_id)["replay"]["forward"]["applied"] == 1


def soaking(p, tenant, minutes):
    """A migration in its soak."""
    made = approve(p, tenant)
    for state, notes in (
        (State.FENCED, {"reverse_from": armed(p, made, "target")}),
        (State.SWITCHED, {}),
        (State.SOAK, {"soak": {"until": int((time.time() + minutes * 60) * 1000)}}),
    ):
        made = p.store.transition(made, state, notes, by="test")
    return made


def test_the_replay_back_waits_no_longer_than_the_soak(p, tenant):
    run = Run(tenant).of(soaking(p, tenant, 2))
    waiting = defer(run, direction="reverse")
    assert timedelta(minutes=1) < waiting.until - datetime.now(UTC) <= timedelta(minutes=2)
    assert {shard["stream"].split("/")[1] for shard in waiting.shards} == {f"Product-{tenant}", f"Order-{tenant}"}
    assert waiting.row["value"] == "SOAK"


def test_when_the_soak_is_over_so_is_the_replay_back(p, tenant):
    run = Run(tenant).of(soaking(p, tenant, -1))
    assert (
        run.do(ReplicateOperator, direction="reverse", method="resume", event={"reason": "it was long enough"}) is None
    )


def test_a_migration_whose_tasks_failed_is_aborted_cleaned_up_and_fails_its_run(p, tenant):
    made = brought(p, tenant, State.PREFLIGHT)
    run = Run(tenant).of(made)
    with pytest.raises(AirflowSkipException, match="PREFLIGHT: it is not over"):
        run.do(ArchiveOperator)
    with pytest.raises(
        AirflowFailException, match="the migration is PREFLIGHT: see the failed task; the tenant may have moved"
    ):
        run.do(ReportOperator)
    run.do(AbortOperator)
    run.do(ArchiveOperator)
    run.do(DiscardTargetOperator)
    assert p.store.load(made.migration_id).state is State.CLEANED
    with pytest.raises(AirflowFailException, match="ABORTED: failed after PREFLIGHT; the tenant is where it was"):
        run.do(ReportOperator)


def test_before_the_switch_a_rollback_aborts_and_its_run_is_a_success(p, tenant):
    made = brought(p, tenant, State.VERIFIED)
    run = Run(tenant)
    assert run.do(RollBackOperator, "roll_back") == made.migration_id
    aborted = p.store.load(made.migration_id)
    assert (aborted.state, aborted.notes["aborted"]["why"]) == (State.ABORTED, WHY)
    assert run.do(ReportOperator, migration=made.migration_id)["asked"]
    assert run.do(RollBackOperator, "roll_back") == made.migration_id  # a retry changes nothing
    assert p.store.load(made.migration_id).epoch == aborted.epoch


def test_after_the_soak_there_is_no_way_back_and_no_retry_makes_one(p, tenant):
    made = brought(p, tenant, State.VERIFIED)
    for state in (State.APPROVED, State.FENCED, State.SWITCHED, State.SOAK, State.COMPLETE):
        made = p.store.transition(made, state, {}, by="test")
    with pytest.raises(
        AirflowFailException, match=r"replay to the source has ended\. Start another migration to Basic"
    ):
        Run(tenant).do(RollBackOperator, "roll_back")


def test_what_is_undone_already_is_not_undone_again_whatever_came_after(p, tenant):
    made = brought(p, tenant, State.VERIFIED)
    for state, notes in ((State.ABORTED, {"aborted": {"quiet_at": 0}}), (State.ARCHIVED, {"archive": {}})):
        made = p.store.transition(made, state, notes, by="test")
    assert Run(tenant).do(RollBackOperator, "roll_back") == made.migration_id
    assert p.store.load(made.migration_id).state is State.ARCHIVED


def test_a_step_of_a_migration_that_is_over_is_not_tried_again(p, tenant):
    made = brought(p, tenant, State.COPYING)
    p.store.transition(made, State.ABORTED, {"aborted": {"quiet_at": 0}}, by="test")
    with pytest.raises(AirflowFailException, match="ABORTED"):
        Run(tenant).of(made).do(FinishCopyOperator)


@pytest.mark.parametrize("kind", [RollBackOperator, PlanDeletionOperator])
def test_a_tenant_in_no_migration_has_nothing_to_undo_or_delete(p, tenant, kind):
    with pytest.raises(AirflowFailException, match=f"expected tenant {tenant} to be in a migration, found it in none"):
        Run(tenant).do(kind)


def test_nothing_is_planned_to_be_deleted_before_the_evidence_is_there(p, tenant):
    made = brought(p, tenant, State.VERIFIED)
    with pytest.raises(AirflowFailException, match="to be archived, found it VERIFIED; nothing was deleted"):
        Run(tenant).do(PlanDeletionOperator)
    for state, notes in ((State.ABORTED, {"aborted": {"quiet_at": 0}}), (State.ARCHIVED, {"archive": {}})):
        made = p.store.transition(made, state, notes, by="test")
    with pytest.raises(AirflowFailException, match="nothing was deleted"):
        Run(tenant).do(PlanDeletionOperator)


def test_all_migrations_are_told_and_one_that_needs_somebody_fails_the_run(p, tenant):
    run = Run(tenant)
    assert run.do(ReportAllOperator) == []
    made = soaking(p, tenant, -90)
    with pytest.raises(
        AirflowFailException, match=rf"1 migrations need somebody: {made.migration_id}: its soak is over"
    ):
        run.do(ReportAllOperator)
    page = p.clients.s3.get_object(Bucket=REPORTS, Key="tenants/migrations/index.json")["Body"].read()
    assert made.migration_id in {each["migration_id"] for each in json.loads(page)}
