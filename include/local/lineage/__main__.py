"""``python -m include.local.lineage`` writes the committed column lineage anew."""

from __future__ import annotations

import sys

from include.catalog.column_lineage import ColumnLineageError, render
from include.local.lineage.project import compile_project, project_lineage
from include.platform.paths import DBT_COLUMN_LINEAGE
from include.platform.settings import load_settings


def main() -> int:
    """Write the committed column lineage anew from the dbt project."""
    try:
        text = render(project_lineage(compile_project(load_settings().dbt_executable)))
    except (ColumnLineageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    partial = DBT_COLUMN_LINEAGE.with_name(DBT_COLUMN_LINEAGE.name + ".new")
    partial.write_text(text, encoding="utf-8")
    partial.replace(DBT_COLUMN_LINEAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
