"""A plain dbt project of any size, for benches that measure orchestration rather than SQL.

Layered as a real one (staging, intermediate, marts), every model with one data test, tiny data, no source, the same profile and schema
names as ``dbt_project``; the same arguments write the same files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from include.platform.paths import DBT_PROJECT_DIR
from include.platform.settings import load_settings
from include.warehouse import manifest

MODELS = 185
ROWS = 10
"""Rows of each staging model, and so of every model."""
STAGING_SHARE, MARTS_SHARE = 0.3, 0.25


@dataclass(frozen=True)
class Layer:
    """One layer: its folder and schema, and what its models are built as."""

    folder: str
    prefix: str
    schema: str
    materialized: str
    tags: str


LAYERS = (
    Layer("staging", "stg_synthetic__", "staging", "view", "[staging]"),
    Layer("intermediate", "int_synthetic_", "intermediate", "table", "[intermediate]"),
    Layer("marts/finance", "rpt_synthetic_", "finance", "table", "[finance, published]"),
)


def write_project(directory: Path, models: int = MODELS) -> Path:
    """Write a project of ``models`` models and as many data tests into ``directory``.

    Every intermediate model joins two of the layer below or of its own, every mart two intermediate ones, so that the graph is
    several models deep and wide enough for four threads.

    Args:
        directory: made if missing; files of the same names are replaced.
        models: at least 8.

    Returns:
        ``directory``.

    Raises:
        ValueError: ``models`` is too small to have three layers.
    """
    if models < 8:
        raise ValueError(f"models: expected at least 8, for three layers that join, found {models}")
    staging, marts = round(models * STAGING_SHARE), round(models * MARTS_SHARE)
    counts = dict(zip(LAYERS, (staging, models - staging - marts, marts), strict=True))
    _write(directory / "dbt_project.yml", _project())
    _write(directory / "profiles.yml", _profiles())
    _write(
        directory / "macros" / "generate_schema_name.sql",
        (DBT_PROJECT_DIR / "macros" / "generate_schema_name.sql").read_text(encoding="utf-8"),
    )
    below: list[str] = []
    for layer, count in counts.items():
        names = [f"{layer.prefix}{number:03d}" for number in range(1, count + 1)]
        for index, name in enumerate(names):
            folder = directory / "models" / layer.folder
            _write(folder / f"{name}.sql", _model(index, below))
            _write(folder / f"{name}.yml", _yaml(name, "unique" if index % 2 else "not_null"))
            if layer.folder == "intermediate":
                below.append(name)
        below = names
    return directory


def write_manifest(directory: Path, models: int = MODELS) -> Path:
    """Write the project and its slimmed manifest, as DAGs read it at parse time.

    Returns:
        The manifest's path.
    """
    path = write_project(directory, models) / "manifest.json"
    manifest.write(manifest.parse_project(load_settings().dbt_executable, directory), path)
    return path


def _model(index: int, below: list[str]) -> str:
    if not below:
        values = "\n    union all\n".join(
            f"    select {row} as id, {index * row} as amount" for row in range(1, ROWS + 1)
        )
        return f"select *\nfrom (\n{values}\n) as literal\n"
    left, right = below[index % len(below)], below[(index * 7 + 3) % len(below)]
    return (
        "select\n    a.id,\n    a.amount + b.amount as amount\n"
        f"from {{{{ ref('{left}') }}}} as a\ninner join {{{{ ref('{right}') }}}} as b on a.id = b.id\n"
    )


def _yaml(name: str, test: str) -> str:
    return f"""version: 2

models:
  - name: {name}
    description: A model of the synthetic project.
    columns:
      - name: id
        data_type: integer
        description: Primary key.
        data_tests:
          - {test}
      - name: amount
        data_type: integer
        description: A number.
"""


def _project() -> str:
    folders = ""
    for layer in LAYERS:
        indent, lines = "    ", ""
        for part in layer.folder.split("/"):
            lines += f"{indent}{part}:\n"
            indent += "  "
        settings = {"schema": layer.schema, "materialized": layer.materialized, "tags": layer.tags}
        folders += lines + "".join(f"{indent}+{key}: {value}\n" for key, value in settings.items())
    return f"""name: synthetic
version: "1.0.0"
config-version: 2
profile: warehouse
flags:
  send_anonymous_usage_stats: false
  partial_parse: true
  cache_selected_only: true
models:
  synthetic:
{folders}"""


def _profiles() -> str:
    """The real project's profiles, without the attached source."""
    profiles = (DBT_PROJECT_DIR / "profiles.yml").read_text(encoding="utf-8")
    without = re.sub(r"      attach:\n(?:        .*\n)+", "", profiles)
    if without == profiles:
        raise ValueError(
            "dbt_project/profiles.yml: expected an `attach` list of the local target, found none; adapt this generator"
        )
    return without


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
