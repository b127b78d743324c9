"""The tasks of a data product's workflow. Nothing heavy is imported before a task runs."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseBranchOperator, BaseOperator, BaseOperatorLink

from data_platform.connections import find_connection
from include.platform import connections
from include.platform.assets import FINANCE_MODELS, FINANCE_PRODUCTS, model_asset
from include.platform.paths import DBT_PROJECT_DIR
from include.platform.settings import DbtExecution, load_settings
from include.warehouse.connection import DuckDbConnection, warehouse_connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey
    from pydantic import JsonValue

    from include.quality.held import HeldStore, HeldVersion
    from include.quality.report import GateReport
    from include.warehouse.build import BuildReport
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.dbt_run import DbtProcess
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication
    from include.warehouse.run_state import RunState, RunStateStore

log = logging.getLogger(__name__)

SUMMARY_KEY = "dbt_summary"
DOCS_CURRENT = "docs_are_current"


class DbtDocsLink(BaseOperatorLink):
    """Button on the task: dbt's documentation."""

    name = "dbt docs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page that the plugin ``dbt_docs`` serves."""
        return "/dbt-docs/index.html"


class DbtOperator(BaseOperator):
    """A task that runs dbt, and takes it along when it is killed.

    Args:
        warehouse_conn_id: connection of the warehouse.
    """

    ui_color = "#ffe3d4"

    def __init__(self, *, warehouse_conn_id: str = connections.WAREHOUSE_BUILD, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self._dbt: DbtProcess | None = None

    def on_kill(self) -> None:
        """Stop dbt and its children."""
        if self._dbt is not None:
            self._dbt.terminate()

    def _start(self, context: Context, *, pin_anew: bool = False) -> tuple[DbtProcess, WarehouseConnection]:
        """Prepare dbt for this DAG, with a warm partial parse where an earlier run on this worker left one."""
        from include.warehouse.dbt_run import DbtProcess
        from include.warehouse.profile import dbt_variables, inherited_environment, profile_environment

        settings = load_settings()
        ti = context["ti"]
        warehouse = warehouse_connection(find_connection(self.warehouse_conn_id))
        profile = profile_environment(
            warehouse,
            threads=settings.dbt_threads,
            scratch=settings.scratch_dir,
            run_key=f"{ti.dag_id}/{ti.run_id}",
            pin_anew=pin_anew,
        )
        target = settings.scratch_dir / "dbt" / ti.dag_id
        environment = {**inherited_environment(), **profile}
        self._dbt = DbtProcess(settings.dbt_executable, DBT_PROJECT_DIR, target, environment, dbt_variables(settings))
        return self._dbt, warehouse


class BuildModelsOperator(DbtOperator):
    """Builds and tests the dbt graph in one dbt process; each model that ran becomes an asset event.

    Reads the run's params ``select`` and ``full_refresh``. A retry resumes from the failure, but see `RunState.reason_not_to_resume`. The
    XCom ``dbt_summary``, which a failure leaves too, is small: counts, what failed with dbt's words, what was skipped, rows. The result
    says whether the dbt docs are current. What each model was made of is told as lineage, a failed build's too.

    Args:
        health_task_id: task whose result says what is replicated from where; None if there is none.

    Raises:
        DbtNodesFailed: with dbt's message of each failed node.
        DbtCouldNotRun: the project or the profile is broken.
        DbtInterrupted: dbt was killed.
        AirflowFailException: the selection is malformed or matches nothing; a retry would not help.
    """

    operator_extra_links = (DbtDocsLink(),)

    def __init__(self, *, health_task_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.health_task_id = health_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Build."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.catalog.dbt_lineage import emit_build, warm_up
        from include.warehouse.build import BuildReport, count_rows, earlier_state, run_build
        from include.warehouse.exceptions import SelectionRefused
        from include.warehouse.gateway import open_warehouse
        from include.warehouse.object_store import s3_client
        from include.warehouse.profile import dbt_variables
        from include.warehouse.run_state import RunState, RunStateStore, project_fingerprint

        ti, params, settings = context["ti"], context["params"], load_settings()
        store = RunStateStore(s3_client, settings.bucket, dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id)
        wanted = RunState(
            project_fingerprint(DBT_PROJECT_DIR, dbt_variables(settings)),
            params.get("select") or "",
            bool(params.get("full_refresh")),
        )
        earlier = earlier_state(store, wanted, ti.try_number)
        dbt, warehouse = self._start(context, pin_anew=earlier is None)
        try:
            report = run_build(dbt, store, wanted, ti.try_number, earlier, on_start=warm_up)
        except SelectionRefused as error:
            raise AirflowFailException(str(error)) from error
        rows = count_rows(lambda: open_warehouse(warehouse, read_only=True), report.built_models)
        report = BuildReport(report.state, report.outcome, report.resumed, rows)
        docs_current = self._keep(store, dbt, wanted.project)
        ti.xcom_push(SUMMARY_KEY, report.summary())
        health = ti.xcom_pull(task_ids=self.health_task_id) if self.health_task_id else None
        emit_build(context, report, warehouse, health=health)
        failure = report.error
        if failure is not None or ti.try_number > 1:
            tell_on_run_page(context, report)
        if failure is not None:
            if isinstance(failure, SelectionRefused):
                raise AirflowFailException(str(failure)) from failure
            raise failure
        self._add_asset_events(context, report)
        self._complete(store, report.state)
        return {DOCS_CURRENT: docs_current}

    @staticmethod
    def _complete(store: RunStateStore, state: RunState) -> None:
        """Last of all: a try that ended before would otherwise be followed by one that builds everything again."""
        try:
            store.complete(state)
        except Exception as error:
            log.warning("the success was not kept in S3, to clear this task will build nothing: %s", error)

    @staticmethod
    def _keep(store: RunStateStore, dbt: DbtProcess, project: str) -> bool:
        """Keep dbt's artifacts; whether the docs are current is asked here, where S3 has been reached already."""
        from include.warehouse.docs import docs_are_current

        try:
            store.save_artifacts(dbt.target_dir, project)
            return docs_are_current(store.client, store.bucket, project)
        except Exception as error:  # the build itself is done
            log.warning("dbt's artifacts were not kept in S3: %s", error)
            return False

    @staticmethod
    def _add_asset_events(context: Context, report: BuildReport) -> None:
        from include.warehouse.manifest import load_models

        ti = context["ti"]
        layers = {model.unique_id: model.layer for model in load_models()}
        events = context["outlet_events"][FINANCE_MODELS]
        for node in report.built_models:
            extra: dict[str, JsonValue] = {
                "duration_s": node.duration_seconds,
                "rows": report.rows.get(node.unique_id),
                "status": node.status,
                "run_id": ti.run_id,
                "try": node.attempt,
                "log_url": re.sub(r"try_number=\d+", f"try_number={node.attempt}", ti.log_url),
            }
            if node.unique_id not in layers:  # the committed manifest is older than the project
                log.warning(
                    "%s is not in the committed manifest, it gets no asset event; run make manifest", node.unique_id
                )
                continue
            events.add(model_asset(node.name, layers[node.unique_id]), extra=extra)


def tell_on_run_page(context: Context, report: BuildReport) -> None:
    """Write what failed, or that a retry mended it, as the run's note."""
    from include.platform.run_page import write_note

    told = report.error or f"succeeded; earlier tries had built {report.resumed} of {len(report.state.nodes)} nodes"
    write_note(context, lambda most: str(told)[:most])


def this_runs_build(context: Context, build_task_id: str) -> str:
    """The token of the build that is in the audit schema, which must be this run's.

    All runs build the same relations. A task of an older run that is cleared would otherwise check, hold or publish what another run has
    built since, under its own name. With one task per model nobody notes which run builds, so there the token is empty.

    Raises:
        AirflowFailException: another run has built since.
        RunStateUnreadable: S3 does not say.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from include.warehouse.object_store import s3_client
    from include.warehouse.run_state import RunStateStore

    ti, settings = context["ti"], load_settings()
    if settings.dbt_execution is not DbtExecution.GRAPH:
        return ""
    store = RunStateStore(s3_client, settings.bucket, dag_id=ti.dag_id, run_id=ti.run_id, task_id=build_task_id)
    build = store.last_build()
    if build is None or build.run_id != ti.run_id:
        raise AirflowFailException(
            f"expected the relations of this run, {ti.run_id}, found that run {build.run_id if build else 'unknown'} has built since; "
            f"nothing was changed. Clear {build_task_id} of this run and what follows it, or start a new run"
        )
    return build.token


class PublishProductsOperator(BaseBranchOperator):
    """Publishes a product, then lets only those follow-up tasks run that have something to do.

    Args:
        product: what to publish.
        health_task_id: task whose result names the source's checkpoint.
        build_task_id: the task that builds; its result says whether the dbt docs are current.
        retire_task_id: follows on warehouses that keep old versions.
        docs_task_id: follows unless dbt's documentation is known to be current.
        catalog_task_id: follows where there is a catalog.
        warehouse_conn_id: connection of the warehouse.
    """

    ui_color = "#e2f0cb"

    def __init__(
        self,
        *,
        product: Product,
        health_task_id: str,
        build_task_id: str,
        retire_task_id: str,
        docs_task_id: str,
        catalog_task_id: str,
        warehouse_conn_id: str = connections.WAREHOUSE_BUILD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.product = product
        self.health_task_id = health_task_id
        self.build_task_id = build_task_id
        self.retire_task_id = retire_task_id
        self.docs_task_id = docs_task_id
        self.catalog_task_id = catalog_task_id
        self.warehouse_conn_id = warehouse_conn_id

    def choose_branch(self, context: Context) -> Iterable[str]:
        """Publish what the gate has let through: never the build of a selection, which leaves relations of another build beside its own.

        Raises:
            PublishFailed: readers still see the version before.
            AirflowFailException: the gate has not let this run's data through, or another run has built since.
        """
        from include.catalog.dbt_lineage import emit_publication
        from include.quality.evidence import EvidenceStore
        from include.warehouse.object_store import s3_client
        from include.warehouse.publication import Publication
        from include.warehouse.publish import publish

        ti, settings = context["ti"], load_settings()
        build = this_runs_build(context, self.build_task_id)
        health = ti.xcom_pull(task_ids=self.health_task_id) or {}
        report = self._passed(EvidenceStore(s3_client, settings.bucket, self.product.name).load(ti.run_id), build)
        warehouse = warehouse_connection(find_connection(self.warehouse_conn_id))
        publication = Publication.now(ti.run_id, str(health.get("checkpoint") or ""), report.score())
        publish(warehouse, self.product, publication)
        context["outlet_events"][FINANCE_PRODUCTS].extra = publication.told(self.product.relations)
        self._end_hold(warehouse, publication)
        emit_publication(context, self.product, publication, warehouse, report)
        built = ti.xcom_pull(task_ids=self.build_task_id) or {}
        followers = [] if isinstance(warehouse, DuckDbConnection) else [self.retire_task_id]
        if settings.catalog_domain_id:
            followers.append(self.catalog_task_id)
        return followers if built.get(DOCS_CURRENT) else [*followers, self.docs_task_id]

    @staticmethod
    def _passed(report: GateReport | None, build: str) -> GateReport:
        """Whatever Airflow shows, as after "mark success": only what the gate has let through is published, of this very build."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.quality.report import Verdict

        judged = report is not None and report.build == build
        if report is None or not judged or report.verdict not in (Verdict.PASSED, Verdict.WARNED):
            found = (
                "no report of it"
                if report is None
                else report.verdict.value
                if judged
                else "a report of an earlier build"
            )
            raise AirflowFailException(
                f"expected the quality gate to have passed in this run, found {found}; "
                "nothing was published. Clear check_quality, or decide about the held version in release_finance_products"
            )
        return report

    def _end_hold(self, warehouse: WarehouseConnection, publication: Publication) -> None:
        """What was held before is older than what readers now have: it goes, and nobody need decide about it any more."""
        from include.quality.held import HeldStore
        from include.quality.operators import withdraw_question
        from include.warehouse.object_store import s3_client
        from include.warehouse.publish import discard

        store = HeldStore(s3_client, load_settings().bucket, self.product.name)
        try:
            held = self._held_if_readable(store)
            if held is None:
                return
            discard(warehouse, self.product, held.version)
            store.clear()
            if held.asked_in:
                withdraw_question(
                    held.asked_in,
                    f"Nothing left to decide: readers have the newer {publication.version} of {publication.run_id}",
                )
        except Exception as error:  # the publication is done; an answer about the held version would be refused
            log.warning("the version that was held before was not removed: %s", error)

    @staticmethod
    def _held_if_readable(store: HeldStore) -> HeldVersion | None:
        """What can't be read is forgotten: whatever it named is older than what readers now have."""
        from include.quality.exceptions import EvidenceUnreadable

        try:
            return store.load()
        except EvidenceUnreadable as error:
            log.warning("%s", error)
            store.clear()
            return None


class RetireVersionsOperator(BaseOperator):
    """Drops published versions that readers left longer ago than the grace time.

    Args:
        product: whose versions.
        warehouse_conn_id: connection of the warehouse.
    """

    def __init__(
        self, *, product: Product, warehouse_conn_id: str = connections.WAREHOUSE_BUILD, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.product = product
        self.warehouse_conn_id = warehouse_conn_id

    def execute(self, context: Context) -> list[str]:
        """Drop; the result names the dropped tables."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.warehouse.gateway import open_warehouse
        from include.warehouse.published_views import retire_versions

        warehouse = warehouse_connection(find_connection(self.warehouse_conn_id))
        if isinstance(warehouse, DuckDbConnection):
            raise AirflowSkipException("a published file takes the place of the one before; there are no old versions")
        dropped = retire_versions(open_warehouse(warehouse), self.product, load_settings().publish_grace_seconds)
        self.log.info("dropped %d tables of old versions: %s", len(dropped), ", ".join(dropped) or "none")
        return dropped


class WriteDocsOperator(DbtOperator):
    """Writes dbt's documentation to S3, where the plugin ``dbt_docs`` reads it; skipped while it is current."""

    def execute(self, context: Context) -> None:
        """Write.

        Raises:
            DbtCouldNotRun: dbt could not document the project.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        from include.warehouse.docs import docs_are_current, save_docs
        from include.warehouse.exceptions import DbtCouldNotRun
        from include.warehouse.object_store import s3_client
        from include.warehouse.profile import dbt_variables
        from include.warehouse.run_state import project_fingerprint

        settings = load_settings()
        client, bucket = s3_client(), settings.bucket
        project = project_fingerprint(DBT_PROJECT_DIR, dbt_variables(settings))
        if docs_are_current(client, bucket, project):
            raise AirflowSkipException("the dbt docs are those of this version of the project")
        dbt, _ = self._start(context)
        outcome = dbt.run(["docs", "generate"], ["--static"])
        if outcome.exit_code != 0:
            words = "\n".join(outcome.errors) or "nothing"
            raise DbtCouldNotRun(
                f"expected dbt docs generate to succeed, found exit code {outcome.exit_code}. dbt says:\n{words}"
            )
        save_docs(client, bucket, project, dbt.target_dir)
