"""Time the import of DAG files in this fresh process, beyond Airflow's own import. Prints JSON: seconds per file, in the order given."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import airflow.dag_processing.dagbag
import airflow.sdk
from airflow.sdk import DAG, Asset, task  # the SDK loads its names lazily; a DAG file always needs these

import include.platform.paths

del airflow, DAG, Asset, task
if sys.argv[1] != "-":
    include.platform.paths.DBT_MANIFEST = Path(sys.argv[1])
taken = []
for number, name in enumerate(sys.argv[2:]):
    spec = importlib.util.spec_from_file_location(f"parsed_{number}", name)
    module = importlib.util.module_from_spec(spec)
    began = time.perf_counter()
    spec.loader.exec_module(module)
    taken.append(time.perf_counter() - began)
print(json.dumps(taken))
