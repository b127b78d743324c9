"""The whole graph: a build for real, gated and published, told to the catalog, and walked back column by column to the source."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import pytest

from data_platform.lineage.naming import Naming
from data_platform.lineage.store import open_store
from include.catalog.column_lineage import ColumnRef, Kind, load_column_lineage, render
from include.catalog.datasets import relation_identifier
from include.catalog.dbt_graph import load_graph
from include.catalog.dbt_lineage import EmissionSummary, emit_build, emit_gate, emit_publication
from include.catalog.reconcile import Options, Reconciler
from include.catalog.reconcile_catalog import LineageCatalog
from include.catalog.spool import Spool
from include.contracts.compile import compile_checks
from include.contracts.load import load_products
from include.contracts.warehouse_types import Dialect
from include.local.aws.trial import trial_aws
from include.local.catalog.trial import TrialCatalog, trial_catalog
from include.local.lineage.project import Compilations, Compiled, compile_project, project_lineage
from include.local.tickit.schema import DATABASE, TABLES
from include.platform.paths import DBT_COLUMN_LINEAGE
from include.platform.settings import load_settings
from include.quality.gate import run_gate
from include.quality.report import Verdict
from include.warehouse.build import BuildReport, count_rows, run_build
from include.warehouse.connection import DuckDbConnection, StandsFor
from include.warehouse.dbt_run import DbtProcess
from include.warehouse.gateway import open_warehouse
from include.warehouse.products import published_product
from include.warehouse.profile import inherited_environment, profile_environment
from include.warehouse.publication import Publication
from include.warehouse.publish import publish, published_file
from include.warehouse.run_state import RunState, RunStateStore
from tests.dbt.harness import DBT_PROJECT_DIR, LOADED_AT, OFFLINE, VARIABLES, Warehouse, awkward
from tests.include.catalog.emission import HOST, NAMES, RUN_ID, SOURCE_ARN, context, openlineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.quality.report import GateReport

pytestmark = pytest.mark.warehouse

FINANCE = published_product("finance")
NAMING = Naming.from_properties({**NAMES, "view_schemas": ["finance"]})
ARN = "arn:aws:redshift-serverless:us-east-1:123456789012"
AURORA = "mysql://aurora-zeroetl-integration.123456789012.us-east-1.rds.amazonaws.com:3306"
AT_ONCE = Options(events_per_second=0)


@dataclass(frozen=True)
class Told:
    """A build of which all was told, and the catalog that was told it."""

    connection: DuckDbConnection
    report: BuildReport
    gate: GateReport
    publication: Publication
    summaries: dict[str, EmissionSummary]
    spool: str
    catalog: TrialCatalog
    compiled: Compiled

    def identifier(self, relation: str) -> str:
        return relation_identifier(self.connection, NAMING, FINANCE.name, relation)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    from include.local.aurora.snapshot import build_snapshot
    from include.local.tickit.generate import generate

    home = tmp_path_factory.mktemp("told")
    snapshot = build_snapshot(awkward(generate("small")), home / "replica.duckdb", as_of=LOADED_AT)
    connection = DuckDbConnection(
        home / "work.duckdb",
        home / "published",
        {"aurora_zeroetl_integration": snapshot},
        stands_for=StandsFor(HOST, 5439, "dev"),
    )
    profile = profile_environment(connection, threads=4, scratch=home, run_key=RUN_ID)
    dbt = DbtProcess(
        load_settings().dbt_executable,
        DBT_PROJECT_DIR,
        home / "target",
        {**inherited_environment(), **profile},
        VARIABLES,
    )
    with trial_aws(["data-platform"]) as url, trial_catalog() as catalog:
        s3 = boto3.client("s3", endpoint_url=url)
        store = RunStateStore(
            lambda: s3, "data-platform", dag_id="build_finance_products", run_id=RUN_ID, task_id="build_models"
        )
        built = run_build(dbt, store, RunState("project", "", full_refresh=False), attempt=1)
        assert built.error is None
        rows = count_rows(lambda: open_warehouse(connection, read_only=True), built.built_models)
        report = BuildReport(built.state, built.outcome, rows=rows)
        schema = FINANCE.audit_schema(connection)
        checks = [c for product in load_products("finance") for c in compile_checks(product, Dialect.DUCKDB, schema)]
        gate = run_gate(checks, connection, schema)
        publication = Publication.now(RUN_ID, "checkpoint", gate.score())
        publish(connection, FINANCE, publication)
        spool = (home / "spool").as_uri()
        with openlineage(spool, domain_id=catalog.domain_id, catalog_endpoint=catalog.url):
            summaries = {
                "build": emit_build(context(), report, connection, health={"source_arn": SOURCE_ARN}),
                "gate": emit_gate(context("check_quality"), gate, connection, FINANCE),
                "publication": emit_publication(context("publish_products"), FINANCE, publication, connection, gate),
            }
        # what the catalog's time budget left out
        Reconciler(Spool(open_store(spool)), LineageCatalog(catalog.client(), catalog.domain_id), NAMING, AT_ONCE).run()
        compiled = Compiled.read(home / "target")
        yield Told(connection, report, gate, publication, summaries, spool, catalog, compiled)


@dataclass
class Walk:
    """Walks back from columns through the catalog's API.

    Attributes:
        facet: the column lineage that the catalog tells of a dataset.
        ends: where it ended: a dataset of which no column lineage is told.
        dead: columns that come from no column although the catalog tells of their dataset's.
    """

    facet: Callable[[str], dict[str, Any] | None]
    ends: set[tuple[str, str]] = field(default_factory=set)
    dead: set[tuple[str, str]] = field(default_factory=set)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def back(self, identifier: str, column: str) -> Walk:
        if (identifier, column) in self.seen:
            return self
        self.seen.add((identifier, column))
        facet = self.facet(identifier)
        if facet is None:
            self.ends.add((identifier, column))
            return self
        inputs = facet["fields"][column]["inputFields"]
        if not inputs:
            self.dead.add((identifier, column))
        for one in inputs:
            self.back(one["sourceIdentifier"], one["field"])
        return self


type Facets = Callable[[str], dict[str, Any] | None]


@pytest.fixture(scope="module")
def facet(told: Told) -> Facets:
    client = told.catalog.client()

    @cache
    def ask(identifier: str) -> dict[str, Any] | None:
        node = client.get_lineage_node(domainIdentifier=told.catalog.domain_id, identifier=identifier)
        forms = {form["formName"]: json.loads(form["content"]) for form in node["formsOutput"]}
        return forms.get("columnLineage")

    return ask


def published_columns(told: Told) -> dict[str, list[str]]:
    """What readers see, as the published file has it."""
    with duckdb.connect(str(published_file(told.connection, FINANCE)), read_only=True) as published:
        return {
            relation: [name for name, *_ in published.execute(f"describe finance.{relation}").fetchall()]
            for relation in FINANCE.relations
        }


def test_every_published_column_traces_to_a_column_of_the_source(told: Told, facet: Facets) -> None:
    columns = published_columns(told)
    assert len(columns) == 7
    total = sum(map(len, columns.values()))
    assert total > 60

    traced = {}
    for relation, names in columns.items():
        for name in names:
            traced[relation, name] = Walk(facet).back(told.identifier(relation), name).ends
    source = {(f"{AURORA}/{DATABASE}.{table.name}", c) for table in TABLES.values() for c in table.column_names}
    assert [column for column, ends in traced.items() if not ends] == []
    assert set().union(*traced.values()) <= source
    assert len(traced) == total  # 100 %


def test_the_walk_ends_where_a_person_would_end_it(told: Told, facet: Facets) -> None:
    def ends(relation: str, column: str) -> set[str]:
        found = Walk(facet).back(told.identifier(relation), column).ends
        return {f"{identifier.rpartition('.')[2]}.{name}" for identifier, name in found}

    assert ends("rpt_finance_seller_success", "username") == {"users.username"}
    assert ends("rpt_finance_best_selling_venues", "venuecity") == {"venue.venuecity"}
    assert "sales.pricepaid" in ends("rpt_finance_qtr_total_sales_by_event", "commission_pcnt")
    assert ends("rpt_finance_qtr_top_event_by_sales", "sales_made") >= {"event.eventname", "sales.saletime"}
    assert "users.email" not in {
        end for r, names in published_columns(told).items() for n in names for end in ends(r, n)
    }


def test_only_what_the_replication_adds_comes_from_nowhere(told: Told, facet: Facets) -> None:
    whole = Walk(facet)
    for relation, names in published_columns(told).items():
        for name in names:
            whole.back(told.identifier(relation), name)
    replica = f"{ARN}:table/zero-etl-destination/aurora_zeroetl_integration/{DATABASE}"
    added = {
        "_record_is_active": ["listing", "sales"],
        "_record_create_time": ["sales"],
        "_record_delete_time": ["sales"],
    }
    assert whole.dead == {(f"{replica}/{table}", name) for name, tables in added.items() for table in tables}
    facet = whole.facet(f"{replica}/sales")
    assert facet
    assert (
        facet["fields"]["_record_is_active"]["transformationDescription"] == "added by the replication in history mode"
    )


def test_every_model_is_one_event_and_nothing_was_lost_or_refused(told: Told) -> None:
    graph = load_graph()
    events = [json.loads(event["body"]) for event in told.catalog.events]
    assert {event["status"] for event in told.catalog.events} == {"SUCCESS"}
    assert len(events) == sum(summary.events for summary in told.summaries.values())
    assert {summary.reason for summary in told.summaries.values()} == {""}

    jobs = [event["job"]["name"] for event in events]
    prefix = "build_finance_products"
    assert sorted(jobs) == sorted(
        [
            *(f"{prefix}.build_models.{model.name}" for model in graph.models.values()),
            f"{prefix}.build_models.data_tests",
            *(f"zero_etl.aurora_zeroetl_integration.{table}" for table in TABLES),
            *(f"{prefix}.check_quality.{relation}" for relation in FINANCE.relations),
            *(f"{prefix}.publish_products.{relation}" for relation in FINANCE.relations),
        ]
    )
    names = {
        dataset["namespace"] for event in events for side in ("inputs", "outputs") for dataset in event.get(side, ())
    }
    assert names == {f"{ARN}:table", f"{ARN}:view", AURORA}


def test_a_models_event_says_what_it_holds_and_how_it_was_checked(told: Told) -> None:
    events = {json.loads(event["body"])["job"]["name"]: json.loads(event["body"]) for event in told.catalog.events}
    relation = "rpt_finance_qtr_total_sales_by_event"
    model = load_graph().model_named(relation)
    assert model
    built = events[f"build_finance_products.build_models.{relation}"]
    [output] = built["outputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == told.report.rows[model.unique_id] > 0
    assert [(f["name"], f["type"]) for f in output["facets"]["schema"]["fields"]] == [
        (column.name, column.data_type) for column in model.columns
    ]
    assert all(f["description"] for f in output["facets"]["schema"]["fields"])
    node = told.report.state.nodes[model.unique_id]
    assert built["eventTime"].removesuffix("+00:00") == node.finished_at.removesuffix("Z")
    assert built["run"]["facets"]["processing_engine"]["name"] == "dbt"
    assert built["run"]["facets"]["processing_engine"]["version"].startswith("1.11.")

    tested = events["build_finance_products.build_models.data_tests"]
    assertions = {
        dataset["name"].rpartition("/")[2]: dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
        for dataset in tested["inputs"]
    }
    results = [n for n in told.report.state.nodes.values() if n.resource_type == "test"]
    assert sum(map(len, assertions.values())) == len(results) > 50
    failed = {a["name"] for found in assertions.values() for a in found if not a["success"]}
    assert failed == {node.name for node in results if node.status == "warn"} != set()

    assert told.gate.verdict in (Verdict.PASSED, Verdict.WARNED)
    [published] = events[f"build_finance_products.publish_products.{relation}"]["outputs"]
    [checked] = events[f"build_finance_products.check_quality.{relation}"]["inputs"]
    assert (
        published["facets"]["dataQualityAssertions"]["assertions"]
        == checked["inputFacets"]["dataQualityAssertions"]["assertions"]
    )
    assert published["facets"]["version"]["datasetVersion"] == told.publication.version


def test_an_emission_that_is_repeated_after_a_kill_adds_nothing(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """The retry tells the nodes of the try before: the same events under the same tokens with the same content."""
    posted, spooled = dict(told.catalog.posted), files(told.spool)
    again = told.spool + "-again"
    with openlineage(again):
        emit_build(context(attempt=2), told.report, told.connection, health={"source_arn": SOURCE_ARN})
        emit_publication(context("publish_products"), FINANCE, told.publication, told.connection, told.gate)
    repeated = files(again)
    assert len(repeated) == told.summaries["build"].events + told.summaries["publication"].events
    assert repeated.items() <= spooled.items()
    assert {name.rpartition("/")[2].removesuffix(".json") for name in repeated} <= set(posted)
    assert caplog.messages == [] or not any("Conflict" in message for message in caplog.messages)


def files(spool: str) -> dict[str, bytes]:
    store = open_store(spool)
    found = {}
    for day in store.folders("events"):
        for hour in store.folders(f"events/{day}"):
            for name in store.names(f"events/{day}/{hour}"):
                found[f"{day}/{hour}/{name}"] = store.get(f"events/{day}/{hour}/{name}") or b""
    return found


# -- the committed column lineage ----------------------------------------------------------------------------------


def test_committed_column_lineage_is_fresh() -> None:
    fresh = render(project_lineage(compile_project(load_settings().dbt_executable)))
    assert fresh == DBT_COLUMN_LINEAGE.read_text(encoding="utf-8"), "stale: run `make manifest` and commit"


def test_what_duckdb_runs_has_the_lineage_of_what_redshift_runs(told: Told) -> None:
    home = told.connection.path.parent
    offline = Warehouse(home, {"DBT_TARGET": "local", "DBT_SOURCE_DUCKDB_PATH": str(home / "nothing.duckdb")})

    def compiled(name: str, value: bool) -> Compiled:
        return Compiled.read(offline.dbt("compile", *OFFLINE, variables={name: value}, target=name).target)

    local = Compilations(told.compiled, compiled("compile_incremental_branch", True), compiled("history_mode", False))
    assert local.full.dialect == "duckdb"
    assert render(project_lineage(local)) == DBT_COLUMN_LINEAGE.read_text(encoding="utf-8")


def test_an_increment_is_another_query_with_the_same_columns_inputs(told: Told) -> None:
    lineage = load_column_lineage()
    for name in ("int_sales_latest", "int_listings_latest"):
        model = lineage.of(f"model.data_platform.{name}", history_mode=True)
        refs = {ref for origin in model.columns.values() for ref in origin.inputs} | set(model.rows)
        assert {ref.node.rpartition(".")[2] for ref in refs} == {
            name.replace("int", "stg_tickit_").replace("_latest", "")
        }
        assert any(Kind.JOIN in kinds for kinds in model.rows.values()), "only an increment joins, with what is built"


class Perturbed:
    """A model's SQL on inputs of which one column is made null, or the same in all rows: which columns of the result change?"""

    def __init__(self, told: Told, unique_id: str) -> None:
        self.sql = told.compiled.manifest["nodes"][unique_id]["compiled_code"]
        self.names = {node: ".".join(f'"{part}"' for part in name) for name, node in told.compiled.relations.items()}
        self.columns = list(load_column_lineage().of(unique_id, history_mode=True).columns)
        self.connection = duckdb.connect()
        self.connection.execute(f"attach '{told.connection.path}' as work (read_only)")
        [snapshot] = told.connection.attach.values()
        self.connection.execute(f"attach '{snapshot}' as aurora_zeroetl_integration (read_only)")
        self.whole = self.digest(self.sql)

    def digest(self, sql: str) -> list[Any]:
        """Of each column, what is the same for the same values in whichever order."""
        told = ", ".join(f"[bit_xor(hash({c})), sum(hash({c}) % 1000003), count({c})]" for c in self.columns)
        row = self.connection.execute(f"select {told} from ({sql})").fetchone()
        assert row
        return list(row)

    def changed(self, ref: ColumnRef, value: str) -> set[str]:
        relation = self.names[ref.node]
        other = f"(select * replace ({value.format(ref.column)} as {ref.column}) from {relation})"
        assert relation in self.sql
        found = self.digest(self.sql.replace(relation, other))
        return {c for c, before, after in zip(self.columns, self.whole, found, strict=True) if before != after}


