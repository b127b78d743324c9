"""The tasks around the quality gate. Nothing heavy is imported before a task runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink

from data_platform.connections import find_connection
from include.platform import connections
from include.platform.assets import FINANCE_HELD, FINANCE_HELD_VERSIONS, FINANCE_PRODUCTS
from include.platform.question import LEAST_REASON, QuestionOperator, read_answer
from include.platform.settings import load_settings
from include.warehouse.connection import warehouse_connection

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from include.quality.evidence import EvidenceStore
    from include.quality.held import HeldStore, HeldVersion
    from include.quality.report import GateReport
    from include.warehouse.child_process import ChildProcess
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.products import Product

log = logging.getLogger(__name__)

RELEASE_DAG, ASK_TASK = "release_finance_products", "ask_person"
REPORT_KEY = "quality_report"
"""XCom of the gate: what it found, as a person reads it."""
PUBLISH, KEEP = "Publish it anyway", "Keep it held"
"""The two answers to the question what to do with a held version."""
PIN_MARGIN = timedelta(hours=1)
"""The question begins a little after the pin, and the answer may wait for a build to end."""
QUESTION_CHARACTERS = 6000
_FAILED_TOLD = 5


class HeldVersionLink(BaseOperatorLink):
    """Button on the task: where a held version is decided about."""

    name = "held version"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The DAG that asks a person."""
        return f"/dags/{RELEASE_DAG}"


