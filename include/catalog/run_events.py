"""OpenLineage run events of a build: what was replicated, built, checked and published, column by column.

Whoever sends such an event again, a retry for one, makes the same: run id, type and time follow from what happened, never from the clock,
so that the event has the same client token (`data_platform.lineage.events`). Of rows and of dbt's or the warehouse's own words, which
may quote them, nothing is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    documentation_dataset,
    documentation_job,
    error_message_run,
    job_type_job,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
)
from openlineage.client.uuid import generate_static_uuid

from include.catalog.column_lineage import ColumnOrigins, ColumnRef, Kind, ModelLineage
from include.catalog.datasets import DatasetName, dataset_name
from include.catalog.dbt_graph import BY_REPLICATION, SourceTable, kind_of
from include.quality.assertions import FACET, NOT_EVALUATED, assertions_facet
from include.quality.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from include.catalog.column_lineage import Origins, ProjectLineage
    from include.catalog.dbt_graph import DbtGraph
    from include.quality.report import GateReport
    from include.warehouse.connection import WarehouseConnection
    from include.warehouse.dbt_run import NodeResult
    from include.warehouse.manifest import Column, Model
    from include.warehouse.products import Product
    from include.warehouse.publication import Publication

MYSQL_PORT: Final = 3306
TESTS: Final = "data_tests"
"""What follows the task in the name of the job that runs dbt's tests; a model has another name."""
ADDED_BY_REPLICATION: Final = "added by the replication in history mode"
_CLUSTER: Final = re.compile(r"arn:[\w-]+:rds:(?P<region>[\w-]+):(?P<account>\d{12}):(?:cluster|db):(?P<name>[\w-]+)")


@dataclass(frozen=True)
class TaskRun:
    """The Airflow task that did the work, as OpenLineage names it.

    Attributes:
        namespace: of jobs.
        job: ``<dag>.<task>``.
        dag_run: Airflow's id of the DAG's run.
        moment: UTC; the run's logical date, or when it was to start.
        run_id: gives the task's OpenLineage run id for one of its tries.
        attempt: the try that emits.
        root: the run that all belongs to: namespace, job, run id.
    """

    namespace: str
    job: str
    dag_run: str
    moment: datetime
    run_id: Callable[[int], str]
    attempt: int
    root: tuple[str, str, str]

    def parent(self, attempt: int) -> parent_run.ParentRunFacet:
        """The facet that joins an event to the task and the DAG's run."""
        namespace, job, run_id = self.root
        return parent_run.ParentRunFacet(
            run=parent_run.Run(self.run_id(attempt)),
            job=parent_run.Job(self.namespace, self.job),
            root=parent_run.Root(parent_run.RootRun(run_id), parent_run.RootJob(namespace, job)),
        )

    def child_run(self, moment: datetime, *parts: object) -> str:
        """The run id of something that this task did; the same for the same."""
        return str(
            generate_static_uuid(moment, "\n".join(map(str, (self.namespace, self.job, self.dag_run, *parts))).encode())
        )


@dataclass(frozen=True)
class BuildFacts:
    """What a build's events are made of.

    Attributes:
        task: that built.
        connection: the warehouse.
        graph: the dbt graph.
        lineage: of its columns.
        history_mode: see the setting.
        dbt_version: empty if unknown.
    """

    task: TaskRun
    connection: WarehouseConnection
    graph: DbtGraph
    lineage: ProjectLineage
    history_mode: bool
    dbt_version: str = ""

    def name(self, node: Model | SourceTable) -> DatasetName:
        """The dataset of a model where dbt builds it, or of a source's table."""
        if isinstance(node, SourceTable):
            return dataset_name(self.connection, node.schema, node.name, database=node.database)
        return dataset_name(self.connection, f"{self.connection.build_schema}_{node.schema_suffix}", node.name)

    def columns(self, table: SourceTable) -> tuple[Column, ...]:
        """A source table's columns: without history mode it lacks those of the replication."""
        return tuple(c for c in table.columns if self.history_mode or not c.name.startswith(BY_REPLICATION))

    def engine(self) -> dict[str, Any]:
        """The facet that says what ran."""
        version = self.dbt_version
        return {"processing_engine": processing_engine_run.ProcessingEngineRunFacet(version, "dbt")} if version else {}


