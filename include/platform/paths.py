"""Where the project's own files are, whichever way it was deployed.

On a laptop and on Astro the library is ``<root>/include``; on MWAA, which mounts only the ``dags`` folder, it rides under ``dags``.
Everything the library needs lies beside it, so the root is found from this file's own place.
"""

from __future__ import annotations

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_project"
DBT_MANIFEST = DBT_PROJECT_DIR / "manifest.json"
"""The committed, slimmed dbt manifest that DAGs read at parse time (written by ``make manifest``)."""
DBT_COLUMN_LINEAGE = DBT_PROJECT_DIR / "column_lineage.json"
"""The committed column lineage of the dbt models (written by ``make manifest``, too)."""
DATA_PRODUCTS_DIR = PROJECT_ROOT / "include" / "data_products"
"""``<area>/<product>/contract.odcs.yaml``."""