class ProductOperator(BaseOperator):
    """A task that knows a product and its warehouse.

    Args:
        product: whose relations.
        warehouse_conn_id: connection of the warehouse.
    """

    def __init__(
        self, *, product: Product, warehouse_conn_id: str = connections.WAREHOUSE_BUILD, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.product = product
        self.warehouse_conn_id = warehouse_conn_id

    def warehouse(self) -> WarehouseConnection:
        """The warehouse that the connection describes."""
        return warehouse_connection(find_connection(self.warehouse_conn_id))

    def evidence(self) -> EvidenceStore:
        """The gate's reports."""
        from include.quality.evidence import EvidenceStore
        from include.warehouse.object_store import s3_client

        return EvidenceStore(s3_client, load_settings().bucket, self.product.name)

    def held(self) -> HeldStore:
        """Which version is held."""
        from include.quality.held import HeldStore
        from include.warehouse.object_store import s3_client

        return HeldStore(s3_client, load_settings().bucket, self.product.name)


class CheckQualityOperator(ProductOperator):
    """Holds what dbt has built in the audit schema to the data contracts; see `include.quality.gate`.

    The result is small: verdict, score, how many checks, the report's address. The XCom ``quality_report`` tells what a person wants to
    know, failing rows included, but only columns that the contract lets everybody see. Skipped after the build of a selection.

    Args:
        build_task_id: the task that builds; it must have been this run's.

    Raises:
        AirflowFailException: the data does not keep the contracts, or a contract is malformed; a retry would find the same.
        GateErrored: a check could not be evaluated, so nothing is known of the data; a retry may help.
        GateError: Soda could not run.
    """

    operator_extra_links = (HeldVersionLink(),)
    ui_color = "#fff3b0"

    def __init__(self, *, build_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.build_task_id = build_task_id
        self._process: ChildProcess | None = None

    def on_kill(self) -> None:
        """Stop Soda."""
        if self._process is not None:
            self._process.terminate()

    def execute(self, context: Context) -> dict[str, Any]:
        """Check."""
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        from include.catalog.dbt_lineage import emit_gate
        from include.contracts.exceptions import ContractError
        from include.platform.run_page import write_note
        from include.quality.exceptions import GateErrored
        from include.quality.render import to_note, to_text, to_xcom
        from include.quality.report import Verdict
        from include.warehouse.operators import this_runs_build

        ti = context["ti"]
        if selection := context["params"].get("select"):
            raise AirflowSkipException(
                f"a selection was built ({selection}), so there is nothing to check or publish; readers keep the version before; run "
                "without selection to publish"
            )
        build = this_runs_build(context, self.build_task_id)
        warehouse = self.warehouse()
        try:
            report = replace(self._scan(warehouse), build=build)
        except ContractError as error:
            raise AirflowFailException(str(error)) from error
        for line in to_text(report).splitlines():
            log.info("%s", line)
        uri = self.evidence().save(ti.run_id, report)
        ti.xcom_push(REPORT_KEY, to_xcom(report))
        emit_gate(context, report, warehouse, self.product)
        if report.verdict is not Verdict.PASSED:
            write_note(context, lambda most: to_note(report, most))
        summary = _summary(report) | {"report": uri}
        if report.verdict is Verdict.ERRORED:
            raise GateErrored(
                f"{_told(report)}. Nothing was published, readers keep the version before. What could not be evaluated is no proof "
                "against the data: mend the rule or the warehouse, then clear this task"
            )
        if report.verdict is Verdict.FAILED:
            raise AirflowFailException(
                f"{_told(report)}. Nothing was published, readers keep the version before; hold_products keeps what failed. Mend the "
                f"source and let the next build pass, or decide about the held version in {RELEASE_DAG}. Report: {uri}"
            )
        return summary

    def _scan(self, warehouse: WarehouseConnection) -> GateReport:
        from include.contracts.compile import compile_checks
        from include.contracts.load import hold_published, load_products
        from include.contracts.warehouse_types import Dialect
        from include.quality.gate import run_gate
        from include.warehouse.child_process import ChildProcess
        from include.warehouse.connection import DuckDbConnection

        products = load_products(self.product.name)
        hold_published(products, self.product.relations)
        schema = self.product.audit_schema(warehouse)
        dialect = Dialect.DUCKDB if isinstance(warehouse, DuckDbConnection) else Dialect.REDSHIFT
        checks = [check for product in products for check in compile_checks(product, dialect, schema)]
        self._process = ChildProcess()
        return run_gate(checks, warehouse, schema, process=self._process)


def _summary(report: GateReport) -> dict[str, Any]:
    from include.quality.report import Outcome

    return {
        "verdict": report.verdict.value,
        "score": report.score(),
        "checks": len(report.results),
        "not_passed": [result.check.key for result in report.results if result.outcome is not Outcome.PASSED],
        "seconds": report.seconds,
    }


def _told(report: GateReport) -> str:
    """What did not pass, what blocks first."""
    from include.contracts.checks import Severity
    from include.quality.report import Outcome

    results = [result for result in report.results if result.outcome is not Outcome.PASSED]
    results.sort(key=lambda r: (r.outcome is not Outcome.ERRORED, r.check.severity is not Severity.ERROR))
    lines = [f"{result.check.key}: {result.message}" for result in results[:_FAILED_TOLD]]
    more = f"; and {len(results) - _FAILED_TOLD} more" if len(results) > _FAILED_TOLD else ""
    return f"{len(results)} of {len(report.results)} checks did not pass (score {report.score():.2f} %): {'; '.join(lines)}{more}"


class HoldProductsOperator(ProductOperator):
    """Keeps what the gate has refused, where no reader looks, until it is decided about or a better version is published.

    Follows the gate's failure. The first version that is held since the last publication makes the asset ``finance_held`` an event, which
    starts the DAG that asks a person; the builds that fail after it replace what is held, unless that person is being asked.

    Args:
        health_task_id: task whose result names the source's checkpoint.
        build_task_id: the task that builds.
    """

    operator_extra_links = (HeldVersionLink(),)

    def __init__(self, *, health_task_id: str, build_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.health_task_id = health_task_id
        self.build_task_id = build_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Hold.

        Raises:
            PublishFailed: it could not be written.
            AirflowSkipException: the gate has not judged this run's data, or not refused it.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        from include.quality.held import HeldVersion
        from include.quality.report import Verdict
        from include.warehouse.operators import this_runs_build
        from include.warehouse.publication import Publication
        from include.warehouse.publish import discard, hold

        ti = context["ti"]
        report = self.evidence().load(ti.run_id)
        if report is None or report.verdict in (Verdict.PASSED, Verdict.WARNED):
            raise AirflowSkipException("the gate has refused nothing in this run; why it failed is in its own log")
        if this_runs_build(context, self.build_task_id) != report.build:
            raise AirflowSkipException(
                "the gate's report is of an earlier build of this run; this one it has not judged"
            )
        store, warehouse = self.held(), self.warehouse()
        before = store.load()
        now = datetime.now(UTC)
        if before and before.run_id != ti.run_id and before.pinned(now):
            log.info(
                "version %s of run %s stays the held one: a person is being asked about it until %s. What this run built is in the audit "
                "schema until the next build",
                before.version,
                before.run_id,
                before.pinned_until,
            )
            return {"held": before.version, "of_run": before.run_id}
        health = ti.xcom_pull(task_ids=self.health_task_id) or {}
        publication = Publication.now(ti.run_id, str(health.get("checkpoint") or ""), report.score())
        hold(warehouse, self.product, publication)
        store.save(HeldVersion(publication.version, ti.run_id, publication.source_checkpoint, report.score(), now))
        if before is None or (before.run_id == ti.run_id and before.asked_in is None):  # or a try that died has held it
            context["outlet_events"][FINANCE_HELD_VERSIONS].add(FINANCE_HELD, extra={"version": publication.version})
        if before is not None:
            discard(warehouse, self.product, before.version)
        return {"held": publication.version, "of_run": ti.run_id}


class FindHeldOperator(ProductOperator):
    """Finds the held version and pins it while a person is asked; the result has what there is to know of it.

    Args:
        answer_within: how long the person has.

    Raises:
        AirflowSkipException: nothing is held, or readers have something newer.
    """

    def __init__(self, *, answer_within: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.answer_within = answer_within

    def execute(self, context: Context) -> dict[str, Any]:
        """Find."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.quality.render import to_markdown
        from include.warehouse.publish import current_version, discard

        store, warehouse = self.held(), self.warehouse()
        held = store.load()
        if held is None:
            raise AirflowSkipException("no version is held: there is nothing to decide about")
        current = current_version(warehouse, self.product)
        if current is not None and current >= held.version:
            discard(warehouse, self.product, held.version)
            store.clear()
            raise AirflowSkipException(
                f"readers have version {current}; the held {held.version} is not newer and was removed"
            )
        report = self.evidence().load(held.run_id)
        store.pin(held, datetime.now(UTC) + self.answer_within + PIN_MARGIN, context["ti"].run_id)
        told = (
            "The gate's report can't be found; look at the run."
            if report is None
            else to_markdown(report, limit=QUESTION_CHARACTERS)
        )
        return {
            "version": held.version,
            "built_by": held.run_id,
            "source_checkpoint": held.source_checkpoint,
            "score": held.score,
            "failed": _summary(report)["not_passed"] if report else [],
            "question": _question(held, current, told),
        }


def _question(held: HeldVersion, current: str | None, told: str) -> str:
    return (
        f"Version **{held.version}** of run `{held.run_id}` is held since {held.held_at.isoformat(timespec='seconds')}. Readers have "
        f"{f'version {current}' if current else 'no version yet'}.\n\n{told}\n\n"
        f"*{PUBLISH}*: readers see this version although these checks failed; your name and reason are published with it. "
        f"*{KEEP}*: nothing changes; the next build that passes the gate replaces it."
    )


class AskPersonOperator(QuestionOperator):
    """Asks whether the held version is to be published all the same; silence keeps it held.

    Args:
        find_task_id: task that found the version.
        answer_within: how long the person has.
    """

    def __init__(self, *, find_task_id: str, answer_within: timedelta, **kwargs: Any) -> None:
        found = f"ti.xcom_pull(task_ids='{find_task_id}')"
        super().__init__(
            subject=f"Publish version {{{{ {found}['version'] }}}}, which the quality gate has refused?",
            body=f"{{{{ {found}['question'] }}}}",
            options=[PUBLISH, KEEP],
            default=KEEP,
            reason=f"Why readers may have it: at least {LEAST_REASON} characters, told to every reader. Who gives none is asked again.",
            reasoned=[PUBLISH],
            answer_within=answer_within,
            **kwargs,
        )


def withdraw_question(asked_in: str, reason: str) -> None:
    """Answer for the person who is being asked, because there is nothing left to decide. A failure to do so is only logged.

    Whoever answers all the same learns that readers have something newer, and publishes nothing.

    Args:
        asked_in: run of the DAG that asks.
        reason: what is told as the reason.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.platform.airflow_api import AirflowApiError, airflow_api_from

    path = f"/dags/{RELEASE_DAG}/dagRuns/{quote(asked_in, safe='')}/taskInstances/{ASK_TASK}/-1/hitlDetails"
    try:
        api = airflow_api_from(find_connection(connections.AIRFLOW_API))
        api.request("PATCH", path, {"chosen_options": [KEEP], "params_input": {"reason": reason}})
    except AirflowNotFoundException:
        log.info("no connection %s: the question in %s stays open", connections.AIRFLOW_API, asked_in)
    except AirflowApiError as error:
        if error.status in {404, 409}:  # the run is gone, or somebody was faster
            return
        log.warning("the question in %s stays open: %s", asked_in, error)
    except Exception as error:  # the publication is what counts
        log.warning("the question in %s stays open: %s", asked_in, error)


class ReleaseHeldOperator(ProductOperator):
    """Does what the person has decided, and records who that was and why. It may run twice or die at any line.

    Args:
        find_task_id: task that found the version.
        ask_task_id: task that asked.

    Raises:
        AirflowFailException: without a person or a reason, or the version isn't held any more. Nothing was published.
        PublishFailed: readers still see the version before; clear the task.
        AirflowSkipException: it is kept held.
    """

    ui_color = "#e2f0cb"

    def __init__(self, *, find_task_id: str, ask_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.find_task_id = find_task_id
        self.ask_task_id = ask_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Release, or keep."""
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

        from include.catalog.dbt_lineage import emit_publication
        from include.quality.held import Decision
        from include.warehouse.exceptions import ReleaseRefused
        from include.warehouse.publication import Publication
        from include.warehouse.publish import release

        ti, store = context["ti"], self.held()
        found, answer = ti.xcom_pull(task_ids=self.find_task_id), ti.xcom_pull(task_ids=self.ask_task_id)
        if not found or not answer:
            raise AirflowFailException(
                f"expected the result of {self.find_task_id} and an answer in {self.ask_task_id}, found none (was one marked as success?); "
                f"nothing was published. Clear {self.find_task_id}"
            )
        said = read_answer(answer)
        if said.choice == PUBLISH and not said.reasoned:
            raise AirflowFailException(
                f"expected a person and a reason of at least {LEAST_REASON} characters to publish {found['version']}, found "
                f"{said.by} and {said.reason!r}; nothing was published. Clear {self.ask_task_id} to be asked again"
            )
        decision = Decision(
            found["version"],
            found["built_by"],
            said.choice,
            said.by,
            said.reason,
            said.at,
            tuple(found["failed"]),
        )
        uri = store.record(ti.run_id, decision)
        held = store.load()
        if said.choice == KEEP:
            if held and held.version == found["version"]:
                store.unpin(held)
            raise AirflowSkipException(f"{said.by} decided to keep {found['version']} held ({uri})")
        warehouse = self.warehouse()
        if held and held.version != found["version"]:
            raise AirflowFailException(
                f"expected {found['version']} to be held, found {held.version} of run {held.run_id}, which replaced it; nothing was "
                f"published. Clear {self.find_task_id} to be asked about that one"
            )
        publication = Publication(
            found["version"], found["built_by"], found["source_checkpoint"], datetime.now(UTC), found["score"]
        ).released(said.by, said.reason)
        try:
            release(warehouse, self.product, publication)
        except ReleaseRefused as error:
            if held:
                store.clear()  # what it names can't be released, now or later
            raise AirflowFailException(
                f"{error}. The held version is forgotten: the next build that is refused is held anew"
            ) from error
        store.clear()
        emit_publication(context, self.product, publication, warehouse, self.evidence().load(found["built_by"]))
        context["outlet_events"][FINANCE_PRODUCTS].extra = publication.told(self.product.relations)
        log.info("%s published %s: %s (%s)", said.by, publication.version, said.reason, uri)
        return {"version": publication.version, "run_id": found["built_by"], "decision": uri}