# What dbt did


def build_events(
    facts: BuildFacts, nodes: Mapping[str, NodeResult], rows: Mapping[str, int], source_arn: str | None
) -> Iterator[RunEvent]:
    """All events of a build: replication, models, then tests; first what the newest try did.

    Args:
        facts: what they are made of.
        nodes: how each node ended, in whichever try.
        rows: of relations, where known.
        source_arn: the Aurora cluster that is replicated; None if it isn't known, then nothing is told of the replication.
    """
    ran = [
        (facts.graph.models[node.unique_id], node) for node in nodes.values() if node.unique_id in facts.graph.models
    ]
    ran = [(model, node) for model, node in ran if node.succeeded or node.failed]
    ran.sort(key=lambda found: -found[1].attempt)
    if source_arn:
        yield from _replication_events(facts, ran, source_arn)
    for model, node in ran:
        yield _model_event(facts, model, node, rows.get(node.unique_id))
    yield from _test_events(facts, nodes)


def _model_event(facts: BuildFacts, model: Model, node: NodeResult, rows: int | None) -> RunEvent:
    moment, parents = _moment(facts, node), list(facts.graph.parents(model))
    lineage = facts.lineage.of(model.unique_id, history_mode=facts.history_mode)
    run: dict[str, Any] = {"parent": facts.task.parent(node.attempt), **facts.engine()}
    if node.failed:
        told = f"dbt ended {model.name} with status {node.status}; its words are in the task's log"
        run["errorMessage"] = error_message_run.ErrorMessageRunFacet(told, "SQL")
    facets = _described(model.columns, kind_of(model), model.description)
    facets |= _column_facet(lineage, lambda ref: _name_of(facts, ref))
    statistics: dict[str, Any] = {} if rows is None or node.failed else {"outputStatistics": _statistics(rows)}
    return RunEvent(
        eventType=RunState.FAIL if node.failed else RunState.COMPLETE,
        eventTime=moment.isoformat(),
        run=Run(facts.task.child_run(moment, "model", model.unique_id, node.attempt), run),
        job=_job(facts.task, model.name, "DBT", "MODEL", model.description),
        inputs=[_input(facts, parent) for parent in parents],
        outputs=[OutputDataset(*facts.name(model), facets=facets, outputFacets=statistics)],
    )


def _test_events(facts: BuildFacts, nodes: Mapping[str, NodeResult]) -> Iterator[RunEvent]:
    """One for each try: all models and source tables that data tests were run on, with their assertions."""
    found: dict[int, list[NodeResult]] = {}
    for node in nodes.values():
        if node.unique_id in facts.graph.tests and (node.succeeded or node.failed):
            found.setdefault(node.attempt, []).append(node)
    for attempt, results in sorted(found.items(), reverse=True):
        moment = max(_moment(facts, node) for node in results)
        yield RunEvent(
            eventType=RunState.COMPLETE,
            eventTime=moment.isoformat(),
            run=Run(
                facts.task.child_run(moment, "tests", attempt),
                {"parent": facts.task.parent(attempt), **facts.engine()},
            ),
            job=_job(facts.task, TESTS, "DBT", "TEST", "dbt's data tests of the models that were built."),
            inputs=_tested(facts, results),
        )


def _tested(facts: BuildFacts, results: Iterable[NodeResult]) -> list[InputDataset]:
    assertions: dict[str, list[data_quality_assertions_dataset.Assertion]] = {}
    for node in sorted(results, key=lambda node: node.unique_id):
        assertions.setdefault(facts.graph.tests[node.unique_id].about, []).append(_dbt_assertion(facts, node))
    datasets = []
    for unique_id, told in sorted(assertions.items()):
        if (about := facts.graph.node(unique_id)) is not None:
            facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=told)
            datasets.append(InputDataset(*facts.name(about), facets=_type(kind_of(about)), inputFacets={FACET: facet}))
    return datasets


def _dbt_assertion(facts: BuildFacts, node: NodeResult) -> data_quality_assertions_dataset.Assertion:
    test = facts.graph.tests[node.unique_id]
    evaluated = node.status in {"pass", "warn", "fail"}
    return data_quality_assertions_dataset.Assertion(
        assertion=test.kind,
        success=node.status == "pass",
        column=test.column or None,
        severity=test.severity,
        name=test.name,
        actual=None if evaluated else NOT_EVALUATED,
    )


