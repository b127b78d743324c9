#!/usr/bin/env bash
# Build the three Python environments under .local/ from the committed, hash-checked lock files.
# Needs git, make and some python3; outside the project only pip's and uv's caches grow. Does nothing (well under 1 s) when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_PROGRESS=1 PYTHONDONTWRITEBYTECODE=

want=$({ cat locks/*.txt include/local/setup.sh; command -v java || true; } | git hash-object --stdin)
stamp=.local/venvs/stamp
ready() {
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && [ -x .local/venvs/airflow/bin/python ] && [ -x .local/venvs/warehouse/bin/dbt ] \
    && [ -x .local/venvs/spark/bin/spark-submit ]
}
ready && exit 0

mkdir -p .local
# Two commands started at once share the set-up: the second waits for the first.
if command -v flock >/dev/null 2>&1; then exec 9>.local/setup.lock; flock 9; ready && exit 0; fi

is_312() { "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1; }
find_312() {
  local candidate
  for candidate in "$(command -v python3.12 || true)" "$(command -v python3 || true)" \
      "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3.12; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && is_312 "$candidate"; then echo "$candidate"; return 0; fi
  done
  return 1
}
some_python() {  # any Python that can bring us uv
  local candidate
  for candidate in "$python" "$(command -v python3 || true)"; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; assert sys.version_info >= (3, 8)' 2>/dev/null; then echo "$candidate"; return 0; fi
  done
  return 1
}

python=$(find_312 || true)
uv=.local/bootstrap/bin/uv
version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' locks/uv.txt)
if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$version" ]; then
  echo "set-up: uv $version"
  bootstrap=$(some_python) || { echo "set-up: install Python 3.12 (with pip), then run the same command again." >&2; exit 1; }
  rm -rf .local/bootstrap
  # A virtual environment where the machine's Python has ensurepip, else pip's own --target; both stay under .local/.
  if "$bootstrap" -m venv .local/bootstrap >/dev/null 2>&1; then
    .local/bootstrap/bin/python -m pip install --quiet --require-hashes -r locks/uv.txt
  elif "$bootstrap" -m pip --version >/dev/null 2>&1; then
    "$bootstrap" -m pip install --quiet --require-hashes --target .local/bootstrap -r locks/uv.txt
  else
    echo "set-up: $bootstrap has neither venv nor pip; install python3-venv (or pip), then run the same command again." >&2; exit 1
  fi
fi
if [ -z "$python" ]; then
  export UV_PYTHON_INSTALL_DIR="$PWD/.local/python"
  python=$("$uv" python find 3.12 2>/dev/null || { "$uv" python install --quiet --no-bin 3.12 2>/dev/null && "$uv" python find 3.12 2>/dev/null; } || true)
  [ -n "$python" ] || { echo "set-up: no Python 3.12 on PATH, in pyenv or from uv; install Python 3.12, then run the same command again." >&2; exit 1; }
fi

spark_runs_on_java() {  # Spark 3.5 wants 8, 11 or 17
  case "$(java -version 2>&1 || true)" in *'version "1.8.'* | *'version "11'[.\"]* | *'version "17'[.\"]*) return 0 ;; esac
  return 1
}

build() {  # build NAME LOCK...: an environment that equals its locks exactly
  local name=$1
  shift
  echo "set-up: $name environment"
  [ -x ".local/venvs/$name/bin/python" ] && is_312 ".local/venvs/$name/bin/python" || "$uv" venv --quiet --clear --python "$python" ".local/venvs/$name"
  "$uv" pip sync --quiet --require-hashes --compile-bytecode --python ".local/venvs/$name/bin/python" "$@"
}
build airflow locks/dev.txt
build warehouse locks/warehouse.txt
if spark_runs_on_java; then build spark locks/spark.txt; else build spark locks/spark.txt locks/java.txt; fi
echo "$want" >"$stamp"