NULL, SAME, LATER = "nullif({0}, {0})", "max({0}) over ()", "timestamp '2030-01-01'"
WITHOUT_EFFECT = {("int_events_described", name, "starttime") for name in ("event_date", "season_year")}
"""An event's own time is its date only where the calendar lacks the day, and in these tables it has all."""


@pytest.mark.parametrize("unique_id", load_graph().models)
def test_a_column_changes_with_what_it_is_said_to_come_from_and_with_nothing_else(told: Told, unique_id: str) -> None:
    lineage, query = load_column_lineage(), Perturbed(told, unique_id)
    graph, model = load_graph(), lineage.of(unique_id, history_mode=True)
    effects: dict[ColumnRef, set[str]] = {}
    for parent in graph.models[unique_id].depends_on:
        node = graph.node(parent)
        assert node
        for column in node.columns:
            ref = ColumnRef(parent, column.name)
            values = [NULL, SAME, *([LATER] if column.data_type == "timestamp" else [])]
            effects[ref] = set().union(*(query.changed(ref, value) for value in values))
    assert effects
    for name, origin in model.columns.items():
        unsaid = {r for r, changed in effects.items() if name in changed} - origin.inputs.keys() - model.rows.keys()
        assert not unsaid, name
        gives = {ref for ref, kinds in origin.inputs.items() if any(kind.direct for kind in kinds)}
        idle = {ref for ref in gives if name not in effects[ref]}
        assert {(query_name(unique_id), name, ref.column) for ref in idle} <= WITHOUT_EFFECT, name


def query_name(unique_id: str) -> str:
    return unique_id.rpartition(".")[2]