def _replication_events(
    facts: BuildFacts, ran: Iterable[tuple[Model, NodeResult]], source_arn: str
) -> Iterator[RunEvent]:
    """One for each source table that was read: from Aurora's table to its replica, when it was first read."""
    cluster = _CLUSTER.fullmatch(source_arn)
    if cluster is None:
        return
    # the endpoint's own id isn't in the ARN, and to ask for it would be a call of AWS more
    host = f"{cluster['name']}.{cluster['account']}.{cluster['region']}.rds.amazonaws.com"
    readers: dict[str, tuple[datetime, int]] = {}
    for model, node in ran:
        for unique_id in model.depends_on:
            if unique_id in facts.graph.sources:
                readers[unique_id] = min(
                    readers.get(unique_id, (datetime.max.replace(tzinfo=UTC), 0)), (_moment(facts, node), node.attempt)
                )
    for unique_id, (moment, attempt) in sorted(readers.items()):
        table = facts.graph.sources[unique_id]
        origin = DatasetName(f"mysql://{host}:{MYSQL_PORT}", f"{table.schema}.{table.name}")
        columns = facts.columns(table)
        own = [column for column in columns if not column.name.startswith(BY_REPLICATION)]
        lineage = _identity(own, unique_id, {c.name: ADDED_BY_REPLICATION for c in columns if c not in own})
        facets = _described(columns, "table", table.description)
        facets |= _column_facet(lineage, lambda _, origin=origin: origin)  # type: ignore[misc]
        job = Job(
            facts.task.namespace,
            f"zero_etl.{table.database}.{table.name}",
            {"jobType": job_type_job.JobTypeJobFacet("STREAMING", "ZERO_ETL", "REPLICATION")},
        )
        yield RunEvent(
            eventType=RunState.COMPLETE,
            eventTime=moment.isoformat(),
            run=Run(
                facts.task.child_run(moment, "replication", unique_id, attempt), {"parent": facts.task.parent(attempt)}
            ),
            job=job,
            inputs=[InputDataset(*origin, facets=_described(own, "table", table.description))],
            outputs=[OutputDataset(*facts.name(table), facets=facets)],
        )


def _moment(facts: BuildFacts, node: NodeResult) -> datetime:
    """When the node ended; of a state that does not say it, when the run began."""
    try:
        return datetime.fromisoformat(node.finished_at).astimezone(UTC)
    except ValueError:
        return facts.task.moment


# What the gate found and what was published


def gate_events(
    task: TaskRun, report: GateReport, connection: WarehouseConnection, product: Product
) -> Iterator[RunEvent]:
    """One for each relation that the gate checked, whatever it found: the relation in the audit schema with its assertions.

    The event's type says whether all checks could be evaluated; what they found, its assertions say.
    """
    moment = report.scanned_at.astimezone(UTC)
    for relation in report.relations:
        errored = any(result.outcome is Outcome.ERRORED for result in report.of(relation))
        dataset = InputDataset(
            *dataset_name(connection, product.audit_schema(connection), relation),
            facets=_type("table"),
            inputFacets={FACET: assertions_facet(report, relation)},
        )
        run: dict[str, Any] = {"parent": task.parent(task.attempt)}
        if errored:
            told = "a check could not be evaluated; the reason is in the log of the run's gate"
            run["errorMessage"] = error_message_run.ErrorMessageRunFacet(told, "SODA")
        yield RunEvent(
            eventType=RunState.FAIL if errored else RunState.COMPLETE,
            eventTime=moment.isoformat(),
            run=Run(task.child_run(moment, "gate", relation), run),
            job=_job(task, relation, "SODA", "CHECK", f"The contract's checks of {relation}."),
            inputs=[dataset],
        )


