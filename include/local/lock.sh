#!/usr/bin/env bash
# Compile the lock files. MWAA_CONSTRAINTS is a file or URL; the default is what MWAA's own image is built with.
#   make lock [MWAA_CONSTRAINTS=path/to/constraints.txt]
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=.local/bootstrap/bin/uv
constraints=${MWAA_CONSTRAINTS:-https://raw.githubusercontent.com/apache/airflow/constraints-3.3.1/constraints-3.12.txt}
compile() { "$uv" pip compile --quiet --python-version 3.12 --generate-hashes --no-header --no-annotate --no-emit-index-url "$@"; }
compile -c "$constraints" requirements.txt -o locks/airflow.txt
compile -c "$constraints" requirements-dev.txt -o locks/dev.txt
compile --override locks/overrides.txt requirements-warehouse.txt -o locks/warehouse.txt
compile requirements-spark.txt -o locks/spark.txt
compile requirements-java.txt -o locks/java.txt
compile locks/build.in -o locks/build.txt
compile locks/uv.in -o locks/uv.txt
