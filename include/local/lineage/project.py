"""The column lineage of the dbt project: every model compiled by dbt as it runs in production, no warehouse opened, every query resolved.

An incremental model has two queries, for the first build and for an increment, and comes from what either reads; what an increment reads
of the model itself is left out. Without the source's history mode some models have another query; those that then differ are kept apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.catalog.column_lineage import (
    ColumnLineageError,
    ColumnOrigins,
    ColumnRef,
    ModelLineage,
    ProjectLineage,
)
from include.local.lineage.query import query_lineage
from include.platform.paths import DBT_PROJECT_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.catalog.column_lineage import Kind, Origins
    from include.local.lineage.query import Relation

_OFFLINE = {"DBT_REDSHIFT_HOST": "offline.invalid"}
_IN_ONE_PROCESS = """
import json, sys
from dbt.cli.main import dbtRunner
sys.exit(not all(dbtRunner().invoke(arguments).success for arguments in json.loads(sys.argv[1])))
"""
"""dbt's start takes as long as a compilation."""


@dataclass(frozen=True)
class Compiled:
    """What dbt compiled.

    Attributes:
        manifest: dbt's, with each model's SQL.
        dialect: of the SQL.
    """

    manifest: Mapping[str, Any]
    dialect: str

    @classmethod
    def read(cls, target_dir: Path) -> Compiled:
        """Read dbt's artifacts."""
        manifest = json.loads((target_dir / "manifest.json").read_text(encoding="utf-8"))
        return cls(manifest, manifest["metadata"]["adapter_type"])

    @property
    def relations(self) -> dict[Relation, str]:
        """The dbt node of each relation."""
        found = {}
        for unique_id, node in {**self.manifest["nodes"], **self.manifest["sources"]}.items():
            if node["resource_type"] in {"model", "seed", "snapshot", "source"}:
                name = node.get("identifier") or node["alias"]
                found[node["database"].lower(), node["schema"].lower(), name.lower()] = unique_id
        return found


@dataclass(frozen=True)
class Compilations:
    """All that dbt makes of the models' SQL.

    Attributes:
        full: every model as a first build has it.
        increment: the incremental ones as an increment has them.
        without_history: every model without the source's history mode.
    """

    full: Compiled
    increment: Compiled
    without_history: Compiled


def project_lineage(compilations: Compilations) -> ProjectLineage:
    """Tell the lineage of all models.

    Raises:
        ColumnLineageError: a model's SQL can't be read; the message names the model.
    """
    models = _lineages(compilations.full, compilations.increment)
    plain = _lineages(compilations.without_history)
    return ProjectLineage(models, {name: lineage for name, lineage in plain.items() if lineage != models.get(name)})


def _lineages(compiled: Compiled, increment: Compiled | None = None) -> dict[str, ModelLineage]:
    relations = compiled.relations
    sources = compiled.manifest["sources"]
    columns: dict[str, Sequence[str]] = {name: list(source["columns"]) for name, source in sources.items()}
    lineages = {}
    for unique_id in _parents_first(compiled.manifest):
        lineage = _lineage(compiled, unique_id, relations, columns)
        columns[unique_id] = list(lineage.columns)
        if increment and compiled.manifest["nodes"][unique_id]["config"]["materialized"] == "incremental":
            lineage = _either(lineage, _lineage(increment, unique_id, relations, columns), unique_id)
        lineages[unique_id] = lineage
    return lineages


def _lineage(
    compiled: Compiled, unique_id: str, relations: Mapping[Relation, str], columns: Mapping[str, Sequence[str]]
) -> ModelLineage:
    sql = compiled.manifest["nodes"][unique_id].get("compiled_code")
    if not sql:
        raise ColumnLineageError(f"{unique_id}: expected dbt's compiled SQL, found none; is it a Python model?")
    known = {relation: columns[node] for relation, node in relations.items() if node in columns}
    try:
        return query_lineage(sql, compiled.dialect, known, relations.__getitem__)
    except ColumnLineageError as error:
        raise ColumnLineageError(f"{unique_id}: {error}") from error


def _parents_first(manifest: Mapping[str, Any]) -> list[str]:
    parents = {
        unique_id: [parent for parent in node["depends_on"]["nodes"] if parent.startswith("model.")]
        for unique_id, node in sorted(manifest["nodes"].items())
        if node["resource_type"] == "model"
    }
    ordered: dict[str, None] = {}
    while len(ordered) < len(parents):
        ordered |= dict.fromkeys(name for name, needs in parents.items() if ordered.keys() >= set(needs))
    return list(ordered)


def _either(full: ModelLineage, increment: ModelLineage, itself: str) -> ModelLineage:
    """The inputs of both queries, without the model itself."""
    if list(full.columns) != list(increment.columns):
        raise ColumnLineageError(
            f"{itself}: expected an increment with the columns {list(full.columns)}, found {list(increment.columns)}"
        )
    columns = {
        name: ColumnOrigins(inputs, origin.reason if not inputs else "")
        for name, origin in full.columns.items()
        for inputs in [_merged(origin.inputs, increment.columns[name].inputs, itself)]
    }
    return replace(full, columns=columns, rows=_merged(full.rows, increment.rows, itself))


def _merged(first: Origins, second: Origins, itself: str) -> Origins:
    merged: dict[ColumnRef, frozenset[Kind]] = dict(first)
    for ref, kinds in second.items():
        if ref.node != itself:
            merged[ref] = merged.get(ref, frozenset()) | kinds
    return merged


def compile_project(dbt: Path, project_dir: Path = DBT_PROJECT_DIR) -> Compilations:
    """Compile the project for Redshift three times. Opens no warehouse; writes only to a temporary directory.

    Raises:
        ColumnLineageError: dbt refuses the project; the message carries dbt's.
    """
    if not dbt.exists():
        raise ColumnLineageError(
            f"expected dbt at {dbt}, found nothing; build the warehouse environment or set the option data_platform.warehouse_venv"
        )
    variants: tuple[dict[str, bool], ...] = ({}, {"compile_incremental_branch": True}, {"history_mode": False})
    with tempfile.TemporaryDirectory(prefix="dbt-compile-") as scratch:
        folders = [Path(scratch) / str(position) for position in range(len(variants))]
        commands = [_arguments(project_dir, *each) for each in zip(variants, folders, strict=True)]
        run = subprocess.run(
            [str(dbt.with_name("python")), "-c", _IN_ONE_PROCESS, json.dumps(commands)],
            env={name: value for name, value in os.environ.items() if not name.startswith("DBT_")} | _OFFLINE,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            raise ColumnLineageError(f"dbt compile refused {project_dir}:\n{run.stdout}{run.stderr}")
        return Compilations(*map(Compiled.read, folders))


def _arguments(project_dir: Path, variables: Mapping[str, bool], folder: Path) -> list[str]:
    options = ["--no-introspect", "--no-populate-cache", "--target", "redshift", "--vars", json.dumps(dict(variables))]
    places = ["--project-dir", str(project_dir), "--profiles-dir", str(project_dir)]
    places += ["--target-path", str(folder), "--log-path", str(folder)]
    return ["--no-use-colors", "compile", *options, *places]
