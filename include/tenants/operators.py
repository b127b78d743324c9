"""The tasks of a tenant's migration. Each is one of `include.tenants.steps`; nothing heavy is imported before a task runs."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator, BaseOperatorLink

from include.platform import connections
from include.platform.question import LEAST_REASON, QuestionOperator, read_answer
from include.platform.settings import load_settings
from include.tenants.questions import APPROVE, REFUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context, XComArg
    from airflow.sdk.types import TaskInstanceKey

    from include.platform.question import Answer
    from include.tenants.changes import Direction
    from include.tenants.portability import Portability
    from include.tenants.store import Migration

log = logging.getLogger(__name__)

PLAN_TASK: Final = "plan_migration"
MIGRATION: Final = f"{{{{ ti.xcom_pull(task_ids='{PLAN_TASK}') }}}}"
"""Id of the run's migration, for a task of `migrate_tenant`."""
REPORT_URL: Final = "/tenant-migrations/{migration_id}"
BURST_SECONDS: Final = 60.0
"""How long a task replays before it looks at the migration again."""
_MIGRATION_KEY: Final = "migration_id"
_PLAN: Final = "plan"
"""Key of a dry run's plan."""


def portability() -> Portability:
    """What the steps work with, as connection and settings say."""
    from include.tenants.clients import Clients
    from include.tenants.portability import Portability, PortabilityConfig

    settings = load_settings()
    config = PortabilityConfig(
        report_bucket=settings.bucket,
        evidence_bucket=settings.tenants_evidence_bucket,
        signing_key=settings.tenants_signing_key,
        evidence_days=settings.tenants_evidence_days,
        verification_minutes=settings.tenants_verification_minutes,
    )
    return Portability(Clients.from_connection(connections.TENANTS), config)


def migration_id(tenant_id: str, run_id: str) -> str:
    """The id of a run's migration: legible, and the same for each try of its first task."""
    return f"{tenant_id}-{hashlib.sha256(run_id.encode()).hexdigest()[:10]}"


class MigrationReportLink(BaseOperatorLink):
    """Button on the task: the migration's live report."""

    name = "Migration report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The report's page in this UI; empty before the migration was planned."""
        from airflow.sdk.execution_time.xcom import XCom

        found = XCom.get_value(key=_MIGRATION_KEY, ti_key=ti_key)
        return REPORT_URL.format(migration_id=found) if found else ""