def publication_events(
    task: TaskRun,
    product: Product,
    publication: Publication,
    connection: WarehouseConnection,
    graph: DbtGraph,
    gate_report: GateReport | None,
) -> Iterator[RunEvent]:
    """One for each published relation: from the audit schema to what readers see, every column as it is.

    The gate's assertions are told of the relation that was checked, and of the published one too, where readers look.
    """
    moment = publication.published_at.astimezone(UTC)
    for relation in product.relations:
        model = graph.model_named(relation)
        columns = model.columns if model else ()
        audited = dataset_name(connection, product.audit_schema(connection), relation)
        checked: dict[str, Any] = {}
        if gate_report is not None and gate_report.of(relation):
            checked = {FACET: assertions_facet(gate_report, relation)}
        facets = _described(columns, "view", model.description if model else "")
        facets |= _column_facet(_identity(columns, relation), lambda _, audited=audited: audited)  # type: ignore[misc]
        facets |= {
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(publication.version),
            "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
                lifecycle_state_change_dataset.LifecycleStateChange.OVERWRITE
            ),
            **checked,
        }
        yield RunEvent(
            eventType=RunState.COMPLETE,
            eventTime=moment.isoformat(),
            run=Run(
                task.child_run(moment, "publication", relation, publication.version),
                {"parent": task.parent(task.attempt)},
            ),
            job=_job(task, relation, "AIRFLOW", "PUBLICATION", f"Publishes {product.name}.{relation}."),
            inputs=[InputDataset(*audited, facets=_type("table"), inputFacets=dict(checked))],
            outputs=[OutputDataset(*dataset_name(connection, product.name, relation), facets=facets)],
        )


# Facets


def _job(task: TaskRun, name: str, integration: str, kind: str, description: str) -> Job:
    facets: dict[str, Any] = {"jobType": job_type_job.JobTypeJobFacet("BATCH", integration, kind)}
    if description:
        facets["documentation"] = documentation_job.DocumentationJobFacet(description)
    return Job(task.namespace, f"{task.job}.{name}", facets)


def _input(facts: BuildFacts, node: Model | SourceTable) -> InputDataset:
    """A source's table comes with its columns, which nothing else tells where the replication isn't known."""
    facets = _described(facts.columns(node), "table", "") if isinstance(node, SourceTable) else _type(kind_of(node))
    return InputDataset(*facts.name(node), facets=facets)


def _type(kind: str) -> dict[str, Any]:
    """On every dataset of every event: a view's name in the catalog is another than a table's."""
    return {"datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind.upper())}


def _described(columns: Iterable[Column], kind: str, description: str) -> dict[str, Any]:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=column.name,
            type=column.data_type or None,
            description=column.description or None,
            ordinal_position=position,
        )
        for position, column in enumerate(columns, start=1)
    ]
    facets = _type(kind)
    if fields:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description)
    return facets


def _statistics(rows: int) -> output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet:
    return output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)


def _identity(columns: Iterable[Column], node: str, without: Mapping[str, str] | None = None) -> ModelLineage:
    """Every column comes from the one of the same name, but for those ``without``, each with its reason."""
    same = {c.name: ColumnOrigins({ColumnRef(node, c.name): frozenset({Kind.IDENTITY})}) for c in columns}
    return ModelLineage(same | {name: ColumnOrigins({}, reason) for name, reason in (without or {}).items()})


def _name_of(facts: BuildFacts, ref: ColumnRef) -> DatasetName | None:
    node = facts.graph.node(ref.node)
    return facts.name(node) if node else None


def _column_facet(lineage: ModelLineage, name_of: Callable[[ColumnRef], DatasetName | None]) -> dict[str, Any]:
    """A column that comes from no column says why; one of which nothing is known is not there."""
    if not lineage.columns:
        return {}
    fields = {
        name: column_lineage_dataset.Fields(
            inputFields=_input_fields(origin.inputs, name_of), transformationDescription=origin.reason or None
        )
        for name, origin in lineage.columns.items()
    }
    rows = _input_fields(lineage.rows, name_of)
    return {"columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=rows)}


def _input_fields(
    origins: Origins, name_of: Callable[[ColumnRef], DatasetName | None]
) -> list[column_lineage_dataset.InputField]:
    return [
        column_lineage_dataset.InputField(
            *dataset,
            ref.column,
            [
                column_lineage_dataset.Transformation("DIRECT" if kind.direct else "INDIRECT", kind.value)
                for kind in sorted(kinds)
            ],
        )
        for ref, kinds in origins.items()
        if (dataset := name_of(ref)) is not None
    ]
