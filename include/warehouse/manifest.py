"""The committed dbt manifest: what DAGs know of the dbt graph at parse time.

dbt's own ``manifest.json`` is large and differs with every run and machine. `slim` keeps of it what Cosmos (``LoadMode.DBT_MANIFEST``)
and this library read, in a fixed order, so that it can be committed and compared. ``make manifest`` writes
it anew; a test holds that the committed one is fresh.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.platform.paths import DBT_MANIFEST, DBT_PROJECT_DIR
from include.platform.settings import load_settings

PUBLISHED = "published"
"""The tag of the models that consumers read."""

_NODE_KEYS = (
    "alias",
    "attached_node",
    "column_name",
    "description",
    "fqn",
    "name",
    "original_file_path",
    "package_name",
    "resource_type",
    "schema",
    "tags",
    "unique_id",
)
_EXTRA_KEYS = {
    "exposure": ("label", "maturity", "owner", "type", "url"),
    "source": ("database", "freshness", "identifier", "loaded_at_field", "source_name"),
    "unit_test": ("model",),
}
_CONFIG_KEYS = ("contract", "enabled", "materialized", "meta", "schema", "severity", "tags")
_COLUMN_KEYS = ("data_type", "description", "name")


class ManifestError(RuntimeError):
    """The dbt manifest can't be read or written."""


@dataclass(frozen=True)
class Column:
    """A documented column of a model."""

    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class Model:
    """A dbt model as DAGs see it.

    Attributes:
        unique_id: dbt's id, ``model.<project>.<name>``.
        name: the relation's name.
        layer: ``staging``, ``intermediate`` or the mart's area; its schema is ``<build schema>_<layer>``, of a
            published model ``<build schema>_<layer>_audit``.
        materialized: ``view``, ``table`` or ``incremental``.
        tags: in alphabetical order.
        description: first of the model's documentation.
        columns: in the order of the documentation.
        depends_on: unique ids of its direct parents (models and sources), in alphabetical order.
    """

    unique_id: str
    name: str
    layer: str
    materialized: str
    tags: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]
    depends_on: tuple[str, ...]

    @property
    def published(self) -> bool:
        """Whether the model's relation is part of a data product."""
        return PUBLISHED in self.tags

    @property
    def schema_suffix(self) -> str:
        """What follows ``<build schema>_`` in the name of the schema that the model is built in."""
        return f"{self.layer}_audit" if self.published else self.layer


def load_models(path: Path = DBT_MANIFEST) -> tuple[Model, ...]:
    """Read the models of a (slimmed or full) manifest, ordered by unique id.

    Raises:
        ManifestError: the file is missing, is no JSON or no dbt manifest.
    """
    try:
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        return tuple(_model(node) for _, node in sorted(nodes.items()) if node["resource_type"] == "model")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"expected a dbt manifest at {path}, found {type(error).__name__}: {error}; write it with `make manifest`"
        ) from error


def _model(node: dict[str, Any]) -> Model:
    columns = node["columns"].values()
    return Model(
        unique_id=node["unique_id"],
        name=node["name"],
        layer=node["config"].get("schema") or "",
        materialized=node["config"]["materialized"],
        tags=tuple(sorted(node["tags"])),
        description=node["description"],
        columns=tuple(Column(c["name"], c.get("data_type") or "", c["description"]) for c in columns),
        depends_on=tuple(sorted(node["depends_on"]["nodes"])),
    )


def slim(manifest: dict[str, Any]) -> dict[str, Any]:
    """Keep of dbt's manifest what does not depend on when and where it was made.

    Args:
        manifest: dbt's ``manifest.json``, parsed.

    Returns:
        A manifest with the same shape and far fewer keys: no times, invocation ids, absolute paths, checksums or SQL.
    """
    graph = {
        section: {key: _slim_node(node) for key, node in sorted(manifest[section].items())}
        for section in ("nodes", "sources", "exposures", "unit_tests")
    }
    return {
        "metadata": {key: manifest["metadata"][key] for key in ("adapter_type", "dbt_schema_version", "project_name")},
        **graph,
        "selectors": manifest["selectors"],
        "parent_map": {key: sorted(value) for key, value in sorted(manifest["parent_map"].items())},
        "child_map": {key: sorted(value) for key, value in sorted(manifest["child_map"].items())},
    }


def _slim_node(node: dict[str, Any]) -> dict[str, Any]:
    kept = {key: node[key] for key in (*_NODE_KEYS, *_EXTRA_KEYS.get(node["resource_type"], ())) if node.get(key)}
    kept["tags"] = sorted(node.get("tags") or [])
    kept["description"] = (node.get("description") or "").strip()
    if node.get("test_metadata"):
        kept["test_metadata"] = {"name": node["test_metadata"]["name"]}
    kept["config"] = {key: node["config"][key] for key in _CONFIG_KEYS if node["config"].get(key) is not None}
    kept["depends_on"] = {"nodes": sorted(set(node.get("depends_on", {}).get("nodes", ())))}
    if "columns" in node:
        kept["columns"] = {
            name: {key: column[key] for key in _COLUMN_KEYS if column.get(key) is not None}
            for name, column in node["columns"].items()
        }
    return kept


def render(manifest: dict[str, Any]) -> str:
    """The text of a slimmed manifest: one key per line, so that a change of the graph reads as a small difference."""
    return json.dumps(manifest, indent=1, sort_keys=False, ensure_ascii=False) + "\n"


def parse_project(dbt: Path, project_dir: Path = DBT_PROJECT_DIR) -> dict[str, Any]:
    """Run ``dbt parse`` and return its manifest. Opens no warehouse; writes only to a temporary directory.

    Raises:
        ManifestError: dbt is missing or refuses the project; the message carries dbt's.
    """
    if not dbt.exists():
        raise ManifestError(
            f"expected dbt at {dbt}, found nothing; build the warehouse environment or set the option data_platform.warehouse_venv"
        )
    with tempfile.TemporaryDirectory(prefix="dbt-parse-") as scratch:
        # The project's defaults, whatever the caller's shell exports.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DBT_")}
        command = [str(dbt), "--no-use-colors", "parse", "--no-partial-parse", "--target", "local"]
        places = ["--project-dir", str(project_dir), "--profiles-dir", str(project_dir)]
        places += ["--target-path", scratch, "--log-path", scratch]
        run = subprocess.run([*command, *places], env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own dbt
        if run.returncode != 0:
            raise ManifestError(f"dbt parse refused {project_dir}:\n{run.stdout}{run.stderr}")
        manifest: dict[str, Any] = json.loads((Path(scratch) / "manifest.json").read_text(encoding="utf-8"))
        return manifest


def write(manifest: dict[str, Any], path: Path = DBT_MANIFEST) -> None:
    """Slim a manifest and write it by atomic rename."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(render(slim(manifest)), encoding="utf-8")
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Write the committed manifest anew from the dbt project."""
    parser = argparse.ArgumentParser(prog="python -m include.warehouse.manifest", description=main.__doc__)
    parser.add_argument(
        "--dbt", type=Path, default=load_settings().dbt_executable, help="the dbt command (%(default)s)"
    )
    parser.add_argument("--project-dir", type=Path, default=DBT_PROJECT_DIR)
    parser.add_argument("--output", type=Path, help="where to write (default: manifest.json in the project)")
    options = parser.parse_args(arguments)
    output = options.output or options.project_dir / DBT_MANIFEST.name
    try:
        write(parse_project(options.dbt, options.project_dir), output)
    except ManifestError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
