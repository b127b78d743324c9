"""The Redshift target without Redshift: compiled offline, parsed as Redshift SQL, and its transpiled form run against the local result."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from include.platform.settings import load_settings
from include.warehouse.manifest import load_models
from tests.dbt.harness import DBT_PROJECT_DIR, FACTS, Built, Increments, Run, compile_offline

pytestmark = pytest.mark.warehouse

MODELS = {model.name: model for model in load_models()}


@pytest.fixture(scope="session")
def compiled(built: Built) -> Run:
    return compile_offline(built.warehouse, "redshift", increment=False)


def parse(sql: str) -> exp.Expression:
    statements = sqlglot.parse(sql, read="redshift", error_level=sqlglot.ErrorLevel.RAISE)
    assert len(statements) == 1
    assert isinstance(statements[0], exp.Query)
    return statements[0]


def as_duckdb(sql: str) -> str:
    """The same query for DuckDB, with the build database under its local name."""

    def local(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Table) and node.catalog == "dev":
            node.set("catalog", exp.to_identifier("work"))
        return node

    return parse(sql).transform(local).sql(dialect="duckdb")


def shape(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, str]]:
    return [(name, kind) for name, kind, *_ in connection.execute(f"describe {sql}").fetchall()]


@pytest.mark.parametrize("name", MODELS)
def test_redshift_sql_gives_the_local_result_row_for_row_scales_included(
    name: str, built: Built, compiled: Run
) -> None:
    relation = f"work.build_{MODELS[name].schema_suffix}.{name}"
    with built.warehouse.connect() as connection:
        query = as_duckdb(compiled.sql(name))
        assert shape(connection, query) == shape(connection, f"select * from {relation}")
        expected = connection.execute(f"select * from {relation} order by all").fetchall()
        assert expected
        assert connection.execute(f"select * from ({query}) order by all").fetchall() == expected


@pytest.fixture(scope="module")
def compiled_increment(built: Built) -> Run:
    return compile_offline(built.warehouse, "redshift", increment=True)


@pytest.mark.parametrize("name", FACTS)
def test_redshift_increment_gives_the_local_increment(
    name: str, built: Built, increments: Increments, compiled_increment: Run, tmp_path: Path
) -> None:
    """On a state in which a third of the keys is missing, a third is older and a third is as the source has it."""
    key, stored = FACTS[name][1], f"work.build_intermediate.{name}"
    with built.warehouse.connect() as connection:
        changed = f"changed_at - interval ({key} % 3) minute as changed_at"
        connection.execute(f"attach '{tmp_path / 'state.duckdb'}' as state; create schema state.build_intermediate")
        connection.execute(
            f"create table state.build_intermediate.{name} as "
            f"select * replace ({changed}) from {stored} where {key} % 3 > 0"
        )
        found = []
        for query in (increments.increment[name], as_duckdb(compiled_increment.sql(name))):
            ours = re.sub(rf'"?work"?\."?build_intermediate"?\."?{name}"?', f"state.build_intermediate.{name}", query)
            assert ours != query
            found.append(connection.execute(f"select * from ({ours}) order by all").fetchall())
        total = connection.execute(f"select count(*) from {stored}").fetchone()
    assert total == (len(found[0]),)
    assert found[1] == found[0]


def test_every_data_test_is_redshift_sql_and_finds_what_the_local_one_finds(built: Built, compiled: Run) -> None:
    local = built.run.results()
    tests = [path for path in (compiled.target / "compiled").rglob("*.sql") if path.parent.suffix == ".yml"]
    assert len(tests) >= 50
    with built.warehouse.connect() as connection:
        for path in tests:
            found = connection.execute(as_duckdb(path.read_text(encoding="utf-8"))).fetchall()
            assert bool(found) == (local[path.stem][0] == "warn"), path.stem


def test_only_redshift_has_keys_and_late_binding_views(built: Built, compiled: Run) -> None:
    ours, theirs = (run.artifact("manifest.json")["nodes"] for run in (built.run, compiled))
    for model in MODELS.values():
        here, there = ours[model.unique_id]["config"], theirs[model.unique_id]["config"]
        assert "dist" not in here
        assert "sort" not in here
        if model.materialized == "view":
            assert there["bind"] is False, f"{model.name}: a view on another database must be late-binding"
            assert "dist" not in there
        else:
            columns = {column.name for column in model.columns}
            assert there["dist"] in {"all", "even", *columns}, model.name
            assert set(there["sort"]) <= columns, model.name


PROFILES = {
    "user and password": (
        {"METHOD": "database", "USER": "etl", "REGION": "us-east-1"},
        {"method": "database", "user": "etl", "password": "hush", "region": "us-east-1", "is_serverless": False},
    ),
    "provisioned, IAM": (
        {"METHOD": "iam", "USER": "etl", "CLUSTER_ID": "analytics"},
        {
            "method": "iam",
            "user": "etl",
            "cluster_id": "analytics",
            "is_serverless": False,
            "serverless_work_group": None,
        },
    ),
    "serverless, IAM role": (
        {"WORKGROUP": "wg"},
        {
            "method": "iam_role",
            "cluster_id": None,
            "is_serverless": True,
            "serverless_work_group": "wg",
            "region": None,
        },
    ),
}
_LOAD_PROFILES = """
import json, sys
from argparse import Namespace
from dbt.config.runtime import load_profile
from dbt.flags import set_from_args
from dbt_common.context import set_invocation_context
project = sys.argv[1]
set_from_args(Namespace(PROFILES_DIR=project, PROJECT_DIR=project), None)
found = {}
for kind, (environment, expected) in json.loads(sys.argv[2]).items():
    set_invocation_context({"DBT_TARGET": "redshift", "DBT_REDSHIFT_HOST": "example.invalid", **environment})
    credentials = load_profile(project, {}).credentials
    found[kind] = {name: getattr(credentials, name) for name in expected}
print(json.dumps(found))
"""


def test_profile_signs_in_by_user_or_iam_to_serverless_or_provisioned() -> None:
    secret = {"DBT_ENV_SECRET_REDSHIFT_PASSWORD": "hush"}
    given = {
        kind: ({f"DBT_REDSHIFT_{name}": value for name, value in environment.items()} | secret, expected)
        for kind, (environment, expected) in PROFILES.items()
    }
    python = load_settings().dbt_executable.with_name("python")
    command = [str(python), "-c", _LOAD_PROFILES, str(DBT_PROJECT_DIR), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {kind: expected for kind, (_, expected) in PROFILES.items()}