class MigrationOperator(BaseOperator):
    """A step of a migration.

    What a retry can't mend fails the task for good: bad input, a tenant in another migration, drift, a broken isolation, no approval.

    Args:
        migration: its id.
    """

    template_fields: Sequence[str] = ("migration",)
    operator_extra_links = (MigrationReportLink(),)
    ui_color = "#d9e8f6"

    def __init__(self, *, migration: str | XComArg = MIGRATION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.migration: Any = migration  # rendered to a text before the task runs

    def execute(self, context: Context) -> Any:
        """Take the step, and bring the report up to date whatever comes of it."""
        if self.migration in (None, "", "None"):  # as a template renders what no task has given
            return self.without_migration(context)
        return self.guarded(context, lambda p: self.step(p, context))

    def without_migration(self, context: Context) -> None:
        """The run has begun no migration: it is a dry run, or its first task has failed.

        Raises:
            AirflowSkipException: there is nothing to do.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException("this run has no migration: there is nothing to do")

    def step(self, p: Portability, context: Context) -> Any:
        """What the task is for."""
        raise NotImplementedError

    def guarded(self, context: Context, work: Callable[[Portability], Any]) -> Any:
        """Do ``work``; an error that no retry can mend fails the task at once.

        Raises:
            AirflowFailException: for such an error.
        """
        from airflow.sdk.exceptions import AirflowFailException

        from include.tenants import exceptions

        context["ti"].xcom_push(key=_MIGRATION_KEY, value=self.migration)
        p = portability()
        try:
            return work(p)
        except (
            exceptions.BadRequest,
            exceptions.SchemaDrift,
            exceptions.StreamTrimmed,
            exceptions.IsolationBroken,
            exceptions.ApprovalRefused,
            exceptions.EvidenceInvalid,
        ) as error:
            raise AirflowFailException(str(error)) from error
        except exceptions.MigrationConflict as error:
            if p.store.load(self.migration).outcome:  # it is over: no retry makes it go on
                raise AirflowFailException(str(error)) from error
            raise
        finally:
            self.report(p)

    def report(self, p: Portability) -> None:
        """Bring the report up to date; a failure to do so is only logged."""
        from include.tenants.report import publish, to_text

        try:
            for line in to_text(publish(p, self.migration)).splitlines():
                log.info("%s", line)
        except Exception as error:  # the migration is what counts
            log.warning("the report of %s is not up to date: %s", self.migration, error)

    def worker(self, context: Context) -> str:
        """Who does it: the same for each try of the task."""
        ti: Any = context["ti"]
        index = f"[{ti.map_index}]" if getattr(ti, "map_index", -1) >= 0 else ""
        return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}{index}"


class PlanMigrationOperator(MigrationOperator):
    """Says what would be done; unless it is a dry run, the tenant is in this migration from here on.

    Raises:
        AirflowSkipException: it is a dry run.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(migration="", **kwargs)

    def execute(self, context: Context) -> str:
        """Plan."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.plan import begin, make_plan
        from include.tenants.request import MigrationRequest

        params, run_id = context["params"], str(context["ti"].run_id)
        self.migration = migration_id(str(params["tenant_id"]), run_id)

        def plan(p: Portability) -> str:
            request = MigrationRequest.from_mapping(dict(params))
            made = make_plan(p, request)
            for line in made.to_text().splitlines():
                log.info("%s", line)
            if params["dry_run"]:
                context["ti"].xcom_push(key=_PLAN, value=made.to_json())
                raise AirflowSkipException("dry run: nothing was changed, not even a record of it was made")
            begun = begin(p, self.migration, request, made, by=_asked_by(context))
            return begun.migration_id

        if params["dry_run"]:
            return str(self._dry(plan))
        return str(self.guarded(context, plan))

    def _dry(self, plan: Callable[[Portability], str]) -> str:
        from airflow.sdk.exceptions import AirflowFailException

        from include.tenants.exceptions import BadRequest

        try:
            return plan(portability())
        except BadRequest as error:
            raise AirflowFailException(str(error)) from error


class PreflightOperator(MigrationOperator):
    """Looks whether the migration may begin."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.preflight`."""
        from include.tenants.steps import look_before

        look_before(p, self.migration, owner=self.worker(context), say=log.info)


class ProvisionTargetOperator(MigrationOperator):
    """Makes the target's resources."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.resources`."""
        from include.tenants.steps import provision

        provision(p, self.migration, owner=self.worker(context), say=log.info)


class PortIdentityOperator(MigrationOperator):
    """Makes the target's user pool, and its usage plan and key; checks the target as a whole."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.identity`, `include.tenants.configuration`, `include.tenants.compliance`."""
        from include.tenants.steps import port_identity

        port_identity(p, self.migration, owner=self.worker(context), say=log.info)


class ArmStreamsOperator(MigrationOperator):
    """Stores where the replay begins, and says what is to be copied in how many tasks.

    Args:
        tasks: how many tasks copy at once.
    """

    def __init__(self, *, tasks: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks

    def step(self, p: Portability, context: Context) -> list[list[str]]:
        """Arm; gives the names of the pieces that each task copies. One empty list where no data moves."""
        from include.tenants.plan import moves_data
        from include.tenants.steps import arm_streams, begin_copy

        owner = self.worker(context)
        if not moves_data(arm_streams(p, self.migration, owner=owner, say=log.info)):
            return [[]]
        names = [unit.name for unit in begin_copy(p, self.migration, owner=owner)]
        return [names[first :: self.tasks] for first in range(min(self.tasks, len(names)))]


class CopyItemsOperator(MigrationOperator):
    """Copies some of the tenant's partitions; mapped over what `ArmStreamsOperator` gave.

    Args:
        pieces: their names.
        tasks: how many such tasks share the migration's read units.
    """

    template_fields: Sequence[str] = ("migration", "pieces")

    def __init__(self, *, pieces: Any, tasks: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pieces = pieces
        self.tasks = tasks

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """Copy what isn't copied yet."""
        from include.tenants.copying import units
        from include.tenants.steps import copy

        migration = p.store.load(self.migration)
        items = 0
        for unit in [unit for unit in units(migration.tenant_id) if unit.name in set(self.pieces)]:
            figures = copy(
                p,
                self.migration,
                unit,
                owner=self.worker(context),
                units_per_second=migration.request["read_units"] / self.tasks,
                say=log.info,
            )
            items += figures.items if figures else 0
        return {"items": items}


class FinishCopyOperator(MigrationOperator):
    """Ends the copy."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.steps.finish_copy`."""
        from include.tenants.plan import moves_data
        from include.tenants.steps import finish_copy

        if moves_data(p.store.load(self.migration)):
            finish_copy(p, self.migration, owner=self.worker(context), say=log.info)


class ReplicateOperator(MigrationOperator):
    """Replays changes as long as the migration is in a state that needs it. Waits for changes in the triggerer.

    Args:
        direction: ``forward`` to the target before the switch, ``reverse`` to the source after it.
    """

    def __init__(self, *, direction: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.direction = direction

    def step(self, p: Portability, context: Context) -> None:
        """Replay until there is nothing to replay, then wait for more."""
        from include.tenants.changes import Direction
        from include.tenants.steps import begin_soak, replicate, replicates

        direction, owner = Direction(self.direction), self.worker(context)
        if direction is Direction.REVERSE:
            begin_soak(p, self.migration, owner=owner, say=log.info)
        while True:
            migration = p.store.load(self.migration)
            if not replicates(migration, direction) or self._over(p, migration, direction):
                log.info("the replay is over: the migration is %s", migration.state)
                return
            figures = replicate(p, self.migration, direction, owner=owner, seconds=BURST_SECONDS, say=log.info)
            if figures is None or figures.at_tip:
                self._wait(p, migration, direction)
            self.report(p)

    def resume(self, context: Context, event: Mapping[str, Any]) -> None:
        """Changes have come, the migration has moved on, or it was long enough."""
        log.info("woken up: %s", event["reason"])
        self.guarded(context, lambda p: self.step(p, context))

    def _over(self, p: Portability, migration: Migration, direction: Direction) -> bool:
        soak = migration.notes.get("soak", {})
        return direction.value == "reverse" and bool(soak) and p.clock() * 1000 >= soak["until"]

    def _wait(self, p: Portability, migration: Migration, direction: Direction) -> None:
        from data_platform.tenants.triggers import ChangesTrigger
        from include.tenants.keys import shard_ids
        from include.tenants.saas import MIGRATIONS, PARTITION_KEY
        from include.tenants.store import PARTITION, SORT
        from include.tenants.waiting import open_shards

        most = 300.0
        if "soak" in migration.notes and direction.value == "reverse":
            most = min(most, max(migration.notes["soak"]["until"] / 1000 - p.clock(), 1.0))
        self.defer(
            trigger=ChangesTrigger(
                aws_conn_id=connections.TENANTS,
                shards=open_shards(p, migration, direction),
                partition_key=PARTITION_KEY,
                partitions=list(shard_ids(migration.tenant_id)),
                row={
                    "table": MIGRATIONS,
                    "key": {PARTITION: migration.migration_id, SORT: "migration"},
                    "attribute": "state",
                    "value": migration.state.value,
                },
                poll_seconds=load_settings().tenants_poll_seconds,
                until=datetime.now(UTC) + timedelta(seconds=most),
            ),
            method_name="resume",
        )


class VerifyOperator(MigrationOperator):
    """Compares both sides; gives what a person has to know to approve the cutover."""

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """See `include.tenants.steps.verify`."""
        from include.tenants.plan import moves_data
        from include.tenants.questions import cutover_question
        from include.tenants.steps import verify

        migration = verify(p, self.migration, owner=self.worker(context), say=log.info)
        return {"question": cutover_question(migration), "moves_data": moves_data(migration)}


class AskCutoverOperator(QuestionOperator):
    """Asks a person to approve the cutover; silence refuses it.

    Args:
        verify_task_id: the task that knows what to tell them.
        answer_within: how long they have, at most.
    """

    def __init__(self, *, verify_task_id: str, answer_within: timedelta, **kwargs: Any) -> None:
        super().__init__(
            subject="Move tenant {{ params.tenant_id }} to {{ params.target_tier }} now?",
            body=f"{{{{ ti.xcom_pull(task_ids='{verify_task_id}')['question'] }}}}",
            options=[APPROVE, REFUSE],
            default=REFUSE,
            reason=f"For the audit: at least {LEAST_REASON} characters. Who approves without is asked again.",
            reasoned=[APPROVE],
            answer_within=answer_within,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Ask, for as long as was asked for."""
        self.response_timeout = timedelta(minutes=context["params"]["approve_within_minutes"])
        return super().execute(context)


class RecordApprovalOperator(MigrationOperator):
    """Writes down who has approved or refused the cutover, and why. A refusal ends the migration.

    Args:
        ask_task_id: the task that asked.

    Raises:
        AirflowSkipException: it was refused; the tenant is where it was.
    """

    def __init__(self, *, ask_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ask_task_id = ask_task_id

    def step(self, p: Portability, context: Context) -> None:
        """Record it."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.steps import decide

        said = _answered(context, self.ask_task_id, "nothing was switched")
        why = said.reason or ("nobody has answered in time" if said.by == "nobody" else "no reason was given")
        approved = said.choice == APPROVE
        decide(p, self.migration, approved=approved, by=said.by, why=why, at=int(said.at.timestamp() * 1000))
        if not approved:
            raise AirflowSkipException(f"{said.by} has refused the cutover: {why}; the tenant is where it was")


class CutOverOperator(MigrationOperator):
    """Moves the tenant. Killed, it opens the fence before it goes."""

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """See `include.tenants.cutover`."""
        from include.tenants.steps import cut_over

        migration = cut_over(p, self.migration, owner=self.worker(context), say=log.info)
        return {"cutovers": migration.notes.get("cutovers", [])}

    def on_kill(self) -> None:
        """Let the tenant write again."""
        from include.tenants.cutover import reopen
        from include.tenants.states import State

        p = portability()
        migration = p.store.load(self.migration)
        if migration.state is State.FENCED:
            reopen(p, migration, owner="on_kill", why="the task was killed")
            log.warning("killed in the fence: it is open again, the tenant is where it was")


class CompleteOperator(MigrationOperator):
    """Ends the way back."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.steps.complete`."""
        from include.tenants.steps import complete

        complete(p, self.migration, owner=self.worker(context), say=log.info)


class AbortOperator(MigrationOperator):
    """Ends a migration whose tasks have failed before the tenant has moved.

    Raises:
        AirflowSkipException: the tenant has moved, or nothing was begun.
    """

    def step(self, p: Portability, context: Context) -> None:
        """Abort, unless it isn't needed."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.states import State, reached
        from include.tenants.steps import abort

        migration = p.store.load(self.migration)
        if reached(migration.state, State.SWITCHED) or (migration.outcome and migration.outcome is not State.ABORTED):
            raise AirflowSkipException(f"the migration is {migration.state}: there is nothing to abort")
        abort(p, self.migration, owner=self.worker(context), why=f"failed after {migration.state}", say=log.info)


class ArchiveOperator(MigrationOperator):
    """Locks the evidence away.

    Raises:
        AirflowSkipException: the migration isn't over.
    """

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """See `include.tenants.archive`."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.steps import archive

        done = archive(p, self.migration, owner=self.worker(context), say=log.info)
        if done is None:
            raise AirflowSkipException(f"the migration is {p.store.load(self.migration).state}: it is not over")
        return dict(done.notes["archive"])


class DiscardTargetOperator(MigrationOperator):
    """Removes what an aborted migration has made; needs no approval, as nobody was ever served from it.

    Raises:
        AirflowSkipException: the migration was not aborted: what the tenant left behind is removed by clean_up_tenant_source.
    """

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.clean_up`."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.plan import moves_data
        from include.tenants.states import State
        from include.tenants.steps import clean_up

        migration = p.store.load(self.migration)
        if migration.outcome is not State.ABORTED and moves_data(migration):
            raise AirflowSkipException(
                "what the tenant left behind is removed by clean_up_tenant_source, after a person has agreed"
            )
        clean_up(p, self.migration, owner=self.worker(context), say=log.info)


class ReportOperator(MigrationOperator):
    """The migration's last report: in the log, on the run's page, in S3. Fails the run if the migration has failed.

    Raises:
        AirflowFailException: it was aborted for an error, or is not over.
    """

    def without_migration(self, context: Context) -> None:
        """Only after a dry run that is as it has to be: a skipped last task must not make a success of a run that has failed."""
        from airflow.sdk.exceptions import AirflowFailException

        if context["params"].get("dry_run") and context["ti"].xcom_pull(task_ids=PLAN_TASK, key=_PLAN):
            return super().without_migration(context)
        raise AirflowFailException("expected the run's first task to give a migration, found none: see why it failed")

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """Tell."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.platform.run_page import write_note
        from include.tenants.report import gather, publish, to_note
        from include.tenants.states import State

        try:
            report = publish(p, self.migration)
        except Exception as error:  # what has become of the tenant doesn't depend on it
            log.warning("the report of %s could not be written: %s", self.migration, error)
            report = gather(p, self.migration)
        write_note(context, lambda most: to_note(report, most))
        if report["outcome"] is None or (report["outcome"] == State.ABORTED and not report["asked"]):
            raise AirflowFailException(
                f"the migration is {report['outcome'] or report['state']}: {report['why'] or 'see the failed task'}; the tenant "
                f"{'may have moved: see Triage' if report['outcome'] is None else 'is where it was'}"
            )
        return report


class TenantOperator(MigrationOperator):
    """A task of a DAG whose run is about the migration that a tenant is in; gives its id.

    Raises:
        AirflowFailException: the tenant is in none.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(migration="", **kwargs)

    def execute(self, context: Context) -> str:
        """Find the migration, then do what the task is for."""
        from airflow.sdk.exceptions import AirflowFailException

        tenant_id = str(context["params"]["tenant_id"])
        found = portability().store.current(tenant_id)
        if found is None:
            raise AirflowFailException(
                f"expected tenant {tenant_id} to be in a migration, found it in none: it was never moved, or all is cleaned up"
            )
        self.migration = found.migration_id
        self.guarded(context, lambda p: self.step(p, context))
        return str(self.migration)


class RollBackOperator(TenantOperator):
    """Undoes the migration."""

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.steps.roll_back`."""
        from include.tenants.steps import roll_back

        why = str(context["params"]["why"])
        roll_back(p, self.migration, owner=_asked_by(context), why=why, say=log.info)


class PlanDeletionOperator(TenantOperator):
    """Says what would be deleted, and looks whether it may be: the evidence has to be whole."""

    def step(self, p: Portability, context: Context) -> None:
        """Look, and prepare the question."""
        from include.tenants.archive import verify_archive
        from include.tenants.exceptions import IdentityIncomplete, PreflightFailed
        from include.tenants.identity import require_closed
        from include.tenants.questions import deletion_question
        from include.tenants.states import State

        migration = p.store.load(self.migration)
        if migration.state is not State.ARCHIVED:
            raise PreflightFailed(
                f"expected migration {self.migration} of tenant {migration.tenant_id} to be archived, found it {migration.state}; nothing "
                "was deleted. Let it end"
            )
        verify_archive(p, migration)
        if migration.outcome is State.COMPLETE:
            try:
                require_closed(p, migration)
            except IdentityIncomplete as error:  # the clean-up would refuse it, after somebody has agreed
                raise PreflightFailed(f"{error}; nothing was deleted") from error
        question = deletion_question(p.store.load(self.migration))
        for line in question.splitlines():
            log.info("%s", line)
        context["ti"].xcom_push(key="question", value=question)


class AskDeletionOperator(QuestionOperator):
    """Asks a person to agree to the deletion; silence refuses it.

    Args:
        plan_task_id: the task that knows what to tell them.
        answer_within: how long they have.
    """

    def __init__(self, *, plan_task_id: str, answer_within: timedelta, **kwargs: Any) -> None:
        super().__init__(
            subject="Delete what tenant {{ params.tenant_id }} left behind?",
            body=f"{{{{ ti.xcom_pull(task_ids='{plan_task_id}', key='question') }}}}",
            options=[APPROVE, REFUSE],
            default=REFUSE,
            reason=f"For the audit: at least {LEAST_REASON} characters. Who approves without is asked again.",
            reasoned=[APPROVE],
            answer_within=answer_within,
            **kwargs,
        )


class CleanUpOperator(MigrationOperator):
    """Deletes what the tenant left behind, if a person has agreed.

    Args:
        ask_task_id: the task that asked.

    Raises:
        AirflowSkipException: they haven't; everything stays.
    """

    def __init__(self, *, ask_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ask_task_id = ask_task_id

    def step(self, p: Portability, context: Context) -> None:
        """See `include.tenants.clean_up`."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.tenants.steps import clean_up

        said = _answered(context, self.ask_task_id, "nothing was deleted")
        if said.choice != APPROVE:
            raise AirflowSkipException(
                f"{said.by} has not agreed: {said.reason or 'no reason was given'}; nothing was deleted"
            )
        approval = {"approved": True, "by": said.by, "why": said.reason, "at": int(said.at.timestamp() * 1000)}
        clean_up(p, self.migration, owner=self.worker(context), say=log.info, approval=approval)


class FindDueOperator(BaseOperator):
    """Finds the migrations whose users' time is over; by hand, the one of a tenant, whatever its deadline.

    Raises:
        AirflowFailException: a tenant was named, and none of its users is on the way.
    """

    ui_color = MigrationOperator.ui_color

    def execute(self, context: Context) -> list[str]:
        """Look."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.tenants.identity import identities_due

        tenant_id = context["params"].get("tenant_id")
        due = identities_due(portability(), tenant_id)
        if tenant_id and not due:
            raise AirflowFailException(
                f"expected users of tenant {tenant_id} to be on their way to another user pool, found none: they have all come over, the "
                "tenant is not on the target (before the switch, after a rollback), or there is no such tenant"
            )
        return due


class FinishIdentityOperator(MigrationOperator):
    """Imports the users who have not signed in since the move, and lets the old user pool go."""

    def step(self, p: Portability, context: Context) -> dict[str, Any]:
        """See `include.tenants.identity.finish_identity`."""
        from include.tenants.identity import finish_identity

        return finish_identity(p, p.store.load(self.migration), log.info).to_json()


class ReportAllOperator(BaseOperator):
    """Tells where every migration is.

    Raises:
        AirflowFailException: some need somebody.
    """

    ui_color = MigrationOperator.ui_color

    def execute(self, context: Context) -> list[str]:
        """Look at all; gives the migrations that need somebody."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.platform.run_page import write_note
        from include.tenants.overview import publish, survey, to_text

        p = portability()
        lines = survey(p, log.info)
        for line in to_text(lines).splitlines():
            log.info("%s", line)
        publish(p, lines)
        concerns = [f"{line.migration_id}: {line.concern}" for line in lines if line.concern]
        going_on = sum(not line.outcome for line in lines)
        write_note(
            context,
            lambda most: f"{len(lines)} migrations, {going_on} go on, {len(concerns)} need somebody"[:most],
        )
        if concerns:
            raise AirflowFailException(f"{len(concerns)} migrations need somebody: {'; '.join(concerns[:10])}")
        return concerns


def _answered(context: Context, task_id: str, so_far: str) -> Answer:
    """What a person has said; an approval always has a person and a reason, whatever was done to the task that asked.

    Raises:
        ApprovalRefused: there is no answer, or an approval without.
    """
    from include.tenants.exceptions import ApprovalRefused

    answer = context["ti"].xcom_pull(task_ids=task_id)
    if not answer:
        raise ApprovalRefused(
            f"expected an answer in {task_id}, found none (was it marked as success?); {so_far}. Clear it to be asked again"
        )
    said = read_answer(answer)
    if said.choice == APPROVE and not said.reasoned:
        raise ApprovalRefused(
            f"expected a person and a reason of at least {LEAST_REASON} characters, found {said.by} and {said.reason!r}; {so_far}. Clear "
            f"{task_id} to be asked again"
        )
    return said


def _asked_by(context: Context) -> str:
    """Who has triggered the run, as Airflow knows it; else the run."""
    run: Any = context["dag_run"]
    user = getattr(run, "triggering_user_name", None)
    return str(user or f"{context['ti'].dag_id}/{run.run_id}")
